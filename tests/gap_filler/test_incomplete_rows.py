"""Rows of somebody else that lack a value: named, left, and filled once they are removed."""

import asyncio
import contextlib
import sqlite3

import pytest

from ktrdr.check.store import StoreCheck
from ktrdr.gap_filler.routes import routes
from tests.fake_connection import DAY, HEADER, coverage_of, fill, line, price, utc

FIRST = utc("2026-11-19 10:00")
HOURS = [FIRST + DAY * day + 3600 * hour for day in (-2, -1, 0, 1) for hour in (0, 1)]
"""All bars of four days, of which the last one is today."""
LACKING = FIRST - DAY


def lacking(start, cells="1.5,1.5,nan,1.5,7"):
    return f"{line(price(start)).partition(',')[0]},{cells}\n"


def rows(*without):
    return HEADER + "".join(lacking(at) if at in without else line(price(at)) for at in HOURS)


@pytest.fixture
def begin(data_dir, make_filler):
    """Begin with such a file, and do all that there is to do: the gap filler, and the file."""

    def begin(text, **given):
        path = data_dir / "AAPL_1h.csv"
        path.write_text(text)
        filler = make_filler(**{"ktrdr_gap_max_age_days": 2} | given)
        fill(filler)
        return filler, path

    return begin


def again(filler):
    filler.request_scan()
    fill(filler)


def of_aapl(filler):
    (one,) = coverage_of(filler)["series"]
    return one


def mend(data_dir, clock):
    check = StoreCheck(data_dir, clock)
    (series,) = check.series()
    return check.check(series, fix=True)


def test_its_bar_is_missing_and_not_requested_and_the_row_stays(begin, connection):
    filler, path = begin(rows(LACKING))
    assert path.read_text() == rows(LACKING)
    told = of_aapl(filler)
    assert told["missing"] == {"incomplete_row": 1}
    assert (told["present"], told["state"]) == (7, "incomplete_row")
    assert (filler.status.gaps_remaining, filler.status.unfillable) == (0, {"incomplete_row": 1})
    requests = len(connection.requested)
    for _ in range(3):
        again(filler)
    assert len(connection.requested) == requests == 0


def test_other_gaps_are_filled_around_it_and_it_gets_no_second_row(begin):
    text = rows(LACKING)
    for gap in (LACKING - 3600 * 23, LACKING + 3600):
        text = text.replace(line(price(gap)), "")
    _, path = begin(text, ktrdr_gap_max_age_days=3)
    assert path.read_text() == rows(LACKING)


def test_its_bar_is_not_taken_for_absent_when_ib_returns_it_beside_others(begin, data_dir):
    """It was received, though it is not stored."""
    text = rows(LACKING)
    for gap in (LACKING - 3600 * 23, LACKING + 3600):
        text = text.replace(line(price(gap)), "")
    filler, path = begin(text, ktrdr_gap_max_age_days=3)
    path.write_text(text)
    again(filler)
    assert path.read_text() == rows(LACKING)
    with contextlib.closing(sqlite3.connect(data_dir / ".ktrdr/ledger.sqlite")) as ledger:
        for table in ("absent", "doubts"):
            assert ledger.execute(f"SELECT * FROM {table}").fetchall() == []


def test_it_is_named_with_file_and_line_once_in_the_log_and_as_what_needs_a_person(begin, caplog):
    filler, _ = begin(rows(LACKING))
    again(filler)
    (problem,) = filler.status.recent_errors
    text = lacking(LACKING).strip()
    assert problem.message == f"AAPL_1h.csv: a row lacks a value: {text!r}"
    assert problem.hint.startswith("line 4: .venv/bin/ktrdr check AAPL 1h --fix ")
    assert not problem.is_over
    (trouble,) = filler.status.troubles
    assert (trouble.series, trouble.message) == (("AAPL_1h",), problem.message)
    told = of_aapl(filler)
    assert (told["error"], told["hint"]) == (problem.message, problem.hint)
    assert sum(problem.message in record.getMessage() for record in caplog.records) == 1


def test_the_line_is_that_of_now_after_rows_were_added_before_it(begin):
    text = rows(LACKING).replace(line(price(HOURS[0])), "")
    filler, path = begin(text, ktrdr_gap_max_age_days=4)
    again(filler)
    lines = path.read_text().splitlines()
    number = 1 + lines.index(lacking(LACKING).strip())
    assert number == 6
    assert of_aapl(filler)["hint"].startswith(f"line {number}: ")
    assert len(filler.status.recent_errors) == 1


def test_a_row_of_earlier_days_is_named_once_the_whole_file_was_read(begin):
    filler, path = begin(rows(HOURS[0]), ktrdr_gap_max_age_days=1)
    assert path.read_text() == rows(HOURS[0])
    assert of_aapl(filler)["missing"] == {"incomplete_row": 1}
    (problem,) = filler.status.recent_errors
    assert problem.hint.startswith("line 2: ")


def test_it_is_known_after_a_restart(begin, make_filler):
    filler, _ = begin(rows(LACKING))
    before = of_aapl(filler)
    filler.stop()
    filler = make_filler(ktrdr_gap_max_age_days=2)
    fill(filler)
    now = of_aapl(filler)
    assert [now[name] for name in ("missing", "error", "hint")] == [
        before[name] for name in ("missing", "error", "hint")
    ]


def test_after_check_has_removed_it_ibs_bar_comes_and_nothing_is_left_to_say(
    begin, data_dir, clock
):
    filler, path = begin(rows(LACKING))
    checked = mend(data_dir, clock)
    assert checked.kept.read_text() == rows(LACKING)
    assert path.read_text() == rows(LACKING).replace(lacking(LACKING), "")
    again(filler)
    assert path.read_text() == rows()
    told = of_aapl(filler)
    assert (told["missing"], told["error"], told["state"]) == ({}, None, "complete")
    assert (filler.status.troubles, filler.status.unfillable) == ((), {})
    assert [problem.is_over for problem in filler.status.recent_errors] == [True]


def test_a_fill_that_comes_to_such_a_row_says_so(begin):
    filler, path = begin(rows(HOURS[0]), ktrdr_gap_max_age_days=1)
    query = {"symbol": "AAPL", "timeframe": "1h", "from": "2026-11-17"}
    assert asyncio.run(routes(filler)["POST", "/fill"](query))["accepted"]
    again(filler)
    (one,) = asyncio.run(routes(filler)["GET", "/fills"]({}))["fills"]
    assert (one["state"], one["missing"]) == ("failed", {"incomplete_row": 1})
    assert "lacks a value" in one["why"]
    assert "--fix" in one["hint"]
    assert path.read_text() == rows(HOURS[0])
