"""The running group as a command meets it: its settings, and its programs at their sockets."""

from __future__ import annotations

from ktrdr.cli.output import note
from ktrdr.config.running_group import settings_to_read_with
from ktrdr.config.settings import Settings
from ktrdr.ipc.client import LocalClient


def settings_of_group(*, reads_bars: bool = False) -> Settings:
    """The settings of a command: the running group's by default. Misconfigured: a contradiction.

    `reads_bars`: it reads a store, and not only the programs' answers.
    """
    settings, remark = settings_to_read_with(reads_bars=reads_bars)
    if remark:
        note(f"ktrdr: {remark}")
    return settings


def gap_filler_of(settings: Settings) -> LocalClient:
    """The gap filler's client."""
    return LocalClient(settings.gap_filler_socket, "gap-filler")


def warn_if_simulated(source: str | None) -> None:
    """Say on standard error that simulated prices are no market prices."""
    if source == "simulated":
        note("SIMULATED: these prices are invented")
