"""What is known of a store's files, in its index if it has one. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping

from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.store.file_key import FileKey
from ktrdr.store.index import CoverageIndex, IndexEntry, is_settled
from ktrdr.store.interface import FileContents


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

    def starts(self, series: Series, since: int) -> Int64Array | None:
        """The starts of its bars from `since` on; None: not kept."""
        if self._index is None:
            return None
        return self._index.starts(series.file_name, since, series.timeframe.length_s)

    def remember(self, series: Series, contents: FileContents, read_ns: int) -> None:
        """Keep what was read at that time (ns of the epoch)."""
        if self._index is not None:
            settled = is_settled(contents.key, read_ns)
            known = IndexEntry(contents.key, settled, *contents[1:4], contents.is_verified)
            self._index.keep(series.file_name, known, contents.starts, series.timeframe.length_s)

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
