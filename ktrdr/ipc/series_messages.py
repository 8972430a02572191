"""The gap filler's messages about which series it keeps, and the state of their days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ktrdr.ipc.messages import Time


class GridRow(NamedTuple):
    """One series of a grid; in JSON an array, for with names 500 series would be a tenth larger."""

    symbol: str
    timeframe: str
    state: str
    """As in `GET /coverage`."""
    row: str
    """A character a trading day; `CoverageGrid.legend` has their meaning."""


@dataclass(frozen=True)
class CoverageGrid:
    """All series by trading day: the response of `GET /grid`."""

    version: str
    """It changes exactly when anything else here does."""
    first: str
    """The first trading day, such as `2026-11-20`; a session belongs to the day of its close."""
    days: int
    legend: Mapping[str, str]
    """Character → one of `completeness.day_states.DayState`."""
    series: list[GridRow]
    columns: tuple[str, ...] = GridRow._fields
    """What stands where in each of `series`."""


@dataclass(frozen=True)
class CandidateContract:
    """A contract that a symbol may stand for at IB."""

    con_id: int
    local_symbol: str
    exchange: str
    currency: str
    name: str
    expiry: str = ""
    """`YYYYMMDD`."""
    fields: Mapping[str, str | int] = field(default_factory=dict)
    """The field of `instruments.toml` that identifies it; empty: it needs none."""
    toml: str = ""
    """The lines of `instruments.toml` that identify it; or empty."""


@dataclass(frozen=True)
class ContractCandidates:
    """The contracts that a symbol may stand for: the response of `GET /candidates`."""

    symbol: str
    candidates: list[CandidateContract]
    message: str = ""
    """Why the symbol does not stand for one contract; empty: it does."""
    hint: str = ""

    @property
    def is_clear(self) -> bool:
        """The symbol stands for one contract."""
        return not self.message


@dataclass(frozen=True)
class KeptSeries:
    """One file of the store, in the response of `GET /series`."""

    symbol: str
    timeframe: str
    file: str
    state: str
    """As in `GET /coverage`; `not_watched`: it is left alone."""
    is_watched: bool
    since: Time | None
    """The day from which `instruments.toml` wants history; None: only the last days are kept."""


@dataclass(frozen=True)
class WatchList:
    """The files of the store, kept and not: the response of `GET /series`."""

    series: list[KeptSeries]


@dataclass(frozen=True)
class SeriesChange:
    """What has become of one series: the response of `POST` and `DELETE /series`."""

    symbol: str
    timeframe: str
    file: str
    outcome: str
    """`added`, `watched_again`, `watched_already`, `changed`, `removed`, `not_watched`; or, with
    nothing changed, `ambiguous` or `unknown`."""
    message: str
    """The same in a sentence."""
    hint: str = ""
    since: Time | None = None
    """The day from which `instruments.toml` wants history."""
    candidates: list[CandidateContract] = field(default_factory=list)
    """The contract; where it is ambiguous, those that may be meant."""
    is_trial: bool = False
    """Nothing was changed: it was only asked what would be."""

    @property
    def is_refused(self) -> bool:
        """Nothing was changed, because a person has to choose or correct something."""
        return self.outcome in ("ambiguous", "unknown")
