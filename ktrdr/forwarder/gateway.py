"""The gateway that connections are forwarded to: connecting, and whether it worked lately."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time

_CONNECT_S = 10.0
_PROBE_S, _PROBE_AGAIN_S = 60.0, 5.0

log = logging.getLogger(__name__)


class Gateway:
    """Connects to the gateway and remembers whether that worked. Thread-safe."""

    def __init__(self, target: tuple[str, int], name: str) -> None:
        self._target = target
        self.name = name
        self.state = ""
        self.why = ""
        self._tried = -_PROBE_S
        self._lock = threading.Lock()

    def connect(self) -> socket.socket:
        """Open a connection. OSError says why there is none."""
        try:
            found = socket.create_connection(self._target, _CONNECT_S)
            found.settimeout(None)
        except (OSError, UnicodeError) as error:
            why = words(error)
            self._note("not_reached", why)
            raise OSError(why) from error
        self._note("reached")
        return found

    def probe(self, now_s: float) -> None:
        """Try a connection in the background where nobody has connected for a while."""
        if now_s - self._tried < (_PROBE_S if self.state == "reached" else _PROBE_AGAIN_S):
            return
        self._tried = now_s

        def try_it() -> None:
            with contextlib.suppress(OSError):
                self.connect().close()

        threading.Thread(target=try_it, name="probe", daemon=True).start()

    def _note(self, state: str, why: str = "") -> None:
        with self._lock:
            changed = (self.state, self.why) != (state, why)
            self.state, self.why, self._tried = state, why, time.monotonic()
        if changed and state == "reached":
            log.info("%s can be reached", self.name)
        elif changed:
            log.warning(
                "%s cannot be reached: %s; is the gateway started, and this its port?",
                self.name, why,
            )  # fmt: skip


def words(error: OSError | UnicodeError | RuntimeError) -> str:
    """A system error in plain words."""
    if isinstance(error, socket.gaierror):
        return f"no such host ({error.strerror})"
    if isinstance(error, UnicodeError):
        return "not a valid host name"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return f"no answer within {_CONNECT_S:.0f} s"
    return getattr(error, "strerror", None) or str(error)
