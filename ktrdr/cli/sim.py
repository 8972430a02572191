"""`ktrdr sim`: the simulated gateway, and how it is made to fail."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import typer
from rich.table import Table

from ktrdr.cli.group import out, settings_of_group
from ktrdr.config.settings import Settings
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.query import expect_text

sim = typer.Typer(
    help="The simulated gateway: what it does, and how it fails.",
    no_args_is_help=True,
    add_completion=False,
)


@sim.command("status")
def sim_status() -> None:
    """Show where it listens, its clock, its clients and its faults."""
    with settings_of_group() as settings:
        out.print_json(data=_simulator(settings).get("/status"), ensure_ascii=True)


@sim.command("summary")
def sim_summary() -> None:
    """Show how many requests it has received."""
    with settings_of_group() as settings:
        out.print_json(data=_simulator(settings).get("/record/summary"), ensure_ascii=True)


@sim.command("faults")
def sim_faults() -> None:
    """List all faults with their parameters."""
    with settings_of_group() as settings:
        table = Table("fault", "what it does", "parameters")
        for name, fault in _simulator(settings).get("/faults").items():
            values = " ".join(f"{key}={value}" for key, value in fault["values"].items())
            table.add_row(name, fault["says"], values)
        out.print(table)


@sim.command("fault")
def sim_fault(
    name: Annotated[str, typer.Argument(help="One of `ktrdr sim faults`.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="Parameters; for_s=SECONDS ends it after that time.")
    ] = None,
    *,
    end: Annotated[bool, typer.Option("--end", help="End it; logged_out: log in.")] = False,
) -> None:
    """Break the simulated gateway, such as `ktrdr sim fault late seconds=3 for_s=60`."""
    with settings_of_group() as settings:
        given = [value.partition("=")[::2] for value in values or []]
        expect_text({"fault": name, **dict(given)})
        path = f"/fault/{quote(name, safe='')}"
        if end:
            status = _simulator(settings).delete(path)
        else:
            status = _simulator(settings).post(f"{path}?{urlencode(given)}")
        out.print_json(data=status["faults"], ensure_ascii=True)


def _simulator(settings: Settings) -> LocalClient:
    return LocalClient(settings.sim_socket, "gateway-sim")
