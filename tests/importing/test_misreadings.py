"""Files that mean something else than they seem to are refused, or read as they are meant."""

from datetime import timedelta

import pytest

from ktrdr.importing.columns import Stamp, parse_chosen
from tests.importing.known_bars import (
    DAYS,
    FOREX,
    HEADER,
    imported,
    local,
    minutes,
    read,
    table,
    weekdays,
)

M1 = timedelta(minutes=1)
TITLES = ("Date", "Open", "High", "Low", "Close", "Volume")


def naive_row(start, *numbers):
    return ",".join(map(str, (local(start), *numbers)))


def days(row, separator=",", title=True):
    return table(DAYS, row, separator.join(TITLES) + "\n" if title else "")


def test_ends_of_minutes_of_forex_are_no_starts_under_the_header_of_the_store(tmp_path):
    path = tmp_path / "EURUSD_1m.csv"
    path.write_text(
        table([(b[0] + M1, *b[1:]) for b in FOREX], lambda *b: ",".join(map(str, b)), HEADER)
    )
    found = imported(tmp_path / "store", path)
    assert "at the close of a week" in found.error.message
    assert imported(tmp_path / "store", path, stamp=Stamp.END).error is None
    assert read(tmp_path / "store/EURUSD_1m.csv") == FOREX


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_points_beside_dates_as_in_german_may_be_thousands(tmp_path, separator):
    cells = "2.815 2.830 2.800 2.820 1.234".split()
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(days(lambda t, *_: separator.join([f"{t:%d.%m.%Y}", *cells]), separator))
    found = imported(tmp_path / "store", path)
    assert "the decimal sign" in found.error.message
    assert "decimal=comma" in found.error.hint
    found = imported(tmp_path / "store", path, columns=parse_chosen("decimal=comma"))
    assert read(tmp_path / "store/AAPL_1d.csv")[0][1:] == (2815, 2830, 2800, 2820, 1234)


def test_points_beside_other_dates_are_decimal_signs(tmp_path):
    cells = "141.234 141.500 141.100 141.240 0".split()
    path = tmp_path / "USDJPY_1d.csv"
    path.write_text(days(lambda t, *_: "\t".join([f"{t:%Y.%m.%d}", *cells]), "\t"))
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store/USDJPY_1d.csv")[0][1:] == (141.234, 141.5, 141.1, 141.24, -1)


def test_prices_in_32nds_are_no_thousands(tmp_path):
    path = tmp_path / "ZN_1d.csv"
    path.write_text(days(lambda t, *_: f"{t:%Y-%m-%d},112'165,112'240,112'010,112'165,500"))
    found = imported(tmp_path / "store", path)
    assert '"112\'165" may be a price in 32nds' in found.error.message
    assert "decimal numbers" in found.error.hint


def test_a_late_row_shows_the_decimal_sign_of_all(tmp_path):
    rows = [f"{t:%d.%m.%Y};2.815;2.830;2.800;2.820;1.234" for t, *_ in DAYS] * 3
    end = "31.07.2026;2.815,5;2.830,5;2.800;2.820;1.234"
    path = tmp_path / "AAPL_1d.csv"
    path.write_text("\n".join([";".join(TITLES), *rows, end, ""]))
    assert imported(tmp_path / "store", path).error is None
    first = read(tmp_path / "store/AAPL_1d.csv")[0]
    assert first[1:] == (2815.5, 2830.5, 2800, 2820, 1234)


def test_adjusted_closes_without_a_header_are_no_volumes(tmp_path):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(
        days(lambda t, o, h, lo, c, _: f"{t:%Y-%m-%d},{o},{h},{lo},{c},{c}", title=False)
    )
    found = imported(tmp_path / "store", path)
    assert "no volumes, but prices" in found.error.message
    assert "--columns time=1,open=2,high=3,low=4,close=5,volume=none" in found.error.hint


@pytest.mark.parametrize("prices", ["0,0,0,0,0", "0,190,0,185,5"])
def test_a_line_with_a_price_of_0_is_refused(tmp_path, prices):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(
        days(lambda t, *bar: f"{t:%Y-%m-%d},{','.join(map(str, bar))}") + f"2026-09-30,{prices}\n"
    )
    found = imported(tmp_path / "store", path)
    assert [one.line for one in found.refused] == [len(DAYS) + 2]
    assert found.refused[0].why == "a price is 0"
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS


def test_prices_below_0_are_prices(tmp_path):
    path, store = tmp_path / "CLK0_1d.csv", tmp_path / "store"
    path.write_text(days(lambda t, *_: f"{t:%Y-%m-%d},1.5,2,-40.25,0,7"))
    assert imported(store, path).error is None
    assert read(store / "CLK0_1d.csv")[0][1:] == (1.5, 2, -40.25, 0, 7)


def test_hours_marked_est_in_summer_are_said_to_have_wrong_offsets(tmp_path):
    halves = minutes(weekdays("2026-09-01", 10), 30)
    hours = [b for b in halves if b[0].minute == 0 or local(b[0])[11:16] == "09:30"]
    path = tmp_path / "AAPL_1h.csv"
    path.write_text(table(hours, lambda t, *b: ",".join(map(str, (local(t) + " EST", *b))), HEADER))
    found = imported(tmp_path / "store", path)
    assert "the same clock in America/New_York shows starts" in found.error.message
    assert "--zone America/New_York --columns offsets=ignored" in found.error.hint
    chosen = parse_chosen("offsets=ignored")
    found = imported(tmp_path / "store", path, zone="America/New_York", columns=chosen)
    assert found.error is None
    assert read(tmp_path / "store/AAPL_1h.csv") == hours


@pytest.mark.parametrize(("first", "count"), [("04:00", 330), ("16:00", 240)])
def test_hours_before_or_after_the_sessions_alone_are_taken_as_they_are(tmp_path, first, count):
    bars = minutes(weekdays("2026-10-05", 10), first=first, count=count)
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(table(bars, lambda *b: ",".join(map(str, b)), HEADER))
    stamp = Stamp.START if first == "16:00" else None  # the first one is at a close
    assert imported(tmp_path / "store", path, stamp=stamp).error is None
    assert read(tmp_path / "store/AAPL_1m.csv") == bars


@pytest.mark.parametrize(("first", "count"), [("04:00", 330), ("16:00", 240)])
def test_ends_before_or_after_the_sessions_alone_are_what_a_person_says(tmp_path, first, count):
    bars = minutes(weekdays("2026-10-05", 10), first=first, count=count)
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(table([(b[0] + M1, *b[1:]) for b in bars], naive_row, HEADER))
    found = imported(tmp_path / "store", path, zone="America/New_York")
    assert "the starts or the ends" in found.error.message
    found = imported(tmp_path / "store", path, zone="America/New_York", stamp=Stamp.END)
    assert found.error is None
    assert read(tmp_path / "store/AAPL_1m.csv") == bars


def test_the_exchange_s_zone_is_proposed_first_for_rows_after_the_sessions_alone(tmp_path):
    bars = minutes(weekdays("2026-10-05", 10), first="16:00", count=240)
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(table(bars, naive_row, HEADER))
    found = imported(tmp_path / "store", path)
    assert "fit several: America/New_York, UTC" in found.error.message
    assert "--zone America/New_York" in found.error.hint


def test_ends_of_minutes_before_the_sessions_alone_are_no_starts(tmp_path):
    bars = minutes(weekdays("2026-10-05", 10), first="04:00", count=330)
    path = tmp_path / "AAPL_1m.csv"
    ends = [(b[0] + M1, *b[1:]) for b in bars]
    path.write_text(table(ends, lambda *b: ",".join(map(str, b)), HEADER))
    assert imported(tmp_path / "store", path).error is not None
    assert not (tmp_path / "store/AAPL_1m.csv").exists()


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y"])
def test_decimal_commas_in_quotes_are_read_between_commas(tmp_path, form):
    def row(t, *numbers):
        prices = [f'"{price:.2f}"'.replace(".", ",") for price in numbers[:4]]
        return ",".join([t.strftime(form), *prices, str(numbers[4])])

    path = tmp_path / "AAPL_1d.csv"
    path.write_text(days(row))
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS


def test_points_between_commas_beside_german_dates_are_decimal_signs(tmp_path):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(days(lambda t, *b: ",".join([f"{t:%d.%m.%Y}", *(f"{x:.3f}" for x in b)])))
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS
