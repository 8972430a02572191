import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ktrdr.filling.in_flight import InFlight


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def all_of(requests):
    while (finished := requests.next_finished(5)) is not None:
        yield finished


def test_each_comes_back_with_what_was_found(threads):
    requests = InFlight(threads, at_once=5)
    for number in range(4):
        requests.send(number, lambda n=number: n * n)
    assert requests.room == 1
    found = {task: done.result() for task, done in all_of(requests)}
    assert found == {0: 0, 1: 1, 2: 4, 3: 9}
    assert requests.room == 5
    assert requests.next_finished(0) is None


def test_a_failure_comes_back_as_one(threads):
    requests = InFlight(threads, at_once=5)
    requests.send("x", lambda: 1 / 0)
    ((task, done),) = all_of(requests)
    assert task == "x"
    with pytest.raises(ZeroDivisionError):
        done.result()


def test_what_has_not_begun_can_be_given_up(threads):
    gate = threading.Event()
    requests = InFlight(threads, at_once=9)
    for number in range(5):
        requests.send(number, gate.wait)
    given_up = requests.give_up_waiting()
    assert given_up == [2, 3, 4]
    gate.set()
    assert sorted(task for task, _ in all_of(requests)) == [0, 1]


def test_it_waits_no_longer_than_it_should(threads):
    gate = threading.Event()
    requests = InFlight(threads, at_once=9)
    requests.send("slow", gate.wait)
    assert requests.next_finished(0.05) is None
    assert requests.tasks == ["slow"]
    gate.set()
    assert [task for task, _ in all_of(requests)] == ["slow"]


def test_those_that_are_not_taken_stay_under_way(threads):
    requests = InFlight(threads, at_once=5)
    for number in range(4):
        requests.send(number, lambda n=number: n)
    taken = [task for task, _ in (requests.next_finished(5), requests.next_finished(5))]
    assert (len(taken), len(requests), requests.room) == (2, 2, 3)
    taken += [task for task, _ in all_of(requests)]
    assert sorted(taken) == [0, 1, 2, 3]
