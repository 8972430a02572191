from ktrdr.planning.pacing import Pacer


def test_requests_go_at_once_while_few_are_open():
    pacer = Pacer(at_once=2)
    for name in "ab":
        assert pacer.delay_s(name, 0) == 0
        pacer.begin(name, 0)
    assert pacer.delay_s("c", 0) is None
    pacer.end("a")
    assert pacer.delay_s("c", 0) == 0


def test_the_same_request_waits_fifteen_seconds():
    pacer = Pacer()
    pacer.begin("a", 100)
    pacer.end("a")
    assert pacer.delay_s("a", 106) == 9
    assert pacer.delay_s("b", 106) == 0
    assert pacer.delay_s("a", 115) == 0


def test_what_was_not_answered_may_be_asked_again_at_once():
    pacer = Pacer()
    pacer.begin("a", 100)
    pacer.end("a", was_answered=False)
    assert pacer.delay_s("a", 101) == 0


def test_it_tells_how_many_are_open():
    pacer = Pacer(at_once=3)
    pacer.begin("a", 0)
    assert pacer.open_requests == 1
    assert repr(pacer) == "Pacer(1 of 3 open)"
