"""Faults as context managers for tests: `gateway.NAME(…)`. Does not apply them."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ktrdr.sim.gateway.faults import FAULTS, Fault, Value

_ALIASES = {
    "refusing": "refuse",
    "untrusting": "untrusted",
    "outdated": "old_version",
    "stalled": "stall",
    "truncating": "truncated",
    "restarting": "restart",
}
"""Other names of faults, which read better in a `with` statement."""


class FaultContexts(ABC):
    """`with gateway.half_open(): …`; when the block ends, so does the fault.

    This works for every fault in `FAULTS`, with parameters by order or by name. Momentary faults,
    such as `gateway.drop("fin")`, occur when they are called.
    """

    @abstractmethod
    def begin_fault(self, name: str, /, **values: Value) -> None:
        """Begin a fault by its name; `for_s`: seconds until its end. InvalidRequest: unknown."""

    @abstractmethod
    def end_fault(self, name: str) -> bool:
        """End a fault by its name; False: it was not in force."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The record in numbers."""

    @contextlib.contextmanager
    def fault(self, name: str, /, **values: Value) -> Iterator[None]:
        """A fault by its name, for as long as the block lasts."""
        self.begin_fault(name, **values)
        try:
            yield
        finally:
            self.end_fault(name)

    def __getattr__(self, name: str) -> Callable[..., AbstractContextManager[None]]:
        fault = FAULTS.get(_ALIASES.get(name, name))
        if fault is None:
            raise AttributeError(f"{type(self).__name__!r} has no attribute and no fault {name!r}")
        return partial(self._context, fault)

    def _context(
        self, fault: Fault, /, *values: Value, **named: Value
    ) -> AbstractContextManager[None]:
        given = {**dict(zip(fault.values, values, strict=False)), **named}
        if len(values) > len(fault.values):
            expected = ", ".join(fault.values) or "none"
            raise TypeError(f"{fault.name}: expected as parameters at most {expected}")
        if fault.is_momentary:
            self.begin_fault(fault.name, **given)
            return contextlib.nullcontext()
        return self.fault(fault.name, **given)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *FAULTS, *_ALIASES})
