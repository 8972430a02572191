"""Wrong tokens: how many of them a client may send, and which are logged.

Keeps hashes, no tokens, and of a limited number of clients.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from ktrdr.addresses import plain_address

MOST_GUESSES = 10
"""Different wrong tokens of a client in a minute. The same one sent repeatedly, as by Prometheus
after a change of the token, counts once."""
_MINUTE_S = 60.0
_REPORT_AGAIN_S = 3600.0
_MOST_CLIENTS = 100
_ALL_OTHERS = "others"
_IPV6_SUBNET = 64  # what one machine may choose its addresses from

log = logging.getLogger(__name__)


@dataclass
class _Client:
    since: float
    tokens: set[int] = field(default_factory=set)
    reported: float | None = None
    reported_many: float | None = None


class Guesses:
    """The last minute's wrong tokens by client. Thread-safe; `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        self._lock = threading.Lock()

    def wait_s(self, address: str, now: float) -> float:
        """How many seconds a client has to wait before it may send another wrong token."""
        with self._lock:
            client = self._clients.get(self._name(address))
            if client is None or len(client.tokens) < MOST_GUESSES:
                return 0.0
            return max(0.0, client.since + _MINUTE_S - now)

    def note(self, address: str, token: str, now: float) -> None:
        """Count a wrong token. A client is logged once an hour, and once when it sends too many."""
        with self._lock:
            client = self._client(address, now)
            client.tokens.add(hash(token))
            is_new = client.reported is None
            is_many = len(client.tokens) >= MOST_GUESSES and client.reported_many is None
            client.reported = now if is_new else client.reported
            client.reported_many = now if is_many else client.reported_many
        if is_new:
            log.warning("%s sent a wrong KTRDR_STATUS_TOKEN", address)
        if is_many:
            log.warning(
                "%s sent %d different wrong KTRDR_STATUS_TOKENs within a minute: more get 429",
                address, MOST_GUESSES,
            )  # fmt: skip

    def _client(self, address: str, now: float) -> _Client:
        if len(self._clients) >= _MOST_CLIENTS:
            self._forget(now)
        client = self._clients.setdefault(self._name(address), _Client(now))
        if now - client.since >= _MINUTE_S:
            client.since, client.tokens = now, set()
        if client.reported is not None and now - client.reported >= _REPORT_AGAIN_S:
            client.reported = client.reported_many = None
        return client

    def _forget(self, now: float) -> None:
        kept = {
            name: client
            for name, client in self._clients.items()
            if now - (client.reported or client.since) < _REPORT_AGAIN_S
        }
        self._clients = kept

    def _name(self, address: str) -> str:
        """The name under which a client is counted; those beyond the limit share one."""
        try:
            found = plain_address(address)
        except ValueError:
            return _ALL_OTHERS
        is_many = isinstance(found, IPv6Address)
        name = str(ip_network((found, _IPV6_SUBNET), strict=False)) if is_many else str(found)
        is_known = name in self._clients or len(self._clients) < _MOST_CLIENTS
        return name if is_known else _ALL_OTHERS
