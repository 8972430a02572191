"""Faults as tests begin and end them: a context manager for each. What they do is elsewhere."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager as Context
from typing import Any

from ktrdr.sim.gateway.faults import Value


class Doors(ABC):
    """`with gateway.half_open(): …`; when the block ends, so does the fault."""

    @abstractmethod
    def begin_fault(self, name: str, /, **values: Value) -> None:
        """Begin a fault by its name; `for_s`: it ends by itself. InvalidRequest: no such."""

    @abstractmethod
    def end_fault(self, name: str) -> bool:
        """End a fault by its name; False: it was not in force."""

    @contextlib.contextmanager
    def fault(self, name: str, /, **values: Value) -> Iterator[None]:
        """Any fault by its name, for as long as the block lasts."""
        self.begin_fault(name, **values)
        try:
            yield
        finally:
            self.end_fault(name)

    def drop(self, how: str = "rst") -> None:
        """Break every connection, by `rst` or by `fin`."""
        self.begin_fault("drop", how=how)

    def garbage(self, size: int = 64) -> None:
        """Send every client bytes that are no message."""
        self.begin_fault("garbage", bytes=size)

    def notice(self, code: int) -> None:
        """Tell every client a system notice: 1100 to 1102, 2103 to 2110 and their like."""
        self.begin_fault("notice", code=code)

    def refusing(self) -> Context[None]:
        """The port is closed; who is connected stays."""
        return self.fault("refuse")

    def half_open(self) -> Context[None]:
        """Who is connected now is neither heard nor spoken to."""
        return self.fault("half_open")

    def wedged(self) -> Context[None]:
        """Who connects now is accepted and never spoken to."""
        return self.fault("wedged")

    def too_early(self, count: int = 1) -> Context[None]:
        """The next connections are never spoken to; the ones after these are."""
        return self.fault("too_early", count=count)

    def untrusting(self) -> Context[None]:
        """Who says hello is sent away without a word."""
        return self.fault("untrusted")

    def outdated(self, version: int = 140) -> Context[None]:
        """The gateway offers an old protocol."""
        return self.fault("old_version", version=version)

    def stalled(self) -> Context[None]:
        """Nothing is sent; at the end everything is."""
        return self.fault("stall")

    def slow_drip(self, bytes_per_s: float = 1000.0) -> Context[None]:
        """Bytes come slowly."""
        return self.fault("slow_drip", bytes_per_s=bytes_per_s)

    def truncating(self) -> Context[None]:
        """A message stops in its middle, and its connection ends."""
        return self.fault("truncated")

    def connectivity_lost(self, back: int = 1102) -> Context[None]:
        """1100, questions hang; at the end 1102 or 1101."""
        return self.fault("connectivity_lost", back=back)

    def farm_broken(self, farm: str = "ushmds", told: str = "yes") -> Context[None]:
        """A data farm breaks, and is OK at the end; `told`: yes, no, or its begin alone."""
        return self.fault("farm_broken", farm=farm, told=told)

    def restarting(self) -> Context[None]:
        """Everybody is sent away and the port is closed."""
        return self.fault("restart")

    def logged_out(self) -> Context[None]:
        """The same; the end of the block is the log-in."""
        return self.fault("logged_out")

    def competing_session(self, code: int = 162) -> Context[None]:
        """History is refused, with 162 or 10197."""
        return self.fault("competing_session", code=code)

    def false_200(self) -> Context[None]:
        """No contract is known."""
        return self.fault("false_200")

    def unanswered(self, kind: str = "data", symbol: str = "") -> Context[None]:
        """Questions of a kind are never answered; with a symbol, those about it."""
        return self.fault("unanswered", kind=kind, symbol=symbol)

    def unanswered_executions(self) -> Context[None]:
        """Executions are never answered."""
        return self.fault("unanswered_executions")

    def late(self, seconds: float) -> Context[None]:
        """Answers come so much later."""
        return self.fault("late", seconds=seconds)

    def doubled_bars(self) -> Context[None]:
        """Every bar comes twice."""
        return self.fault("doubled_bars")

    def unordered_bars(self) -> Context[None]:
        """Bars come in a wrong order."""
        return self.fault("unordered_bars")

    def missing_bars(self, every: int = 3) -> Context[None]:
        """One bar of so many is left out."""
        return self.fault("missing_bars", every=every)

    def wrong_bars(self, how: str = "nan") -> Context[None]:
        """One bar of three is wrong."""
        return self.fault("wrong_bars", how=how)

    def wrong_clock(self, seconds: float = 3600.0) -> Context[None]:
        """The gateway's time is off."""
        return self.fault("wrong_clock", seconds=seconds)

    def read_only_api(self) -> Context[None]:
        """Open and completed orders get 321 and never end."""
        return self.fault("read_only_api")

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The record in numbers."""
