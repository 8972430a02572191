"""All of IB's bar sizes and all that can be shown of a market, as a real client gets them."""

from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import exchange_calendars
import pandas as pd
import pytest
from ib_insync import Contract, Crypto, Forex, Stock
from ib_insync.wrapper import RequestError

from ktrdr.sim.market.bars import Alignment
from ktrdr.sim.market.market import GeneratedMarket

NEW_YORK = ZoneInfo("America/New_York")
AAPL = Stock("AAPL", "SMART", "USD")
EURUSD = Forex("EURUSD")
ES = Contract(secType="FUT", localSymbol="ESZ6", exchange="CME")
BTC = Crypto("BTC", "PAXOS", "USD")
SPX = Contract(secType="IND", symbol="SPX", exchange="CBOE", currency="USD")
FRIDAY = "20261120-22:00:00"
RESAMPLED = {
    "2 mins": "2min", "3 mins": "3min", "5 mins": "5min", "10 mins": "10min", "15 mins": "15min",
    "20 mins": "20min", "30 mins": "30min", "1 hour": "1h", "2 hours": "2h", "3 hours": "3h",
    "4 hours": "4h", "8 hours": "8h",
}  # fmt: skip
COLUMNS = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def starts(bars, zone=NEW_YORK, form="%H:%M"):
    return [bar.date.astimezone(zone).strftime(form) for bar in bars]


def prices(bar):
    return (bar.open, bar.high, bar.low, bar.close)


def frame(bars, zone=NEW_YORK):
    """Bars as pandas has them, by the wall clock."""
    table = pd.DataFrame([(b.date, *prices(b), b.volume) for b in bars], columns=["t", *COLUMNS])
    return table.set_index(pd.DatetimeIndex(table.pop("t")).tz_convert(zone))


def error_of(bars, *args, **options):
    with pytest.raises(RequestError) as refused:
        bars(*args, **options)
    return refused.value.code, refused.value.message


@pytest.fixture
def many(with_client):
    """`many([(contract, end, duration, size, what, rth), …])`: all their bars, one connection."""

    def get(requests, **options):
        async def work(client, _):
            return [list(await client.reqHistoricalDataAsync(*request, 2)) for request in requests]

        return with_client(work, **options)

    return get


@pytest.mark.parametrize(
    ("contract", "what"), [(AAPL, "TRADES"), (EURUSD, "MIDPOINT"), (BTC, "AGGTRADES")], ids=str
)
def test_bars_of_minutes_and_hours_are_what_pandas_makes_of_the_minutes(many, contract, what):
    rth = contract is AAPL
    sizes = ["1 min", *RESAMPLED]
    end = FRIDAY if contract is not BTC else "20261120-00:00:00"
    requested = [(contract, end, "2 D", size, what, rth) for size in sizes]
    minutes, *larger = (frame(got, UTC if contract is BTC else NEW_YORK) for got in many(requested))
    for size, got in zip(RESAMPLED, larger, strict=True):
        rule = RESAMPLED[size]
        known = minutes.resample(rule, origin="start_day").agg(COLUMNS).dropna()
        first = minutes.index.to_series().resample(rule, origin="start_day").min()
        known.index = pd.DatetimeIndex(first[known.index])
        if what == "MIDPOINT":
            known["volume"] = -1.0
        if contract is not EURUSD or rule[-1] != "h":  # its day begins within such a bar
            pd.testing.assert_frame_equal(got, known, check_dtype=False, check_names=False)
        else:
            assert got.high.max() == known.high.max()


def test_seconds_add_up_to_their_minutes(many):
    sizes = {"1 secs": "1800 S", "5 secs": "1800 S", "10 secs": "1800 S", "15 secs": "1800 S",
             "30 secs": "1800 S"}  # fmt: skip
    end = "20261120-20:00:00"
    minutes = frame(many([(AAPL, end, "1800 S", "1 min", "TRADES", True)])[0])
    for size, duration in sizes.items():
        (got,) = many([(AAPL, end, duration, size, "TRADES", True)])
        assert len(got) == 1800 // int(size.split()[0])
        known = frame(got).resample("1min").agg(COLUMNS)
        pd.testing.assert_frame_equal(known, minutes, check_freq=False, check_dtype=False)


def test_a_price_within_a_minute_goes_on_from_second_to_second_in_whole_ticks(many):
    (got,) = many([(EURUSD, FRIDAY, "600 S", "1 secs", "MIDPOINT", True)])
    assert len(got) == 600
    assert all(a.close == b.open for a, b in pairwise(got))
    assert {bar.volume for bar in got} == {-1}
    assert all(abs(bar.close * 20000 - round(bar.close * 20000)) < 1e-6 for bar in got)


def test_the_minute_that_forms_is_what_its_seconds_add_up_to(many, monday):
    now = monday.replace(second=25)
    minute, seconds = many(
        [(AAPL, "", "60 S", "1 min", "TRADES", True), (AAPL, "", "25 S", "1 secs", "TRADES", True)],
        now=now,
    )
    assert len(seconds) == 25
    whole = frame(seconds).resample("1min").agg(COLUMNS)
    assert prices(minute[-1]) == tuple(whole.iloc[0][["open", "high", "low", "close"]])
    assert minute[-1].volume == whole.iloc[0]["volume"] > 0


def test_weeks_and_months_are_dated_by_their_last_trading_day(many):
    days, weeks, months = many(
        [(AAPL, FRIDAY, "1 Y", size, "TRADES", True) for size in ("1 day", "1 week", "1 month")]
    )
    known = exchange_calendars.get_calendar("XNYS", start="2025-11-03", end="2026-11-30")
    sessions = pd.Series(known.sessions, known.sessions)
    for got, rule, last in ((weeks, "W-SUN", "2026-11-20"), (months, "ME", "2026-11-30")):
        ends = [end.date() for end in sessions.loc[:last].resample(rule).max()]
        assert [bar.date for bar in got] == ends[-len(got) :]
        table = pd.DataFrame(
            [(*prices(b), b.volume) for b in days],
            columns=list(COLUMNS),
            index=pd.DatetimeIndex([b.date for b in days]),
        )
        by_hand = table.resample(rule).agg(COLUMNS)
        rows = [(*prices(b), b.volume) for b in got]
        assert rows[1:] == [tuple(row) for row in by_hand.itertuples(index=False)][1:]
    assert len(weeks) == 53
    assert len(months) == 13


def test_a_week_that_is_cut_short_by_a_holiday_ends_on_thursday(bars):
    got = bars(AAPL, "20260404-00:00:00", "2 W", "1 week", now=datetime(2026, 5, 1, tzinfo=UTC))
    assert got[-1].date == date(2026, 4, 2)  # Good Friday was the 3rd


def test_a_coins_week_goes_from_monday_to_sunday(many):
    days, weeks = many(
        [(BTC, "20261123-00:00:00", "3 W", size, "AGGTRADES", True) for size in ("1 day", "1 week")]
    )
    assert [bar.date for bar in weeks] == [date(2026, 11, day) for day in (8, 15, 22)]
    last = [bar for bar in days if bar.date > date(2026, 11, 15)]
    assert (len(last), last[0].open) == (7, weeks[-1].open)


@pytest.mark.parametrize(
    ("alignment", "stock", "forex"),
    [
        (Alignment.WALL_CLOCK, ["09:30", "12:00"], ["17:15", "20:00", "00:00", "04:00"]),
        (Alignment.SESSION_OPEN, ["09:30", "13:30"], ["17:15", "21:15", "01:15", "05:15"]),
        (Alignment.UTC, ["09:30", "11:00", "15:00"], ["17:15", "19:00", "23:00", "03:00"]),
    ],
)
def test_bars_of_four_hours_can_begin_in_unlike_ways_and_hold_the_same_minutes(
    many, alignment, stock, forex
):
    market = GeneratedMarket(1, alignment=alignment)
    four, pairs, hours = many(
        [
            (AAPL, FRIDAY, "1 D", "4 hours", "TRADES", True),
            (EURUSD, FRIDAY, "1 D", "4 hours", "MIDPOINT", True),
            (AAPL, FRIDAY, "1 D", "1 hour", "TRADES", True),
        ],
        market=market,
    )
    assert starts(four) == stock
    assert starts(pairs)[:4] == forex
    assert starts(hours)[:3] == ["09:30", "10:00", "11:00"]
    assert sum(bar.volume for bar in four) == sum(bar.volume for bar in hours)


@pytest.mark.parametrize(("contract", "tick"), [(AAPL, 0.01), (EURUSD, 0.00005), (ES, 0.25)])
def test_bids_and_asks_lie_around_the_midpoint(many, contract, tick):
    shown = ("MIDPOINT", "BID", "ASK", "BID_ASK")
    mids, bids, asks, both = many(
        [(contract, FRIDAY, "1 D", "5 mins", what, True) for what in shown]
    )
    for mid, bid, ask, quote in zip(mids, bids, asks, both, strict=True):
        assert [round(m - b, 8) for m, b in zip(prices(mid), prices(bid), strict=True)] == [
            tick
        ] * 4
        assert [round(a - m, 8) for m, a in zip(prices(mid), prices(ask), strict=True)] == [
            tick
        ] * 4
        assert (quote.high, quote.low) == (ask.high, bid.low)
        assert bid.low <= quote.open < quote.close <= ask.high
        assert {b.volume for b in (mid, bid, ask, quote)} == {-1}


def test_an_average_quote_of_five_minutes_is_the_average_of_the_five(many):
    one, five = many(
        [(EURUSD, FRIDAY, "1 D", size, "BID_ASK", True) for size in ("1 min", "5 mins")]
    )
    assert five[1].open == pytest.approx(sum(bar.open for bar in one[5:10]) / 5, abs=1e-7)
    assert five[1].close == pytest.approx(sum(bar.close for bar in one[5:10]) / 5, abs=1e-7)


def test_adjusted_prices_are_lowered_by_dividends_paid_since(many):
    adjusted, traded = many(
        [(AAPL, "", "1 Y", "1 day", what, True) for what in ("ADJUSTED_LAST", "TRADES")]
    )
    ratio = {a.date: a.close / t.close for a, t in zip(adjusted, traded, strict=True)}
    assert ratio[date(2026, 11, 20)] == 1
    assert ratio[date(2026, 10, 30)] == pytest.approx(0.998, abs=1e-4)
    assert ratio[date(2026, 1, 5)] == pytest.approx(0.998**4, abs=1e-4)
    assert [a.volume for a in adjusted] == [t.volume for t in traded]


def test_what_is_known_up_to_now_takes_no_end(bars):
    continuous = Contract(secType="CONTFUT", symbol="ES", exchange="CME")
    assert error_of(bars, AAPL, FRIDAY, "1 D", "1 day", "ADJUSTED_LAST")[0] == 321
    assert error_of(bars, continuous, FRIDAY, "1 D", "1 day")[0] == 10339
    assert error_of(bars, AAPL, FRIDAY, "1 D", "1 day", "WISHES")[0] == 321


def test_small_bars_come_in_small_portions_and_not_from_long_ago(bars):
    assert error_of(bars, AAPL, "", "1 D", "1 secs")[0] == 162
    code, text = error_of(bars, AAPL, "20260401-15:00:00", "600 S", "5 secs")
    assert (code, "returned no data" in text) == (162, True)
    assert len(bars(AAPL, "20260401-15:00:00", "600 S", "1 min")) == 10


@pytest.mark.parametrize(
    ("spelling", "name"), [("1 sec", "1 secs"), ("1W", "1 week"), ("1M", "1 month")]
)
def test_sizes_have_second_spellings(bars, spelling, name):
    duration = "60 S" if "sec" in spelling else "3 M"
    assert bars(AAPL, FRIDAY, duration, spelling) == bars(AAPL, FRIDAY, duration, name)


def test_a_continuous_future_goes_back_for_years_without_a_gap(many, with_client):
    contract = Contract(secType="CONTFUT", symbol="ES", exchange="CME")

    async def details(client, _):
        return await client.reqContractDetailsAsync(contract)

    (found,) = with_client(details)
    assert (found.contract.localSymbol, found.contract.secType) == ("ESZ6", "CONTFUT")
    got, dated, by_id = many(
        [
            (contract, "", "3 Y", "1 day", "TRADES", False),
            (ES, "", "5 D", "1 day", "TRADES", False),
            (found.contract, "", "5 D", "1 day", "TRADES", False),
        ]
    )
    assert got[0].date < date(2023, 12, 1)
    assert [prices(b) for b in got[-5:]] == [prices(b) for b in dated] == [prices(b) for b in by_id]


def test_an_index_has_prices_and_no_volume(bars):
    got = bars(SPX, FRIDAY, "1 D", "1 hour")
    assert starts(got)[0] == "09:30"
    assert {bar.volume for bar in got} == {0}
    assert error_of(bars, SPX, FRIDAY, "1 D", "1 hour", "BID")[0] == 162


def test_a_minute_before_protocol_174_has_no_zone(with_client):
    async def work(client, _):
        return await client.reqHistoricalDataAsync(AAPL, FRIDAY, "1 D", "1 hour", "TRADES", True, 1)

    old, new = (with_client(work, version=version) for version in (173, 174))
    assert old[0].date == datetime(2026, 11, 20, 9, 30)  # noqa: DTZ001
    assert new[0].date == datetime(2026, 11, 20, 9, 30, tzinfo=NEW_YORK)


def test_a_time_of_day_alone_is_today(bars):
    assert bars(AAPL, "10:00:00", "600 S", "1 min") == bars(
        AAPL, "20261123 10:00:00 US/Eastern", "600 S", "1 min"
    )
