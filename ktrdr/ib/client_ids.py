"""Client ids: which one the next attempt uses when another program uses the last one."""

from __future__ import annotations

LAST_ID = 50


class ClientIds:
    """From `first` up to 50, and then from `first` again; 0 is IB's master client."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.current = first
        self._taken = 0
        """How many ids in a row were in use."""

    def __repr__(self) -> str:
        return f"ClientIds({self.current} of {self.first} to {LAST_ID}, {self._taken} in use)"

    @property
    def is_trying_next(self) -> bool:
        """Whether the last id was in use and this one may be free."""
        return self._taken > 0

    def note_in_use(self) -> bool:
        """The gateway has refused this id; True: there are more ids to try before a wait."""
        self._taken += 1
        return self._taken <= LAST_ID - self.first

    def note_other_end(self) -> None:
        """The attempt has ended in another way."""
        self._taken = 0

    def advance(self) -> None:
        """Use the next id."""
        self.current = self.current + 1 if self.current < LAST_ID else self.first
