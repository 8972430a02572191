"""`ktrdr alerts`: a test message to every target, and what was notified of."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime

import typer

from ktrdr.alerts.record import Record, read_record
from ktrdr.cli.arguments import AsJson
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_json, show_line
from ktrdr.config.alert_targets import TARGETS_RULE
from ktrdr.config.settings import load_settings
from ktrdr.errors import Misconfigured
from ktrdr.ipc.messages import Json

alerts = typer.Typer(
    help="Notifications of the group's problems, such as by mail or ntfy."
    "\n\nExample: ktrdr alerts list",
    no_args_is_help=True,
    add_completion=False,
)


@alerts.command("test")
def send_test(*, as_json: AsJson = False) -> None:
    """Send a test message to each target of KTRDR_ALERTS. Exit code 1 if one did not take it.

    Example: KTRDR_ALERTS=ntfy://ntfy.sh/my-topic ktrdr alerts test
    """
    from ktrdr.alerts.targets import read_targets  # noqa: PLC0415  # apprise is needed here only
    from ktrdr.alerts.wording import message  # noqa: PLC0415  # as above

    settings = load_settings()  # the group's note has no secrets
    targets = read_targets(settings.alert_targets)
    if not targets:
        raise Misconfigured(f"KTRDR_ALERTS is not set: expected {TARGETS_RULE}")
    test = message(
        "a test", ["This is a test: alerts reach you here."], settings.source, platform.node()
    )
    results = {target.name: target.send(test) for target in targets}
    if as_json:
        show_json({"targets": [{"name": n, "error": why or None} for n, why in results.items()]})
    else:
        for name, why in results.items():
            show_line(f"{name}: {why}" if why else f"{name} has taken it", *_mark(why))
    if any(results.values()):
        sys.exit(ExitCode.NOT_GREEN)


def _mark(why: str) -> tuple[str, str]:
    return ("✗", "red") if why else ("✓", "green")


@alerts.command("list")
def show_list(*, as_json: AsJson = False) -> None:
    """Show the problems that there are, since when, and what was sent.

    Example: ktrdr alerts list
    """
    settings = settings_of_group()
    record = read_record(settings.alerts_record)
    # The group's note has no secrets: what was recorded shows that it has targets, if we have none.
    is_on = record != Record() or bool(load_settings().alert_targets)
    if as_json:
        show_json(_as_json(record) | {"source": settings.source, "is_on": is_on})
        return
    if settings.is_simulated:
        show_line("SIMULATED: the prices are invented.")
    if is_on:
        _show(record)
    else:
        show_line("alerts are off: KTRDR_ALERTS is not set. `ktrdr` says what is wrong now.")


def _show(record: Record) -> None:
    for one in record.incidents:
        state = "over, to be told after the quiet hours" if one.is_over else "not sent yet"
        state = f"sent {_shown(one.notified)}" if one.notified else state
        show_line(f"since {_shown(one.began)}, {state}: {one.condition.sentence}")
    if not record.incidents:
        show_line("no problems are open")
    if record.outgoing:
        show_line(f"waiting to be sent: {len(record.outgoing)}")
    for sent in record.sent:
        show_line(f"{_shown(sent.time)} to {sent.target}: {sent.title}")


def _as_json(record: Record) -> Json:
    return {
        "problems": [
            {
                "since": _iso(one.began),
                "sent": _iso(one.notified) if one.notified else None,
                "is_over": one.is_over,
                "problem": one.condition.sentence,
            }
            for one in record.incidents
        ],
        "waiting_to_be_sent": len(record.outgoing),
        "sent": [
            {"time": _iso(sent.time), "target": sent.target, "title": sent.title}
            for sent in record.sent
        ],
    }


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
