"""`ktrdr gaps --dry-run`: what would be requested and written. Needs no program, sends nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.nearest import chosen_of
from ktrdr.cli.output import is_terminal, show_json, show_line, show_rows
from ktrdr.cli.written import shown
from ktrdr.config.settings import Settings
from ktrdr.gap_filler.dry_run import DryRun, Planned
from ktrdr.ipc.messages import Json
from ktrdr.store.entries import read_entries
from ktrdr.times import iso


def show_dry_run(
    settings: Settings, symbol: str | None, timeframe: str | None, *, as_json: bool
) -> None:
    """Show it, and end with code 1 if a file cannot be filled.

    UnknownSeries: the store has none with this symbol and timeframe. Errors as `DryRun.planned`.
    """
    entries = read_entries(settings.data_dir)
    there = [*entries.found, *entries.blocked]
    chosen = chosen_of(there, str(settings.data_dir), symbol, timeframe)
    planned = DryRun(settings, time.time).planned(chosen.__contains__)
    if as_json:
        show_json(_as_json(planned))
    else:
        zone = " (UTC)" if is_terminal() else ""
        columns = ("series", "requests", f"from{zone}", f"to{zone}", "bars", "what is written")
        show_rows(columns, [_row(one) for one in planned])
        show_line(_summary(planned))
    if any(one.error for one in planned):
        sys.exit(ExitCode.NOT_GREEN)


def _row(one: Planned) -> tuple[str, ...]:
    count = str(len(one.requests))
    if not one.requests:
        return str(one.series), count, "", "", "", _words(one)
    start = shown(min(request.start for request in one.requests))
    end = shown(max(request.end for request in one.requests))
    return str(one.series), count, start, end, str(one.bars), _words(one)


def _words(one: Planned) -> str:
    """What is written, or why nothing is."""
    if one.error is not None:
        return f"nothing: {one.error.message}"
    parts = []
    if one.appended:
        parts.append(f"{one.appended} are appended")
    if one.inserted:
        parts.append(f"{one.inserted} before its last row: a copy with them replaces it")
    if parts and not one.is_owned:
        parts.append("in a file of others, whose rows stay as they are")
    if not parts and one.wants_sessions and not one.requests:
        parts.append("known once its sessions were requested")
    elif one.by_usual_sessions:
        then = "" if one.is_owned else ", and the file is looked at then"
        parts.append(f"counted by usual sessions: its own are requested first{then}")
    return "; ".join(parts) or "nothing: it is complete, or to be requested later"


def _summary(planned: Sequence[Planned]) -> str:
    sessions = sum(one.wants_sessions for one in planned)
    requests = sum(len(one.requests) for one in planned)
    files = sum(bool(one.bars) for one in planned)
    bars = sum(one.bars for one in planned)
    return (
        f"{sessions:,} requests for sessions and {requests:,} for bars: {bars:,} bars for "
        f"{files:,} files; nothing was requested or written"
    )


def _as_json(planned: Sequence[Planned]) -> Json:
    return {
        "session_requests": sum(one.wants_sessions for one in planned),
        "bar_requests": sum(len(one.requests) for one in planned),
        "bars": sum(one.bars for one in planned),
        "series": [
            {
                "symbol": one.series.symbol,
                "timeframe": one.series.timeframe.value,
                "file": one.series.file_name,
                "requests": [
                    {"start": iso(request.start), "end": iso(request.end)}
                    for request in one.requests
                ],
                "appended": one.appended,
                "inserted": one.inserted,
                "by_usual_sessions": one.by_usual_sessions,
                "owned": one.is_owned,
                "error": one.error.message if one.error else None,
                "hint": one.error.hint if one.error else None,
            }
            for one in planned
        ],
    }
