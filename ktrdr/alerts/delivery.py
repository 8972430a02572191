"""Sends each target its messages, oldest first; one that does not answer holds up no other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ktrdr.alerts.record import Outgoing, Sent
from ktrdr.alerts.targets import Target

_RETRY_S = (5.0, 15.0, 60.0, 300.0, 900.0)
"""The wait before each new attempt; the last one repeats."""
_KEPT = timedelta(days=3)
"""A message that is older is not sent any more."""

log = logging.getLogger(__name__)


@dataclass
class _Line:
    """The state of sending to one target."""

    target: Target
    failures: int = 0
    next_s: float = 0.0
    thread: threading.Thread | None = None
    outgoing: Outgoing | None = None
    why: str | None = None
    """Why the message was not taken; empty: it was; None: not known yet."""


class Delivery:
    """One message at a time to each target, each in a thread of its own. For one thread."""

    def __init__(
        self, targets: Sequence[Target], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._lines = [_Line(target) for target in targets]
        self._monotonic = monotonic

    def step(
        self, outgoing: Iterable[Outgoing], now: datetime
    ) -> tuple[tuple[Outgoing, ...], tuple[Sent, ...]]:
        """Take in what was sent, and begin what is due: what is left, and what was sent now."""
        known = {line.target.fingerprint for line in self._lines}
        left = [one for one in outgoing if one.target in known and now - one.time < _KEPT]
        sent = []
        for line in self._lines:
            if (done := self._finished(line)) is not None:
                left = [one for one in left if one != done]
                sent.append(Sent(now, line.target.name, done.message.title))
            if line.thread is None and self._monotonic() >= line.next_s:
                self._begin(line, [o for o in left if o.target == line.target.fingerprint])
        return tuple(left), tuple(sent)

    def finish(
        self, outgoing: Iterable[Outgoing], timeout_s: float
    ) -> tuple[tuple[Outgoing, ...], tuple[Sent, ...]]:
        """Wait a moment for what is being sent; then as `step`, without beginning anything."""
        deadline = self._monotonic() + timeout_s
        for line in self._lines:
            if line.thread is not None:
                line.thread.join(max(0.0, deadline - self._monotonic()))
            line.next_s = float("inf")
        return self.step(outgoing, datetime.now(UTC))

    def _begin(self, line: _Line, waiting: Sequence[Outgoing]) -> None:
        if not waiting:
            return
        line.outgoing, line.why = waiting[0], None

        def send(message: Outgoing) -> None:
            line.why = line.target.send(message.message)

        line.thread = threading.Thread(
            target=send, args=(waiting[0],), name=line.target.name, daemon=True
        )
        line.thread.start()

    def _finished(self, line: _Line) -> Outgoing | None:
        """The message that the target has taken; None: none, or it did not take it."""
        if line.thread is None or line.thread.is_alive():
            return None
        line.thread = None
        if line.why == "":
            log.info("%s has taken a message", line.target.name)
            line.failures, line.next_s = 0, min(line.next_s, 0.0)
            return line.outgoing
        if not line.failures:
            why = line.why or "the attempt ended by an error"
            log.warning("%s does not take messages: %s; tried again later", line.target.name, why)
        wait_s = _RETRY_S[min(line.failures, len(_RETRY_S) - 1)]
        line.failures, line.next_s = line.failures + 1, self._monotonic() + wait_s
        return None
