"""What is held against a series, event after event."""

from pathlib import Path

import pytest

from ktrdr.assessment.standing import TABLE, Event, Standing, State, diagram
from ktrdr.errors import MalformedFile, Misconfigured, NotConnected, UnknownContract

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOW = 1_000_000.0


def test_every_state_has_an_answer_to_every_event():
    assert TABLE.keys() == {(state, event) for state in State for event in Event}


def test_what_fails_is_put_back_for_a_while_that_grows_up_to_half_an_hour():
    standing, waits = Standing(), []
    for _ in range(8):
        standing = standing.failed(NotConnected("gone"), NOW)
        waits.append(standing.retry_at - NOW)
    assert waits == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert standing.state is State.PUT_BACK
    assert not standing.is_blocked


def test_what_needs_a_person_is_asked_for_more_and_more_rarely():
    standing, waits = Standing(), []
    for _ in range(6):
        standing = standing.failed(UnknownContract("no such"), NOW)
        waits.append(standing.retry_at - NOW)
    assert waits == [60, 300, 1800, 7200, 21600, 21600]


def test_what_works_begins_again():
    standing = Standing().failed(NotConnected("gone"), NOW).succeeded()
    assert standing == Standing()
    assert standing.failed(NotConnected("gone"), NOW).retry_at == NOW + 30


@pytest.mark.parametrize("error", [MalformedFile("line 3"), Misconfigured("exchange")])
def test_what_is_broken_is_blocked_whoever_comes_upon_it(error):
    for standing in (Standing().broken(error), Standing().failed(error, NOW)):
        assert (standing.state, standing.is_blocked) == (State.BLOCKED, True)
        assert standing.succeeded().state is State.FINE


def test_without_a_file_of_its_own_nothing_but_a_scan_helps():
    standing = Standing().no_file(MalformedFile("it is a link to AAPL_1m.csv"))
    for later in (standing.succeeded(), standing.failed(NotConnected("gone"), NOW)):
        assert (later.state, later.is_blocked) == (State.BARRED, True)
    assert standing.has_file().state is State.BLOCKED  # until it was looked at
    assert standing.has_file().succeeded().state is State.FINE


def test_a_scan_changes_nothing_for_what_has_a_file():
    put_back = Standing().failed(NotConnected("gone"), NOW)
    assert put_back.has_file() == put_back


def test_what_it_failed_for_is_over():
    standing = Standing().failed(NotConnected("gone"), NOW).freed()
    assert (standing.retry_at, standing.failures, standing.state) == (0, 0, State.PUT_BACK)


def test_the_diagram_in_the_documentation_is_the_table():
    assert f"```mermaid\n{diagram()}\n```" in (DOCS / "completeness.md").read_text()
