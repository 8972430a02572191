"""Wrong tokens: how many of them a caller may send, and which are logged.

Keeps no token, and little of anything, however many call.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from ktrdr.addresses import plain_address

MOST_GUESSES = 10
"""Different wrong tokens of a caller in a minute. One that is said again and again, as by a browser
or Prometheus after a change of the token, is one."""
_MINUTE_S = 60.0
_REPORT_AGAIN_S = 3600.0
_MOST_CALLERS = 100
_ALL_OTHERS = "others"
_IPV6_SUBNET = 64  # what one machine may choose its addresses from

log = logging.getLogger(__name__)


@dataclass
class _Caller:
    since: float
    tokens: set[int] = field(default_factory=set)
    reported: float | None = None
    reported_many: float | None = None


class Guesses:
    """The last minute's wrong tokens, by caller. Thread-safe; `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._callers: dict[str, _Caller] = {}
        self._lock = threading.Lock()

    def wait_s(self, address: str, now: float) -> float:
        """For how long the next wrong one is one too many; 0: it is not."""
        with self._lock:
            caller = self._callers.get(self._name(address))
            if caller is None or len(caller.tokens) < MOST_GUESSES:
                return 0.0
            return max(0.0, caller.since + _MINUTE_S - now)

    def note(self, address: str, token: str, now: float) -> None:
        """Count a wrong token. A caller is logged once an hour, and once when it sends too many."""
        with self._lock:
            caller = self._caller(address, now)
            caller.tokens.add(hash(token))
            is_new = caller.reported is None
            is_many = len(caller.tokens) >= MOST_GUESSES and caller.reported_many is None
            caller.reported = now if is_new else caller.reported
            caller.reported_many = now if is_many else caller.reported_many
        if is_new:
            log.warning("%s sent a wrong KTRDR_STATUS_TOKEN", address)
        if is_many:
            reported = (
                f"{MOST_GUESSES} different ones within a minute: more are not counted in that one"
            )
            log.warning("%s sent wrong KTRDR_STATUS_TOKENs, %s", address, reported)

    def _caller(self, address: str, now: float) -> _Caller:
        if len(self._callers) >= _MOST_CALLERS:
            self._forget(now)
        caller = self._callers.setdefault(self._name(address), _Caller(now))
        if now - caller.since >= _MINUTE_S:
            caller.since, caller.tokens = now, set()
        if caller.reported is not None and now - caller.reported >= _REPORT_AGAIN_S:
            caller.reported = caller.reported_many = None
        return caller

    def _forget(self, now: float) -> None:
        kept = {
            name: caller
            for name, caller in self._callers.items()
            if now - (caller.reported or caller.since) < _REPORT_AGAIN_S
        }
        self._callers = kept

    def _name(self, address: str) -> str:
        """Under which a caller is counted: all that do not fit in any more are one."""
        try:
            found = plain_address(address)
        except ValueError:
            return _ALL_OTHERS
        is_many = isinstance(found, IPv6Address)
        name = str(ip_network((found, _IPV6_SUBNET), strict=False)) if is_many else str(found)
        is_known = name in self._callers or len(self._callers) < _MOST_CALLERS
        return name if is_known else _ALL_OTHERS
