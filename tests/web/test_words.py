from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ktrdr.web import words

NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


def plain(text: str) -> str:
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3605, "1 h"),
        (11520, "3 h 12 min"),
        (200000, "2 d 7 h"),
        (-5, "0 s"),
        (None, "–"),
    ],
)
def test_a_duration_is_its_two_largest_units(seconds, expected):
    assert plain(words.duration(seconds)) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (999, "999"), (12345, "12 345"), (1234567, "1 234 567"), (None, "–")],
)
def test_numbers_have_thin_spaces(number, expected):
    assert plain(words.count(number)) == expected


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(390, 390, "100 %"), (389, 390, "99.7 %"), (999999, 1000000, "99.9 %"), (0, 390, "0.0 %")],
)
def test_only_what_is_whole_is_100_percent(part, whole, expected):
    assert plain(words.percent(part, whole)) == expected


def test_nothing_of_nothing_is_no_percentage():
    assert words.percent(0, 0) == "–"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-12, "12 s ago"), (0.2, "now"), (200, "in 3 min 20 s")]
)
def test_a_time_is_shown_by_its_distance(seconds, expected):
    assert plain(words.relative(NOW + timedelta(seconds=seconds), NOW)) == expected


def test_a_time_shows_its_date_in_utc_when_pointed_at():
    when = datetime(2026, 11, 20, 9, 29, 30, tzinfo=timezone(timedelta(hours=-5)))

    assert 'title="2026-11-20 14:29:30 UTC"' in words.moment(when, NOW)
    assert "30" in words.moment(when, NOW)


def test_a_time_that_never_was_says_so():
    assert words.moment(None, NOW, never="none <yet>") == "<span>none &lt;yet&gt;</span>"
