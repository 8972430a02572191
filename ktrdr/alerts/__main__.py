"""PROGRAM alerts: notifies people of the group's problems until it is stopped."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ktrdr import process
from ktrdr.alerts.service import Service
from ktrdr.alerts.targets import read_targets
from ktrdr.config.alert_targets import TARGETS_RULE
from ktrdr.config.settings import Settings
from ktrdr.errors import Misconfigured
from ktrdr.health.supervisor import find_supervisor
from ktrdr.health.system import System

_EVERY_S = 2.0
_LAST_SENDING_S = 5.0


def serve(settings: Settings, stop: threading.Event) -> None:
    """Look and notify until `stop` is set. Misconfigured: there are no targets, or wrong ones."""
    targets = read_targets(settings.alert_targets)
    if not targets:
        raise Misconfigured(f"KTRDR_ALERTS is not set: expected {TARGETS_RULE}")
    system = System(settings, _supervisor_socket(settings), own="alerts")
    service = Service(settings, targets, system.snapshot)
    while not stop.is_set():
        service.step()
        stop.wait(_EVERY_S)
    service.finish(_LAST_SENDING_S)


def _supervisor_socket(settings: Settings) -> Path:
    """The supervisord that started us, else the one of the run folder."""
    url = os.environ.get("SUPERVISOR_SERVER_URL", "")
    if url.startswith("unix://"):
        return Path(url.removeprefix("unix://"))
    return find_supervisor(settings.run_dir)


if __name__ == "__main__":
    process.run("alerts", serve)
