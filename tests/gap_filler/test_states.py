"""What the gap filler is doing, event after event."""

from pathlib import Path

import pytest

from ktrdr.gap_filler.states import TABLE, Event, Phase, State, diagram

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_state_has_an_answer_to_every_event():
    assert TABLE.keys() == {(state, event) for state in State for event in Event}


def test_a_store_that_is_refused_stays_so_until_its_entries_can_be_read():
    phase = Phase()
    phase.take(Event.REFUSE, "line 3 is broken", "correct it")
    phase.take(Event.SCAN)
    assert (phase.state, phase.reason) == (State.REFUSED, "line 3 is broken")
    phase.take(Event.READ)
    assert (phase.state, phase.reason, phase.hint) == (State.SCANNING, "", "")


@pytest.mark.parametrize("state", [State.WAITING, State.REFUSED])
def test_it_says_why_it_is_held_as_long_as_it_is(state):
    phase = Phase()
    phase.take(Event.HOLD if state is State.WAITING else Event.REFUSE, "why", "what to do")
    phase.take(Event.READ) if state is State.WAITING else phase.take(Event.SCAN)
    assert (phase.state, phase.reason, phase.hint) == (state, "why", "what to do")
    phase.take(Event.FILL)
    assert (phase.state, phase.reason, phase.hint) == (State.FILLING, "", "")


def test_another_reason_takes_the_place_of_the_first():
    phase = Phase()
    phase.take(Event.HOLD, "no connection")
    phase.take(Event.HOLD, "the disk is full")
    assert phase.reason == "the disk is full"


def test_a_reason_is_logged_once(caplog):
    phase = Phase()
    with caplog.at_level("INFO", logger="gap-filler"):
        for _ in range(3):
            phase.take(Event.HOLD, "no connection")
    assert [record.getMessage() for record in caplog.records] == ["waiting: no connection"]


def test_the_diagram_in_the_documentation_is_the_table():
    assert f"```mermaid\n{diagram()}\n```" in (DOCS / "completeness.md").read_text()
