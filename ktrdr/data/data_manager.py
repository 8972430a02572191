"""The public reading API: bars as DataFrames, local first. Writes no bar, and never talks to IB.

```python
from ktrdr.data.data_manager import DataManager
DataManager().load("AAPL", "1m", start="2026-11-01", end="2026-11-20")
```
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Literal, overload

import pandas as pd

from ktrdr.completeness.gaps import Reason
from ktrdr.config.running_group import settings_to_read_with
from ktrdr.config.settings import Settings
from ktrdr.data.coverage_frames import day_frame, gap_frame, series_frame
from ktrdr.data.coverage_reading import Asked, CoverageReading, SeriesContents, unknown_series
from ktrdr.data.fetching import ALWAYS, Fetching, FetchResult, Progress
from ktrdr.data.follower import Follower
from ktrdr.data.following import Following, first_positions
from ktrdr.data.frames import (
    aggregated,
    below_each_other,
    common_attrs,
    frame_of,
    starts_of,
    with_bars,
)
from ktrdr.data.results import as_kind, check_kind
from ktrdr.data.side_by_side import side_by_side
from ktrdr.data.stored_frames import StoredFrames
from ktrdr.data.summary import as_html, summary
from ktrdr.errors import InvalidRequest
from ktrdr.ledger.reader import sessions_of
from ktrdr.market.instruments import (
    Instrument,
    Series,
    check_symbol,
    contract_name,
)
from ktrdr.market.resampling import larger_bars
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.market.usual_sessions import by_rules
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.interface import BarStore
from ktrdr.store.source import ledger_path

log = logging.getLogger(__name__)

Moment = str | date | datetime | pd.Timestamp | None


class DataManager:
    """Loads the store's bars; with `fetch`, also missing ones, through ib-connection.

    Without `settings` it uses those of the running group, or the environment and `.env` if none
    runs, and logs a warning if the bars are simulated. Misconfigured: they contradict the running
    group, in one line with both values.
    """

    def __init__(self, settings: Settings | None = None, store: BarStore | None = None) -> None:
        self._settings = settings or _settings()
        self._store: BarStore = store or CsvStore(self._settings.data_dir)
        if settings is None and self._source() == "simulated":
            log.warning("SIMULATED: the prices in %s are invented", self._store.folder)
        self._coverage = CoverageReading(self._settings, self._store)
        self._fetching = Fetching(self._settings, self._store)
        self._bars = StoredFrames(self._store)

    def __repr__(self) -> str:
        known = ", ".join(f"{name}: {value}" for name, value in self._summary().items())
        return f"<DataManager {known}>"

    def _repr_html_(self) -> str:
        return as_html(self._summary())

    def _summary(self) -> dict[str, str]:
        return summary(self._settings, self._store, self._source)

    @overload
    def load(
        self,
        symbol: str | Sequence[str],
        timeframe: str | Timeframe,
        start: Moment = ...,
        end: Moment = ...,
        *,
        fetch: bool = ...,
        progress: Progress | None = ...,
        as_: Literal["pandas"] = ...,
    ) -> pd.DataFrame: ...

    @overload
    def load(
        self,
        symbol: str | Sequence[str],
        timeframe: str | Timeframe,
        start: Moment = ...,
        end: Moment = ...,
        *,
        fetch: bool = ...,
        progress: Progress | None = ...,
        as_: Literal["polars", "pyarrow"],
    ) -> Any: ...

    def load(
        self,
        symbol: str | Sequence[str],
        timeframe: str | Timeframe,
        start: Moment = None,
        end: Moment = None,
        *,
        fetch: bool = False,
        progress: Progress | None = None,
        as_: str = "pandas",
    ) -> Any:
        """The bars of a series that start in `[start, end)`.

        Dates and times without a zone are UTC; a date is its midnight. The index is
        `timestamp`, in UTC; the columns are open, high, low, close and volume (-1: IB has none).
        For several symbols the columns are (symbol, value), and a missing bar is NaN.

        `fetch` requests missing bars from the connection process; they are in the answer, but not
        written to the store, which only the gap filler fills. `progress` is called with the number
        of requests answered, and their total. `attrs`: `complete` is True when every bar that
        should exist is there or IB is known to have none, and False whenever that cannot be proven;
        `why` then says why; `source` is `live`, `simulated` or None.

        `as_="polars"` and `as_="pyarrow"` give that library's table: `timestamp` is its first
        column, in UTC (polars: milliseconds, pyarrow: seconds); several symbols are below each
        other, with a column `symbol` before it. `attrs` are JSON under `ktrdr` in the metadata of
        pyarrow's schema; polars has no place for them.

        InvalidRequest: an impossible symbol, timeframe, time or `as_`. UnknownSeries: there is no
        such file, and nothing is to be fetched. MalformedFile: it cannot be read. Misconfigured:
        the library that `as_` names is not installed.
        """
        check_kind(as_)
        span = span_of(start, end)
        if isinstance(symbol, str):
            series = _series(symbol, timeframe)
            return as_kind(self._load(series, span, fetch=fetch, progress=progress)[0], as_)
        wanted = [_series(one, timeframe) for one in dict.fromkeys(symbol)]
        if not wanted:
            raise InvalidRequest("no symbol: expected one or more")
        with self._coverage.asked_about([] if fetch else wanted, span) as asked:
            frames = {
                one.symbol: self._load(one, span, asked.get(one), fetch=fetch, progress=progress)[0]
                for one in wanted
            }
        together = side_by_side(frames) if as_ == "pandas" else below_each_other(frames)
        together.attrs = {"symbol": list(frames), **common_attrs(frames)}
        return as_kind(together, as_)

    def resample(
        self,
        symbol: str,
        smaller: str | Timeframe,
        larger: str | Timeframe,
        start: Moment = None,
        end: Moment = None,
    ) -> pd.DataFrame:
        """Larger bars that start in `[start, end)`, made of the store's smaller ones.

        They begin where IB's do: with the session, at multiples of their length in the exchange's
        time; a daily bar has the date of its trading day. The sessions are those that the gap
        filler has learnt, or the usual ones of such a contract. The bar that is still forming is
        left out. Errors and `attrs` as in `load`.
        """
        series, target = _series(symbol, smaller), _series(symbol, larger).timeframe
        if target.length_s <= series.timeframe.length_s:
            raise InvalidRequest(f"larger={target.value}: expected more than {smaller}")
        first, last = span_of(start, end)
        reach = 3 * DAY_S if target.is_daily else target.length_s
        wide = max(first - reach, ALWAYS[0]), min(last + reach, ALWAYS[1])
        frame, found = self._load(series, wide)
        starts = starts_of(frame)
        schedule, alignment = self._sessions(series.symbol, target, starts)
        into, ends = larger_bars(schedule, starts, target, alignment)
        known_until = min(datetime.now(UTC).timestamp(), found.until)
        chosen = (into >= first) & (into < last) & (ends <= known_until)
        made = aggregated(frame[chosen], into[chosen])
        made.attrs = frame.attrs | {"timeframe": target.value}
        return made

    def series(self) -> pd.DataFrame:
        """Every series of the store, one row each, ordered by symbol and bar length.

        Columns: symbol, timeframe, state, first, last (starts of bars, UTC), expected, present,
        missing (bars that IB may have), complete (none is missing), why, next_step. What is not
        known is NA. `attrs`: `by` is `gap-filler`, or `folder` if that does not answer, and only
        the files are known; `why` then says so; `as_of` (ISO 8601); `source` as in `load`.

        StoreUnwritable: the folder cannot be read.
        """
        found = self._coverage.store()
        frame = series_frame(found.series)
        as_of = found.as_of.isoformat() if found.as_of else None
        frame.attrs = {"source": self._source(), "by": found.by, "why": found.why, "as_of": as_of}
        return frame

    def bounds(self, symbol: str, timeframe: str | Timeframe) -> tuple[datetime, datetime] | None:
        """The starts of a series' first and last bar; None: it is empty. Errors as in `load`."""
        return self._coverage.bounds(_series(symbol, timeframe))

    def instrument(self, symbol: str) -> Instrument:
        """The contract that a symbol stands for. Misconfigured: its entry is wrong."""
        return self._coverage.instrument(symbol)

    def coverage(
        self,
        symbol: str,
        timeframe: str | Timeframe,
        start: Moment = None,
        end: Moment = None,
    ) -> pd.DataFrame:
        """How many bars each trading day should have and has, and why the others are missing.

        One row for each day from that of `start` to before `end`; the index `day` is its midnight
        in UTC, as of daily bars. Columns, all counts of bars: expected, present, missing (those
        that IB may have), and one for each reason of `docs/completeness.md`; `no_trades` are those
        that IB is known not to have. `attrs`: `since` and `until` are what is known (ISO 8601,
        None: nothing); `by` is `gap-filler`, or `ledger` if that does not answer: then only
        sessions and proven absences are known, and `why` says so; `source`, `symbol` and
        `timeframe` as in `load`.

        Errors as in `load`.
        """
        series = _series(symbol, timeframe)
        found = self._coverage.series(series, span_of(start, end))
        return self._with_attrs(day_frame(found.days), series, found)

    def missing(
        self,
        symbol: str,
        timeframe: str | Timeframe,
        start: Moment = None,
        end: Moment = None,
        *,
        absent: bool = False,
    ) -> pd.DataFrame:
        """The missing intervals of a series that reach into `[start, end)`, oldest first.

        Columns: start, end (UTC; exclusive: the start of the last missing bar plus its length),
        bars, reason. With `absent` also those that IB is known not to have (`no_trades`). `attrs`
        and errors as in `coverage`.
        """
        series = _series(symbol, timeframe)
        found = self._coverage.series(series, span_of(start, end))
        gaps = [gap for gap in found.gaps if absent or gap[3] != Reason.NO_TRADES]
        return self._with_attrs(gap_frame(gaps, series.timeframe), series, found)

    def follow(
        self,
        symbols: str | Sequence[str],
        timeframe: str | Timeframe,
        since: Moment = None,
        *,
        timeout: float | None = None,
    ) -> Follower:
        """Each finished bar once, as the store gets it, until Ctrl-C; it needs no program.

        It begins with the bars that end after this call, or with those that start at `since` or
        later. Within a series they ascend: a bar that comes after a later one (a gap that is filled
        late), and the new values of one that was given (a revision, a rebuilt series) are not
        given; `load` has them. The result is also an async iterator, and may be closed. `timeout`:
        end when no bar has come for so many seconds.

        InvalidRequest: an impossible symbol, timeframe or time. UnknownSeries: there is no such
        file; one that vanishes later is waited for. MalformedFile: a file cannot be read, now or
        later.
        """
        names = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
        if not names:
            raise InvalidRequest("no symbol: expected one or more")
        begin = None if since is None else _seconds("since", since)
        wanted = [_series(one, timeframe) for one in names]
        positions = first_positions(self._store, wanted, begin, int(time.time()))
        return Follower(Following(self._store, positions), timeout)

    def _with_attrs(
        self, frame: pd.DataFrame, series: Series, found: SeriesContents
    ) -> pd.DataFrame:
        frame.attrs = {
            "symbol": series.symbol,
            "timeframe": series.timeframe.value,
            "source": self._source(),
            "by": found.by,
            "why": found.why,
            "since": found.since.isoformat() if found.since else None,
            "until": found.until.isoformat() if found.until else None,
        }
        return frame

    def _load(
        self,
        series: Series,
        span: tuple[int, int],
        asked: Asked | None = None,
        *,
        fetch: bool = False,
        progress: Progress | None = None,
    ) -> tuple[pd.DataFrame, FetchResult]:
        """The frame, and the result from which its `attrs` come."""
        entry, why = None, ""
        if not fetch:  # before the file is read
            entry, why = asked.result() if asked else self._coverage.of_gap_filler(series, span)
        key, local = self._bars.frame(series, span)
        if local is None and not fetch:
            raise unknown_series(self._store, series)
        frame = frame_of(series.file_name, None) if local is None else local
        if fetch:
            present = None if local is None else starts_of(local)
            instrument = self._coverage.instrument(series.symbol)
            found = self._fetching.fetch(series, instrument, present, span, progress)
        elif entry is not None:
            found = self._coverage.judged(series, entry, key, starts_of(frame), span)
        else:
            found = FetchResult(complete=False, why=why)
        frame = with_bars(frame, found.bars)
        frame.attrs = {
            "symbol": series.symbol,
            "timeframe": series.timeframe.value,
            "source": self._source(found.source),
            "complete": found.complete,
            "why": found.why,
        }
        return frame, found

    def _source(self, fetched: str | None = None) -> str | None:
        """The bars' source: by the store's mark, the gateway's report, or the store's place."""
        return self._store.source() or fetched or self._settings.presumed_source

    def _sessions(
        self, symbol: str, timeframe: Timeframe, starts: Any
    ) -> tuple[Schedule, frozenset[int]]:
        """Sessions, and where bars begin, as learnt by the gap filler; else the usual ones."""
        instrument = self._coverage.instrument(symbol)
        path = ledger_path(self._store.folder)
        schedule, alignment = sessions_of(path, contract_name(instrument), timeframe)
        if not len(starts):
            return schedule or by_rules(instrument.sec_type, 0, 0), alignment
        first, last = int(starts[0]) - DAY_S, int(starts[-1]) + DAY_S
        if schedule is None or not schedule.covers(int(starts[0]), int(starts[-1])):
            usual = by_rules(instrument.sec_type, first, last)
            schedule = usual if schedule is None else usual.joined(schedule)
        return schedule, alignment


def _settings() -> Settings:
    """The settings to read with; notes on them go to the log, and so to standard error."""
    settings, note = settings_to_read_with()
    if note:
        log.warning("%s", note)
    return settings


def _series(symbol: str, timeframe: str | Timeframe) -> Series:
    """InvalidRequest names what is wrong."""
    try:
        frame = timeframe if isinstance(timeframe, Timeframe) else Timeframe.parse(timeframe)
        return Series(check_symbol(symbol), frame)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def span_of(start: Moment, end: Moment) -> tuple[int, int]:
    """UTC seconds; all times by default. InvalidRequest names what is wrong."""
    first = ALWAYS[0] if start is None else _seconds("start", start)
    last = ALWAYS[1] if end is None else _seconds("end", end)
    if first > last:
        raise InvalidRequest(f"start={start}: expected a time before end={end}")
    return first, last


def _seconds(name: str, moment: str | date | datetime) -> int:
    """UTC seconds of a date, a time, or their text; no bar starts before the next whole one."""
    try:
        stamp = pd.Timestamp(moment)
    except (ValueError, TypeError):
        stamp = None
    if stamp is None or pd.isna(stamp):
        raise InvalidRequest(f"{name}={moment!r}: expected a date or time such as 2026-11-20")
    zone: tzinfo | None = stamp.tzinfo
    return math.ceil((stamp if zone else stamp.tz_localize("UTC")).timestamp())
