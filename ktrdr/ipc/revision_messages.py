"""The messages on revised bars: what was stored, what is stored since, and when that changed.

Also on bars of other people's rows that IB has otherwise: what is stored, and what IB has.
"""

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
    """A bar that IB revised and that was corrected in the file; or a rebuild of the whole file.

    Or, in a file with rows of others, bars that IB has otherwise, and that were left as they are.
    """

    id: int
    """A larger one was recorded later."""
    corrected_at: Time
    """When the file was changed, or the bars were compared that were left."""
    timestamp: Time | None
    """The start of the bar; None: the whole series was rebuilt, so the bars have no entries."""
    old: BarValues | None
    """As it was stored, or is if it was left; None: a rebuild."""
    new: BarValues | None
    """As it is stored since, or as IB has it if it was left; None: a rebuild."""
    why: str = ""
    """Why the series was rebuilt, or in what manner several bars differ; else empty."""
    old_file: str | None = None
    """Where a rebuild has kept the old file, from the store's folder on."""
    is_left: bool = False
    """The file was left as it is, since it has rows of others."""
    last: Time | None = None
    """The start of the last of several bars that differ in one manner; else None.

    `timestamp`, `old` and `new` are of the first of them.
    """
    bars: int = 1
    """How many bars these are; of a rebuild 0."""


@dataclass(frozen=True)
class RevisionList:
    """The revisions of one series: the response of `GET /revisions`."""

    symbol: str
    timeframe: str
    total: int
    """How many are on record for the requested bars.

    Of the last year, 1,000 at most; of those that were left, 1,000 at most.
    """
    revisions: list[RevisionStatus]
    """The newest, the newest first."""
    has_more: bool = False
    """Older ones are on record too."""
