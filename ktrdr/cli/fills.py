"""`ktrdr fill` and `ktrdr fills`: history is requested, followed, changed and listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson, OnlySymbol
from ktrdr.cli.completion import complete_symbol, complete_timeframe
from ktrdr.cli.fill_changes import Change, change_fills, title
from ktrdr.cli.group import gap_filler_of, settings_of_group, warn_if_simulated
from ktrdr.cli.nearest import checked_timeframe, chosen_of
from ktrdr.cli.output import is_terminal, show_json, show_line, show_rows
from ktrdr.cli.stored_names import nearest_named
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import ACCEPTED, FillAccepted, FillList, FillStatus
from ktrdr.ipc.series_messages import WatchList
from ktrdr.ipc.wording import counts_by_reason
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe

_WRITE_S = 5.0
"""A request that is written down: the ledger may be locked for a moment."""

_Name = Annotated[
    str,
    typer.Argument(
        help="With --cancel, --pause and --resume also a number from `ktrdr fills`.",
        autocompletion=complete_symbol,
    ),
]
_Timeframe = Annotated[
    str | None,
    typer.Argument(
        help="1m 5m 15m 30m 1h 4h 1d", show_default=False, autocompletion=complete_timeframe
    ),
]
_From = Annotated[str | None, typer.Option("--from", help="History from this day on, however old.")]
_Cancel = Annotated[
    bool, typer.Option("--cancel", help="Cancel the fill; the bars fetched so far stay.")
]
_Pause = Annotated[
    bool, typer.Option("--pause", help="Request nothing for the fill until it is resumed.")
]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on with a paused fill.")]
_Wait = Annotated[bool, typer.Option(help="Show the progress until it is done.")]
_Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=0, help="Wait at most so many seconds; exit code 1 if it is not done."
    ),
]


def fill(
    symbol: _Name,
    timeframe: _Timeframe = None,
    start: _From = None,
    *,
    cancel: _Cancel = False,
    pause: _Pause = False,
    resume: _Resume = False,
    wait: _Wait = True,
    timeout_s: _Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Fill a series from a day on, however old. It goes on when this command is ended.

    It is kept, also over restarts, until it is done or cancelled. It is cancelled, paused and
    resumed by its series or by its number. `ktrdr fills` lists all fills.

    Example: ktrdr fill AAPL 1m --from 2020-01-01 --timeout 600

    Example: ktrdr fill --cancel AAPL 1m
    """
    change = _change(start, {Change.CANCEL: cancel, Change.PAUSE: pause, Change.RESUME: resume})
    if timeframe is None and not (change and symbol.isdecimal()):
        raise typer.BadParameter("expected a timeframe after the symbol, such as 1m")
    timeframe = checked_timeframe(timeframe)
    settings = settings_of_group()
    gap_filler = gap_filler_of(settings)
    with nearest_named(settings.data_dir, symbol, timeframe):
        if change:
            chosen = {"symbol": symbol, "timeframe": timeframe} if timeframe else {"id": symbol}
            change_fills(gap_filler, change, chosen, as_json=as_json)
            return
        requested = {"symbol": symbol, "timeframe": str(timeframe), "from": str(start)}
        _fill(gap_filler, requested, wait=wait, timeout_s=timeout_s, as_json=as_json)


def _change(start: str | None, flags: Mapping[Change, bool]) -> Change | None:
    """What is to be done to fills that there are; None: one is requested, from `start` on."""
    wanted = [change for change, is_wanted in flags.items() if is_wanted]
    if len(wanted) + bool(start) != 1:
        raise typer.BadParameter("expected one of --from DAY, --cancel, --pause and --resume")
    return wanted[0] if wanted else None


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


def _fill_lines(accepted: FillAccepted) -> list[str]:
    """What was requested now, and what had been requested before."""
    lines = [f"{title(accepted)} begins with the newest bars"]
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
    listed = gap_filler.request(FillList, "GET", "/fills", _WRITE_S, **chosen).fills
    if symbol and not listed:
        _refuse_unknown(gap_filler, symbol)
    if as_json:
        show_json(gap_filler.get("/fills", _WRITE_S, **chosen))
        return
    if not listed and is_terminal():
        show_line("no fills requested")
        return
    columns = ("fill", "series", "from", "state", "present", "expected", "what is known")
    show_rows(columns, [_fill_row(one) for one in listed])


def _refuse_unknown(gap_filler: LocalClient, symbol: str) -> None:
    """UnknownSeries: the store has no series of this symbol, so that nobody can fill it."""
    kept = gap_filler.request(WatchList, "GET", "/series", _WRITE_S).series
    series = [Series(one.symbol, Timeframe.parse(one.timeframe)) for one in kept]
    chosen_of(series, "the store", symbol, None)


def _fill_row(fill: FillStatus) -> tuple[str, ...]:
    counts = ("?" if count is None else str(count) for count in (fill.present, fill.expected))
    known = "; ".join([*filter(None, [fill.why]), *counts_by_reason(fill.missing)])
    if fill.hint:
        known += f"; next: {' '.join(fill.hint.split())}"
    series = f"{fill.symbol}_{fill.timeframe}"
    return str(fill.id), series, f"{fill.since.date()}", fill.state, *counts, known
