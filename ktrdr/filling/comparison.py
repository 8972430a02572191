"""Comparison of stored bars with the same bars as received now. Requests none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from ktrdr.assessment.file_differences import FileDifferences
from ktrdr.assessment.file_ownership import FileOwnership
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.stored_bars import stored
from ktrdr.completeness.identity import Likeness, likeness
from ktrdr.completeness.revisions import Revision, compare
from ktrdr.ledger.revisions import RevisionRecords
from ktrdr.market.bars import Answer, Bar

log = logging.getLogger("gap-filler")

_OTHER_LEAST = 3
"""At least this many bars, all at other prices, are those of another contract."""


class Comparison:
    """Compares and corrects the bars of one store. For one thread."""

    def __init__(
        self, ownership: FileOwnership, records: RevisionRecords, differences: FileDifferences
    ) -> None:
        self._ownership = ownership
        self._records = records
        self._differences = differences
        self._revised: dict[str, frozenset[Bar]] = {}
        """Absence key → revised foreign bars, as received: the only revised ones of the series."""

    def compare(
        self, state: SeriesState, answer: Answer, requested: tuple[int, int], now: int
    ) -> Revision | None:
        """How the stored bars differ from the same bars as received now; as `compare_all`."""
        received = {bar.start: bar for bar in (*answer.bars, *answer.neighbours)}
        revision = self.compare_all(state, received, now, requested)
        known = self._revised.get(state.absence_key, frozenset())
        if revision is not None and known.issuperset(revision.changed):
            return replace(revision, unclear_at=None)
        return revision

    def compare_all(
        self,
        state: SeriesState,
        received: Mapping[int, Bar],
        now: int,
        requested: tuple[int, int] | None = None,
    ) -> Revision | None:
        """How the stored bars differ from those received now; None: not at all.

        If the file has rows of others, that goes on record. `requested`: as for `compare`.
        """
        if not received or state.first is None:
            return None
        there = stored(state, received)
        revision = compare(there, received, requested)
        if state.is_owned:
            return revision
        pairs = [(old, received[old.start]) for old in there]
        found = self._differences.take(state, pairs, now)
        return replace(revision, is_known=not found.is_new) if revision is not None else None

    def note_revised(self, state: SeriesState, revision: Revision) -> None:
        """Note that only these foreign bars were revised: they are not checked again."""
        self._revised[state.absence_key] = frozenset(revision.changed)

    def correct(self, state: SeriesState, revision: Revision, now: int) -> None:
        """Replace owned bars by those received now, and record which these were.

        The bars come first: nothing is on record that was not done. A staging copy replaces its
        file later, and that is on record as a whole.
        """
        state.check_understood()
        received = {bar.start: bar for bar in revision.changed}
        replaced = [(old, received[old.start]) for old in stored(state, received)]
        state.store.add(state.series, revision.changed, correct=True)
        self._ownership.note_written(state)
        if state.rebuilds_from is None:
            corrected = [(old, new) for old, new in replaced if old != new]
            self._records.record(state.series, corrected, now)
        log.info("%s: %s; corrected", state.series, revision.words)


def wants_more(state: SeriesState, revision: Revision) -> bool:
    """Nothing of the answer may be written before more is known, or the whole series is rebuilt."""
    is_plain = revision.unclear_at is None
    return not is_plain or is_whole(state, revision) or is_other(state, revision)


def is_whole(state: SeriesState, revision: Revision) -> bool:
    """The whole series was revised, including the bars that were not compared.

    Foreign rows may not come from IB, so it is unknown how they are adjusted.
    """
    return revision.is_whole(is_adjusted=state.is_owned and not state.instrument.can_be_paged)


def is_other(state: SeriesState, revision: Revision) -> bool:
    """All compared bars have other prices, like those of another contract.

    A few may match by chance. Adjusted series are exempt: they change by no common factor either.
    """
    if is_whole(state, revision) or not state.instrument.can_be_paged:
        return False
    received = {bar.start: bar for bar in revision.changed}
    are_all = len(received) >= _OTHER_LEAST and 10 * len(received) >= 9 * revision.compared
    return are_all and likeness(stored(state, received), received) is Likeness.OTHER
