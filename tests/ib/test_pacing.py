from ktrdr.ib.pacing import MessageRate, Pacer, QueuedRequest, Window
from ktrdr.market.bars_request import Priority


def queued(request, symbol="AAPL", priority=Priority.RECENT, number=0, **more):
    return QueuedRequest(request, priority, symbol, number, **more)


def pacer(at_once=8):
    return Pacer(Window(first=at_once, most=at_once))


def go(pacer, *tickets, now=0.0):
    """The requests in the order in which they may go, as long as one may."""
    waiting, gone = list(tickets), []
    while True:
        chosen, _ = pacer.next(waiting, now)
        if chosen is None:
            return gone
        pacer.begin(chosen, now)
        waiting.remove(chosen)
        gone.append(chosen.request)


def test_requests_go_at_once_while_few_are_open():
    paced = pacer(at_once=2)
    a, b, c = (queued(name, number=i) for i, name in enumerate("abc"))
    assert go(paced, a, b, c) == ["a", "b"]
    assert paced.next([c], 0) == (None, None)
    paced.end(a)
    assert go(paced, c) == ["c"]


def test_the_same_request_waits_fifteen_seconds():
    paced = pacer()
    a, b = queued("a"), queued("b")
    paced.begin(a, 100)
    paced.end(a)
    assert paced.next([a], 106) == (None, 9)
    assert paced.next([b], 106) == (b, 0)
    assert paced.next([a], 115) == (a, 0)


def test_what_was_not_answered_may_be_asked_again_at_once():
    paced = pacer()
    a = queued("a")
    paced.begin(a, 100)
    paced.end(a, was_answered=False)
    assert paced.next([a], 101) == (a, 0)


def test_who_sits_before_the_screen_goes_first_and_history_last():
    waiting = [
        queued(priority.name, number=i, priority=priority)
        for i, priority in enumerate(reversed(Priority))
    ]
    assert go(pacer(), *waiting) == ["INTERACTIVE", "TAIL", "RECENT", "BACKFILL"]


def test_a_symbol_with_many_requests_does_not_hold_up_the_others():
    many = [queued(f"A{i}", "A", number=i) for i in range(6)]
    few = [queued("B0", "B", number=6), queued("C0", "C", number=7)]
    assert go(pacer(at_once=4), *many, *few) == ["A0", "B0", "C0", "A1"]


def test_head_timestamps_keep_to_their_own_rule():
    paced = pacer(at_once=100)
    small = [queued(i, number=i, is_small=True) for i in range(70)]
    assert len(go(paced, *small)) == 55
    left = small[55:]
    assert paced.next(left, 100) == (None, 500)
    large = queued("bars")
    assert paced.next([*left, large], 100) == (large, 0)
    assert len(go(paced, *left, now=601)) == 15


def test_after_a_pacing_violation_nothing_goes_for_a_while():
    paced = pacer()
    paced.learn_failure(99, 100, was_paced=True)
    a = queued("a")
    assert paced.next([a], 103) == (None, 7)
    assert paced.next([a], 110) == (a, 0)


def test_it_tells_how_many_are_open():
    paced = pacer(at_once=3)
    paced.begin(queued("a"), 0)
    assert paced.open_requests == 1
    assert repr(paced) == "Pacer(1 of 3 open)"


def test_the_same_request_twice_is_two_open_ones():
    paced = Pacer(Window(3, 3), identical_s=0)
    a, again = queued("a"), queued("a", number=1)
    paced.begin(a, 0)
    paced.begin(again, 1)
    assert paced.open_requests == 2
    paced.end(a)
    paced.end(again)
    assert paced.open_requests == 0


def test_the_window_grows_while_answers_are_quick():
    window = Window(first=8, most=48)
    for second in range(100):
        window.answered(1.0, 400, second)
    assert window.size == 48


def test_it_shrinks_when_answers_become_slow_and_grows_again():
    window = Window(first=8, most=48)
    for second in range(60):
        window.answered(1.0, 400, second)
    for second in range(60, 300):
        window.answered(30.0, 400, second)
    slow = window.size
    assert slow < 24
    for second in range(300, 420):
        window.answered(1.0, 400, second)
    assert window.size == 48


def test_many_bars_may_take_longer_than_few():
    window = Window(first=8, most=48)
    for second in range(100):
        window.answered(*((0.6, 5) if second % 2 else (19.0, 10_000)), second)
    assert window.size == 48


def test_what_is_always_slow_is_usual_in_the_end():
    window = Window(first=8, most=48)
    for second in range(50):
        window.answered(1.0, 400, second)
    for second in range(50, 600):
        window.answered(14.0, 400, second)
    assert window.size == 48


def test_answers_that_ib_slows_down_as_they_grow_many_do_not_shrink_it():
    window = Window(first=32, most=48)
    for second in range(300):
        window.answered(min(0.15 + 0.014 * second, 5.0), 400, second)
    assert window.size == 48


def test_a_time_out_halves_it_once_for_all_that_were_under_way():
    window = Window(first=40, most=48)
    for number in range(10):
        window.failed(70 + number, 100 + number)
    assert window.size == 20
    for second in range(200, 230):
        window.failed(second * 10 - 5, second * 10)
    assert window.size == 1


def test_answers_too_quick_to_matter_never_shrink_it():
    window = Window(first=8, most=48)
    for second in range(100):
        window.answered(0.01 if second % 2 else 4.9, 400, second)
    assert window.size == 48


def sent(rate, times):
    """When messages go out that are wanted at these times."""
    return [at + rate.delay_s(at) for at in times]


def test_no_second_has_more_messages_than_ib_allows_however_many_are_wanted():
    times = sent(MessageRate(), [0.0] * 200)
    most = max(sum(1 for at in times if since <= at < since + 1) for since in times)
    assert most <= 45
    assert times[199] < 5  # none waits longer than it must


def test_a_burst_that_is_late_on_its_way_leaves_room_for_the_next_one():
    """What was sent within 1.1 s may come within one."""
    times = sent(MessageRate(), [0.0] * 200)
    assert max(sum(1 for at in times if since <= at < since + 1.1) for since in times) < 50


def test_few_messages_wait_for_nothing():
    assert sent(MessageRate(), [0.0] * 3 + [10.0]) == [0.0] * 3 + [10.0]


def test_after_a_pacing_violation_one_request_tries_and_the_pauses_grow_until_bars_come():
    paced = pacer()
    a, b = queued("a"), queued("b", number=1)
    at, pauses = 0.0, []
    for _ in range(5):
        paced.learn_failure(at - 0.2, at, was_paced=True)
        paced.learn_failure(at - 0.1, at + 0.1, was_paced=True)  # it was under way too
        _, pause_s = paced.next([a, b], at)
        at += pause_s
        pauses.append(pause_s)
    assert pauses == [10, 20, 30, 30, 30]
    assert go(paced, a, b, now=at) == ["a"]
    paced.end(a)
    paced.learn(0.3, 60, at)
    assert paced.at_once == 1, "it was sent before the violation"
    at += 1
    paced.learn(0.3, 60, at)
    assert paced.at_once > 1
    paced.learn_failure(at - 0.2, at, was_paced=True)
    assert paced.next([queued("d")], at) == (None, 10)
