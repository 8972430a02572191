"""The store's bars as DataFrames, the last of which are kept. Fetches none."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import pandas as pd

from ktrdr.data.arrow_arrays import PIECE_BYTES, BarArrays, arrays_of, is_installed
from ktrdr.data.frames import frame_of, frame_of_arrays
from ktrdr.errors import MalformedFile
from ktrdr.market.instruments import Series
from ktrdr.store.file_errors import unwritable
from ktrdr.store.file_key import FileKey
from ktrdr.store.index import is_settled
from ktrdr.store.interface import BarStore

_FRAMES_KEPT = 16
_ROWS_KEPT = 500_000
"""Maximum rows of a cached frame: a longer one is seldom loaded twice."""
_LARGE_ROWS = 20_000
"""Beyond, a frame is cached only when it is loaded again: until then there is one of it."""


class StoredFrames:
    """Reads a store. For one thread."""

    def __init__(self, store: BarStore) -> None:
        self._store = store
        self._frames: OrderedDict[tuple[Any, ...], pd.DataFrame] = OrderedDict()
        self._loaded: OrderedDict[tuple[Any, ...], bool] = OrderedDict()
        """Large frames that were loaded once."""
        self._verified: dict[Series, FileKey] = {}

    def frame(
        self, series: Series, span: tuple[int, int]
    ) -> tuple[FileKey | None, pd.DataFrame | None]:
        """The bars of the store, and the key of their file; None: it has no such series.

        The caller may change the frame.
        """
        try:
            read_ns = time.time_ns()
            key = self._store.key(series)
            if key is None:
                return None, None
            return key, self._frame(series, key, span, read_ns)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise unwritable(series.file_name, error) from error

    def _frame(
        self, series: Series, key: FileKey, span: tuple[int, int], read_ns: int
    ) -> pd.DataFrame:
        place = (series, key, *span)
        kept = self._frames.get(place)
        if kept is None:
            kept = self._read(series, key, span, read_ns)
            is_kept = len(kept) <= _ROWS_KEPT and is_settled(key, read_ns)
            if not is_kept or self._is_first_of_large(place, len(kept)):
                return kept
            self._frames[place] = kept
            while len(self._frames) > _FRAMES_KEPT:
                self._frames.popitem(last=False)
        self._frames.move_to_end(place)
        return kept.copy()

    def _is_first_of_large(self, place: tuple[Any, ...], count: int) -> bool:
        """Whether a large frame is loaded for the first time, lately; notes it."""
        if count <= _LARGE_ROWS or self._loaded.pop(place, False):
            return False
        self._loaded[place] = True
        while len(self._loaded) > _FRAMES_KEPT:
            self._loaded.popitem(last=False)
        return True

    def _read(
        self, series: Series, key: FileKey, span: tuple[int, int], read_ns: int
    ) -> pd.DataFrame:
        """Rows are found by their order, which is verified once for each version of a file."""
        if self._verified.get(series) != key:
            if not self._store.was_verified(series):
                self._store.verify(series)
            if is_settled(key, read_ns):
                self._verified[series] = key
        arrays = self._arrays(series, span) if is_installed() else None
        if arrays is not None:
            return frame_of_arrays(arrays)
        return frame_of(series.file_name, self._store.rows(series, *span))

    def _arrays(self, series: Series, span: tuple[int, int]) -> BarArrays | None:
        """The bars as pyarrow reads them; None: something is not as usual, or wrong."""
        try:
            with self._store.window(series, *span, PIECE_BYTES) as window:
                arrays = arrays_of(window)
        except MalformedFile:
            return None  # it is named where the rows are read
        return None if arrays is None else arrays.between(*span)
