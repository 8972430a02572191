"""`ktrdr alerts`: a test message to every target, and what was notified of."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from typing import NoReturn

import typer

from ktrdr.cli.terminal import Terminal
from ktrdr.config.alert_targets import TARGETS_RULE
from ktrdr.config.running_group import settings_to_read_with
from ktrdr.config.settings import load_settings
from ktrdr.errors import KtrdrError, Misconfigured

alerts = typer.Typer(
    help="Notifications of the group's problems, such as by mail or ntfy.",
    no_args_is_help=True,
    add_completion=False,
)
_out = Terminal(soft_wrap=True)
_err = Terminal(stderr=True, soft_wrap=True)


@alerts.command("test")
def send_test() -> None:
    """Send a test message to each target of KTRDR_ALERTS. Exit code 1 if one did not take it.

    Example: KTRDR_ALERTS=ntfy://ntfy.sh/my-topic ktrdr alerts test
    """
    from ktrdr.alerts.targets import read_targets  # noqa: PLC0415  # apprise is needed here only
    from ktrdr.alerts.wording import message  # noqa: PLC0415  # as above

    try:
        settings = load_settings()  # the group's note has no secrets
        targets = read_targets(settings.alert_targets)
        if not targets:
            raise Misconfigured(f"KTRDR_ALERTS is not set: expected {TARGETS_RULE}")
    except KtrdrError as error:
        _fail(error)
    test = message(
        "a test", ["This is a test: alerts reach you here."], settings.source, platform.node()
    )
    results = {target.name: target.send(test) for target in targets}
    for name, why in results.items():
        _print(f"✗ {name}: {why}" if why else f"✓ {name} has taken it")
    if any(results.values()):
        sys.exit(1)


@alerts.command("list")
def show_list() -> None:
    """Show the problems that there are, since when, and what was sent.

    Example: ktrdr alerts list
    """
    from ktrdr.alerts.record import read_record  # noqa: PLC0415  # as above

    try:
        settings, _ = settings_to_read_with(reads_bars=False)
        record = read_record(settings.alerts_record)
    except KtrdrError as error:
        _fail(error)
    if settings.is_simulated:
        _print("SIMULATED: the prices are invented.")
    for one in record.incidents:
        state = "over, to be told after the quiet hours" if one.is_over else "not sent yet"
        state = f"sent {_shown(one.notified)}" if one.notified else state
        _print(f"since {_shown(one.began)}, {state}: {one.condition.sentence}")
    if not record.incidents:
        _print("no problems are open")
    if record.outgoing:
        _print(f"waiting to be sent: {len(record.outgoing)}")
    for sent in record.sent:
        _print(f"{_shown(sent.time)} to {sent.target}: {sent.title}")


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _fail(error: KtrdrError) -> NoReturn:
    _err.print(f"ktrdr: {error.message}", markup=False, highlight=False)
    sys.exit(1)


def _print(text: str) -> None:
    _out.print(text, markup=False, highlight=False)
