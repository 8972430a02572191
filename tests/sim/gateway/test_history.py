import asyncio
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from time import thread_time
from zoneinfo import ZoneInfo

import exchange_calendars
import pytest
from ib_insync import Contract, Crypto, Forex, Stock
from ib_insync.wrapper import RequestError

from ktrdr.sim.market.market import truth

NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
AAPL = Stock("AAPL", "SMART", "USD")
EURUSD = Forex("EURUSD")
ES = Contract(secType="FUT", localSymbol="ESZ6", exchange="CME")
BTC = Crypto("BTC", "PAXOS", "USD")
SIZES = {"1 min": 1, "5 mins": 5, "15 mins": 15, "30 mins": 30, "1 hour": 60, "4 hours": 240}


def starts(bars, zone, form="%m-%d %H:%M"):
    return [bar.date.astimezone(zone).strftime(form) for bar in bars]


def error_of(bars, *args, **options):
    with pytest.raises(RequestError) as refused:
        bars(*args, **options)
    return refused.value.code, refused.value.message


def test_hours_of_a_us_stock_begin_at_half_past_nine_and_then_at_full_hours(bars):
    got = bars(AAPL, "20261120-22:00:00", "1 D", "1 hour")
    assert starts(got, NEW_YORK, "%H:%M") == [
        "09:30", "10:00", "11:00", "12:00", "13:00", "14:00", "15:00",
    ]  # fmt: skip


def test_four_hour_bars_begin_at_the_open_and_at_multiples_of_four_on_the_local_clock(bars):
    assert starts(bars(AAPL, "20261120-22:00:00", "1 D", "4 hours"), NEW_YORK, "%H:%M") == [
        "09:30",
        "12:00",
    ]
    assert starts(bars(EURUSD, "20261120-22:00:00", "1 D", "4 hours"), NEW_YORK) == [
        "11-19 17:15", "11-19 20:00", "11-20 00:00", "11-20 04:00", "11-20 08:00",
        "11-20 12:00", "11-20 16:00",
    ]  # fmt: skip


def test_the_day_after_thanksgiving_ends_at_one_and_thanksgiving_has_no_bars(bars, monday):
    got = bars(AAPL, "20261128-00:00:00", "2 D", "1 min", now=monday + timedelta(days=14))
    days = {stamp[:5]: stamp[6:] for stamp in starts(got, NEW_YORK)}
    assert days == {"11-25": "15:59", "11-27": "12:59"}


def test_all_hours_of_a_stock_are_four_to_twenty(bars):
    got = starts(bars(AAPL, "20261121-05:00:00", "1 D", "1 min", rth=False), NEW_YORK)
    assert (got[0], got[-1], len(got)) == ("11-20 04:00", "11-20 19:59", 16 * 60)


def test_trading_days_of_stocks_are_those_of_the_new_york_stock_exchange(bars):
    days = [bar.date for bar in bars(AAPL, "20261120-22:00:00", "12 Y", "1 day")]
    known = exchange_calendars.get_calendar("XNYS", start="2014-11-21", end="2026-11-20")
    assert days == [session.date() for session in known.sessions]
    # From the exchange's own announcements: a day of mourning, Juneteenth, a hurricane's absence.
    assert date(2025, 1, 9) not in days
    assert date(2023, 6, 19) not in days
    assert date(2015, 6, 19) in days


@pytest.mark.parametrize(
    ("end", "first_utc", "last_utc"),
    [
        ("20260717-21:00:00", "07-12 21:15", "07-17 20:59"),  # summer
        ("20261120-22:00:00", "11-15 22:15", "11-20 21:59"),  # winter
        ("20261106-22:00:00", "11-01 22:15", "11-06 21:59"),  # the clocks changed that Sunday
    ],
)
def test_the_forex_week_follows_new_yorks_clock(bars, end, first_utc, last_utc):
    got = starts(bars(EURUSD, end, "5 D", "1 min"), UTC)
    assert (got[0], got[-1]) == (first_utc, last_utc)
    assert len(got) == 5 * (24 * 60 - 15)


def test_futures_pause_from_four_to_five_in_chicago(bars):
    got = starts(bars(ES, "20261120-22:00:00", "2 D", "1 hour", rth=False), CHICAGO)
    assert got[:2] == ["11-18 17:00", "11-18 18:00"]
    assert "11-19 15:00" in got
    assert "11-19 16:00" not in got
    assert "11-19 17:00" in got


def test_crypto_never_pauses(bars):
    got = bars(BTC, "20261122-00:00:00", "3 D", "1 hour")
    assert len(got) == 72


def test_daily_bars_are_dated_by_the_day_on_which_the_session_closes(bars):
    got = bars(EURUSD, "20261120-22:00:00", "5 D", "1 day")
    assert [bar.date for bar in got] == [date(2026, 11, day) for day in (16, 17, 18, 19, 20)]
    assert [b.date for b in bars(EURUSD, "20261120-22:00:00", "5 D", "1 day", fmt=1)] == [
        bar.date for bar in got
    ]


def test_both_date_formats_mean_the_same_instants(bars):
    seconds = bars(ES, "20261120-22:00:00", "1 D", "30 mins", fmt=2)
    texts = bars(ES, "20261120-22:00:00", "1 D", "30 mins", fmt=1)
    assert texts[0].date.tzinfo is not None
    assert [bar.date for bar in texts] == [bar.date for bar in seconds]


def added_up(minutes, start, end):
    """One bar out of minute bars, by hand."""
    inside = [bar for bar in minutes if start <= bar.date < end]
    volume = sum(bar.volume for bar in inside) if inside[0].volume >= 0 else -1
    return (
        inside[0].open,
        max(bar.high for bar in inside),
        min(bar.low for bar in inside),
        inside[-1].close,
        volume,
    )


@pytest.mark.parametrize("contract", [AAPL, EURUSD, ES, BTC], ids=lambda c: c.secType)
def test_larger_bars_are_exact_sums_of_the_minutes(bars, contract):
    end, rth = "20261120-22:00:00", contract.secType == "STK"
    minutes = bars(contract, end, "2 D", "1 min", rth=rth)
    for size in list(SIZES)[1:]:
        large = bars(contract, end, "2 D", size, rth=rth)
        edges = [bar.date for bar in large] + [minutes[-1].date + timedelta(minutes=1)]
        for bar, start, stop in zip(large, edges[:-1], edges[1:], strict=True):
            expected = added_up(minutes, start, stop)
            assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == expected, (size, start)
    days = bars(contract, end, "2 D", "1 day", rth=rth)
    pairs = pairwise(minutes)
    pauses = [b.date for a, b in pairs if b.date - a.date > timedelta(minutes=1)]
    cut = datetime(2026, 11, 20, tzinfo=UTC) if contract is BTC else pauses[-1]
    halves = [(minutes[0].date, cut), (cut, edges[-1])]
    assert [(d.open, d.high, d.low, d.close, d.volume) for d in days] == [
        added_up(minutes, *half) for half in halves
    ]


def test_prices_are_whole_ticks_to_the_last_digit_and_volumes_whole_numbers(bars):
    for contract, tick in ((AAPL, "0.01"), (EURUSD, "0.00005"), (ES, "0.25"), (BTC, "0.25")):
        for bar in bars(contract, "20261120-22:00:00", "1 D", "1 min"):
            prices = (bar.open, bar.high, bar.low, bar.close)
            assert all(Decimal(repr(price)) % Decimal(tick) == 0 for price in prices)
            assert bar.low == min(prices)
            assert bar.high == max(prices)
            assert bar.volume == int(bar.volume)


def test_each_minute_opens_where_the_last_one_closed(bars):
    got = bars(AAPL, "20261120-22:00:00", "1 D", "1 min")
    assert all(a.close == b.open for a, b in pairwise(got))
    assert len({bar.close for bar in got}) > 30


def test_midpoints_have_no_volume_no_average_and_no_count(bars):
    for contract in (EURUSD, AAPL):
        got = bars(contract, "20261120-22:00:00", "1 D", "1 hour", "MIDPOINT")
        assert {(bar.volume, bar.average, bar.barCount) for bar in got} == {(-1, -1, -1)}


def test_the_same_minute_is_the_same_in_every_answer(bars):
    week = {bar.date: bar for bar in bars(ES, "20261120-22:00:00", "1 W", "1 min", rth=False)}
    part = bars(ES, "20261118-10:07:00", "1800 S", "1 min", rth=False)
    assert len(part) == 30
    assert all(week[bar.date] == bar for bar in part)


def test_another_seed_is_another_market(bars):
    one, two = (bars(AAPL, "20261120-22:00:00", "1 D", "1 day", seed=seed) for seed in (1, 2))
    assert one != two


def test_the_bar_still_forming_is_in_an_answer_that_ends_now(bars, monday):
    forming = bars(AAPL, "", "1 D", "1 hour", now=monday)
    later = bars(AAPL, "", "1 D", "1 hour", now=monday + timedelta(hours=2))
    assert starts(forming, NEW_YORK, "%H:%M") == ["09:30", "10:00"]
    assert forming[0] == later[0]
    assert forming[1].open == later[1].open
    assert forming[1].volume < later[1].volume
    assert later[1].low <= forming[1].low <= forming[1].high <= later[1].high


def test_a_minute_is_not_there_before_it_has_begun(bars, monday):
    at = monday.replace(second=0)
    assert starts(bars(AAPL, "", "60 S", "1 min", now=at), NEW_YORK)[-1] == "11-23 10:29"
    at = monday.replace(second=1)
    assert starts(bars(AAPL, "", "60 S", "1 min", now=at), NEW_YORK)[-1] == "11-23 10:30"


def test_an_end_in_the_future_means_now(bars):
    assert bars(AAPL, "20270101-00:00:00", "1 D", "5 mins") == bars(AAPL, "", "1 D", "5 mins")


def test_an_end_can_be_written_in_utc_or_with_a_zone(bars):
    one, *others = (
        bars(EURUSD, end, "1 D", "1 hour")
        for end in (
            "20261119-15:00:00",
            "20261119 15:00:00 UTC",
            "20261119 10:00:00 America/New_York",
            "20261119 10:00:00 US/Eastern",
            datetime(2026, 11, 19, 15, tzinfo=UTC),
            "20261119 10:00:00",  # the login's zone
            "20261119  10:00:00",
        )
    )
    assert one
    assert all(other == one for other in others)


@pytest.mark.parametrize(
    "end",
    [
        "2026-11-19",
        "20261119",
        "20261119 10:00:00 EST",
        "20261119 10:00:00 ../etc",
        "20261340-00:00:00",
    ],
)
def test_an_end_that_ib_does_not_read_gets_10314(bars, end):
    assert error_of(bars, AAPL, end, "1 D", "1 hour")[0] == 10314


MONDAY_10 = "20261123-15:00:00"  # 10:00 in New York


@pytest.mark.parametrize(
    ("contract", "duration", "first"),
    [
        (AAPL, "1 D", "11-23 09:30"),
        (AAPL, "2 D", "11-20 09:30"),
        (AAPL, "1800 S", "11-23 09:30"),
        (AAPL, "3600 S", "11-20 15:30"),  # half an hour of Monday, half an hour of Friday
        (AAPL, "86400 S", "11-17 12:00"),  # 0.5 + 3 x 6.5 + 4 hours
        (AAPL, "1 W", "11-16 10:00"),
        (AAPL, "1 M", "10-23 11:00"),  # 15:00 UTC; New York had summer time
        (EURUSD, "1 D", "11-22 17:15"),
        (EURUSD, "2 D", "11-19 17:15"),
    ],
)
def test_durations_are_trading_time(bars, contract, duration, first):
    assert starts(bars(contract, MONDAY_10, duration, "1 min"), NEW_YORK)[0] == first


def test_a_year_of_days_begins_a_year_earlier(bars):
    got = bars(AAPL, "20261120-22:00:00", "1 Y", "1 day")
    assert got[0].date == date(2025, 11, 21)


@pytest.mark.parametrize(
    ("duration", "size"),
    [("86401 S", "1 hour"), ("366 D", "1 day"), ("5 H", "1 min"), ("D", "1 min"), ("0 D", "1 min"),
     ("1 D", "7 mins"), ("1 D", "")],
)  # fmt: skip
def test_what_ib_finds_invalid_gets_321(bars, duration, size):
    assert error_of(bars, AAPL, "", duration, size)[0] == 321


def test_no_data_is_162_with_ibs_text(bars):
    no_data = "Historical Market Data Service error message:HMDS query returned no data: "
    assert error_of(bars, EURUSD, "", "1 D", "1 hour", "TRADES") == (
        162,
        no_data + "EUR.USD@IDEALPRO Trades",
    )
    expired = Contract(secType="FUT", localSymbol="ESM6", exchange="CME", includeExpired=True)
    assert error_of(bars, expired, "", "1 W", "1 hour") == (162, no_data + "ESM6@CME Trades")
    assert error_of(bars, AAPL, "19700101-00:00:00", "1 D", "1 day")[0] == 162


def test_a_future_trades_until_its_third_friday(bars):
    expired = Contract(secType="FUT", localSymbol="ESU6", exchange="CME", includeExpired=True)
    got = bars(expired, "", "1 Y", "1 day", rth=False)
    assert got[-1].date == date(2026, 9, 18)
    assert got[0].date > date(2025, 9, 1)


def test_crypto_has_no_trades_but_aggregated_ones(bars):
    assert error_of(bars, BTC, "", "1 D", "1 hour", "TRADES")[0] == 10299


@pytest.mark.parametrize(
    "contract",
    [
        Stock("NOPE", "SMART", "USD"),
        Stock("AAPL", "SMART", "EUR"),
        Stock("AAPL", "MOON", "USD"),
        Forex("EURXXX"),
        Contract(secType="FUT", localSymbol="ESF6", exchange="CME"),  # ES has no January
        Contract(secType="FUT", symbol="ES", exchange="CME"),  # ambiguous
        Crypto("DOGE", "PAXOS", "USD"),
        Contract(secType="IND", symbol="SPY", exchange="CBOE"),
        Contract(
            secType="FUT", localSymbol="ESU6", exchange="CME"
        ),  # expired, without includeExpired
        Contract(),
    ],
    ids=str,
)
def test_a_contract_that_is_not_or_not_clear_gets_200(bars, contract):
    assert error_of(bars, contract, "", "1 D", "1 day", "TRADES")[0] == 200


def test_the_truth_is_what_a_client_gets(bars):
    day = datetime(2026, 11, 20, tzinfo=UTC)
    for contract, symbol in ((AAPL, "AAPL"), (EURUSD, "EURUSD"), (ES, "ESZ6"), (BTC, "BTC")):
        got = bars(contract, "20261121-00:00:00", "2 D", "15 mins", rth=contract is AAPL)
        got = [b for b in got if day <= b.date < day + timedelta(days=1)]
        known = truth(symbol, "15m", int(day.timestamp()), int(day.timestamp()) + 86400)
        assert [
            (int(b.date.timestamp()), b.open, b.high, b.low, b.close, int(b.volume)) for b in got
        ] == known


def test_fifty_thousand_minutes_are_made_within_a_second_of_one_core():
    end = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
    truth("EURUSD", "1m", end - 86400, end)
    begin = thread_time()
    known = truth("EURUSD", "1m", end - 60 * 86400, end)
    assert len(known) > 55_000
    assert thread_time() - begin < 1.1


def test_prices_move_like_prices():
    year = truth(
        "AAPL", "1d", *(int(datetime(y, 1, 1, tzinfo=UTC).timestamp()) for y in (2025, 2026))
    )
    closes = [row.close for row in year]
    moves = [math.log(b / a) for a, b in pairwise(closes)]
    daily = (sum(m * m for m in moves) / len(moves)) ** 0.5
    assert 0.002 < daily < 0.05
    assert 0.05 < max(closes) / min(closes) - 1 < 1.0
    hours = truth("AAPL", "30m", year[0].start, year[0].start + 2 * 86400)[:13]
    assert hours[0].volume > 1.5 * hours[6].volume < hours[12].volume


def test_current_time_and_head_timestamp(with_client, monday):
    async def work(client, _):
        now = await client.reqCurrentTimeAsync()
        heads = [await client.reqHeadTimeStampAsync(ES, "TRADES", False, fmt) for fmt in (1, 2)]
        return now, heads

    now, (text, seconds) = with_client(work)
    assert now == monday.replace(microsecond=0)
    assert text.replace(tzinfo=UTC) == seconds == datetime(2025, 12, 18, 23, tzinfo=UTC)


def test_one_client_may_have_many_requests_open(with_client):
    async def work(client, _):
        requests = (
            client.reqHistoricalDataAsync(c, "", "2 D", size, what, False, 2)
            for size in SIZES
            for c, what in ((AAPL, "TRADES"), (EURUSD, "MIDPOINT"), (ES, "TRADES"))
        )
        return await asyncio.gather(*requests)

    assert all(len(got) > 1 for got in with_client(work))
