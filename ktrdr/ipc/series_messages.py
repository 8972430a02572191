"""The gap filler's messages about which series it keeps, and the state of their days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class GridRow:
    """One series of a grid."""

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
