"""Contracts whose data IB has answered lately: what a probe may ask for. Asks for nothing."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ktrdr.market.instruments import Instrument, instrument_for

Kind = tuple[str, str]

_KINDS = 4
"""So many kinds of contracts are asked for before all history is called broken."""
_ALWAYS_GOOD = instrument_for("EURUSD")
"""Every account may see it: asked for where nothing has been answered yet."""


class KnownContracts:
    """The newest come first."""

    def __init__(self) -> None:
        self._good: tuple[Instrument, ...] = (_ALWAYS_GOOD,)
        self._of_each_kind: tuple[Instrument, ...] = ()
        """Whose history was wanted and answered."""

    def __repr__(self) -> str:
        return f"KnownContracts({' '.join(one.symbol for one in self._good)})"

    def answered(self, instrument: Instrument, *, is_history: bool) -> None:
        """Its data were answered."""
        others = [one for one in self._good if one != instrument]
        self._good = (instrument, *others[:1])
        if is_history:
            others = [one for one in self._of_each_kind if kind(one) != kind(instrument)]
            self._of_each_kind = (instrument, *others[: _KINDS - 1])

    def refused(self, instrument: Instrument) -> None:
        """Its data are refused: it shows nothing of whether data can be had."""
        good = tuple(one for one in self._good if one != instrument)
        self._good = good or (_ALWAYS_GOOD,)
        self._of_each_kind = tuple(one for one in self._of_each_kind if one != instrument)

    def good(self, other_than: Instrument | None = None) -> Instrument | None:
        """One whose data were answered lately; EURUSD, which everybody may see, for none.

        None: there is no other one than that.
        """
        good = (one for one in (*self._good, _ALWAYS_GOOD) if one != other_than)
        return next(good, None)

    def to_probe(self, refused: AbstractSet[Kind]) -> Instrument:
        """A good one; of a kind that was not just refused, if there is any."""
        left = (one for one in self._of_each_kind if kind(one) not in refused)
        return next(left, self._good[0])

    @property
    def kinds(self) -> set[Kind]:
        """Those whose history was answered."""
        return {kind(one) for one in self._of_each_kind}


def kind(instrument: Instrument) -> Kind:
    """Contracts that one farm serves have this in common, as far as anybody knows."""
    return instrument.sec_type, instrument.currency
