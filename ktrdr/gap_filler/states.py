"""States of the gap filler as one table: what each event leads to. Does nothing itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

log = logging.getLogger("gap-filler")


class State(StrEnum):
    """What the gap filler is doing, in the words of `GET /status`."""

    STARTING = "starting"
    """No series was assessed yet."""
    SCANNING = "scanning"
    """All files are being assessed."""
    FILLING = "filling"
    """Bars are requested, or answers handled."""
    IDLE = "idle"
    """Nothing can be requested now: the next scan may find something."""
    WAITING = "waiting"
    """Something is in the way that ends by itself or when a person helps: it is retried."""
    REFUSED = "refused"
    """A person has to change something: the store is of the other source, or an entry is wrong."""

    @property
    def is_held(self) -> bool:
        """Nothing is requested, for a reason that is reported."""
        return self in (State.WAITING, State.REFUSED)


class Event(Enum):
    """What happens to the gap filler."""

    SCAN = auto()
    """A scan begins while no answers are expected."""
    READ = auto()
    """The entries of instruments.toml were read."""
    FILL = auto()
    """A batch of series was begun, or data are available again while answers are expected."""
    REST = auto()
    """Nothing is left to request."""
    HOLD = auto()
    """No connection, no data, clocks that disagree, or a store that cannot be written."""
    REFUSE = auto()
    """The configuration is wrong."""


_FROM_ANY = {
    Event.SCAN: State.SCANNING,
    Event.FILL: State.FILLING,
    Event.REST: State.IDLE,
    Event.HOLD: State.WAITING,
    Event.REFUSE: State.REFUSED,
}
_BUT_FROM = {
    (State.REFUSED, Event.SCAN): State.REFUSED,  # until the configuration could be read
    (State.REFUSED, Event.READ): State.SCANNING,
}
TABLE: dict[tuple[State, Event], State] = {
    (state, event): _BUT_FROM.get((state, event), _FROM_ANY.get(event, state))
    for state in State
    for event in Event
}
"""The next state for each state and event; an event that names none changes nothing."""


def diagram() -> str:
    """The table as a Mermaid state diagram; an event that applies in any state is one arrow."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STARTING}", '    state "any state" as any']
    lines += [f"    any --> {state}: {event.name.lower()}" for event, state in _FROM_ANY.items()]
    for (state, event), after in _BUT_FROM.items():
        lines.append(f"    {state} --> {after}: {event.name.lower()}")
    return "\n".join(lines)


@dataclass
class Phase:
    """The state, and why: for the stepping thread."""

    state: State = State.STARTING
    reason: str = field(default="")
    """Why it waits or refuses; else empty."""
    hint: str = field(default="")
    """What a person can do about that."""

    def take(self, event: Event, reason: str = "", hint: str = "") -> None:
        """Change the state by an event; a new reason is logged.

        An event that does not change the state and gives no reason leaves the reason as it is.
        """
        state = TABLE[self.state, event]
        if state is self.state and not reason:
            return
        if (state, reason) != (self.state, self.reason) and reason:
            log.info("%s: %s", state, reason)
        self.state, self.reason, self.hint = state, reason, hint
