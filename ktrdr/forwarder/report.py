"""The forwarder's report on itself: one small file in the run folder, replaced whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = "port-forward.json"
_STARTING_S = 15.0
"""A gateway may be started at the same moment as the forwarder: that long it is not missing."""
STALE_S = 15.0
"""A report that is older is ignored: a running forwarder writes one every second."""


@dataclass(frozen=True)
class Listening:
    """A place to listen: its name, for whom, and why we do not listen there (empty: we do)."""

    name: str
    whom: str
    trouble: str = ""


@dataclass(frozen=True)
class Report:
    """State and counts since the start of this process. Times are seconds since 1970, UTC."""

    time: float
    started: float
    pid: int
    copying: str
    port: int
    target: str
    listening: tuple[Listening, ...] = ()
    complaints: tuple[str, ...] = ()
    """What else keeps clients from connecting, such as an address that is gone."""
    notes: tuple[str, ...] = ()
    """What is left out on purpose, such as a bridge that others than containers use."""
    open_calls: int = 0
    """Open connections."""
    full: tuple[str, ...] = ()
    """Who may open no more connections, a line each."""
    calls: int = 0
    """Connections that were forwarded."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Connections by reason: `foreign`, `too_many`, `too_many_of_one`, `no_gateway`."""
    bytes: int = 0
    """Forwarded, both directions together."""
    gateway: str = ""
    """`reached`, `not_reached`; empty: not tried yet."""
    gateway_why: str = ""
    last_error: str = ""
    last_error_time: float | None = None

    @property
    def takes(self) -> str:
        """Where connections are accepted and from whom, in words."""
        places = (f"{one.name} ({one.whom})" for one in self.listening if not one.trouble)
        return ", ".join(places) or "nowhere"

    @property
    def misses_gateway(self) -> bool:
        """The gateway cannot be reached, and not only because both have just been started."""
        return self.gateway == "not_reached" and self.time - self.started > _STARTING_S

    @property
    def troubles(self) -> tuple[str, ...]:
        """What keeps containers from connecting, a line each; nothing about the gateway."""
        return (
            *(f"{one.name}: {one.trouble}" for one in self.listening if one.trouble),
            *self.complaints,
        )


def write(folder: Path, report: Report) -> None:
    """Replace the file in one step, never through a link. OSError: it cannot be written."""
    path = folder / f".{FILE}.{report.pid}"
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        json.dump(asdict(report), file)
    path.replace(folder / FILE)


def forget(folder: Path) -> None:
    """Remove the file at the program's end."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path, now: float) -> Report | None:
    """The report if it is recent (`now` in seconds since 1970) and complete, else None."""
    try:
        report = _report(json.loads((folder / FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return report if abs(now - report.time) <= STALE_S else None


def _report(values: dict[str, Any]) -> Report:
    """ValueError, TypeError, KeyError: these are not the values of a report."""
    listening = tuple(Listening(**one) for one in values.pop("listening"))
    values |= {
        name: tuple(map(str, values.get(name, ()))) for name in ("complaints", "notes", "full")
    }
    report = Report(**values, listening=listening)
    numbers = (report.time, report.started, report.pid, report.port, report.calls, report.bytes)
    if not all(isinstance(one, (int, float)) for one in (*numbers, *report.refused.values())):
        raise TypeError(values)
    return report
