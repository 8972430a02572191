"""IB's limits on clients: counts requests and messages, and decides. No I/O, no clock.

Times are seconds of any monotonic clock; `now_s` is passed in. Whether IB counts by account, login
or connection is not documented: history is counted over all clients of the gateway, messages by
connection.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ktrdr.sim.gateway import refusals
from ktrdr.sim.gateway.refusals import Refusal
from ktrdr.sim.gateway.wire import Request

IDENTICAL_S, BURST_S, LONG_S = 15.0, 2.0, 600.0
"""The windows of the small-bar rules (TWS API, "Pacing Violations for Small Bars")."""

HISTORY_KINDS = ("historical_data", "schedule")
_LOAD_S = 60.0
_WARNINGS = 3


@dataclass(frozen=True)
class Limits:
    """The limits; None: no limit. The defaults are IB's documented numbers, where there are any."""

    small_bars: bool = True
    """The three rules for bars of 30 s or less and for head timestamps: 162."""
    in_burst: int = 6
    """This many requests for one contract, exchange and tick type within 2 s are too many."""
    in_10_min: int = 60
    """Maximum requests within 10 min. BID_ASK counts twice."""
    open_requests: int | None = 50
    """Maximum open history requests; one more: 322 (TWS API, old pages)."""
    messages_per_s: int | None = 50
    """Market data lines / 2. More: error 100, and a disconnect when it continues."""
    clients: int | None = 32
    """Maximum clients at once; one more is disconnected without an error."""
    id_lingers_s: float = 0.0
    """Seconds for which a dropped client's id stays in use. IB documents no number."""
    soft_per_min: int | None = None
    """History requests for larger bars a minute, above which responses slow down. IB documents no
    number: it calls this limit "soft", and balances load."""
    soft_delay_s: float = 0.1
    """Seconds of delay for every request over `soft_per_min`."""
    soft_disconnect: float = 10.0
    """The multiple of `soft_per_min` above which the connection ends."""


@dataclass(frozen=True)
class Violation:
    """A limit that was exceeded: the error for the client, and whether its connection ends."""

    limit: str
    """`identical`, `burst`, `ten_minutes`, `open_requests`, `load`, `messages`, `clients`,
    `id_in_use`."""
    refused: Refusal | None = None
    is_end: bool = False


class HistoryPace:
    """Counts history requests and head timestamps, of all clients together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._requested: dict[tuple[object, ...], float] = {}
        self._by_contract: dict[tuple[object, ...], deque[float]] = {}
        self._small: deque[tuple[float, int]] = deque()
        self._large: deque[float] = deque()
        self.open = 0
        """History requests that are being answered. Callers that begin or end one update it."""

    def check(self, request: Request, now_s: float) -> Violation | None:
        """Count a request; on a violation it must not be answered."""
        limits = self._limits
        if request.kind in HISTORY_KINDS and self.open >= (limits.open_requests or 1 << 30):
            return Violation("open_requests", refusals.too_many_open(limits.open_requests or 0))
        if not is_small(request):
            return self._check_load(now_s)
        if not limits.small_bars:
            return None
        broken = self._broken_rule(request, now_s)
        if broken:
            return Violation(broken, refusals.pacing())
        self._count_small(request, now_s)
        return None

    def delay_s(self, now_s: float) -> float:
        """Seconds by which the load of the last minute delays a response."""
        self._forget_load(now_s)
        over = len(self._large) - (self._limits.soft_per_min or 1 << 30)
        return max(over, 0) * self._limits.soft_delay_s

    def _check_load(self, now_s: float) -> Violation | None:
        soft = self._limits.soft_per_min
        if soft is None:
            return None
        self._forget_load(now_s)
        self._large.append(now_s)
        if len(self._large) > soft * self._limits.soft_disconnect:
            return Violation("load", is_end=True)
        return None

    def _forget_load(self, now_s: float) -> None:
        while self._large and self._large[0] <= now_s - _LOAD_S:
            self._large.popleft()

    def _broken_rule(self, request: Request, now_s: float) -> str:
        """The rule that a small-bar request breaks; empty: none."""
        self._forget(now_s)
        if identity(request) in self._requested:
            return "identical"
        lately = self._by_contract.get(_contract(request), ())
        if len(lately) + 1 >= self._limits.in_burst:
            return "burst"
        if sum(weight for _, weight in self._small) + _weight(request) > self._limits.in_10_min:
            return "ten_minutes"
        return ""

    def _count_small(self, request: Request, now_s: float) -> None:
        self._requested[identity(request)] = now_s
        self._by_contract.setdefault(_contract(request), deque()).append(now_s)
        self._small.append((now_s, _weight(request)))

    def _forget(self, now_s: float) -> None:
        """Remove requests that are older than the windows."""
        self._requested = {k: at for k, at in self._requested.items() if at > now_s - IDENTICAL_S}
        for key, times in list(self._by_contract.items()):
            while times and times[0] <= now_s - BURST_S:
                times.popleft()
            if not times:
                del self._by_contract[key]
        while self._small and self._small[0][0] <= now_s - LONG_S:
            self._small.popleft()


class MessageRate:
    """The message rate of one connection: a bucket of one second's messages, refilled in a second.

    IB does not document how it counts. A bucket is fair to a client that keeps to the rate, even
    if its messages bunch up on the network.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.messages_per_s
        self._left = float(self._limit or 0)
        self._at_s: float | None = None
        self._warned: deque[float] = deque()
        self._lately: deque[float] = deque()

    def count(self, now_s: float) -> int:
        """Count a message; returns the number within the second that ends with it."""
        self._lately.append(now_s)
        while self._lately[0] <= now_s - 1:
            self._lately.popleft()
        return len(self._lately)

    def check(self, now_s: float) -> Violation | None:
        """Count a message; on a violation it is ignored. After the third such second it ends."""
        if self._limit is None:
            return None
        since_s = now_s - self._at_s if self._at_s is not None else 0.0
        self._at_s = now_s
        self._left = min(self._left + since_s * self._limit, self._limit)
        if self._left >= 1:
            self._left -= 1
            return None
        if not self._warned or now_s - self._warned[-1] >= 1:
            self._warned.append(now_s)
        while self._warned[0] < now_s - _LOAD_S:
            self._warned.popleft()
        is_end = len(self._warned) >= _WARNINGS
        refused = refusals.too_many_messages(self._limit, len(self._warned))
        return Violation("messages", refused, is_end)


def is_small(request: Request) -> bool:
    """True for requests under the small-bar rules: bars of 30 s or less, and head timestamps."""
    return request.kind == "head_timestamp" or request.bar_size.endswith((" sec", " secs"))


def identity(request: Request) -> tuple[object, ...]:
    """A key that is equal for two identical requests."""
    return (
        request.kind,
        request.query,
        request.end,
        request.duration,
        request.bar_size,
        request.what_to_show,
        request.use_rth,
        request.format_date,
    )


def _contract(request: Request) -> tuple[object, ...]:
    """A key of contract, exchange and tick type."""
    return (request.query, request.what_to_show)


def _weight(request: Request) -> int:
    return 2 if request.what_to_show == "BID_ASK" else 1
