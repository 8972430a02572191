"""The programs as the operating system sees them: which run, since when, CPU and memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from ktrdr.health.last_log_line import last_log_line
from ktrdr.health.supervisor import Supervised, query_supervisor
from ktrdr.run_folder import read_pid

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "port-forward": ("ktrdr.forwarder",),
    "ib-connection": ("ktrdr.data.ib_connection_manager", "ib_connection_manager.py"),
    "gap-filler": ("ktrdr.data.ib_gap_filler", "ib_gap_filler.py"),
    "status-app": ("ktrdr.web", "ktrdr/web/"),
    "alerts": ("ktrdr.alerts",),
    "gateway-sim": ("ktrdr.sim", "ktrdr/sim/"),
}
"""Program → texts of which its command line contains one: its old pid may be another's now."""

NAMES = tuple(COMMANDS)
RUNNING = "RUNNING"
STOPPED = "STOPPED"

ENDS_ITSELF = ("BACKOFF", "FATAL", "EXITED")
"""supervisord's states of a program that ended without being stopped."""

_SHORTEST_MEASURE_S = 0.5


@dataclass(frozen=True)
class Program:
    """One program. Without a process the measurements are None."""

    name: str
    status: str
    """supervisord's state where it answers, otherwise `RUNNING` or `STOPPED`."""
    pid: int | None = None
    uptime_s: float | None = None
    cpu_percent: float | None = None
    """Of one core, with its children: since the last measurement, at first since its start."""
    rss_bytes: int | None = None
    started: float | None = None
    """When its process was started (seconds since 1970, UTC)."""
    cpu_s: float | None = None
    """CPU time that it and its children have used since then; never less than before."""
    ever_started: bool = False
    """False: it has never been started in this group."""
    is_supervised: bool = True
    """False: supervisord does not answer, or does not know it."""
    last_log_line: str = ""
    """The last line of its log if it keeps ending."""

    @property
    def runs(self) -> bool:
        """True while it runs; under supervisord, once it has run for its `startsecs`."""
        return self.status == RUNNING


class Programs:
    """Reads the programs' processes and keeps CPU times between readings. Thread-safe.

    `own`: the program that this runs in, which is not looked up; empty: none of them.
    """

    def __init__(self, run_dir: Path, supervisor_socket: Path, own: str = "") -> None:
        self._own = own
        self._run_dir = run_dir
        self._supervisor_socket = supervisor_socket
        self._meters: dict[int, _Meter] = {}
        self._lock = threading.Lock()

    def read(self) -> dict[str, Program]:
        """All of them, by name, in the order in which data flows."""
        supervised = query_supervisor(self._supervisor_socket)
        with self._lock:
            found = {name: self._read_one(name, supervised.get(name)) for name in NAMES}
            pids = {program.pid for program in found.values()}
            self._meters = {pid: meter for pid, meter in self._meters.items() if pid in pids}
        return found

    def _read_one(self, name: str, supervised: Supervised | None) -> Program:
        if name == self._own:
            found = self._measure(name, RUNNING, os.getpid())
        elif supervised and supervised.pid:
            found = self._measure(name, supervised.status, supervised.pid)
        else:
            found = self._measure(name, RUNNING, self._pid_from_file(name))
        if found is not None:
            return replace(found, is_supervised=supervised is not None)
        if supervised:
            return _ended(name, supervised)
        return Program(name, STOPPED, is_supervised=False)

    def _measure(self, name: str, status: str, pid: int | None) -> Program | None:
        if pid is None:
            return None
        try:
            meter = self._meters.get(pid)
            if meter is None or not meter.is_valid():
                meter = self._meters[pid] = _Meter(pid)
            cpu_percent, cpu_s, rss_bytes = meter.read()
        except psutil.Error:
            return None
        uptime_s = round(max(0.0, time.time() - meter.started), 1)
        return Program(
            name,
            status,
            pid,
            uptime_s,
            cpu_percent,
            rss_bytes,
            started=meter.started,
            cpu_s=cpu_s,
            ever_started=True,
        )

    def _pid_from_file(self, name: str) -> int | None:
        """The pid in `NAME.pid`, if its process runs and is this program."""
        try:
            pid = read_pid(self._run_dir / f"{name}.pid")
            command = " ".join(psutil.Process(pid).cmdline())
        except (OSError, ValueError, OverflowError, psutil.Error):
            return None
        return pid if any(part in command for part in COMMANDS[name]) else None


def _ended(name: str, supervised: Supervised) -> Program:
    log = supervised.log if supervised.status in ENDS_ITSELF else None
    line = last_log_line(log) if log else ""
    return Program(
        name, supervised.status, ever_started=supervised.ever_started, last_log_line=line
    )


class _Meter:
    """CPU and memory of a process and its children, such as socat's one for each connection."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.started = self._process.create_time()
        self._since = time.monotonic() - max(0.0, time.time() - self.started)
        self._cpu_s = 0.0
        self._most_cpu_s = 0.0
        self._percent = 0.0
        self._first = True

    def is_valid(self) -> bool:
        return self._process.is_running()

    def read(self) -> tuple[float, float, int]:
        """CPU in percent and in seconds, and resident bytes. psutil.Error: the process is gone."""
        cpu_s, rss_bytes = _cost(self._process)
        for child in self._process.children(recursive=True):
            try:
                more_s, more_bytes = _cost(child)
            except psutil.Error:
                continue  # it has ended
            cpu_s, rss_bytes = cpu_s + more_s, rss_bytes + more_bytes
        self._most_cpu_s = max(self._most_cpu_s, cpu_s)
        return self._percent_since(cpu_s), round(self._most_cpu_s, 2), rss_bytes

    def _percent_since(self, cpu_s: float) -> float:
        now = time.monotonic()
        elapsed_s = now - self._since
        if self._first or elapsed_s >= _SHORTEST_MEASURE_S:
            spent_s = max(0.0, cpu_s - self._cpu_s)  # those of a child may be gone with it
            self._percent = round(100 * spent_s / max(elapsed_s, 0.01), 1)
            self._since, self._cpu_s, self._first = now, cpu_s, False
        return self._percent


def _cost(process: psutil.Process) -> tuple[float, int]:
    with process.oneshot():
        times = process.cpu_times()
        of_ended = times.children_user + times.children_system  # of its children
        return times.user + times.system + of_ended, process.memory_info().rss
