"""Whose the rows of a file are: all ours, as long as nobody but us has written any."""

from __future__ import annotations

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.series_state import SeriesState
from ktrdr.ledger.ledger import Ledger
from ktrdr.store.interface import FileContents


class FileOwnership:
    """Of the files of one store, as its ledger has it. For one thread."""

    def __init__(self, ledger: Ledger, contracts: Contracts) -> None:
        self._ledger = ledger
        self._contracts = contracts

    def of(self, state: SeriesState, contents: FileContents) -> bool:
        """All rows are ours: the file was empty, and nobody but us has changed it since."""
        if state.rebuilds_from is not None:
            return True
        known = self._ledger.series.file(state.series) if self._ledger.exists else None
        if known is not None and known[0] == contents.key:
            return known[1]
        is_owned = contents.first is None
        if not self._ledger.exists:
            return is_owned
        self._ledger.series.keep_file(state.series, contents.key, is_owned=is_owned)
        if is_owned and self._contracts.grid(state).seen is not None:
            # It begins anew: no bar speaks against that.
            self._ledger.absences.forget_late(state.absence)
        return is_owned

    def note_written(self, state: SeriesState) -> None:
        """The file has just been changed by us, and by nobody else since it was looked at."""
        key = state.store.key(state.series)
        if state.rebuilds_from is None and key is not None:
            self._ledger.series.keep_file(state.series, key, is_owned=state.is_owned)

    def note_swapped(self, state: SeriesState) -> None:
        """The file was replaced by one that is ours as a whole."""
        key = state.store.key(state.series)
        if key is not None:
            self._ledger.series.keep_file(state.series, key, is_owned=True)
