"""Bars that the simulated gateway revises: what was stored before stays on record."""

import asyncio
import contextlib
import re
from dataclasses import replace
from datetime import date
from html import unescape

import numpy as np
import pytest

from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.gap_filler.routes import routes
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.sim.market.market import GeneratedMarket
from ktrdr.web import create_app
from tests.fake_connection import DAY, utc
from tests.simulated_group import Group, rows

EVENING, SETTLED = utc("2026-11-20 23:00"), utc("2026-11-21 18:01")
FRIDAY = "2026-11-20T00:00:00+00:00"


class SettlingMarket(GeneratedMarket):
    """From the next day on a day's volume has 7 more, and its close is its high."""

    def bars(self, contract, size, *args, as_of=None, **options):
        found = super().bars(contract, size, *args, as_of=as_of, **options)
        if not size.is_daily:
            return found
        is_settled = found.start // DAY < (as_of - date(1970, 1, 1)).days
        close = np.where(is_settled, found.high, found.close)
        return replace(found, close=close, volume=found.volume + 7 * is_settled)


@pytest.fixture
def group(make_settings, data_dir, wait_for):
    with contextlib.ExitStack() as stack:
        group = Group(stack, make_settings, data_dir, SettlingMarket(seed=5))
        wait_for(lambda: group.manager.is_connected)
        yield group


def revisions(group, symbol="ESZ6", timeframe="1d", **query):
    """As `GET /revisions` has them at the socket."""
    wanted = {"symbol": symbol, "timeframe": timeframe, **query}
    return asyncio.run(routes(group.filler)["GET", "/revisions"](wanted))


def numbers(row):
    """The values of a line of a file, by name."""
    names = ("open", "high", "low", "close", "volume")
    return dict(zip(names, map(float, row.strip().split(",")[1:]), strict=True))


@pytest.fixture
def settled(group):
    """A daily bar that was written on its evening and is final now: its row before and after."""
    path = group.watch("ESZ6_1d")
    group.now = EVENING
    group.fill()
    before = rows(path)[-1]
    group.now = SETTLED
    group.fill()
    after = rows(path)[-1]
    assert before.startswith("2026-11-20 ")
    assert numbers(after)["volume"] == numbers(before)["volume"] + 7
    return before, after


def test_a_corrected_bar_is_on_record_with_its_values_before_and_after(group, settled):
    before, after = settled
    found = revisions(group)
    (one,) = found["revisions"]
    assert (found["symbol"], found["timeframe"], found["total"]) == ("ESZ6", "1d", 1)
    assert (one["timestamp"], one["corrected_at"]) == (FRIDAY, "2026-11-21T18:01:00+00:00")
    assert (one["old"], one["new"]) == (numbers(before), numbers(after))
    assert (one["why"], one["old_file"]) == ("", None)


@pytest.mark.usefixtures("settled")
def test_it_is_still_there_after_a_restart_and_is_not_recorded_twice(group):
    before = revisions(group)
    group.end_filler()
    group.start_filler()
    group.scan()
    assert before["total"] == 1
    assert revisions(group) == before


def test_a_bar_that_was_not_revised_is_not_on_record(group):
    group.watch("AAPL_1h")
    group.fill()
    group.now += DAY
    group.fill()
    assert revisions(group, "AAPL", "1h") == {
        "symbol": "AAPL",
        "timeframe": "1h",
        "total": 0,
        "revisions": [],
        "has_more": False,
    }


def test_a_bar_that_is_revised_in_a_file_of_others_is_left_and_on_record_as_that(group):
    group.now = EVENING
    theirs = group.truth("ESZ6", "1d", utc("2026-11-16"), EVENING)
    path = group.watch("ESZ6_1d", theirs)
    group.fill()
    before = path.read_text()
    group.now = utc("2026-11-23 23:00")
    group.fill()
    assert path.read_text().startswith(before)
    assert "it is left as it is" in "".join(group.problems())
    (one,) = revisions(group)["revisions"]
    (mine,) = [row for row in rows(path) if row.startswith("2026-11-20 ")]
    assert (one["timestamp"], one["is_left"], one["bars"]) == (FRIDAY, True, 1)
    assert one["old"] == numbers(mine)
    assert one["new"]["volume"] == numbers(mine)["volume"] + 7


def test_a_rebuild_after_a_split_is_one_record_and_names_the_old_file(group):
    group.now = utc("2026-11-27 22:00")  # SPLT splits four for one on the Monday after
    path = group.watch("SPLT_5m")
    group.fill()
    before = path.read_text()
    group.now = utc("2026-11-30 22:00")
    group.fill()
    found = revisions(group, "SPLT", "5m")
    (one,) = found["revisions"]
    assert found["total"] == 1
    assert (one["timestamp"], one["old"], one["new"]) == (None, None, None)
    assert one["why"].startswith("IB revised all prices and volumes by a split ratio (4:1, ")
    assert one["corrected_at"].startswith("2026-11-30T22:00:00")
    assert one["old_file"].startswith(".ktrdr/replaced/SPLT_5m.")
    assert (group.folder / one["old_file"]).read_text().startswith(before)


@pytest.mark.usefixtures("settled")
def test_only_those_of_an_interval_can_be_requested(group):
    assert revisions(group, start="2026-11-20", end="2026-11-21")["total"] == 1
    assert revisions(group, start="2026-11-20T00:00:01")["total"] == 0
    assert revisions(group, end="2026-11-20")["total"] == 0


@pytest.mark.usefixtures("settled")
def test_a_page_of_them_says_whether_there_are_more(group):
    group.now = utc("2026-11-23 23:00")
    group.fill()
    group.now = utc("2026-11-24 18:01")
    group.fill()
    page = revisions(group, limit="1")
    (newest,) = page["revisions"]
    assert (newest["timestamp"], page["total"]) == ("2026-11-23T00:00:00+00:00", 2)
    assert page["has_more"]
    rest = revisions(group, limit="1", before=str(newest["id"]))
    assert [one["timestamp"] for one in rest["revisions"]] == [FRIDAY]
    assert not rest["has_more"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"timeframe": "2m"}, "timeframe '2m'"),
        ({"symbol": "../x"}, "../x"),
        ({"limit": "0"}, "limit=0: expected a whole number from 1 to 1000"),
        ({"limit": "1001"}, "limit=1001: expected a whole number from 1 to 1000"),
        ({"limit": "٣"}, "limit=٣: expected a whole number"),
        ({"before": "-1"}, "before=-1: expected a whole number"),
        ({"start": "soon"}, "start=soon: expected a date or time"),
        ({"start": "2026-11-21", "end": "2026-11-20"}, "start=2026-11-21: expected a time before"),
        ({"start": "9999-01-01", "end": "2026-11-20"}, "start=9999-01-01"),
    ],
)
def test_a_wrong_query_is_named(group, query, message):
    group.watch("ESZ6_1d")
    with pytest.raises(InvalidRequest) as caught:
        revisions(group, **query)
    assert message in str(caught.value)


def test_a_series_that_is_not_in_the_store_is_named(group):
    with pytest.raises(UnknownSeries, match=r"ESZ6_1d\.csv is not in the store"):
        revisions(group)


def test_a_store_without_a_ledger_has_none_and_gets_none(group):
    group.watch("ESZ6_1d")
    assert revisions(group)["total"] == 0
    assert not list(group.folder.rglob("*.sqlite"))


def test_the_page_and_the_api_show_what_the_gateway_has_revised(group, settled, tmp_path):
    before, after = map(numbers, settled)
    server = LocalServer(group.settings.gap_filler_socket, routes(group.filler))
    with serving(server):
        client = create_app(group.settings, log_dir=tmp_path).test_client()
        html = client.get("/series/ESZ6/1d").text
        answer = client.get("/api/v1/data/ESZ6/1d/revisions").json
    text = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)))
    change = f"volume {before['volume']:.0f} → {after['volume']:.0f}"
    assert re.search(rf"Old → new 2026-11-20 2026-11-21 18:01:00 UTC .*{change} Gaps", text)
    (one,) = answer["revisions"]
    assert (one["timestamp"], one["old"], one["new"]) == (FRIDAY, before, after)
