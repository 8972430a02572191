"""`ktrdr gaps`: each series with its missing bars and why; the bars of a day. `ktrdr scan`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson, OnlySymbol, OnlyTimeframe
from ktrdr.cli.group import gap_filler_of, settings_of_group, warn_if_simulated
from ktrdr.cli.nearest import checked_timeframe, chosen_of, nearest_word
from ktrdr.cli.output import is_terminal, show_json, show_line, show_rows
from ktrdr.errors import InvalidRequest
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import Json, ScanAccepted, SeriesStatus, StoreCoverage
from ktrdr.ipc.wording import because, counts_by_reason, day_of, remarks
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.times import iso

_STATES = (
    "complete", "filling", "waiting", "unproven", "renewed", "incomplete_row", "not_understood",
    "failed", "refused",
)  # fmt: skip
_WHERE = "the gap filler"


def scan(*, as_json: AsJson = False) -> None:
    """Look for gaps now, also in series that were given up.

    Example: ktrdr scan
    """
    gap_filler = gap_filler_of(settings_of_group())
    accepted = gap_filler.request(ScanAccepted, "POST", "/scan")
    if as_json:
        show_json({"scan_id": accepted.scan_id})
    else:
        show_line(f"scan {accepted.scan_id} has been requested")


def gaps(
    symbol: OnlySymbol = None,
    timeframe: OnlyTimeframe = None,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Only series in this state: {' '.join(_STATES)}.", show_default=False),
    ] = None,
    day: Annotated[
        str | None, typer.Option(help="Each bar of this trading day, such as 2026-11-20.")
    ] = None,
    written: Annotated[
        bool,
        typer.Option("--written", help="Which rows ktrdr wrote into files that others began."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="What would be requested and written; do neither."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show each series: bars expected, bars there, and why the others are not.

    --written and --dry-run need none of the programs; exit code 1 if a file cannot be read.

    Example: ktrdr gaps --only failed

    Example: ktrdr gaps AAPL 1m --day 2026-11-20

    Example: ktrdr gaps --written
    """
    states = [nearest_word(state, _STATES, "--only") for state in only or _STATES]
    timeframe = checked_timeframe(timeframe)
    if written or dry_run:
        if only or day or (written and dry_run):
            raise InvalidRequest("--only, --day, --written and --dry-run exclude each other")
        _show_files(symbol, timeframe, written=written, as_json=as_json)
        return
    gap_filler = gap_filler_of(settings_of_group())
    warn_if_simulated(gap_filler.get("/status").get("source"))
    if day is not None:
        if symbol is None or timeframe is None:
            raise InvalidRequest("--day needs a symbol and a timeframe")
        _show_day(
            gap_filler.get("/coverage", symbol=symbol, timeframe=timeframe, day=day),
            as_json=as_json,
        )
        return
    found = gap_filler.request(StoreCoverage, "GET", "/coverage", days="0")
    listed = [one for one in _chosen(found.series, symbol, timeframe) if one.state in states]
    if as_json:
        time = found.scan_time.isoformat() if found.scan_time else None
        show_json({"scan_time": time, "series": [_series_json(one) for one in listed]})
    else:
        last = "last bar (UTC)" if is_terminal() else "last bar"
        columns = ("series", "state", "expected", "present", "missing", last)
        show_rows(columns, [_series_row(one) for one in listed])


def _show_files(symbol: str | None, timeframe: str | None, *, written: bool, as_json: bool) -> None:
    """Show which rows are ktrdr's, or what would be requested and written."""
    settings = settings_of_group(reads_bars=True)
    if written:
        from ktrdr.cli.written import show_written  # noqa: PLC0415  reads files, which takes long

        show_written(settings, symbol, timeframe, as_json=as_json)
    else:
        from ktrdr.cli.dry_run import show_dry_run  # noqa: PLC0415  as above

        show_dry_run(settings, symbol, timeframe, as_json=as_json)


def _chosen(
    kept: Sequence[SeriesStatus], symbol: str | None, timeframe: str | None
) -> list[SeriesStatus]:
    """The series with this symbol and timeframe. UnknownSeries: there are none."""
    series = {Series(one.symbol, Timeframe.parse(one.timeframe)): one for one in kept}
    chosen = chosen_of(series, _WHERE, symbol, timeframe)
    return [status for one, status in series.items() if one in chosen]


def _series_json(one: SeriesStatus) -> Json:
    return {name: value for name, value in to_json(one).items() if name != "key"}


def _series_row(one: SeriesStatus) -> tuple[str, ...]:
    missing = counts_by_reason(one.missing)
    if one.error:
        code = f" (IB's code {one.error_code})" if one.error_code else ""
        missing.insert(0, f"{one.error}{code}{f' (next: {one.hint})' if one.hint else ''}")
    return (
        f"{one.symbol}_{one.timeframe}",
        one.state,
        *("?" if count is None else str(count) for count in (one.expected, one.present)),
        "; ".join([*missing, *_remarks_on(one)]),
        _last_bar(one),
    )


def _last_bar(one: SeriesStatus) -> str:
    """The start of the last bar: short for a person, and exact for a program."""
    if one.last is None:
        return ""
    return f"{one.last:%Y-%m-%d %H:%M}" if is_terminal() else one.last.isoformat()


def _remarks_on(one: SeriesStatus) -> list[str]:
    now = datetime.now(UTC)
    return remarks(now, one.looked_from, one.listed, one.expires, one.sessions_from, one.comparison)


def _show_day(coverage: Json, *, as_json: bool) -> None:
    """The bars of a day; consecutive ones of the same state are one row."""
    if as_json:
        bars = [{"start": iso(start), "state": state} for start, state in coverage["bars"]]
        show_json(coverage | {"bars": bars})
        return
    show_line(f"{coverage['day']}: {day_of(coverage['state'])}")
    rows = []
    for status, group in groupby(coverage["bars"], key=lambda bar: bar[1]):
        starts = [datetime.fromtimestamp(start, UTC) for start, _ in group]
        first, last = starts[0], starts[-1]
        rows.append((f"{first:%Y-%m-%d %H:%M}", f"{last:%H:%M}", str(len(starts)), because(status)))
    if rows:
        show_rows(("from", "to", "bars", "what is known"), rows)
