"""What the forwarder says of itself: one small file in the run folder, replaced whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = "port-forward.json"
STALE_S = 15.0
"""Older than that, nobody writes it any more: it is written every few seconds."""


@dataclass(frozen=True)
class Listening:
    """One place: what it is called, for whom, and why nobody listens there (empty: we do)."""

    name: str
    whom: str
    trouble: str = ""


@dataclass(frozen=True)
class Report:
    """Everything since the start of this process. Times are seconds since 1970, UTC."""

    time: float
    started: float
    pid: int
    copying: str
    port: int
    target: str
    listening: tuple[Listening, ...] = ()
    complaints: tuple[str, ...] = ()
    """What else keeps callers away: an address that is gone."""
    notes: tuple[str, ...] = ()
    """What is left out on purpose: a bridge that others than containers are on."""
    open_calls: int = 0
    full: tuple[str, ...] = ()
    """Who may open no more of them."""
    calls: int = 0
    """Taken and passed on."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Not served, by reason: `foreign`, `too_many`, `too_many_of_one`, `no_gateway`."""
    bytes: int = 0
    """Passed on, both directions together."""
    gateway: str = ""
    """`reached`, `not_reached`; empty: not tried yet."""
    gateway_why: str = ""
    last_error: str = ""
    last_error_time: float | None = None

    @property
    def takes(self) -> str:
        """Where calls are taken and from whom, in words."""
        places = (f"{one.name} ({one.whom})" for one in self.listening if not one.trouble)
        return ", ".join(places) or "nowhere"

    @property
    def troubles(self) -> tuple[str, ...]:
        """What keeps containers from calling, a line each; the gateway behind is not in it."""
        return (
            *(f"{one.name}: {one.trouble}" for one in self.listening if one.trouble),
            *self.complaints,
        )


def write(folder: Path, report: Report) -> None:
    """Replace the file, in one step and never through a link. OSError: it cannot be written."""
    path = folder / f".{FILE}.{report.pid}"
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        json.dump(asdict(report), file)
    path.replace(folder / FILE)


def forget(folder: Path) -> None:
    """Take the file away at a program's end."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path, now: float) -> Report | None:
    """What was written lately (`now` in seconds since 1970); None: nothing that counts."""
    try:
        report = _report(json.loads((folder / FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return report if abs(now - report.time) <= STALE_S else None


def _report(values: dict[str, Any]) -> Report:
    """ValueError, TypeError, KeyError: it is not one."""
    listening = tuple(Listening(**one) for one in values.pop("listening"))
    values |= {
        name: tuple(map(str, values.get(name, ()))) for name in ("complaints", "notes", "full")
    }
    report = Report(**values, listening=listening)
    numbers = (report.time, report.started, report.pid, report.port, report.calls, report.bytes)
    if not all(isinstance(one, (int, float)) for one in (*numbers, *report.refused.values())):
        raise TypeError(values)
    return report
