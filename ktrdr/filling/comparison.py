"""What is stored beside what is told of the same bars: how far it differs, and correcting it."""

from __future__ import annotations

import logging
from dataclasses import replace

from ktrdr.assessment.file_ownership import FileOwnership
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.stored_bars import stored
from ktrdr.completeness.identity import Likeness, likeness
from ktrdr.completeness.revisions import Revision, compare
from ktrdr.market.bars import Answer, Bar

log = logging.getLogger("gap-filler")

_OTHER_LEAST = 3
"""So many bars at other prices are no revision."""


class Comparison:
    """Of the series of one store. For one thread."""

    def __init__(self, ownership: FileOwnership) -> None:
        self._ownership = ownership
        self._revised: dict[str, frozenset[Bar]] = {}
        """Absence → bars of others, as told, that are revised alone: not all of the series."""

    def compare(
        self, state: SeriesState, answer: Answer, requested: tuple[int, int]
    ) -> Revision | None:
        """How what is stored differs from what was told of the same bars."""
        received = {bar.start: bar for bar in (*answer.bars, *answer.neighbours)}
        if not received or state.first is None:
            return None
        revision = compare(stored(state, received), received, requested)
        known = self._revised.get(state.absence, frozenset())
        if revision is not None and known.issuperset(revision.changed):
            return replace(revision, doubted_at=None)
        return revision

    def note_revised(self, state: SeriesState, revision: Revision) -> None:
        """These bars of others are told otherwise, and no more than these: it is known by now."""
        self._revised[state.absence] = frozenset(revision.changed)

    def correct(self, state: SeriesState, revision: Revision) -> None:
        """Write bars of ours as they are told now."""
        state.store.add(state.series, revision.changed, correct=True)
        self._ownership.note_written(state)
        log.info("%s: %s; corrected", state.series, revision.words)


def wants_more(state: SeriesState, revision: Revision) -> bool:
    """Nothing is to be written of an answer before more is known, or the whole series is new."""
    is_plain = revision.doubted_at is None
    return not is_plain or is_whole(state, revision) or is_other(state, revision)


def is_whole(state: SeriesState, revision: Revision) -> bool:
    """All of a series is told otherwise, those bars too that were not compared.

    Rows of others need not be those of IB: by what they are adjusted, nobody knows.
    """
    return revision.is_whole(is_adjusted=state.is_owned and not state.instrument.can_be_paged)


def is_other(state: SeriesState, revision: Revision) -> bool:
    """All bars that were compared are told at other prices, as those of another contract are.

    A few may be alike by chance. What is adjusted up to now moves by no common factor either.
    """
    if is_whole(state, revision) or not state.instrument.can_be_paged:
        return False
    received = {bar.start: bar for bar in revision.changed}
    are_all = len(received) >= _OTHER_LEAST and 10 * len(received) >= 9 * revision.compared
    return are_all and likeness(stored(state, received), received) is Likeness.OTHER
