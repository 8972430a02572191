from ktrdr.ib.backoff import Backoff


def test_delays_grow_and_the_last_one_repeats():
    backoff = Backoff((5, 10, 30, 60, 120, 300))
    assert [backoff.next_s() for _ in range(8)] == [5, 10, 30, 60, 120, 300, 300, 300]


def test_after_a_proven_connection_the_first_attempt_is_immediate_and_the_backoff_begins_again():
    backoff = Backoff((5, 10, 30))
    for _ in range(3):
        backoff.next_s()
    backoff.reset()
    assert [backoff.next_s() for _ in range(4)] == [0, 5, 10, 30]


def test_a_connection_that_proves_nothing_leaves_the_backoff_where_it_is():
    backoff = Backoff((5, 10, 30))
    assert [backoff.next_s(), backoff.next_s()] == [5, 10]
    # connected, and lost before anything was proven
    assert backoff.next_s() == 30
