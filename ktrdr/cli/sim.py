"""`ktrdr sim`: the simulated gateway, and how it is made to fail."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_json, show_rows
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.text import expect_text

sim = typer.Typer(
    help="The simulated gateway: what it does, and how it fails.\n\nExample: ktrdr sim faults",
    no_args_is_help=True,
    add_completion=False,
)
_JSON_ANYWAY = typer.Option("--json", help="It is JSON in any case.")


@sim.command("status")
def sim_status(*, as_json: Annotated[bool, _JSON_ANYWAY] = True) -> None:  # noqa: ARG001
    """Show where it listens, its clock, its clients and its faults, as JSON.

    Example: ktrdr sim status
    """
    show_json(_simulator().get("/status"))


@sim.command("summary")
def sim_summary(*, as_json: Annotated[bool, _JSON_ANYWAY] = True) -> None:  # noqa: ARG001
    """Show how many requests it has received, as JSON.

    Example: ktrdr sim summary
    """
    show_json(_simulator().get("/record/summary"))


@sim.command("faults")
def sim_faults(*, as_json: AsJson = False) -> None:
    """List all faults with their parameters.

    Example: ktrdr sim faults
    """
    faults = _simulator().get("/faults")
    if as_json:
        show_json(faults)
        return
    rows = [
        (name, fault["says"], " ".join(f"{key}={value}" for key, value in fault["values"].items()))
        for name, fault in faults.items()
    ]
    show_rows(("fault", "what it does", "parameters"), rows)


@sim.command("fault")
def sim_fault(
    name: Annotated[str, typer.Argument(help="One of `ktrdr sim faults`.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="Parameters; for_s=SECONDS ends it after that time.")
    ] = None,
    *,
    end: Annotated[bool, typer.Option("--end", help="End it; logged_out: log in.")] = False,
    as_json: Annotated[bool, _JSON_ANYWAY] = True,  # noqa: ARG001
) -> None:
    """Break the simulated gateway. Prints the faults that there are now, as JSON.

    Example: ktrdr sim fault late seconds=3 for_s=60

    Example: ktrdr sim fault late --end
    """
    given = [value.partition("=")[::2] for value in values or []]
    expect_text({"fault": name, **dict(given)})
    simulator, path = _simulator(), f"/fault/{quote(name, safe='')}"
    status = simulator.delete(path) if end else simulator.post(f"{path}?{urlencode(given)}")
    show_json(status["faults"])


def _simulator() -> LocalClient:
    return LocalClient(settings_of_group().sim_socket, "gateway-sim")
