from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from ktrdr.config.restart_times import Restart, parse_restart
from ktrdr.ib.expected_outages import Disconnection, absence, learn_restart, reminder

NEW_YORK = ZoneInfo("America/New_York")
BERLIN = ZoneInfo("Europe/Berlin")
RESTART = Restart(time(23, 45), NEW_YORK, how_known="configured")


def ny(text):
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC)


def outage(text, seconds, zone=NEW_YORK):
    start = datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)
    return Disconnection(start, start + timedelta(seconds=seconds))


def test_a_loss_at_the_hour_of_the_restart_is_expected_and_says_until_when():
    away = absence(
        RESTART, logs_out=False, lost_at=ny("2026-11-24 23:45:10"), now=ny("2026-11-24 23:46")
    )
    assert away.kind == "restart"
    assert away.words == "expected restart, back at about 04:47 UTC"


def test_one_that_takes_much_longer_is_an_alarm_again():
    lost = ny("2026-11-24 23:45:10")
    assert absence(RESTART, logs_out=False, lost_at=lost, now=ny("2026-11-24 23:52"))
    assert absence(RESTART, logs_out=False, lost_at=lost, now=ny("2026-11-24 23:53")) is None


@pytest.mark.parametrize("lost", ["2026-11-24 23:30", "2026-11-24 12:00", "2026-11-25 00:10"])
def test_a_loss_at_another_time_is_an_alarm_at_once(lost):
    assert absence(RESTART, logs_out=False, lost_at=ny(lost), now=ny(lost)) is None


def test_the_hour_follows_the_wall_clock_over_the_change_of_the_clocks():
    for night in ("2026-10-30", "2026-11-02"):  # New York's clocks went back on 1 November
        lost = ny(f"{night} 23:45:30")
        assert absence(RESTART, logs_out=False, lost_at=lost, now=lost)


def test_a_restart_at_midnight_may_begin_a_little_early():
    midnight = Restart(time(0, 0), NEW_YORK)
    lost = ny("2026-11-24 23:59:10")
    assert absence(midnight, logs_out=False, lost_at=lost, now=lost).kind == "restart"


def test_without_a_restart_nothing_is_expected():
    lost = ny("2026-11-24 23:45:10")
    assert absence(None, logs_out=False, lost_at=lost, now=lost) is None


def test_on_sunday_the_log_out_lasts_until_somebody_logs_in():
    lost = ny("2026-11-29 01:00:20")
    for hours in (0, 6, 30):
        away = absence(RESTART, logs_out=True, lost_at=lost, now=lost + timedelta(hours=hours))
        assert (away.kind, away.back_at) == ("log_out", None)
        assert "log in" in away.words


def test_a_loss_on_another_day_is_no_log_out():
    lost = ny("2026-11-30 01:00:20")
    assert absence(RESTART, logs_out=True, lost_at=lost, now=lost) is None


def test_a_gateway_that_never_logs_out_has_no_sunday():
    lost = ny("2026-11-29 01:00:20")
    assert absence(RESTART, logs_out=False, lost_at=lost, now=lost) is None


def test_it_reminds_in_the_twelve_hours_before_the_log_in_ends():
    assert reminder(ny("2026-11-28 12:59")) == ""
    assert "in 12 h 00 min" in reminder(ny("2026-11-28 13:00"))
    assert "in 45 min" in reminder(ny("2026-11-29 00:15"))
    assert reminder(ny("2026-11-29 01:00")) == ""


def test_on_the_day_of_the_change_of_the_clocks_it_counts_real_hours():
    # On 8 March 2026 New York went from 02:00 to 03:00, an hour after the log-out.
    assert "in 2 h 00 min" in reminder(ny("2026-03-07 23:00"))


def test_short_outages_at_the_same_hour_on_several_nights_are_the_restart():
    found = learn_restart(
        [
            outage("2026-11-20 02:30:05", 80, BERLIN),
            outage("2026-11-21 02:31:00", 100, BERLIN),
            outage("2026-11-21 14:00:00", 30, BERLIN),
            outage("2026-11-22 02:29:30", 90, BERLIN),
            outage("2026-11-23 02:30:10", 95, BERLIN),
        ],
        BERLIN,
    )
    assert found.how_known == "learnt"
    assert (found.at, found.zone) == (time(2, 30), BERLIN)
    assert 90 <= found.away_s <= 95


def test_over_a_change_of_the_clocks_the_hour_is_that_of_the_wall():
    nights = [outage(f"2026-10-{day} 23:45:05", 60) for day in (28, 29, 30, 31)]
    nights += [outage(f"2026-11-0{day} 23:45:05", 60) for day in (1, 2)]
    found = learn_restart(nights, NEW_YORK)
    assert found.at == time(23, 45)
    lost = ny("2026-11-03 23:45:20")
    assert absence(found, logs_out=False, lost_at=lost, now=lost).kind == "restart"


def test_the_restart_around_midnight_is_one_hour_and_not_two():
    found = learn_restart(
        [
            outage("2026-11-20 23:58:00", 60),
            outage("2026-11-22 00:02:00", 60),
            outage("2026-11-22 23:59:00", 60),
        ],
        NEW_YORK,
    )
    assert found.at in (time(23, 58), time(23, 59), time(0, 0))


@pytest.mark.parametrize(
    "nights",
    [
        [outage("2026-11-20 23:45", 60), outage("2026-11-21 23:45", 60)],
        [outage(f"2026-11-20 23:4{n}", 20) for n in range(5)],
        [outage(f"2026-11-2{n} 23:45", 7200) for n in range(5)],
        [outage(f"2026-11-2{n} 1{n}:00", 60) for n in range(5)],
    ],
    ids=["two nights", "one night", "long ones", "scattered"],
)
def test_other_outages_are_no_restart(nights):
    assert learn_restart(nights, NEW_YORK) is None


def test_a_learnt_hour_says_that_it_is_learnt():
    learnt = Restart(time(2, 30), BERLIN, 90, "learnt")
    lost = datetime(2026, 11, 24, 2, 30, 20, tzinfo=BERLIN)
    away = absence(learnt, logs_out=False, lost_at=lost, now=lost)
    assert away.words == "expected restart (learnt hour), back at about 01:31 UTC"


def test_a_setting_is_a_time_with_or_without_a_zone_or_never():
    assert parse_restart("23:45", BERLIN) == Restart(time(23, 45), BERLIN, how_known="configured")
    assert parse_restart("2:30 America/New_York", BERLIN).zone == NEW_YORK
    assert parse_restart("never", BERLIN) is None


@pytest.mark.parametrize(
    "text", ["", "25:00", "23:60", "11 pm", "23:45 Mars/Olympus", "23:45 ../x"]
)
def test_what_is_no_time_of_day_is_refused(text):
    with pytest.raises(ValueError, match="HH:MM"):
        parse_restart(text, UTC)


def nightly(first, nights, zone=NEW_YORK, at=time(23, 45, 10)):
    """Restarts of a gateway in that zone, a minute each."""
    days = [datetime.fromisoformat(first).date() + timedelta(days=n) for n in range(nights)]
    starts = [datetime.combine(day, at, zone).astimezone(UTC) for day in days]
    return [Disconnection(start, start + timedelta(minutes=1)) for start in starts]


@pytest.mark.parametrize("here", [UTC, BERLIN, NEW_YORK, ZoneInfo("Asia/Tokyo")])
def test_a_change_of_the_gateways_clock_alarms_nobody_on_a_machine_with_another(here):
    """New York's went back on 1 November 2026, Berlin's on 25 October, and UTC never does."""
    nights = nightly("2026-10-18", 22)
    for known in range(4, len(nights)):
        found = learn_restart(nights[max(known - 14, 0) : known], here)
        lost = nights[known].start
        away = absence(found, logs_out=False, lost_at=lost, now=lost + timedelta(seconds=30))
        assert away is not None, lost
        assert away.kind == "restart"


@pytest.mark.parametrize("zone", [UTC, BERLIN, ZoneInfo("Asia/Tokyo")])
def test_nor_does_a_change_of_this_machines_where_the_gateways_does_not_change(zone):
    nights = nightly("2026-10-18", 22, zone)
    for known in range(4, len(nights)):
        found = learn_restart(nights[max(known - 14, 0) : known], NEW_YORK)
        lost = nights[known].start
        assert absence(found, logs_out=False, lost_at=lost, now=lost), lost


def test_a_week_after_a_change_one_hour_is_left():
    found = learn_restart(nightly("2026-10-26", 14), UTC)  # seven nights on either side
    an_hour_off = ny("2026-11-09 22:45:10")
    assert absence(found, logs_out=False, lost_at=an_hour_off, now=an_hour_off) is None
