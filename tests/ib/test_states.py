from pathlib import Path

import pytest

from ktrdr.ib.states import (
    LINKED,
    RETRYING,
    TABLE,
    Action,
    Event,
    ImpossibleEvent,
    State,
    after,
    diagram,
    if_all_else_fails,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_a_pair_that_is_not_in_the_table_raises():
    with pytest.raises(ImpossibleEvent, match="ANSWERED while waiting"):
        after(State.WAITING, Event.ANSWERED)


def test_an_id_in_use_takes_the_next_at_once():
    assert after(State.CONNECTING, Event.ID_IN_USE) == (
        State.CONNECTING,
        (Action.CLOSE, Action.NEXT_ID),
    )


@pytest.mark.parametrize("state", LINKED)
def test_every_end_of_a_connection_closes_its_socket(state):
    for event in (Event.LOST, Event.SILENT):
        assert after(state, event)[1] == (Action.CLOSE, Action.PLAN_RETRY)
    for event in (Event.RECONNECT, Event.STOP):
        assert after(state, event)[1] == (Action.CLOSE,)


@pytest.mark.parametrize("state", LINKED)
def test_no_notice_costs_the_connection(state):
    for event in (Event.FARM_BROKEN, Event.FARM_BACK, Event.UPSTREAM_LOST):
        to, actions = after(state, event)
        assert to in LINKED
        assert actions == ()
    to, actions = after(state, Event.UPSTREAM_BACK)
    assert to in LINKED
    assert actions == (Action.REPEAT_REQUESTS, Action.RECHECK_FARMS)


@pytest.mark.parametrize(("state", "event"), TABLE)
def test_a_retry_is_planned_once_for_each_wait(state, event):
    """Where a wait begins, and not again when it goes on as another one."""
    to, actions = after(state, event)
    begins = to in RETRYING and state not in RETRYING
    assert (Action.PLAN_RETRY in actions) == begins


@pytest.mark.parametrize("state", LINKED)
def test_what_was_under_way_in_a_trouble_goes_again_and_broken_farms_are_not_forgotten(state):
    for event in (Event.UPSTREAM_BACK, Event.SESSION_BACK):
        assert after(state, event)[1] == (Action.REPEAT_REQUESTS, Action.RECHECK_FARMS)
    assert after(state, Event.HISTORY_BACK)[1] == (Action.RECHECK_FARMS,)


def test_what_is_worse_is_what_is_said():
    worst_last = [Event.FARM_BROKEN, Event.SESSION_TAKEN, Event.UPSTREAM_LOST]
    state = State.CONNECTED
    for event in worst_last:
        state, _ = after(state, event)
    assert state is State.UPSTREAM_LOST
    for event in worst_last:
        assert after(state, event)[0] is State.UPSTREAM_LOST


def test_a_silent_gateway_is_dead_and_one_that_hangs_up_is_waited_for():
    assert after(State.CONNECTED, Event.SILENT)[0] is State.DEAD
    assert after(State.CONNECTING, Event.UNRESPONSIVE)[0] is State.DEAD
    assert after(State.CONNECTED, Event.LOST)[0] is State.WAITING
    assert after(State.CONNECTING, Event.FAILED)[0] is State.WAITING


@pytest.mark.parametrize("state", RETRYING)
def test_every_wait_ends_when_it_is_over_or_somebody_wishes_so(state):
    assert after(state, Event.RETRY_DUE)[0] is State.CONNECTING
    assert after(state, Event.RECONNECT)[0] is State.CONNECTING


@pytest.mark.parametrize("state", RETRYING)
def test_a_port_that_opens_or_greets_ends_a_wait(state):
    assert after(state, Event.PORT_OPENED)[0] is State.CONNECTING


def test_a_stuck_gateway_that_closes_its_port_is_being_restarted():
    assert after(State.DEAD, Event.PORT_CLOSED)[0] is State.WAITING


@pytest.mark.parametrize("state", LINKED)
def test_a_connection_has_an_answer_to_all_that_its_watchers_and_notices_say(state):
    """They may come late, when the state is another one."""
    for event in Event:
        if event.name.startswith(("UPSTREAM", "FARM", "HISTORY", "SESSION", "LOST", "SILENT")):
            assert after(state, event)[0] in State


@pytest.mark.parametrize("state", [State.CONNECTING, *RETRYING, *LINKED])
def test_where_something_is_waited_for_an_unexpected_error_is_an_event_that_can_be(state):
    to, _ = after(state, if_all_else_fails(state))
    assert to in (State.CONNECTING, State.WAITING)


@pytest.mark.parametrize("state", [s for s in State if s is not State.STOPPING])
def test_every_state_can_be_left_for_the_end(state):
    stopping, actions = after(state, Event.STOP)
    assert (stopping, actions) == (State.STOPPING, (Action.CLOSE,))
    assert after(stopping, Event.STOPPED) == (State.DISCONNECTED, ())


def test_every_state_can_be_reached_and_left():
    assert {to for to, _ in TABLE.values()} == set(State)
    assert {state for state, _ in TABLE} == set(State)


def test_every_event_means_something_somewhere():
    assert {event for _, event in TABLE} == set(Event)


def test_the_diagram_in_the_documentation_is_the_table():
    assert f"```mermaid\n{diagram()}\n```" in (DOCS / "connection.md").read_text()
