"""The store's bars as DataFrames, the last of which are kept. Fetches none."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import pandas as pd

from ktrdr.data.frames import frame_of
from ktrdr.errors import StoreUnwritable
from ktrdr.market.instruments import Series
from ktrdr.store.file_key import FileKey
from ktrdr.store.index import is_settled
from ktrdr.store.interface import BarStore

_FRAMES_KEPT = 16
_ROWS_KEPT = 500_000
"""Maximum rows of a cached frame: a longer one is seldom loaded twice."""


class StoredFrames:
    """Reads a store. For one thread."""

    def __init__(self, store: BarStore) -> None:
        self._store = store
        self._frames: OrderedDict[tuple[Any, ...], pd.DataFrame] = OrderedDict()
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
            place = (series, key, *span)
            kept = self._frames.get(place)
            if kept is None:
                kept = self._read(series, key, span, read_ns)
                if len(kept) <= _ROWS_KEPT and is_settled(key, read_ns):
                    self._frames[place] = kept
            else:
                self._frames.move_to_end(place)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise StoreUnwritable(f"{series.file_name}: {error.strerror}") from error
        while len(self._frames) > _FRAMES_KEPT:
            self._frames.popitem(last=False)
        return key, kept.copy()

    def _read(
        self, series: Series, key: FileKey, span: tuple[int, int], read_ns: int
    ) -> pd.DataFrame:
        """Rows are found by their order, which is verified once for each version of a file."""
        if self._verified.get(series) != key:
            if not self._store.was_verified(series):
                self._store.verify(series)
            if is_settled(key, read_ns):
                self._verified[series] = key
        return frame_of(series.file_name, self._store.rows(series, *span))
