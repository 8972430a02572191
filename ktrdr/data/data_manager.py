"""The public reading API: bars as DataFrames, local first. Writes nothing, and never meets IB.

```python
from ktrdr.data.data_manager import DataManager
DataManager().load("AAPL", "1m", start="2026-11-01", end="2026-11-20")
```
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any

import numpy as np
import pandas as pd

from ktrdr.config import Settings, load_settings
from ktrdr.data.csv_store import COLUMNS, BarFile, CsvStore
from ktrdr.data.local_api import (
    LocalClient,
    answer_from_json,
    request_to_query,
    schedule_from_json,
    time_from_text,
)
from ktrdr.errors import (
    InvalidRequest,
    KtrdrError,
    StoreUnwritable,
    UnknownSeries,
    WrongSource,
)
from ktrdr.planning.bars import Answer, Bar
from ktrdr.planning.gaps import Gap, missing
from ktrdr.planning.instruments import Series, check_symbol, instrument_of_entry, read_tables
from ktrdr.planning.pacing import Priority
from ktrdr.planning.requests import BarsRequest, plan
from ktrdr.planning.sessions import Int64Array, expected, finished, learnt_alignment
from ktrdr.planning.timeframes import DAY_S, Timeframe

Moment = str | date | datetime | pd.Timestamp | None

_VALUES = list(COLUMNS[1:])
_PATIENCE_S = 10.0
"""Somebody sits before the screen: no waiting for a gateway that restarts."""
_LOOK_S = 60
"""How long a look at the whole store may take."""
_NO_BARS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class _Found:
    """Bars that were fetched, and whether that was all that is missing."""

    bars: list[Bar]
    complete: bool
    why: str


class DataManager:
    """Loads the store's bars; with `fetch`, also what it lacks, through ib-connection."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or load_settings()
        self._store = CsvStore(self._settings.data_dir)
        self._connection = LocalClient(self._settings.connection_socket, "ib-connection")
        self._gap_filler = LocalClient(self._settings.gap_filler_socket, "gap-filler")

    def load(
        self,
        symbol: str,
        timeframe: str | Timeframe,
        start: Moment = None,
        end: Moment = None,
        *,
        fetch: bool = False,
    ) -> pd.DataFrame:
        """The bars of a series that start in `[start, end)`.

        Dates and times without a zone are UTC; a date is its midnight. The index is
        `timestamp`, in UTC; the columns are open, high, low, close and volume (-1: IB has none).

        `fetch` asks the connection process for bars that the store lacks; they are in the
        answer, and the store is left to the gap filler. `attrs`: `complete` is True when every
        bar that should exist is there or IB is known to have none, and False whenever that
        cannot be proven; `why` then says why; `source` is `live`, `simulated` or None.

        InvalidRequest: a symbol, timeframe or time that cannot be. UnknownSeries: there is no
        such file, and nothing is to be fetched. MalformedFile: it cannot be read.
        """
        series, span = _check(symbol, timeframe, start, end)
        file = self._read(series)
        if file is None and not fetch:
            raise UnknownSeries(
                f"the store {self._store.folder} has no {series.file_name}",
                hint="create it with the header line, and the gap filler fills it",
            )
        local = _frame(file, *span)
        found = self._fetched(series, file, *span) if fetch else self._judged(series, *span)
        frame = _with(local, found.bars)
        frame.attrs = {
            "symbol": series.symbol,
            "timeframe": series.timeframe.value,
            "source": self._store.source(),
            "complete": found.complete,
            "why": found.why,
        }
        return frame

    def _read(self, series: Series) -> BarFile | None:
        try:
            return self._store.read(series)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnwritable(f"{series.file_name}: {error.strerror}") from error

    def _judged(self, series: Series, start: int, end: int) -> _Found:
        """What the gap filler knows of these days; nothing is proven while it does not answer."""
        try:
            said = self._gap_filler.get(
                "/coverage", symbol=series.symbol, timeframe=series.timeframe.value
            )
            entries = said["series"]
        except KtrdrError as error:
            return _Found([], complete=False, why=error.message)
        if not entries or entries[0]["expected"] is None:
            return _Found([], complete=False, why="the gap filler does not know this series yet")
        return _judge(entries[0], start, end, self._settings.ktrdr_gap_check_interval_s)

    def _fetched(self, series: Series, file: BarFile | None, start: int, end: int) -> _Found:
        """The finished bars that the store lacks, from the connection process."""
        now = int(datetime.now(UTC).timestamp())
        first = start if start > 0 else self._default_start(file, now)
        until = min(end, now)
        bars: list[Bar] = []
        unsound = 0
        try:
            if first < until:
                due, requests = self._lacking(series, file, (first, until), now)
                for request in requests:
                    answer = self._ask(request)
                    bars += finished(answer.bars, due, series.timeframe, now)
                    unsound += len(answer.unsound)
        except KtrdrError as error:
            return _Found(bars, complete=False, why=error.message)
        if unsound:
            return _Found(bars, complete=False, why=f"IB sent {unsound} bars that cannot be true")
        return _Found(bars, complete=True, why="")

    def _default_start(self, file: BarFile | None, now: int) -> int:
        """From the file's first bar on, or for as many days as the gap filler keeps complete."""
        kept = now - self._settings.ktrdr_gap_max_age_days * DAY_S
        return min(kept, int(file.starts[0])) if file is not None and len(file.starts) else kept

    def _lacking(
        self, series: Series, file: BarFile | None, span: tuple[int, int], now: int
    ) -> tuple[Int64Array, list[BarsRequest]]:
        """The bars that should be there by now, and the requests for those that are not."""
        start, end = span
        instrument = instrument_of_entry(series.symbol, self._entry(series.symbol))
        query = request_to_query(instrument, None, start, end)
        schedule = schedule_from_json(self._connection.get("/sessions", 120.0, **query))
        present = _NO_BARS if file is None else file.starts
        in_fours = series.timeframe is Timeframe.H4
        alignment = learnt_alignment(schedule, present.tolist() if in_fours else [])
        due = expected(schedule, series.timeframe, start, end, now, alignment=alignment).starts
        gaps = missing(due, present, _NO_BARS)
        if in_fours and not alignment:
            gaps = [Gap(start, end - 1, 0)]  # where they begin is not known before IB says so
        return due, plan(gaps, instrument, series.timeframe)

    def _ask(self, request: BarsRequest) -> Answer:
        query = request_to_query(request.instrument, request.timeframe, request.start, request.end)
        patience_s = request.timeout_s + _PATIENCE_S
        said = self._connection.get(
            "/bars",
            patience_s + 10,
            patience_s=f"{patience_s:g}",
            priority=Priority.INTERACTIVE.name.lower(),
            **query,
        )
        owner = self._store.source()
        if owner is not None and said.get("gateway") != owner:
            raise WrongSource(f"the store holds {owner} bars, the gateway is {said.get('gateway')}")
        return answer_from_json(said)

    def _entry(self, symbol: str) -> object:
        path = self._store.folder / "instruments.toml"
        try:
            return read_tables(path.read_text(), path.name).get(symbol)
        except FileNotFoundError:
            return None


def _check(
    symbol: str, timeframe: str | Timeframe, start: Moment, end: Moment
) -> tuple[Series, tuple[int, int]]:
    """The question as values. InvalidRequest names what is wrong with it."""
    try:
        frame = timeframe if isinstance(timeframe, Timeframe) else Timeframe.parse(timeframe)
        series = Series(check_symbol(symbol), frame)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    first = 0 if start is None else _seconds("start", start)
    last = 2**62 if end is None else _seconds("end", end)
    if first > last:
        raise InvalidRequest(f"start={start}: expected a time before end={end}")
    return series, (first, last)


def _seconds(name: str, moment: str | date | datetime) -> int:
    """UTC seconds of a date, a time, or their text."""
    try:
        stamp = pd.Timestamp(moment)
    except (ValueError, TypeError):
        stamp = None
    if stamp is None or pd.isna(stamp):
        raise InvalidRequest(f"{name}={moment!r}: expected a date or time such as 2026-11-20")
    zone: tzinfo | None = stamp.tzinfo
    return int((stamp if zone else stamp.tz_localize("UTC")).timestamp())


def _judge(entry: dict[str, Any], start: int, end: int, interval_s: float) -> _Found:
    """Complete when these times were looked at, and lack only what IB has not.

    An open end means: as of the gap filler's last look.
    """
    now = datetime.now(UTC).timestamp()
    known_from, known_until = (time_from_text(k, entry[k]) for k in ("from", "until"))
    if 0 < start < known_from:
        return _Found([], complete=False, why=f"nothing is known before {entry['from']}")
    if min(end, now) > known_until + (interval_s + _LOOK_S if end > now else 0):
        return _Found([], complete=False, why=f"nothing is known after {entry['until']}")
    lacking = sum(
        bars
        for first, last, bars, reason in entry["gaps"]
        if first < end and last >= start and reason != "no_trades"
    )
    if lacking:
        return _Found([], complete=False, why=f"up to {lacking} bars are missing")
    return _Found([], complete=True, why="")


def _frame(file: BarFile | None, start: int, end: int) -> pd.DataFrame:
    """The file's rows in `[start, end)`; values to the last digit of the file."""
    rows = b"" if file is None else file.rows_between(start, end)
    columns = COLUMNS if file is None else file.columns
    values = pd.read_csv(
        io.BytesIO(rows),
        header=None,
        names=list(columns),
        usecols=_VALUES,
        dtype=dict.fromkeys(_VALUES, np.float64),
    )[_VALUES]
    starts = _NO_BARS
    if file is not None:
        first, last = np.searchsorted(file.starts, [start, end])
        starts = file.starts[first:last]
    values.index = _index(starts)
    return values


def _index(starts: Any) -> pd.DatetimeIndex:
    seconds = np.asarray(starts, dtype=np.int64).astype("datetime64[s]")
    return pd.DatetimeIndex(seconds, tz="UTC", name="timestamp")


def _with(local: pd.DataFrame, bars: list[Bar]) -> pd.DataFrame:
    """Local bars and fetched ones in order; a local one stays where both know it."""
    if not bars:
        return local
    fetched = pd.DataFrame(
        [bar[1:] for bar in bars],
        columns=_VALUES,
        index=_index([bar.start for bar in bars]),
        dtype=np.float64,
    )
    new = fetched[~fetched.index.isin(local.index)]
    return new if local.empty else pd.concat([local, new]).sort_index()
