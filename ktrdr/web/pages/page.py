"""A page: its address, its name in the navigation, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktrdr.config.settings import Settings
from ktrdr.health.recorder import Recorder
from ktrdr.health.simulator import Simulator
from ktrdr.health.system import Snapshot, System

Values = Mapping[str, str]
"""The parameters of a page, from its path and query; empty where they are not given."""


@dataclass(frozen=True)
class Site:
    """What pages are made from: the group, its logs' folder, the simulated gateway, the past."""

    system: System
    log_dir: Path
    simulator: Simulator
    recorder: Recorder


@dataclass(frozen=True)
class Page:
    """One page. Its template is `NAME.html`."""

    name: str
    path: str
    label: str
    """In the navigation; empty: it is not there."""
    view: Callable[[Site, Snapshot, Values], dict[str, Any]]
    """What the template shows. A KtrdrError becomes the page's answer."""
    parameters: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    """Beside those that all pages have."""
    styles: tuple[str, ...] = ()
    """The same."""
    is_for_simulated_alone: bool = False
    is_live: bool = True
    """False: it is rendered when it is requested, and not renewed in the browser."""
    longest: int = 100
    """Characters of each parameter that are read."""

    def is_served(self, settings: Settings) -> bool:
        """Whether a group with these settings has this page."""
        return settings.is_simulated or not self.is_for_simulated_alone
