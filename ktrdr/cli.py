"""The command line `ktrdr`: asks the running group and the store. Starts and stops nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TimeRemainingColumn,
)
from rich.table import Table

from ktrdr.config import Settings, load_settings
from ktrdr.data.examination import examine
from ktrdr.data.local_api import Json, LocalClient
from ktrdr.errors import InvalidRequest, KtrdrError, PeerDown, UnknownSeries
from ktrdr.fill_progress import follow
from ktrdr.planning.diagnosis import diagnose
from ktrdr.planning.reasons import because, day_of, remarks
from ktrdr.planning.soundness import Finding, State

app = typer.Typer(
    help="Keeps a folder of OHLCV CSV files complete from Interactive Brokers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
sim = typer.Typer(
    help="The simulated gateway: what it does, and how it fails.", no_args_is_help=True
)
app.add_typer(sim, name="sim")
_out = Console()
_err = Console(stderr=True, soft_wrap=True)


@contextlib.contextmanager
def _explained() -> Iterator[Settings]:
    """Settings for a command; an error of ours ends it with one line and exit code 1."""
    try:
        yield load_settings()
    except KtrdrError as error:
        _err.print(f"ktrdr: {error.message}", markup=False, highlight=False)
        if error.hint:
            _err.print(_next(error.hint), markup=False, highlight=False)
        sys.exit(1)


def _next(hint: str, margin: str = "") -> str:
    """The next step; what follows its first line is to be pasted, and stands below it."""
    return f"{margin}next: " + hint.replace("\n", f"\n{margin}      ")


def _peers(settings: Settings) -> tuple[LocalClient, LocalClient]:
    return (
        LocalClient(settings.connection_socket, "ib-connection"),
        LocalClient(settings.gap_filler_socket, "gap-filler"),
    )


@app.command()
def status() -> None:
    """Show the connection and the gap filler. Exit code 1 when something is down."""
    with _explained() as settings:
        table = Table("program", "what it says", show_header=False)
        fine = True
        for name, client in zip(("ib-connection", "gap-filler"), _peers(settings), strict=True):
            try:
                said = client.get("/status")
            except PeerDown as error:
                fine = False
                table.add_row(name, f"[red]down[/]: {error.message}; {error.hint}")
                continue
            lines = _connection_lines(said) if name == "ib-connection" else _filler_lines(said)
            fine = fine and said.get("connected", True) and said["state"] != "refused"
            table.add_row(name, escape("\n".join(lines)))
        _out.print(table)
        if not fine:
            sys.exit(1)


def _connection_lines(said: Json) -> list[str]:
    gateway = "SIMULATED gateway" if said["gateway"] == "simulated" else "live gateway"
    lines = [f"{said['state']}: {gateway} at {said['host']}:{said['port']}"]
    error = said["last_error"]
    if said["expected"]:
        lines.append(said["expected"])
    elif error and not said["connected"]:
        lines += [error["message"], f"next: {error['hint']}"]
    lines += [f"data farm {farm['name']} is broken" for farm in said["farms"] if not farm["up"]]
    lines += [f"{one['symbol']}: {one['message']}" for one in said["refused"]]
    if said["reminder"]:
        lines.append(said["reminder"])
    return lines


def _filler_lines(said: Json) -> list[str]:
    lines = [f"{said['state']}{': ' + said['reason'] if said['reason'] else ''}"]
    lines.append(f"{said['series']} series in {said['data_dir']}")
    lines.append(f"{said['gaps_remaining']} holes to close, {said['bars_added']} bars added")
    stay = said["unfillable"].items()
    lines += [f"{count} holes stay: {because(reason)}" for reason, count in stay]
    if said["series_blocked"]:
        lines.append(f"{said['series_blocked']} series cannot be kept: see ktrdr gaps")
    return lines


@app.command()
def doctor() -> None:
    """Find out what is wrong with the way to IB, and what to do. Exit code 1 for trouble."""
    with _explained() as settings:
        found = diagnose(examine(settings))
        for finding in found:
            mark = "[red]✗[/]" if finding.is_trouble else "[green]✓[/]"
            _out.print(f"{mark} {escape(finding.what)}", highlight=False)
            if finding.next_step:
                step = escape(_next(finding.next_step, "  "))
                _out.print(step, highlight=False, soft_wrap=True)  # whole lines, to be pasted
        if any(finding.is_trouble for finding in found):
            sys.exit(1)


@app.command()
def scan() -> None:
    """Look for holes now, also in series that were given up."""
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        _out.print(f"scan {gap_filler.post('/scan')['scan_id']} has been asked for")


@app.command()
def gaps(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Argument(help="Only this timeframe.")] = None,
    *,
    day: Annotated[
        str | None, typer.Option(help="Each bar of this trading day, such as 2026-11-20.")
    ] = None,
) -> None:
    """Show each series: bars expected, bars there, and why the others are not."""
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        if day is not None:
            if symbol is None or timeframe is None:
                raise InvalidRequest("--day needs a symbol and a timeframe")
            said = gap_filler.get("/coverage", symbol=symbol, timeframe=timeframe, day=day)
            _out.print(_day_table(said) if said["bars"] else _day_title(said))
            return
        listed = [
            entry
            for entry in gap_filler.get("/coverage", days="0")["series"]
            if symbol in (None, entry["symbol"]) and timeframe in (None, entry["timeframe"])
        ]
        if symbol is not None and not listed:
            raise UnknownSeries(f"the gap filler watches no series of {symbol!r}")
        _out.print(_series_table(listed))


def _series_table(listed: list[Json]) -> Table:
    table = Table("series", "state", "expected", "present", "missing", "last bar")
    for entry in listed:
        missing = [f"{count} {because(reason)}" for reason, count in entry["missing"].items()]
        if entry["error"]:
            code = f" (IB's code {entry['error_code']})" if entry.get("error_code") else ""
            missing.insert(0, f"{entry['error']}{code}")
        table.add_row(
            f"{entry['symbol']}_{entry['timeframe']}",
            entry["state"],
            *("?" if entry[key] is None else str(entry[key]) for key in ("expected", "present")),
            escape("; ".join([*missing, *_remarks_on(entry)])),
            entry["last"] or "",
        )
    return table


def _remarks_on(entry: Json) -> list[str]:
    looked_from, listed, expires = (_moment(entry.get(k)) for k in ("from", "listed", "expires"))
    return remarks(datetime.now(UTC), looked_from, listed, expires, entry.get("sessions_from"))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _day_title(said: Json) -> str:
    return f"{said['day']}: {day_of(said['state'])}"


def _day_table(said: Json) -> Table:
    """The bars of a day, those alike that follow each other in one row."""
    table = Table("from", "to", "bars", "what is known", title=_day_title(said))
    for status, group in groupby(said["bars"], key=lambda bar: bar[1]):
        starts = [start for start, _ in group]
        first, last = (datetime.fromtimestamp(t, UTC) for t in (starts[0], starts[-1]))
        table.add_row(f"{first:%Y-%m-%d %H:%M}", f"{last:%H:%M}", str(len(starts)), because(status))
    return table


@app.command()
def fill(
    symbol: Annotated[str, typer.Argument(help="With --cancel also a number of `ktrdr fills`.")],
    timeframe: Annotated[
        str | None, typer.Argument(help="1m 5m 15m 30m 1h 4h 1d", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="History from this day on, however old.")
    ] = None,
    *,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give it up; what was fetched stays.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Show how far it is, until it is done.")] = True,
) -> None:
    """Fill a series from a day on, however old. It goes on when this command is ended.

    It is kept until it is done or cancelled, over any restart: `ktrdr fill --cancel AAPL 1m`, or
    with its number, `ktrdr fill --cancel 3`. `ktrdr fills` lists all of them.
    """
    if cancel == bool(start):
        raise typer.BadParameter("expected either --from DAY or --cancel")
    if timeframe is None and not (cancel and symbol.isdecimal()):
        raise typer.BadParameter("expected a timeframe behind the symbol, such as 1m")
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        if cancel:
            chosen = {"symbol": symbol, "timeframe": timeframe} if timeframe else {"id": symbol}
            for one in gap_filler.delete("/fills", 5.0, **chosen)["cancelled"]:
                _out.print(f"{_title(one)} is cancelled; what was fetched stays", highlight=False)
            return
        asked = {"symbol": symbol, "timeframe": str(timeframe), "from": str(start)}
        said = gap_filler.post("/fill", 5.0, **asked)
        for line in _fill_lines(said):
            _out.print(line, highlight=False)
        if wait:
            follow(gap_filler, said, _out)


def _title(fill: Json) -> str:
    return f"fill {fill['id']}, {fill['symbol']}_{fill['timeframe']} from {fill['from'][:10]} on,"


def _fill_lines(said: Json) -> list[str]:
    """What was asked for, and what was wanted before."""
    lines = [f"{_title(said)} begins with the newest bars"]
    since = f"since = {said['since'][:10]} in instruments.toml" if said["since"] else ""
    known = [f"fill {one['id']} from {one['from'][:10]} on" for one in said["already"]]
    wanted = ", ".join([*known, since] if since else known)
    return [*lines, f"wanted already, and kept: {wanted}"] if wanted else lines


@app.command()
def fills(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
) -> None:
    """List what was asked for with `ktrdr fill`: how far it is, and what it waits for.

    Where standard output is no terminal: a line each, with tabs between the columns.
    """
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        listed = gap_filler.get("/fills", 5.0, **({"symbol": symbol} if symbol else {}))["fills"]
        columns = ("fill", "series", "from", "state", "present", "expected", "what is known")
        rows = [_fill_row(one) for one in listed]
        if not _out.is_terminal:
            for row in (columns, *rows):
                typer.echo("\t".join(row))
            return
        table = Table(*columns)
        for row in rows:
            table.add_row(*map(escape, row))
        _out.print(table if rows else "nothing was asked for")


def _fill_row(fill: Json) -> tuple[str, ...]:
    counts = ("?" if fill[key] is None else str(fill[key]) for key in ("present", "expected"))
    missing = [f"{count} {because(reason)}" for reason, count in fill["missing"].items()]
    known = "; ".join([*filter(None, [fill["why"]]), *missing])
    if fill["hint"]:
        known += f"; next: {' '.join(fill['hint'].split())}"
    series = f"{fill['symbol']}_{fill['timeframe']}"
    return str(fill["id"]), series, fill["from"][:10], fill["state"], *counts, known


@app.command()
def show(
    symbol: str,
    timeframe: Annotated[str, typer.Argument(help="1m 5m 15m 30m 1h 4h 1d")],
    start: Annotated[str | None, typer.Option(help="From this date or time on (UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Before this date or time (UTC).")] = None,
    *,
    fetch: Annotated[bool, typer.Option(help="Ask IB for what the store lacks.")] = False,
) -> None:
    """Print the bars of a series as CSV, and on standard error whether that is all."""
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415  # pandas, for this alone

    with _explained() as settings, _requests_shown(shown=fetch) as progress:
        frame = DataManager(settings).load(
            symbol, timeframe, start, end, fetch=fetch, progress=progress
        )
        volumes = frame["volume"]
        if (volumes % 1 == 0).all():  # as they stand in the store
            frame["volume"] = volumes.astype("int64")
        frame.to_csv(sys.stdout)
        if not frame.attrs["complete"]:
            _err.print(f"not complete: {frame.attrs['why']}", markup=False, highlight=False)


@contextlib.contextmanager
def _requests_shown(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how many requests to IB are answered."""
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not shown) as progress:
        task = progress.add_task("asking IB", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@app.command()
def export(
    symbols: Annotated[list[str], typer.Argument(help="One or more.")],
    *,
    timeframe: Annotated[str, typer.Option(help="1m 5m 15m 30m 1h 4h 1d")],
    to: Annotated[Path, typer.Option(help="A file that ends in .parquet or .feather.")],
    start: Annotated[str | None, typer.Option(help="From this date or time on (UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Before this date or time (UTC).")] = None,
) -> None:
    """Write bars into a Parquet or Feather file: symbol, timestamp and the values of each."""
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415  # pandas, for this alone
    from ktrdr.data.export import export_bars  # noqa: PLC0415  # as above

    with _explained() as settings:
        frames = export_bars(DataManager(settings), symbols, timeframe, to, start, end)
        count = sum(len(frame) for frame in frames.values())
        _out.print(f"{count:,} bars in {to}", markup=False, highlight=False)
        for symbol, frame in frames.items():
            if not frame.attrs["complete"]:
                why = f"{symbol} is not complete: {frame.attrs['why']}"
                _err.print(why, markup=False, highlight=False)


@app.command()
def check(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Argument(help="Only this timeframe.")] = None,
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without loss; keep the old file.")
    ] = False,
) -> None:
    """Read the whole store and tell what is broken in it. Exit code 1 when something is or stays.

    It needs none of the programs, and may run beside them.
    """
    from ktrdr.data.store_check import StoreCheck  # noqa: PLC0415  # the store, for this alone

    with _explained() as settings:
        began = time.monotonic()
        store = StoreCheck(settings.data_dir)
        listed = store.series(symbol, timeframe)
        checked = [] if symbol or timeframe else store.check_rest(fix=fix)
        with _out.status("") as shown:
            for number, series in enumerate(listed, 1):
                shown.update(f"{number} of {len(listed)}: {escape(series.file_name)}")
                checked.append(store.check(series, fix=fix))
        findings = [finding for one in checked for finding in one.findings]
        if findings:
            _out.print(_findings_table(findings))
        for folder in sorted({one.kept.parent for one in checked if one.kept}):
            _out.print(f"the old files are in {folder}", markup=False, highlight=False)
        rows, taken_s = sum(one.rows for one in checked), time.monotonic() - began
        _out.print(f"{len(listed):,} files, {rows:,} rows, {taken_s:.1f} s: {_verdict(findings)}")
        if any(finding.is_broken for finding in findings):
            sys.exit(1)


def _findings_table(findings: list[Finding]) -> Table:
    table = Table("file", "line", "what is broken", "how it is mended")
    for finding in findings:
        lines = ", ".join(map(str, finding.lines))
        more = finding.count - len(finding.lines)
        if lines and more > 0:
            lines += f" and {more:,} more"
        mend = f"done: {finding.mend}" if finding.state is State.MENDED else finding.mend
        table.add_row(*map(escape, (finding.where, lines, finding.what, mend)))
    return table


def _verdict(findings: list[Finding]) -> str:
    """How much is broken, and what to do about it."""
    counts = Counter(finding.state for finding in findings)
    if not counts.keys() - {State.NOTE}:
        return "every promise is kept"
    told = [f"{counts[state]} {state.value}" for state in State if counts[state]]
    next_step = "; ktrdr check --fix mends it" if counts[State.MENDABLE] else ""
    return "; ".join(told) + next_step


def _simulator(settings: Settings) -> LocalClient:
    return LocalClient(settings.sim_socket, "gateway-sim")


@sim.command("status")
def sim_status() -> None:
    """Show where it listens, its clock, who is connected and what is broken."""
    with _explained() as settings:
        _out.print_json(data=_simulator(settings).get("/status"))


@sim.command("summary")
def sim_summary() -> None:
    """Show what was asked of it, in numbers."""
    with _explained() as settings:
        _out.print_json(data=_simulator(settings).get("/record/summary"))


@sim.command("faults")
def sim_faults() -> None:
    """List the faults that there are."""
    with _explained() as settings:
        table = Table("fault", "what it does", "parameters")
        for name, fault in _simulator(settings).get("/faults").items():
            values = " ".join(f"{key}={value}" for key, value in fault["values"].items())
            table.add_row(name, fault["says"], values)
        _out.print(table)


@sim.command("fault")
def sim_fault(
    name: Annotated[str, typer.Argument(help="One of `ktrdr sim faults`.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="Parameters, and for_s=SECONDS to end it then.")
    ] = None,
    *,
    end: Annotated[bool, typer.Option("--end", help="End it; logged_out: log in.")] = False,
) -> None:
    """Break the simulated gateway, such as `ktrdr sim fault late seconds=3 for_s=60`."""
    with _explained() as settings:
        path = f"/fault/{quote(name, safe='')}"
        if end:
            said = _simulator(settings).delete(path)
        else:
            given = [value.partition("=")[::2] for value in values or []]
            said = _simulator(settings).post(f"{path}?{urlencode(given)}")
        _out.print_json(data=said["faults"])


if __name__ == "__main__":
    app()
