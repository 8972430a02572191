import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime

import pandas as pd
import pytest

from ktrdr.completeness.gaps import Gap
from ktrdr.completeness.grids import Grid
from ktrdr.data.data_manager import DataManager
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager
from ktrdr.data.ib_connection_manager import routes as connection_routes
from ktrdr.errors import InvalidRequest, MalformedFile, UnknownSeries
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import contract_name, instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.market.market import GeneratedMarket, truth
from tests.fake_connection import line, price, utc

HEADER = "timestamp,open,high,low,close,volume\n"
FIRST = utc("2026-11-18 10:00")


@pytest.fixture
def manager(make_settings):
    return DataManager(make_settings())


@pytest.fixture
def path(data_dir):
    """Ten minutes of a series."""
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + "".join(line(price(FIRST + 60 * i)) for i in range(10)))
    return path


@pytest.mark.usefixtures("path")
def test_local_bars_come_as_a_frame_in_utc(manager):
    frame = manager.load("AAPL", "1m")
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert frame.index.name == "timestamp"
    assert str(frame.index.tz) == "UTC"
    assert len(frame) == 10
    assert tuple(frame.iloc[3]) == price(FIRST + 180)[1:]
    assert frame.index[3] == pd.Timestamp("2026-11-18 10:03", tz="UTC")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("start", "end", "bars"),
    [
        ("2026-11-18 10:02", "2026-11-18 10:05", 3),
        ("2026-11-18", "2026-11-19", 10),
        (date(2026, 11, 19), None, 0),
        (datetime(2026, 11, 18, 10, 8, tzinfo=UTC), None, 2),
        (pd.Timestamp("2026-11-18 05:08", tz="America/New_York"), None, 2),
        (None, "2026-11-18T10:01:00Z", 1),
        ("2026-11-18 10:01:00.5", "2026-11-18 10:02", 0),
    ],
)
def test_a_window_has_its_start_and_not_its_end(manager, start, end, bars):
    assert len(manager.load("AAPL", "1m", start, end)) == bars


def test_values_are_those_of_the_file_to_the_last_digit(manager, data_dir):
    (data_dir / "X_1m.csv").write_text(
        HEADER + "2026-11-18 10:00:00+00:00,0.30000000000000004,1e300,5e-324,92.58,-1\n"
    )
    row = manager.load("X", "1m").iloc[0]
    assert list(row) == [0.1 + 0.2, 1e300, 5e-324, 92.58, -1]


@pytest.mark.usefixtures("path")
def test_with_nobody_to_ask_it_serves_local_bars_and_says_so(manager):
    local = manager.load("AAPL", "1m")
    requested = manager.load("AAPL", "1m", "2026-11-18", "2026-11-20", fetch=True)
    for frame, program in ((local, "gap-filler"), (requested, "ib-connection")):
        assert len(frame) == 10
        assert frame.attrs["complete"] is False
        assert f"{program} is not running" in frame.attrs["why"]


def test_a_line_that_does_not_end_is_not_read(manager, path):
    path.write_text(path.read_text() + "2026-11-18 10:10:00+00:00,1,1")
    assert len(manager.load("AAPL", "1m")) == 10


def test_further_columns_and_another_order_are_no_matter(manager, data_dir):
    (data_dir / "X_1m.csv").write_text(
        "wap,close,low,high,open,timestamp,volume,note\n"
        "9,4,1,5,2,2026-11-18 10:00:00+00:00,7,hello\n"
    )
    frame = manager.load("X", "1m")
    assert list(frame.iloc[0]) == [2, 5, 1, 4, 7]


def test_a_quotation_mark_in_a_further_column_is_text_like_any_other(manager, data_dir):
    (data_dir / "X_1m.csv").write_text(
        HEADER[:-1]
        + ",note\n"
        + "".join(line(price(FIRST + 60 * i))[:-1] + ',"\n' for i in range(3))
    )
    assert tuple(manager.load("X", "1m").iloc[1]) == price(FIRST + 60)[1:]


@pytest.mark.parametrize("value", ["1.2.3", "1-2"])
def test_what_is_no_number_is_named_with_its_row(manager, path, value):
    path.write_text(path.read_text() + f"2026-11-18 10:10:00+00:00,{value},1,1,1,1\n")
    with pytest.raises(MalformedFile, match=f"2026-11-18 10:10:00.*{value}.*numbers"):
        manager.load("AAPL", "1m")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("../../etc/passwd", "1m"), "passwd"),
        (("AAPL", "2m"), "2m"),
        (("AAPL", "1m", "yesterday noon"), "start"),
        (("AAPL", "1m", None, "2026-13-01"), "end"),
        (("AAPL", "1m", "2026-11-20", "2026-11-19"), "before"),
    ],
)
def test_a_question_that_cannot_be_is_named(manager, arguments, named):
    with pytest.raises(InvalidRequest, match=named):
        manager.load(*arguments)


def test_a_series_that_is_not_there_is_named(manager):
    with pytest.raises(UnknownSeries, match=r"has no MSFT_1h\.csv"):
        manager.load("MSFT", "1h")


def test_a_series_whose_file_has_another_name_is_named_with_it(manager, data_dir):
    (data_dir / "MSFT-1h.csv").touch()
    with pytest.raises(UnknownSeries) as raised:
        manager.load("MSFT", "1h")
    assert raised.value.hint == "rename 'MSFT-1h.csv' to MSFT_1h.csv"


@pytest.mark.parametrize(
    ("symbol", "timeframe", "hint"),
    [
        ("aapl", "1m", "did you mean AAPL?"),
        ("AAPL", "4h", "AAPL is there in 1m; to have it kept: ktrdr watch add AAPL 4h"),
        ("BRK B", "1d", "to have it kept: ktrdr watch add 'BRK B' 1d"),
    ],
)
def test_the_error_of_a_series_that_is_not_there_has_the_next_step(
    manager, data_dir, symbol, timeframe, hint
):
    for path in data_dir.glob("*.csv"):
        path.unlink()
    (data_dir / "AAPL_1m.csv").write_text(HEADER)
    with pytest.raises(UnknownSeries) as caught:
        manager.load(symbol, timeframe)
    assert caught.value.hint == hint
    assert str(caught.value).endswith(f"next step: {hint}")


@pytest.mark.parametrize("note", ["", ",x"])
@pytest.mark.parametrize("cell", ["nan", "", "inf", "null"])
def test_a_row_that_lacks_a_value_is_no_bar(manager, data_dir, cell, note):
    """Also where other columns have text, and the same words there mean nothing."""
    times = [f"2026-11-20 14:3{minute}:00+00:00" for minute in range(3)]
    values = ["1,1,1,1,1", f"1,1,{cell},1,1", "1,1,1,1,1"]
    rows = [f"{time},{one}{note}\n" for time, one in zip(times, values, strict=True)]
    header = HEADER.replace("\n", ",note\n") if note else HEADER
    (data_dir / "X_1m.csv").write_text(header + "".join(rows))
    frame = manager.load("X", "1m")
    assert [str(time) for time in frame.index] == [times[0], times[2]]
    assert not frame.isna().to_numpy().any()


def test_a_broken_file_is_named(manager, data_dir):
    (data_dir / "X_1m.csv").write_text(HEADER + "x,1\n")
    with pytest.raises(MalformedFile, match=r"X_1m\.csv line 2"):
        manager.load("X", "1m")


@pytest.fixture
def group(make_settings, wait_for):
    """A simulated gateway and a connection to it, as ib-connection serves it."""
    with running_gateway() as gateway:
        settings = make_settings(ktrdr_sim_port=gateway.port)
        connection = PersistentIbConnectionManager(settings)
        connection.start()
        server = LocalServer(settings.connection_socket, connection_routes(connection))
        try:
            with serving(server):
                wait_for(lambda: connection.is_connected)
                yield gateway
        finally:
            connection.stop()


WEEK = ("2026-11-09", "2026-11-14")


@pytest.mark.parametrize("timeframe", ["1m", "1h", "4h", "1d"])
@pytest.mark.usefixtures("group")
def test_what_the_store_lacks_is_fetched(manager, timeframe):
    frame = manager.load("AAPL", timeframe, *WEEK, fetch=True)
    rows = [(int(t.timestamp()), *values) for t, *values in frame.itertuples()]
    assert rows == [tuple(row) for row in truth("AAPL", timeframe, *map(utc, WEEK))]
    assert frame.attrs["complete"] is True


def test_only_what_is_missing_is_asked_for(manager, group, data_dir, wait_for):
    there = truth("AAPL", "1m", *map(utc, WEEK))
    lines = [
        f"{datetime.fromtimestamp(row[0], UTC).isoformat(' ')},{','.join(map(repr, row[1:]))}\n"
        for row in there
    ]
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + "".join(lines[:500] + lines[520:]))
    before = path.read_bytes()
    frame = manager.load("AAPL", "1m", *WEEK, fetch=True)
    assert len(frame) == len(there)
    assert frame.index.is_monotonic_increasing
    assert path.read_bytes() == before

    def minutes_that_were(event):
        return [e for e in group.record if (e.get("bar_size"), e["event"]) == ("1 min", event)]

    assert len(minutes_that_were("received")) == 1
    (answered,) = wait_for(lambda: minutes_that_were("answered"))  # noted after it was sent
    assert answered["bars"] < 60


def test_an_answer_without_bars_makes_nothing_complete(manager, group):
    with group.fault("false_no_data"):
        frame = manager.load("AAPL", "1m", *WEEK, fetch=True)
    assert (len(frame), frame.attrs["complete"]) == (0, False)
    assert "bars are missing" in frame.attrs["why"]
    assert frame.attrs["source"] == "simulated"
    whole = manager.load("AAPL", "1m", *WEEK, fetch=True)
    assert (whole.attrs["complete"], whole.attrs["source"]) == (True, "simulated")


@pytest.mark.usefixtures("group")
def test_sessions_that_are_not_told_make_nothing_complete(manager, group):
    with group.fault("cut_schedule", lost="all"):
        frame = manager.load("AAPL", "1h", *WEEK, fetch=True)
    assert frame.attrs["complete"] is False
    assert manager.load("AAPL", "1h", *WEEK, fetch=True).attrs["complete"] is True


def test_bars_that_begin_at_other_minutes_make_nothing_complete(manager, group, data_dir):
    with group.fault("other_grid", minutes=30):
        frame = manager.load("AAPL", "1h", *WEEK, fetch=True)
        assert (len(frame), frame.attrs["complete"]) == (0, False)
        assert frame.attrs["why"] == (
            "IB's bars begin at other minutes than expected "
            "(09:30, 10:30, 11:30 …, expected 09:30, 10:00, 11:00 …)"
        )
        learn(data_dir, Timeframe.H1, Grid(30))
        learnt = manager.load("AAPL", "1h", *WEEK, fetch=True)
        assert (len(learnt), learnt.attrs["complete"]) == (35, True)
        assert {f"{start:%M}" for start in learnt.index} == {"30"}


def learn(data_dir, timeframe, grid):
    ledger = Ledger(data_dir / ".ktrdr" / "ledger.sqlite")
    ledger.contracts.keep_grid(contract_name(instrument_for("AAPL")), timeframe, grid)
    ledger.close()


def test_larger_bars_begin_where_the_gap_filler_has_learnt(manager, data_dir):
    rows = truth("AAPL", "5m", *map(utc, WEEK))
    (data_dir / "AAPL_5m.csv").write_text(HEADER + "".join(line(Bar(*row)) for row in rows))
    learn(data_dir, Timeframe.H1, Grid(30))
    hours = manager.resample("AAPL", "5m", "1h", *WEEK)
    market = GeneratedMarket(1)
    contract = market.named("AAPL", date(2026, 11, 14))
    wanted = market.truth(contract, Timeframe.H1, *map(utc, WEEK), shift_s=1800)
    assert [(int(t.timestamp()), *values) for t, *values in hours.itertuples()] == [
        tuple(row) for row in wanted
    ]


def test_what_is_known_to_be_absent_is_not_asked_for(manager, group, data_dir):
    absent = [bar[0] for bar in truth("AAPL", "1m", *map(utc, WEEK))][30:40]
    ledger = Ledger(data_dir / ".ktrdr" / "ledger.sqlite")
    name = f"AAPL_1m {contract_name(instrument_for('AAPL'))}"
    now = int(datetime.now(UTC).timestamp())
    ledger.absences.record_absent(name, [Gap(absent[0], absent[-1], len(absent))], now)
    ledger.close()
    there = [bar for bar in truth("AAPL", "1m", *map(utc, WEEK)) if bar[0] not in absent]
    (data_dir / "AAPL_1m.csv").write_text(HEADER + "".join(line(Bar(*row)) for row in there))
    frame = manager.load("AAPL", "1m", *WEEK, fetch=True)
    assert (len(frame), frame.attrs["complete"]) == (len(there), True)
    assert not [e for e in group.record if e.get("bar_size") == "1 min"]


@pytest.mark.usefixtures("group")
def test_the_bar_that_is_still_forming_is_not_served(manager):
    frame = manager.load("BTCUSD", "1h", fetch=True)
    assert frame.attrs["complete"] is False
    today = datetime.now(UTC).date().isoformat()
    frame = manager.load("EURUSD", "1h", today, fetch=True)
    now = datetime.now(UTC)  # an hour may end while it is asked
    assert all(start + pd.Timedelta(hours=1) <= pd.Timestamp(now) for start in frame.index)


@pytest.mark.usefixtures("group")
def test_what_cannot_be_fetched_is_not_complete(manager):
    frame = manager.load("XYZZY", "1h", *WEEK, fetch=True)
    assert len(frame) == 0
    assert frame.attrs["complete"] is False
    assert "No security definition" in frame.attrs["why"]


@pytest.mark.usefixtures("group")
def test_bars_of_another_source_are_not_mixed_in(manager, data_dir, path):
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr" / "source").write_text("live\n")
    frame = manager.load("AAPL", "1m", *WEEK, fetch=True)
    assert len(frame) == 0
    assert "holds live bars" in frame.attrs["why"]
    assert len(manager.load("AAPL", "1m")) == 10
    assert path.exists()


def entry(path, **given):
    """What the gap filler says of a series: a hole of Tuesday, and a minute that IB has not."""
    status = path.stat()
    tuesday, wednesday = utc("2026-11-17 14:30"), utc("2026-11-18 14:30")
    return {
        "symbol": path.name.partition("_")[0],
        "timeframe": "1m",
        "file": path.name,
        "state": "filling",
        "expected": 30,
        "key": [status.st_size, status.st_mtime_ns, status.st_ino],
        "first": "2026-11-16T14:30:00+00:00",
        "from": "2026-11-16T00:00:00+00:00",
        "until": datetime.now(UTC).isoformat(),
        "gaps": [[tuesday, tuesday + 60, 2, "open"], [wednesday, wednesday, 1, "no_trades"]],
    } | given


@pytest.fixture
def told_of(make_settings):
    """A gap filler that says this of a series."""

    def told_of(said):
        async def coverage(query):
            assert f"{query['symbol']}_{query['timeframe']}" in ("AAPL_1m", "BTCUSD_1m")
            return {"series": [said]}

        routes = {("GET", "/coverage"): coverage}
        return serving(LocalServer(make_settings().gap_filler_socket, routes))

    return told_of


@pytest.mark.parametrize(
    ("start", "end", "said", "complete"),
    [
        ("2026-11-18", "2026-11-20", {}, True),
        ("2026-11-17 14:32", "2026-11-20", {}, True),
        ("2026-11-17 14:31", "2026-11-20", {}, False),
        ("2026-11-17", "2026-11-18", {}, False),
        ("2026-11-15", "2026-11-16 12:00", {}, False),
        ("2026-11-18", None, {}, True),
        (None, None, {}, False),
        ("2026-11-18", "2026-11-20", {"until": "2026-11-19T12:00:00+00:00"}, False),
        ("2026-11-18", None, {"until": "2026-11-19T12:00:00+00:00"}, False),
        ("2026-11-18", "2026-11-20", {"expected": None}, False),
        ("2026-11-18", "2026-11-20", {"key": [1, 2, 3]}, False),
        (None, None, {"gaps": []}, True),
        (None, None, {"gaps": [], "first": None}, True),
        (None, None, {"gaps": [], "first": "2026-11-13T20:59:00+00:00"}, False),
        ("1969-12-31", None, {"gaps": []}, False),
    ],
)
def test_complete_is_what_the_gap_filler_can_prove(
    manager, told_of, path, start, end, said, complete
):
    with told_of(entry(path, **said)):
        frame = manager.load("AAPL", "1m", start, end)
    assert frame.attrs["complete"] is complete
    assert bool(frame.attrs["why"]) is not complete


def test_a_gap_filler_of_another_version_proves_nothing(manager, told_of, path):
    with told_of(entry(path, gaps="none")):
        frame = manager.load("AAPL", "1m")
    assert not frame.attrs["complete"]
    assert "cannot be read (series.0.gaps: " in frame.attrs["why"]


@pytest.mark.usefixtures("path")
def test_several_symbols_come_side_by_side(manager, data_dir):
    (data_dir / "MSFT_1m.csv").write_text(
        HEADER + line(price(FIRST + 120)) + line(price(FIRST + 6000))
    )
    frame = manager.load(["AAPL", "MSFT"], "1m")
    assert list(frame.columns) == [
        (symbol, value)
        for symbol in ("AAPL", "MSFT")
        for value in ("open", "high", "low", "close", "volume")
    ]
    assert len(frame) == 11
    assert tuple(frame["MSFT"].dropna().iloc[0]) == price(FIRST + 120)[1:]
    assert frame["AAPL"]["close"].isna().sum() == 1
    assert frame.attrs["complete"] is False
    assert frame.attrs["why"].startswith("AAPL: ")
    with pytest.raises(UnknownSeries, match="NONE"):
        manager.load(["AAPL", "NONE"], "1m")
    with pytest.raises(InvalidRequest, match="no symbol"):
        manager.load([], "1m")


def test_a_frame_may_be_changed_and_the_next_is_as_in_the_file(manager, path):
    frame = manager.load("AAPL", "1m")
    frame["close"] = 0.0
    assert tuple(manager.load("AAPL", "1m").iloc[0]) == price(FIRST)[1:]
    path.write_text(HEADER + line(price(FIRST)))
    assert len(manager.load("AAPL", "1m")) == 1


@pytest.mark.usefixtures("path")
def test_a_row_out_of_order_far_from_what_is_asked_for_is_found(manager, data_dir):
    rows = [line(price(FIRST + 60 * i)) for i in range(4000)]
    (data_dir / "X_1m.csv").write_text(HEADER + "".join([*rows[:3000], rows[7], *rows[3000:]]))
    with pytest.raises(MalformedFile, match=r"X_1m.csv line 3002"):
        manager.load("X", "1m", FIRST_TEXT, "2026-11-18 10:03")


FIRST_TEXT = "2026-11-18 10:00"


@pytest.mark.parametrize("symbol", ["AAPL", "ESZ6", "EURUSD", "ILLIQ"])
@pytest.mark.parametrize(
    ("smaller", "larger"), [("1m", "5m"), ("1m", "1h"), ("5m", "30m"), ("15m", "1d")]
)
def test_larger_bars_are_those_that_the_market_has(manager, data_dir, symbol, smaller, larger):
    rows = truth(symbol, smaller, *map(utc, ("2026-10-25", "2026-11-14")))
    (data_dir / f"{symbol}_{smaller}.csv").write_text(HEADER + "".join(map(line, rows)))
    frame = manager.resample(symbol, smaller, larger, "2026-10-27", "2026-11-13")
    found = [(int(t.timestamp()), *values) for t, *values in frame.itertuples()]
    expected = [
        tuple(row) for row in truth(symbol, larger, *map(utc, ("2026-10-27", "2026-11-13")))
    ]
    assert found == expected


def test_a_larger_bar_that_still_forms_is_left_out(manager, data_dir):
    now = int(datetime.now(UTC).timestamp())
    hour = now - now % 3600
    # Around the clock: no session opens in the middle of an hour, whenever this runs.
    (data_dir / "instruments.toml").write_text('[BTCUSD]\nsec_type = "CRYPTO"\n')
    (data_dir / "BTCUSD_1m.csv").write_text(
        HEADER + "".join(line(price(t)) for t in range(hour - 7200, now - 60, 60))
    )
    frame = manager.resample("BTCUSD", "1m", "1h")
    assert [int(t.timestamp()) for t in frame.index] == [hour - 7200, hour - 3600]
    with pytest.raises(InvalidRequest, match="expected more than 1m"):
        manager.resample("BTCUSD", "1m", "1m")


def test_a_larger_bar_is_made_of_what_was_known_when_it_was_over(manager, data_dir, told_of):
    now = int(datetime.now(UTC).timestamp())
    five = now - now % 300
    path = data_dir / "BTCUSD_1m.csv"
    path.write_text(HEADER + "".join(line(price(t)) for t in range(five - 900, five - 120, 60)))
    known = datetime.fromtimestamp(five - 110, UTC).isoformat()
    earlier = datetime.fromtimestamp(five - 86400, UTC).isoformat()
    with told_of(entry(path, until=known, gaps=[], **{"from": earlier})):
        start = datetime.fromtimestamp(five - 900, UTC)
        frame = manager.resample("BTCUSD", "1m", "5m", start)
    assert [int(t.timestamp()) for t in frame.index] == [five - 900, five - 600]


def test_bars_from_before_1970_are_bars(manager, data_dir):
    rows = [f"{year}-03-03 00:00:00+00:00,1,1,1,1,1\n" for year in (1928, 1969, 1971)]
    (data_dir / "SPX_1d.csv").write_text(HEADER + "".join(rows))
    assert list(manager.load("SPX", "1d").index.year) == [1928, 1969, 1971]
    assert list(manager.load("SPX", "1d", "1960-01-01", "1970-01-01").index.year) == [1969]


def test_what_is_written_within_the_clocks_tick_is_seen(manager, path):
    old, new = line(price(FIRST)), line(price(FIRST)).replace("107.", "907.")
    not_before = time.time_ns() + 3_600_000_000_000  # however slow the machine is
    os.utime(path, ns=(not_before, not_before))
    assert manager.load("AAPL", "1m").iloc[0]["open"] == price(FIRST).open
    with path.open("r+b") as file:
        file.write(path.read_text().replace(old, new).encode())
    os.utime(path, ns=(not_before, not_before))
    assert manager.load("AAPL", "1m").iloc[0]["open"] == price(FIRST).open + 800


@pytest.mark.usefixtures("group")
def test_a_long_fetch_says_how_far_it_is(manager):
    received = []
    manager.load(
        "AAPL",
        "1m",
        "2026-10-01",
        "2026-11-14",
        fetch=True,
        progress=lambda *at: received.append(at),
    )
    done, total = zip(*received, strict=True)
    assert list(done) == list(range(total[0] + 1))
    assert set(total) == {total[0]}
    assert total[0] > 1


@pytest.mark.usefixtures("group")
def test_bars_of_several_requests_come_in_order(manager):
    frame = manager.load("AAPL", "1m", "2026-10-26", "2026-11-14", fetch=True)
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique
    assert frame.attrs["complete"] is True


@pytest.mark.usefixtures("bare_environment")
@pytest.mark.parametrize(("source", "times"), [("simulated", 1), ("live", 0)])
def test_who_says_nothing_hears_that_prices_are_invented(
    data_dir, scratch, monkeypatch, source, times
):
    monkeypatch.setenv("KTRDR_DATA_DIR", str(data_dir))
    monkeypatch.setenv("KTRDR_RUN_DIR", str(scratch / "run"))
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr" / "source").write_text(source)
    code = "from ktrdr.data.data_manager import DataManager as D; D(); print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
    assert done.stderr.count(f"SIMULATED: the prices in {data_dir} are invented") == times
