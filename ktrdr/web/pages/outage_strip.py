"""The strip of the last 30 days: a column a day, with its outages at their hours. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from ktrdr.ib.outages import NOT_RUNNING
from ktrdr.ipc.messages import ConnectionHistory, Outage
from ktrdr.web import words

DAYS = 30
_DAY = timedelta(days=1)
_LEAST = 0.1
"""Percent: what has no height is not drawn at all."""
_NAMED = 4
"""Outages of a day that its label names."""


@dataclass(frozen=True)
class Mark:
    """A part of a day, in percent of it from midnight (UTC)."""

    kind: str
    """`recorded`, or of an outage `expected`, `off` (ib-connection did not run) or `trouble`."""
    begin: float
    length: float


@dataclass(frozen=True)
class StripDay:
    """One day of the strip."""

    day: date
    recorded: tuple[Mark, ...]
    """When ib-connection recorded the state; nothing is known of the rest of the day."""
    outages: tuple[Mark, ...]
    label: str
    """The day in a sentence, with the exact times (UTC)."""

    @property
    def has_outages(self) -> bool:
        """Whether there is something in the diary."""
        return bool(self.outages)


def strip(history: ConnectionHistory) -> list[StripDay]:
    """The days up to that of `history.until`, the oldest first."""
    last = history.until.astimezone(UTC).date()
    recorded = _recorded(history)
    return [_day(last - n * _DAY, recorded, history) for n in reversed(range(DAYS))]


def kind_of(outage: Outage) -> str:
    """The kind of an outage's marks."""
    if outage.expected_kind:
        return "expected"
    return "off" if outage.worst == NOT_RUNNING else "trouble"


def sentence(outage: Outage, until: datetime) -> str:
    """What an outage was, how long it took and what it cost: `expected restart, 2 min 10 s, …`."""
    length = words.duration(((outage.end or until) - outage.start).total_seconds())
    cause = f"expected {outage.cause}" if outage.expected_kind == "restart" else outage.cause
    if outage.expected_kind == "log_out":
        cause = "expected log-out"
    lasts = length if outage.end else "ongoing"
    cost = _cost(outage)
    so_far = " so far" if cost and not outage.end else ""
    return ", ".join(filter(None, (cause, lasts, f"{cost}{so_far}")))


def _cost(outage: Outage) -> str:
    late, lost = outage.bars_late, outage.bars_lost
    if late is None or lost is None:
        return ""
    if not late and not lost:
        return "no bar late or lost"
    bars = f"{words.counted(late, 'bar')} late"
    return f"{bars}, {f'{words.count(lost)} of them lost' if lost else 'no bar lost'}"


def _recorded(history: ConnectionHistory) -> list[tuple[datetime, datetime]]:
    """The intervals of which the state is known."""
    length = (history.until - history.since) / max(1, len(history.shares))
    found, place = [], 0
    for is_known, run in groupby(share is not None for share in history.shares):
        first, place = place, place + len(list(run))
        if is_known:
            found.append((history.since + first * length, history.since + place * length))
    return found


def _day(
    day: date, recorded: list[tuple[datetime, datetime]], history: ConnectionHistory
) -> StripDay:
    begin = datetime.combine(day, time(), UTC)
    known = [_mark("recorded", span, begin) for span in recorded if _touches(span, begin)]
    touching = [
        (one, (one.start, one.end or history.until))
        for one in history.outages
        if _touches((one.start, one.end or history.until), begin)
    ]
    marks = tuple(_mark(kind_of(one), span, begin) for one, span in touching)
    is_known = bool(known)
    label = _label(day, [one for one, _ in touching], history.until, is_known=is_known)
    return StripDay(day, tuple(known), marks, label)


def _touches(span: tuple[datetime, datetime], begin: datetime) -> bool:
    return span[0] < begin + _DAY and span[1] > begin


def _mark(kind: str, span: tuple[datetime, datetime], begin: datetime) -> Mark:
    first, last = max(span[0], begin), min(span[1], begin + _DAY)
    return Mark(kind, _percent(first - begin), max(_LEAST, _percent(last - first)))


def _percent(part: timedelta) -> float:
    return round(100 * (part / _DAY), 1)


def _label(day: date, outages: list[Outage], until: datetime, *, is_known: bool) -> str:
    name = f"{day:%a %d %b}"
    if not outages:
        return f"{name}: {'no outage' if is_known else 'not recorded'}"
    named = [f"{one.start.astimezone(UTC):%H:%M:%S} {sentence(one, until)}" for one in outages]
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    return f"{name} (UTC): " + "; ".join(named[:_NAMED] + more)
