"""What is known of a store's files, in its index if it has one. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping

from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.store.file_key import FileKey
from ktrdr.store.index import CoverageIndex, IndexEntry, from_runs, is_settled, to_runs
from ktrdr.store.interface import FileContents

_FAR = 2**62


class KnownFiles:
    """The index of a store, or nothing in its place. For one thread."""

    def __init__(self, index: CoverageIndex | None) -> None:
        """`index`: None: nothing is kept."""
        self._index = index

    def known(self) -> Mapping[str, IndexEntry]:
        """All entries, by the files' names."""
        return self._index.known() if self._index else {}

    def of(self, series: Series) -> IndexEntry | None:
        """The entry of one file."""
        return self.known().get(series.file_name)

    def contents(self, series: Series, key: FileKey, since: int) -> FileContents | None:
        """What a file has from `since` on that has this key now; None: it is to be read."""
        known, step_s = self.of(series), series.timeframe.length_s
        if self._index is None or known is None or not known.is_current(key) or known.since > since:
            return None
        starts = self._index.starts(series.file_name, since, step_s)
        if starts is None:
            return None
        begin, lacking = known_from(known.first, since), from_runs(known.incomplete, -_FAR, step_s)
        verified = known.is_verified
        return FileContents(key, known.first, known.last, begin, starts, verified, lacking)

    def remember(self, series: Series, contents: FileContents, read_ns: int) -> None:
        """Keep what was read at that time (ns of the epoch)."""
        if self._index is not None:
            settled, step_s = is_settled(contents.key, read_ns), series.timeframe.length_s
            verified, lacking = contents.is_verified, to_runs(contents.incomplete, step_s)
            known = IndexEntry(contents.key, settled, *contents[1:4], verified, lacking)
            self._index.keep(series.file_name, known, contents.starts, step_s)

    def extend(self, series: Series, key: FileKey, starts: Int64Array, new: int) -> None:
        """Record that bars were added to the known ones, so many of them `new`.

        The file has this key now.
        """
        if self._index is not None:
            self._index.extend(series.file_name, key, starts, new, series.timeframe.length_s)

    def forget(self, series: Series) -> None:
        """Remove the entry of a file that has changed otherwise: it is to be read again."""
        if self._index is not None:
            self._index.forget([series.file_name])

    def flush(self) -> None:
        """Publish the entries to other processes."""
        if self._index is not None:
            self._index.flush()

    def close(self) -> None:
        """Flush, and read the index again when needed."""
        if self._index is not None:
            self._index.close()


def known_from(first: int | None, since: int) -> int:
    """From when on all rows are known, if those from `since` on are; 0 or less: all are."""
    return min(first or 0, 0) if first is None or first >= since else since
