"""The program `port-forward`: `python -m ktrdr.forwarder`; `--check` checks a running one."""

from __future__ import annotations

import logging
import sys
import threading
import time

from ktrdr.errors import Misconfigured
from ktrdr.forwarder import copying
from ktrdr.forwarder.check import check
from ktrdr.forwarder.gateway import Gateway
from ktrdr.forwarder.listeners import Listeners, current_plan
from ktrdr.forwarder.service import Forwarder
from ktrdr.forwarder.settings import ForwardSettings, is_supervised, load, of_settings
from ktrdr.run_folder import prepare_run_folder
from ktrdr.stop_signals import stop_on_signals

NAME = "port-forward"
EXIT_FAILED, EXIT_MISUSED, EXIT_MISCONFIGURED = 1, 64, 78  # the last two of sysexits.h

_USAGE = """\
usage: ./scripts/ib_port_forward.sh [--check]
Forwards port 4003 to IB Gateway for this machine's containers, in the foreground; Ctrl-C ends it.
  --check   checks the running one: what listens, for whom, does a TWS greeting come back?
Settings are variables of the environment or lines in .env: see .env.example.
"""

log = logging.getLogger("ktrdr.forwarder")


def forward(settings: ForwardSettings, stop: threading.Event) -> None:
    """Forward until `stop` is set.

    SystemExit: it is not possible to listen anywhere. Misconfigured as `places_for`.
    """
    listeners = Listeners(settings.port, lambda: current_plan(settings))
    listeners.follow()
    if listeners.all_failed:
        sys.exit(EXIT_FAILED)  # the log has a line for each place
    way = copying.choose()
    log.info("port %d -> %s with %s", settings.port, settings.gateway, way.name)
    Forwarder(settings, listeners, way, Gateway(settings.target, settings.gateway)).run(stop)


def main(words: list[str]) -> None:
    """Run the program. SystemExit has its exit code."""
    if words not in ([], ["--check"]):
        wanted = words in (["--help"], ["-h"])
        (sys.stdout if wanted else sys.stderr).write(_USAGE)
        sys.exit(0 if wanted else EXIT_MISUSED)
    if words:
        sys.exit(_check())
    try:
        from ktrdr import process  # noqa: PLC0415  needs the .venv
    except ImportError:
        if is_supervised():
            raise
        _run_alone()
    else:
        process.run(NAME, lambda settings, stop: forward(
            of_settings(settings, is_alone=not is_supervised()), stop))  # fmt: skip


def _check() -> int:
    try:
        return check(load())
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISCONFIGURED


def _run_alone() -> None:
    """The same without a .venv: no lock or pid file, only the port shows that another one runs."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    stop = threading.Event()
    stop_on_signals(stop)
    try:
        settings = load()
        prepare_run_folder(settings.run_dir)
        forward(settings, stop)
    except Misconfigured as error:
        log.error("%s cannot start: %s", NAME, error)
        sys.exit(EXIT_MISCONFIGURED)


if __name__ == "__main__":
    main(sys.argv[1:])
