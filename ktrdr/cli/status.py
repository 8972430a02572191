"""`ktrdr status`: the verdict, what needs a person, and the programs' states."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from ktrdr.cli.group import next_step, out, settings_of_group
from ktrdr.config.settings import Settings
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus
from ktrdr.ipc.wording import because

if TYPE_CHECKING:
    from ktrdr.health.system import Snapshot
    from ktrdr.health.verdict import Concern, Verdict


def status() -> None:
    """Show the group's health and what needs you. Exit code 1 unless all is well."""
    with settings_of_group() as settings:
        found = check_group(settings)
        print_summary(found.verdict)
        for concern in found.verdict.concerns:
            print_concern(concern)
        out.print(_group_table(found))
        if found.verdict.health != "healthy":
            sys.exit(1)


def check_group(settings: Settings) -> Snapshot:
    """The whole group now."""
    from ktrdr.health.supervisor import find_supervisor  # noqa: PLC0415  # psutil is needed here only
    from ktrdr.health.system import System  # noqa: PLC0415  # as above

    return System(settings, find_supervisor(settings.run_dir)).snapshot()


def print_summary(verdict: Verdict) -> None:
    """Print the health and the sentence."""
    color = {"healthy": "green", "degraded": "yellow"}.get(verdict.health, "red")
    out.print(f"[{color}]{verdict.health}[/] {escape(verdict.summary)}", highlight=False)


def print_concern(concern: Concern) -> None:
    """Print a concern with its consequence and the next step."""
    mark = "[red]✗[/]" if concern.next_step else "[yellow]…[/]"
    out.print(f"{mark} {escape(concern.claim)}", highlight=False, soft_wrap=True)
    if concern.consequence:
        out.print(escape(f"  {concern.consequence}"), highlight=False, soft_wrap=True)
    if concern.next_step:  # whole lines, to be pasted
        out.print(escape(next_step(concern.next_step, "  ")), highlight=False, soft_wrap=True)


def _group_table(found: Snapshot) -> Table:
    table = Table("program", "state", show_header=False)
    connection, filler = found.connection, found.gap_filler
    lines = {
        "ib-connection": _connection_lines(connection.content) if connection.content else [],
        "gap-filler": _filler_lines(filler.content) if filler.content else [],
    }
    reasons = {"ib-connection": connection.reason, "gap-filler": filler.reason}
    for name, shown in lines.items():
        table.add_row(name, escape("\n".join(shown or [f"down: {reasons[name]}"])))
    return table


def _connection_lines(status: ConnectionStatus) -> list[str]:
    gateway = "SIMULATED gateway" if status.gateway == "simulated" else "live gateway"
    state = status.state.replace("_", " ")
    lines = [f"{state}: {gateway} at {status.host}:{status.port}"]
    if status.expected:
        lines.append(status.expected)
    if status.no_data_since and not status.expected:
        lines.append(f"no data since {status.no_data_since:%Y-%m-%d %H:%M:%S} UTC")
    lines += [f"data farm {farm.name} is broken" for farm in status.farms if not farm.up]
    if status.reminder:
        lines.append(status.reminder)
    return lines


def _filler_lines(status: GapFillerStatus) -> list[str]:
    lines = [f"{status.state}{f': {status.reason}' if status.reason else ''}"]
    lines.append(
        f"{status.series_current} of {status.series} series complete, in {status.data_dir}"
    )
    lines.append(f"{status.gaps_remaining} gaps to close, {status.gaps_failed} of them failed")
    if status.waits_for and status.waits_for != status.reason:
        lines.append(f"waits for {status.waits_for}")
    elif status.eta_words:
        lines.append(f"done in {status.eta_words}")
    stay = status.unfillable.items()
    lines += [f"{count} gaps remain: {because(reason)}" for reason, count in stay]
    if status.counted_since:
        since = f"{status.counted_since:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(
            f"since {since}: {status.bars_added} bars added, {status.gaps_filled} gaps filled"
        )
    return lines
