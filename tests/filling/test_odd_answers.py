"""Odd things that gateways really send, told by the simulated one to connection and gap filler."""

import pytest

from tests.fake_connection import line, utc
from tests.simulated_group import HEADER, NOW, later, rows, state

RECENT = (utc("2026-11-16"), NOW)
HOUR = 3600


def week(group, symbol="AAPL", timeframe="5m"):
    """The bars that are due: those of the last minutes are not."""
    return [line(bar) for bar in group.truth(symbol, timeframe, RECENT[0], NOW - 600)]


def has_week(group, path, symbol):
    """Every bar of the week, and nothing that IB does not have."""
    there = {line(bar) for bar in group.truth(symbol, "5m", utc("2026-11-12"), group.now)}
    return set(week(group, symbol)) <= set(rows(path)) <= there


@pytest.mark.parametrize(
    ("field", "text"), [("open", "?"), ("volume", ""), ("close", "n/a"), ("time", "?"), ("low", "")]
)
def test_one_bar_that_cannot_be_read_costs_no_other(group, field, text):
    path = group.watch("AAPL_5m")
    with group.gateway.fault("odd_field", field=field, text=text):
        group.fill()
        lacking = sorted(set(week(group)) - set(rows(path)))
        assert len(lacking) == 1
        assert state(group) != "complete"
        (said,) = group.problems()
        assert "1 invalid bars" in said
        before = len(group.requested())
        for _ in range(12):
            later(group, HOUR)
        requested = group.requested()[before:]
        assert 1 <= len(requested) <= 4, "it is asked for again ever more rarely"
        assert {one["duration"] for one in requested} == {"1800 S"}, (
            "alone, in the shortest request"
        )
    for _ in range(12):
        later(group, HOUR)
    assert rows(path) == week(group)
    assert state(group) == "complete"


@pytest.mark.parametrize("field", ["average", "count"])
def test_an_odd_field_that_nobody_uses_costs_nothing(group, field):
    path = group.watch("AAPL_5m")
    with group.gateway.fault("odd_field", field=field, text="?"):
        group.fill()
    assert rows(path) == week(group)
    assert state(group) == "complete"


@pytest.mark.parametrize("code", [165, 2188, 10167, 10285, 19999])
def test_advice_before_the_answer_does_not_cost_it(group, code):
    path = group.watch("AAPL_5m")
    with group.gateway.fault("advisory_first", code=code):
        group.fill()
    assert rows(path) == week(group)
    assert state(group) == "complete"


@pytest.mark.parametrize("text", ["24:00:00", "2400", "", "16:00", "25:61:00", "?"])
def test_one_session_that_cannot_be_read_costs_no_day(group, text):
    path = group.watch("AAPL_5m")
    with group.gateway.fault("odd_session", text=text):
        group.fill()
    assert set(rows(path)) == set(week(group))
    assert not any("internal" in said for said in group.problems())


@pytest.mark.parametrize(
    ("symbol", "contract", "schedule"),
    [
        ("AAPL", "", ""),
        ("AAPL", "?", "?"),
        ("AAPL", "Eastern Standard Time", "?"),
        ("AAPL", "?", "US/Eastern"),
        ("AAPL", "EST", ""),
        ("ESZ6", "", "CST"),
        ("EURUSD", "", ""),
    ],
)
def test_whatever_the_zone_is_called_every_bar_is_there(group, symbol, contract, schedule):
    path = group.watch(f"{symbol}_5m")
    with group.gateway.fault("zone_name", contract=contract, schedule=schedule):
        group.fill()
        assert has_week(group, path, symbol)


def test_a_zone_that_nobody_knows_is_named_and_not_utc(group):
    path = group.watch("BTC_5m")
    (group.folder / "instruments.toml").write_text('[BTC]\nsec_type = "CRYPTO"\n')
    with group.gateway.fault("zone_name", contract="Mars", schedule=""):
        group.fill()
        assert path.read_text() == HEADER
        assert any("'Mars'" in said for said in group.problems())
        assert state(group) != "complete"
    later(group, HOUR)
    assert has_week(group, path, "BTC")


@pytest.mark.parametrize("code", [162, 366, 10999, 321])
def test_sessions_that_are_refused_are_taken_from_the_contracts_hours(group, code):
    path = group.watch("AAPL_5m")
    with group.gateway.fault("refused", code=code, text="no historical market data for Schedule"):
        group.fill()
    assert rows(path) == week(group)


def test_sessions_that_are_never_reported_are_taken_from_the_contracts_hours(group):
    path = group.watch("AAPL_5m")
    with group.gateway.unanswered("schedule"):
        group.fill()
        assert rows(path) == week(group)


def test_no_data_in_another_language_is_a_failure_that_says_what_to_do(group):
    path = group.watch("AAPL_5m")
    text = "历史市场数据服务错误信息: HMDS 查询没有返回数据"
    with group.gateway.fault(
        "refused", kind="historical_data", code=162, text=text, encoding="gb18030"
    ):
        group.fill()
        (problem,) = group.filler.status.recent_errors
        assert text in problem.message
        assert "API error messages in English" in problem.hint
        assert state(group) == "failed"
    later(group, HOUR)
    assert rows(path) == week(group)
