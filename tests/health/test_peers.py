"""What the page and the commands request of the gap filler, over its socket."""

import pytest

from ktrdr.errors import InvalidRequest, UnknownFill, UnknownSeries
from ktrdr.gap_filler.routes import routes
from ktrdr.health.peers import Peers
from ktrdr.ipc.server import LocalServer, serving
from tests.fake_connection import *  # noqa: F403  fixtures
from tests.fake_connection import fill


@pytest.fixture
def peers(make_filler, make_settings, put):
    """Peers of a gap filler that keeps one series."""
    put("AAPL_1d")
    filler, settings = make_filler(), make_settings()
    fill(filler)
    with serving(LocalServer(settings.gap_filler_socket, routes(filler))):
        yield Peers(settings)


def test_the_grid_is_had_for_some_days(peers):
    grid = peers.grid({"from": "2026-11-16", "to": "2026-11-20"}).content
    assert [(one.symbol, one.row) for one in grid.series] == [("AAPL", " cccc")]
    assert (grid.first, grid.days) == ("2026-11-16", 5)
    with pytest.raises(InvalidRequest, match="from=soon"):
        peers.grid({"from": "soon"})


def test_a_fill_is_paused_and_resumed(peers):
    peers.request_fill({"symbol": "AAPL", "timeframe": "1d", "from": "2026-06-01"})
    assert peers.pause_fill("1")["state"] == "paused"
    assert [one.state for one in peers.open_fills().content] == ["paused"]
    assert peers.resume_fill("1")["state"] == "queued"
    with pytest.raises(UnknownFill):
        peers.pause_fill("7")


def test_series_are_added_changed_and_removed(peers):
    added = peers.add_series({"symbol": "MSFT", "timeframe": "1d", "unchecked": "true"})
    assert (added.outcome, added.is_refused) == ("added", False)
    changed = peers.change_series({"symbol": "AAPL", "timeframe": "1d", "since": "2026-11-10"})
    assert f"{changed.since:%Y-%m-%d}" == "2026-11-10"
    assert peers.remove_series("AAPL", "1d").outcome == "removed"
    with pytest.raises(UnknownSeries):
        peers.remove_series("AAPL", "1h")
    kept = {one.symbol: one.since for one in peers.watch_list().series}
    assert kept == {"AAPL": changed.since}  # the next scan finds the other one


def test_a_series_names_the_time_zone_of_its_exchange(peers):
    assert [one.zone for one in peers.series().content] == ["UTC"]  # that of the sessions
