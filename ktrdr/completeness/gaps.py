"""Gaps: runs of expected bars that are neither present nor known to be absent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ktrdr.market.sessions import BoolArray, Int64Array

_SHIFT = 2
_UNIT_S = 1 << _SHIFT
"""Whole minutes are multiples of four seconds, and a shift is cheaper than a division."""
_BITMAP_MOST = 32_000_000
"""Four years. One byte each, and still faster than to search for a million bars."""


class Reason(StrEnum):
    """Why bars are missing, in the words of the status API."""

    OPEN = "open"
    """To be requested."""
    ASKED = "asked"
    """Requested, and not answered yet."""
    NO_TRADES = "no_trades"
    """IB has answered, and has no such bar."""
    LATE = "late"
    """IB did not have the bar a moment ago; requested again at a later scan."""
    UNPROVEN = "unproven"
    """IB did not have the bar, not often enough to prove it absent; requested again."""
    TOO_OLD = "too_old"
    """Older than the days that are kept complete by default."""
    FAILED = "failed"
    """The request was refused or not answered; retried later."""
    NOT_ENTITLED = "not_entitled"
    UNKNOWN_CONTRACT = "unknown_contract"
    OTHER_CONTRACT = "other_contract"
    """The symbol means another contract than the one whose bars are stored."""
    INCOMPLETE_ROW = "incomplete_row"
    """The file has a row for it that lacks a value: not requested until that is removed."""
    NOT_UNDERSTOOD = "not_understood"
    """Rows of others in the file mean other times than they seem to: nothing is written to it."""
    BROKEN_FILE = "broken_file"
    """The file or its entry in `instruments.toml` is broken: no bars are requested."""


@dataclass(frozen=True)
class Gap:
    """A run of missing bars, named by their starts (UTC seconds)."""

    first: int
    last: int
    """The last missing bar itself: its start, not the end of the gap."""
    bars: int
    reason: Reason = Reason.OPEN


def missing(
    expected: Int64Array,
    present: Int64Array,
    absent: Int64Array,
    reason: Reason = Reason.OPEN,
) -> list[Gap]:
    """Runs of expected bar starts that are in neither array, oldest first (UTC seconds).

    All three ascend without duplicates. A run ends where an expected bar is there or is known
    to be absent; closed markets do not end it.
    """
    chosen = ~among(expected, present) & ~among(expected, absent)
    return runs(expected, chosen, reason)


def in_runs(runs: Sequence[tuple[int, int]], expected: Int64Array) -> Int64Array:
    """Which of the expected bars lie in any of these runs, each given as its first and last bar."""
    if not runs:
        return expected[:0]
    firsts, lasts = np.array(runs, dtype=np.int64).T
    expected = expected[slice(*np.searchsorted(expected, (firsts.min(), lasts.max() + 1)))]
    known = np.zeros(len(expected) + 1, dtype=np.int64)
    np.add.at(known, np.searchsorted(expected, firsts), 1)
    np.add.at(known, np.searchsorted(expected, lasts, side="right"), -1)
    return expected[np.cumsum(known)[:-1] > 0]


def among(starts: Int64Array, known: Int64Array) -> BoolArray:
    """Which of these starts are known; both ascend, and are whole minutes."""
    if not len(known) or not len(starts):
        return np.zeros(len(starts), dtype=np.bool_)
    first, last = starts[0], starts[-1]
    known = known[np.searchsorted(known, first) : np.searchsorted(known, last, side="right")]
    found = np.zeros(len(starts), dtype=np.bool_)
    begin = int(np.searchsorted(starts, known[0])) if len(known) else 0
    run = slice(begin, begin + len(known))
    if np.array_equal(starts[run], known):  # as in a long series without gaps
        found[run] = True
        return found
    places = (last - first) // _UNIT_S + 1
    if places <= _BITMAP_MOST:
        there = np.zeros(places, dtype=np.bool_)
        there[(known - first) >> _SHIFT] = True
        inside: BoolArray = there[(starts - first) >> _SHIFT]
        return inside
    if len(known) < len(starts):
        place = np.searchsorted(starts, known)
        found[place[starts[place] == known]] = True
    elif len(known):
        place = np.searchsorted(known, starts)
        found = known[np.minimum(place, len(known) - 1)] == starts
    return found


def runs(expected: Int64Array, chosen: BoolArray, reason: Reason) -> list[Gap]:
    """The chosen bars as runs of adjacent bars in `expected`, oldest first."""
    firsts, ends = edges(chosen)
    return [
        Gap(int(expected[i]), int(expected[j - 1]), int(j - i), reason)
        for i, j in zip(firsts, ends, strict=True)
    ]


def edges(chosen: BoolArray) -> tuple[Int64Array, Int64Array]:
    """Where runs of chosen items begin, and where they end (exclusive)."""
    bordered = np.zeros(len(chosen) + 2, np.bool_)
    bordered[1:-1] = chosen
    changes = (bordered[1:] != bordered[:-1]).nonzero()[0]
    return changes[::2], changes[1::2]


FILLABLE = (Reason.OPEN, Reason.ASKED, Reason.FAILED)
"""Reasons of gaps that may still be filled without a person."""
SETTLED = (Reason.NO_TRADES, Reason.TOO_OLD)
"""Reasons of gaps that are not requested any more, unless a person does."""
WANTED = tuple(reason for reason in Reason if reason not in SETTLED)
"""Reasons of gaps whose bars are still wanted."""
