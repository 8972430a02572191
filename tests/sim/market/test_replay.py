import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from ib_insync import Contract, Forex, Stock
from ib_insync.wrapper import RequestError

from ktrdr.errors import Misconfigured
from ktrdr.sim.market.market import truth
from ktrdr.sim.market.replay import export, read_replay

NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
USDJPY = Forex("USDJPY")
EUR_FUTURE = Contract(secType="FUT", localSymbol="6EH4", exchange="CME")
HEADER = "timestamp,open,high,low,close,volume\n"


def wall(text):
    """The wall clock's text without its zone."""
    return text.replace(tzinfo=None)


def all_bars(with_client, folder, contract, size, what, rth, duration="1 Y", **options):
    async def work(client, _):
        return await client.reqHistoricalDataAsync(contract, "", duration, size, what, rth, 2)

    return list(with_client(work, replay=folder, **options))


def original(path, zone):
    """(wall clock, open, high, low, close, volume) of each line, read by other means."""
    frame = pd.read_csv(path, parse_dates=["timestamp"])
    stamps = frame.pop("timestamp").dt.tz_convert(zone)
    return [
        (wall(s.to_pydatetime()), *row)
        for s, row in zip(stamps, frame.to_numpy().tolist(), strict=True)
    ]


def served(bars, zone):
    return [(wall(b.date.astimezone(zone)), b.open, b.high, b.low, b.close, b.volume) for b in bars]


@pytest.mark.parametrize(
    ("name", "contract", "what", "zone", "size"),
    [
        ("USDJPY_1m", USDJPY, "MIDPOINT", NEW_YORK, "1 min"),
        ("6EH4_1m", EUR_FUTURE, "TRADES", CHICAGO, "1 min"),
        ("EURUSD_1h", Forex("EURUSD"), "MIDPOINT", NEW_YORK, "1 hour"),
    ],
)
def test_real_bars_come_back_at_their_time_of_the_week_to_the_last_digit(
    with_client, shared_data, name, contract, what, zone, size
):
    known = original(shared_data / f"{name}.csv", zone)
    got = served(all_bars(with_client, shared_data, contract, size, what, False), zone)
    assert len(got) == len(known)
    moved = got[0][0] - known[0][0]
    assert moved % timedelta(weeks=1) == timedelta(0)
    assert [row[0] - moved for row in got] == [row[0] for row in known]
    assert [row[1:5] for row in got] == [row[1:5] for row in known]
    volumes = [-1.0] * len(known) if what == "MIDPOINT" else [row[5] for row in known]
    assert [row[5] for row in got] == volumes
    this_week = datetime(2026, 11, 23)  # noqa: DTZ001  a wall clock
    assert this_week - timedelta(weeks=1) <= got[-1][0] < this_week


def test_real_days_of_a_stock_come_back_on_their_days_of_the_week(with_client, shared_data):
    frame = pd.read_csv(shared_data / "GOOG_1d.csv")
    goog = Stock("GOOG", "SMART", "USD")
    got = all_bars(with_client, shared_data, goog, "1 day", "TRADES", True, "20 Y")
    moved = got[0].date - date.fromisoformat(frame.timestamp[0][:10])
    assert moved % timedelta(weeks=1) == timedelta(0)
    assert [(str(b.date - moved), b.close, b.volume) for b in got] == [
        (row.timestamp[:10], row.close, row.volume) for row in frame.itertuples()
    ]


@pytest.mark.parametrize(
    ("contract", "days"), [(USDJPY, 30), (EUR_FUTURE, 30), (Forex("EURUSD"), 300)], ids=str
)
def test_every_real_bar_lies_in_a_session_of_the_schedule(with_client, shared_data, contract, days):
    what = "TRADES" if contract.secType == "FUT" else "MIDPOINT"
    size = "1 hour" if contract.symbol == "EUR" and contract.secType == "CASH" else "1 min"
    bars = all_bars(with_client, shared_data, contract, size, what, False)

    async def work(client, _):
        return await client.reqHistoricalScheduleAsync(contract, days, "", False)

    schedule = with_client(work, replay=shared_data)
    zone = ZoneInfo(schedule.timeZone)
    edges = [
        tuple(
            datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=zone)
            for text in (s.startDateTime, s.endDateTime)
        )
        for s in schedule.sessions
    ]
    assert all(a[1] <= b[0] for a, b in pairwise(edges))
    sessions = iter(edges)
    opens, closes = next(sessions)
    for bar in bars:
        while bar.date >= closes:
            opens, closes = next(sessions)
        assert opens <= bar.date < closes


def test_larger_real_bars_are_sums_of_the_minutes_that_there_are(with_client, shared_data):
    path = shared_data / "6EH4_1m.csv"
    frame = pd.read_csv(path, parse_dates=["timestamp"], index_col="timestamp")
    frame.index = frame.index.tz_convert(CHICAGO)
    for size, rule in (("5 mins", "5min"), ("1 hour", "1h")):
        known = frame.resample(rule).agg(
            {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        ).dropna()  # fmt: skip
        got = all_bars(with_client, shared_data, EUR_FUTURE, size, "TRADES", False)
        rows = [(b.open, b.high, b.low, b.close, b.volume) for b in got]
        assert rows == [tuple(row) for row in known.to_numpy().tolist()]


def test_a_shifted_future_expires_as_long_after_its_bars_as_it_did(with_client, shared_data):
    async def work(client, _):
        return await client.reqContractDetailsAsync(EUR_FUTURE)

    (found,) = with_client(work, replay=shared_data)
    expiry = datetime.strptime(found.contract.lastTradeDateOrContractMonth, "%Y%m%d").date()  # noqa: DTZ007
    last = all_bars(with_client, shared_data, EUR_FUTURE, "1 min", "TRADES", False)[-1].date.date()
    assert expiry - last == date(2024, 3, 15) - date(2024, 1, 31)
    assert found.contract.localSymbol == "6EH4"


def write(folder, name, rows):
    lines = (
        f"{stamp}:00+00:00,{price},{price},{price},{price},{volume}"
        for stamp, price, volume in rows
    )
    (folder / name).write_text(HEADER + "\n".join(lines) + "\n")


def minutes(first, count, price=50.0, skip=()):
    begin = datetime.fromisoformat(first)
    return [
        (f"{begin + timedelta(minutes=n):%Y-%m-%d %H:%M}", price + n / 100, 100 + n)
        for n in range(count)
        if n not in skip
    ]


def test_minutes_missing_in_the_file_do_not_exist(with_client, tmp_path):
    write(tmp_path, "XYZ_1m.csv", minutes("2025-11-20 14:30", 390, skip=range(60, 120)))
    xyz = Stock("XYZ", "SMART", "USD")
    got = all_bars(with_client, tmp_path, xyz, "1 min", "TRADES", True)
    assert len(got) == 330
    half_hours = all_bars(with_client, tmp_path, xyz, "30 mins", "TRADES", True)
    assert [f"{b.date:%H:%M}" for b in half_hours] == [
        "14:30", "15:00", "16:30", "17:00", "17:30", "18:00", "18:30", "19:00", "19:30", "20:00",
        "20:30",
    ]  # fmt: skip

    async def work(client, _):
        end = got[59].date + timedelta(minutes=31)
        await client.reqHistoricalDataAsync(xyz, end, "1800 S", "1 min", "TRADES", True)

    with pytest.raises(RequestError, match="HMDS query returned no data: XYZ@SMART Trades"):
        with_client(work, replay=tmp_path)


def test_a_half_day_stays_a_half_day_wherever_it_is_shifted(with_client, tmp_path):
    # 2025-11-28 closed at 13:00; 2026-11-20, to which it moves, did not.
    write(tmp_path, "XYZ_1m.csv", minutes("2025-11-28 14:30", 210))

    async def work(client, _):
        return await client.reqHistoricalScheduleAsync(Stock("XYZ", "SMART", "USD"), 1, "")

    (session,) = with_client(
        work, replay=tmp_path, now=datetime(2026, 11, 23, 12, tzinfo=UTC)
    ).sessions
    assert (session.startDateTime, session.endDateTime) == (
        "20261120-09:30:00",
        "20261120-13:00:00",
    )


def test_bars_keep_their_time_of_day_over_daylight_saving(with_client, tmp_path):
    # 10:30 in New York: 14:30 UTC in October, 15:30 UTC in November.
    write(tmp_path, "XYZ_1m.csv", [("2025-10-31 14:30", 5.0, 1), ("2025-11-03 15:30", 6.0, 1)])
    at = datetime(2026, 7, 15, 12, tzinfo=UTC)
    got = all_bars(
        with_client, tmp_path, Stock("XYZ", "SMART", "USD"), "1 min", "TRADES", True, now=at
    )
    assert [f"{b.date:%m-%d %H:%M}" for b in got] == ["07-03 14:30", "07-06 14:30"]


def test_a_bar_outside_every_session_extends_its_days_session(with_client, tmp_path):
    rows = [("2025-11-18 22:05", 150.0, -1), ("2025-11-18 23:00", 150.5, -1)]  # 17:05 and 18:00
    write(tmp_path, "USDJPY_1m.csv", rows)

    async def work(client, _):
        return await client.reqHistoricalScheduleAsync(USDJPY, 10, "")

    sessions = {s.refDate: s for s in with_client(work, replay=tmp_path).sessions}
    assert sessions["20261118"].startDateTime == "20261117-17:05:00"
    assert sessions["20261119"].startDateTime == "20261118-17:15:00"


def test_bars_that_end_this_week_are_moved_back_and_todays_are_from_last_week(
    with_client, tmp_path
):
    write(tmp_path, "XYZ_1m.csv", minutes("2026-11-23 14:30", 10))
    got = all_bars(with_client, tmp_path, Stock("XYZ", "SMART", "USD"), "1 min", "TRADES", True)
    assert f"{got[0].date:%Y-%m-%d %H:%M}" == "2026-11-16 14:30"


def test_a_symbol_serves_its_smallest_file_and_nothing_smaller(with_client, tmp_path):
    write(tmp_path, "XYZ_1h.csv", [("2026-11-19 14:30", 5.0, 7), ("2026-11-19 15:00", 6.0, 8)])
    write(tmp_path, "XYZ_1d.csv", [("2026-11-19 00:00", 1.0, 1)])
    xyz = Stock("XYZ", "SMART", "USD")
    (day,) = all_bars(with_client, tmp_path, xyz, "1 day", "TRADES", True)
    assert (day.open, day.close, day.volume) == (5.0, 6.0, 15)
    with pytest.raises(RequestError, match="no data"):
        all_bars(with_client, tmp_path, xyz, "30 mins", "TRADES", True)


def test_an_instruments_file_sets_what_a_symbol_is(with_client, tmp_path):
    (tmp_path / "instruments.toml").write_text('[SOL]\nsec_type = "CRYPTO"\n')
    write(tmp_path, "SOL_1m.csv", minutes("2026-11-21 23:00", 120))  # over a Saturday's midnight
    sol = Contract(secType="CRYPTO", symbol="SOL", exchange="PAXOS", currency="USD")
    got = all_bars(with_client, tmp_path, sol, "1 day", "AGGTRADES", True)
    assert [str(b.date) for b in got] == ["2026-11-21", "2026-11-22"]


@pytest.mark.parametrize(
    ("entry", "requested"),
    [
        ('local_symbol = "XYZ B"', {"secType": "STK", "localSymbol": "XYZ B"}),
        ("con_id = 12345", {"conId": 12345}),
    ],
)
def test_an_instruments_file_sets_how_a_symbol_is_requested(
    with_client, tmp_path, entry, requested
):
    (tmp_path / "instruments.toml").write_text(f'["XYZ.B"]\n{entry}\n')
    write(tmp_path, "XYZ.B_1m.csv", minutes("2026-11-19 14:30", 10))
    contract = Contract(exchange="SMART", **requested)
    assert len(all_bars(with_client, tmp_path, contract, "1 min", "TRADES", True)) == 10


def test_other_symbols_are_unknown(with_client, tmp_path):
    write(tmp_path, "XYZ_1m.csv", minutes("2025-11-20 14:30", 10))
    with pytest.raises(RequestError) as refused:
        all_bars(with_client, tmp_path, Stock("AAPL", "SMART", "USD"), "1 min", "TRADES", True)
    assert refused.value.code == 200


def test_a_broken_file_is_named_and_the_others_are_served(tmp_path, monday, caplog):
    write(tmp_path, "XYZ_1m.csv", minutes("2025-11-20 14:30", 10))
    write(tmp_path, "DUP_1m.csv", [("2026-11-19 14:30", 5.0, 7), ("2026-11-19 14:30", 6.0, 8)])
    (tmp_path / "BAD_1m.csv").write_text(HEADER + "yesterday,1,2,3,4,5\n")
    (tmp_path / "EMPTY_1m.csv").write_text(HEADER)
    (tmp_path / "notes.csv").write_text("x\n")
    market = read_replay(tmp_path, monday)
    assert list(market.replayed) == ["XYZ"]
    for name in ("DUP_1m.csv", "BAD_1m.csv", "EMPTY_1m.csv", "notes.csv"):
        assert name in caplog.text


def test_a_folder_without_bars_is_a_mistake_that_is_named(tmp_path, monday):
    with pytest.raises(Misconfigured, match="no bar file"):
        read_replay(tmp_path, monday)
    with pytest.raises(Misconfigured, match="no such folder"):
        read_replay(tmp_path / "absent", monday)


def test_the_export_is_what_a_client_gets(with_client, tmp_path, monday):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write(source, "XYZ_1m.csv", minutes("2025-11-20 14:30", 390, skip={3, 77}))
    write(source, "XYZ_1h.csv", [])
    write(source, "USDJPY_1h.csv", [("2026-11-19 14:00", 150.125, 999)])
    market = read_replay(source, monday)
    paths = export(market, source, target)
    assert [path.name for path in paths] == ["USDJPY_1h.csv", "XYZ_1h.csv", "XYZ_1m.csv"]
    for size, name in (("1 min", "XYZ_1m.csv"), ("1 hour", "XYZ_1h.csv")):
        got = all_bars(with_client, source, Stock("XYZ", "SMART", "USD"), size, "TRADES", True)
        lines = [
            f"{b.date.strftime('%Y-%m-%d %H:%M:%S')}+00:00,{b.open!r},{b.high!r},{b.low!r},"
            f"{b.close!r},{int(b.volume)}"
            for b in got
        ]
        assert (target / name).read_text() == HEADER + "\n".join(lines) + "\n"
    assert (target / "USDJPY_1h.csv").read_text().endswith("150.125,150.125,150.125,150.125,-1\n")
    assert len(truth("XYZ", "1m", 0, 2**31, market=market)) == 388


def test_half_a_replay_can_be_requested_at_any_time(with_client, shared_data):
    async def work(client, _):
        requests = (
            client.reqHistoricalDataAsync(
                USDJPY, f"202611{day:02}-12:00:00", "1 D", "15 mins", "MIDPOINT", True, 2
            )
            for day in range(3, 20)
        )
        return await asyncio.gather(*requests, return_exceptions=True)

    got = with_client(work, replay=shared_data)
    assert all(isinstance(bars, RequestError) or bars[-1].date.day for bars in got)
    assert sum(not isinstance(bars, RequestError) for bars in got) >= 13
