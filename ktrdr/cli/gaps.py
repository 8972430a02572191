"""`ktrdr gaps`: each series with its missing bars and why; the bars of a day. `ktrdr scan`."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ktrdr.cli.fill_progress import counts_by_reason
from ktrdr.cli.group import gap_filler_of, out, settings_of_group, warn_if_simulated
from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.ipc.messages import Json, ScanAccepted, SeriesStatus, StoreCoverage
from ktrdr.ipc.wording import because, day_of, remarks
from ktrdr.market.timeframes import Timeframe


def scan() -> None:
    """Look for gaps now, also in series that were given up."""
    with settings_of_group() as settings:
        gap_filler = gap_filler_of(settings)
        out.print(
            f"scan {gap_filler.request(ScanAccepted, 'POST', '/scan').scan_id} has been requested"
        )


def gaps(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Argument(help="Only this timeframe.")] = None,
    *,
    day: Annotated[
        str | None, typer.Option(help="Each bar of this trading day, such as 2026-11-20.")
    ] = None,
) -> None:
    """Show each series: bars expected, bars there, and why the others are not."""
    with settings_of_group() as settings:
        gap_filler = gap_filler_of(settings)
        warn_if_simulated(gap_filler.get("/status").get("source"))
        if day is not None:
            if symbol is None or timeframe is None:
                raise InvalidRequest("--day needs a symbol and a timeframe")
            coverage = gap_filler.get("/coverage", symbol=symbol, timeframe=timeframe, day=day)
            out.print(_day_table(coverage) if coverage["bars"] else _day_title(coverage))
            return
        kept = gap_filler.request(StoreCoverage, "GET", "/coverage", days="0").series
        out.print(_series_table(_chosen(kept, symbol, timeframe)))


def _chosen(
    kept: list[SeriesStatus], symbol: str | None, timeframe: str | None
) -> list[SeriesStatus]:
    """The series with this symbol and timeframe. UnknownSeries, InvalidRequest: there are none."""
    if timeframe is not None:
        try:
            timeframe = Timeframe.parse(timeframe).value
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
    of_symbol = [one for one in kept if symbol in (None, one.symbol)]
    if symbol is not None and not of_symbol:
        near = {one.symbol.upper(): one.symbol for one in kept}
        meant = difflib.get_close_matches(symbol.upper(), near, 1)
        raise UnknownSeries(
            f"the gap filler has no series of {symbol!r}",
            hint=f"did you mean {near[meant[0]]}?" if meant else "ktrdr gaps shows all series",
        )
    chosen = [one for one in of_symbol if timeframe in (None, one.timeframe)]
    if of_symbol and not chosen:
        known = ", ".join(one.timeframe for one in of_symbol)
        raise UnknownSeries(
            f"the gap filler has {symbol} in {known}, and not in {timeframe}",
            hint=f"create {symbol}_{timeframe}.csv with the header line to have it filled",
        )
    return chosen


def _series_table(listed: list[SeriesStatus]) -> Table:
    table = Table("series", "state", "expected", "present", "missing", "last bar")
    for one in listed:
        missing = counts_by_reason(one.missing)
        if one.error:
            code = f" (IB's code {one.error_code})" if one.error_code else ""
            missing.insert(0, f"{one.error}{code}{f' (next: {one.hint})' if one.hint else ''}")
        table.add_row(
            f"{one.symbol}_{one.timeframe}",
            one.state,
            *("?" if count is None else str(count) for count in (one.expected, one.present)),
            escape("; ".join([*missing, *_remarks_on(one)])),
            one.last.isoformat() if one.last else "",
        )
    return table


def _remarks_on(one: SeriesStatus) -> list[str]:
    now = datetime.now(UTC)
    return remarks(now, one.looked_from, one.listed, one.expires, one.sessions_from)


def _day_title(coverage: Json) -> str:
    return f"{coverage['day']}: {day_of(coverage['state'])}"


def _day_table(coverage: Json) -> Table:
    """The bars of a day; consecutive ones of the same state are one row."""
    table = Table("from", "to", "bars", "what is known", title=_day_title(coverage))
    for status, group in groupby(coverage["bars"], key=lambda bar: bar[1]):
        starts = [start for start, _ in group]
        first, last = (datetime.fromtimestamp(t, UTC) for t in (starts[0], starts[-1]))
        table.add_row(f"{first:%Y-%m-%d %H:%M}", f"{last:%H:%M}", str(len(starts)), because(status))
    return table
