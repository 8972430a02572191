"""A stand-in for the connection process: answers from a market of plain numbers."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ktrdr.errors import KtrdrError
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.bars_message import BarColumns
from ktrdr.ipc.codec import from_text, to_json
from ktrdr.ipc.messages import ConnectionStatus, LastError
from ktrdr.ipc.query import span_from_query
from ktrdr.market.bars import Bar
from ktrdr.sim.market.market import GeneratedMarket

DAY = 86400
LENGTHS = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14400, "1d": DAY}


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


HEADER = "timestamp,open,high,low,close,volume\n"
NOW = utc("2026-11-20 15:00")
"""A Friday, three hours after the market of the stand-in has closed."""


class SetClock:
    """Tells what the test has set."""

    now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Inline(Executor):
    """Does at once what it is told to, so that a step of the gap filler is the same every time."""

    def submit(self, work, /, *args, **kwargs):
        done = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  as an executor does it
            done.set_exception(error)
        return done


def connection_status(**given: object) -> ConnectionStatus:
    """A connection that was made at the first attempt, and has answered nothing yet."""
    usual = {
        "connected": True,
        "state": "connected",
        "gateway": "simulated",
        "host": "127.0.0.1",
        "port": 4002,
        "client_id": 1,
        "server_version": 176,
        "last_connect_time": None,
        "last_disconnect_time": None,
        "last_answer_time": None,
        "connection_attempts": 1,
        "failed_attempts": 0,
        "next_retry_time": None,
        "requests_open": 0,
        "requests_answered": 0,
        "last_error": None,
    }
    return ConnectionStatus(**usual | given)


@dataclass
class FakeConnection:
    """Speaks as ib-connection does. Its market is open every day from 10:00 to 12:00 UTC.

    A bar exists at each multiple of its length in a session, unless `absent` has its start;
    its prices are a plain function of the start.
    """

    connected: bool = True
    closes: int = 43200
    """Second of the day at which its market closes."""
    gateway: str = "simulated"
    absent: set[int] = field(default_factory=set)
    invalid: set[int] = field(default_factory=set)
    refusals: dict[str, KtrdrError] = field(default_factory=dict)
    """Symbol → what it is answered with."""
    heads: dict[str, int] = field(default_factory=dict)
    """Symbol → its first bar."""
    heads_unknown: bool = False
    head_refusal: KtrdrError | None = None
    refused_from: dict[int, KtrdrError] = field(default_factory=dict)
    """A start → what is answered to a question for bars whose span has it."""
    tells_beside: bool = True
    """Bars next to the span are told too."""
    last_trade_dates: dict[str, str] = field(default_factory=dict)
    bars_refusals: dict[str, KtrdrError] = field(default_factory=dict)
    """The same as `refusals`, for bars alone."""
    most: int | None = None
    """So many bars are told in one answer, the newest."""
    is_closed: Callable[[int], bool] = lambda _day: False
    """Days that SCHEDULE lacks; bars are told of them all the same."""
    last_error: LastError | None = None
    data_back_at: datetime | None = None
    """When data could be had again, as ib-connection says it."""
    silent: bool = False
    """It answers every question for bars with none."""
    revised: dict[int, Bar] = field(default_factory=dict)
    """Start → the bar as it is told now."""
    factor: Callable[[Bar], Bar] = lambda bar: bar
    priorities: list[str] = field(default_factory=list)
    heads_asked: list[str] = field(default_factory=list)
    after_refusal: Callable[[], None] = lambda: None
    down: KtrdrError | None = None
    requested: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Symbol, timeframe, start and end of each request for bars."""
    after: Callable[[], None] = lambda: None
    order: list[tuple[str, str]] = field(default_factory=list)
    """Path and symbol of each request for sessions or bars."""
    closes_of: dict[str, int] = field(default_factory=dict)
    """Symbol → `closes`, if it is another one."""

    def get(self, path: str, timeout_s: float = 5.0, **query: str) -> dict:
        assert timeout_s > 0
        if self.down is not None:
            raise self.down
        routes = {
            "/status": self._status,
            "/sessions": self._sessions,
            "/bars": self._bars,
            "/head": self._head,
        }
        if "symbol" in query:
            self.order.append((path, query["symbol"]))
        return routes[path](query)

    def request(self, shape, method: str, path: str, timeout_s: float = 5.0, **query: str):
        assert method == "GET"
        return from_text(shape, self.text(path, timeout_s, **query))

    def text(self, path: str, timeout_s: float = 5.0, **query: str) -> bytes:
        return json.dumps(self.get(path, timeout_s, **query)).encode()

    def abort(self) -> None:
        pass

    def _status(self, _query: dict[str, str]) -> dict:
        return to_json(
            connection_status(
                connected=self.connected,
                state="connected" if self.connected else "waiting",
                gateway=self.gateway,
                last_error=self.last_error,
                data_back_at=self.data_back_at,
            )
        )

    def _sessions(self, query: dict[str, str]) -> dict:
        self._refuse(query)
        start, end = span_from_query(query)
        days = range(start - start % DAY - DAY, end + 3 * DAY, DAY)
        closes = self.closes_of.get(query["symbol"], self.closes)
        sessions = [[day + 36000, day + closes, day] for day in days]
        sessions = [session for session in sessions if not self.is_closed(session[2])]
        return {
            "zone": "UTC",
            "start": days[0],
            "end": days[-1],
            "sessions": sessions,
            "last_trade_date": self.last_trade_dates.get(query["symbol"], ""),
        }

    def _head(self, query: dict[str, str]) -> dict:
        self._refuse(query)
        self.heads_asked.append(query["symbol"])
        if self.head_refusal is not None:
            raise self.head_refusal
        return {"head": None if self.heads_unknown else self.heads.get(query["symbol"])}

    def _bars(self, query: dict[str, str]) -> dict:
        start, end = span_from_query(query)
        self.requested.append((query["symbol"], query["timeframe"], start, end))
        self.priorities.append(query.get("priority", ""))
        self._refuse(query)
        if query["symbol"] in self.bars_refusals:
            self.after_refusal()
            raise self.bars_refusals[query["symbol"]]
        for refused, error in self.refused_from.items():
            if start <= refused < end:
                raise error
        bars = self.received(query["symbol"], query["timeframe"], start, end)
        is_cut = self.most is not None and len(bars) > self.most
        bars = bars[-self.most :] if is_cut else bars
        invalid = [bar.start for bar in bars if bar.start in self.invalid]
        sound = [bar for bar in bars if bar.start not in self.invalid]
        self.after()
        symbol, timeframe = query["symbol"], query["timeframe"]
        near = [
            *([] if is_cut else self.received(symbol, timeframe, start - 4 * DAY, start)[-5:]),
            *self.received(symbol, timeframe, end, end + 4 * DAY)[:5],
        ]
        neighbours = [bar for bar in near if bar.start not in self.invalid]
        return {
            "gateway": self.gateway,
            "bars": to_json(BarColumns.of(sound)),
            "invalid": invalid,
            "neighbours": to_json(BarColumns.of(neighbours if self.tells_beside else [])),
        }

    def received(self, symbol: str, timeframe: str, start: int, end: int) -> list[Bar]:
        """The bars that it answers with."""
        if self.silent:
            return []
        head = self.heads.get(symbol, 0)
        closes = self.closes_of.get(symbol, self.closes)
        bars = [bar for bar in self.market(timeframe, start, end, closes) if bar.start >= head]
        return [self.factor(self.revised.get(bar.start, bar)) for bar in bars]

    def _refuse(self, query: dict[str, str]) -> None:
        if query["symbol"] in self.refusals:
            raise self.refusals[query["symbol"]]

    def market(
        self, timeframe: str, start: int, end: int, closes: int | None = None
    ) -> Iterable[Bar]:
        """The bars that start in `[start, end)`; the forming one too, as IB does it."""
        closes = closes or self.closes
        days = range(start - start % DAY, end, DAY)
        if timeframe == "1d":
            starts = list(days)
        else:
            starts = [day + at for day in days for at in _starts_of_a_day(timeframe, closes)]
        return [price(t) for t in starts if start <= t < end and t not in self.absent]


@functools.cache
def _starts_of_a_day(timeframe: str, closes: int) -> list[int]:
    """The minutes from ten o'clock on that begin a bar: the first one, and all round ones."""
    minutes = range(36000, closes, 60)
    return [minute for minute in minutes if minute == 36000 or minute % LENGTHS[timeframe] == 0]


def price(start: int) -> Bar:
    low = 100 + start % 977 / 100
    return Bar(start, low, low + 0.5, low, low + 0.25, start % 1009)


def fill(filler: GapFiller) -> None:
    """Until there is nothing left to do."""
    for _ in range(100):
        if not filler.step():
            return
    raise AssertionError("it never ends")


def line(bar: Bar) -> str:
    stamp = datetime.fromtimestamp(bar.start, UTC).isoformat(" ")
    values = ",".join(repr(float(v)) for v in bar[1:5])
    return f"{stamp},{values},{int(bar.volume)}\n"


@pytest.fixture
def connection() -> FakeConnection:
    return FakeConnection()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def put(data_dir):
    """Make a series with the rows that start at the given times."""

    def put(name: str, starts: Iterable[int] = ()) -> Path:
        path = data_dir / f"{name}.csv"
        path.write_text(HEADER + "".join(line(price(t)) for t in starts))
        return path

    return put


@pytest.fixture
def make_filler(make_settings, connection, clock):
    """A gap filler on the store, with further settings; of the last three days, if nothing else."""
    made = []

    def make(store=None, **given) -> GapFiller:
        settings = make_settings(**{"ktrdr_gap_max_age_days": 3, **given})
        made.append(GapFiller(settings, connection, clock, Inline(), store))
        return made[-1]

    yield make
    for filler in made:
        filler.close()


@pytest.fixture
def group(make_settings, data_dir, wait_for):
    """A simulated gateway with a connection and a gap filler, by a clock that the test sets."""
    from tests.simulated_group import Group  # noqa: PLC0415  it wants this file itself

    with contextlib.ExitStack() as stack:
        group = Group(stack, make_settings, data_dir, GeneratedMarket(seed=5))
        wait_for(lambda: group.manager.is_connected)
        yield group


def coverage_of(filler):
    """Every series as `GET /coverage` returns it."""
    return to_json(filler.published.coverage_of(lambda _series: True))
