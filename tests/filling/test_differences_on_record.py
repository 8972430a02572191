"""Bars of other people's rows that IB has otherwise: on record, and in the file as they were."""

import pytest

from ktrdr.gap_filler.revision_list import RevisionQuery, revisions_of
from ktrdr.market.instruments import parse_series
from ktrdr.store.source import ledger_path
from tests.fake_connection import DAY, HEADER, coverage_of, fill, line, price, utc

AAPL = parse_series("AAPL_1m.csv")
OPEN = utc("2026-11-19 10:00")
BARS = [OPEN + 60 * n for n in range(120)]
WRONG = {BARS[97], BARS[99], BARS[102]}
EVER = RevisionQuery((0, 2**40), 1000, None)


def at_ib(start):
    """A bar whose high is lower than in the file, and whose volume is another."""
    return price(start)._replace(high=price(start).low + 0.3, volume=7777.0)


def told(bar):
    return dict(zip(("open", "high", "low", "close", "volume"), bar[1:], strict=True))


@pytest.fixture
def path(put):
    """A file of somebody else: a day without one bar in the middle."""
    return put("AAPL_1m", [start for start in BARS if start != BARS[100]])


@pytest.fixture
def left(data_dir):
    """What is on record, the newest first, as the list of revisions has it."""
    return lambda: revisions_of(ledger_path(data_dir), AAPL, EVER).revisions


@pytest.fixture
def filler(path, make_filler, connection):
    """It has closed the hole, and so has received the bars beside it."""
    connection.revised = {start: at_ib(start) for start in WRONG}
    filler = make_filler(ktrdr_gap_max_age_days=1)
    fill(filler)
    assert line(price(BARS[100])) in path.read_text()
    return filler


def differ(filler):
    """How many bars do, as the gap filler tells it."""
    (one,) = coverage_of(filler)["series"]
    status = filler.status
    assert status.bars_differing == one["comparison"]["differ"]
    assert status.series_differing == (status.bars_differing > 0)
    return status.bars_differing


def compare_again(filler, path, without=100):
    """Have the bar in the middle requested once more, and so those beside it."""
    path.write_text(path.read_text().replace(line(price(BARS[without])), ""))
    filler.request_scan()
    fill(filler)
    assert line(price(BARS[without])) in path.read_text()


def test_those_that_were_received_beside_a_gap_are_on_record_with_both_values(filler, path, left):
    found = {one.timestamp.timestamp(): one for one in left()}
    assert found.keys() == WRONG
    for start, one in found.items():
        assert (vars(one.old), vars(one.new)) == (told(price(start)), told(at_ib(start)))
        assert (one.is_left, one.bars, one.last, one.why) == (True, 1, None, "")
        assert line(price(start)) in path.read_text()
    assert differ(filler) == 3


def test_what_is_on_record_is_not_reported_again(filler, path, left):
    before = left()
    (problem,) = filler.status.recent_errors
    assert "IB has 3 of 24 bars otherwise" in problem.message
    for _ in range(2):
        compare_again(filler, path)
    assert left() == before
    assert [one.time for one in filler.status.recent_errors] == [problem.time]


def test_a_bar_that_ib_has_otherwise_than_before_is_reported_and_replaced(
    filler, path, left, connection
):
    connection.revised[BARS[99]] = at_ib(BARS[99])._replace(volume=8888.0)
    compare_again(filler, path)
    assert sorted(one.new.volume for one in left()) == [7777.0, 7777.0, 8888.0]
    assert differ(filler) == 3
    assert "IB has 3 of 10 bars otherwise" in filler.status.recent_errors[0].message


def test_a_bar_on_which_ib_agrees_by_now_is_not_on_record_any_more(filler, path, left, connection):
    del connection.revised[BARS[99]]
    compare_again(filler, path)
    assert {one.timestamp.timestamp() for one in left()} == WRONG - {BARS[99]}
    assert differ(filler) == 2


def test_a_row_that_its_owner_mends_is_not_on_record_any_more_and_nothing_is_requested(
    filler, path, left, connection
):
    requested = len(connection.requested)
    path.write_text(path.read_text().replace(line(price(BARS[97])), line(at_ib(BARS[97]))))
    filler.request_scan()
    fill(filler)
    assert {one.timestamp.timestamp() for one in left()} == WRONG - {BARS[97]}
    assert (differ(filler), len(connection.requested)) == (2, requested)


def test_a_row_that_its_owner_changes_to_something_else_is_on_record_as_it_is(filler, path, left):
    other = price(BARS[97])._replace(volume=1.0)
    path.write_text(path.read_text().replace(line(price(BARS[97])), line(other)))
    filler.request_scan()
    fill(filler)
    (one,) = [one for one in left() if one.timestamp.timestamp() == BARS[97]]
    assert (vars(one.old), vars(one.new)) == (told(other), told(at_ib(BARS[97])))
    assert differ(filler) == 3


def test_a_row_that_its_owner_removes_is_filled_and_not_on_record_any_more(filler, path, left):
    path.write_text(path.read_text().replace(line(price(BARS[97])), ""))
    filler.request_scan()
    fill(filler)
    assert line(at_ib(BARS[97])) in path.read_text()
    assert {one.timestamp.timestamp() for one in left()} == WRONG - {BARS[97]}


def test_a_broken_line_beside_a_mended_row_costs_nothing_once_it_is_repaired(filler, path, left):
    mended = path.read_text().replace(line(price(BARS[97])), line(at_ib(BARS[97])))
    path.write_text(mended.replace(line(price(BARS[50])), "half a li\n"))
    filler.request_scan()
    fill(filler)
    assert differ(filler) == 3
    path.write_text(mended)
    filler.request_scan()
    fill(filler)
    assert {one.timestamp.timestamp() for one in left()} == WRONG - {BARS[97]}


def test_in_a_file_that_was_emptied_nothing_differs(filler, path, left):
    path.write_text(HEADER)
    filler.request_scan()
    fill(filler)
    assert (left(), differ_or_none(filler)) == ([], None)


def differ_or_none(filler):
    return coverage_of(filler)["series"][0]["comparison"]


def test_after_a_restart_they_are_known(filler, left, make_filler):
    before = left()
    filler.close()
    again = make_filler(ktrdr_gap_max_age_days=1)
    fill(again)
    assert left() == before
    assert differ(again) == 3
    assert again.status.recent_errors == ()


def test_of_a_file_that_ktrdr_wrote_nothing_is_left(put, make_filler, connection, clock, left):
    put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=1)
    fill(filler)
    newest = utc("2026-11-20 11:59")
    connection.revised = {newest: price(newest)._replace(volume=4711)}
    clock.now += DAY
    fill(filler)
    (one,) = left()
    assert (one.is_left, one.bars) == (False, 1)
    assert differ_or_none(filler) is None
