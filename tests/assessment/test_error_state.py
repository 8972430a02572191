"""What is held against a series, event after event."""

from pathlib import Path

import pytest

from ktrdr.assessment.error_state import TABLE, ErrorState, Event, State, diagram
from ktrdr.errors import MalformedFile, Misconfigured, NotConnected, UnknownContract

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOW = 1_000_000.0


def test_every_state_has_an_answer_to_every_event():
    assert TABLE.keys() == {(state, event) for state in State for event in Event}


def test_what_fails_is_deferred_for_a_while_that_grows_up_to_half_an_hour():
    error_state, waits = ErrorState(), []
    for _ in range(8):
        error_state = error_state.failed(NotConnected("gone"), NOW)
        waits.append(error_state.retry_at - NOW)
    assert waits == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert error_state.state is State.DEFERRED
    assert not error_state.is_blocked


def test_what_needs_a_person_is_retried_less_and_less_often():
    error_state, waits = ErrorState(), []
    for _ in range(6):
        error_state = error_state.failed(UnknownContract("no such"), NOW)
        waits.append(error_state.retry_at - NOW)
    assert waits == [60, 300, 1800, 7200, 21600, 21600]


def test_what_works_begins_again():
    error_state = ErrorState().failed(NotConnected("gone"), NOW).succeeded()
    assert error_state == ErrorState()
    assert error_state.failed(NotConnected("gone"), NOW).retry_at == NOW + 30


@pytest.mark.parametrize("error", [MalformedFile("line 3"), Misconfigured("exchange")])
def test_what_is_broken_is_blocked_whoever_comes_upon_it(error):
    for error_state in (ErrorState().broken(error), ErrorState().failed(error, NOW)):
        assert (error_state.state, error_state.is_blocked) == (State.BLOCKED, True)
        assert error_state.succeeded().state is State.OK


def test_without_a_file_of_its_own_nothing_but_a_scan_helps():
    error_state = ErrorState().no_file(MalformedFile("it is a link to AAPL_1m.csv"))
    for later in (error_state.succeeded(), error_state.failed(NotConnected("gone"), NOW)):
        assert (later.state, later.is_blocked) == (State.NO_FILE, True)
    assert error_state.has_file().state is State.BLOCKED  # until it was looked at
    assert error_state.has_file().succeeded().state is State.OK


def test_a_scan_changes_nothing_for_what_has_a_file():
    deferred = ErrorState().failed(NotConnected("gone"), NOW)
    assert deferred.has_file() == deferred


def test_what_it_failed_for_is_over():
    error_state = ErrorState().failed(NotConnected("gone"), NOW).retry_now()
    assert (error_state.retry_at, error_state.failures, error_state.state) == (0, 0, State.DEFERRED)


def test_the_diagram_in_the_documentation_is_the_table():
    assert f"```mermaid\n{diagram()}\n```" in (DOCS / "completeness.md").read_text()
