"""Which sessions are believed after one more SCHEDULE."""

from dataclasses import replace
from datetime import UTC, datetime

from ktrdr.completeness.evidence import settle
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.usual_sessions import usual_week


def utc(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


START, NOW = utc("2026-11-02"), utc("2026-11-21")  # three weeks, to a Saturday
DAYS = [day for day in range(START, NOW, DAY_S) if (day // DAY_S + 3) % 7 < 5]
HOUR = 3600


def schedule(days, end=NOW, start=START):
    sessions = tuple(Session(day + 52_200, day + 75_600, day) for day in days)
    return Schedule("America/New_York", start, end, sessions)


def never(_session):
    return False


def settled(received, known=None, missing=None, now=NOW, is_traded=never):
    return settle(
        known,
        received,
        usual_week(known, received, "STK", now),
        missing or {},
        is_traded,
        now,
    )


def days_of(found):
    return [session.day for session in found.schedule.sessions]


def test_all_that_is_reported_is_accepted():
    found = settled(schedule(DAYS))
    assert (days_of(found), found.missing, found.is_suspect) == (DAYS, {}, False)


def test_none_at_all_takes_none_away_that_was_known():
    found = settled(schedule([]), known=schedule(DAYS))
    assert days_of(found) == DAYS
    assert found.is_suspect


def test_none_at_all_where_nothing_was_known_leaves_the_usual_ones():
    found = settled(schedule([]))
    assert days_of(found) == DAYS
    assert (found.schedule.source, found.is_suspect) == ("hours", True)


def test_the_oldest_and_the_newest_that_are_missing_are_expected_all_the_same():
    for part in (DAYS[5:], DAYS[:-5]):
        found = settled(schedule(part), known=schedule(DAYS))
        assert days_of(found) == DAYS
        assert found.is_suspect
        assert days_of(settled(schedule(part))) == DAYS, "by the usual week"


def test_a_day_between_others_is_expected_once_more_and_denied():
    found = settled(schedule([*DAYS[:5], *DAYS[6:]]), known=schedule(DAYS))
    assert days_of(found) == DAYS
    assert found.schedule.denied == (DAYS[5],)
    assert not found.is_suspect


def test_what_was_missing_three_times_over_a_day_is_accepted_unless_bars_are_stored():
    received, missing, known = schedule(DAYS[:-1]), {}, schedule(DAYS)
    for later in (0, HOUR, 24 * HOUR):
        found = settled(received, known, missing, NOW + later)
        missing, known = found.missing, found.schedule
        assert days_of(found) == DAYS
    last = {"known": known, "missing": missing, "now": NOW + 26 * HOUR}
    assert days_of(settled(received, **last)) == DAYS[:-1]
    assert days_of(settled(received, **last, is_traded=lambda s: s.day == DAYS[-1])) == DAYS


def test_what_is_received_again_was_never_missing():
    missing = settled(schedule(DAYS[:-1]), schedule(DAYS)).missing
    assert set(missing) == {DAYS[-1]}
    assert settled(schedule(DAYS), schedule(DAYS), missing).missing == {}


def test_a_holiday_of_which_the_hours_have_reported_before_is_certain():
    known = schedule(DAYS[:-1])  # the contract's hours: closed on Friday
    found = settled(schedule(DAYS[:-1]), known)
    assert (days_of(found), found.missing, found.is_suspect) == (DAYS[:-1], {}, False)


def test_a_holiday_of_which_another_calendar_knows_is_certain():
    received, usual = schedule(DAYS[:-1]), usual_week(None, schedule(DAYS[:-1]), "STK", NOW)
    assert settle(None, received, usual, {}, never, NOW).is_suspect
    found = settle(None, received, usual, {}, never, NOW, {DAYS[-1]})
    assert (days_of(found), found.missing, found.is_suspect) == (DAYS[:-1], {}, False)


def test_a_session_under_way_that_is_missing_is_expected_too():
    """The contract's hours may have been unreadable, so that nobody else tells of it."""
    noon = DAYS[-1] + 16 * HOUR
    known = schedule(DAYS[:-1], end=DAYS[-2] + DAY_S)
    for received in (schedule(DAYS[:-1], end=noon), schedule(DAYS[:-6], end=noon)):
        found = settled(received, known, now=noon)
        assert days_of(found) == DAYS
        assert found.is_suspect


def test_no_calendar_counts_against_bars_that_are_stored():
    received, usual = schedule(DAYS[:-1]), usual_week(None, schedule(DAYS[:-1]), "STK", NOW)
    found = settle(None, received, usual, {}, lambda _session: True, NOW, {DAYS[-1]})
    assert days_of(found) == DAYS


def test_of_days_of_which_nothing_was_known_the_usual_ones_count():
    known = schedule(DAYS[:-5], end=DAYS[-5])
    found = settled(schedule(DAYS[:-1]), known)
    assert days_of(found) == DAYS


def test_hours_other_than_those_of_schedule_stay_where_bars_are_stored():
    evening = Session(DAYS[3] + 75_600, DAYS[3] + 79_200, DAYS[3])
    known = schedule(DAYS)
    known = replace(known, sessions=tuple(sorted([*known.sessions, evening])))
    kept = settled(schedule(DAYS), known, is_traded=lambda session: session == evening)
    assert evening in kept.schedule.sessions
    assert not kept.is_suspect
    assert evening not in settled(schedule(DAYS), known).schedule.sessions


def test_hours_that_were_shortened_are_taken_back():
    short = Session(DAYS[3] + 52_200, DAYS[3] + 64_800, DAYS[3])
    received = schedule(DAYS)
    received = replace(
        received, sessions=tuple(short if s.day == short.day else s for s in received.sessions)
    )
    found = settled(received, schedule(DAYS), is_traded=lambda _session: True)
    assert [s for s in found.schedule.sessions if s.day == short.day] == [short]
