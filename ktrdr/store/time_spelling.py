"""How the times of a file's rows are spelled, and new ones like them. Parses no file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from ktrdr.market.timeframes import DAY_S

Spell = Callable[[int], str]
"""The text of a time that is given in UTC seconds. ValueError: it cannot be spelled so."""

EPOCH_DIGITS = 11
"""So many digits at most are seconds since 1970."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_ISO = re.compile(
    r"""
    \d{4} (?P<dash>-?) \d\d (?P=dash) \d\d
    (?: (?P<between>[^\d]) \d\d
        (?P<minutes> (?P<colon>:?) \d\d (?P<seconds> (?P=colon) \d\d (?P<fraction>\.0+)? )? )?
        (?P<zone> Z | \ ?(?P<sign>[+-]) (?P<zone_hours>\d\d)
            (?: :? (?P<zone_minutes>\d\d) (?: :? (?P<zone_seconds>\d\d) )? )? )?
    )?
    """,
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class _Iso:
    """A spelling by ISO 8601, as of one row."""

    form: str
    """For `str.format` with a datetime."""
    offset_s: int
    """Of its zone from UTC."""
    step_s: int
    """It has only times that are multiples of this."""

    def __call__(self, start: int) -> str:
        local = start + self.offset_s
        if local % self.step_s:
            raise ValueError(f"no time like this one for {spell_time(start)}")
        try:
            return self.form.format(_EPOCH + timedelta(seconds=local))
        except OverflowError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class _Seconds:
    """Seconds since 1970, with leading zeros or none."""

    width: int

    def __call__(self, start: int) -> str:
        if not 0 <= start < 10**EPOCH_DIGITS:
            raise ValueError(f"no seconds since 1970 for {spell_time(start)}")
        return f"{start:0{self.width}}"


@dataclass(frozen=True)
class _Padded:
    """A spelling with blanks around it."""

    before: str
    inner: Spell
    after: str

    def __call__(self, start: int) -> str:
        return self.before + self.inner(start) + self.after


def spell_time(start: int) -> str:
    """A time in the usual spelling, `2026-11-20 14:30:00+00:00`. ValueError: of no such year."""
    return _date(start // DAY_S) + _clock(start % DAY_S)


def has_zone(text: str) -> bool:
    """Whether a time that can be read says its zone, by an offset or as seconds since 1970."""
    return offset_of(text) is not None


def offset_of(text: str) -> int | None:
    """By how many seconds the clock of a time that can be read is ahead of UTC; None: it says none.

    Seconds since 1970 are in UTC.
    """
    bare = text.strip()
    if bare.isdigit():
        return 0
    offset = datetime.fromisoformat(bare).utcoffset()
    return None if offset is None else int(offset.total_seconds())


def spelling_like(text: str, start: int) -> Spell:
    """The spelling of this text, which is the time `start`: digits, blanks, separators and zone.

    ValueError: it is not one that new rows could have.
    """
    if _is_spelled(text, start, spell_time):
        return spell_time
    bare = text.strip()
    if bare != text:
        before, _, after = text.partition(bare)
        return _Padded(before, spelling_like(bare, start), after)
    seconds = _Seconds(len(text) if text.startswith("0") else 1)
    for spell in (seconds, _iso(text)):
        if spell is not None and _is_spelled(text, start, spell):
            return spell
    raise ValueError(f"{text!r}: new rows cannot spell their time so")


def _is_spelled(text: str, start: int, spell: Spell) -> bool:
    try:
        return spell(start) == text
    except ValueError:
        return False


def _iso(text: str) -> Spell | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    dash, between, colon = found["dash"], found["between"], found["colon"]
    form = f"{{0.year:04}}{dash}{{0.month:02}}{dash}{{0.day:02}}"
    step_s = DAY_S
    if between is not None:
        step_s = 3600
        form += between.replace("{", "{{").replace("}", "}}") + "{0.hour:02}"
    if found["minutes"] is not None:
        step_s = 60
        form += f"{colon}{{0.minute:02}}"
    if found["seconds"] is not None:
        step_s = 1
        form += f"{colon}{{0.second:02}}{found['fraction'] or ''}"
    hours, minutes, seconds = (
        int(found[f"zone_{unit}"] or 0) for unit in ("hours", "minutes", "seconds")
    )
    offset_s = hours * 3600 + minutes * 60 + seconds
    return _Iso(
        form + (found["zone"] or ""), -offset_s if found["sign"] == "-" else offset_s, step_s
    )


@lru_cache(maxsize=1_000)
def _date(day: int) -> str:
    return date.fromordinal(_EPOCH_DAY + day).isoformat()


@lru_cache(maxsize=2_000)
def _clock(second: int) -> str:
    return f" {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}+00:00"
