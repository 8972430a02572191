"""The forwarder beside the way without it, in one run: round trips, bytes, bars, bursts of calls.

Each round measures all ways one after the other, so that a busy machine slows all of them. `direct`
is the yardstick. Needs nothing but loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ib_insync import IB, Stock

ROOT = Path(__file__).resolve().parents[1]
BULK_BYTES = 2**30
CALLS, BURST = 1000, 25
ROUND_TRIPS = 2000
REQUESTS = 40


class Echo:
    """Answers a small question; sends many bytes to whoever asks for them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=[caller], daemon=True).start()

    @staticmethod
    def _serve(caller: socket.socket) -> None:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        block = bytes(2**20)
        with caller, contextlib.suppress(OSError):
            while said := caller.recv(64):
                if said == b"bulk":
                    for _ in range(BULK_BYTES // len(block)):
                        caller.sendall(block)
                else:
                    caller.sendall(said)


@contextlib.contextmanager
def forwarder(target: int, folder: Path, *, socat: bool) -> Iterator[tuple[int, Path]]:
    """The real program, with socat or without: its port, and its run folder."""
    tools = folder / f"tools-{socat}-{target}"
    tools.mkdir()
    for tool in ("bash", "dirname", "env", *(["socat"] if socat else [])):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run_dir = folder / f"run-{socat}-{target}"
    unwanted = ("KTRDR_", "IB_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    env |= {
        "PATH": str(tools),
        "KTRDR_FORWARD_PORT": str(port),
        "KTRDR_FORWARD_TARGET": f"127.0.0.1:{target}",
        "KTRDR_RUN_DIR": str(run_dir),
    }
    with subprocess.Popen(
        [str(ROOT / "scripts/ib_port_forward.sh")], env=env, stdout=subprocess.DEVNULL
    ) as process:
        try:
            until_it_answers(port)
            yield port, run_dir
        finally:
            process.terminate()


def until_it_answers(port: int) -> None:
    """Until somebody listens there. OSError: nobody does for 20 s."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def round_trip_ms(port: int) -> float:
    """The median of many small questions, each answered before the next."""
    taken = []
    with socket.create_connection(("127.0.0.1", port)) as call:
        call.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            call.sendall(b"x" * 32)
            call.recv(64)
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def bulk_mib_s(port: int) -> float:
    """Raw bytes from the far side, as fast as they come."""
    room = bytearray(2**20)
    with socket.create_connection(("127.0.0.1", port)) as call:
        began, left = time.perf_counter(), BULK_BYTES
        call.sendall(b"bulk")
        while left:
            left -= call.recv_into(room)
    return BULK_BYTES / 2**20 / (time.perf_counter() - began)


def bursts_s(port: int) -> float:
    """Calls in bursts, each answered: how long all of them take."""
    began = time.perf_counter()
    for _ in range(CALLS // BURST):
        with contextlib.ExitStack() as burst:
            calls = [
                burst.enter_context(socket.create_connection(("127.0.0.1", port), 60))
                for _ in range(BURST)
            ]
            for call in calls:
                call.sendall(b"hello")
            if [call.recv(64) for call in calls] != [b"hello"] * BURST:
                raise SystemExit("a call of a burst was not answered")
    return time.perf_counter() - began


def bars_s(port: int, client_id: int) -> float:
    """Bars a second from the simulated gateway, one request after the other."""
    ib = IB()
    ib.connect("127.0.0.1", port, clientId=client_id, timeout=20)
    contract = Stock("AAPL", "SMART", "USD", conId=0)
    began, bars = time.perf_counter(), 0
    for _ in range(REQUESTS):
        bars += len(
            ib.reqHistoricalData(contract, "20261120 21:00:00 UTC", "5 D", "1 min", "TRADES", True)
        )
    taken_s = time.perf_counter() - began
    ib.disconnect()
    if not bars:
        raise SystemExit("the simulated gateway gave no bars")
    return bars / taken_s


@contextlib.contextmanager
def simulator(folder: Path) -> Iterator[int]:
    """The simulated gateway without delay or limits of its own: its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = os.environ | {"KTRDR_SIM_PORT": str(port), "KTRDR_RUN_DIR": str(folder / "sim")}
    words = [sys.executable, "-m", "ktrdr.sim"]
    with subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            until_it_answers(port)
            yield port
        finally:
            process.terminate()


def is_met(name: str, value: float, direct: float) -> bool:
    """Whether a figure is what was promised."""
    if name.startswith("round trip"):
        return value - direct <= 0.2
    if name.startswith("raw bytes"):
        return value >= 0.6 * direct
    if name.startswith("bars"):
        return value >= 0.95 * direct
    return value <= 3


def main() -> None:
    """Print the figures, and exit with 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp(prefix="ktb"))
    ways = ["direct", "socat", "our own copying"]
    if shutil.which("socat") is None:
        ways.remove("socat")
    echo = Echo()
    with contextlib.ExitStack() as stack:
        sim = stack.enter_context(simulator(folder))
        ports = {"direct": (echo.port, sim)}
        for way in ways[1:]:
            to_echo, to_sim = (
                stack.enter_context(forwarder(target, folder, socat=way == "socat"))[0]
                for target in (echo.port, sim)
            )
            ports[way] = (to_echo, to_sim)
        found: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
        for number in range(rounds):
            for at, (way, (port, bars_port)) in enumerate(ports.items()):
                for name, value in (
                    ("round trip, ms", round_trip_ms(port)),
                    ("raw bytes, MiB/s", bulk_mib_s(port)),
                    (f"{CALLS} calls in bursts of {BURST}, s", bursts_s(port)),
                    ("bars/s", bars_s(bars_port, 1 + at + 3 * number)),
                ):
                    found[way].setdefault(name, []).append(value)
    shutil.rmtree(folder, ignore_errors=True)
    are_missed = False
    for name in found["direct"]:
        print(f"{name}:")
        yardstick = statistics.median(found["direct"][name])
        for way in ways:
            value = statistics.median(found[way][name])
            missed = way != "direct" and not is_met(name, value, yardstick)
            print(
                f"  {way:<16} {value:10.3f}   {value / yardstick:6.1%} of direct"
                f"{'   MISSED' if missed else ''}"
            )
            are_missed |= missed
    sys.exit(are_missed)


if __name__ == "__main__":
    main()
