"""Imports one file into a store: reads, understands, writes. The source is never changed."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ktrdr.errors import KtrdrError, MalformedFile, NotUnderstood, StoreUnwritable
from ktrdr.importing.agreement import (
    refuse_different,
    refuse_if_any_is_refused,
    refuse_outside_period,
)
from ktrdr.importing.bar_writer import Bars, Rules, Tally, bars_of, check, notes_on, text_of
from ktrdr.importing.columns import NO_VOLUME, Columns, Stamp
from ktrdr.importing.contracts import ImportContracts, has_volume
from ktrdr.importing.joined_bars import JoinedBars
from ktrdr.importing.lengths import timeframe_of, usual_length
from ktrdr.importing.meaning import (
    IN_FILE,
    DayEnd,
    DayRule,
    Said,
    TimeMeaning,
    day_rule_of,
    meaning_of,
)
from ktrdr.importing.records import keep_record
from ktrdr.importing.rows import CLOCK, OFFSET, Matrix, Refused, utc_of
from ktrdr.importing.same_series import groups_of, guess, refuse_other_names
from ktrdr.importing.series_names import (
    Named,
    money_of,
    name_of,
    one_of_each,
    refuse_other_money,
    refuse_several,
)
from ktrdr.importing.source_files import SourceFile
from ktrdr.importing.spool import Spool
from ktrdr.importing.table_file import ReadRows, TableFile, table_at
from ktrdr.importing.text_blocks import Source, key_at, sha256_of
from ktrdr.market.instruments import Instrument, Series
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.columns import COLUMNS
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_errors import TRY_AGAIN, unwritable
from ktrdr.store.new_file import refuse_existing, write_new_series
from ktrdr.store.source import METADATA_DIR
from ktrdr.store.time_spelling import spell_time

_SAMPLES, _SAMPLE_ROWS = 8, 8_192
_GIVEN = "given"
_Made = TypeVar("_Made")

ProgressOf = Callable[[SourceFile], Callable[[int], None]]
"""What is given how many bytes of a file have been read."""


@dataclass(frozen=True)
class Wishes:
    """What a person says of the files."""

    to: Series | None = None
    zone: str = ""
    stamp: Stamp | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    is_dry: bool = False


@dataclass
class Understood:
    """What was understood of a file, and what has become of it."""

    path: Path
    series: Series | None = None
    table: TableFile | None = None
    meaning: TimeMeaning | DayRule | None = None
    read: ReadRows = field(default_factory=ReadRows)
    tally: Tally = field(default_factory=Tally)
    notes: list[str] = field(default_factory=list)
    is_written: bool = False
    error: KtrdrError | None = None
    source: Source | None = None
    parts: tuple[str, ...] = ()
    """The files that were joined to one series, this one among them; none: it is alone."""

    @property
    def refused(self) -> list[Refused]:
        """All lines that are no bars, in order."""
        return sorted([*self.read.refused, *self.tally.refused])


class Importer:
    """Imports files into the store in `folder`, one after the other. For one thread.

    `clock`: UTC seconds. Misconfigured: the store's instruments.toml cannot be read.
    """

    def __init__(self, folder: Path, wishes: Wishes, clock: Callable[[], float]) -> None:
        self._store = CsvStore(folder)
        self._wishes = wishes
        self._now = int(clock())
        self._contracts = ImportContracts(folder, self._now)
        self._done: dict[Series, Path] = {}

    def run(
        self, path: Path, shown: str, progress: Callable[[int], None] = lambda _: None
    ) -> Understood:
        """Import a file, or with a dry run see what would be. Its `error` says why it was not.

        `shown`: its path with the folders that may name its symbol.
        """
        found = Understood(path)
        with _error_kept_in([found]):
            self._run(found, shown, progress)
        return found

    def run_all(self, files: Sequence[SourceFile], progress_of: ProgressOf) -> list[Understood]:
        """Import files as `run` does, those of one series together: all of them, or none.

        InvalidRequest: a person says one series for files of several.
        """
        chosen, to = self._wishes.columns, self._wishes.to
        if to is not None:
            refuse_other_names(files, str(to))
            groups = [list(files)] if files else []
        elif len(files) > 1:
            groups = groups_of(files, [guess(file, chosen) for file in files])
        else:
            groups = [[file] for file in files]
        found: dict[SourceFile, Understood] = {}
        for group in groups:
            if len(group) == 1:
                (file,) = group
                found[file] = self.run(file.path, file.name, progress_of(file))
                continue
            parts = [Understood(file.path) for file in group]
            found.update(zip(group, parts, strict=True))
            with _error_kept_in(parts):
                self._run_together(parts, group, progress_of)
        return [found[file] for file in files]

    def _run(self, found: Understood, shown: str, progress: Callable[[int], None]) -> None:
        with closing(self._temporary(Spool)) as spool:
            rules = self._read(found, spool, shown, progress)
            bars = self._checked(found, spool, rules)
            self._write([found], text_of(bars, has_volume=rules.has_volume))

    def _run_together(
        self, found: Sequence[Understood], files: Sequence[SourceFile], progress_of: ProgressOf
    ) -> None:
        """Import files of one series, each understood by itself; all, or none of them."""
        names = _names_in(files)
        with closing(self._temporary(JoinedBars)) as joined:
            rules = []
            for one, file, name in zip(found, files, names, strict=True):
                one.parts = names
                with _error_kept_in([one]), closing(self._temporary(Spool)) as spool:
                    rules.append(self._read(one, spool, file.name, progress_of(file)))
                    joined.add(name, one.tally, self._checked(one, spool, rules[-1]))
            with _error_kept_in([one for one in found if one.error is None]):
                refuse_if_any_is_refused([one.error for one in found], names)
                refuse_different([one.series for one in found], rules, names)
                self._write(found, text_of(joined.read(), has_volume=rules[0].has_volume))

    def _read(
        self, found: Understood, spool: Spool, shown: str, progress: Callable[[int], None]
    ) -> Rules:
        """Read a file into the spool, and see what its rows mean."""
        key = key_at(found.path)
        with ThreadPoolExecutor(1) as thread:
            checksum = thread.submit(sha256_of, found.path)
            table = table_at(found.path, self._wishes.columns)
            if not self._may_have_volume(found.path.name, shown):
                table = replace(table, columns=table.columns.without_volume)
            found.table = table
            found.read = table.read(spool, progress)
            found.source = source = Source(found.path, key, checksum.result())
        spool.sort(found.path.name)
        if not source.is_unchanged:
            what = f"{found.path.name}: another program wrote to it meanwhile"
            raise MalformedFile(what, hint="import it again when nobody writes to it")
        return self._rules(found, spool, shown)

    def _temporary(self, kind: Callable[[Path | None], _Made]) -> _Made:
        """Something that needs a temporary file. StoreUnwritable."""
        if self._wishes.is_dry:
            return kind(None)
        folder = self._store.folder / METADATA_DIR
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return kind(folder)
        except OSError as error:
            raise unwritable(folder, error, TRY_AGAIN) from error

    # What it is.

    def _rules(self, found: Understood, spool: Spool, shown: str) -> Rules:
        """How its rows become bars."""
        name, table = found.path.name, found.table
        assert table is not None
        rows = _sample(spool)
        times = utc_of(rows)
        symbols = _symbols(name, found.read, table.columns)
        named = self._named(shown, symbols, usual_length(times) or Timeframe.M1)
        instrument = self._contracts.instrument(name, named)
        timeframe = timeframe_of(name, times, named.timeframe, named.symbol)
        refuse_outside_period(name, times, named, timeframe)
        found.series = series = Series(named.symbol, timeframe)
        if (other := self._done.get(series)) is not None:
            hint = "join them in one file, or import only one"
            raise MalformedFile(f"{name}: {series.file_name} has the bars of {other}", hint=hint)
        refuse_existing(self._store, series)
        volume = self._has_volume(found, table.columns, instrument)
        hours = self._contracts.hours(series, instrument, int(times[0]), int(times[-1]))
        said = self._said(name, table, found.read, spool)
        if timeframe.is_daily:
            offsets = rows[:, OFFSET].astype(np.int64) if said.has_offsets else None
            schedule = hours.schedule if hours else None
            meaning: TimeMeaning | DayRule = day_rule_of(
                name,
                times,
                offsets,
                schedule,
                never_closes=instrument.sec_type == "CRYPTO",
                end=_end_of_days(said, found.read),
            )
            rules = Rules(
                name, timeframe, meaning, self._now, instrument.sec_type, None, schedule, volume
            )
        else:
            clocks = rows[:, CLOCK].astype(np.int64)
            meaning = meaning_of(name, times, hours, replace(said, clocks=clocks), timeframe)
            found.notes += meaning.notes
            rules = Rules(
                name, timeframe, meaning, self._now, instrument.sec_type, hours, None, volume
            )
        found.meaning = meaning
        return rules

    def _named(self, shown: str, symbols: set[str], length: Timeframe) -> Named:
        """The series of a file. MalformedFile: it is not known; `length` is for the hint."""
        texts = (shown, *(one.replace("/", "-") for one in symbols))
        if (to := self._wishes.to) is not None:
            pair = money_of(texts)
            return Named(to.symbol, to.timeframe, pair is not None and pair.coin == to.symbol)
        refuse_other_money(shown, texts, length)
        named = name_of(shown, symbols)
        if named is None:
            what = f"{shown}: neither its name nor its rows say which series it is"
            raise MalformedFile(what, hint=f"say which, such as: --to AAPL_{length.value}")
        return named

    def _may_have_volume(self, name: str, shown: str) -> bool:
        """Whether its volumes have to be read, as far as that is known without its rows."""
        to = self._wishes.to
        named = Named(to.symbol, to.timeframe) if to else name_of(shown, ())
        return named is None or has_volume(self._contracts.instrument(name, named))

    def _has_volume(self, found: Understood, columns: Columns, instrument: Instrument) -> bool:
        """Whether its volumes are taken. MalformedFile: they are needed, and there are none."""
        is_there = columns.numbers[-1] is not None
        if not has_volume(instrument):
            if is_there:
                found.notes.append("volumes are not taken: bars of this kind have none (-1)")
            return False
        if not is_there and self._wishes.columns.get("volume") != NO_VOLUME:
            others = ", ".join(columns.unused)
            what = f"{found.path.name}: it has no column of volumes"
            what += f" among those that are not taken: {others}" if others else ""
            hint = shlex.quote(f"volume={columns.likely_volume or 'NAME'}")
            hint = f"name it: --columns {hint}; or if there is none: --columns volume=none"
            raise MalformedFile(what, hint=hint)
        return is_there

    def _said(self, name: str, table: TableFile, read: ReadRows, spool: Spool) -> Said:
        """What the file and a person say. NotUnderstood: they contradict one another."""
        has_offsets = spool.with_offset == spool.count
        if spool.with_offset and not has_offsets:
            what = f"{name}: {spool.with_offset:,} of {spool.count:,} times have an offset from UTC"
            raise NotUnderstood(what, hint="spell all times alike in a copy, and import that")
        columns, wishes = table.columns, self._wishes
        inside = read.zone or columns.zone
        if wishes.zone and (inside or has_offsets) and wishes.zone not in (inside, "UTC"):
            what = f"{name}: its times say their zone, and not {wishes.zone}"
            hint = "leave --zone out; or if they say a wrong one: --columns offsets=ignored"
            raise NotUnderstood(what, hint=hint)
        stamp, by = columns.stamp, f"column {columns.names[columns.times[0]]}"
        if 0 < read.ends < spool.count:
            what = f"{name}: {read.ends:,} of its times end in .999, and others do not"
            raise NotUnderstood(what, hint="write each bar by its start in a copy, and import that")
        if read.ends and wishes.stamp is Stamp.START:
            what = f"{name}: its times are the last moments of bars, such as 09:30:59.999"
            raise NotUnderstood(what, hint="leave --stamp out")
        if read.ends:
            stamp, by = Stamp.END, "the last moments of bars"
        if stamp is None and columns.names == COLUMNS and has_offsets:
            stamp, by = Stamp.START, "as in files of the store"
        return Said(
            has_offsets,
            inside or wishes.zone,
            IN_FILE if inside else _GIVEN,
            wishes.stamp or stamp,
            _GIVEN if wishes.stamp else by,
            is_stamp_given=wishes.stamp is not None,
            is_zone_given=bool(wishes.zone),
        )

    # Writing.

    def _checked(self, found: Understood, spool: Spool, rules: Rules) -> Iterator[Bars]:
        """The bars of a file, which are checked together behind the last one."""
        yield from bars_of(spool.chunks(), rules, found.tally)
        check(rules, found.tally, is_confirmed=bool(self._wishes.zone))

    def _write(self, found: Sequence[Understood], text: Iterator[bytes]) -> None:
        """Write the series of which these are all files."""
        series = found[0].series
        assert series is not None
        if self._wishes.is_dry:
            for _ in text:
                pass
        else:
            write_new_series(self._store, series, text)
        self._done[series] = found[0].path
        for one in found:
            one.notes += notes_on(one.tally)
            one.is_written = not self._wishes.is_dry
        if self._wishes.is_dry:
            return
        refused = [(one.path.name, line) for one in found for line in one.refused]
        try:
            keep_record(self._store.folder, series, _record(found, self._now), refused)
        except StoreUnwritable as error:
            found[0].notes.append(f"no record of it could be kept: {error.message}")


@contextlib.contextmanager
def _error_kept_in(found: Sequence[Understood]) -> Iterator[None]:
    try:
        yield
    except KtrdrError as error:
        for one in found:
            one.error = error


def _end_of_days(said: Said, read: ReadRows) -> DayEnd:
    """What is known of days that are named by the midnight at their end."""
    if read.ends:
        return DayEnd.MOMENT
    return (
        DayEnd.SAID
        if said.stamp is Stamp.END and not said.is_stamp_given
        else (DayEnd.GIVEN if said.stamp is Stamp.END else DayEnd.NONE)
    )


def _names_in(files: Sequence[SourceFile]) -> tuple[str, ...]:
    """Names by which these files are told from one another."""
    names = tuple(file.path.name for file in files)
    return names if len(set(names)) == len(names) else tuple(str(file.path) for file in files)


def _symbols(name: str, read: ReadRows, columns: Columns) -> set[str]:
    """The one symbol that is in a file, if there is one. MalformedFile: there are several."""
    symbols = one_of_each({*read.symbols, *columns.symbols})
    refuse_several(name, symbols)
    return symbols if columns.has_symbols else one_of_each(columns.symbols)


def _sample(spool: Spool) -> Matrix:
    """Rows from all over the file, in runs."""
    if spool.count <= _SAMPLES * _SAMPLE_ROWS:
        return spool.rows(0, spool.count)
    last = spool.count - _SAMPLE_ROWS
    begins = np.linspace(0, last, _SAMPLES).astype(int).tolist()
    runs = [spool.rows(begin, begin + _SAMPLE_ROWS) for begin in begins]
    return np.concatenate([_whole_days(run) for run in runs])


def _whole_days(rows: Matrix) -> Matrix:
    """Without the days at both ends, of which some rows may be missing."""
    days = utc_of(rows) // DAY_S
    is_whole = (days != days[0]) & (days != days[-1])
    return rows[is_whole] if is_whole.any() else rows


def _record(found: Sequence[Understood], now: int) -> dict[str, Any]:
    """What is kept of an import, for JSON; of several files with each as one of its `parts`."""
    parts = [_record_of(one, now) for one in found]
    if len(parts) == 1:
        return parts[0]
    return {"series": parts[0]["series"], "imported_at": _shown(now), "parts": parts}


def _record_of(found: Understood, now: int) -> dict[str, Any]:
    content, source = as_json(found), found.source
    assert source is not None
    return {
        **content,
        "source": str(source.path.resolve()),
        "sha256": source.sha256,
        "size": source.key[0],
        "imported_at": _shown(now),
    }


def as_json(found: Understood) -> dict[str, Any]:
    """What was understood of a file, as JSON; None for what was not."""
    table, meaning, tally = found.table, found.meaning, found.tally
    bars = meaning if isinstance(meaning, TimeMeaning) else None
    return {
        "file": str(found.path),
        "series": str(found.series) if found.series else None,
        "columns": table.columns.shown if table else None,
        "not_taken": list(table.columns.unused) if table else [],
        "spelling": table.dialect.shown if table else None,
        "zone": meaning.zone if meaning else None,
        "zone_known": _zone_known(meaning),
        "stamp": bars.stamp.value if bars else None,
        "stamp_known": bars.stamp_known if bars else None,
        "lines": found.read.lines,
        "bars": tally.bars,
        "first": _shown(tally.first),
        "last": _shown(tally.last),
        "doubles": tally.doubles,
        "in_other_files": tally.elsewhere,
        "joined_from": list(found.parts),
        "refused": len(found.refused),
        "notes": found.notes,
        "written": found.is_written,
        "error": found.error.message if found.error else None,
        "next_step": found.error.hint if found.error else None,
    }


def _zone_known(meaning: TimeMeaning | DayRule | None) -> str | None:
    if isinstance(meaning, TimeMeaning):
        return meaning.zone_known
    return meaning.known if meaning else None


def _shown(seconds: int | None) -> str | None:
    return None if seconds is None else spell_time(seconds)
