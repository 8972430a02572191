"""The grid at the gap filler's socket: a character a trading day."""

import asyncio
import json
from datetime import date, timedelta

import pytest

from ktrdr.errors import InvalidRequest, NotEntitled, PeerDown, RequestFailed
from ktrdr.gap_filler.routes import routes
from tests.fake_connection import coverage_of, fill, utc


def grids(filler):
    """The grid as somebody at the socket receives it, several times."""
    handler = routes(filler)["GET", "/grid"]
    return lambda **query: json.loads(asyncio.run(handler(query)))


def rows(grid):
    assert grid["columns"] == ["symbol", "timeframe", "state", "row"]
    return {f"{symbol}_{timeframe}": row for symbol, timeframe, _, row in grid["series"]}


def test_it_has_a_year_of_days_until_today(make_filler, put):
    put("AAPL_1d")
    filler = make_filler()
    fill(filler)
    grid = grids(filler)()
    assert (grid["first"], grid["days"]) == ("2025-11-21", 365)
    assert rows(grid) == {"AAPL_1d": " " * 361 + "cccc"}
    assert {grid["legend"][one] for one in "c "} == {"complete", "outside"}
    assert set(grid["legend"].values()) == {
        *("outside", "closed", "no_trades", "complete", "filling", "waiting", "refused", "failed")
    }


def test_each_state_is_shown(make_filler, connection, put):
    for name in ("AAPL_1d", "GONE_1d", "MANY_1d", "FAIL_1d"):
        put(name)
    put("OLD_1d", [utc("2026-11-05"), utc("2026-11-15"), utc("2026-11-16")])
    (put("BAD_1d")).write_text("timestamp,open,high,low,close,volume\nnonsense\n")
    connection.is_closed = lambda day: day == utc("2026-11-18")
    connection.absent = {utc("2026-11-18"), utc("2026-11-19")}
    connection.bars_refusals = {"MANY": NotEntitled("no"), "FAIL": RequestFailed("no")}
    connection.refusals = {"GONE": NotEntitled("no")}
    filler = make_filler()
    fill(filler)
    found = rows(grids(filler)(**{"from": "2026-11-16", "to": "2026-11-20"}))
    assert found["GONE_1d"] == " xxxx"
    assert found["BAD_1d"] == " !!!!"
    assert found["MANY_1d"][-1] == "x"
    assert found["FAIL_1d"][-1] == "!"
    assert found["AAPL_1d"][-1] == "c"
    assert found["OLD_1d"][0] == "c"  # it is older than what is kept, and there


def test_nothing_is_called_filling_while_nothing_is_requested(make_filler, connection, put):
    put("AAPL_1d")
    filler = make_filler()
    fill(filler)
    connection.down = PeerDown("ib-connection is not running")
    put("AAPL_1d", [utc("2026-11-19")])
    filler.note_changed_files(["AAPL_1d.csv"])
    fill(filler)
    assert rows(grids(filler)())["AAPL_1d"][-4:] == "wwcw"
    connection.down = None
    fill(filler)
    assert rows(grids(filler)())["AAPL_1d"][-4:] == "cccc"


def test_the_version_changes_exactly_when_a_row_does(make_filler, connection, clock, put):
    put("AAPL_1d")
    filler = make_filler()
    ask = grids(filler)
    empty = ask()["version"]
    fill(filler)
    full = ask()["version"]
    assert full != empty
    clock.now += 400  # a scan that finds nothing new
    fill(filler)
    assert ask()["version"] == full == grids(filler)()["version"]
    assert ask(**{"from": "2026-11-01"})["version"] != full
    connection.absent = {utc("2026-11-20")}
    put("AAPL_1d", [utc(f"2026-11-{day}") for day in (17, 18, 19)])
    filler.note_changed_files(["AAPL_1d.csv"])
    fill(filler)
    changed = ask()
    assert changed["version"] != full
    assert rows(changed)["AAPL_1d"][-4:] != "cccc"


def test_it_agrees_with_the_days_of_the_coverage(make_filler, connection, put):
    put("AAPL_1d", [utc("2026-11-01"), utc("2026-11-03")])
    connection.absent = {utc("2026-11-19")}
    filler = make_filler(ktrdr_gap_max_age_days=10)
    fill(filler)
    (row,) = rows(grids(filler)()).values()
    (entry,) = coverage_of(filler)["series"]
    last = date(2026, 11, 20)
    states = {(last - timedelta(days=back)).isoformat(): row[-1 - back] for back in range(365)}
    assert len(entry["days"]) > 15
    for day in entry["days"]:
        is_whole = day["present"] + day["missing"].get("no_trades", 0) == day["expected"]
        assert (states[day["date"]] in "cn") == is_whole
    assert {day["date"] for day in entry["days"]} >= {d for d, one in states.items() if one != " "}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"from": "soon"}, "from=soon"),
        ({"to": "2026-13-01"}, "to=2026-13-01"),
        ({"from": "1969-12-31"}, "from=1969-12-31"),
        ({"from": "2026-11-21", "to": "2026-11-20"}, "from=2026-11-21 to=2026-11-20"),
        ({"from": "2027-01-01"}, "from=2027-01-01"),
        ({"from": "1980-01-01"}, "from=1980-01-01"),
    ],
)
def test_days_that_make_no_grid_are_refused(make_filler, query, named):
    with pytest.raises(InvalidRequest, match=named):
        grids(make_filler())(**query)
