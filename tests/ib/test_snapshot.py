from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.ib.expected_outages import Expectation
from ktrdr.ib.snapshot import Snapshot
from ktrdr.ib.states import State
from ktrdr.ib.status_record import StatusRecord

NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
"""A Sunday, half an hour after the log-in has ended at 01:00 in New York."""
AT = 1000.0


@pytest.fixture
def snapshot(make_settings) -> Snapshot:
    record = StatusRecord(make_settings(), lambda: NOW)
    return replace(record.snapshot, state=State.CONNECTED, fresh_until=AT)


def test_it_is_connected_until_answers_are_too_old(snapshot):
    assert snapshot.is_connected(AT)
    assert not snapshot.is_connected(AT + 0.1)
    assert not snapshot.status(NOW, AT + 0.1).connected


@pytest.mark.parametrize("state", [s for s in State if not s.has_data])
def test_without_data_it_is_not_connected_however_fresh(snapshot, state):
    assert not replace(snapshot, state=state).is_connected(0)


def test_an_absence_is_told_only_while_the_gateway_is_away(snapshot):
    lost_at = NOW - timedelta(minutes=29)
    known = replace(snapshot, expectation=Expectation(None, logs_out=True, lost_at=lost_at))
    assert known.status(NOW, AT).expected_kind == ""
    away = replace(known, state=State.LOGGED_OUT).status(NOW, AT)
    assert (away.expected_kind, away.state) == ("log_out", "logged_out")


def test_the_clocks_differ_by_what_they_did_when_the_time_was_told(snapshot):
    received = replace(snapshot, gateway_time=(NOW + timedelta(seconds=5), AT))
    assert received.status(NOW, AT).clock_offset_s == 5
    later = NOW + timedelta(seconds=60)
    assert received.status(later, AT + 60).clock_offset_s == 5
    set_back = later - timedelta(seconds=30)  # this machine's clock, meanwhile
    assert received.status(set_back, AT + 60).clock_offset_s == 35


def test_without_a_running_loop_no_clock_is_compared(snapshot):
    received = replace(snapshot, gateway_time=(NOW, AT))
    assert received.status(NOW, float("inf")).clock_offset_s is None
