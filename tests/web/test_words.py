from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ktrdr.web import words


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


def test_a_time_to_come_has_the_words_for_when_it_has_come():
    when = datetime(2026, 11, 20, 14, 29, 30, tzinfo=UTC)
    assert words.due(when, never="not planned") == (
        '<time datetime="2026-11-20T14:29:30+00:00" data-due="due">2026-11-20 14:29:30 UTC</time>'
    )
    assert words.due(None, never="not planned") == "<span>not planned</span>"


def test_a_time_is_shown_in_utc_for_those_without_scripts():
    when = datetime(2026, 11, 20, 9, 29, 30, tzinfo=timezone(timedelta(hours=-5)))

    shown = words.moment(when)

    assert shown == '<time datetime="2026-11-20T09:29:30-05:00">2026-11-20 14:29:30 UTC</time>'


def test_a_time_has_the_zone_in_which_it_can_be_shown():
    when, zone = datetime(2026, 11, 20, 14, 30, tzinfo=UTC), "America/New_York"
    datetime_ = 'datetime="2026-11-20T14:30:00+00:00"'
    in_zone = 'data-zone="America/New_York"'

    assert words.moment(when, zone=zone).startswith(f"<time {datetime_} {in_zone}>2026-11-20 14:30")
    assert (
        words.minute(when, zone)
        == f"<time {datetime_} data-minute {in_zone}>2026-11-20 14:30 UTC</time>"
    )
    assert words.clock(when) == f"<time {datetime_} data-clock>Fri 20 Nov, 14:30 UTC</time>"
    assert '"><b>' not in words.minute(when, '"><b>')


def test_a_time_that_never_was_says_so():
    assert words.moment(None, never="none <yet>") == "<span>none &lt;yet&gt;</span>"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("log in", "log in"),
        ("./scripts/down, ./scripts/up", "[./scripts/down], [./scripts/up]"),
        (
            "see why: .venv/bin/supervisorctl tail x; then .venv/bin/supervisorctl restart x",
            "see why: [.venv/bin/supervisorctl tail x]; then [.venv/bin/supervisorctl restart x]",
        ),
        ("set <it>, then ./scripts/up.", "set &lt;it&gt;, then [./scripts/up]."),
        ("say which:\n[X]\na = 1", 'say which:<code class="copy block">[X]\na = 1]'),
        ("restart it (./scripts/up)", "restart it ([./scripts/up])"),
        (".venv/bin/ktrdr fills shows why", "[.venv/bin/ktrdr fills] shows why"),
        (
            ".venv/bin/ktrdr check 'BRK B' 1d names each, and with --fix fixes them",
            "[.venv/bin/ktrdr check &#39;BRK B&#39; 1d] names each, and with --fix fixes them",
        ),
    ],
)
def test_commands_in_a_next_step_are_marked_to_be_copied(step, expected):
    shown = words.command(step)

    assert shown.replace('<code class="copy">', "[").replace("</code>", "]") == expected


def test_a_daily_bar_starts_on_its_trading_day_in_every_zone():
    when, zone = datetime(2026, 11, 20, tzinfo=UTC), "America/New_York"
    assert words.bar_start(when, "1d", zone) == "2026-11-20"
    assert words.bar_start(when, "1h", zone) == words.minute(when, zone)
    assert words.bar_start(when, "1h") == words.minute(when)
