"""Copying bytes between two connected sockets in both directions until both have ended.

When one side ends, the end is passed on to the other, which may go on sending; after `QUIET_S`
without data it is ended, too. While both sides are open, silence ends nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO

QUIET_S = 120
"""How long a connection with only one direction left may be silent."""

_CHUNK = 2**20
_PIPE = 2**18
"""So 64 connections together have half of the memory in pipes that Linux grants a user (64 MiB)."""
_LAST_ERROR_BYTES = 4096
_TRY_S = 3.0
_RECHECK_S = 1.0
_GUARD = "trap '' HUP INT TERM; read _; kill -s KILL 0"
"""Ends its process group when the pipe that it reads from is closed, however the writer ended."""

log = logging.getLogger(__name__)


class Copying(ABC):
    """One way to copy. Called by a thread for each connection."""

    name: str

    @abstractmethod
    def between(self, near: socket.socket, far: socket.socket) -> tuple[int, str]:
        """Copy until both have ended; return the bytes copied both ways, and what went wrong."""

    def under_way(self) -> int:
        """Bytes copied so far on connections that are still open, as far as known."""
        return 0

    @abstractmethod
    def end(self) -> None:
        """End all copying at once; no process or thread is left behind."""


class Threads(Copying):
    """Two threads per connection; on Linux the bytes never leave the kernel."""

    name = "our own copying"

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._open: set[_OneWay] = set()

    def between(self, near: socket.socket, far: socket.socket) -> tuple[int, str]:
        """As `Copying.between`."""
        there, back = _OneWay(near, far), _OneWay(far, near)
        answers = threading.Thread(
            target=back.copy, args=(there, self._quiet_s), name="answers", daemon=True
        )
        answers.start()
        self._open |= {there, back}
        there.copy(back, self._quiet_s)
        answers.join()
        self._open -= {there, back}
        return there.passed + back.passed, there.failed or back.failed

    def under_way(self) -> int:
        """As `Copying.under_way`."""
        return sum(one.passed for one in self._open.copy())

    def end(self) -> None:
        """As `Copying.end`."""
        for one in self._open.copy():
            one.abort()


class _OneWay:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.passed = 0
        self.failed = ""
        self._source = source
        self._sink = sink
        self._ended = threading.Event()

    def copy(self, other: _OneWay, quiet_s: float) -> None:
        """Copy until the source ends. An error ends both directions.

        After its end the `other` direction goes on until it is silent for `quiet_s`.
        """
        try:
            for count in _passed_on(self._source, self._sink):
                self.passed += count
            self._sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.failed = self.failed or _failure(error)
            self.abort()
        finally:
            self._ended.set()
        other.wait(quiet_s)

    def wait(self, quiet_s: float) -> None:
        """Wait until this direction has ended; end it when nothing passes for `quiet_s`."""
        before = self.passed
        while not self._ended.wait(quiet_s):
            if self.passed == before:
                self.failed = f"nothing came for {quiet_s:.0f} s after the other side's end"
                self.abort()
            before = self.passed

    def abort(self) -> None:
        """End both directions, even while they wait."""
        for one in (self._source, self._sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _passed_on(source: socket.socket, sink: socket.socket) -> Iterator[int]:
    """Copy until the source ends; yield the number of bytes each time some were copied."""
    if sys.platform == "linux" and hasattr(os, "splice"):  # since Python 3.10
        with contextlib.suppress(_NotSpliced):
            yield from _spliced(source, sink)
            return
    room = memoryview(bytearray(_PIPE))
    while count := source.recv_into(room):
        sink.sendall(room[:count])
        yield count


class _NotSpliced(Exception):
    """The system cannot splice these sockets; nothing was read from the source."""


def _spliced(source: socket.socket, sink: socket.socket) -> Iterator[int]:
    """As `_passed_on`, through a pipe in the kernel. _NotSpliced: that does not work here."""
    try:
        drain, pipe = os.pipe()
    except OSError as error:
        raise _NotSpliced from error
    try:
        with contextlib.suppress(OSError):  # beyond the user's limit the pipe stays small
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        while True:
            try:
                count = left = os.splice(source.fileno(), pipe, _PIPE)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                    raise _NotSpliced from error
                raise
            if not count:  # the end, or urgent data, which IB and its clients do not send
                if not (more := source.recv(_PIPE)):
                    return
                sink.sendall(more)
                yield len(more)
            while left:
                passed = os.splice(drain, sink.fileno(), left)
                left -= passed
                yield passed
    finally:
        os.close(drain)
        os.close(pipe)


class Socat(Copying):
    """One socat process per connection, in a process group that a guard process ends with us."""

    name = "socat"

    def __init__(self, command: str) -> None:
        self._command = command
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = None
        self._without = Threads()
        self._trouble = ""
        self._is_broken = False
        self._recheck_at_s = 0.0
        self._is_ending = False

    def between(self, near: socket.socket, far: socket.socket) -> tuple[int, str]:
        """As `Copying.between`; with threads where socat cannot be started.

        If socat starts and no longer works, one connection is lost and it is not tried again.
        """
        if self._is_broken:
            return self._without.between(near, far)
        try:
            passed, why = self._between(near, far)
        except OSError as error:
            if self._trouble != str(error):
                log.warning("copying without socat, which cannot be started: %s", error)
            self._trouble = str(error)
            return self._without.between(near, far)
        if why:
            self._check_it_works(why)
        return passed, why

    def _between(self, near: socket.socket, far: socket.socket) -> tuple[int, str]:
        """OSError: socat cannot be started."""
        process = self._start(near, far)
        self._trouble = ""
        near.close()  # socat has them now, and must be the last to close them
        far.close()
        try:
            errors = _end_of(process.stderr) if process.stderr else b""
            with contextlib.suppress(ChildProcessError):  # `end` was faster
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            passed = _written_by(process.pid)
        finally:
            with self._lock:
                self._running.discard(process)
            process.wait()
            if process.stderr:
                process.stderr.close()
        return passed, _last_error(errors) if process.returncode else ""

    def _check_it_works(self, why: str) -> None:
        """Check socat after a failure, which may be a mere reset: one check at a time, seldom."""
        with self._lock:
            if self._is_broken or time.monotonic() < self._recheck_at_s:
                return
            self._recheck_at_s = math.inf
        try:
            self._is_broken = not _works(self._command)
        except OSError as error:  # this machine is busy, or out of files
            log.warning("cannot check whether socat still works: %s", error)
        if self._is_broken:
            log.warning("copying without socat, which no longer works: %s", why)
        with self._lock:
            if not self._is_ending:
                self._recheck_at_s = time.monotonic() + _RECHECK_S

    def _start(self, near: socket.socket, far: socket.socket) -> subprocess.Popen[bytes]:
        ends = [f"FD:{one.fileno()},shut-down" for one in (near, far)]
        with self._lock:
            if self._guard is None or self._guard.poll() is not None:
                self._guard = self._new_guard()
            process = subprocess.Popen(  # noqa: S603 - found on the user's PATH
                [self._command, "-b", str(_CHUNK), "-t", str(QUIET_S), *ends],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(near.fileno(), far.fileno()),
                process_group=self._guard.pid,
            )
            self._running.add(process)
        return process

    @staticmethod
    def _new_guard() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def under_way(self) -> int:
        """As `Copying.under_way`."""
        with self._lock:
            by_socat = sum(_written_by(process.pid) for process in self._running)
        return by_socat + self._without.under_way()

    def end(self) -> None:
        """As `Copying.end`: kills the process group, which ends all waiting for its processes."""
        with self._lock:
            self._is_ending, self._recheck_at_s = True, math.inf
            guard, self._guard = self._guard, None
            left = set(self._running)
        if guard is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            guard.communicate()
        for process in left:
            process.kill()  # its guard was gone already
        self._without.end()


def choose() -> Copying:
    """Socat if there is one that works, else threads."""
    command = shutil.which("socat")
    if command is None or sys.platform != "linux" or sys.version_info < (3, 11):
        return Threads()
    with contextlib.suppress(OSError):
        if _works(command):
            return Socat(command)
    log.warning("%s cannot copy between two sockets (FD:…): copying without it", command)
    return Threads()


def _works(command: str) -> bool:
    """Whether this socat copies bytes between two sockets; tried out within milliseconds.

    OSError: that could not be tried, or it did nothing for some seconds.
    """
    tried = Socat(command)
    (client, near), (far, gateway) = socket.socketpair(), socket.socketpair()

    def copy() -> None:
        with near, far, contextlib.suppress(OSError):
            tried._between(near, far)  # noqa: SLF001

    with client, gateway:
        client.settimeout(_TRY_S)
        gateway.settimeout(_TRY_S)
        try:
            threading.Thread(target=copy, name="try", daemon=True).start()
        except RuntimeError as error:
            near.close()
            far.close()
            raise OSError(str(error)) from error
        try:
            client.sendall(b"?")
            client.shutdown(socket.SHUT_WR)
            received = gateway.recv(9) + gateway.recv(9)
            gateway.sendall(b"!")
            gateway.close()
            return received + client.recv(9) + client.recv(9) == b"?!"
        except (BrokenPipeError, ConnectionResetError):
            return False
        finally:
            tried.end()


def _written_by(pid: int) -> int:
    """Bytes that a process has written, also one that has ended and was not waited for."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/io").read_text("ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "wchar":
                return int(value)
    return 0


def _end_of(stream: IO[bytes]) -> bytes:
    """The last bytes of a stream, which is read to its end."""
    kept = b""
    while more := os.read(stream.fileno(), 65536):
        kept = (kept + more)[-_LAST_ERROR_BYTES:]
    return kept


def _failure(error: OSError) -> str:
    """What broke; empty if we ended it ourselves."""
    return "" if error.errno in (errno.ENOTCONN, errno.EBADF) else str(error.strerror)


def _last_error(errors: bytes) -> str:
    """The last error that socat wrote, without time, name and pid."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1].rpartition("] E ")[2] if lines else "socat was ended"
