"""The words of a notification: around those of the verdict, how long it lasts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ktrdr.alerts.incidents import Incident, News

_MOST_LINES = 20
SIMULATED = "SIMULATED: the prices are invented."


@dataclass(frozen=True)
class Message:
    """One notification."""

    title: str
    body: str
    is_good: bool = False
    """Everything in it is over."""


def compose(news: News, now: datetime, source: str, host: str) -> Message:
    """The notification of all news at once. `source`: `live` or `simulated`."""
    lines = list(_lines(news, now))
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"and {len(lines) - _MOST_LINES} more: ktrdr status"]
    return message(
        _subject(news), lines, source, host, is_good=not (news.begun or news.again or news.missed)
    )


def message(
    subject: str, lines: list[str], source: str, host: str, *, is_good: bool = False
) -> Message:
    """A notification of this group."""
    is_simulated = source == "simulated"
    name = "ktrdr SIMULATED" if is_simulated else "ktrdr"
    body = "\n".join([*lines, SIMULATED] if is_simulated else lines)
    return Message(f"{name} on {host}: {subject}", body, is_good)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{s} s"


def _subject(news: News) -> str:
    lasting = [*news.begun, *news.again]
    ended = [*news.over, *news.missed]
    if len(lasting) == 1 and not ended:
        return lasting[0].condition.what
    if len(ended) == 1 and not lasting:
        return f"over after {duration(ended[0].lasted_s)}: {ended[0].condition.what}"
    parts = []
    if lasting:
        parts.append(f"{len(lasting)} {'problem' if len(lasting) == 1 else 'problems'}")
    if ended:
        parts.append(f"{len(ended)} over")
    return ", ".join(parts)


def _lines(news: News, now: datetime) -> Iterator[str]:
    for one in news.begun:
        yield _sentence(one.condition.sentence)
    for one in news.again:
        since = duration((now - one.began).total_seconds())
        yield f"Still, after {since}: {one.condition.sentence}"
    for one in news.over:
        yield f"Over after {duration(one.lasted_s)}: {one.condition.what}"
    if news.missed:
        yield f"In the quiet hours, and over: {'; '.join(map(_ended, news.missed))}"


def _ended(one: Incident) -> str:
    return f"{one.condition.what} ({duration(one.lasted_s)})"


def _sentence(text: str) -> str:
    is_name = "-" in text.partition(" ")[0]
    return text if is_name else text[:1].upper() + text[1:]
