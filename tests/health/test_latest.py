from __future__ import annotations

import threading

import pytest

from ktrdr.health.latest import Latest
from tests.conftest import wait_for


def test_it_fetches_again_only_when_the_value_is_old():
    now, answers = [0.0], iter("ab")
    latest = Latest(lambda: next(answers), 1.0, clock=lambda: now[0])

    first, again = latest.get(), latest.get()
    now[0] = 1.0

    assert (first, again, latest.get()) == ("a", "a", "b")


def test_one_fetches_and_the_others_wait_for_its_value():
    requested, release = [], threading.Event()

    def ask():
        requested.append(1)
        release.wait(10)
        return len(requested)

    latest, got = Latest(ask, 60.0), []
    threads = [threading.Thread(target=lambda: got.append(latest.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()

    assert got == [1] * 8


def test_a_failure_is_not_kept():
    answers = iter([ValueError("no"), "yes"])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    latest = Latest(ask, 60.0)

    with pytest.raises(ValueError, match="no"):
        latest.get()
    assert latest.get() == "yes"


@pytest.mark.parametrize(("age_s", "got"), [(1.0, ["old"]), (3.9, ["old"]), (4.0, []), (9.0, [])])
def test_who_comes_while_a_value_is_fetched_has_the_one_before_if_it_is_not_too_old(age_s, got):
    now, fetching, release = [0.0], threading.Event(), threading.Event()
    answers = iter(["old", "new"])

    def ask():
        answer = next(answers)
        if answer == "new":
            fetching.set()
            release.wait(10)
        return answer

    latest, found, others = Latest(ask, 1.0, clock=lambda: now[0]), [], []
    latest.get()
    now[0] = age_s
    first = threading.Thread(target=lambda: found.append(latest.get()))
    other = threading.Thread(target=lambda: others.append(latest.get()))
    first.start()
    assert fetching.wait(10)
    other.start()
    other.join(10 if got else 0.2)
    assert others == got
    release.set()
    first.join()
    other.join()
    assert (found, others) == (["new"], got or ["new"])


def test_a_value_that_is_soon_too_old_is_renewed_beside_and_nobody_waits():
    now, answers = [0.0], iter(["old", "new"])
    fetching, release = threading.Event(), threading.Event()

    def ask():
        answer = next(answers)
        if answer == "new":
            fetching.set()
            assert release.wait(10)
        return answer

    latest = Latest(ask, 1.0, clock=lambda: now[0], ahead_s=0.25)
    assert latest.get() == "old"
    now[0] = 0.7
    assert (latest.get(), fetching.is_set()) == ("old", False)
    now[0] = 0.75
    assert latest.get() == "old"
    assert fetching.wait(10)
    now[0] = 1.1
    assert latest.get() == "old"
    release.set()
    wait_for(lambda: latest.get() == "new")


def test_an_error_beside_is_for_who_comes_when_the_value_is_too_old():
    now, asked = [0.0], []
    answers = iter(["old", ValueError("beside"), ValueError("no"), "new"])

    def ask():
        answer = next(answers)
        asked.append(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    latest = Latest(ask, 1.0, clock=lambda: now[0], ahead_s=0.25)
    latest.get()
    now[0] = 0.9
    assert latest.get() == "old"
    wait_for(lambda: len(asked) == 2)
    now[0] = 9.0
    with pytest.raises(ValueError, match="no"):
        latest.get()
    assert latest.get() == "new"
