"""`ktrdr fill` and `ktrdr fills`: history is requested, followed, cancelled and listed."""

from __future__ import annotations

from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson, OnlySymbol
from ktrdr.cli.completion import complete_symbol, complete_timeframe
from ktrdr.cli.group import gap_filler_of, settings_of_group, warn_if_simulated
from ktrdr.cli.nearest import checked_timeframe
from ktrdr.cli.output import is_terminal, show_json, show_line, show_rows
from ktrdr.cli.stored_names import nearest_named
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import ACCEPTED, FillAccepted, FillList, FillsCancelled, FillStatus
from ktrdr.ipc.wording import counts_by_reason

_WRITE_S = 5.0
"""A request that is written down: the ledger may be locked for a moment."""


def fill(
    symbol: Annotated[
        str,
        typer.Argument(
            help="With --cancel also a number from `ktrdr fills`.", autocompletion=complete_symbol
        ),
    ],
    timeframe: Annotated[
        str | None,
        typer.Argument(
            help="1m 5m 15m 30m 1h 4h 1d", show_default=False, autocompletion=complete_timeframe
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="History from this day on, however old.")
    ] = None,
    *,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the fill; the bars fetched so far stay.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Show the progress until it is done.")] = True,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, help="Wait at most so many seconds; exit code 1 if it is not done."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fill a series from a day on, however old. It goes on when this command is ended.

    It is kept, also over restarts, until it is done or cancelled, by its series or by its number.
    `ktrdr fills` lists all fills.

    Example: ktrdr fill AAPL 1m --from 2020-01-01 --timeout 600

    Example: ktrdr fill --cancel AAPL 1m
    """
    if cancel == bool(start):
        raise typer.BadParameter("expected either --from DAY or --cancel")
    if timeframe is None and not (cancel and symbol.isdecimal()):
        raise typer.BadParameter("expected a timeframe after the symbol, such as 1m")
    timeframe = checked_timeframe(timeframe)
    settings = settings_of_group()
    gap_filler = gap_filler_of(settings)
    with nearest_named(settings.data_dir, symbol, timeframe):
        if cancel:
            chosen = {"symbol": symbol, "timeframe": timeframe} if timeframe else {"id": symbol}
            _cancel(gap_filler, chosen, as_json=as_json)
            return
        requested = {"symbol": symbol, "timeframe": str(timeframe), "from": str(start)}
        _fill(gap_filler, requested, wait=wait, timeout_s=timeout_s, as_json=as_json)


def _cancel(gap_filler: LocalClient, chosen: dict[str, str], *, as_json: bool) -> None:
    response = gap_filler.request(FillsCancelled, "DELETE", "/fills", _WRITE_S, **chosen)
    if as_json:
        show_json(to_json(response))
        return
    for one in response.cancelled:
        show_line(f"{_title(one)} is cancelled; what was fetched stays")


def _fill(
    gap_filler: LocalClient,
    requested: dict[str, str],
    *,
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    from ktrdr.cli.fill_progress import follow, request_fill  # noqa: PLC0415  # rich's bar
    from ktrdr.cli.terminal import Terminal  # noqa: PLC0415  # as above

    accepted = request_fill(gap_filler, requested)
    if not as_json:
        for line in _fill_lines(accepted):
            show_line(line)
    warn_if_simulated(gap_filler.get("/status").get("source"))
    found: FillStatus = accepted
    if wait:
        found = follow(gap_filler, accepted, Terminal(stderr=as_json), timeout_s)
    if as_json:
        show_json({name: value for name, value in to_json(found).items() if name != ACCEPTED})


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


def fills(symbol: OnlySymbol = None, *, as_json: AsJson = False) -> None:
    """List the fills requested with `ktrdr fill`.

    Each with its progress, and what it waits for.

    Example: ktrdr fills AAPL
    """
    gap_filler = gap_filler_of(settings_of_group())
    chosen = {"symbol": symbol} if symbol else {}
    if as_json:
        show_json(gap_filler.get("/fills", _WRITE_S, **chosen))
        return
    listed = gap_filler.request(FillList, "GET", "/fills", _WRITE_S, **chosen).fills
    if not listed and is_terminal():
        show_line("no fills requested")
        return
    columns = ("fill", "series", "from", "state", "present", "expected", "what is known")
    show_rows(columns, [_fill_row(one) for one in listed])


def _fill_row(fill: FillStatus) -> tuple[str, ...]:
    counts = ("?" if count is None else str(count) for count in (fill.present, fill.expected))
    known = "; ".join([*filter(None, [fill.why]), *counts_by_reason(fill.missing)])
    if fill.hint:
        known += f"; next: {' '.join(fill.hint.split())}"
    series = f"{fill.symbol}_{fill.timeframe}"
    return str(fill.id), series, f"{fill.since.date()}", fill.state, *counts, known
