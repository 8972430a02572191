"""`ktrdr release`: takes ktrdr's rows out of a file that others began."""

from __future__ import annotations

import shlex
import sys
import time
from typing import Annotated

import typer

from ktrdr.check.written import WrittenFiles
from ktrdr.cli.arguments import AsJson
from ktrdr.cli.completion import complete_series_name
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_json, show_line, show_next
from ktrdr.cli.stored_names import nearest_named
from ktrdr.cli.written import shown
from ktrdr.config.settings import Settings
from ktrdr.errors import InvalidRequest, PeerDown, PeerTimedOut, StoreUnwritable
from ktrdr.health.peers import Peers
from ktrdr.market.instruments import Series, parse_series
from ktrdr.store.instruments_edit import EntryChange, change_entry
from ktrdr.store.release import Released
from ktrdr.times import iso, utc

_WAIT_S, _POLL_S = 30.0, 0.1
"""How long the gap filler may take to leave a series alone."""

_Name = Annotated[str, typer.Argument(help="Such as AAPL_1m.", autocompletion=complete_series_name)]


def release(series: _Name, *, as_json: AsJson = False) -> None:
    """Take ktrdr's rows out of a file that others began. Exit code 1 if some of them stay.

    Without them it is what it was before, byte for byte. Rows that others have added or changed
    since stay. The series is not kept any more, as after `ktrdr watch remove`, since it would be
    filled again. It may be run while the programs run or not; the old file is kept.

    Example: ktrdr release AAPL_1m
    """
    wanted = _series_of(series)
    settings = settings_of_group(reads_bars=True)
    files = WrittenFiles(settings.data_dir)
    with nearest_named(settings.data_dir, wanted.symbol, wanted.timeframe.value):
        since = files.releasable(wanted).since
    _leave_alone(settings, wanted)
    released = files.release(wanted)
    if as_json:
        show_json(_as_json(wanted, released, since))
    else:
        _show(wanted, released, since)
    if released.taken.edited:
        sys.exit(ExitCode.NOT_GREEN)


def _series_of(name: str) -> Series:
    try:
        return parse_series(f"{name.removesuffix('.csv')}.csv")
    except ValueError as error:
        hint = "ktrdr gaps --written lists the series, such as AAPL_1m"
        raise InvalidRequest(f"{name!r}: {error}", hint=hint) from error


def _leave_alone(settings: Settings, series: Series) -> None:
    """Have the series not kept any more, and wait until the gap filler has left it alone.

    StoreUnwritable: it has not in this time.
    """
    peers = Peers(settings)
    symbol, timeframe = series.symbol, series.timeframe.value
    try:
        peers.remove_series(symbol, timeframe)
    except PeerTimedOut:
        raise
    except PeerDown:
        change_entry(settings.data_dir, EntryChange(symbol, watch={timeframe: False}))
        return
    until = time.monotonic() + _WAIT_S
    while time.monotonic() < until:
        if any(
            (one.symbol, one.timeframe, one.state) == (symbol, timeframe, "not_watched")
            for one in peers.watch_list().series
        ):
            return
        time.sleep(_POLL_S)
    raise StoreUnwritable(
        f"the gap filler has not left {series} alone within {_WAIT_S:g} s; no row was taken out",
        hint="run the command again; ktrdr status says what the gap filler waits for",
    )


def _as_json(series: Series, released: Released, since: int | None) -> dict[str, object]:
    return {
        "file": series.file_name,
        "rows": released.taken.rows,
        "ranges": [
            {"first": iso(one.first), "last": iso(one.last), "rows": one.rows}
            for one in released.taken.ranges
        ],
        "edited": [iso(start) for start in released.taken.edited],
        "as_before": released.is_as_before,
        "since": iso(since),
        "old_file": str(released.kept) if released.kept else None,
    }


def _show(series: Series, released: Released, since: int | None) -> None:
    name, taken = series.file_name, released.taken
    show_line(f"{name}: {taken.rows:,} rows of ktrdr's were taken out")
    before = f"what it was before the first of them was written, on {utc(since or 0):%F %H:%M} UTC"
    if released.is_as_before:
        show_line(f"it is byte for byte {before}")
    else:
        show_line(
            f"others have changed the file since, so it is not compared with {before}; "
            "every other row is as it was until now"
        )
    if taken.edited:
        first, last = shown(taken.edited[0]), shown(taken.edited[-1])
        where = f"at {first}" if len(taken.edited) == 1 else f"from {first} to {last}"
        show_line(f"{len(taken.edited):,} rows stay, since others have changed them: {where}")
    if released.kept:
        show_line(f"the file with these rows is {released.kept}")
    words = f"{shlex.quote(series.symbol)} {series.timeframe.value}"
    show_line(f"{series} is not kept any more")
    show_next(f"to have it filled again: ktrdr watch add {words}")
