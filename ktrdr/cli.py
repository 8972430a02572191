"""The command line `ktrdr`: asks the running group and the store. Starts and stops nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ktrdr.config import Settings, load_settings
from ktrdr.data.examination import examine
from ktrdr.data.local_api import Json, LocalClient
from ktrdr.errors import KtrdrError, PeerDown, UnknownSeries
from ktrdr.planning.diagnosis import diagnose

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
            _err.print(f"next: {error.hint}", markup=False, highlight=False)
        sys.exit(1)


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
    lines += [f"{count} holes stay: {reason}" for reason, count in said["unfillable"].items()]
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
                _out.print(f"  next: {escape(finding.next_step)}", highlight=False)
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
) -> None:
    """Show each series: bars expected, bars there, and why the others are not."""
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        said = gap_filler.get("/coverage", days="0")
        if symbol is not None and all(entry["symbol"] != symbol for entry in said["series"]):
            raise UnknownSeries(f"the gap filler watches no series of {symbol!r}")
        table = Table("series", "state", "expected", "present", "missing", "last bar")
        for entry in said["series"]:
            if symbol not in (None, entry["symbol"]):
                continue
            missing = ", ".join(f"{count} {reason}" for reason, count in entry["missing"].items())
            table.add_row(
                f"{entry['symbol']}_{entry['timeframe']}",
                entry["state"],
                *(
                    "?" if entry[key] is None else str(entry[key])
                    for key in ("expected", "present")
                ),
                escape(entry["error"] or missing),
                entry["last"] or "",
            )
        _out.print(table)


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

    with _explained() as settings:
        frame = DataManager(settings).load(symbol, timeframe, start, end, fetch=fetch)
        volumes = frame["volume"]
        if (volumes % 1 == 0).all():  # as they stand in the store
            frame["volume"] = volumes.astype("int64")
        frame.to_csv(sys.stdout)
        if not frame.attrs["complete"]:
            _err.print(f"not complete: {frame.attrs['why']}", markup=False, highlight=False)


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
