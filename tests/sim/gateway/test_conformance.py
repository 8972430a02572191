"""What every client of the API must be able to do here: one suite, three clients, all versions.

The clients run as scripts in environments of their own (`clients/`): a plan of questions goes in,
a report comes out. A plan is `[{"port", "questions": [{"name", "ask", …}]}]`, a report
`[{"version", "accounts", "next_id", "notices", "answers": {name: {"result", "errors"}}}]`.
"""

import asyncio
import json
import subprocess
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import exchange_calendars
import pytest

from ktrdr.sim.gateway.clock import Clock
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.market.market import truth

CLIENTS = Path(__file__).parents[1] / "clients"
NEWEST = {"ib_insync": 176, "ib_async": 178, "ibapi": 178}
VERSIONS = range(157, 179)
NOW = datetime(2026, 11, 23, 15, 30, 25, tzinfo=UTC)
END = "20261120-22:00:00"
NEW_YORK = ZoneInfo("America/New_York")

AAPL = {"symbol": "AAPL", "secType": "STK", "exchange": "SMART", "currency": "USD"}
EURUSD = {"symbol": "EUR", "secType": "CASH", "exchange": "IDEALPRO", "currency": "USD"}
ES = {"localSymbol": "ESZ6", "secType": "FUT", "exchange": "CME"}
BTC = {"symbol": "BTC", "secType": "CRYPTO", "exchange": "PAXOS", "currency": "USD"}
CONTFUT = {"symbol": "ES", "secType": "CONTFUT", "exchange": "CME"}
SPX = {"symbol": "SPX", "secType": "IND", "exchange": "CBOE", "currency": "USD"}
STORED = {
    "AAPL": (AAPL, "TRADES", True),
    "EURUSD": (EURUSD, "MIDPOINT", True),
    "ESZ6": (ES, "TRADES", False),
    "BTC": (BTC, "AGGTRADES", False),
}
TIMEFRAMES = {
    "1m": "1 min", "5m": "5 mins", "15m": "15 mins", "30m": "30 mins", "1h": "1 hour",
    "4h": "4 hours", "1d": "1 day",
}  # fmt: skip
SIZES = {  # seconds; how many bars a regular day has, or 1,800 seconds of small ones
    "1 secs": 1800, "5 secs": 360, "10 secs": 180, "15 secs": 120, "30 secs": 60, "1 min": 390,
    "2 mins": 195, "3 mins": 130, "5 mins": 78, "10 mins": 39, "15 mins": 26, "20 mins": 20,
    "30 mins": 13, "1 hour": 7, "2 hours": 4, "3 hours": 3, "4 hours": 2, "8 hours": 1,
    "1 day": 1, "1 week": 1, "1 month": 1,
}  # fmt: skip
SHOWN = ("MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST")


def bars(name, contract, **requested):
    usual = {"end": END, "duration": "1 D", "size": "1 hour", "what": "TRADES", "rth": True}
    return {"name": name, "ask": "bars", "contract": contract, "format": 2} | usual | requested


REFUSED = [
    (bars("unknown contract", AAPL | {"symbol": "NOPE"}), 200),
    (bars("ambiguous contract", ES | {"localSymbol": "", "symbol": "ES"}), 200),
    (bars("no such bars", EURUSD), 162),
    (bars("trades of a coin", BTC), 10299),
    (bars("unit that is none", AAPL, duration="5 H"), 321),
    (bars("size that is none", AAPL, size="7 mins"), 321),
    (bars("too many seconds", AAPL, duration="86401 S"), 321),
    (bars("too many days", AAPL, duration="366 D"), 321),
    (bars("end that is none", AAPL, end="2026-11-20"), 10314),
    (bars("ambiguous stock", AAPL | {"symbol": "TWIN"}), 200),
    (bars("delisted stock", AAPL | {"symbol": "GONE"}), 200),
    (bars("stock without permission", AAPL | {"symbol": "NOPERM"}), 162),
    (bars("continuous future with an end", CONTFUT), 10339),
    (bars("adjusted prices with an end", AAPL, what="ADJUSTED_LAST"), 321),
    (bars("too many small bars", ES, size="1 secs", duration="1 D"), 162),
    (bars("zone that is none", AAPL, end="20261120 22:00:00 EST"), 10314),
]
EVERY_VERSION = [
    {"name": "details", "ask": "details", "contract": AAPL},
    {"name": "future", "ask": "details", "contract": ES},
    {"name": "nothing", "ask": "details", "contract": AAPL | {"symbol": "NOPE"}},
    bars("bars", AAPL),
    bars("days", AAPL, size="1 day", duration="5 D"),
    {"name": "order", "ask": "order", "contract": AAPL},
    {"name": "unknown", "ask": "unknown", "contract": AAPL},
]
QUESTIONS = [
    *EVERY_VERSION,
    {"name": "months", "ask": "details", "contract": ES | {"localSymbol": "", "symbol": "ES"}},
    {"name": "time", "ask": "time"},
    {"name": "head", "ask": "head", "contract": ES, "what": "TRADES", "rth": False},
    {"name": "schedule", "ask": "schedule", "contract": AAPL, "days": 30, "end": END, "rth": True},
    bars("all hours", AAPL, rth=False),
    bars("texts", AAPL, format=1),
    bars("days as texts", AAPL, size="1 day", duration="5 D", format=1),
    bars("end without a zone", AAPL, end="20261120 17:00:00"),
    bars("end with a zone", AAPL, end="20261120 17:00:00 US/Eastern"),
    *(question for question, _ in REFUSED),
    *(
        bars(size, AAPL, size=size, duration="1800 S" if "secs" in size else "1 D")
        for size in SIZES
    ),
    *(
        bars(what, AAPL, what=what, size="5 mins", end="" if what == "ADJUSTED_LAST" else END)
        for what in SHOWN
    ),
    bars("continuous", CONTFUT, end="", rth=False),
    bars("index", SPX),
    *(
        bars(f"{symbol}_{timeframe}", contract, size=size, what=what, rth=rth, duration="3 D")
        for symbol, (contract, what, rth) in STORED.items()
        for timeframe, size in TIMEFRAMES.items()
    ),
]
FOLLOWED = bars("followed", AAPL, ask="updates", size="1 min", duration="600 S", end="", count=4)


async def converse(python, client):
    """The reports of a client on a gateway of each version, and on the newest at last."""
    async with AsyncExitStack() as stack:
        plan = []
        for version in (*VERSIONS, None):
            options = {"version": version} if version else {}
            gateway = await stack.enter_async_context(SimulatedGateway(now=lambda: NOW, **options))
            plan.append(
                {"port": gateway.port, "questions": EVERY_VERSION if version else QUESTIONS}
            )
        fast = await stack.enter_async_context(SimulatedGateway(now=Clock(NOW, speed=30)))
        plan.append({"port": fast.port, "questions": [FOLLOWED]})
        script = "ibapi_client.py" if client == "ibapi" else "ib_insync_client.py"
        process = await asyncio.create_subprocess_exec(
            python, CLIENTS / script, client,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, complaints = await process.communicate(json.dumps(plan).encode())
        assert process.returncode == 0, complaints.decode()
        return json.loads(out)


@pytest.fixture(scope="module", params=["ib_insync", "ib_async", "ibapi"])
def client(request):
    return request.param


@pytest.fixture(scope="module")
def reports(client, python_with):
    return asyncio.run(converse(python_with(client), client))


@pytest.fixture(scope="module")
def report(reports):
    return reports[-2]


@pytest.fixture(scope="module")
def answers(report):
    return report["answers"]


def result(answers, name):
    answer = answers[name]
    assert answer["errors"] == [], name
    return answer["result"]


def local(seconds):
    return datetime.fromtimestamp(seconds, NEW_YORK).strftime("%m-%d %H:%M")


def test_it_connects_and_receives_its_account_an_order_id_and_that_all_farms_are_ok(report, client):
    assert report["version"] == NEWEST[client]
    assert report["accounts"] == ["DU1000000"]
    assert report["next_id"] >= 1
    assert report["notices"] == [2104, 2106, 2158]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_reads_every_answer_in_every_version(reports, client, version):
    report = reports[VERSIONS.index(version)]
    assert report["version"] == min(version, NEWEST[client])
    (found,) = result(report["answers"], "details")
    assert (found["symbol"], found["zone"], found["min_tick"]) == ("AAPL", str(NEW_YORK), 0.01)
    assert (found["primary_exchange"], found["stock_type"]) == ("NASDAQ", "COMMON")
    assert found["suggested_size"] == (100 if version >= 164 else found["suggested_size"])
    (future,) = result(report["answers"], "future")
    assert (future["expiry"], future["real_expiry"]) == ("20261218", "20261218")
    assert (future["multiplier"], future["stock_type"]) == ("50", "")
    assert [code for code, _ in report["answers"]["nothing"]["errors"]] == [200]
    assert [local(bar[0]) for bar in result(report["answers"], "bars")][:2] == [
        "11-20 09:30",
        "11-20 10:00",
    ]
    assert result(report["answers"], "unknown")


def test_it_sees_the_details_of_a_future_and_of_all_its_months(answers):
    (one,) = result(answers, "future")
    assert (one["local_symbol"], one["expiry"], one["min_tick"]) == ("ESZ6", "20261218", 0.25)
    months = [found["expiry"] for found in result(answers, "months")]
    assert "20261218" in months
    assert len(set(months)) == len(months) > 1


def test_unknown_and_ambiguous_contracts_and_invalid_requests_are_refused(answers):
    got = {q["name"]: [code for code, _ in answers[q["name"]]["errors"]] for q, _ in REFUSED}
    assert got == {question["name"]: [code] for question, code in REFUSED}


def test_an_end_without_a_zone_is_answered_with_a_warning(answers):
    answer = answers["end without a zone"]
    assert [code for code, _ in answer["errors"]] == [2174]
    assert answer["result"] == result(answers, "bars")
    assert result(answers, "end with a zone") == result(answers, "bars")


def test_it_receives_the_time_and_the_head_timestamp(answers):
    assert result(answers, "time") == int(NOW.timestamp())
    assert result(answers, "head") == datetime(2025, 12, 18, 23, tzinfo=UTC).timestamp()


def test_it_receives_the_sessions_of_the_new_york_stock_exchange(answers):
    got = result(answers, "schedule")
    known = exchange_calendars.get_calendar("XNYS", start="2026-01-02", end="2026-11-20")
    days = [day.strftime("%Y%m%d") for day in known.sessions[-30:]]
    assert got["zone"] == str(NEW_YORK)
    assert got["sessions"] == [[f"{d}-09:30:00", f"{d}-16:00:00", d] for d in days]


def test_hours_of_a_stock_begin_at_half_past_nine_and_all_hours_at_four(answers):
    regular = [local(bar[0]) for bar in result(answers, "bars")]
    assert regular == ["11-20 09:30", *(f"11-20 {h}:00" for h in (10, 11, 12, 13, 14, 15))]
    every = [local(bar[0]) for bar in result(answers, "all hours")]
    assert every == [f"11-20 {h:02}:00" for h in range(4, 17)]  # requested up to 17:00


def test_dates_as_texts_and_as_seconds_are_the_same(answers):
    assert result(answers, "texts") == result(answers, "bars")
    days = [f"202611{day}" for day in (16, 17, 18, 19, 20)]
    assert [bar[0] for bar in result(answers, "days")] == days
    assert result(answers, "days as texts") == result(answers, "days")


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
@pytest.mark.parametrize("symbol", STORED)
def test_bars_are_the_truth(answers, symbol, timeframe):
    end_s = int(datetime(2026, 11, 20, 22, tzinfo=UTC).timestamp())
    known = truth(symbol, timeframe, end_s - 4 * 86400, end_s)
    got = result(answers, f"{symbol}_{timeframe}")
    if timeframe == "1d":
        got = [
            [int(datetime.strptime(b[0] + "+0000", "%Y%m%d%z").timestamp()), *b[1:]] for b in got
        ]
        known, got = known[-3:], got[-3:]
    if symbol == "BTC":  # it never closes: the last bar is cut off at the requested end
        known, got = known[:-1], got[: len(got) - 1]
    assert len(got) >= 2
    assert [tuple(bar[:6]) for bar in got] == [tuple(row) for row in known][-len(got) :]


def test_bars_of_every_size_are_so_many(answers):
    assert {size: len(result(answers, size)) for size in SIZES} == SIZES
    assert [result(answers, size)[0][0] for size in ("1 day", "1 week", "1 month")] == [
        "20261120",
        "20261120",
        "20261130",
    ]


def test_quotes_lie_around_the_midpoint_and_have_no_volume(answers):
    for mid, bid, ask, quote in zip(*(result(answers, what) for what in SHOWN[:4]), strict=True):
        assert bid[4] < mid[4] < ask[4]
        assert quote[1] < quote[4]
        assert {bar[5] for bar in (mid, bid, ask, quote)} == {-1}
    assert result(answers, "ADJUSTED_LAST")[-1][5] > 0


def test_continuous_futures_and_indices_have_bars(answers):
    assert local(result(answers, "continuous")[0][0]) == "11-22 18:00"
    assert [bar[5] for bar in result(answers, "index")] == [0] * 7


def test_bars_kept_up_to_date_go_on_from_the_answer(reports):
    """The forming minute is updated until it has ended, and then the next one."""
    answer = reports[-1]["answers"]["followed"]
    followed = answer["result"]
    assert [code for code, _ in answer["errors"]] in ([], [162])  # it was cancelled in the end
    first, updates = followed["first"], followed["updates"]
    times = [bar[0] for bar in updates]
    assert times == sorted(times)
    assert times[0] - first[-1][0] in (0, 60)
    assert times[-1] > first[-1][0]
    known = {row.start: row for row in truth("AAPL", "1m", times[0], times[-1] + 60)}
    ended = {bar[0]: bar for bar in updates if bar[0] < times[-1]}
    assert ended
    assert all(tuple(bar[:6]) == known[time] for time, bar in ended.items())
    forming = updates[-1]
    assert forming[1] == known[times[-1]].open
    assert forming[5] <= known[times[-1]].volume


def test_orders_are_refused_as_by_a_read_only_gateway(answers):
    ((code, text),) = answers["order"]["errors"]
    assert code == 321
    assert "Read-Only" in text


def test_messages_without_meaning_change_nothing(answers):
    assert result(answers, "unknown") == result(answers, "details")
