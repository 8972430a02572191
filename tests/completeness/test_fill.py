import numpy as np
import pytest

from ktrdr.completeness.coverage import compute_coverage
from ktrdr.completeness.fill import (
    TABLE,
    Counts,
    Event,
    FillFacts,
    Progress,
    State,
    Trouble,
    event_of,
    first_day,
    progress,
)
from ktrdr.completeness.gaps import Reason
from ktrdr.errors import InvalidRequest, MalformedFile, RequestFailed, UnknownContract
from ktrdr.market.sessions import Expected

DAY = 86400
NOW = 20 * DAY
NOON = DAY // 2
HALF = Progress(Counts(9, 5, {"open": 4}), is_fillable=True, is_unproven=False)
UNPROVEN = Progress(Counts(9, 8, {"unproven": 1}), is_fillable=False, is_unproven=True)
HELD = Progress(
    Counts(9, 8, {"incomplete_row": 1}), is_fillable=False, is_unproven=False, is_held=True
)
WHOLE = Progress(Counts(9, 7, {"no_trades": 2}), is_fillable=False, is_unproven=False)


def array(*values):
    return np.array(values, np.int64)


def coverage(*, present=(), absent=(), late=(), incomplete=(), since=0, days=4):
    """A bar at noon of each day."""
    midnights = array(*range(since, since + days * DAY, DAY))
    return compute_coverage(
        Expected(midnights + NOON, midnights),
        array(*present) + NOON,
        array(*absent) + NOON,
        array(*late) + NOON,
        since,
        (since, since + days * DAY),
        incomplete=array(*incomplete) + NOON,
    )


def seen(found=HALF, **given):
    chosen = {
        "is_there": True,
        "is_assessed": True,
        "is_requested": False,
        "error": None,
        "retry_at": 0.0,
        "hold": None,
    }
    return FillFacts(found, **(chosen | given))


def after(found):
    return event_of(found)[0]


# Where it stands.


def test_each_state_has_an_answer_to_every_event():
    assert TABLE.keys() == {(state, event) for state in State for event in Event}


def test_what_is_done_stays_done_until_it_is_cancelled():
    assert {TABLE[State.DONE, event] for event in Event} == {State.DONE, State.CANCELLED}
    assert TABLE[State.DONE, Event.CANCELLED] is State.CANCELLED


def test_what_is_cancelled_stays_so():
    assert {TABLE[State.CANCELLED, event] for event in Event} == {State.CANCELLED}


def test_what_is_open_goes_to_and_fro_between_all_states_that_are_open():
    for state in (state for state in State if state.is_open and state is not State.PAUSED):
        assert {TABLE[state, event] for event in Event} == set(State)
        assert TABLE[state, Event.PAUSED] is State.PAUSED
        assert TABLE[state, Event.RESUMED] is state


def test_what_is_paused_stays_so_until_it_is_resumed_or_cancelled():
    assert State.PAUSED.is_open
    changes = {event: TABLE[State.PAUSED, event] for event in Event}
    assert changes.pop(Event.RESUMED) is State.QUEUED
    assert changes.pop(Event.CANCELLED) is State.CANCELLED
    assert set(changes.values()) == {State.PAUSED}


# What is in the way.


def test_its_turn_comes():
    assert event_of(seen()) == (Event.QUEUED, Trouble(""))


def test_it_is_filled_while_its_bars_are_requested():
    assert after(seen(is_requested=True)) is Event.TAKEN_UP


def test_it_waits_for_the_connection_and_says_so():
    hold = Trouble("no data from IB: Connection refused", "start the gateway")
    assert event_of(seen(hold=hold)) == (Event.HELD_UP, hold)


def test_an_error_that_passes_says_when_it_is_tried_again():
    error = RequestFailed("IB's 162", hint="nothing to do")
    event, trouble = event_of(seen(error=error, retry_at=NOW + 3661))
    assert event is Event.HELD_UP
    assert trouble == Trouble("IB's 162; tried again at 01:01:01 UTC", "nothing to do")


def test_a_contract_that_does_not_exist_needs_a_person_whether_connected_or_not():
    error = UnknownContract("no XYZQ", hint="see its name")
    for hold in (None, Trouble("no connection")):
        assert event_of(seen(None, error=error, hold=hold)) == (
            Event.REFUSED,
            Trouble("no XYZQ", "see its name"),
        )


def test_a_file_that_was_removed_needs_a_person():
    event, trouble = event_of(seen(WHOLE, is_there=False))
    assert event is Event.REFUSED
    assert "not in the store" in trouble.why
    assert trouble.hint


def test_what_is_unproven_is_neither_done_nor_fillable():
    event, trouble = event_of(seen(UNPROVEN))
    assert event is Event.UNPROVEN
    assert trouble.why


def test_it_is_done_when_nothing_is_fillable_any_more():
    assert after(seen(WHOLE)) is Event.COMPLETED


@pytest.mark.parametrize("found", [WHOLE, UNPROVEN])
def test_what_was_assessed_before_it_was_requested_proves_nothing(found):
    assert after(seen(found, is_assessed=False)) is Event.QUEUED


# What is counted.


def test_bars_are_counted_from_its_first_day_on():
    found = progress(coverage(present=(0, 2 * DAY), absent=(3 * DAY,)), DAY, NOW)
    assert found.counts == Counts(3, 1, {"open": 1, "no_trades": 1})
    assert (found.is_fillable, found.is_unproven) == (True, False)


def test_a_hole_before_its_first_day_is_another_ones():
    found = progress(coverage(present=(2 * DAY, 3 * DAY)), 2 * DAY, NOW)
    assert found.is_complete


def test_a_hole_that_reaches_into_its_days_is_its_own():
    assert progress(coverage(present=(3 * DAY,)), 2 * DAY, NOW).is_fillable


def test_bars_that_are_due_later_than_it_was_requested_are_not_awaited():
    last_is_missing = coverage(present=(0, DAY, 2 * DAY))
    assert not progress(last_is_missing, 0, 3 * DAY + NOON + 1).is_complete
    assert progress(last_is_missing, 0, 3 * DAY).is_complete


def test_what_ib_may_have_later_is_unproven():
    found = progress(coverage(present=(0, DAY, 2 * DAY), late=(3 * DAY,)), 0, NOW)
    assert (found.is_fillable, found.is_unproven) == (False, True)


def test_bars_that_are_refused_are_missing_for_that_reason():
    found = progress(coverage(present=(0,)).refused(Reason.NOT_ENTITLED), 0, NOW)
    assert found.counts.missing == {"not_entitled": 3}
    assert found.is_fillable


def test_nothing_is_known_while_its_days_are_not():
    assert progress(None, 0, NOW) is None
    assert progress(coverage(since=2 * DAY), DAY, NOW) is None


# Which days there are.


@pytest.mark.parametrize(("since", "day"), [(0, 0), (DAY + 5, DAY), (NOW, NOW)])
def test_it_begins_at_the_midnight_of_its_first_day(since, day):
    assert first_day("", since, NOW + 7) == day


@pytest.mark.parametrize("since", [-1, NOW + 8, 2**40])
def test_days_before_1970_or_to_come_are_refused_as_they_were_written(since):
    with pytest.raises(
        InvalidRequest, match=r"from=2030-01-01: .* to today, 1970-01-21"
    ) as refused:
        first_day("2030-01-01", since, NOW + 7)
    assert refused.value.hint


def test_a_fill_that_only_lacks_bars_whose_rows_lack_a_value_needs_a_person():
    rows = MalformedFile("line 3 lacks a value", hint="remove it")
    found = seen(HELD, incomplete=rows)
    assert event_of(found) == (Event.REFUSED, Trouble("line 3 lacks a value", "remove it"))
    assert after(seen(HALF, incomplete=rows)) is Event.QUEUED
    assert after(seen(WHOLE, incomplete=rows)) is Event.COMPLETED


def test_bars_whose_rows_lack_a_value_are_counted_as_that_and_not_as_to_be_requested():
    found = coverage(present=[0], incomplete=[DAY, 2 * DAY])
    assert found.bars == {Reason.INCOMPLETE_ROW: 2, Reason.OPEN: 1}
    assert [gap.first for gap in found.open_gaps] == [3 * DAY + NOON]
    assert not found.is_complete
    part = progress(found, 2 * DAY, NOW)
    assert part.counts.missing == {"incomplete_row": 1, "open": 1}
    assert (part.is_fillable, part.is_held) == (True, True)
    assert progress(found, 3 * DAY, NOW).is_held is False
