from __future__ import annotations

import heapq
import random

import pytest

from ktrdr.completeness.throughput import Throughput, span_words
from ktrdr.market.timeframes import Timeframe

M1, D1 = Timeframe.M1, Timeframe.D1


def fill(requests, windows, *, until, processors=None, in_line=False):
    """Play a fill of requests `(timeframe, bars, took_s)`, of which all are sent at once.

    `windows`: how many are served at once, after so many answers; the last one repeats. Each is
    served as if it were alone, or all share so many processors, or one after the other. After a
    share of all bars: what is said to be left then, and what is.
    """
    known, now, waiting = Throughput(), 0.0, list(reversed(requests))
    known.allow(windows[0])
    total, done, said, said_at, answers = sum(bars for _, bars, _ in requests), 0, None, 0.0, 0
    missing: dict[Timeframe, int] = {}
    queue: list[tuple[int, Timeframe, int, float]] = []
    served: list[tuple[float, int, Timeframe, int]] = []
    line_ends = attained = 0.0  # seconds that each has been worked for that was served all the time
    for timeframe, bars, _ in requests:
        missing[timeframe] = missing.get(timeframe, 0) + bars
    while waiting or queue or served:
        while waiting and len(queue) + len(served) < 48:
            timeframe, bars, took_s = waiting.pop()
            queue.append((len(waiting), timeframe, bars, took_s))
            known.sent(len(waiting), timeframe, bars, now)
        at_once = windows[min(answers, len(windows) - 1)]
        while queue and len(served) < at_once:
            number, timeframe, bars, took_s = queue.pop(0)
            line_ends = (max(line_ends, attained) if in_line else attained) + took_s
            heapq.heappush(served, (line_ends, number, timeframe, bars))
        slower = max(1.0, len(served) / processors) if processors else 1.0
        ended, number, timeframe, bars = heapq.heappop(served)
        now += (ended - attained) * slower
        attained = ended
        answers += 1
        missing[timeframe] -= bars
        done += bars
        known.answered(number, windows[min(answers, len(windows) - 1)], now)
        if said is None and done >= until * total:
            said_at, said = now, known.left(missing, {}, now)
    return said, now - said_at


def minutes(total_s, at_once, request_s):
    chance = random.Random(total_s)
    count = int(total_s / request_s * at_once)
    return [(M1, 4000, request_s * chance.uniform(0.7, 1.3)) for _ in range(count)]


@pytest.mark.parametrize("total_s", [60, 300, 1200])
@pytest.mark.parametrize(("at_once", "request_s"), [(48, 5.0), (48, 20.0), (4, 2.0), (1, 1.0)])
def test_after_a_tenth_of_the_work_the_time_left_is_known(total_s, at_once, request_s):
    said, left = fill(minutes(total_s, at_once, request_s), [at_once], until=0.1)
    assert said.low <= left <= said.high
    assert said.likely == pytest.approx(left, rel=0.3)


def test_more_at_once_from_answer_to_answer_is_reckoned_with():
    requests = minutes(300, 48, 10.0)
    said, left = fill(requests, [*range(4, 49)], until=0.05)
    assert said.likely == pytest.approx(left, rel=0.4)


FASTER = [*range(4, 49)]
SLOWLY_FASTER = [4 + answers // 4 for answers in range(177)]


@pytest.mark.parametrize("windows", [[48], FASTER, SLOWLY_FASTER])
@pytest.mark.parametrize("processors", [1, 4, None])
def test_it_is_known_whether_those_that_are_served_share_what_there_is(windows, processors):
    requests = minutes(300, 48, 24.0)
    said, left = fill(requests, windows, until=0.1, processors=processors)
    assert left / 1.5 <= said.likely <= left * 1.5


@pytest.mark.parametrize("total_s", [50, 300])
@pytest.mark.parametrize("windows", [[48], FASTER, SLOWLY_FASTER])
def test_it_is_known_whether_they_are_served_one_after_the_other(windows, total_s):
    said, left = fill(minutes(total_s, 48, 24.0), windows, until=0.1, in_line=True)
    assert left / 1.5 <= said.likely <= left * 1.5


def test_what_is_all_under_way_already_takes_as_long_as_the_slowest():
    said, left = fill([(M1, 1000 * n, 10.0 * n) for n in range(1, 11)], [48], until=0.1)
    assert (said.likely, left) == (pytest.approx(70, rel=0.1), 70)


def test_sizes_that_cost_differently_are_weighed():
    requests = [(D1, 20, 2.0)] * 100 + [(M1, 4000, 6.0)] * 100
    random.Random(1).shuffle(requests)
    said, left = fill(requests, [4], until=0.3)
    assert said.likely == pytest.approx(left, rel=0.2)


def served(known, *, at, timeframe=M1, bars=1000, took_s=1.0):
    """One request after the other, that each take so long."""
    for number in range(5):
        known.sent((at, number), timeframe, bars, at + number * took_s)
        known.answered((at, number), 1, at + (number + 1) * took_s)


def test_nothing_missing_takes_no_time_and_something_unknown_an_unknown_one():
    known = Throughput()
    assert known.left({}, {}, 0).likely == known.left({M1: 0}, {}, 0).likely == 0
    assert known.left({M1: 100}, {}, 0) is None
    served(known, at=0)
    assert known.left({M1: 5000}, {}, 5).likely == pytest.approx(5)


def test_it_follows_when_everything_becomes_slower():
    known = Throughput()
    for at in range(0, 50, 5):
        served(known, at=at)
    for at in range(50, 550, 50):
        served(known, at=at, took_s=10.0)
    assert known.left({M1: 1000}, {}, 550).likely == pytest.approx(10, rel=0.05)


def test_a_pause_is_not_counted():
    known = Throughput()
    served(known, at=0)
    known.idle()
    assert known.left({M1: 5000}, {}, 100) is None
    served(known, at=10_000)
    assert known.left({M1: 5000}, {}, 10_005).likely == pytest.approx(5)


def test_a_request_that_failed_or_was_not_sent_is_forgotten():
    known = Throughput()
    served(known, at=0)
    known.sent("failed", M1, 9000, 5)
    known.ended("failed")
    assert known.left({M1: 1000}, {}, 5).likely == pytest.approx(1)


def test_requests_for_a_few_bars_say_nothing_of_what_a_bar_costs():
    known = Throughput()
    served(known, at=0, bars=5000)
    before = known.left({M1: 100_000}, {}, 5).likely
    for at in range(5, 25, 5):
        served(known, at=at, bars=1)
    assert known.left({M1: 100_000}, {}, 25).likely == pytest.approx(before, rel=0.06)
    assert known.left({M1: 1}, {}, 25).likely == pytest.approx(1)


def test_series_that_nobody_has_assessed_miss_what_others_did():
    known = Throughput()
    served(known, at=0)
    assert known.left({M1: 1000}, {M1: 2}, 5) is None
    known.add_assessed(M1, 4000)
    known.add_assessed(M1, 6000)
    assert known.left({M1: 1000}, {M1: 2}, 5).likely == pytest.approx(11)
    assert known.left({M1: 1000}, {D1: 1}, 5) is None


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
def test_a_length_of_time_is_reported_as_a_person_would(low_s, high_s, words):
    assert span_words(low_s, high_s) == words
