import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ktrdr.filling.tasks import Errands


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_each_comes_back_with_what_was_found(threads):
    errands = Errands(threads, at_once=5)
    for number in range(4):
        errands.send(number, lambda n=number: n * n)
    assert errands.room == 1
    found = {}
    while len(errands):
        found |= {errand: done.result() for errand, done in errands.back(5)}
    assert found == {0: 0, 1: 1, 2: 4, 3: 9}
    assert errands.room == 5
    assert errands.back(0) == []


def test_a_failure_comes_back_as_one(threads):
    errands = Errands(threads, at_once=5)
    errands.send("x", lambda: 1 / 0)
    ((errand, done),) = errands.back(5)
    assert errand == "x"
    with pytest.raises(ZeroDivisionError):
        done.result()


def test_what_has_not_begun_can_be_given_up(threads):
    gate = threading.Event()
    errands = Errands(threads, at_once=9)
    for number in range(5):
        errands.send(number, gate.wait)
    given_up = errands.give_up_waiting()
    assert given_up == [2, 3, 4]
    gate.set()
    back = []
    while len(errands):
        back += [errand for errand, _ in errands.back(5)]
    assert sorted(back) == [0, 1]


def test_it_waits_no_longer_than_it_is_told(threads):
    gate = threading.Event()
    errands = Errands(threads, at_once=9)
    errands.send("slow", gate.wait)
    assert errands.back(0.05) == []
    assert errands.under_way == ["slow"]
    gate.set()
    assert [errand for errand, _ in errands.back(5)] == ["slow"]


def test_those_that_are_not_taken_stay_under_way(threads):
    errands = Errands(threads, at_once=5)
    for number in range(4):
        errands.send(number, lambda n=number: n)
    taken = [errand for _ in range(2) for errand, _ in errands.back(5, most=1)]
    assert (len(taken), len(errands), errands.room) == (2, 2, 3)
    while len(errands):
        taken += [errand for errand, _ in errands.back(5)]
    assert sorted(taken) == [0, 1, 2, 3]
