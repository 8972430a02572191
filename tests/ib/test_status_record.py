from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.errors import NotConnected
from ktrdr.ib.states import State
from ktrdr.ib.status_record import StatusRecord

START = datetime(2026, 11, 18, 15, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def record(make_settings, clock):
    return StatusRecord(make_settings(), clock)


def states(record, clock, *states: State) -> datetime | None:
    """Since when there are no data, after these states a minute apart."""
    for state in states:
        record.note_state(state, clock.at.timestamp())
        clock.at += timedelta(minutes=1)
    return record.snapshot.noted.no_data_since


def test_an_outage_begins_with_its_first_state_and_ends_with_data(record, clock):
    outage = (State.CONNECTED, State.DEAD, State.WAITING, State.CONNECTING)
    assert states(record, clock, *outage) == START + timedelta(minutes=1)
    assert states(record, clock, State.HISTORY_DOWN) == START + timedelta(minutes=1)
    assert states(record, clock, State.FARM_DOWN) is None


def test_what_the_gateway_said_in_its_greeting_is_not_over_when_it_has_greeted(record, clock):
    record.note_error(NotConnected("the last connection's end"))
    clock.at += timedelta(minutes=1)
    record.note_attempt(client_id=1)
    record.forget_error(but_of_attempt=True)
    assert record.snapshot.noted.last_error is None
    record.note_error(NotConnected("a farm is broken"))
    record.forget_error(but_of_attempt=True)
    assert record.snapshot.noted.last_error.message == "a farm is broken"
    record.forget_error(but_of_attempt=False)
    assert record.snapshot.noted.last_error is None


def test_whoever_has_a_snapshot_keeps_it_as_it_was(record):
    before = record.snapshot
    record.note_attempt(client_id=7)
    record.note_state(State.CONNECTING, 1)
    assert (before.state, before.noted.connection_attempts) == (State.DISCONNECTED, 0)
    assert record.snapshot.noted.connection_attempts == 1


def test_a_logged_error_has_its_next_step_once(record, caplog):
    record.note_error(NotConnected("no gateway answers", hint="start it"))
    assert caplog.messages == ["no gateway answers (start it)"]
