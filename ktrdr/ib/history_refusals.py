"""Refusals of history for a broken farm, and when they count for all history."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ktrdr.ib.known_contracts import Kind

_BELIEVED = 2
"""Refusals in a row that count without any notice of a broken farm."""


class HistoryRefusals:
    """The refusals since history was last answered."""

    def __init__(self) -> None:
        self._count = 0
        self.failed: set[str] = set()
        """Symbols whose history was refused for no known reason."""
        self.kinds: frozenset[Kind] = frozenset()
        """The kinds of contracts for which a probe was refused."""
        self.is_unproven = False
        """Whether a connection has ended because no data came, and none have come since."""

    def __repr__(self) -> str:
        return f"HistoryRefusals({self._count}, kinds {sorted(self.kinds)})"

    def __bool__(self) -> bool:
        return bool(self._count)

    def note_request(self) -> None:
        """Note a refused request: perhaps all history is refused, which a probe should test."""
        self._count += 1

    def note_probe(self, kind: Kind, known: AbstractSet[Kind], *, is_announced: bool) -> bool:
        """Note a refused probe. True: no history is available; False: another probe should test it.

        Other known kinds may have other farms, and without a notice that a farm is broken
        (`is_announced`) one refusal proves nothing.
        """
        self._count += 1
        self.kinds |= {kind}
        if known - self.kinds or (not is_announced and self._count < _BELIEVED):
            return False
        self.kinds = frozenset()
        return True

    def note_answer(self) -> None:
        """History was answered."""
        self._count = 0
        self.failed.clear()
        self.kinds = frozenset()
        self.is_unproven = False

    def forget(self) -> None:
        """Reset the count: the connection is new, or a notice says that the farm is back."""
        self._count = 0
        self.failed.clear()
