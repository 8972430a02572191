"""Sessions and sums against other sources: other people's calendars, and real bars."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import exchange_calendars
import pandas as pd
import pytest
from ib_insync import Contract, Forex, Stock

NEW_YORK = ZoneInfo("America/New_York")
AAPL = Stock("AAPL", "SMART", "USD")
COLUMNS = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}

# NYSE's announcements (nyse.com/markets/hours-calendars, and of its days of mourning), by hand.
CLOSED = {
    date(2015, 4, 3), date(2016, 3, 25), date(2017, 1, 2), date(2018, 12, 5), date(2019, 4, 19),
    date(2020, 7, 3), date(2021, 1, 18), date(2021, 12, 24), date(2022, 6, 20), date(2023, 6, 19),
    date(2024, 3, 29), date(2025, 1, 9), date(2025, 6, 19), date(2026, 4, 3), date(2026, 7, 3),
    date(2027, 6, 18), date(2027, 7, 5), date(2027, 12, 24),
}  # fmt: skip
HALF = {
    date(2015, 11, 27), date(2016, 11, 25), date(2017, 7, 3), date(2018, 7, 3), date(2019, 12, 24),
    date(2020, 12, 24), date(2021, 11, 26), date(2022, 11, 25), date(2023, 7, 3), date(2024, 7, 3),
    date(2024, 12, 24), date(2025, 7, 3), date(2025, 11, 28), date(2026, 11, 27),
    date(2026, 12, 24), date(2027, 11, 26),
}  # fmt: skip


def scheduled(with_client, year):
    """The sessions of a year as a client receives them: day → (open, close), New York time."""
    now = datetime(year + 1, 1, 1, 12, tzinfo=UTC)

    async def work(client, _):
        return await client.reqHistoricalScheduleAsync(AAPL, 260, "", True)

    got = with_client(work, now=now)
    assert got.timeZone == str(NEW_YORK)
    return {
        datetime.strptime(s.refDate, "%Y%m%d").date(): (s.startDateTime[9:], s.endDateTime[9:])  # noqa: DTZ007
        for s in got.sessions
        if s.refDate.startswith(str(year))
    }


@pytest.mark.parametrize("year", range(2015, 2028))
def test_every_day_of_the_new_york_stock_exchange_opens_and_closes_as_known_elsewhere(
    with_client, year
):
    got = scheduled(with_client, year)
    known = exchange_calendars.get_calendar("XNYS", start=f"{year}-01-01", end=f"{year}-12-31")
    expected = {
        day.date(): tuple(row[side].tz_convert(NEW_YORK).strftime("%H:%M:%S") for side in row.index)
        for day, row in known.schedule[["open", "close"]].iterrows()
    }
    assert got == expected
    assert not CLOSED & set(got)
    assert {day for day in HALF if day.year == year} <= {
        day for day, (_, closes) in got.items() if closes == "13:00:00"
    }
    assert {opens for opens, _ in got.values()} == {"09:30:00"}


@pytest.mark.parametrize(
    ("end", "minutes", "last"),
    [
        ("20151127-23:00:00", 210, "12:59"),
        ("20200309-23:00:00", 390, "15:59"),  # the first day after the clocks changed
        ("20241224-23:00:00", 210, "12:59"),
        ("20251103-23:00:00", 390, "15:59"),
        ("20261224-23:00:00", 210, "12:59"),
    ],
)
def test_half_days_and_days_after_a_change_of_the_clock_have_all_their_minutes(
    bars, end, minutes, last
):
    got = bars(AAPL, end, "1 D", "1 min", now=datetime(2027, 1, 4, 12, tzinfo=UTC))
    clock = [bar.date.astimezone(NEW_YORK).strftime("%H:%M") for bar in got]
    assert (len(got), clock[0], clock[-1]) == (minutes, "09:30", last)


def replayed(with_client, folder, contract, what, sizes, weeks):
    async def work(client, _):
        return [
            await client.reqHistoricalDataAsync(contract, "", weeks, size, what, False, 2)
            for size in sizes
        ]

    return with_client(work, replay=folder)


def frame(bars, zone):
    table = pd.DataFrame(
        [(b.open, b.high, b.low, b.close, b.volume) for b in bars], columns=list(COLUMNS)
    )
    return table.set_index(pd.DatetimeIndex([b.date for b in bars]).tz_convert(zone))


@pytest.mark.parametrize(
    ("contract", "what", "zone"),
    [
        (Forex("USDJPY"), "MIDPOINT", "America/New_York"),
        (
            Contract(secType="FUT", localSymbol="6EH4", exchange="CME", includeExpired=True),
            "TRADES",
            "America/Chicago",
        ),
    ],
    ids=["USDJPY", "6EH4"],
)
def test_real_minutes_are_summed_up_as_pandas_does(with_client, shared_data, contract, what, zone):
    sizes = {"1 min": "1min", "2 mins": "2min", "5 mins": "5min", "10 mins": "10min",
             "20 mins": "20min", "30 mins": "30min"}  # fmt: skip
    minutes, *larger = (
        frame(got, zone) for got in replayed(with_client, shared_data, contract, what, sizes, "2 W")
    )
    assert len(minutes) > 5000
    for rule, got in zip(list(sizes.values())[1:], larger, strict=True):
        known = minutes.resample(rule).agg(COLUMNS).dropna()
        if what == "MIDPOINT":
            known["volume"] = -1.0
        opens = known.index.isin(got.index)  # all but those that a session's open cuts short
        assert opens.mean() > 0.98
        pd.testing.assert_frame_equal(
            got.loc[got.index.isin(known.index)].iloc[1:],
            known.loc[opens].iloc[1:],
            check_dtype=False,
            check_freq=False,
        )


def test_the_days_of_forex_hold_the_hours_from_seventeen_to_seventeen_as_recorded(bars):
    """IB's own forex days: Sunday 17:15 belongs to Monday, and no day is cut at midnight."""
    days = bars(Forex("EURUSD"), "20261120-22:00:00", "5 D", "1 day")
    minutes = frame(bars(Forex("EURUSD"), "20261120-22:00:00", "5 D", "1 min"), NEW_YORK)
    shifted = minutes.copy()
    shifted.index = shifted.index + timedelta(hours=7)
    by_day = shifted.groupby(shifted.index.date).agg(COLUMNS)
    assert [(b.date, b.open, b.high, b.low, b.close) for b in days] == [
        (day, row.open, row.high, row.low, row.close)
        for day, row in zip(by_day.index, by_day.itertuples(), strict=True)
    ]
