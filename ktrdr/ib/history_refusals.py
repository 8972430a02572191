"""Refusals of history for a broken farm, and when they are believed of all history."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ktrdr.ib.known_contracts import Kind

_BELIEVED = 2
"""So many refusals in a row are believed without any notice of a broken farm."""


class HistoryRefusals:
    """Those since history was answered last."""

    def __init__(self) -> None:
        self._count = 0
        self.kinds: frozenset[Kind] = frozenset()
        """The kinds of contracts for which a probe was refused so."""
        self.is_unproven = False
        """A connection has ended because no data came, and none have come since."""

    def __repr__(self) -> str:
        return f"HistoryRefusals({self._count}, kinds {sorted(self.kinds)})"

    def __bool__(self) -> bool:
        return bool(self._count)

    def note_request(self) -> None:
        """Of somebody's request: perhaps all history is refused, and a probe should see."""
        self._count += 1

    def note_probe(self, kind: Kind, known: AbstractSet[Kind], *, is_told: bool) -> bool:
        """Of a probe; True: no history can be had. False: another probe should see.

        There may be other farms for other kinds that are known, and without a notice that a farm
        is broken (`is_told`) one refusal proves nothing.
        """
        self._count += 1
        self.kinds |= {kind}
        if known - self.kinds or (not is_told and self._count < _BELIEVED):
            return False
        self.kinds = frozenset()
        return True

    def note_answer(self) -> None:
        """History was answered."""
        self._count = 0
        self.kinds = frozenset()
        self.is_unproven = False

    def forget(self) -> None:
        """It is a new connection, or the farm is said to be back: what was refused is past."""
        self._count = 0
