"""Contracts whose data IB refuses, for the status. Sends no requests."""

from __future__ import annotations

from datetime import datetime, timedelta

from ktrdr.errors import NotEntitled, Permanent
from ktrdr.ipc.messages import RefusedContract

_MOST = 200
_LATELY = timedelta(hours=7)
"""They are requested again every six hours at least, unless no longer wanted."""


class RefusedContracts:
    """Refused contracts by symbol, the last refused one last. Any thread may read it."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[RefusedContract, datetime]] = {}
        """Always replaced as a whole; each contract with the time of its last refusal."""

    def __repr__(self) -> str:
        return f"RefusedContracts({' '.join(self._refused)})"

    def lately(self, now: datetime) -> tuple[RefusedContract, ...]:
        """Refused contracts that were requested recently."""
        return tuple(one for one, at in self._refused.values() if now - at < _LATELY)

    def note(self, symbol: str, error: Permanent, now: datetime) -> None:
        """IB has refused this contract."""
        since = self._refused[symbol][0].since if symbol in self._refused else now
        refused = RefusedContract(
            symbol, error.outcome, error.code, error.message, error.hint, since
        )
        kept = list(self._others(symbol).items())[-_MOST + 1 :]
        self._refused = {**dict(kept), symbol: (refused, now)}

    def note_answer(self, symbol: str, *, has_bars: bool) -> None:
        """IB has answered a request for this contract; `has_bars`: a request for bars.

        Its details and sessions are for everybody: they do not end a refusal of its bars.
        """
        refused = self._refused.get(symbol)
        if refused is not None and (has_bars or refused[0].outcome != NotEntitled.outcome):
            self.withdraw(symbol)

    def withdraw(self, symbol: str) -> None:
        """List the contract no longer."""
        if symbol in self._refused:
            self._refused = self._others(symbol)

    def _others(self, symbol: str) -> dict[str, tuple[RefusedContract, datetime]]:
        return {other: one for other, one in self._refused.items() if other != symbol}
