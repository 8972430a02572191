"""Prices or volumes that are told in another unit: no file is ever half in one, half in the other.

The simulated gateway tells them, to the real connection and gap filler.
"""

import contextlib

import pytest

from ktrdr.sim.market.market import GeneratedMarket
from tests.fake_connection import DAY, coverage_of, line, utc
from tests.simulated_group import HEADER, NOW, Group

SINCE = utc("2026-11-12")
WEDNESDAY = utc("2026-11-18 22:00")
UNITS = [("price", 0.01), ("price", 100), ("volume", 100), ("volume", 0.01)]


@pytest.fixture
def group(make_settings, data_dir, wait_for):
    with contextlib.ExitStack() as stack:
        group = Group(stack, make_settings, data_dir, GeneratedMarket(seed=5), speed=25)
        wait_for(lambda: group.manager.is_connected)
        group.now = WEDNESDAY
        yield group


def received(bar, of, factor):
    """A bar as the gateway tells it under the fault."""
    if of == "volume":
        return bar._replace(volume=round(bar.volume * factor))
    prices = {k: round(getattr(bar, k) * factor, 8) for k in ("open", "high", "low", "close")}
    return bar._replace(**prices)


def as_told(group, of, factor, timeframe="5m", since=SINCE):
    return HEADER + "".join(
        line(received(bar, of, factor)) for bar in group.truth("AAPL", timeframe, since, group.now)
    )


def truth(group, timeframe="5m", since=SINCE):
    return as_told(group, "volume", 1, timeframe, since)


def assert_is_in_one_unit(group, path, of, factor, timeframe="5m"):
    """All of its rows are as the market has them, or all times the factor."""
    rows = set(path.read_text().splitlines())
    since = utc("2026-11-02")
    units = (truth(group, timeframe, since), as_told(group, of, factor, timeframe, since))
    assert any(rows <= set(text.splitlines()) for text in units)


def fill(group, path, of, factor, timeframe="5m"):
    """Until there is nothing left to do; after each step the file is in one unit."""
    for _ in range(500):
        more = group.filler.step()
        assert_is_in_one_unit(group, path, of, factor, timeframe)
        if not more:
            return
    raise AssertionError("it never ends")


def entry(group):
    return coverage_of(group.filler)["series"][0]


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h", "4h", "1d"])
@pytest.mark.parametrize(("of", "factor"), UNITS)
def test_an_owned_series_goes_over_to_another_unit_as_a_whole(group, of, factor, timeframe):
    path = group.watch(f"AAPL_{timeframe}")
    group.fill()
    before = path.read_text()
    assert before == truth(group, timeframe)
    group.now = NOW
    with group.gateway.fault("other_unit", of=of, factor=factor):
        fill(group, path, of, factor, timeframe)
        assert path.read_text() == as_told(group, of, factor, timeframe)
        (kept,) = (group.folder / ".ktrdr" / "replaced").iterdir()
        assert kept.read_text() == before
        assert entry(group)["state"] == "complete"
        requested = len(group.requested())
        group.scan()
        assert len(group.requested()) == requested


@pytest.mark.parametrize(("of", "factor"), UNITS)
def test_in_a_file_with_foreign_rows_nothing_is_written_and_a_person_must_decide(group, of, factor):
    theirs = group.truth("AAPL", "5m", SINCE, utc("2026-11-17"))
    path = group.watch("AAPL_5m", theirs)
    group.fill()
    before = path.read_text()
    assert before == truth(group)
    group.now = NOW
    with group.gateway.fault("other_unit", of=of, factor=factor):
        for hours in (0, 1, 2, 8, 8):
            group.now += 3600 * hours
            requested = len(group.requested())
            group.fill()
            assert path.read_text() == before
            assert entry(group)["state"] == "failed"
            assert len(group.requested()) - requested <= 2, (
                "the bars, and more of those that differ"
            )
        problem = group.filler.status.recent_errors[0]
        assert f"all {of}s times {factor:g} (a change of unit?)" in problem.message
        assert "foreign rows (not written by ktrdr)" in problem.message
        assert "bring its rows to what IB returns now, or delete" in problem.hint
        assert entry(group)["error"] == problem.message
        assert not (group.folder / ".ktrdr" / "replaced").exists()
    group.scan()
    assert path.read_text() == truth(group)
    assert entry(group)["state"] == "complete"


def test_foreign_rows_that_a_person_has_brought_to_the_new_unit_are_added_to_at_once(group):
    theirs = group.truth("AAPL", "5m", SINCE, WEDNESDAY)
    path = group.watch("AAPL_5m", theirs)
    group.fill()
    group.now = NOW
    with group.gateway.fault("other_unit", factor=100):
        group.fill()
        assert path.read_text() == HEADER + "".join(map(line, theirs))
        path.write_text(HEADER + "".join(line(received(bar, "price", 100)) for bar in theirs))
        group.now += 301
        group.fill()
        assert path.read_text() == as_told(group, "price", 100)
        assert entry(group)["state"] == "complete"


@pytest.mark.parametrize(
    ("of", "factor", "seed"), [("price", 100, 1), ("price", 0.01, 2), ("volume", 0.01, 3)]
)
def test_while_some_answers_are_in_another_unit_no_file_is_mixed_and_it_ends_right(
    make_settings, data_dir, wait_for, of, factor, seed
):
    with contextlib.ExitStack() as stack:
        group = Group(stack, make_settings, data_dir, GeneratedMarket(seed=5), seed=seed, speed=25)
        wait_for(lambda: group.manager.is_connected)
        group.now = utc("2026-11-11 22:00")
        path = group.watch("AAPL_5m")
        group.fill()
        with group.gateway.fault("other_unit", of=of, factor=factor, rate=0.5):
            while group.now < WEDNESDAY:
                group.now += 6 * 3600
                fill(group, path, of, factor)
        assert group.gateway.summary()["verdicts"]["other_unit"] > 10
        assert len(group.requested()) < 150
        for _ in range(6):  # until what was put off is asked for, and a day has had its sample
            group.now += DAY
            fill(group, path, of, factor)
        assert path.read_text() == truth(group, since=utc("2026-11-05"))
        assert entry(group)["state"] == "complete"
