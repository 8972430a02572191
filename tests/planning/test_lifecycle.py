import pytest

from ktrdr.planning.lifecycle import (
    TABLE,
    Action,
    Event,
    ImpossibleEvent,
    Retries,
    State,
    after,
    next_client_id,
)


def test_a_pair_that_is_not_in_the_table_raises():
    with pytest.raises(ImpossibleEvent, match="ANSWERED while waiting"):
        after(State.WAITING, Event.ANSWERED)


def test_an_id_in_use_takes_the_next_at_once():
    assert after(State.CONNECTING, Event.ID_IN_USE) == (
        State.CONNECTING,
        (Action.CLOSE, Action.NEXT_ID),
    )


def test_a_proven_connection_is_tried_again_at_once_and_a_young_one_with_a_delay():
    assert after(State.CONNECTED, Event.LOST)[0] is State.CONNECTING
    assert after(State.CONNECTED, Event.LOST_EARLY)[0] is State.WAITING


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_be_left_for_the_end(state):
    assert after(state, Event.STOP)[0] is State.DISCONNECTED


def test_every_state_can_be_reached_and_left():
    assert {to for to, _ in TABLE.values()} == set(State)
    assert {state for state, _ in TABLE} == set(State)


def test_the_socket_is_closed_on_every_way_out_of_a_connection():
    open_states = {State.CONNECTING, State.CONNECTED, State.UPSTREAM_LOST}
    for (state, event), (to, actions) in TABLE.items():
        if state in open_states and to not in open_states - {State.CONNECTING}:
            assert Action.CLOSE in actions, (state, event)


def test_the_ladder_climbs_and_its_last_step_repeats():
    retries = Retries((5, 10, 30, 60, 120, 300))
    assert [retries.next_s() for _ in range(8)] == [5, 10, 30, 60, 120, 300, 300, 300]
    retries.reset()
    assert retries.next_s() == 5


def test_client_ids_go_up_to_fifty_and_from_the_first_again():
    ids = [48]
    for _ in range(4):
        ids.append(next_client_id(ids[-1], first=3))
    assert ids == [48, 49, 50, 3, 4]
