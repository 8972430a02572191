"""A symbol that is given to another company, or gets another id at a split, by the simulator."""

import pytest

from tests.fake_connection import DAY, coverage_of, line, utc
from tests.simulated_group import NOW, later, rows, state

HOUR = 3600


def has_all(group, path, timeframe):
    """Every bar of the days that are kept complete, and none that is not KO's."""
    there = [line(bar) for bar in group.truth("KO", timeframe, utc("2026-11-10"), group.now)]
    lately = [line(bar) for bar in group.truth("KO", timeframe, utc("2026-11-16"), group.now)]
    return set(lately) <= set(rows(path)) <= set(there)


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h"])
def test_nothing_is_written_before_ib_has_reported_which_contract_it_is(group, timeframe):
    group.now = utc("2026-11-19 16:00")  # a session under way
    path = group.watch(f"KO_{timeframe}")
    group.fill()
    before = path.read_text()
    with group.gateway.fault("other_contract", symbol="KO"):
        for _ in range(30):
            later(group, 600)
            assert path.read_text() == before
        assert any("may be another contract at IB" in said for said in group.problems())
        assert state(group) != "complete"
        assert len(group.requested()) < 40
    later(group, HOUR)
    later(group, 7 * HOUR)
    assert has_all(group, path, timeframe)


@pytest.mark.parametrize("timeframe", ["5m", "1d"])
def test_a_symbol_that_has_become_another_company_stops_and_is_reported(group, timeframe):
    group.now = NOW - 2 * DAY
    path = group.watch(f"KO_{timeframe}")
    group.fill()
    before = path.read_text()
    assert len(before.splitlines()) > 3
    with group.gateway.fault("other_contract", symbol="KO"):
        for _ in range(3):
            later(group, 16 * HOUR)
            assert path.read_text() == before
        assert any("is another contract at IB" in said for said in group.problems())
        problem = group.filler.status.recent_errors[0]
        assert "con_id = " in problem.hint
        assert state(group) != "complete"
        assert "other_contract" in coverage_of(group.filler)["series"][0]["missing"]
        group.end_filler()
        group.start_filler()
        group.scan()
        assert path.read_text() == before, "a restart changes nothing"
    for _ in range(4):
        later(group, 7 * HOUR)
    assert has_all(group, path, timeframe), "the old one is back"
    assert state(group) == "complete"


def test_another_id_with_the_same_bars_goes_on_and_is_reported(group):
    group.now = NOW - 2 * DAY
    path = group.watch("KO_5m")
    group.fill()
    with group.gateway.fault("other_contract", symbol="KO", prices="same"):
        later(group, 25 * HOUR)
        later(group, 25 * HOUR)
        assert has_all(group, path, "5m")
        (said,) = group.problems()
        assert "another contract at IB: it was con_id" in said
        assert state(group) == "complete"


def test_a_lie_about_the_comparison_stops_nothing_for_long(group):
    group.now = NOW - 2 * DAY
    path = group.watch("KO_5m")
    group.fill()
    with group.gateway.fault("other_contract", symbol="KO", prices="same"):
        with group.gateway.fault("false_no_data"):
            later(group, 25 * HOUR)
        later(group, HOUR)
        assert has_all(group, path, "5m")
        assert state(group) == "complete"


def test_two_bars_that_match_are_enough_to_go_on(group):
    group.now = NOW - 2 * DAY
    bars = group.truth("KO", "1d", utc("2026-11-01"), group.now)[-3:-1]
    path = group.watch("KO_1d", bars)
    group.fill()
    path.write_text("".join([path.read_text().splitlines(keepends=True)[0], *map(line, bars)]))
    with group.gateway.fault("other_contract", symbol="KO", prices="same"):
        for _ in range(3):
            later(group, 25 * HOUR)
        assert len(rows(path)) > 3
        assert state(group) == "complete"


@pytest.mark.parametrize("prices", ["same", "other"])
def test_while_the_clocks_are_apart_a_comparison_is_not_requested_without_end(group, prices):
    group.now = NOW - 2 * DAY
    group.watch("KO_5m")
    group.fill()
    before = len(group.requested())
    with group.gateway.fault("other_contract", symbol="KO", prices=prices):
        later(group, 25 * HOUR)
        group.off_s = 300.0
        for _ in range(20):
            later(group, 60)
    assert len(group.requested()) - before < 30


def test_a_file_without_bars_is_of_whatever_contract_there_is(group):
    group.now = NOW - 2 * DAY
    path = group.watch("KO_5m")
    with group.gateway.fault("false_no_data"):
        group.fill()
    with group.gateway.fault("other_contract", symbol="KO"):
        later(group, 25 * HOUR)
        later(group, 2 * HOUR)
        assert len(rows(path)) > 100
        assert not any("another contract" in said for said in group.problems())
