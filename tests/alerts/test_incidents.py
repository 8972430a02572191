from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.alerts.incidents import Condition, decide
from ktrdr.alerts.wording import compose, duration

START = datetime(2026, 11, 20, 22, tzinfo=UTC)
AWAY = Condition("away", "connection", "not connected", "not connected – next step: log in")
FULL = Condition("store_trouble", "store", "the disk is full", "the disk is full", True, True)


class Told:
    """Decides minute by minute; what was notified of, by its minute."""

    def __init__(self, grace_s=300.0):
        self.incidents, self.grace_s, self.minute, self.news = (), grace_s, 0, {}

    def pass_minutes(self, count, *conditions, unknown=(), is_quiet=False):
        for _ in range(count):
            now = START + timedelta(minutes=self.minute)
            self.incidents, news = decide(
                conditions, unknown, self.incidents, now, self.grace_s, is_quiet=is_quiet
            )
            if news:
                self.news[self.minute] = compose(news, now, "live", "nas")
            self.minute += 1

    @property
    def titles(self):
        return {
            minute: one.title.removeprefix("ktrdr on nas: ") for minute, one in self.news.items()
        }


@pytest.fixture
def told():
    return Told()


def test_it_is_told_once_when_it_has_lasted_and_once_when_it_is_over(told):
    told.pass_minutes(60, AWAY)
    told.pass_minutes(60)

    assert told.titles == {5: "not connected", 61: "over after 1 h: not connected"}
    assert told.news[5].body == "Not connected – next step: log in"
    assert (told.news[5].is_good, told.news[61].is_good) == (False, True)


def test_what_passes_within_its_grace_is_never_told(told):
    told.pass_minutes(5, AWAY)
    told.pass_minutes(60)

    assert told.titles == {}
    assert told.incidents == ()


def test_a_moment_without_it_is_not_its_end(told):
    told.pass_minutes(10, AWAY)
    told.pass_minutes(1)
    told.pass_minutes(10, AWAY)

    assert told.titles == {5: "not connected"}


def test_what_is_urgent_is_told_after_a_minute(told):
    told.pass_minutes(10, FULL)

    assert told.titles == {1: "the disk is full"}


def test_what_lasts_is_told_again_each_day(told):
    told.pass_minutes(2 * 1440 + 60, AWAY)

    assert list(told.titles) == [5, 1445, 2885]
    assert told.news[1445].body.startswith("Still, after 1 d: not connected")


def test_what_cannot_be_judged_neither_begins_nor_ends(told):
    told.pass_minutes(10, AWAY)
    told.pass_minutes(60, unknown={"connection"})
    told.pass_minutes(60, unknown={"away"})
    assert list(told.titles) == [5]

    told.pass_minutes(2)
    assert told.titles[131] == "over after 2 h 10 min: not connected"


def test_in_quiet_hours_only_what_is_critical_is_told(told):
    told.pass_minutes(30, AWAY, FULL, is_quiet=True)
    assert told.titles == {1: "the disk is full"}

    told.pass_minutes(1, AWAY, FULL)
    assert told.titles[30] == "not connected"


def test_what_began_and_ended_in_them_is_one_line_in_the_morning(told):
    other = Condition("farms", "connection", "farms are broken", "farms are broken")
    told.pass_minutes(12, AWAY, is_quiet=True)
    told.pass_minutes(12, other, is_quiet=True)
    told.pass_minutes(60, is_quiet=True)
    assert told.titles == {}

    told.pass_minutes(1)
    assert told.news[84].body == (
        "In the quiet hours, and over: not connected (12 min); farms are broken (12 min)"
    )
    assert told.incidents == ()


def test_what_was_told_and_ends_in_them_is_told_in_the_morning(told):
    told.pass_minutes(10, AWAY)
    told.pass_minutes(60, is_quiet=True)
    assert list(told.titles) == [5]

    told.pass_minutes(1)
    assert told.titles[70] == "over after 10 min: not connected"


def test_many_at_once_are_one_message(told):
    many = [Condition(f"k{n}", "series", f"s{n} is late", f"s{n} is late; so") for n in range(30)]
    told.pass_minutes(10, *many)

    assert told.titles == {5: "30 problems"}
    lines = told.news[5].body.splitlines()
    assert len(lines) == 21
    assert (lines[0], lines[-1]) == ("S0 is late; so", "and 10 more: ktrdr status")


def test_simulated_stands_in_every_message():
    _, news = decide([FULL], (), (), START, 0)
    message = compose(news, START, "simulated", "nas")

    assert message.title == "ktrdr SIMULATED on nas: the disk is full"
    assert message.body.splitlines()[-1] == "SIMULATED: the prices are invented."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40, "40 s"), (720, "12 min"), (11100, "3 h 5 min"), (187200, "2 d 4 h"), (86400, "1 d")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
