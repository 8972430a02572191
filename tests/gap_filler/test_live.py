"""Bars of streams are stored as any other, and what they lack is requested."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from ktrdr.errors import PeerDown
from ktrdr.ipc.codec import from_text, to_text
from ktrdr.ipc.stream_messages import StreamedBar, StreamsMessage, StreamStatus
from tests.fake_connection import FakeConnection, coverage_of, fill, price, utc
from tests.gap_filler.test_gap_filler import starts_in

BEGIN = utc("2026-11-20 11:00:30")


@dataclass
class Streaming(FakeConnection):
    """It has streams too, of which the test says what they finish."""

    most_streams: int = 3
    posted: list[dict] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)
    finished: list[StreamedBar] = field(default_factory=list)
    last_update: datetime | None = None
    handed: int = 0
    """How many bars the reader has received."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    is_over: bool = False

    def push(self, series: str, start: int, bar=None) -> None:
        with self.changed:
            self.finished.append(StreamedBar.of(series, bar or price(start)))
            self.changed.notify_all()

    def post(self, path: str, timeout_s: float = 5.0, **query: str) -> dict:  # noqa: ARG002
        assert path == "/streams"
        self.posted.append(query)
        self.wanted.add(f"{query['symbol']}_{query['timeframe']}")
        return {"accepted": True}

    def delete(self, path: str, timeout_s: float = 5.0, **query: str) -> dict:  # noqa: ARG002
        if path == "/streams":
            self.deleted.append(f"{query['symbol']}_{query['timeframe']}")
            self.wanted.discard(self.deleted[-1])
        return {"accepted": True}

    def request(self, shape, method: str, path: str, timeout_s: float = 5.0, **query: str):
        if path != "/streams":
            return super().request(shape, method, path, timeout_s, **query)
        after = int(query.get("after", "0"))
        with self.changed:
            if query.get("run"):
                self.changed.wait_for(lambda: len(self.finished) > after or self.is_over, 5)
            if self.is_over:
                raise PeerDown("over")
            self.handed = len(self.finished)
            since = datetime.fromtimestamp(BEGIN, UTC)
            states = [StreamStatus(one, "open", since, self.last_update) for one in self.wanted]
            message = StreamsMessage(
                "first", len(self.finished), False, self.most_streams, self.gateway,
                tuple(self.finished[after:]), tuple(states),
            )  # fmt: skip
        return from_text(shape, to_text(message))


@pytest.fixture
def connection():
    made = Streaming()
    yield made
    with made.changed:
        made.is_over = True
        made.changed.notify_all()


@pytest.fixture
def live(make_filler, connection, clock, wait_for):
    """A gap filler with streams, once its store is complete."""
    clock.now = BEGIN
    fillers = []

    def start(**settings):
        filler = make_filler(ktrdr_gap_check_interval_s=86400, **settings)
        fillers.append(filler)
        fill(filler)
        filler.live.start()
        wait_for(lambda: fill(filler) or choose(filler, connection, clock))
        return filler

    yield start
    for filler in fillers:
        filler.live.stop()


def choose(filler, connection, clock) -> bool:
    """Let the gap filler choose anew, which it does from time to time."""
    clock.now += 0.01
    if not connection.posted:
        filler.live._choose_at = 0.0
    return bool(connection.posted)


def comes(filler, connection, wait_for, series, start, bar=None) -> None:
    """A bar comes from a stream, and reaches the gap filler."""
    connection.push(series, start, bar)
    wait_for(lambda: not filler.wait() and connection.handed == len(connection.finished))
    fill(filler)


def minute(text: str) -> int:
    return utc(f"2026-11-20 {text}")


def test_a_streamed_bar_is_stored_a_second_after_its_end(put, live, connection, clock, wait_for):
    path = put("AAPL_1m")
    filler = live()
    requested = len(connection.requested)
    clock.now = minute("11:01:00") + 0.5
    connection.push("AAPL_1m", minute("11:00"))
    wait_for(lambda: connection.handed == 1)
    fill(filler)
    assert starts_in(path)[-1] == minute("10:59")
    clock.now = minute("11:01:01")
    wait_for(lambda: fill(filler) or starts_in(path)[-1] == minute("11:00"))
    assert len(connection.requested) == requested
    assert filler.status.gaps_remaining == 0
    assert filler.status.streams == ("AAPL_1m",)


def test_it_is_told_of_each_series_how_its_newest_bars_come(put, live):
    for name in ("AAPL_1m", "AAPL_1d"):
        put(name)
    told = {one["timeframe"]: one for one in coverage_of(live())["series"]}
    assert [told[name]["kept_new_by"] for name in ("1m", "1d")] == ["stream", "requests"]
    assert told["1m"]["next_due"] == "2026-11-20T11:01:01+00:00"


def test_what_lies_between_is_requested_first(put, live, connection, clock, wait_for):
    path = put("AAPL_1m")
    filler = live()
    clock.now = minute("11:03:02")
    comes(filler, connection, wait_for, "AAPL_1m", minute("11:02"))
    wait_for(lambda: fill(filler) or starts_in(path)[-1] == minute("11:02"))
    assert starts_in(path)[-3:] == [minute("11:00"), minute("11:01"), minute("11:02")]
    assert connection.requested[-1][2:] == (minute("11:00"), minute("11:03"))


def test_a_bar_that_does_not_come_is_requested(put, live, connection, clock):
    path = put("AAPL_1m")
    filler = live()
    clock.now = minute("11:01:03")
    fill(filler)
    assert starts_in(path)[-1] == minute("10:59")
    clock.now = minute("11:01:04")
    fill(filler)
    assert starts_in(path)[-1] == minute("11:00")
    assert not [one for one in connection.posted if "overdue" in one]


def test_what_a_stream_has_not_brought_is_requested_before_what_has_waited_longer(
    put, live, connection, clock
):
    connection.most_streams = 1
    for name in ("AAPL_1m", "MSFT_1m", "TSLA_1m"):
        put(name)
    filler = live(ktrdr_gap_batch_symbols=1)
    assert filler.status.streams == ("AAPL_1m",)
    for seconds in (3, 5):
        clock.now = minute("11:01:00") + seconds
        fill(filler)
    assert [one[0] for one in connection.requested[-3:]] == ["MSFT", "TSLA", "AAPL"]
    clock.now = minute("11:02:05")
    fill(filler)
    assert [one[0] for one in connection.requested[-3:]] == ["AAPL", "MSFT", "TSLA"]


def test_streamed_series_are_looked_at_first_when_many_are_due(put, live, connection, clock):
    connection.most_streams = 1
    for number in range(50):
        put(f"S{number:02}_5m")
    put("TSLA_1m")
    filler = live(ktrdr_gap_batch_symbols=50)
    assert filler.status.streams == ("TSLA_1m",)
    requested = len(connection.requested)
    clock.now = minute("11:05:05")
    assert filler.step()
    symbols = [one[0] for one in connection.requested[requested:]]
    assert "TSLA" in symbols
    assert len(symbols) < 51


def test_bars_of_quick_streams_are_not_waited_for_so_long(put, live, connection, clock, wait_for):
    names = ("AAPL_1m", "MSFT_1m")
    paths = [put(name) for name in names]
    filler = live()
    for start in range(minute("11:00"), minute("11:45"), 60):
        clock.now = start + 60.2
        for name in names:
            comes(filler, connection, wait_for, name, start)
        clock.now = start + 61.0
        fill(filler)
        assert [starts_in(path)[-1] for path in paths] == [start] * 2
    for seconds, is_there in ((1.4, False), (2.0, True)):
        clock.now = minute("11:46") + seconds
        fill(filler)
        assert (starts_in(paths[0])[-1] == minute("11:45")) is is_there


@pytest.mark.parametrize("is_alive", [False, True])
def test_a_stream_that_died_silently_is_opened_anew(
    put, live, connection, clock, wait_for, is_alive
):
    put("AAPL_1m")
    if is_alive:
        connection.last_update = datetime(2026, 11, 20, 11, 1, 30, tzinfo=UTC)
    filler = live()
    comes(filler, connection, wait_for, "MSFT_1m", minute("10:00"))  # with the states of now
    for end in ("11:01", "11:02"):
        clock.now = minute(end) + 4
        fill(filler)
    assert [one["symbol"] for one in connection.posted if one.get("overdue")] == (
        [] if is_alive else ["AAPL"]
    )


def test_what_was_streamed_is_compared_with_what_ib_has_later(
    put, live, connection, clock, wait_for
):
    path = put("AAPL_1m")
    filler = live()
    wrong = price(minute("11:05"))._replace(volume=1)
    for number in range(30):
        start = minute("11:00") + 60 * number
        clock.now = start + 61.0
        connection.push("AAPL_1m", start, wrong if start == wrong.start else None)
        wait_for(lambda start=start: fill(filler) or starts_in(path)[-1] == start)
    fill(filler)
    assert connection.requested[-1] == ("AAPL", "1m", minute("11:00"), minute("11:30"))
    assert connection.priorities[-1] == "backfill"
    (line,) = [one for one in path.read_text().splitlines() if "2026-11-20 11:05:00" in one]
    assert line.endswith(f",{int(price(wrong.start).volume)}")


def test_the_shortest_bars_are_streamed_within_the_budget(put, live):
    for name in ("AAPL_1d", "AAPL_5m", "MSFT_1m", "AAPL_1m", "MSFT_1h", "NVDA_1m", "SPY_1m"):
        put(name)
    filler = live()
    assert filler.status.streams == ("AAPL_1m", "MSFT_1m", "NVDA_1m")


def test_a_stream_that_brings_little_makes_room_for_an_hour(put, live, connection, clock, wait_for):
    names = ("AAPL_1m", "MSFT_1m", "NVDA_1m", "SPY_1m")
    paths = [put(name) for name in names]
    filler = live()
    for number in range(20):
        start = minute("11:00") + 60 * number
        clock.now = start + 61.0
        for name, path in zip(names[:2], paths, strict=False):
            connection.push(name, start)
            wait_for(lambda at=start, path=path: fill(filler) or starts_in(path)[-1] == at)
        clock.now = start + 64.5
        fill(filler)
        assert {starts_in(path)[-1] for path in paths} == {start}
    clock.now += 15
    fill(filler)
    assert filler.status.streams == ("AAPL_1m", "MSFT_1m", "SPY_1m")
    assert connection.deleted == ["NVDA_1m"]


def test_live_false_leaves_a_series_to_requests(put, live, data_dir):
    (data_dir / "instruments.toml").write_text(
        '[AAPL]\nlive = false\n[MSFT]\nlive = { "1m" = false }\n'
    )
    for name in ("AAPL_1m", "MSFT_1m", "MSFT_5m"):
        put(name)
    assert live().status.streams == ("MSFT_5m",)


def test_streams_are_given_up_after_the_close(put, live, connection, clock):
    put("AAPL_1m")
    filler = live()
    clock.now = minute("12:20")
    fill(filler)
    clock.now += 20
    fill(filler)
    assert connection.deleted == ["AAPL_1m"]
    assert filler.status.streams == ()


def test_bars_of_the_other_source_are_not_stored(put, live, connection, clock, wait_for):
    path = put("AAPL_1m")
    filler = live()
    connection.gateway = "live"
    clock.now = minute("11:01:02")
    comes(filler, connection, wait_for, "AAPL_1m", minute("11:00"))
    assert starts_in(path)[-1] == minute("10:59")


def test_a_bar_that_cannot_be_right_is_requested(put, live, connection, clock, wait_for, caplog):
    path = put("AAPL_1m")
    filler = live()
    clock.now = minute("11:01:02")
    wrong = price(minute("11:00"))._replace(high=1.0)
    comes(filler, connection, wait_for, "AAPL_1m", minute("11:00"), wrong)
    assert starts_in(path)[-1] == minute("10:59")
    assert "AAPL_1m: its stream has finished an invalid bar" in caplog.text
    clock.now = minute("11:01:04")
    fill(filler)
    assert starts_in(path)[-1] == minute("11:00")


def test_without_ib_connection_bars_are_requested_when_they_are_due(
    put, live, connection, clock, wait_for
):
    path = put("AAPL_1m")
    filler = live()
    assert filler.status.streams == ("AAPL_1m",)
    with connection.changed:
        connection.is_over = True
        connection.changed.notify_all()
    wait_for(lambda: filler.live._reader.last is None)
    clock.now = minute("11:01:02")
    fill(filler)
    clock.now += 0.1
    fill(filler)
    assert filler.status.streams == ()
    assert starts_in(path)[-1] == minute("11:00")
