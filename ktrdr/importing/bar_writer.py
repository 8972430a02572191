"""Turns the rows of a file into bars of a series, and these into its text. Opens no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.completeness.file_fit import Hours, fit_in_utc, in_utc
from ktrdr.errors import NotUnderstood
from ktrdr.importing.columns import Stamp
from ktrdr.importing.meaning import DayRule, TimeMeaning
from ktrdr.importing.rows import CLOCK, LINE, OFFSET, OPEN, VOLUME, Matrix, Refused, utc_of
from ktrdr.importing.time_cells import NO_OFFSET
from ktrdr.importing.zone_clocks import are_double, are_skipped, local_clock
from ktrdr.market.sessions import DAILY_SETTLE_S, BoolArray, Int64Array, Schedule
from ktrdr.market.timeframes import DAY_S, MINUTE_S, Timeframe
from ktrdr.store.columns import HEADER
from ktrdr.store.time_spelling import spell_time

_SATURDAY = 5
_EVERY_DAY = "CRYPTO"
_CLOCKS = np.array([spell_time(at)[10:] for at in range(0, DAY_S, MINUTE_S)], "S")
"""Minute of the day → how it is spelled behind the date."""
_NO_VOLUME, _END = np.array(b",-1"), np.array(b"\n")
_FEW = 0.05
"""So large a part of the rows may be refused, or lie outside the sessions: half days."""
_FEW_REFUSED = 10
_OFF_GRID, _LONGEST_ON_GRID_S = 0.1, 1800

Bars = tuple[Int64Array, Matrix]
"""The starts of bars (UTC seconds), ascending, and their rows."""


@dataclass
class Tally:
    """What has become of the rows so far."""

    bars: int = 0
    first: int | None = None
    last: int | None = None
    doubles: int = 0
    """Rows that were there more than once, alike."""
    elsewhere: dict[str, int] = field(default_factory=dict)
    """How many of its bars were taken from other files of the series, by their names."""
    refused: list[Refused] = field(default_factory=list)
    outside: int = 0
    """Bars outside the sessions."""
    known: int = 0
    """Bars of which that is known."""
    weekends: int = 0
    """Days on which there is no trading."""
    off_grid: int = 0
    """Bars that do not begin at a multiple of their length."""


@dataclass(frozen=True)
class Rules:
    """How the rows of one file become bars."""

    name: str
    timeframe: Timeframe
    meaning: TimeMeaning | DayRule
    now: int
    """UTC seconds."""
    sec_type: str
    hours: Hours | None = None
    """To count what lies outside the sessions; None: they are not known."""
    schedule: Schedule | None = None
    """For the end of a trading day."""
    has_volume: bool = True
    """False: bars of this kind have none."""


def bars_of(chunks: Iterable[Matrix], rules: Rules, tally: Tally) -> Iterator[Bars]:
    """The bars of a file, each once and in order; `tally` counts meanwhile.

    `chunks`: rows in order of their times. NotUnderstood: they cannot be what they seem to be.
    """
    start_of = _day_starts if isinstance(rules.meaning, DayRule) else _bar_starts
    waiting: tuple[Int64Array, Matrix] | None = None
    for chunk in chunks:
        starts, rows = start_of(chunk, rules, tally)
        if waiting is not None:
            starts = np.concatenate([waiting[0], starts])
            rows = np.concatenate([waiting[1], rows])
        if len(starts) and (np.diff(starts) < 0).any():
            what = f"{rules.name}: its rows are not in the order of their times"
            raise NotUnderstood(what, hint="sort a copy of it by time, and import that")
        whole = int(np.searchsorted(starts, starts[-1])) if len(starts) else 0
        yield _counted(*_once(starts[:whole], rows[:whole], tally), rules, tally)
        waiting = starts[whole:], rows[whole:]
    if waiting is not None:
        yield _counted(*_once(*waiting, tally), rules, tally)


def _bar_starts(rows: Matrix, rules: Rules, tally: Tally) -> tuple[Int64Array, Matrix]:
    """The starts of intraday bars, and the rows without those that are refused."""
    meaning = rules.meaning
    assert isinstance(meaning, TimeMeaning)
    length_s = rules.timeframe.length_s
    times = utc_of(rows)
    if meaning.zone != "UTC" and len(rows):
        skipped = are_skipped(times, meaning.zone)
        if skipped.any():
            line = int(rows[skipped.argmax(), LINE])
            what = f"{rules.name} line {line}: there was no such time in {meaning.zone}"
            raise NotUnderstood(what, hint="its times are of another zone: --zone …")
        double = are_double(times, meaning.zone)
        rows = _refuse(rows, double, f"this hour came twice in {meaning.zone}", tally)
        times = in_utc(utc_of(rows), meaning.zone)
    starts = times - length_s if meaning.stamp is Stamp.END else times
    uneven = starts % MINUTE_S != 0
    rows, starts = _refuse(rows, uneven, "no whole minute", tally), starts[~uneven]
    late = starts + length_s > rules.now
    return starts[~late], _refuse(rows, late, "its bar is not over yet", tally)


def _day_starts(rows: Matrix, rules: Rules, tally: Tally) -> tuple[Int64Array, Matrix]:
    """The trading days of daily bars, and the rows without those that are refused."""
    rule = rules.meaning
    assert isinstance(rule, DayRule)
    written = rows[:, CLOCK].astype(np.int64)
    clocks = local_clock(utc_of(rows), rule.zone) if rule.zone else written
    days = (clocks - rule.shift_s) // DAY_S * DAY_S
    if rules.sec_type != _EVERY_DAY:
        closed = (days // DAY_S + 3) % 7 >= _SATURDAY
        tally.weekends += int(closed.sum())
        rows, days = _refuse(rows, closed, "no trading day: a weekend", tally), days[~closed]
    late = _day_ends(days, rules.schedule) + DAILY_SETTLE_S > rules.now
    return days[~late], _refuse(rows, late, "its day is not over yet", tally)


def _day_ends(days: Int64Array, schedule: Schedule | None) -> Int64Array:
    """When trading days are over, at the latest."""
    ends = days + DAY_S
    if schedule is None or not schedule.sessions:
        return ends
    _, closes, of_days, _ = schedule.columns
    place = np.searchsorted(of_days, days, side="right") - 1
    is_known = (place >= 0) & (of_days[np.maximum(place, 0)] == days)
    return np.where(is_known, closes[np.maximum(place, 0)], ends)


def _refuse(rows: Matrix, which: BoolArray, why: str, tally: Tally) -> Matrix:
    """The rows without some, which are listed."""
    if not which.any():
        return rows
    tally.refused += [
        Refused(line, shown_time(clock, offset), why)
        for line, clock, offset in rows[which][:, [LINE, CLOCK, OFFSET]].astype(int).tolist()
    ]
    return rows[~which]


def shown_time(clock: int, offset: int) -> str:
    """A time as the cell showed it, in the usual spelling."""
    text = spell_time(clock).removesuffix("+00:00")
    if offset == NO_OFFSET:
        return text
    sign, ahead = "-" if offset < 0 else "+", abs(offset)
    return f"{text}{sign}{ahead // 3600:02}:{ahead // 60 % 60:02}"


def _once(starts: Int64Array, rows: Matrix, tally: Tally) -> tuple[Int64Array, Matrix]:
    """Each bar once; all rows of a time for which there are different ones are refused."""
    again = np.flatnonzero(starts[1:] == starts[:-1]) + 1
    if not len(again):
        return starts, rows
    values = rows[:, OPEN:]
    differs = (values[again] != values[again - 1]).any(axis=1)
    wrong = np.isin(starts, starts[again[differs]])
    is_again = np.zeros(len(starts), np.bool_)
    is_again[again] = True
    tally.doubles += int((is_again & ~wrong).sum())
    _refuse(rows, wrong, "another row of this time has other values", tally)
    kept = ~is_again & ~wrong
    return starts[kept], rows[kept]


def _counted(starts: Int64Array, rows: Matrix, rules: Rules, tally: Tally) -> Bars:
    if not len(starts):
        return starts, rows
    tally.bars += len(starts)
    tally.first = int(starts[0]) if tally.first is None else tally.first
    tally.last = int(starts[-1])
    if rules.hours is not None:
        fit = fit_in_utc(starts, rules.hours)
        tally.known, tally.outside = tally.known + fit.rows, tally.outside + fit.outside
    if not rules.timeframe.is_daily:
        tally.off_grid += int((starts % rules.timeframe.length_s != 0).sum())
    return starts, rows


def text_of(bars: Iterable[Bars], *, has_volume: bool) -> Iterator[bytes]:
    """The lines of a bar file, the header first.

    A thread spells some bars while the next ones are made.
    """
    yield f"{HEADER}\n".encode()
    with ThreadPoolExecutor(1) as thread:
        waiting: Future[bytes] | None = None
        for starts, rows in bars:
            begun = thread.submit(_lines, starts, rows, has_volume=has_volume)
            if waiting is not None:
                yield waiting.result()
            waiting = begun
        if waiting is not None:
            yield waiting.result()


def _lines(starts: Int64Array, rows: Matrix, *, has_volume: bool) -> bytes:
    if not len(starts):
        return b""
    cells = [*_times(starts), *_spelled(rows[:, OPEN:VOLUME], repr)]
    cells += _spelled(rows[:, VOLUME:], _volume) if has_volume else [_NO_VOLUME]
    return _joined(len(starts), [*cells, _END])


def _joined(count: int, cells: Sequence[NDArray[np.bytes_]]) -> bytes:
    """So many lines of cells, which are arrays, or one for all lines."""
    table = np.empty(count, [(str(place), cell.dtype) for place, cell in enumerate(cells)])
    for place, cell in enumerate(cells):
        table[str(place)] = cell
    return table.tobytes().translate(None, b"\0")  # with which numpy fills the shorter ones


def _times(starts: Int64Array) -> tuple[NDArray[np.bytes_], NDArray[np.bytes_]]:
    """Date and clock in the usual spelling; the starts are whole minutes, and ascend."""
    days = starts // DAY_S
    begins = np.flatnonzero(np.append(True, days[1:] != days[:-1]))
    texts = np.array([spell_time(day * DAY_S)[:10] for day in days[begins].tolist()], "S")
    return texts.repeat(np.diff(begins, append=len(days))), _CLOCKS[starts % DAY_S // MINUTE_S]


def _spelled(
    values: NDArray[np.float64], spell: Callable[[float], str]
) -> Iterator[NDArray[np.bytes_]]:
    """The spelling of numbers after a comma, an array for each column."""
    codes, each = pd.factorize(np.ascontiguousarray(values.T).ravel())
    texts = np.array([f",{spell(number)}" for number in each.tolist()], "S")
    yield from texts[codes].reshape(values.T.shape)


def _volume(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def check(rules: Rules, tally: Tally, *, is_confirmed: bool) -> None:
    """Check all bars together, before their file gets its name.

    `is_confirmed`: a person vouches for their times. NotUnderstood: too many rows are no bars, or
    lie outside the sessions, or begin off the grid.
    """
    name, count = rules.name, len(tally.refused)
    if not tally.bars or count > max(_FEW_REFUSED, _FEW * (tally.bars + count)):
        first = min(tally.refused, default=Refused(0, "", "no row is a bar"))
        hint = f"is it this contract? Line {first.line}: {first.why}"
        raise NotUnderstood(f"{name}: {count:,} of its rows are no bars", hint=hint)
    if tally.weekends > max(1, _FEW * tally.bars):
        what = f"{name}: {tally.weekends:,} of {tally.bars + count:,} days are of a weekend"
        hint = "its days may be named by the evening before: name the trading days in a copy"
        raise NotUnderstood(what, hint=hint)
    if tally.outside > _FEW * tally.known and not is_confirmed:
        what = f"{name}: {tally.outside:,} of {tally.known:,} rows lie outside the sessions"
        raise NotUnderstood(what, hint="is it this contract? If its times are right: --zone UTC")
    is_short = rules.timeframe.length_s <= _LONGEST_ON_GRID_S
    if is_short and tally.off_grid > _OFF_GRID * tally.bars:
        what = f"{name}: its bars do not begin at multiples of {rules.timeframe.value}"
        raise NotUnderstood(what, hint="bring its bars onto IB's times, or leave the file out")


def notes_on(tally: Tally) -> list[str]:
    """What is worth knowing of the rows that were taken."""
    notes = []
    if tally.doubles:
        notes.append(f"{tally.doubles:,} rows were there more than once, alike")
    for name, count in tally.elsewhere.items():
        notes.append(f"bars that are in {name} too, alike, and taken from there: {count:,}")
    if tally.outside:
        notes.append(f"{tally.outside:,} rows lie outside the sessions, or extended hours")
    return notes
