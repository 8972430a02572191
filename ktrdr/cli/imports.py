"""`ktrdr import`: files of other programs, understood and written into the store."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.exit_codes import ExitCode, code_of
from ktrdr.cli.group import settings_of_group, warn_if_simulated
from ktrdr.cli.nearest import nearest_word
from ktrdr.cli.output import is_terminal, note, show_error, show_json, show_line, show_rows
from ktrdr.errors import InvalidRequest, Misconfigured
from ktrdr.importing.columns import Stamp, parse_chosen
from ktrdr.importing.importer import Importer, Understood, Wishes, as_json
from ktrdr.importing.records import records_of, refused_path
from ktrdr.importing.series_names import series_to
from ktrdr.importing.source_files import SourceFile, source_files
from ktrdr.market.instruments import Series
from ktrdr.market.zones import find_zone
from ktrdr.store.source import source_of

_MOST_LINES = 10
_COLUMNS = ("file", "becomes", "bars", "first", "last", "times", "named by", "columns", "refused")
_KEPT = ("series", "bars", "first", "last", "imported", "from", "SHA-256")


def import_files(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files or folders.", show_default=False)
    ] = None,
    *,
    to: Annotated[
        str | None,
        typer.Option(help="The series of all these files, such as AAPL_1m.", show_default=False),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            help="The zone of times without an offset: America/New_York.", show_default=False
        ),
    ] = None,
    stamp: Annotated[
        str | None,
        typer.Option(help="Bars are named by their start or end.", show_default=False),
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            help="Which columns to take, by name or number: time=Date,open=2; volume=none.",
            show_default=False,
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what was understood, and write nothing.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Folders with their subfolders.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List what was imported so far.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring files of other programs into the store, as files of its own.

    The files stay as they are. Columns, zone, stamp and length of the bars are found out, and shown
    in a table; what may mean several things is refused with what to type. Files of one series, such
    as one a month, become one file: all of them, or none. A series that the store has already is
    not touched. Exit code 1 if a file or a line was refused.

    Example: ktrdr import ~/bars --recursive --dry-run

    Example: ktrdr import prices.csv --to AAPL_1m --zone America/New_York
    """
    settings = settings_of_group(reads_bars=True)
    if listed:
        _show_records(settings.data_dir, as_json=as_json)
        return
    if not paths:
        raise InvalidRequest("no file is named", hint="ktrdr import FILE_OR_FOLDER --dry-run")
    if not settings.data_dir.is_dir():  # such as that of a disk that is not mounted
        hint = "mount its disk, or set KTRDR_DATA_DIR to where the bar files are"
        raise Misconfigured(f"the store {settings.data_dir} is not there", hint=hint)
    wishes = _wishes(to, zone, stamp, columns, is_dry=dry_run)
    chosen = source_files(paths, is_recursive=recursive)
    importer = Importer(settings.data_dir, wishes, time.time)
    with _progress(chosen.files) as shown_of:
        found = importer.run_all(chosen.files, shown_of)
    if as_json:
        show_json(_as_json(found, settings.data_dir, chosen.in_subfolders))
    else:
        warn_if_simulated(source_of(settings.data_dir))
        _show(found, settings.data_dir, wishes)
        if chosen.in_subfolders:
            note(f"passed over in subfolders: {chosen.in_subfolders:,} (--recursive takes them)")
    if any(one.error or one.refused for one in found) or not found:
        sys.exit(_exit_code(found))


def _exit_code(found: Sequence[Understood]) -> ExitCode:
    codes = [code_of(one.error) for one in found if one.error]
    return max([ExitCode.NOT_GREEN, *codes])


def _wishes(
    to: str | None, zone: str | None, stamp: str | None, columns: str, *, is_dry: bool
) -> Wishes:
    """InvalidRequest: an option cannot be meant."""
    try:
        series: Series | None = series_to(to) if to else None
    except ValueError as error:
        raise InvalidRequest(f"--to {to}: {error}", hint="such as --to AAPL_1m") from None
    try:
        chosen = parse_chosen(columns)
    except ValueError as error:
        hint = "such as --columns time=Date,open=Open,volume=none"
        raise InvalidRequest(f"--columns {error}", hint=hint) from None
    key = find_zone(zone).key if zone else ""
    stamps = [one.value for one in Stamp]
    named = Stamp(nearest_word(stamp, stamps, "--stamp")) if stamp else None
    return Wishes(series, key, named, chosen, is_dry)


@contextlib.contextmanager
def _progress(
    files: Sequence[SourceFile],
) -> Iterator[Callable[[SourceFile], Callable[[int], None]]]:
    """Show in a terminal how much of which file has been read."""
    if not is_terminal():
        yield lambda _file: lambda _bytes: None
        return
    from rich.progress import Progress  # noqa: PLC0415  # only a terminal needs it

    from ktrdr.cli.terminal import Terminal  # noqa: PLC0415  # as above

    with Progress(console=Terminal(), transient=True) as shown:
        task = shown.add_task("", total=None)

        def begin(file: SourceFile) -> Callable[[int], None]:
            size = file.path.stat().st_size if file.path.is_file() else None
            number = files.index(file) + 1
            what = f"{number} of {len(files)}: {file.name}"
            shown.reset(task, total=size, description=what)
            return lambda count: shown.update(task, completed=count)

        yield begin


def _show(found: Sequence[Understood], folder: Path, wishes: Wishes) -> None:
    known = [one for one in found if one.meaning is not None]
    if known:
        show_rows(_COLUMNS, [_row(one) for one in known])
    shown: set[str] = set()
    for one in found:
        for text in one.notes:
            note(f"{one.path.name}: {text}")
        _show_refused(one, folder)
        if one.error is not None and one.error.message not in shown:
            shown.add(one.error.message)
            show_error(one.error)
    for series, parts in dict.fromkeys((one.series, one.parts) for one in found if _is_joined(one)):
        note(f"{series}.csv: joined from {len(parts):,} files: {', '.join(parts)}")
    done = [one for one in found if one.error is None]
    bars = sum(one.tally.bars for one in done)
    verb = "would be imported" if wishes.is_dry else "imported"
    show_line(f"{len(done):,} of {len(found):,} files {verb}, {bars:,} bars")


def _is_joined(one: Understood) -> bool:
    return bool(one.parts) and one.error is None


def _row(one: Understood) -> tuple[str, ...]:
    about = as_json(one)
    times = f"{about['zone']}: {about['zone_known']}" if about["zone"] else about["zone_known"]
    stamp = f"{about['stamp']}, {about['stamp_known']}" if about["stamp"] else "day"
    taken = about["columns"] + ("" if not about["not_taken"] else "; not taken: ")
    taken += ", ".join(about["not_taken"])
    refused = f"{about['refused']:,} of {about['lines']:,} lines" if about["refused"] else ""
    becomes = f"{about['series']}.csv" if one.error is None else "nothing"
    ends = [about[end] or "" for end in ("first", "last")]
    return (one.path.name, becomes, f"{about['bars']:,}", *ends, times, stamp, taken, refused)


def _show_refused(one: Understood, folder: Path) -> None:
    """The first refused lines, and where all of them are."""
    refused = one.refused
    for line, text, why in refused[:_MOST_LINES]:
        note(f"{one.path.name} line {line}: {why}: {text!r}")
    more = len(refused) - _MOST_LINES
    if more > 0:
        note(f"{one.path.name}: {more:,} more lines are refused")
    if refused and one.is_written and one.series is not None:
        note(f"{one.path.name}: all refused lines are in {refused_path(folder, one.series)}")


def _as_json(found: Sequence[Understood], folder: Path, in_subfolders: int) -> dict[str, Any]:
    return {
        "store": str(folder),
        "files": [
            as_json(one) | {"refused_lines": [line._asdict() for line in one.refused]}
            for one in found
        ],
        "in_subfolders": in_subfolders,
    }


def _show_records(folder: Path, *, as_json: bool) -> None:
    records = [part for one in records_of(folder) for part in one.get("parts", [one])]
    if as_json:
        show_json({"store": str(folder), "imported": records})
        return
    if not records:
        show_line("nothing was imported into this store")
        return
    names = ("series", "bars", "first", "last", "imported_at", "source", "sha256")
    show_rows(_KEPT, [tuple(str(one.get(name, "")) for name in names) for one in records])
