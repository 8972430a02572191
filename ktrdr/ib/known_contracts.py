"""Contracts whose data IB has recently delivered, for probes. Sends no requests."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ktrdr.market.instruments import Instrument, instrument_for

Kind = tuple[str, str]

_KINDS = 4
"""How many kinds of contracts are probed before all history counts as broken."""
_ALWAYS_GOOD = instrument_for("EURUSD")
"""Every account may request it: used where no request has been answered yet."""
_ALWAYS_KNOWN = instrument_for("AAPL")
"""A contract that IB knows, whether or not the account may have its data."""


class KnownContracts:
    """Contracts with data, the newest first."""

    def __init__(self) -> None:
        self._good: tuple[Instrument, ...] = (_ALWAYS_GOOD,)
        self._of_each_kind: tuple[Instrument, ...] = ()
        """The last contract of each kind whose history was requested and answered."""

    def __repr__(self) -> str:
        return f"KnownContracts({' '.join(one.symbol for one in self._good)})"

    def answered(self, instrument: Instrument, *, is_history: bool) -> None:
        """A request for the contract's data was answered."""
        others = [one for one in self._good if one != instrument]
        self._good = (instrument, *others[:1])
        if is_history:
            others = [one for one in self._of_each_kind if kind(one) != kind(instrument)]
            self._of_each_kind = (instrument, *others[: _KINDS - 1])

    def refused(self, instrument: Instrument) -> None:
        """IB refuses the contract's data: it is of no use for a probe."""
        good = tuple(one for one in self._good if one != instrument)
        self._good = good or (_ALWAYS_GOOD,)
        self._of_each_kind = tuple(one for one in self._of_each_kind if one != instrument)

    def good(self, other_than: Instrument | None = None) -> Instrument:
        """A contract with recent data; if there is none, one that IB knows."""
        good = (one for one in (*self._good, _ALWAYS_GOOD) if one != other_than)
        return next(good, _ALWAYS_KNOWN)

    def to_probe(self, refused: AbstractSet[Kind]) -> Instrument:
        """A contract with recent data; of a kind that was not just refused, if there is any."""
        left = (one for one in self._of_each_kind if kind(one) not in refused)
        return next(left, self._good[0])

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of contracts whose history was answered."""
        return {kind(one) for one in self._of_each_kind}


def kind(instrument: Instrument) -> Kind:
    """The kind of a contract: presumably one farm serves all contracts of a kind."""
    return instrument.sec_type, instrument.currency
