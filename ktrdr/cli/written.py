"""`ktrdr gaps --written`: which rows of the store's files are ktrdr's. Needs no program."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ktrdr.check.written import FileShare, Share, WrittenFiles
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.nearest import chosen_of
from ktrdr.cli.output import is_terminal, show_json, show_rows
from ktrdr.config.settings import Settings
from ktrdr.ipc.messages import Json
from ktrdr.store.entries import read_entries
from ktrdr.times import iso, utc

_WHOSE = {
    Share.ALL: "all rows are ktrdr's",
    Share.SOME: "ktrdr's, in a file that others began",
    Share.UNKNOWN: "no row is known to be ktrdr's",
}


def show_written(
    settings: Settings, symbol: str | None, timeframe: str | None, *, as_json: bool
) -> None:
    """Show it, and end with code 1 if a file cannot be read.

    UnknownSeries: the store has none with this symbol and timeframe.
    """
    found = read_entries(settings.data_dir).found
    chosen = chosen_of(found, str(settings.data_dir), symbol, timeframe)
    files = WrittenFiles(settings.data_dir)
    shares = [files.share(series) for series in sorted(chosen, key=str)]
    if as_json:
        show_json({"series": [share_json(one) for one in shares]})
    else:
        zone = " (UTC)" if is_terminal() else ""
        columns = ("series", "rows", "bars", f"first{zone}", f"last{zone}")
        show_rows(columns, [row for one in shares for row in _rows_of(one)])
    if any(one.error for one in shares):
        sys.exit(ExitCode.NOT_GREEN)


def share_json(one: FileShare) -> Json:
    """The rows of one file, as JSON; times are ISO 8601."""
    return {
        "symbol": one.series.symbol,
        "timeframe": one.series.timeframe.value,
        "file": one.series.file_name,
        "written": one.share.value,
        "since": iso(one.since),
        "rows": None if one.share is Share.ALL else one.rows,
        "ranges": [
            {"first": iso(some.first), "last": iso(some.last), "rows": some.rows}
            for some in one.ranges
        ],
        "edited": [iso(start) for start in one.edited],
        "error": one.error or None,
    }


def _rows_of(one: FileShare) -> list[Sequence[str]]:
    """One for each range; a file without any has one too."""
    name = str(one.series)
    rows = [
        (name, _WHOSE[one.share], str(some.rows), shown(some.first), shown(some.last))
        for some in one.ranges
    ]
    if one.edited:
        ends = (shown(one.edited[0]), shown(one.edited[-1]))
        rows.append((name, "ktrdr's, changed by others since", str(len(one.edited)), *ends))
    if rows:
        return [*rows]
    whose = "ktrdr's, removed by others since" if one.share is Share.SOME else _WHOSE[one.share]
    return [(name, one.error or whose, "", "", "")]


def shown(start: int) -> str:
    """A start: short for a person, and exact for a program."""
    return f"{utc(start):%Y-%m-%d %H:%M}" if is_terminal() else utc(start).isoformat()
