"""A store that keeps its bars in memory: shows that the protocol can have other stores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ktrdr.errors import StoreUnwritable, WrongSource
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.store.csv_text import Layout, Lines, Rows, Window, format_rows
from ktrdr.store.file_key import FileKey
from ktrdr.store.interface import FileContents, Scan
from ktrdr.store.time_spelling import spell_time


class DictStore:
    """Bars by series and start. Which have changed is not remembered: it costs nothing to look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bars: dict[Series, dict[int, Bar]] = {}
        self._changes: dict[Series, int] = {}
        self._verified: dict[Series, FileKey] = {}
        self._source: str | None = None
        self._last_writes: dict[Series, tuple[FileKey, FileKey]] = {}
        self._renewals: DictStore | None = None

    def source(self) -> str | None:
        return self._source

    def claim(self, source: str) -> None:
        if self._source not in (None, source):
            raise WrongSource(f"the store holds {self._source} bars, and the gateway is {source}")
        self._source = source

    def flush(self) -> None:
        pass

    def scan(self) -> Scan:
        found = {series: self._key(series) for series in self._bars}
        changed = [series for series, key in found.items() if self._verified.get(series) != key]
        return Scan(found, changed, [])

    def key(self, series: Series) -> FileKey | None:
        return self._key(series) if series in self._bars else None

    def contents(self, series: Series, since: int) -> FileContents:
        starts = np.array(sorted(self._of(series)), np.int64)
        first, last = (int(starts[0]), int(starts[-1])) if len(starts) else (None, None)
        begin = 0 if first is None or first >= since else since
        verified = self.was_verified(series)
        return FileContents(
            self._key(series), first, last, begin, starts[starts >= begin], verified
        )

    def verify(self, series: Series) -> FileContents:
        self._of(series)
        self._verified[series] = self._key(series)
        return self.contents(series, 0)

    def was_verified(self, series: Series) -> bool:
        return series in self._bars and self._verified.get(series) == self._key(series)

    def rows(self, series: Series, start: int = 0, end: int = 2**62) -> Rows:
        bars = [bar for at, bar in sorted(self._of(series).items()) if start <= at < end]
        lines = [format_rows([bar], Layout(), spell_time) for bar in bars]
        offsets = np.cumsum([0, *map(len, lines)])
        starts = np.array([bar.start for bar in bars], np.int64)
        return Rows(Layout(), starts, b"".join(lines), offsets)

    @contextlib.contextmanager
    def window(self, series: Series, start: int, end: int, most_bytes: int) -> Iterator[Window]:
        rows = self.rows(series, start, end)
        lines = rows.text.splitlines(keepends=True)
        count = max(1, most_bytes // 64)
        pieces = (b"".join(lines[at : at + count]) for at in range(0, len(lines), count))
        made = (Lines(series.file_name, Layout(), series.timeframe, piece) for piece in pieces)
        yield Window(len(rows.text), made)

    def nearest(self, series: Series, start: int, end: int) -> int | None:
        before = [(start - at, at) for at in self._of(series) if at < start]
        after = [(at - end, at) for at in self._of(series) if at >= end]
        return min([*before, *after], default=(0, None))[1]

    def line_of(self, series: Series, start: int) -> tuple[int, str] | None:
        before, row = self.rows(series, 0, start), self.rows(series, start, start + 1)
        return (len(before.starts) + 2, row.text.decode().rstrip()) if row.text else None

    def create(self, series: Series) -> None:
        self._bars.setdefault(series, {})

    def add(
        self,
        series: Series,
        bars: Iterable[Bar],
        *,
        correct: bool = False,
        is_foreign: bool = False,  # noqa: ARG002  nothing can be released here
    ) -> int:
        there, given, before = self._of(series), {bar.start: bar for bar in bars}, self._key(series)
        new = given.keys() - there.keys()
        self._bars[series] = there | given if correct else given | there
        self._changes[series] = self._changes.get(series, 0) + bool(new or (correct and given))
        self._last_writes[series] = (before, self._key(series))
        return len(new)

    def last_write(self, series: Series) -> tuple[FileKey, FileKey] | None:
        return self._last_writes.get(series)

    @property
    def staging(self) -> DictStore:
        if self._renewals is None:
            self._renewals = DictStore(self.folder / "renewed")
        return self._renewals

    def begin_staging(self, series: Series) -> None:
        self._of(series)
        self.staging.create(series)

    def take_staged(self, series: Series, stamp: str, key: FileKey | None = None) -> Path:
        if key not in (None, self._key(series)):
            raise StoreUnwritable(f"{series} was changed just now")
        self._bars[series] = self.staging._bars.pop(series)
        self._changes[series] = self._changes.get(series, 0) + 1
        return self.folder / f"{series}.{stamp}"

    def close(self) -> None:
        pass

    def _of(self, series: Series) -> dict[int, Bar]:
        if series not in self._bars:
            raise FileNotFoundError(series.file_name)
        return self._bars[series]

    def _key(self, series: Series) -> FileKey:
        return len(self._bars[series]), self._changes.get(series, 0), id(self)
