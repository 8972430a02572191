"""The messages on revised bars: what was stored, what is stored since, and when that changed."""

from __future__ import annotations

from dataclasses import dataclass

from ktrdr.ipc.messages import Number, Time


@dataclass(frozen=True)
class BarValues:
    """The numbers of one bar."""

    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number


@dataclass(frozen=True)
class RevisionStatus:
    """A bar that IB revised and that was corrected in the file; or a rebuild of the whole file."""

    id: int
    """A larger one was recorded later."""
    corrected_at: Time
    """When the file was changed."""
    timestamp: Time | None
    """The start of the bar; None: the whole series was rebuilt, so the bars have no entries."""
    old: BarValues | None
    """As it was stored; None: a rebuild."""
    new: BarValues | None
    """As it is stored since; None: a rebuild."""
    why: str = ""
    """Why the series was rebuilt; else empty."""
    old_file: str | None = None
    """Where a rebuild has kept the old file, from the store's folder on."""


@dataclass(frozen=True)
class RevisionList:
    """The revisions of one series: the response of `GET /revisions`."""

    symbol: str
    timeframe: str
    total: int
    """How many are on record for the requested bars: of the last year, 1,000 at most."""
    revisions: list[RevisionStatus]
    """The newest, the newest first."""
    has_more: bool = False
    """Older ones are on record too."""
