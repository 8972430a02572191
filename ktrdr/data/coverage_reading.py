"""Reads what the store has and lacks: from the gap filler, or without it from folder and ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from ktrdr.completeness.coverage import Coverage
from ktrdr.config.settings import Settings
from ktrdr.data.fetching import ALWAYS, FetchResult
from ktrdr.data.ledger_coverage import coverage_by_ledger
from ktrdr.data.proofs import CHANGED, is_whole, judge, start_of, why_unknown
from ktrdr.errors import KtrdrError, MalformedFile, UnknownSeries
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import (
    DayStatus,
    DetailedCoverage,
    SeriesCoverage,
    SeriesStatus,
    StoreCoverage,
)
from ktrdr.ipc.query import interval_to_text
from ktrdr.market.file_names import file_meant
from ktrdr.market.instruments import Instrument, Series, instrument_of_entry
from ktrdr.market.nearest_series import next_step
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S
from ktrdr.store.file_errors import hint_for, unwritable
from ktrdr.store.file_key import FileKey
from ktrdr.store.instruments_file import tables_of
from ktrdr.store.interface import BarStore
from ktrdr.times import moment, utc

BY_GAP_FILLER, BY_LEDGER, BY_FOLDER = "gap-filler", "ledger", "folder"
Asked = Future[tuple[SeriesCoverage | None, str]]
"""What the gap filler will have said about a series."""
_FAR = ALWAYS[1]
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class StoreContents:
    """The series of a store."""

    series: list[SeriesStatus]
    by: str
    """Who says so: `gap-filler` or `folder`."""
    why: str = ""
    """Why not everything is known; empty: it is."""
    as_of: datetime | None = None


@dataclass(frozen=True)
class SeriesContents:
    """The days and gaps of a series, oldest first."""

    days: list[DayStatus]
    gaps: list[tuple[int, int, int, str]]
    """First and last missing start (UTC seconds), bars, and the reason."""
    by: str
    """Who says so: `gap-filler` or `ledger`."""
    why: str = ""
    since: datetime | None = None
    until: datetime | None = None
    """What is known: bars from `since` on that were due at `until`. None: nothing."""


class CoverageReading:
    """For any thread."""

    def __init__(self, settings: Settings, store: BarStore) -> None:
        self._settings = settings
        self._store = store
        self._gap_filler = LocalClient(settings.gap_filler_socket, BY_GAP_FILLER)

    def of_gap_filler(
        self, series: Series, span: tuple[int, int] | None = None
    ) -> tuple[SeriesCoverage | None, str]:
        """The gap filler's facts about a series; or None, and the reason.

        With `span` (UTC seconds) only the gaps in that interval, and no days, which takes less time
        where there are years of them.
        """
        query = {"symbol": series.symbol, "timeframe": series.timeframe.value}
        if span is not None:
            query["gaps"] = interval_to_text(span)
        try:
            found = self._gap_filler.request(
                DetailedCoverage, "GET", "/coverage", _TIMEOUT_S, **query
            ).series
        except KtrdrError as error:
            return None, error.message
        return (found[0], "") if found else (None, "the gap filler does not know this series yet")

    @contextlib.contextmanager
    def asked_about(
        self, wanted: Sequence[Series], span: tuple[int, int]
    ) -> Iterator[Mapping[Series, Asked]]:
        """The same for several, in their order: while one is awaited or read, the next is asked."""
        pool = ThreadPoolExecutor(1)
        try:
            yield {one: pool.submit(self.of_gap_filler, one, span) for one in wanted}
        finally:
            pool.shutdown(cancel_futures=True)

    def by_ledger(
        self, series: Series, present: Int64Array, span: tuple[int, int], due_by: int
    ) -> tuple[Coverage | None, str]:
        """The coverage that the ledger alone can prove; or None, and why."""
        return coverage_by_ledger(
            self._store,
            series,
            self.instrument(series.symbol),
            present,
            span,
            due_by,
            int(datetime.now(UTC).timestamp()),
            self._settings.ktrdr_gap_max_age_days,
        )

    def judged(
        self,
        series: Series,
        entry: SeriesCoverage,
        key: FileKey | None,
        present: Int64Array,
        span: tuple[int, int],
    ) -> FetchResult:
        """Whether an interval is complete in the file with this key, which has these bars.

        While a fill runs, the file changes all the time, in other days, and the series is assessed
        anew: then the ledger decides about these days.
        """
        now = datetime.now(UTC).timestamp()
        found = judge(entry, span, self._settings.ktrdr_gap_check_interval_s, now)
        if entry.expected is None:
            if entry.error or span[0] == ALWAYS[0] or span[1] > now:
                return found
            coverage, _ = self.by_ledger(series, present, span, span[1])
            return FetchResult(until=span[1]) if is_whole(coverage, *span) else found
        if not found.complete or (key is not None and entry.key == key):
            return found
        start, end = start_of(entry, span), int(min(span[1], found.until))
        coverage, _ = self.by_ledger(series, present, (start, end), int(found.until))
        if is_whole(coverage, start, end):
            return found
        return replace(found, complete=False, why=CHANGED)

    def instrument(self, symbol: str) -> Instrument:
        """By the store's `instruments.toml`. Misconfigured: its entry is wrong."""
        return instrument_of_entry(symbol, tables_of(self._store.folder).get(symbol))

    def bounds(self, series: Series) -> tuple[datetime, datetime] | None:
        """The starts of its first and last bar, for which not more than its ends are read.

        None: it is empty. UnknownSeries: there is no such file. MalformedFile, StoreUnwritable: it
        cannot be read.
        """
        try:
            contents = self._store.contents(series, _FAR)
        except FileNotFoundError:
            raise unknown_series(self._store, series) from None
        except OSError as error:
            raise unwritable(series.file_name, error) from error
        if contents.first is None or contents.last is None:
            return None
        return utc(contents.first), utc(contents.last)

    def store(self) -> StoreContents:
        """Every series. StoreUnwritable: the folder cannot be read."""
        try:
            known = self._gap_filler.request(StoreCoverage, "GET", "/coverage", days="0")
        except KtrdrError as error:
            return self._folder(f"only the files are known: {error.message}")
        why = "" if known.scan_time else "the gap filler has not finished its first scan yet"
        return StoreContents(known.series, BY_GAP_FILLER, why, known.scan_time)

    def _folder(self, why: str) -> StoreContents:
        now = datetime.now(UTC)
        try:
            scan = self._store.scan()
        except OSError as error:
            raise unwritable(self._store.folder, error) from error
        blocked = [_failed(series, error) for series, error in scan.blocked.items()]
        found = [self._file(one) for one in scan.found if one not in scan.blocked]
        return StoreContents([*found, *blocked], BY_FOLDER, why, now)

    def _file(self, series: Series) -> SeriesStatus:
        """Its first and last bar, for which not more than its ends are read."""
        try:
            contents = self._store.contents(series, _FAR)
        except (KtrdrError, OSError) as error:
            return _failed(series, error)
        state_of = partial(SeriesStatus, series.symbol, series.timeframe.value, series.file_name)
        return state_of("", moment(contents.first), moment(contents.last))

    def series(self, series: Series, span: tuple[int, int]) -> SeriesContents:
        """The days and gaps of a series in an interval (UTC seconds).

        A gap that reaches beyond the interval is whole where the gap filler gives it.
        UnknownSeries: there is no such file. MalformedFile: it cannot be read.
        """
        entry, why = self.of_gap_filler(series)
        if entry is None:
            return self._by_ledger(series, span, why)
        days = [day for day in entry.days if _is_in(day, span)]
        gaps = [gap for gap in entry.gaps if gap[0] < span[1] and gap[1] >= span[0]]
        why = why_unknown(entry) if entry.expected is None else ""
        return SeriesContents(days, gaps, BY_GAP_FILLER, why, entry.looked_from, entry.proven_until)

    def _by_ledger(self, series: Series, span: tuple[int, int], why: str) -> SeriesContents:
        try:
            contents = self._store.contents(series, span[0])
        except FileNotFoundError:
            raise unknown_series(self._store, series) from None
        first = span[0] if span[0] > ALWAYS[0] or contents.first is None else contents.first
        now = int(datetime.now(UTC).timestamp())
        coverage, unknown = self.by_ledger(series, contents.starts, (first, span[1]), now)
        if coverage is None:
            return SeriesContents([], [], BY_LEDGER, f"{why}; {unknown}")
        gaps = [(gap.first, gap.last, gap.bars, gap.reason.value) for gap in coverage.gaps]
        days = [
            DayStatus(
                datetime.fromtimestamp(day.day, UTC).date().isoformat(),
                day.expected,
                day.present,
                {reason.value: count for reason, count in day.missing.items()},
            )
            for day in coverage.days
        ]
        why = f"by the ledger alone, which does not know failed requests: {why}"
        since, until = moment(coverage.since), moment(coverage.until)
        return SeriesContents(days, gaps, BY_LEDGER, why, since, until)


def unknown_series(store: BarStore, series: Series) -> UnknownSeries:
    """The error for a series without a file; its hint names the one that was perhaps meant."""
    known: list[Series] = []
    other = ""
    with contextlib.suppress(KtrdrError, OSError):
        found = store.scan()
        known = [*found.found, *found.blocked]
        other = file_meant(series, found.other_names)
    to_rename = f"rename {other!r} to {series.file_name}"
    hint = to_rename if other else next_step(series.symbol, series.timeframe.value, known)
    if not store.folder.is_dir():
        hint = f"{hint}; but first mount its disk: there is no folder {store.folder}"
    return UnknownSeries(f"the store {store.folder} has no {series.file_name}", hint=hint)


def _failed(series: Series, error: KtrdrError | OSError) -> SeriesStatus:
    if isinstance(error, KtrdrError):
        why, hint = error.message, error.hint
    else:
        why, hint = f"{series.file_name}: {error.strerror}", hint_for(error)
    state = "failed" if isinstance(error, MalformedFile) else ""
    names = (series.symbol, series.timeframe.value, series.file_name)
    return SeriesStatus(*names, state, error=why, hint=hint)


def _is_in(day: DayStatus, span: tuple[int, int]) -> bool:
    """From the day of the start on, and before the end."""
    midnight = datetime.fromisoformat(day.date).replace(tzinfo=UTC).timestamp()
    return midnight + DAY_S > span[0] and midnight < span[1]
