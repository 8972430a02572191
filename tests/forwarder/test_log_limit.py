"""Which of very many lines are written."""

from __future__ import annotations

from ktrdr.forwarder.log_limit import LogLimit


def written(limit, kind, count, now_s, **once):
    return sum(limit.writes(kind, now_s, **once) for _ in range(count))


def test_a_few_are_written_one_by_one_and_nothing_is_summed_up():
    limit = LogLimit()
    assert written(limit, "connection", 30, 0.0) == 30
    assert list(limit.summaries(60.0)) == []


def test_of_very_many_the_rest_is_one_line_a_minute():
    limit = LogLimit()
    assert written(limit, "connection", 27_442, 5.0) == 30
    assert list(limit.summaries(64.9)) == []
    assert list(limit.summaries(65.0)) == ["... and 27,412 more connections in the last minute"]
    assert list(limit.summaries(65.5)) == []


def test_a_new_minute_has_lines_of_its_own():
    limit = LogLimit()
    written(limit, "connection", 31, 0.0)
    assert list(limit.summaries(60.0)) == ["... and 1 more connection in the last minute"]
    assert written(limit, "connection", 31, 60.0) == 30


def test_lines_are_counted_by_kind():
    limit = LogLimit()
    written(limit, "connection", 40, 0.0)
    assert written(limit, "refused connection", 33, 30.0) == 30
    assert list(limit.summaries(60.0)) == ["... and 10 more connections in the last minute"]
    assert list(limit.summaries(90.0)) == ["... and 3 more refused connections in the last minute"]


def test_the_same_text_is_written_once_a_minute():
    limit = LogLimit()
    assert written(limit, "refused connection", 5, 0.0, once="from one") == 1
    assert written(limit, "refused connection", 5, 1.0, once="from another") == 1
    assert list(limit.summaries(60.0)) == ["... and 8 more refused connections in the last minute"]
    assert written(limit, "refused connection", 1, 61.0, once="from one") == 1


def test_none_is_left_out_uncounted_when_the_summary_comes_late():
    limit = LogLimit()
    written(limit, "connection", 40, 0.0)
    written(limit, "connection", 5, 75.0)
    assert list(limit.summaries(76.0)) == ["... and 15 more connections in the last minute"]
