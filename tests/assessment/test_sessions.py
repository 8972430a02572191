from dataclasses import replace

import pytest

from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import contract_name, instrument_for, parse_series
from ktrdr.market.sessions import Schedule, Session
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import utc

DAY = 86400
START, NOW, END = utc("2026-11-02"), utc("2026-11-21"), utc("2026-11-28")  # to a Saturday
EARLY = START - 98 * DAY  # a Monday too


def weekdays(start):
    return [day for day in range(start, END, DAY) if (day // DAY + 3) % 7 < 5]


DAYS = weekdays(START)
AAPL = instrument_for("AAPL")


def schedule(days=DAYS, start=START):
    sessions = tuple(Session(day + 52_200, day + 75_600, day) for day in days)
    return Schedule("America/New_York", start, END, sessions)


@pytest.fixture
def path(data_dir):
    return data_dir / ".ktrdr" / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    ledger = Ledger(path)
    yield ledger
    ledger.close()


@pytest.fixture
def sessions(ledger):
    return KnownSessions(ledger)


@pytest.fixture
def series(data_dir):
    return [SeriesState(parse_series("AAPL_1d.csv"), AAPL, CsvStore(data_dir))]


def test_sessions_are_requested_again_after_a_day(sessions, series):
    assert sessions.are_stale(AAPL, START, NOW)
    sessions.take_schedule(series, schedule(), NOW)
    assert not sessions.are_stale(AAPL, START, NOW + DAY - 1)
    assert sessions.are_stale(AAPL, START, NOW + DAY)
    assert sessions.are_stale(AAPL, START - DAY, NOW)


def test_bars_at_times_without_trading_have_sessions_requested_in_five_minutes(sessions, series):
    sessions.take_schedule(series, schedule(), NOW)
    sessions.request_soon(AAPL, NOW)
    assert not sessions.are_stale(AAPL, START, NOW + 299)
    assert sessions.are_stale(AAPL, START, NOW + 300)


def test_what_is_old_and_known_is_not_requested_again(sessions, series):
    assert sessions.again_from(AAPL, EARLY, NOW) == EARLY
    sessions.take_schedule(series, schedule(weekdays(EARLY), EARLY), NOW)
    assert sessions.again_from(AAPL, EARLY, NOW) == NOW - 40 * DAY
    assert sessions.again_from(AAPL, START, NOW) == START
    assert sessions.again_from(AAPL, EARLY - DAY, NOW) == EARLY - DAY


def test_an_old_session_that_was_missing_is_requested_again_until_that_is_settled(sessions, series):
    """It stayed expected for ever: what was requested again began 40 days ago."""
    days = weekdays(EARLY)
    holiday = days[30]
    received = schedule([day for day in days if day != holiday], EARLY)
    for later in (0, DAY, 2 * DAY):
        sessions.take_schedule(series, received, NOW + later)
        if later < 2 * DAY:
            assert sessions.again_from(AAPL, EARLY, NOW + later) == holiday - 8 * DAY
    assert sessions.again_from(AAPL, EARLY, NOW + 2 * DAY) == NOW + 2 * DAY - 40 * DAY
    expected = {session.day for session in sessions.known_schedule(AAPL).sessions}
    assert expected == set(days) - {holiday}


def test_a_holiday_by_another_calendar_is_one_at_the_first_answer(sessions, series):
    days = weekdays(EARLY)
    holiday = days[30]
    received = schedule([day for day in days if day != holiday], EARLY)
    sessions.take_schedule(series, received, NOW, {holiday})
    assert holiday not in {session.day for session in sessions.known_schedule(AAPL).sessions}
    assert sessions.again_from(AAPL, EARLY, NOW) == NOW - 40 * DAY


def test_sessions_that_bars_have_shown_outlast_the_process(sessions, series, ledger):
    special = Session(DAYS[-1] + DAY + 52_200, DAYS[-1] + DAY + 59_400, DAYS[-1] + DAY)
    sessions.take_schedule(series, schedule(), NOW)
    sessions.add_sessions(AAPL, [special])
    ledger.close()
    known = KnownSessions(ledger).known_schedule(AAPL)
    assert [session.day for session in known.sessions] == [*DAYS, special.day]


def test_nothing_is_known_any_more_after_somebody_has_deleted_the_ledger(
    sessions, series, ledger, path
):
    sessions.take_schedule(series, schedule(), NOW)
    path.unlink()
    assert sessions.known_schedule(AAPL) is not None
    ledger.file.notice_deletion()
    assert sessions.known_schedule(AAPL) is None


MSFT, BMW = instrument_for("MSFT"), instrument_for("BMW", {"exchange": "IBIS", "currency": "EUR"})


def test_a_contract_has_the_sessions_of_an_alike_one_until_its_own_are_known(sessions, series):
    sessions.take_schedule(series, schedule(), NOW)
    assert sessions.schedule(MSFT, START, NOW) == sessions.schedule(AAPL, START, NOW)
    assert sessions.are_of_another(MSFT)
    assert sessions.are_stale(MSFT, START, NOW)
    assert sessions.schedule(MSFT, START - DAY, NOW) is None
    assert sessions.known_schedule(BMW) is None


def test_its_own_sessions_take_the_place_of_those_of_another(sessions, series, data_dir):
    sessions.take_schedule(series, schedule(), NOW)
    own = Schedule(
        "America/New_York",
        START,
        END,
        tuple(session._replace(close=session.close + 900) for session in schedule().sessions),
    )
    of_msft = [SeriesState(parse_series("MSFT_1d.csv"), MSFT, CsvStore(data_dir))]
    sessions.take_schedule(of_msft, own, NOW)
    assert not sessions.are_of_another(MSFT)
    assert not sessions.are_stale(MSFT, START, NOW)
    assert sessions.known_schedule(MSFT).sessions == own.sessions
    assert sessions.known_schedule(AAPL).sessions == schedule().sessions


def test_the_sessions_of_another_are_never_kept_as_its_own(ledger, sessions, series):
    sessions.take_schedule(series, schedule(), NOW)
    sessions.add_sessions(MSFT, [Session(DAYS[3], DAYS[3] + 60, DAYS[3])])
    sessions.request_soon(MSFT, NOW)
    assert ledger.contracts.schedule(contract_name(MSFT)) is None
    assert sessions.known_schedule(MSFT).sessions == schedule().sessions


def test_sessions_that_ib_did_not_report_are_those_of_one_contract_alone(sessions, series):
    rules = replace(schedule(), source="rules")
    sessions.take_schedule(series, rules, NOW)
    assert sessions.known_schedule(AAPL) is not None
    assert sessions.known_schedule(MSFT) is None


def test_after_a_restart_sessions_in_the_ledger_serve_alike_contracts(ledger, sessions, series):
    sessions.take_schedule(series, schedule(), NOW)
    again = KnownSessions(ledger)
    assert again.known_schedule(MSFT) is None  # nobody has read those of AAPL yet
    assert again.known_schedule(AAPL) is not None
    assert again.known_schedule(MSFT) == again.known_schedule(AAPL)
