"""The public reading API: bars as DataFrames, local first. Writes no bar, and never meets IB.

```python
from ktrdr.data.data_manager import DataManager
DataManager().load("AAPL", "1m", start="2026-11-01", end="2026-11-20")
```
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import Any

import pandas as pd

from ktrdr.config import Settings, load_settings
from ktrdr.data.bar_store import BarStore
from ktrdr.data.csv_store import CsvStore
from ktrdr.data.fetching import Fetching, Found, Progress
from ktrdr.data.frames import aggregated, frame_of, side_by_side, starts_of, with_bars
from ktrdr.data.ledger import sessions_of
from ktrdr.data.local_api import LocalClient, time_from_text
from ktrdr.data.store_source import OURS
from ktrdr.data.watch import contract_name
from ktrdr.errors import InvalidRequest, KtrdrError, StoreUnwritable, UnknownSeries
from ktrdr.planning.aggregation import larger_bars
from ktrdr.planning.instruments import (
    Instrument,
    Series,
    check_symbol,
    instrument_of_entry,
    read_tables,
)
from ktrdr.planning.sessions import Schedule
from ktrdr.planning.timeframes import DAY_S, Timeframe
from ktrdr.planning.usual_sessions import by_rules

Moment = str | date | datetime | pd.Timestamp | None

_LOOK_S = 60
"""How long a look at the whole store may take."""
_FRAMES_KEPT = 16
_ROWS_KEPT = 500_000
"""In a frame that is kept: a longer one is seldom asked for twice."""
_FAR = 2**62


class DataManager:
    """Loads the store's bars; with `fetch`, also what it lacks, through ib-connection."""

    def __init__(self, settings: Settings | None = None, store: BarStore | None = None) -> None:
        self._settings = settings or load_settings()
        self._store: BarStore = store or CsvStore(self._settings.data_dir)
        self._gap_filler = LocalClient(self._settings.gap_filler_socket, "gap-filler")
        self._fetching = Fetching(self._settings, self._store)
        self._frames: OrderedDict[tuple[Any, ...], pd.DataFrame] = OrderedDict()
        self._verified: dict[Series, object] = {}

    def load(
        self,
        symbol: str | Sequence[str],
        timeframe: str | Timeframe,
        start: Moment = None,
        end: Moment = None,
        *,
        fetch: bool = False,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """The bars of a series that start in `[start, end)`.

        Dates and times without a zone are UTC; a date is its midnight. The index is
        `timestamp`, in UTC; the columns are open, high, low, close and volume (-1: IB has none).
        For several symbols the columns are (symbol, value), and a bar that one lacks is NaN.

        `fetch` asks the connection process for bars that the store lacks; they are in the
        answer, and the store is left to the gap filler. `progress` hears how many of the requests
        are answered, and how many there are. `attrs`: `complete` is True when every
        bar that should exist is there or IB is known to have none, and False whenever that
        cannot be proven; `why` then says why; `source` is `live`, `simulated` or None.

        InvalidRequest: a symbol, timeframe or time that cannot be. UnknownSeries: there is no
        such file, and nothing is to be fetched. MalformedFile: it cannot be read.
        """
        span = _span(start, end)
        if isinstance(symbol, str):
            return self._load(_series(symbol, timeframe), span, fetch=fetch, progress=progress)
        frames = {
            one: self._load(_series(one, timeframe), span, fetch=fetch, progress=progress)
            for one in dict.fromkeys(symbol)
        }
        if not frames:
            raise InvalidRequest("no symbol: expected one or more")
        together = side_by_side(frames)
        lacking = {s: f.attrs["why"] for s, f in frames.items() if not f.attrs["complete"]}
        together.attrs = {
            "symbol": list(frames),
            "timeframe": _series(next(iter(frames)), timeframe).timeframe.value,
            "source": self._store.source(),
            "complete": not lacking,
            "why": "; ".join(f"{one}: {why}" for one, why in lacking.items()),
        }
        return together

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
        first, last = _span(start, end)
        reach = 3 * DAY_S if target.is_daily else target.length_s
        frame = self._load(series, (max(first - reach, 0), min(last + reach, _FAR)))
        starts = starts_of(frame)
        schedule, alignment = self._sessions(series.symbol, starts)
        into, ends = larger_bars(schedule, starts, target, alignment)
        now = datetime.now(UTC).timestamp()
        chosen = (into >= first) & (into < last) & (ends <= now)
        made = aggregated(frame[chosen], into[chosen])
        made.attrs = frame.attrs | {"timeframe": target.value}
        return made

    def _load(
        self,
        series: Series,
        span: tuple[int, int],
        *,
        fetch: bool = False,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        local = self._local(series, span)
        if local is None and not fetch:
            raise UnknownSeries(
                f"the store {self._store.folder} has no {series.file_name}",
                hint="create it with the header line, and the gap filler fills it",
            )
        frame = frame_of(series.file_name, None) if local is None else local
        if fetch:
            present = None if local is None else starts_of(local)
            instrument = self._instrument(series.symbol)
            found = self._fetching.fetch(series, instrument, present, span, progress)
        else:
            found = self._judged(series, *span)
        frame = with_bars(frame, found.bars)
        frame.attrs = {
            "symbol": series.symbol,
            "timeframe": series.timeframe.value,
            "source": self._store.source(),
            "complete": found.complete,
            "why": found.why,
        }
        return frame

    def _local(self, series: Series, span: tuple[int, int]) -> pd.DataFrame | None:
        """The bars of the store; None: it has no such series. A frame that may be changed."""
        try:
            key = self._store.key(series)
            if key is None:
                return None
            place = (series, key, *span)
            kept = self._frames.get(place)
            if kept is None:
                kept = self._read(series, key, span)
                if len(kept) <= _ROWS_KEPT:
                    self._frames[place] = kept
            else:
                self._frames.move_to_end(place)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnwritable(f"{series.file_name}: {error.strerror}") from error
        while len(self._frames) > _FRAMES_KEPT:
            self._frames.popitem(last=False)
        return kept.copy()

    def _read(self, series: Series, key: object, span: tuple[int, int]) -> pd.DataFrame:
        """Rows are found by their order, which is looked at once for each state of a file."""
        if self._verified.get(series) != key:
            if not self._store.was_verified(series):
                self._store.verify(series)
            self._verified[series] = key
        return frame_of(series.file_name, self._store.rows(series, *span))

    def _judged(self, series: Series, start: int, end: int) -> Found:
        """What the gap filler knows of these days; nothing is proven while it does not answer."""
        try:
            said = self._gap_filler.get(
                "/coverage", symbol=series.symbol, timeframe=series.timeframe.value
            )
            entries = said["series"]
        except KtrdrError as error:
            return Found(complete=False, why=error.message)
        if not entries or entries[0]["expected"] is None:
            return Found(complete=False, why="the gap filler does not know this series yet")
        return _judge(entries[0], start, end, self._settings.ktrdr_gap_check_interval_s)

    def _sessions(self, symbol: str, starts: Any) -> tuple[Schedule, frozenset[int]]:
        """As far as the gap filler has learnt them, else the usual ones."""
        instrument = self._instrument(symbol)
        path = self._store.folder / OURS / "ledger.sqlite"
        schedule, alignment = sessions_of(path, contract_name(instrument))
        if not len(starts):
            return schedule or by_rules(instrument.sec_type, 0, 0), alignment
        first, last = int(starts[0]) - DAY_S, int(starts[-1]) + DAY_S
        if schedule is None or not schedule.covers(int(starts[0]), int(starts[-1])):
            usual = by_rules(instrument.sec_type, first, last)
            schedule = usual if schedule is None else usual.joined(schedule)
        return schedule, alignment

    def _instrument(self, symbol: str) -> Instrument:
        path = self._store.folder / "instruments.toml"
        try:
            entry: object = read_tables(path.read_text(), path.name).get(symbol)
        except FileNotFoundError:
            entry = None
        return instrument_of_entry(symbol, entry)


def _series(symbol: str, timeframe: str | Timeframe) -> Series:
    """InvalidRequest names what is wrong."""
    try:
        frame = timeframe if isinstance(timeframe, Timeframe) else Timeframe.parse(timeframe)
        return Series(check_symbol(symbol), frame)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _span(start: Moment, end: Moment) -> tuple[int, int]:
    """UTC seconds; all times where nothing is said. InvalidRequest names what is wrong."""
    first = 0 if start is None else _seconds("start", start)
    last = _FAR if end is None else _seconds("end", end)
    if first > last:
        raise InvalidRequest(f"start={start}: expected a time before end={end}")
    return first, last


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


def _judge(entry: dict[str, Any], start: int, end: int, interval_s: float) -> Found:
    """Complete when these times were looked at, and lack only what IB has not.

    An open end means: as of the gap filler's last look.
    """
    now = datetime.now(UTC).timestamp()
    known_from, known_until = (time_from_text(k, entry[k]) for k in ("from", "until"))
    if 0 < start < known_from:
        return Found(complete=False, why=f"nothing is known before {entry['from']}")
    if min(end, now) > known_until + (interval_s + _LOOK_S if end > now else 0):
        return Found(complete=False, why=f"nothing is known after {entry['until']}")
    lacking = sum(
        bars
        for first, last, bars, reason in entry["gaps"]
        if first < end and last >= start and reason != "no_trades"
    )
    if lacking:
        return Found(complete=False, why=f"up to {lacking} bars are missing")
    return Found()
