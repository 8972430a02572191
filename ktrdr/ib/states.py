"""The states of the connection as one table. Does nothing itself."""

from __future__ import annotations

from enum import Enum, StrEnum, auto


class State(StrEnum):
    """The state of the connection, in the words of the status API."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    WAITING = "waiting"
    """Waiting for the next attempt: connections are refused, or closed at once."""
    DEAD = "dead"
    """The gateway accepts connections but does not respond; the backoff sets the next attempt."""
    LOGGED_OUT = "logged_out"
    """As `waiting`, since the log-in has ended (Sundays): somebody has to log in again."""
    CONNECTED = "connected"
    """The gateway has answered a request after the handshake."""
    FARM_DOWN = "farm_down"
    """Connected, and one of IB's data farms is broken (2103, 2105, 2157): some data may be late."""
    HISTORY_DOWN = "history_down"
    """The gateway answers, but no bars come: IB's history farm is broken (2105, or no notice).

    Also where the last connection ended because no data came, until they do in this one.
    """
    COMPETING_SESSION = "competing_session"
    """The gateway answers, but IB gives the data to another session of the same user."""
    UPSTREAM_LOST = "upstream_lost"
    """The gateway answers, but reports that it has lost IB's servers (1100)."""
    STOPPING = "stopping"

    @property
    def is_linked(self) -> bool:
        """Whether the handshake is done and the gateway answers."""
        return self in LINKED

    @property
    def has_data(self) -> bool:
        """Whether bars are available, as far as known."""
        return self in WITH_DATA


WITH_DATA = (State.CONNECTED, State.FARM_DOWN)
LINKED = (
    *WITH_DATA,
    State.HISTORY_DOWN,
    State.COMPETING_SESSION,
    State.UPSTREAM_LOST,
)
RETRYING = (State.WAITING, State.DEAD, State.LOGGED_OUT)


class Event(Enum):
    """An event of the connection."""

    START = auto()
    ANSWERED = auto()
    """The handshake is done, and the first request answered."""
    UNPROVEN = auto()
    """The same, after a connection that ended because no data came."""
    ID_IN_USE = auto()
    FAILED = auto()
    """An attempt was refused, or ended before the first answer."""
    UNRESPONSIVE = auto()
    """An attempt was accepted, and no response came."""
    LOGIN_NEEDED = auto()
    """An attempt failed after the hour at which the log-in ends."""
    RETRY_DUE = auto()
    PORT_OPENED = auto()
    """The port was closed and accepts connections now, or was silent and greets."""
    PORT_CLOSED = auto()
    """The unresponsive gateway has closed its port: wait for the next one to open it."""
    RECONNECT = auto()
    """A new connection was requested."""
    LOST = auto()
    SILENT = auto()
    """No answer came for two heartbeats, though the socket is open."""
    UPSTREAM_LOST = auto()
    UPSTREAM_BACK = auto()
    FARM_BROKEN = auto()
    FARM_BACK = auto()
    """The last broken farm is back."""
    HISTORY_LOST = auto()
    """IB refuses the history of a contract that is known to be good, for a broken farm."""
    HISTORY_BACK = auto()
    """A notice names the farm as back, or a history request was answered."""
    SESSION_TAKEN = auto()
    SESSION_BACK = auto()
    STOP = auto()
    STOPPED = auto()


class Action(Enum):
    """An action of the connection on the way into the next state."""

    NEXT_ID = auto()
    CLOSE = auto()
    PLAN_RETRY = auto()
    """Set when the next attempt is due: by the backoff, at once after a working connection."""
    REPEAT_REQUESTS = auto()
    """Requests in flight during trouble will not be answered: resend them."""
    RECHECK_FARMS = auto()
    """A farm may still be broken: if so, FARM_BROKEN is the next event."""


_S, _E, _A = State, Event, Action
_Row = dict[tuple[State, Event], tuple[State, tuple[Action, ...]]]


def _from_each(states: tuple[State, ...], event: Event, to: State, *actions: Action) -> _Row:
    return {(state, event): (to, actions) for state in states}


def _stays(states: tuple[State, ...], event: Event, *actions: Action) -> _Row:
    return {(state, event): (state, actions) for state in states}


_WITHOUT_DATA = tuple(state for state in LINKED if state not in WITH_DATA)
_AFTER_TROUBLE = (_A.REPEAT_REQUESTS, _A.RECHECK_FARMS)

TABLE: _Row = {
    (_S.DISCONNECTED, _E.START): (_S.CONNECTING, ()),
    (_S.CONNECTING, _E.ANSWERED): (_S.CONNECTED, ()),
    (_S.CONNECTING, _E.UNPROVEN): (_S.HISTORY_DOWN, ()),
    (_S.CONNECTING, _E.ID_IN_USE): (_S.CONNECTING, (_A.CLOSE, _A.NEXT_ID)),
    (_S.CONNECTING, _E.FAILED): (_S.WAITING, (_A.CLOSE, _A.PLAN_RETRY)),
    (_S.CONNECTING, _E.UNRESPONSIVE): (_S.DEAD, (_A.CLOSE, _A.PLAN_RETRY)),
    (_S.CONNECTING, _E.LOGIN_NEEDED): (_S.LOGGED_OUT, (_A.CLOSE, _A.PLAN_RETRY)),
    **_from_each(RETRYING, _E.RETRY_DUE, _S.CONNECTING),
    **_from_each(RETRYING, _E.RECONNECT, _S.CONNECTING),
    **_from_each(RETRYING, _E.PORT_OPENED, _S.CONNECTING),
    (_S.DEAD, _E.PORT_CLOSED): (_S.WAITING, ()),
    **_from_each(LINKED, _E.LOST, _S.WAITING, _A.CLOSE, _A.PLAN_RETRY),
    **_from_each(LINKED, _E.SILENT, _S.DEAD, _A.CLOSE, _A.PLAN_RETRY),
    **_from_each(LINKED, _E.RECONNECT, _S.CONNECTING, _A.CLOSE),
    **_from_each(LINKED, _E.UPSTREAM_LOST, _S.UPSTREAM_LOST),
    **_stays(LINKED, _E.UPSTREAM_BACK, *_AFTER_TROUBLE),
    (_S.UPSTREAM_LOST, _E.UPSTREAM_BACK): (_S.CONNECTED, _AFTER_TROUBLE),
    **_stays(_WITHOUT_DATA, _E.FARM_BROKEN),  # the state is worse already
    **_stays(_WITHOUT_DATA, _E.FARM_BACK),
    **_from_each(WITH_DATA, _E.FARM_BROKEN, _S.FARM_DOWN),
    **_from_each(WITH_DATA, _E.FARM_BACK, _S.CONNECTED),
    **_stays(_WITHOUT_DATA, _E.HISTORY_LOST),
    **_from_each(WITH_DATA, _E.HISTORY_LOST, _S.HISTORY_DOWN),
    **_stays(LINKED, _E.HISTORY_BACK, _A.RECHECK_FARMS),
    (_S.HISTORY_DOWN, _E.HISTORY_BACK): (_S.CONNECTED, (_A.RECHECK_FARMS,)),
    **_from_each(LINKED, _E.SESSION_TAKEN, _S.COMPETING_SESSION),
    (_S.UPSTREAM_LOST, _E.SESSION_TAKEN): (_S.UPSTREAM_LOST, ()),
    **_stays(LINKED, _E.SESSION_BACK, *_AFTER_TROUBLE),
    (_S.COMPETING_SESSION, _E.SESSION_BACK): (_S.CONNECTED, _AFTER_TROUBLE),
    **_from_each(tuple(s for s in State if s is not _S.STOPPING), _E.STOP, _S.STOPPING, _A.CLOSE),
    (_S.STOPPING, _E.STOPPED): (_S.DISCONNECTED, ()),
}


class ImpossibleEvent(AssertionError):
    """An event in a state where it cannot occur: a bug in this program."""


def after(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """The next state and the actions on the way. ImpossibleEvent names a pair not in the table."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleEvent(f"{event.name} while {state}") from None


def if_all_else_fails(state: State) -> Event:
    """The event that stands for an unexpected error in this state."""
    if state is State.CONNECTING:
        return Event.FAILED
    return Event.RETRY_DUE if state in RETRYING else Event.LOST


def diagram() -> str:
    """The table as a Mermaid state diagram, without events that do not change the state.

    An arrow is labelled with its events, and after a slash with the actions.
    """
    arrows: dict[tuple[State, State, tuple[Action, ...]], list[str]] = {}
    for (state, event), (to, actions) in TABLE.items():
        if state is not to and event is not Event.STOP:
            arrows.setdefault((state, to, actions), []).append(event.name.lower())
    lines = [f"    {a} --> {b}: {_label(events, on)}" for (a, b, on), events in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.DISCONNECTED}", *lines])


def _label(events: list[str], actions: tuple[Action, ...]) -> str:
    """`lost / close, plan_retry`."""
    done = ", ".join(action.name.lower() for action in actions)
    return ", ".join(events) + (f" / {done}" if done else "")
