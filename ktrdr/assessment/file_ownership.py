"""Ownership of files: one is owned as long as only ktrdr has written its rows."""

from __future__ import annotations

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.series_state import SeriesState
from ktrdr.ledger.ledger import Ledger
from ktrdr.store.interface import FileContents
from ktrdr.store.written_rows import WrittenRows


class FileOwnership:
    """The ownership of the files of one store, recorded in its ledger. For one thread."""

    def __init__(self, ledger: Ledger, contracts: Contracts) -> None:
        self._ledger = ledger
        self._contracts = contracts

    def of(self, state: SeriesState, contents: FileContents) -> bool:
        """All rows are owned: the file was empty, and only ktrdr has changed it since."""
        if state.rebuilds_from is not None:
            return True
        known = self._ledger.series.file(state.series) if self._ledger.exists else None
        if known is not None and known[0] == contents.key:
            return known[1]
        is_owned = contents.first is None
        if not self._ledger.exists:
            return is_owned
        self._ledger.series.keep_file(state.series, contents.key, is_owned=is_owned)
        if is_owned:
            self._ledger.differences.forget(state.series)
            self._ledger.comparisons.forget(state.series)
            WrittenRows(state.series, self._ledger.file.database).forget()
        if is_owned and self._contracts.grid(state).seen is not None:
            # The file was emptied: no stored bar contradicts another grid any more.
            self._ledger.absences.forget_late(state.absence_key)
        return is_owned

    def note_written(self, state: SeriesState) -> None:
        """Record that ktrdr has just changed the file, unless somebody else has done so too."""
        keys = state.store.last_write(state.series)
        if state.rebuilds_from is not None or keys is None:
            return
        before, after = keys
        known = self._ledger.series.file(state.series) if self._ledger.exists else None
        key, is_owned = known or (state.key, state.is_owned)
        if key == before:
            self._ledger.series.keep_file(state.series, after, is_owned=is_owned)

    def note_swapped(self, state: SeriesState) -> None:
        """Record that the file was replaced by one that is wholly owned."""
        key = state.store.key(state.series)
        if key is not None:
            self._ledger.series.keep_file(state.series, key, is_owned=True)
