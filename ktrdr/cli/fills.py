"""`ktrdr fill` and `ktrdr fills`: history is requested, followed, cancelled and listed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ktrdr.cli.fill_progress import counts_by_reason, follow, request_fill
from ktrdr.cli.group import gap_filler_of, out, settings_of_group, warn_if_simulated
from ktrdr.escapes import visible
from ktrdr.ipc.messages import FillAccepted, FillList, FillsCancelled, FillStatus


def fill(
    symbol: Annotated[str, typer.Argument(help="With --cancel also a number from `ktrdr fills`.")],
    timeframe: Annotated[
        str | None, typer.Argument(help="1m 5m 15m 30m 1h 4h 1d", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="History from this day on, however old.")
    ] = None,
    *,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the fill; the bars fetched so far stay.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Show the progress until it is done.")] = True,
) -> None:
    """Fill a series from a day on, however old. It goes on when this command is ended.

    It is kept, also over restarts, until it is done or cancelled: `ktrdr fill --cancel AAPL 1m`, or
    by its number, `ktrdr fill --cancel 3`. `ktrdr fills` lists all fills.
    """
    if cancel == bool(start):
        raise typer.BadParameter("expected either --from DAY or --cancel")
    if timeframe is None and not (cancel and symbol.isdecimal()):
        raise typer.BadParameter("expected a timeframe after the symbol, such as 1m")
    with settings_of_group() as settings:
        gap_filler = gap_filler_of(settings)
        if cancel:
            chosen = {"symbol": symbol, "timeframe": timeframe} if timeframe else {"id": symbol}
            response = gap_filler.request(FillsCancelled, "DELETE", "/fills", 5.0, **chosen)
            for one in response.cancelled:
                out.print(f"{_title(one)} is cancelled; what was fetched stays", highlight=False)
            return
        requested = {"symbol": symbol, "timeframe": str(timeframe), "from": str(start)}
        accepted = request_fill(gap_filler, requested, out)
        for line in _fill_lines(accepted):
            out.print(line, highlight=False)
        warn_if_simulated(gap_filler.get("/status").get("source"))
        if wait:
            follow(gap_filler, accepted, out)


def _title(fill: FillStatus) -> str:
    return f"fill {fill.id}, {fill.symbol}_{fill.timeframe} from {fill.since.date()} on,"


def _fill_lines(accepted: FillAccepted) -> list[str]:
    """What was requested now, and what had been requested before."""
    lines = [f"{_title(accepted)} begins with the newest bars"]
    setting = accepted.setting_since
    since = f"since = {setting.date()} in instruments.toml" if setting else ""
    known = [f"fill {one.id} from {one.since.date()} on" for one in accepted.already]
    wanted = ", ".join([*known, since] if since else known)
    return [*lines, f"already requested, and kept: {wanted}"] if wanted else lines


def fills(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
) -> None:
    """List the fills requested with `ktrdr fill`.

    Each with its progress, and what it waits for.

    If standard output is not a terminal: a line each, with tabs between the columns.
    """
    with settings_of_group() as settings:
        gap_filler = gap_filler_of(settings)
        chosen = {"symbol": symbol} if symbol else {}
        listed = gap_filler.request(FillList, "GET", "/fills", 5.0, **chosen).fills
        columns = ("fill", "series", "from", "state", "present", "expected", "what is known")
        rows = [_fill_row(one) for one in listed]
        if not out.is_terminal:
            for row in (columns, *rows):
                typer.echo("\t".join(map(visible, row)))
            return
        table = Table(*columns)
        for row in rows:
            table.add_row(*map(escape, row))
        out.print(table if rows else "no fills requested")


def _fill_row(fill: FillStatus) -> tuple[str, ...]:
    counts = ("?" if count is None else str(count) for count in (fill.present, fill.expected))
    known = "; ".join([*filter(None, [fill.why]), *counts_by_reason(fill.missing)])
    if fill.hint:
        known += f"; next: {' '.join(fill.hint.split())}"
    series = f"{fill.symbol}_{fill.timeframe}"
    return str(fill.id), series, f"{fill.since.date()}", fill.state, *counts, known
