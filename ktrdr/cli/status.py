"""`ktrdr status`: the verdict, what needs a person, and the programs' states."""

from __future__ import annotations

import sys
from typing import NoReturn

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_json, show_line, show_next
from ktrdr.config.settings import Settings
from ktrdr.health.supervisor import find_supervisor
from ktrdr.health.system import Snapshot, System
from ktrdr.health.system_json import system_json
from ktrdr.health.verdict import Concern, Health, Verdict
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus
from ktrdr.ipc.wording import because, differing, noun

_COLORS = {Health.HEALTHY: "green", Health.DEGRADED: "yellow", Health.CRITICAL: "red"}
_INDENT = 15


def status(*, as_json: AsJson = False) -> None:
    """Show the group's health and what needs you. Exit code 1 unless all is well.

    Exit code 3 if ib-connection or gap-filler does not answer.

    Example: ktrdr status
    """
    found = check_group(settings_of_group())
    if as_json:
        show_json(system_json(found))
    else:
        show_verdict(found.verdict)
        for concern in found.verdict.concerns:
            show_concern(concern)
        for line in _program_lines(found):
            show_line(line)
    sys.exit(code_of_group(found, found.verdict))


def show_what_needs_you() -> NoReturn:
    """`ktrdr` alone: the verdict, and what a person has to do; the same steps once."""
    found = check_group(settings_of_group())
    show_verdict(found.verdict)
    steps: dict[str, list[Concern]] = {}
    for concern in found.verdict.needs_person:
        steps.setdefault(concern.next_step, []).append(concern)
    for step, concerns in steps.items():
        for concern in concerns:
            show_line(concern.claim, "✗", "red")
        show_next(step, "  ")
    sys.exit(code_of_group(found, found.verdict))


def check_group(settings: Settings) -> Snapshot:
    """The whole group now."""
    return System(settings, find_supervisor(settings.run_dir)).snapshot()


def code_of_group(found: Snapshot, verdict: Verdict) -> ExitCode:
    """The exit code of a command that shows this verdict."""
    if found.connection.content is None or found.gap_filler.content is None:
        return ExitCode.DOWN
    return ExitCode.GREEN if verdict.health is Health.HEALTHY else ExitCode.NOT_GREEN


def show_verdict(verdict: Verdict) -> None:
    """Print the health and the sentence."""
    show_line(verdict.summary, mark=verdict.health, color=_COLORS[verdict.health])


def show_concern(concern: Concern) -> None:
    """Print a concern with its consequence and the next step."""
    mark = ("✗", "red") if concern.next_step else ("…", "yellow")
    show_line(concern.claim, *mark)
    if concern.consequence:
        show_line(f"  {concern.consequence}")
    show_next(concern.next_step, "  ")


def _program_lines(found: Snapshot) -> list[str]:
    connection, filler = found.connection, found.gap_filler
    programs = {
        "ib-connection": _connection_lines(connection.content)
        if connection.content
        else [f"down: {connection.why}"],
        "gap-filler": _filler_lines(filler.content) if filler.content else [f"down: {filler.why}"],
    }
    margin = "\n" + " " * _INDENT
    return [f"{name:{_INDENT}}{margin.join(lines)}" for name, lines in programs.items()]


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
    left, failed = status.gaps_remaining, status.gaps_failed
    lines.append(
        f"{left} {noun(left, 'gap')} to close{f', {failed} of them failed' if failed else ''}"
    )
    if status.waits_for and status.waits_for != status.reason:
        lines.append(f"waits for {status.waits_for}")
    elif status.eta_words:
        lines.append(f"done in {status.eta_words}")
    stay = status.unfillable.items()
    lines += [
        f"{count} {'gap remains' if count == 1 else 'gaps remain'}: {because(reason)}"
        for reason, count in stay
    ]
    if status.bars_differing:
        files = f"{status.series_differing} {noun(status.series_differing, 'file')} of others"
        lines.append(f"{differing(status.bars_differing)}, in {files}: left as they are")
    if count := status.series_comparing:
        are = "is" if count == 1 else "are"
        files = f"{count} imported {noun(count, 'file')} {are}"
        lines.append(f"{files} not wholly compared with IB’s bars yet")
    if status.counted_since:
        since = f"{status.counted_since:%Y-%m-%d %H:%M:%S} UTC"
        bars, gaps = status.bars_added, status.gaps_filled
        counts = f"{bars} {noun(bars, 'bar')} added, {gaps} {noun(gaps, 'gap')} filled"
        lines.append(f"since {since}: {counts}")
    return lines
