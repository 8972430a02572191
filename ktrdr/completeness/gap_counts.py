"""Counts of gaps found and filled between two assessments of a series. Assesses nothing itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ktrdr.completeness.coverage import Gaps
from ktrdr.completeness.gaps import SETTLED, WANTED
from ktrdr.market.sessions import Int64Array


class Counted(NamedTuple):
    """How many gaps were found, and how many were filled with bars."""

    found: int
    filled: int


def counted(before: Gaps | None, after: Gaps, since: int = -(2**62)) -> Counted:
    """How many gaps are new, and how many were filled; `before` None: there was no assessment.

    `since`: bars before it (UTC seconds) are not assessed any more.

    A gap that splits counts as found once for each further piece, and pieces that merge count as
    filled except for one, so no more are filled than were found. Gaps that are proven absent, or
    have become too old, do not count as filled.
    """
    new = after.of(*WANTED)
    if before is None:
        return Counted(len(new), 0)
    old = before.of(*WANTED)
    old = old.chosen(old.last >= since)
    pieces, parts = _touching(old, new), _touching(new, old)
    is_settled = _touching(old, after.of(*SETTLED)) > 0
    found = int((parts == 0).sum()) + int(np.maximum(pieces - 1, 0).sum())
    filled = int(((pieces == 0) & ~is_settled).sum()) + int(np.maximum(parts - 1, 0).sum())
    return Counted(found, filled)


def _touching(some: Gaps, others: Gaps) -> Int64Array:
    """For each gap, how many of the others it shares bars with; both ascend."""
    ends = np.searchsorted(others.first, some.last, side="right")
    begins = np.searchsorted(others.last, some.first, side="left")
    touching: Int64Array = np.maximum(ends - begins, 0)
    return touching
