"""The gate in front of what IB refuses at present: a request now and then goes through. Sends none.

Where a history farm is broken, that is one of each kind of contract a minute: which farm serves
a contract IB does not report; presumably one serves all of a kind. Where all is refused, it is two
a minute.
"""

from __future__ import annotations

import asyncio
import contextlib

from ktrdr.errors import KtrdrError
from ktrdr.ib.known_contracts import Kind
from ktrdr.ib.signals import Signal

_FIRST_OF_ALL, _LATER_OF_ALL = 1 / 4, 1 / 2
"""The pauses while all is refused, as parts of that for a kind."""

_UNKNOWN_CONTRACT = 200
_Shut = Kind | None
"""A kind of contract whose history is refused; None: all requests are."""


class RequestGate:
    """Holds back requests that would be refused. For one event loop."""

    def __init__(self, pause_s: float) -> None:
        """`pause_s`: seconds between two requests of a kind that is refused."""
        self._pause_s = pause_s
        self._shut: dict[_Shut, tuple[float, KtrdrError]] = {}
        """What is refused → when its next request may be sent (loop clock), and why not before."""
        self._paced: tuple[float, float] | None = None
        """When the pace was last violated, and when a request may test whether it still is."""
        self._first_until = float("-inf")
        """Until when the first of these requests has not been sent."""
        self._opened = Signal()

    def __repr__(self) -> str:
        return f"RequestGate(shut for {list(self._shut)})"

    @property
    def is_shut(self) -> bool:
        """Whether all requests are refused."""
        return None in self._shut

    @property
    def why_shut(self) -> KtrdrError | None:
        """Why all requests are refused; None: they are not."""
        return self._shut[None][1] if None in self._shut else None

    @property
    def holds_details(self) -> bool:
        """Whether requests for details of contracts are refused too: all are unknown (200)."""
        return self.is_shut and self._shut[None][1].code == _UNKNOWN_CONTRACT

    @property
    def test_in_s(self) -> float:
        """In how many seconds a request may test whether all are still refused; inf: none are."""
        dues = [self._shut[None][0]] if None in self._shut else []
        dues += [self._paced[1]] if self._paced else []
        return min(dues, default=float("inf")) - _now()

    def note_test(self) -> None:
        """A probe tests it now: a request may do so later, unless the first is still to come."""
        now = _now()
        later, is_first = now + self._pause_s * _LATER_OF_ALL, now < self._first_until
        if self.is_shut and not (is_first and self._shut[None][0] > now):
            self._shut[None] = (later, self._shut[None][1])
        if self._paced and not (is_first and self._paced[1] > now):
            self._paced = (self._paced[0], later)

    def note_paced(self) -> None:
        """The pace was violated. The pacer holds requests back; if none tests it, a probe does."""
        part = _LATER_OF_ALL if self._paced else _FIRST_OF_ALL
        if self._paced is None:
            self._first_until = _now() + self._pause_s * _FIRST_OF_ALL
        self._paced = (_now(), _now() + self._pause_s * part)

    def shut(self, kind: _Shut, why: KtrdrError) -> None:
        """A request was refused for a reason that holds for all of this kind; None: for all."""
        first_s = self._pause_s * (_FIRST_OF_ALL if kind is None else 1)
        if kind is None and not self.is_shut:
            self._first_until = _now() + self._pause_s * _FIRST_OF_ALL
        next_at, _ = self._shut.get(kind, (_now() + first_s, why))
        self._shut[kind] = (next_at, why)

    def open(self) -> None:
        """Data are available again, as far as known."""
        self._shut.clear()
        self._paced = None
        self._opened.send()

    def answered(self, kind: _Shut, requested_at: float) -> bool:
        """Data of this kind were sent, that were requested then; True: which had been refused.

        `requested_at`: by the loop's clock; nothing is known from it of a later violation.
        """
        was_shut = [one for one in (kind, None) if self._shut.pop(one, None) is not None]
        if was_shut:
            self._opened.send()
        was_paced = self._paced is not None and requested_at >= self._paced[0]
        if was_paced:
            self._paced = None
        return bool(was_shut) or was_paced

    async def passed(self, kind: _Shut, deadline: float) -> KtrdrError | None:
        """Wait until a request of this kind may be sent; if that is after `deadline`, why not."""
        while shut := [self._shut[one] for one in {kind, None} if one in self._shut]:
            next_at, why = max(shut, key=lambda one: one[0])
            now = _now()
            if now >= next_at:
                for one in {kind, None} & self._shut.keys():  # the others wait for this one
                    later_s = self._pause_s * (_LATER_OF_ALL if one is None else 1)
                    self._shut[one] = (now + later_s, why)
                return None
            if now >= deadline:
                return why
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), min(next_at, deadline) - now)
        return None


def _now() -> float:
    """The current time of the loop's clock, in seconds."""
    return asyncio.get_running_loop().time()
