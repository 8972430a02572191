"""Start and end of every program: logging, lock, pid file, signals, and watching supervisord."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from ktrdr.config.names import IGNORE_ENV_FILE
from ktrdr.config.running_group import pending_changes, settings_to_run_with
from ktrdr.config.settings import Settings, load_settings
from ktrdr.errors import AlreadyRunning, Misconfigured
from ktrdr.escapes import shortened, visible
from ktrdr.run_folder import prepare_run_folder, read_pid, replace_file
from ktrdr.stop_signals import stop_on_signals

EXIT_MISCONFIGURED = 78  # EX_CONFIG of sysexits.h
_PARENT_CHECK_S = 1.0
_ALLOCATOR = {-8: 1, -3: 65_536, -1: 131_072}
"""glibc's `mallopt`: one arena for all threads, mmap for large blocks, early return of memory."""
HINT = "hint"
"""The key in a log record's `extra` for what a person can do about it."""

_LONGEST = 4000
"""Characters of a message; IB's longest have a few hundred."""
_LINES = 100
"""Lines kept at each end of a traceback or hint."""

_Raised = tuple[type[BaseException], BaseException, TracebackType | None]

log = logging.getLogger(__name__)


def run(
    name: str, main: Callable[[Settings, threading.Event], None], *, exclusive: bool = True
) -> None:
    """Run a program until it ends or is stopped.

    `main` gets the checked settings and an event that SIGTERM and SIGINT set; it returns soon
    after. Misconfigured ends the program with one line and exit code 78. `exclusive`: the program
    belongs to a group and has its settings, and a second one in the same run folder is refused;
    otherwise it has its own settings, and a second one runs without a pid file.
    """
    start_logging()
    give_memory_back()
    stop = threading.Event()
    try:
        settings = settings_to_run_with() if exclusive else load_settings()
        stop_on_signals(stop)
        _stop_with_supervisor(stop)
        with _registered(settings.run_dir, name, exclusive):
            log.info("%s starts, pid %d", name, os.getpid())
            _log_pending(settings)
            main(settings, stop)
            log.info("%s ends", name)
    except Misconfigured as error:
        log.error("%s cannot start: %s", name, error.message, extra={HINT: error.hint})
        sys.exit(EXIT_MISCONFIGURED)


def _log_pending(settings: Settings) -> None:
    """In a group, which keeps the settings of its start: log what `.env` has otherwise by now."""
    pending = pending_changes(settings) if os.environ.get(IGNORE_ENV_FILE) else ""
    if pending:
        log.warning(".env has changed since the start, and ./scripts/up applies it: %s", pending)


@contextlib.contextmanager
def _registered(run_dir: Path, name: str, exclusive: bool) -> Iterator[None]:
    """Hold the program's lock, and keep its pid in `NAME.pid` until it ends."""
    prepare_run_folder(run_dir)
    pid_file = run_dir / f"{name}.pid"
    lock = FileLock(run_dir / f"{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if exclusive:
            raise AlreadyRunning(
                f"{name} runs already in {run_dir} (pid {_pid_in(pid_file)})"
            ) from None
        yield
        return
    except OSError as error:
        raise Misconfigured(f"{lock.lock_file} cannot be locked: {error.strerror}") from error
    try:
        replace_file(pid_file, f"{os.getpid()}\n")
        try:
            yield
        finally:
            pid_file.unlink(missing_ok=True)
    finally:
        lock.release()


def _pid_in(pid_file: Path) -> str:
    try:
        return str(read_pid(pid_file))
    except (OSError, ValueError):
        return "unknown"


class _LogLines(logging.Formatter):
    """One line per record, so that no text from IB or a file can forge a log line.

    A hint (`extra={HINT: …}`) follows the message. A hint of several lines, which are to be pasted,
    and a traceback follow below, indented, so that they cannot pass for log lines. What is too long
    is cut.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        record.message = shortened(record.message, _LONGEST)
        hint = str(getattr(record, HINT, ""))
        if "\n" in hint:
            return f"{visible(super().formatMessage(record))}\n{_below(hint)}"
        record.message += f" ({shortened(hint, _LONGEST)})" if hint else ""
        return visible(super().formatMessage(record))

    def formatException(self, ei: _Raised | tuple[None, None, None]) -> str:  # noqa: N802  logging's name
        return _below(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  logging's name
        return _below(super().formatStack(stack_info))


def _below(text: str) -> str:
    lines = text.split("\n")
    if len(lines) > 2 * _LINES:
        lines[_LINES:-_LINES] = [f"… {len(lines) - 2 * _LINES} lines more …"]
    return "\n".join(f"    {visible(shortened(line, _LONGEST))}" for line in lines)


class _NoHttp(logging.Filter):
    """Makes aiohttp's record on a request that is not HTTP one line, without its stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__module__ == "aiohttp.http_exceptions":
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg, record.args = "a request is not HTTP: %s", (" ".join(str(error).split()),)
            record.exc_info = None
        return True


def start_logging() -> None:
    """Log to standard output with UTC times, unhandled errors included."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # in any locale
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_LogLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("aiohttp.server").addFilter(_NoHttp())
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_end
    threading.excepthook = _log_end_of_thread
    sys.unraisablehook = _log_unraisable


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Replaces Python's output, where an error's text could pass for log lines."""
    if isinstance(error, KeyboardInterrupt):
        log.warning("interrupted")
    else:
        log.critical("ended by an unhandled error", exc_info=(kind, error, trace))


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread else "?"
        what = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        log.critical("the thread %s ended by an unhandled error", name, exc_info=what)


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    if found.exc_value is not None:
        what = (found.exc_type, found.exc_value, found.exc_traceback)
        log.error("%s in %r", found.err_msg or "an error", found.object, exc_info=what)


def boot() -> str:
    """The id of this boot of the machine; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def give_memory_back() -> None:
    """Let the allocator return freed memory, because long-running programs have bursts.

    By default glibc keeps several heaps for the threads, each as large as it ever was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc
        for option, value in _ALLOCATOR.items():
            mallopt(option, value)


def _stop_with_supervisor(stop: threading.Event) -> None:
    """Under supervisord: stop when it is gone, since after a SIGKILL it stops nothing itself."""
    if not os.environ.get("SUPERVISOR_ENABLED"):
        return
    parent = _supervisor_pid()

    def watch() -> None:
        while not stop.wait(_PARENT_CHECK_S):
            if os.getppid() != parent:
                log.warning("supervisord (pid %d) is gone", parent)
                stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _supervisor_pid() -> int:
    """The pid that supervisord wrote beside its socket before it started any program.

    Not simply our parent's: if supervisord ends while this program is still being imported, our
    parent is already another process.
    """
    server = os.environ.get("SUPERVISOR_SERVER_URL", "").removeprefix("unix://")
    try:
        return read_pid(Path(server).parent / "supervisord.pid")
    except (OSError, ValueError):
        return os.getppid()
