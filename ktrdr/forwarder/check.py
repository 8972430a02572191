"""`ib_port_forward.sh --check`: what listens, for whom, and whether a TWS greeting comes back."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from ktrdr.forwarder.listeners import current_plan
from ktrdr.forwarder.places import EVERYWHERE, Place
from ktrdr.forwarder.report import Report, read
from ktrdr.forwarder.settings import ForwardSettings

_PATIENCE_S = 5.0
_LONGEST_GREETING = 99
_HELLO = b"API\0\0\0\0\x09v157..178"
"""How a client of IB's protocol begins: the oldest and newest version that it speaks."""


class Line(NamedTuple):
    """The result of one check."""

    is_ok: bool
    text: str


def check(settings: ForwardSettings) -> int:
    """Print the results, a line each, and return the exit code: 0 if all are ok, else 1."""
    report = read(settings.run_dir, time.time())
    lines = [*_of_the_program(report, settings), _of_the_gateway(report, settings)]
    for line in lines:
        sys.stdout.write(f"{'ok ' if line.is_ok else 'NO '} {line.text}\n")
    return 0 if all(line.is_ok for line in lines) else 1


def _of_the_program(report: Report | None, settings: ForwardSettings) -> list[Line]:
    if report is None:
        return _if_started(settings)
    return [*_of_the_running(report), *_of_other_settings(report, settings)]


def _if_started(settings: ForwardSettings) -> list[Line]:
    """No forwarder runs here: what one would do."""
    advice = "./scripts/ib_port_forward.sh starts it, and ./scripts/up the whole group"
    plan = current_plan(settings)
    return [
        Line(False, f"nothing forwards port {settings.port} here; {advice}"),
        *(Line(True, f"would listen on {one.name} for {one.whom}") for one in plan.places),
        *(Line(False, complaint) for complaint in plan.complaints),
        *(Line(True, note) for note in plan.notes),
    ]


def _of_the_running(report: Report) -> list[Line]:
    how = f"with {report.copying} (pid {report.pid}), {report.open_calls} connections are open"
    lines = [Line(True, f"port {report.port} is forwarded to {report.target} {how}")]
    for one in report.listening:
        if one.trouble:
            lines.append(Line(False, f"not listening on {one.name}: {one.trouble}"))
        else:
            text = f"listening on {one.name}: accepts connections from {one.whom}"
            lines.append(Line(True, text))
    if not report.listening:
        lines.append(Line(False, "it listens nowhere"))
    lines += [Line(False, f"it accepts no more connections: {line}") for line in report.full]
    if report.last_error:
        lines.append(Line(True, f"its last error: {report.last_error}"))
    lines += [Line(False, complaint) for complaint in report.complaints]
    return lines + [Line(True, note) for note in report.notes]


def _of_other_settings(report: Report, settings: ForwardSettings) -> Iterator[Line]:
    """Settings changed since the forwarder's start, which containers may already go by."""
    for name, runs_with, is_set in (
        ("port", str(report.port), str(settings.port)),
        ("gateway", report.target, settings.gateway),
    ):
        if runs_with != is_set:
            what = f"the {name} is set to {is_set} now, but it runs with {runs_with}"
            yield Line(False, f"{what}: restart it (./scripts/up)")


def _of_the_gateway(report: Report | None, settings: ForwardSettings) -> Line:
    """A greeting through the forwarder where it serves this machine, else from the gateway."""
    is_full = report is not None and report.full
    places = current_plan(settings).places
    mine = next((place for place in places if place.callers is None), None)
    through = _own_address(mine) if mine and not is_full else None
    if through is not None and _greeting((through, settings.port)) is not None:
        where, address = f"through {through}:{settings.port}", (through, settings.port)
    else:
        where, address = f"at {settings.gateway}", settings.target
    greeting = _greeting(address)
    if greeting is None:
        advice = "start IB Gateway or TWS and log in; is its socket port this one?"
        return Line(False, f"no connection {where}: {advice}")
    if not greeting:
        advice = "is the gateway logged in, does it accept API clients (Configure, API, Settings)?"
        return Line(False, f"no TWS greeting comes back {where}: {advice}")
    version = greeting[4:].partition(b"\0")[0]
    if len(greeting) < 5 or not version.isdigit():
        return Line(False, f"what answers {where} is not IB Gateway: it sent {greeting[:40]!r}")
    return Line(True, f"a TWS greeting came back {where}: protocol {version.decode()}")


def _own_address(place: Place) -> str:
    return "127.0.0.1" if place.address == EVERYWHERE else place.address


def _greeting(address: tuple[str, int]) -> bytes | None:
    """The reply to a client's handshake; empty: no reply; None: no connection."""
    try:
        with socket.create_connection(address, _PATIENCE_S) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(_HELLO)
                return connection.recv(_LONGEST_GREETING)
            return b""
    except (OSError, UnicodeError):
        return None
