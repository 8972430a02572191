"""Times that say their zone in the header, that show hours alone, or the last moments of bars."""

from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.importing.columns import Stamp, parse_chosen
from tests.importing.known_bars import (
    CRYPTO,
    DAYS,
    FOREX,
    MINUTES,
    bar,
    imported,
    local,
    read,
    table,
)

ENTRY = '[BTC]\nsec_type = "CRYPTO"\n'
COIN_DAYS = [bar(datetime(2026, 10, 1, tzinfo=UTC) + timedelta(days=n), n) for n in range(30)]
LAST = timedelta(minutes=1) - timedelta(milliseconds=1)
NUMBERS = "open,high,low,close,volume\n"


def milliseconds(start):
    return int(start.timestamp()) * 1000


def run(tmp_path, name, text, **wishes):
    """What became of a file in a store in which BTC is the coin."""
    store, path = tmp_path / "store", tmp_path / name
    store.mkdir(parents=True, exist_ok=True)
    (store / "instruments.toml").write_text(ENTRY)
    path.write_text(text)
    found = imported(store, path, **wishes)
    return found, read(store / name) if found.error is None else None


def rows(bars, title, time):
    return table(bars, lambda t, *b: ",".join(map(str, (time(t), *b))), f"{title},{NUMBERS}")


@pytest.mark.parametrize(
    "title",
    ["datetime_utc", "Date (UTC)", "Time (UTC)", "timestamp_utc", "Date UTC", "utc", "Gmt time"],
)
def test_the_name_of_a_column_says_that_its_times_are_utc(tmp_path, title):
    text = rows(CRYPTO, title, lambda t: f"{t:%Y-%m-%d %H:%M:%S}")
    found, bars = run(tmp_path, "BTC_1m.csv", text, stamp=Stamp.START)
    assert found.error is None
    assert (found.meaning.zone, found.meaning.zone_known) == ("UTC", "in the file")
    assert bars == CRYPTO


@pytest.mark.parametrize("titles", ["Date,Time (UTC)", "Date (UTC),Time", "date_utc,time_utc"])
def test_the_name_of_a_column_of_dates_or_of_clocks_says_it_too(tmp_path, titles):
    text = rows(CRYPTO, titles, lambda t: f"{t:%Y-%m-%d,%H:%M}")
    assert run(tmp_path, "BTC_1m.csv", text, stamp=Stamp.START)[1] == CRYPTO


def test_a_column_in_utc_goes_before_one_of_another_clock(tmp_path):
    text = rows(MINUTES, "datetime,datetime_utc", lambda t: f"{local(t)},{t:%Y-%m-%d %H:%M}")
    found, bars = run(tmp_path, "AAPL_1m.csv", text)
    assert found.meaning.zone_known == "in the file"
    assert bars == MINUTES


def test_a_column_of_another_offset_is_not_taken_for_utc(tmp_path):
    text = rows(CRYPTO, "Date (UTC+8)", lambda t: f"{t:%Y-%m-%d %H:%M:%S}")
    found, _ = run(tmp_path, "BTC_1m.csv", text, stamp=Stamp.START)
    assert "no column time" in found.error.message


@pytest.mark.parametrize("form", ["%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d %H", "%Y-%m-%d %H"])
def test_hours_are_read_without_minutes_too(tmp_path, form):
    hours = [b for b in FOREX if b[0].minute == 0]
    for title in ("timestamp", "date"):
        text = rows(hours, title, lambda t: t.strftime(form))
        wishes = {"zone": "UTC", "stamp": Stamp.START}
        assert run(tmp_path / title, "EURUSD_1h.csv", text, **wishes)[1] == hours


def test_ten_digits_of_seconds_are_no_hours(tmp_path):
    text = rows(CRYPTO, "time", lambda t: int(t.timestamp()))
    assert run(tmp_path, "BTC_1m.csv", text, stamp=Stamp.START)[1] == CRYPTO


MOMENTS = {
    "milliseconds": lambda t: milliseconds(t) + 59_999,
    "microseconds": lambda t: milliseconds(t) * 1000 + 59_999_999,
    "text": lambda t: f"{(t + LAST):%Y-%m-%d %H:%M:%S}.999+00:00",
    "seconds": lambda t: int(t.timestamp()) + 59,
    "text of seconds": lambda t: f"{(t + LAST):%Y-%m-%d %H:%M:%S}Z",
}


@pytest.mark.parametrize("spelling", MOMENTS)
def test_the_last_moment_of_a_bar_is_its_end(tmp_path, spelling):
    found, bars = run(tmp_path, "BTC_1m.csv", rows(CRYPTO, "close_time", MOMENTS[spelling]))
    assert found.error is None
    assert found.meaning.stamp is Stamp.END
    assert bars == CRYPTO


def test_the_open_time_counts_beside_the_close_time(tmp_path):
    text = table(
        CRYPTO,
        lambda t, *b: ",".join(map(str, (milliseconds(t) + 59_999, milliseconds(t), *b))),
        f"close_time,open_time,{NUMBERS}",
    )
    found, bars = run(tmp_path, "BTC_1m.csv", text)
    assert found.meaning.stamp is Stamp.START
    assert bars == CRYPTO
    found, bars = run(tmp_path / "chosen", "BTC_1m.csv", text, columns={"time": "close_time"})
    assert found.meaning.stamp is Stamp.END
    assert bars == CRYPTO


def test_last_moments_are_no_starts_and_not_mixed_with_other_times(tmp_path):
    text = rows(CRYPTO, "time", MOMENTS["milliseconds"])
    found, _ = run(tmp_path, "BTC_1m.csv", text, stamp=Stamp.START)
    assert found.error.hint == "leave --stamp out"
    assert run(tmp_path, "BTC_1m.csv", text)[1] == CRYPTO
    more = table(DAYS, lambda t, *b: ",".join(map(str, (milliseconds(t), *b))))
    found, _ = run(tmp_path / "mixed", "BTC_1m.csv", text + more)
    assert "300 of its times end in .999, and others do not" in found.error.message


@pytest.mark.parametrize("spelling", ["last moment", "midnight behind"])
def test_days_of_coins_by_their_close_time_are_the_days_before(tmp_path, spelling):
    more = 86_400_000 - (spelling == "last moment")
    text = rows(COIN_DAYS, "close_time", lambda t: milliseconds(t) + more)
    found, bars = run(tmp_path, "BTC_1d.csv", text)
    assert found.error is None
    assert bars == COIN_DAYS


def test_days_of_stocks_by_a_close_time_at_midnight_are_not_guessed(tmp_path):
    text = rows(DAYS, "close_time", lambda t: f"{t + timedelta(days=1):%Y-%m-%d %H:%M}")
    found, _ = run(tmp_path, "AAPL_1d.csv", text)
    assert "the midnight behind" in found.error.message
    text = rows(DAYS, "close_time", lambda t: f"{t:%Y-%m-%d} 23:59:59.999")
    assert run(tmp_path, "AAPL_1d.csv", text)[1] == DAYS


def test_offsets_that_are_ignored_leave_the_zone_to_the_sessions(tmp_path):
    text = rows(MINUTES, "date_utc", lambda t: local(t) + " CST")
    assert run(tmp_path, "AAPL_1m.csv", text)[0].error is not None
    found, bars = run(tmp_path, "AAPL_1m.csv", text, columns=parse_chosen("offsets=ignored"))
    assert found.error is None
    assert bars == MINUTES


def test_ignored_offsets_are_those_of_epochs_too(tmp_path):
    text = rows(MINUTES, "time", lambda t: milliseconds(t) - 5 * 3_600_000)
    assert "the same clock in" in run(tmp_path, "AAPL_1m.csv", text)[0].error.message
    found, bars = run(tmp_path, "AAPL_1m.csv", text, columns=parse_chosen("offsets=ignored"))
    assert found.error is None
    assert found.meaning.zone == "Etc/GMT+5"
    assert bars == MINUTES
