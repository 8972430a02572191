"""False responses: true messages in, false ones out. Uses no gateway.

IB's servers respond like this when they have trouble.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ktrdr.sim.gateway.answer_damage import Bar, change_bars, change_message, with_field
from ktrdr.sim.gateway.faults import BAR_FIELDS
from ktrdr.sim.market.sessions import DAY_S

_SCHEDULE_HEAD = 6
"""Message 106: its id, the request's, start, end, zone, count; then three fields a session."""


def cut_bars(data: bytes, lost: str, share: float) -> bytes:
    """Remove the `oldest` or the `newest` share of the bars; at least one stays."""

    def cut(bars: list[Bar]) -> list[Bar]:
        kept = max(len(bars) - round(len(bars) * share), 1)
        return bars[-kept:] if lost == "oldest" else bars[:kept]

    return change_bars(data, cut)


def odd_field(data: bytes, field: str, text: str) -> bytes:
    """Put this text into one field of the middle bar."""
    place = BAR_FIELDS.index(field)

    def change(bars: list[Bar]) -> list[Bar]:
        middle = len(bars) // 2
        odd = [with_field(bar, place, text) for bar in bars[middle : middle + 1]]
        return [*bars[:middle], *odd, *bars[middle + 1 :]]

    return change_bars(data, change)


def other_unit(data: bytes, of: str, factor: float) -> bytes:
    """Convert all prices, or all volumes, to another unit, such as cents."""
    places = (5,) if of == "volume" else (1, 2, 3, 4, 6)

    def change(bars: list[Bar]) -> list[Bar]:
        return [
            tuple(_times(text, factor) if i in places else text for i, text in enumerate(bar))
            for bar in bars
        ]

    return change_bars(data, change)


def _times(text: str, factor: float) -> str:
    """A number in a message times `factor`, whole if it was; -1 (none) is unchanged."""
    if text in ("-1", "-1.0"):
        return text
    number = float(text) * factor
    return repr(round(number, 8)) if "." in text else str(round(number))


def cut_schedule(data: bytes, lost: str) -> bytes:
    """Remove `all` sessions, or the `oldest`, the `newest` or the `middle` third of them."""

    def cut(fields: list[str]) -> list[str]:
        head, rest = fields[:_SCHEDULE_HEAD], fields[_SCHEDULE_HEAD:]
        sessions = [rest[i : i + 3] for i in range(0, len(rest), 3)]
        third = -(-len(sessions) // 3)
        kept = {
            "all": [],
            "oldest": sessions[third:],
            "newest": sessions[:-third],
            "middle": sessions[:third] + sessions[2 * third :],
        }[lost]
        first, last = (kept[0][0], kept[-1][1]) if kept else ("", "")
        return [*head[:2], first, last, head[4], str(len(kept)), *(t for s in kept for t in s)]

    return change_message(data, "106", cut)


def odd_session(data: bytes, text: str) -> bytes:
    """Let the middle session of SCHEDULE close at `text`; empty: without a close."""

    def change(fields: list[str]) -> list[str]:
        count = (len(fields) - _SCHEDULE_HEAD) // 3
        place = _SCHEDULE_HEAD + count // 2 * 3 + 1
        close = f"{fields[place][:9]}{text}" if text else ""
        return [*fields[:place], close, *fields[place + 1 :]]

    return change_message(data, "106", change)


def zone_name(data: bytes, contract: str, schedule: str) -> bytes:
    """Replace the time zones in contract details and in SCHEDULE, unless the new one is `same`."""

    def of_details(fields: list[str]) -> list[str]:
        hours = next(i for i, text in enumerate(fields) if re.match(r"\d{8}:", text))
        return [*fields[: hours - 1], contract, *fields[hours:]]

    def of_schedule(fields: list[str]) -> list[str]:
        return [*fields[:4], schedule, *fields[5:]]

    if contract != "same":
        data = change_message(data, "10", of_details)
    return data if schedule == "same" else change_message(data, "106", of_schedule)


def late_head(data: bytes, days: int) -> bytes:
    """Move the head timestamp later by `days`."""

    def move(fields: list[str]) -> list[str]:
        return [*fields[:2], _later(fields[2], days * DAY_S)]

    return change_message(data, "88", move)


def _later(text: str, seconds: int) -> str:
    if text.isdigit():
        return str(int(text) + seconds)
    moment = datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC).timestamp() + seconds
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d-%H:%M:%S")
