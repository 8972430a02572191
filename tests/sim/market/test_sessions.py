from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import exchange_calendars
import pandas as pd
import pytest
from ib_insync import Contract, Crypto, Forex, Stock

AAPL = Stock("AAPL", "SMART", "USD")


@pytest.fixture
def schedule(with_client):
    def get(contract, days, end="", rth=True, **options):
        async def work(client, _):
            return await client.reqHistoricalScheduleAsync(contract, days, end, rth)

        return with_client(work, **options)

    return get


@pytest.fixture
def details(with_client):
    def get(contract, **options):
        async def work(client, _):
            return await client.reqContractDetailsAsync(contract)

        return with_client(work, **options)

    return get


def instants(schedule):
    """(open, close) in UTC of each session, read as IB documents the fields."""
    zone = ZoneInfo(schedule.timeZone)
    return [
        tuple(
            datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=zone).astimezone(UTC)
            for text in (s.startDateTime, s.endDateTime)
        )
        for s in schedule.sessions
    ]


def test_the_schedule_of_a_stock_is_that_of_the_new_york_stock_exchange(schedule):
    got = schedule(AAPL, 365, "20261120-22:00:00")
    known = exchange_calendars.get_calendar("XNYS", start="2025-01-02", end="2026-11-20")
    expected = known.schedule[["open", "close"]].tail(365)
    assert instants(got) == [
        (row.open.to_pydatetime(), row.close.to_pydatetime()) for row in expected.itertuples()
    ]
    assert [s.refDate for s in got.sessions] == [day.strftime("%Y%m%d") for day in expected.index]


def test_a_schedule_of_one_day_is_that_of_the_end(schedule):
    (session,) = schedule(AAPL, 1, "20261123-15:00:00").sessions
    assert (session.startDateTime, session.endDateTime, session.refDate) == (
        "20261123-09:30:00",
        "20261123-16:00:00",
        "20261123",
    )


@pytest.mark.parametrize(
    "contract",
    [AAPL, Forex("USDJPY"), Contract(secType="FUT", localSymbol="NQZ6", exchange="CME"),
     Crypto("ETH", "PAXOS", "USD")],
    ids=lambda c: c.secType,
)  # fmt: skip
def test_every_minute_of_a_schedule_has_its_bar_and_no_other_has(schedule, bars, contract):
    got = bars(contract, "20261121-00:00:00", "4 D", "1 min")
    minutes = [
        opens + timedelta(minutes=n)
        for opens, closes in instants(schedule(contract, 4, "20261121-00:00:00"))
        for n in range(int((closes - opens) / timedelta(minutes=1)))
    ]
    assert [bar.date for bar in got] == [
        m for m in minutes if m < datetime(2026, 11, 21, tzinfo=UTC)
    ]


def test_coming_hours_know_thanksgiving(details):
    (found,) = details(AAPL)
    assert found.liquidHours == (
        "20261123:0930-20261123:1600;20261124:0930-20261124:1600;20261125:0930-20261125:1600;"
        "20261126:CLOSED;20261127:0930-20261127:1300;20261128:CLOSED;20261129:CLOSED"
    )
    assert found.tradingHours.startswith("20261123:0400-20261123:2000;")


def test_coming_hours_of_forex_begin_on_sunday(details):
    (found,) = details(Forex("EURUSD"))
    assert found.tradingHours.startswith("20261122:1715-20261123:1700;20261123:1715-")
    assert found.tradingHours.endswith("20261128:CLOSED;20261129:1715-20261130:1700")


def test_early_closes_of_futures_are_those_of_cme(schedule):
    es = Contract(secType="FUT", localSymbol="ESZ5", exchange="CME", includeExpired=True)
    closes = {
        s.refDate: s.endDateTime[9:]
        for s in schedule(es, 30, "20251206-00:00:00", rth=False).sessions
    }
    known = exchange_calendars.get_calendar("CMES", start="2025-10-01", end="2025-12-05")
    early = {day.strftime("%Y%m%d") for day in known.early_closes}
    assert {day for day, close in closes.items() if close != "16:00:00"} == early & set(closes)
    assert closes["20251128"] == "12:00:00"


def test_a_contract_is_found_by_each_of_its_names_and_has_one_id(details):
    months = (("EUR", "202612"), ("6E", "20261218"))
    requested = [Contract(secType="FUT", localSymbol="6EZ6", exchange="CME")] + [
        Contract(secType="FUT", symbol=s, lastTradeDateOrContractMonth=m, exchange="CME")
        for s, m in months
    ]
    found = [details(contract)[0].contract for contract in requested]
    assert {c.conId for c in found} == {found[0].conId}
    by_id = details(Contract(conId=found[0].conId, exchange="CME"))
    assert [d.contract for d in by_id] == [found[0]]
    assert (found[0].localSymbol, found[0].lastTradeDateOrContractMonth) == ("6EZ6", "20261218")


def test_contract_ids_are_unique(details):
    futures = details(Contract(secType="FUT", symbol="CL", exchange="NYMEX"))
    others = [Forex("EURUSD"), Forex("USDJPY"), Crypto("BTC", "PAXOS", "USD")]
    others += [Stock(s, "SMART", "USD") for s in ("AAPL", "MSFT", "BRK B", "SPY")]
    found = [d.contract.conId for d in futures] + [details(c)[0].contract.conId for c in others]
    assert len(futures) > 10
    assert len(set(found)) == len(found)


def test_a_futures_name_means_the_nearest_year(details):
    (old,) = details(
        Contract(secType="FUT", localSymbol="6EH4", exchange="CME", includeExpired=True)
    )
    assert old.contract.lastTradeDateOrContractMonth == "20240315"


def test_forex_trades_on_every_weekday(schedule):
    got = schedule(Forex("EURUSD"), 365, "20261120-22:00:00")
    days = pd.bdate_range(end="2026-11-20", periods=365)
    assert [s.refDate for s in got.sessions] == [day.strftime("%Y%m%d") for day in days]
