"""The program `port-forward`: `python -m ktrdr.forwarder`; `--check` looks at one that runs."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from types import FrameType

from ktrdr.errors import Misconfigured
from ktrdr.forwarder import copying
from ktrdr.forwarder.check import check
from ktrdr.forwarder.gateway import Gateway
from ktrdr.forwarder.interfaces import interfaces
from ktrdr.forwarder.listeners import Listeners
from ktrdr.forwarder.places import Plan, places_for
from ktrdr.forwarder.service import Forwarder
from ktrdr.forwarder.settings import ForwardSettings, is_linux, is_supervised, load, of_settings
from ktrdr.run_folder import prepare_run_folder

NAME = "port-forward"
EXIT_FAILED, EXIT_MISUSED, EXIT_MISCONFIGURED = 1, 64, 78  # the last two of sysexits.h

_USAGE = """\
usage: ./scripts/ib_port_forward.sh [--check]
Forwards port 4003 to IB Gateway for this machine's containers, in the foreground; Ctrl-C ends it.
  --check   checks the one that runs: what listens, for whom, does a TWS greeting come back?
Settings are variables of the environment or lines in .env: see .env.example.
"""

log = logging.getLogger("ktrdr.forwarder")


def forward(settings: ForwardSettings, stop: threading.Event) -> None:
    """Forward until told to stop. SystemExit: nothing can be listened on. Misconfigured: not so."""

    def plan() -> Plan:
        return places_for(settings.bind, settings.callers, interfaces(), is_linux=is_linux())

    listeners = Listeners(settings.port, plan)
    listeners.follow()
    if listeners.are_none:
        sys.exit(EXIT_FAILED)  # each place was told in a line
    way = copying.choose()
    log.info("port %d -> %s with %s", settings.port, settings.gateway, way.name)
    Forwarder(settings, listeners, way, Gateway(settings.target, settings.gateway)).run(stop)


def main(words: list[str]) -> None:
    """The program; SystemExit with its code."""
    if words not in ([], ["--check"]):
        wanted = words in (["--help"], ["-h"])
        (sys.stdout if wanted else sys.stderr).write(_USAGE)
        sys.exit(0 if wanted else EXIT_MISUSED)
    if words:
        sys.exit(_checked())
    try:
        from ktrdr import process  # noqa: PLC0415  needs the .venv
    except ImportError:
        if is_supervised():
            raise
        _run_alone()
    else:
        process.run(NAME, lambda settings, stop: forward(
            of_settings(settings, is_alone=not is_supervised()), stop))  # fmt: skip


def _checked() -> int:
    try:
        return check(load())
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISCONFIGURED


def _run_alone() -> None:
    """Without a .venv: the same, but the port alone tells whether another one runs."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        settings = load()
        prepare_run_folder(settings.run_dir)
        forward(settings, stop)
    except Misconfigured as error:
        log.error("%s cannot start: %s", NAME, error)
        sys.exit(EXIT_MISCONFIGURED)


if __name__ == "__main__":
    main(sys.argv[1:])
