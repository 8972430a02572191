"""PROGRAM gateway-sim: the simulated gateway on the command line. See `--help`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated

import typer

from ktrdr import process
from ktrdr.config.settings import Settings
from ktrdr.errors import AlreadyRunning
from ktrdr.sim.gateway.clock import parse_start
from ktrdr.sim.gateway.control import control_of
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.gateway.options import GatewayOptions
from ktrdr.sim.gateway.restart_plan import Nights
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.market.bars import Alignment
from ktrdr.sim.market.replay import export, read_replay
from ktrdr.sim.market.sample_store import write_sample_store

_STOP_CHECK_S = 0.2

log = logging.getLogger(__name__)

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on; 0: any free one, named in the log. "
            "[default: KTRDR_SIM_PORT, else 4102]",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(envvar="KTRDR_SIM_SEED", help="Seed of the generated market.")
    ] = 1,
    replay: Annotated[
        Path | None,
        typer.Option(
            envvar="KTRDR_SIM_REPLAY",
            help="Serve the bars of SYMBOL_TIMEFRAME.csv files in this folder instead of "
            "generated ones, shifted by whole weeks so that the last bar is in last week.",
        ),
    ] = None,
    export_to: Annotated[
        Path | None,
        typer.Option(
            help="With --replay: write the shifted bars into this folder as files, and exit."
        ),
    ] = None,
    sample_store: Annotated[
        Path | None,
        typer.Option(
            "--starter-store",
            help="Write 60 series with gaps into this folder, for a demonstration, and exit. "
            "A folder that has bar files already is left alone.",
        ),
    ] = None,
    account: Annotated[
        str, typer.Option(envvar="KTRDR_SIM_ACCOUNT", help="The account that clients see.")
    ] = "DU1000000",
    latency_ms: Annotated[
        float,
        typer.Option(
            min=0, envvar="KTRDR_SIM_LATENCY_MS", help="Latency of every response, in milliseconds."
        ),
    ] = 100,
    bars_per_second: Annotated[
        float,
        typer.Option(
            min=1,
            envvar="KTRDR_SIM_BARS_PER_SECOND",
            help="Throughput: bars sent per second.",
        ),
    ] = 20000,
    record: Annotated[
        Path | None,
        typer.Option(
            envvar="KTRDR_SIM_RECORD",
            help="Append a JSON line for every request, and one for its response.",
        ),
    ] = None,
    alignment: Annotated[
        Alignment,
        typer.Option(help="Where bars of 2 to 8 hours begin, which IB does not document."),
    ] = Alignment.WALL_CLOCK,
    control: Annotated[
        Path | None,
        typer.Option(
            help="Serve the controls (status, record, faults) at this Unix socket. "
            "[default: gateway-sim.sock in KTRDR_RUN_DIR, unless in use]",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Start time of the clock, such as 2026-03-06T20:00 (UTC)."),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.01, help="Speed of the clock, as a multiple of real time.")
    ] = 1.0,
    restart_at: Annotated[
        str | None,
        typer.Option(help="Restart every day at this time in New York; IB's default is 23:45."),
    ] = None,
    restart_s: Annotated[
        float, typer.Option(min=0, help="Duration of a restart, in seconds of its clock.")
    ] = 60,
    sunday_log_out: Annotated[
        bool,
        typer.Option(help="Log out on Sundays at 01:00 in New York, until login."),
    ] = False,
    login_after_s: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds of its clock until login."),
    ] = None,
    no_small_bar_rules: Annotated[
        bool, typer.Option(help="No pacing of small bars and head timestamps.")
    ] = False,
    open_requests: Annotated[
        int, typer.Option(min=0, help="History requests open at once; 0: any number.")
    ] = 50,
    messages_per_second: Annotated[
        int, typer.Option(min=0, help="Messages per second from one client; 0: any number.")
    ] = 50,
    clients: Annotated[int, typer.Option(min=0, help="Clients at once; 0: any number.")] = 32,
    id_lingers_s: Annotated[
        float, typer.Option(min=0, help="Seconds for which a dropped client's id stays in use.")
    ] = 0,
    soft_per_minute: Annotated[
        int,
        typer.Option(
            min=0, help="History requests per minute before responses slow down; 0: never."
        ),
    ] = 0,
) -> None:
    """A simulated IB Gateway: any client of the TWS API (protocol 157 to 178) can connect.

    It knows about 40 US stocks and ETFs, five indices, all pairs of common currencies, dated and
    continuous CME futures and four crypto coins, with real sessions and invented prices, or the
    bars of --replay; and symbols with one difficulty each: ILLIQ FLATV FRESH GONE TWIN NOPERM
    SPLT TWOF. It answers requests for contract details, head timestamps, schedules and historical
    bars of all of IB's sizes, with keepUpToDate. It streams nothing else, and refuses every order.

    Try it: python -m ktrdr.sim, and in another window
    IB().connect("127.0.0.1", 4102) with ib_insync.
    """
    if export_to and not replay:
        raise typer.BadParameter("--export-to needs --replay")

    options = GatewayOptions(
        host=host,
        account=account,
        latency_s=latency_ms / 1000,
        bars_per_s=bars_per_second,
        start=_instant(start),
        speed=speed,
        limits=Limits(
            small_bars=not no_small_bar_rules,
            open_requests=open_requests or None,
            messages_per_s=messages_per_second or None,
            clients=clients or None,
            id_lingers_s=id_lingers_s,
            soft_per_min=soft_per_minute or None,
        ),
        nights=Nights(_time(restart_at), restart_s, sunday_log_out, login_after_s),
        seed=seed,
        replay=replay,
        alignment=alignment,
        record_to=record,
        keep_record=False,
    )

    def work(settings: Settings, stop: threading.Event) -> None:
        if sample_store:
            typer.echo(write_sample_store(sample_store, seed, datetime.now(UTC)))
        elif export_to and replay:
            for path in export(read_replay(replay, datetime.now(UTC)), replay, export_to):
                typer.echo(path)
        else:
            place = settings.ktrdr_sim_port if port is None else port
            gateway = SimulatedGateway(options, port=place)
            asyncio.run(_serve(gateway, control, settings.sim_socket, stop))
            typer.echo(json.dumps(gateway.summary(), indent=2))

    process.run("gateway-sim", work, exclusive=False)


async def _serve(
    gateway: SimulatedGateway, control: Path | None, usual: Path, stop: threading.Event
) -> None:
    """Serve until stopped; without controls if the default socket is in use."""
    async with gateway, contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(control_of(gateway, control or usual))
        except AlreadyRunning as error:
            if control:
                raise
            log.warning("no controls: %s; --control PATH chooses another place", error)
        while not stop.is_set():  # noqa: ASYNC110  a signal sets a thread's event
            await asyncio.sleep(_STOP_CHECK_S)


def _time(text: str | None) -> time | None:
    try:
        return time.fromisoformat(text) if text else None
    except ValueError:
        raise typer.BadParameter(f"--restart-at {text}: expected HH:MM") from None


def _instant(text: str | None) -> datetime | None:
    try:
        return parse_start(text) if text else None
    except ValueError:
        raise typer.BadParameter(f"--start {text}: expected YYYY-MM-DDTHH:MM") from None


if __name__ == "__main__":
    app()
