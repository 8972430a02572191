from __future__ import annotations

import heapq
import random

import pytest

from ktrdr.planning.throughput import Throughput, span_words
from ktrdr.planning.timeframes import Timeframe

M1, D1 = Timeframe.M1, Timeframe.D1


def fill(requests, at_once, *, until=1.0):
    """Play a fill: so many requests `(timeframe, bars, took_s)` in flight, the next as one ends.

    After a share of all bars: what is said to be left then, and what is.
    """
    known, now, waiting = Throughput(), 0.0, list(reversed(requests))
    total, done, said_at, said = sum(bars for _, bars, _ in requests), 0, 0.0, None
    under_way: list[tuple[float, int, float, Timeframe, int]] = []
    missing: dict[Timeframe, int] = {}
    for timeframe, bars, _ in requests:
        missing[timeframe] = missing.get(timeframe, 0) + bars
    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            timeframe, bars, took_s = waiting.pop()
            heapq.heappush(under_way, (now + took_s, len(waiting), now, timeframe, bars))
        look = min(now + 0.5, under_way[0][0])
        if under_way[0][0] <= look:
            now, _, sent, timeframe, bars = heapq.heappop(under_way)
            known.answered(timeframe, bars, now - sent)
            missing[timeframe] -= bars
            done += bars
        else:
            now = look
        known.look(now, [(t, bars, now - sent) for _, _, sent, t, bars in under_way])
        if said is None and done >= until * total:
            said_at, said = now, known.left(missing)
    return said, now - said_at


def minutes(total_s, *, at_once, request_s, seed=0):
    chance = random.Random(seed)
    count = int(total_s / request_s * at_once)
    return [(M1, 4000, request_s * chance.uniform(0.7, 1.3)) for _ in range(count)]


@pytest.mark.parametrize("total_s", [60, 300, 1200])
@pytest.mark.parametrize(("at_once", "request_s"), [(48, 5.0), (48, 20.0), (4, 2.0), (1, 1.0)])
def test_after_a_tenth_of_the_work_the_time_left_is_known(total_s, at_once, request_s):
    said, left = fill(minutes(total_s, at_once=at_once, request_s=request_s), at_once, until=0.1)
    assert said is not None
    assert said.likely == pytest.approx(left, rel=0.4)
    assert said.low <= said.likely <= said.high


def test_sizes_that_cost_differently_are_weighed():
    requests = [(D1, 20, 2.0)] * 100 + [(M1, 4000, 2.0)] * 100
    random.Random(1).shuffle(requests)
    said, left = fill(requests, 4, until=0.3)
    assert said.likely == pytest.approx(left, rel=0.3)


def test_nothing_missing_takes_no_time_and_something_unknown_an_unknown_one():
    known = Throughput()
    assert known.left({}).likely == known.left({M1: 0}).likely == 0
    assert known.left({M1: 100}) is None


def test_it_follows_the_last_minute():
    known = Throughput()
    for second in range(300):
        known.look(second, [])
        known.answered(M1, 1000 if second < 200 else 100, took_s=1)
    assert known.left({M1: 1000}).likely == pytest.approx(10, rel=0.2)


def test_a_pause_is_not_counted():
    known = Throughput()
    for begin in (0, 10_000):
        for second in range(30):
            known.look(begin + second, [])
            known.answered(M1, 1000, took_s=1)
        if not begin:
            known.idle()
            assert known.left({M1: 5000}) is None
    assert known.left({M1: 5000}).likely == pytest.approx(5, rel=0.1)


def test_series_that_nobody_has_looked_at_lack_what_others_did():
    known = Throughput()
    for second in range(30):
        known.look(second, [])
        known.answered(M1, 1000, took_s=1)
    assert known.left({M1: 1000}, {M1: 2}) is None
    known.found(M1, 4000)
    known.found(M1, 6000)
    assert known.left({M1: 1000}, {M1: 2}).likely == pytest.approx(11, rel=0.1)
    assert known.left({M1: 1000}, {D1: 1}) is None


@pytest.mark.parametrize(
    ("low_s", "high_s", "words"),
    [
        (1, 3, "a few seconds"),
        (8, 12, "about 10 s"),
        (22, 41, "about 20 to 40 s"),
        (70, 89, "about 70 to 90 s"),
        (110, 190, "about 2 to 3 min"),
        (125, 130, "about 2 min"),
        (50 * 60, 85 * 60, "about 50 to 85 min"),
        (3 * 3600, 5 * 3600, "about 3 to 5 h"),
        (2 * 86400, 3 * 86400, "about 2 to 3 d"),
    ],
)
def test_a_span_is_told_as_a_person_would(low_s, high_s, words):
    assert span_words(low_s, high_s) == words
