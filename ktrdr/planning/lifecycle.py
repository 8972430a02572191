"""The states of the connection as one table, and the ladder of retries. Does nothing itself."""

from __future__ import annotations

from enum import Enum, StrEnum, auto


class State(StrEnum):
    """Where the connection stands, in the words of the status API."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    WAITING = "waiting"
    """For the next attempt."""
    CONNECTED = "connected"
    """The gateway has answered a real request since it was greeted."""
    UPSTREAM_LOST = "upstream_lost"
    """The gateway answers, and says that it has lost IB's servers (1100)."""


class Event(Enum):
    """What can happen to the connection."""

    START = auto()
    ANSWERED = auto()
    """Greeted, and the first real request answered."""
    ID_IN_USE = auto()
    FAILED = auto()
    LOST = auto()
    LOST_EARLY = auto()
    """Lost before it had proven itself: retried with a delay, so that nobody is hammered."""
    RETRY_DUE = auto()
    RECONNECT = auto()
    """Somebody asks for a new connection."""
    UPSTREAM_LOST = auto()
    UPSTREAM_BACK = auto()
    STOP = auto()


class Action(Enum):
    """What the connection does on its way into the next state."""

    NEXT_ID = auto()
    CLOSE = auto()
    RESET_RETRIES = auto()


_S, _E, _A = State, Event, Action
TABLE: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    (_S.DISCONNECTED, _E.START): (_S.CONNECTING, ()),
    (_S.CONNECTING, _E.ANSWERED): (_S.CONNECTED, ()),
    (_S.CONNECTING, _E.ID_IN_USE): (_S.CONNECTING, (_A.CLOSE, _A.NEXT_ID)),
    (_S.CONNECTING, _E.FAILED): (_S.WAITING, (_A.CLOSE,)),
    (_S.WAITING, _E.RETRY_DUE): (_S.CONNECTING, ()),
    (_S.WAITING, _E.RECONNECT): (_S.CONNECTING, (_A.RESET_RETRIES,)),
    (_S.CONNECTED, _E.LOST): (_S.CONNECTING, (_A.CLOSE, _A.RESET_RETRIES)),
    (_S.CONNECTED, _E.LOST_EARLY): (_S.WAITING, (_A.CLOSE,)),
    (_S.CONNECTED, _E.RECONNECT): (_S.CONNECTING, (_A.CLOSE, _A.RESET_RETRIES)),
    (_S.CONNECTED, _E.UPSTREAM_LOST): (_S.UPSTREAM_LOST, ()),
    (_S.CONNECTED, _E.UPSTREAM_BACK): (_S.CONNECTED, ()),
    (_S.UPSTREAM_LOST, _E.UPSTREAM_LOST): (_S.UPSTREAM_LOST, ()),
    (_S.UPSTREAM_LOST, _E.UPSTREAM_BACK): (_S.CONNECTED, ()),
    (_S.UPSTREAM_LOST, _E.LOST): (_S.CONNECTING, (_A.CLOSE, _A.RESET_RETRIES)),
    (_S.UPSTREAM_LOST, _E.LOST_EARLY): (_S.WAITING, (_A.CLOSE,)),
    (_S.UPSTREAM_LOST, _E.RECONNECT): (_S.CONNECTING, (_A.CLOSE, _A.RESET_RETRIES)),
    (_S.DISCONNECTED, _E.STOP): (_S.DISCONNECTED, ()),
    (_S.CONNECTING, _E.STOP): (_S.DISCONNECTED, (_A.CLOSE,)),
    (_S.WAITING, _E.STOP): (_S.DISCONNECTED, ()),
    (_S.CONNECTED, _E.STOP): (_S.DISCONNECTED, (_A.CLOSE,)),
    (_S.UPSTREAM_LOST, _E.STOP): (_S.DISCONNECTED, (_A.CLOSE,)),
}


class ImpossibleEvent(AssertionError):
    """An event in a state that cannot see it: a mistake in this program."""


def after(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """The next state and what to do on the way. ImpossibleEvent names a pair not in the table."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleEvent(f"{event.name} while {state}") from None


class Retries:
    """The ladder of delays between failed attempts; the last one repeats."""

    def __init__(self, delays_s: tuple[float, ...]) -> None:
        self._delays_s = delays_s
        self._taken = 0

    def __repr__(self) -> str:
        return f"Retries(step {self._taken} of {self._delays_s})"

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        delay = self._delays_s[min(self._taken, len(self._delays_s) - 1)]
        self._taken += 1
        return delay

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self._taken = 0


FIRST_ID, LAST_ID = 1, 50


def next_client_id(client_id: int, first: int) -> int:
    """The id after `client_id`, up to 50 and then from `first` again; 0 is IB's master client."""
    return client_id + 1 if client_id < LAST_ID else first
