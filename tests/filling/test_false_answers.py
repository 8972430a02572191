"""What is not so, told by the simulated gateway to the real connection and gap filler."""

import contextlib

import pytest

from ktrdr.errors import StoreUnwritable
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import DAY, coverage_of, line, utc
from tests.simulated_group import HEADER, NOW, later, state

RECENT = (utc("2026-11-16"), NOW)


def text_of(bars):
    return HEADER + "".join(line(bar) for bar in bars)


def week(group, timeframe="5m"):
    return text_of(group.truth("AAPL", timeframe, *RECENT))


def has_all_until(group, path, until):
    """Of the days that are kept complete; the days before may be there, too."""
    rows = set(path.read_text().splitlines()[1:])
    lines = [line(bar).strip() for bar in group.truth("AAPL", "5m", utc("2026-11-09"), until)]
    assert rows <= set(lines)
    wanted = group.truth("AAPL", "5m", RECENT[0], until)
    assert {line(bar).strip() for bar in wanted} <= rows


@pytest.mark.parametrize("kind", ["historical_data", "data"])
def test_one_no_data_is_not_accepted(group, kind):
    path = group.watch("AAPL_5m")
    with group.gateway.fault("false_no_data", kind=kind):
        group.fill()
        assert path.read_text() == HEADER
        assert state(group) != "complete"
        later(group, 3600)
        assert "no_trades" not in group.filler.status.unfillable
    later(group, 2 * 3600)
    assert path.read_text() == week(group)
    assert state(group) == "complete"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("false_no_data", {"kind": "schedule"}),
        ("cut_schedule", {"lost": "all"}),
        ("cut_schedule", {"lost": "oldest"}),
        ("cut_schedule", {"lost": "newest"}),
    ],
)
def test_one_schedule_without_sessions_costs_no_bar(group, name, values):
    path = group.watch("AAPL_5m")
    with group.gateway.fault(name, **values):
        group.fill()
    assert path.read_text() == week(group)


def test_a_schedule_without_sessions_takes_none_back_a_day_later(group):
    path = group.watch("AAPL_5m")
    group.now = utc("2026-11-18 22:00")
    group.fill()
    with group.gateway.fault("false_no_data", kind="schedule"):
        group.now = float(NOW)
        group.scan()
        group.end_filler()
        group.start_filler()
        group.fill()
    bars = group.truth("AAPL", "5m", utc("2026-11-12"), NOW)
    assert path.read_text() == text_of(bars)
    assert coverage_of(group.filler)["series"][0]["expected"] == len(bars)


def test_a_holiday_is_certain_if_the_contracts_hours_were_known(group):
    group.now = utc("2026-11-25 22:00")
    path = group.watch("AAPL_5m")
    group.fill()
    for moment in ("2026-11-26 22:00", "2026-11-27 12:00"):  # Thanksgiving, and the day after
        group.now = utc(moment)
        group.fill()
        assert state(group) == "complete", moment
    assert path.read_text() == text_of(group.truth("AAPL", "5m", utc("2026-11-19"), group.now))


def test_on_a_fresh_store_a_holiday_that_a_calendar_knows_is_one_at_once(group):
    group.now = utc("2026-11-26 22:00")  # Thanksgiving
    path = group.watch("AAPL_5m")
    group.fill()
    assert state(group) == "complete"
    assert path.read_text() == text_of(group.truth("AAPL", "5m", utc("2026-11-20"), group.now))


def test_so_it_is_where_bars_of_the_next_day_are_there_already(group):
    """Asked for alone, the holiday has no bars on either side: the answer proves nothing."""
    group.now = utc("2026-11-27 17:01")  # the half day after Thanksgiving, no bar is due
    there = group.truth("AAPL", "1h", utc("2026-11-20"), utc("2026-11-27 17:00"))
    path = group.watch("AAPL_1h", there)
    group.fill()
    assert state(group) == "complete"
    has = path.read_text()
    assert has == text_of(group.truth("AAPL", "1h", utc("2026-11-20"), utc("2026-11-27 17:00")))


@pytest.mark.parametrize("seconds", [-DAY, -600, 600, DAY])
def test_while_the_gateways_clock_is_off_nothing_is_called_complete(group, wait_for, seconds):
    path = group.watch("AAPL_5m")
    with group.gateway.wrong_clock(seconds):
        wait_for(lambda: abs(group.manager.status().clock_offset_s) > 60)  # a heartbeat
        group.fill()
        assert state(group) == "waiting"
        assert group.filler.status.state == "waiting"
        assert "clock" in group.filler.status.reason
        assert not group.filler.status.unfillable.keys() & {"no_trades", "unproven"}
    later(group, 301)
    has_all_until(group, path, NOW)
    assert (state(group), group.filler.status.unfillable) == ("complete", {})


@pytest.mark.parametrize("seconds", [-DAY, DAY])
def test_while_this_machines_clock_is_off_nothing_unfinished_is_written(group, seconds):
    path = group.watch("AAPL_5m")
    group.now = utc("2026-11-20 17:02")  # in the middle of a session, and of a bar
    group.off_s = seconds
    group.fill()
    assert state(group) == "waiting"
    there = {line(b).strip() for b in group.truth("AAPL", "5m", utc("2026-11-09"), NOW)}
    there -= {line(b).strip() for b in group.truth("AAPL", "5m", group.now - 300, NOW)}
    assert set(path.read_text().splitlines()[1:]) <= there
    assert "no_trades" not in group.filler.status.unfillable
    group.off_s = 0.0
    later(group, 301)
    has_all_until(group, path, group.now - 310)
    assert state(group) == "complete"


@pytest.mark.parametrize("seconds", [-DAY, DAY])
def test_a_clock_that_jumps_and_is_set_right_again_holds_nothing_up(group, seconds):
    path = group.watch("AAPL_5m")
    group.now = utc("2026-11-20 17:02")
    group.fill()
    group.off_s = seconds
    later(group, 301)
    group.off_s = 0.0
    later(group, 301)
    has_all_until(group, path, group.now - 310)
    assert state(group) == "complete"


def test_where_both_clocks_are_set_back_it_assesses_again_all_the_same(group):
    """As on one machine, on which the gateway runs too."""
    group.watch("AAPL_5m")
    group.now = utc("2026-11-20 17:02")
    group.fill()
    later(group, DAY)
    later(group, 301 - DAY)
    assert group.filler.status.last_scan_time.timestamp() == group.now


@contextlib.contextmanager
def host_clock_off(group, seconds):
    """The gateway is on the same machine, so that its clock is no witness."""
    group.off_s = seconds
    with group.gateway.wrong_clock(seconds):
        yield
    group.off_s = 0.0


@pytest.mark.parametrize("seconds", [-DAY, -600, 600, 3600, DAY, 30 * DAY])
def test_where_both_clocks_jump_for_a_while_nothing_is_assessed(group, seconds):
    path = group.watch("AAPL_5m")
    group.now = utc("2026-11-20 17:02")  # in the middle of a session, and of a bar
    group.fill()
    with host_clock_off(group, seconds):
        group.now += 40
        group.scan()
        assert state(group) == "waiting"
        assert (group.filler.status.state, group.filler.status.clock_jump_s) == ("waiting", seconds)
        assert "clock has jumped" in group.filler.status.reason
        has_all_until(group, path, utc("2026-11-20 17:00"))
    later(group, 20)
    assert (state(group), group.filler.status.clock_jump_s) == ("complete", 0)
    later(group, 301)
    has_all_until(group, path, group.now - 310)
    assert (state(group), group.filler.status.unfillable) == ("complete", {})


def test_what_was_found_out_by_a_clock_that_was_ahead_is_found_out_anew(group):
    path = group.watch("AAPL_5m")
    group.now = utc("2026-11-19 17:02")
    with group.gateway.fault("cut_bars", lost="newest", share=0.1):
        group.fill()
        later(group, 3600)
        with host_clock_off(group, 2 * DAY):
            for pause_s in (10, 300, 301, 301, 301):
                group.now += pause_s
                group.scan()
            assert group.filler.status.clock_jump_s == 0  # it is believed by now
    for pause_s in (10, 301, 301):
        later(group, pause_s)
    has_all_until(group, path, group.now - 310)
    assert (state(group), group.filler.status.unfillable) == ("complete", {})


def test_a_clock_that_is_set_ahead_makes_no_evidence_older(group):
    """Few bars at the end of an answer are believed absent when that is told a day later, too."""
    path = group.watch("AAPL_5m", group.truth("AAPL", "5m", *RECENT)[:-5])
    group.now = utc("2026-11-21 12:00")  # Saturday: no bar becomes due
    with group.gateway.fault("false_no_data", kind="historical_data"):
        group.fill()
        later(group, 3600)
        with host_clock_off(group, 26 * 3600):
            for pause_s in (10, 301, 301, 301, 301):
                group.now += pause_s
                group.scan()
                assert state(group) in ("waiting", "unproven")
            assert (group.filler.status.clock_jump_s, state(group)) == (0, "unproven")
    later(group, 301)
    later(group, 301)
    assert path.read_text() == week(group)
    assert state(group) == "complete"


@pytest.mark.parametrize("boot", ["first", "second", ""])
def test_a_clock_that_is_set_ahead_makes_no_evidence_older_over_a_restart(group, boot):
    """Of gap-filler alone, and of the machine, whose clock is wrong until NTP sets it."""
    path = group.watch("AAPL_5m", group.truth("AAPL", "5m", *RECENT)[:-2])
    group.now = utc("2026-11-21 12:00")  # Saturday: no bar becomes due
    with group.gateway.fault("false_no_data", kind="historical_data"):
        group.fill()
        later(group, 301)
        assert state(group) == "unproven"
        group.end_filler()
        group.boot = boot
        with host_clock_off(group, 26 * 3600):
            group.start_filler()
            for pause_s in (0, 10, 301, 301):
                later(group, pause_s)
                assert state(group) in ("waiting", "unproven")
    for pause_s in (10, 301, 301):
        later(group, pause_s)
    assert path.read_text() == week(group)
    assert state(group) == "complete"


def test_a_clock_that_is_set_for_good_is_accepted(group):
    """As at the start of a machine whose clock keeps no time while it is off."""
    path = group.watch("AAPL_5m")
    group.off_s = -4 * DAY
    group.now = utc("2026-11-20 17:02")
    with group.gateway.wrong_clock(-4 * DAY):
        group.fill()
    group.off_s = 0.0
    later(group, 10)
    assert state(group) == "waiting"
    later(group, 301)
    has_all_until(group, path, group.now - 310)
    assert state(group) == "complete"


def test_a_machine_whose_clock_is_behind_at_its_start_forgets_nothing(group):
    group.watch("AAPL_5m")
    with group.gateway.missing_bars(every=3):
        group.fill()
        later(group, 3601)
    assert set(group.filler.status.unfillable) == {"no_trades"}
    group.end_filler()
    with host_clock_off(group, -3 * DAY):
        group.start_filler()
        group.fill()
        later(group, 200)
    requested = len(group.requested())
    later(group, 10)
    later(group, 301)
    assert (state(group), set(group.filler.status.unfillable)) == ("complete", {"no_trades"})
    assert len(group.requested()) == requested


def test_what_was_found_out_by_a_clock_that_was_ahead_is_forgotten_after_a_restart_too(group):
    path = group.watch("AAPL_5m")
    with group.gateway.missing_bars(every=3), host_clock_off(group, DAY):
        group.fill()
        later(group, 3601)
    assert set(group.filler.status.unfillable) == {"no_trades"}
    group.end_filler()
    group.start_filler()
    group.fill()
    has_all_until(group, path, NOW)
    later(group, 301)
    assert (state(group), group.filler.status.unfillable) == ("complete", {})


def heartbeat(group):
    group.manager.call(group.manager.clock(), 20)


def test_a_gateway_whose_clock_goes_wrong_is_noticed_before_the_next_scan(group):
    group.watch("AAPL_5m")
    group.fill()
    with group.gateway.wrong_clock(DAY):
        heartbeat(group)
        later(group, 61)
        assert (state(group), group.filler.status.state) == ("waiting", "waiting")
    heartbeat(group)
    later(group, 5)
    assert (state(group), group.filler.status.state) == ("complete", "idle")


def test_a_clock_that_is_set_right_by_a_gateways_is_accepted_before_the_next_scan(group):
    group.watch("AAPL_5m")
    group.off_s = -DAY
    heartbeat(group)
    group.fill()
    assert state(group) == "waiting"
    group.off_s = 0.0
    heartbeat(group)
    later(group, 5)
    assert (state(group), group.filler.status.state) == ("complete", "idle")


class LookedAt(CsvStore):
    """A store that has something done whenever all of it is looked at."""

    meanwhile = staticmethod(lambda: None)

    def scan(self):
        self.meanwhile()
        return super().scan()


def set_right_after_a_day_behind(group):
    """A day is lacking, which the clock that was behind did not know of; it is believed next."""
    store = LookedAt(group.folder, indexed=True)
    group.end_filler()
    with host_clock_off(group, -DAY):
        group.start_filler(store)
        group.fill()
        assert state(group) == "complete"
    later(group, 10)
    assert state(group) == "waiting"
    return store


def test_nothing_is_complete_while_all_is_assessed_again(group):
    path = group.watch("AAPL_5m")
    store = set_right_after_a_day_behind(group)
    seen = []
    store.meanwhile = lambda: seen.append((group.filler.clocks_agree, state(group)))
    later(group, 301)
    assert seen[0] == (True, "waiting")
    has_all_until(group, path, NOW)
    assert state(group) == "complete"


def test_all_is_assessed_again_also_where_that_fails_at_first(group):
    path = group.watch("AAPL_5m")
    store = set_right_after_a_day_behind(group)
    fails = [True]

    def meanwhile():
        if fails and fails.pop():
            raise StoreUnwritable("the disk is away")

    store.meanwhile = meanwhile
    later(group, 301)
    assert (state(group), group.filler.status.state) == ("waiting", "waiting")
    later(group, 5)
    has_all_until(group, path, NOW)
    assert state(group) == "complete"


def test_bars_of_a_time_to_come_are_not_complete(group):
    """The store is a witness, too, where all clocks are behind since the start."""
    path = group.watch("AAPL_5m")
    group.now = utc("2026-11-19 22:00")
    group.fill()
    assert state(group) == "complete"
    group.end_filler()
    group.now = float(NOW)
    with host_clock_off(group, -3 * DAY):
        group.start_filler()
        group.fill()
        later(group, 301)
        assert state(group) == "waiting"
        assert "its last bar is at 2026-11-19T20:55:00+00:00" in str(group.problems())
    later(group, 10)
    later(group, 301)
    has_all_until(group, path, NOW)
    assert state(group) == "complete"
