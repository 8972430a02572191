"""The stocks with one difficulty each, as a real client sees them."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from ib_insync import IB, Contract, Stock
from ib_insync.wrapper import RequestError

from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.market.market import GeneratedMarket, truth

FRIDAY = "20261120-22:00:00"


def stock(symbol, **more):
    return Stock(symbol, "SMART", "USD", **more)


@pytest.fixture
def answer(with_client):
    """`answer(method, *args)`: what the client's method returns, or the error's code and text."""

    def get(method, *args, **options):
        async def work(client, _):
            try:
                return await getattr(client, method)(*args)
            except RequestError as error:
                return error.code, error.message

        return with_client(work, **options)

    return get


def test_an_illiquid_stock_has_minutes_and_days_without_trades_but_with_quotes(bars):
    minutes = bars(stock("ILLIQ"), FRIDAY, "1 W", "1 min")
    quotes = bars(stock("ILLIQ"), FRIDAY, "1 W", "1 min", "MIDPOINT")
    assert 0.1 < len(minutes) / len(quotes) < 0.3
    assert {bar.date for bar in minutes} < {bar.date for bar in quotes}
    days = bars(stock("ILLIQ"), FRIDAY, "1 Y", "1 day")
    assert 0.75 < len(days) / len(bars(stock("AAPL"), FRIDAY, "1 Y", "1 day")) < 0.95
    hour = bars(stock("ILLIQ"), FRIDAY, "1 W", "1 hour")[0]
    inside = [b for b in minutes if 0 <= (b.date - hour.date).total_seconds() < 1800]
    assert hour.volume == sum(b.volume for b in inside)


def test_flat_minutes_have_no_volume_and_every_tenth_has(bars):
    got = bars(stock("FLATV"), FRIDAY, "1 D", "1 min")
    assert len(got) == 390
    flat = [bar for bar in got if bar.volume == 0]
    assert len(flat) == 351
    assert all(bar.open == bar.high == bar.low == bar.close for bar in flat)
    assert all(a.close == b.open for a, b in pairwise(got))
    assert len({bar.close for bar in got}) > 5


def test_a_stock_listed_lately_begins_with_its_listing(bars, answer):
    head = answer("reqHeadTimeStampAsync", stock("FRESH"), "TRADES", True, 2)
    assert head == datetime(2026, 10, 1, 13, 30, tzinfo=UTC)
    assert bars(stock("FRESH"), "", "1 Y", "1 day")[0].date == date(2026, 10, 1)
    before = answer(
        "reqHistoricalDataAsync",
        stock("FRESH"),
        "20260915-20:00:00",
        "1 D",
        "1 day",
        "TRADES",
        True,
    )
    assert before[0] == 162
    market = GeneratedMarket(1, listed={"FRESH": date(2026, 11, 2)})
    later = bars(stock("FRESH"), "", "1 Y", "1 day", market=market)
    assert later[0].date == date(2026, 11, 2)
    assert later[-1].date == date(2026, 11, 23)


def test_a_delisted_stock_is_unknown(answer):
    for method, more in (
        ("reqContractDetailsAsync", ()),
        ("reqHistoricalDataAsync", (FRIDAY, "1 D", "1 day", "TRADES", True)),
    ):
        assert answer(method, stock("GONE"), *more)[0] == 200


def test_an_ambiguous_stock_has_two_details_and_no_history_until_one_is_named(answer, bars):
    two = answer("reqContractDetailsAsync", stock("TWIN"))
    assert [d.contract.primaryExchange for d in two] == ["NASDAQ", "NYSE"]
    assert len({d.contract.conId for d in two}) == 2
    code, text = answer(
        "reqHistoricalDataAsync", stock("TWIN"), FRIDAY, "1 D", "1 day", "TRADES", True
    )
    assert (code, "ambiguous" in text) == (200, True)
    named = [
        bars(stock("TWIN", primaryExchange=e), FRIDAY, "1 D", "1 day") for e in ("NASDAQ", "NYSE")
    ]
    assert named[0][0].close != named[1][0].close
    assert bars(two[1].contract, FRIDAY, "1 D", "1 day") == named[1]


TWOF = {"secType": "FUT", "exchange": "CME", "lastTradeDateOrContractMonth": "202612"}


def test_an_ambiguous_future_has_two_classes_and_no_history_until_one_is_named(answer, bars):
    two = answer("reqContractDetailsAsync", Contract(symbol="TWOF", **TWOF))
    names = [(c.localSymbol, c.tradingClass, c.multiplier) for c in (d.contract for d in two)]
    assert names == [("TWOFZ26", "TWOF", "50"), ("TWOMZ26", "TWOM", "5")]
    assert len({d.contract.conId for d in two}) == 2
    request = (FRIDAY, "1 D", "1 day", "TRADES", False)
    code, text = answer("reqHistoricalDataAsync", Contract(symbol="TWOF", **TWOF), *request)
    assert (code, "ambiguous" in text) == (200, True)
    for name, value in (
        ("multiplier", "5"),
        ("tradingClass", "TWOM"),
        ("localSymbol", "TWOMZ26"),
    ):
        named = Contract(symbol="TWOF", **TWOF, **{name: value})
        assert answer("reqContractDetailsAsync", named) == two[1:]
        assert len(bars(named, *request[:3], rth=False)) == 1


@pytest.mark.parametrize("named", [{}, {"exchange": "CME"}])
def test_a_contract_is_found_by_its_number_alone(answer, named):
    for requested in (
        Contract(symbol="TWOF", **TWOF, multiplier="5"),
        Contract(secType="FUT", localSymbol="ESZ6", exchange="CME"),
    ):
        found = answer("reqContractDetailsAsync", requested)
        by_id = Contract(conId=found[0].contract.conId, **named)
        assert answer("reqContractDetailsAsync", by_id) == found


@pytest.mark.parametrize(
    "wrong",
    [{"multiplier": "7"}, {"tradingClass": "ES"}, {"localSymbol": "TWOFZ6"}, {"conId": 5}],
)
def test_a_contract_that_is_named_wrongly_is_unknown(answer, wrong):
    for method, more in (
        ("reqContractDetailsAsync", ()),
        ("reqHistoricalDataAsync", (FRIDAY, "1 D", "1 day", "TRADES", True)),
    ):
        assert answer(method, Contract(symbol="TWOF", **TWOF, **wrong), *more)[0] == 200


def test_a_stock_without_permission_has_details_but_no_history(answer):
    assert len(answer("reqContractDetailsAsync", stock("NOPERM"))) == 1
    code, text = answer(
        "reqHistoricalDataAsync", stock("NOPERM"), "", "1 D", "1 day", "TRADES", True
    )
    assert code == 162
    assert "No market data permissions for NASDAQ STK" in text
    assert answer("reqHeadTimeStampAsync", stock("NOPERM"), "TRADES", True, 2)[0] == 162


def test_a_split_that_takes_effect_re_bases_what_was_before():
    """The responses of one gateway on the last day before the split and on its first."""
    now = [datetime(2026, 11, 27, 22, tzinfo=UTC)]

    async def main():
        market = GeneratedMarket(1)
        market.split("SPLT", date(2026, 11, 30), 10)
        async with SimulatedGateway(market=market, now=lambda: now[0]) as gateway:
            client = IB()
            client.RaiseRequestErrors = True
            await client.connectAsync("127.0.0.1", gateway.port, clientId=1)
            request = (stock("SPLT"), "20261125-22:00:00", "5 D", "1 hour", "TRADES", True)
            before = await client.reqHistoricalDataAsync(*request)
            now[0] = datetime(2026, 11, 30, 20, tzinfo=UTC)
            after = await client.reqHistoricalDataAsync(*request)
            today = await client.reqHistoricalDataAsync(
                stock("SPLT"), "", "1 D", "1 hour", "TRADES", True
            )
            client.disconnect()
            return before, after, today

    before, after, today = asyncio.run(main())
    assert len(before) == len(after) == 35
    for old, new in zip(before, after, strict=True):
        assert old.date == new.date
        assert round(old.close / new.close, 6) == 10
        assert new.volume / 10 == pytest.approx(old.volume, abs=60)
    assert today[0].open / after[-1].close == pytest.approx(1, abs=0.2)


def test_the_truth_about_a_split_depends_on_the_day_of_the_request():
    day = int(datetime(2026, 11, 25, tzinfo=UTC).timestamp())
    old, new = (truth("SPLT", "1d", day, day + 86400, today=date(2026, 11, d)) for d in (29, 30))
    assert old[0].close == pytest.approx(4 * new[0].close)


def test_a_future_ends_with_its_last_day_and_is_found_no_more_unless_expired_ones_are_wanted(
    answer,
):
    es = {"secType": "FUT", "localSymbol": "ESZ6", "exchange": "CME"}
    request = ("", "5 D", "1 day", "TRADES", False)
    friday, monday = (datetime(2026, 12, d, 20, tzinfo=UTC) for d in (18, 21))
    last = answer("reqHistoricalDataAsync", Contract(**es), *request, now=friday)
    assert last[-1].date == date(2026, 12, 18)
    assert answer("reqHistoricalDataAsync", Contract(**es), *request, now=monday)[0] == 200
    expired = Contract(**es, includeExpired=True)
    got = answer("reqHistoricalDataAsync", expired, *request, now=monday)
    assert got[-1].date == date(2026, 12, 18)
    years_later = answer(
        "reqHistoricalDataAsync", expired, "20261218-20:00:00", *request[1:],
        now=datetime(2029, 1, 8, 20, tzinfo=UTC),
    )  # fmt: skip
    assert years_later[0] == 162


def test_quiet_days_are_the_same_for_every_request(bars):
    by_minute = Counter(b.date.date() for b in bars(stock("ILLIQ"), FRIDAY, "3 W", "1 min"))
    days = {b.date for b in bars(stock("ILLIQ"), FRIDAY, "3 W", "1 day")}
    assert set(by_minute) <= days
