from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from ktrdr.config.restart_times import Restart
from ktrdr.ib.outages import NOT_RUNNING, outages
from ktrdr.ipc.messages import Outage, StateSpan

CLOSED = "127.0.0.1:4002 closed the connection"
REFUSED = "cannot connect to 127.0.0.1:4002: Connection refused"
NO_HISTORY = "IB's history farm ushmds is broken: Historical Market Data Service error message"


def moment(time_s):
    return datetime.fromtimestamp(time_s, UTC)


def rows(*states, restart=None, logs_out=False, begin=0.0):
    """The times without data in `(seconds, state, why)`, one after the other."""
    spans, at = [], begin
    for seconds, state, *why in states:
        spans.append(StateSpan(moment(at), moment(at + seconds), state, "".join(why)))
        at += seconds
    return outages(spans, restart, logs_out=logs_out)


def test_attempts_and_waits_are_one_row_from_its_first_second_to_its_last():
    found = rows(
        (100, "connected"),
        (0, "waiting", CLOSED),
        (1, "connecting", CLOSED),
        (5, "waiting", REFUSED),
        (1, "connecting", REFUSED),
        (83, "waiting", REFUSED),
        (500, "connected", "answered"),
    )
    assert found == [Outage(moment(100), moment(190), "connection refused", "waiting")]


def test_one_that_lasts_has_no_end():
    assert rows((60, "connected"), (30, "dead", "the gateway has answered nothing for 30 s")) == [
        Outage(moment(60), None, "the gateway answered nothing", "dead")
    ]


def test_a_broken_farm_of_market_data_is_no_time_without_data():
    assert rows((60, "connected"), (600, "farm_down", "broken:usfarm"), (60, "connected")) == []


@pytest.mark.parametrize(
    ("state", "why", "cause"),
    [
        ("upstream_lost", "Connectivity has been lost.", "IB's servers were away (1100)"),
        ("history_down", NO_HISTORY, "the history farm ushmds was broken"),
        ("history_down", "IB's history farm is broken: x", "the history farm was broken"),
        ("competing_session", "x", "another session of the same user had the data"),
        ("logged_out", "x", "logged out"),
        ("waiting", REFUSED, "connection refused"),
        ("waiting", CLOSED, "the gateway closed the connection"),
        ("waiting", "all client ids from 1 to 50 are in use", "all client ids were in use"),
        ("waiting", "no route to the moon", "no route to the moon"),
        ("waiting", "", "waiting"),
        (NOT_RUNNING, "", "ib-connection was not running"),
        ("connecting", "reconnect", "a new connection was requested"),
        ("connecting", "start", "ib-connection was starting"),
        (
            "dead",
            "the gateway gives the time, but answers no request for data",
            "the gateway answered no request for data",
        ),
    ],
)
def test_the_cause_is_said_as_a_person_would(state, why, cause):
    (found,) = rows((9, "connected"), (5, state, why), (9, "connected"))
    assert (found.cause, found.worst) == (cause, state)


def test_the_cause_is_what_it_was_for_the_most_of_the_time():
    (found,) = rows(
        (9, "connected"),
        (600, "upstream_lost", "Connectivity has been lost."),
        (20, "waiting", REFUSED),
        (9, "connected"),
    )
    assert (found.cause, found.worst) == ("IB's servers were away (1100)", "waiting")


NEW_YORK = ZoneInfo("America/New_York")
NIGHTLY = Restart(time(23, 45), NEW_YORK)


def new_york(text):
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC).timestamp()


def test_a_loss_at_the_usual_hour_is_a_restart():
    states = ((60, "connected"), (90, "waiting", REFUSED), (9, "connected"))
    (found,) = rows(*states, restart=NIGHTLY, begin=new_york("2026-11-24 23:44:30"))
    assert (found.cause, found.expected_kind) == ("restart", "restart")
    (found,) = rows(*states, restart=NIGHTLY, begin=new_york("2026-11-24 12:00"))
    assert (found.cause, found.expected_kind) == ("connection refused", "")


def test_one_that_took_too_long_is_no_usual_restart():
    states = ((60, "connected"), (3600, "waiting", REFUSED), (9, "connected"))
    (found,) = rows(*states, restart=NIGHTLY, begin=new_york("2026-11-24 23:44:30"))
    assert (found.cause, found.expected_kind) == ("connection refused", "")


def test_a_restart_of_the_program_within_the_expected_one_leaves_it_expected():
    """As the status says, which a new run reckons from the last data as well."""
    states = ((60, "connected"), (2, NOT_RUNNING), (1, "connecting", "start"))
    (found,) = rows(
        *states, (70, "waiting", REFUSED), restart=NIGHTLY, begin=new_york("2026-11-24 23:44:30")
    )
    assert (found.cause, found.expected_kind, found.end) == ("restart", "restart", None)


@pytest.mark.parametrize(
    ("states", "cause"),
    [
        (((300, NOT_RUNNING), (5, "waiting", REFUSED)), "ib-connection was not running"),
        (((2, NOT_RUNNING), (8, "connecting", "start")), "ib-connection was starting"),
    ],
)
def test_a_program_that_did_not_run_at_the_hour_of_the_restart_is_no_restart(states, cause):
    begin = new_york("2026-11-24 23:44:30")
    (found,) = rows((60, "connected"), *states, (9, "connected"), restart=NIGHTLY, begin=begin)
    assert (found.cause, found.expected_kind) == (cause, "")


def test_a_farm_that_breaks_at_the_hour_of_the_restart_is_none():
    states = ((60, "connected"), (90, "history_down", NO_HISTORY), (9, "connected"))
    (found,) = rows(*states, restart=NIGHTLY, begin=new_york("2026-11-24 23:44:30"))
    assert (found.cause, found.expected_kind) == ("the history farm ushmds was broken", "")


def test_the_weekly_log_out_is_one_row_of_six_hours():
    (found,) = rows(
        (60, "connected"),
        (1, "waiting", CLOSED),
        *[(30, "logged_out", REFUSED), (1, "connecting", REFUSED)] * 700,
        (9, "connected"),
        logs_out=True,
        begin=new_york("2026-11-29 00:59"),
    )
    assert (found.cause, found.expected_kind, found.worst) == (
        "logged out",
        "log_out",
        "logged_out",
    )
    assert (found.end - found.start).total_seconds() == 1 + 700 * 31
