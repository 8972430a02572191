"""Contracts whose data IB refuses, as told to others. Asks nobody."""

from __future__ import annotations

from datetime import datetime, timedelta

from ktrdr.errors import Permanent
from ktrdr.ipc.messages import RefusedContract

_MOST = 200
_LATELY = timedelta(hours=7)
"""They are asked for again every six hours at the least, unless nobody wants them any more."""


class RefusedContracts:
    """By their symbols; the one that was refused last comes last. Any thread may read it."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[RefusedContract, datetime]] = {}
        """Replaced whole; with each, when it was refused last."""

    def __repr__(self) -> str:
        return f"RefusedContracts({' '.join(self._refused)})"

    def lately(self, now: datetime) -> tuple[RefusedContract, ...]:
        """Those that were asked for lately."""
        return tuple(one for one, at in self._refused.values() if now - at < _LATELY)

    def note(self, symbol: str, error: Permanent, now: datetime) -> None:
        """IB has refused this one."""
        since = self._refused[symbol][0].since if symbol in self._refused else now
        refused = RefusedContract(
            symbol, error.outcome, error.code, error.message, error.hint, since
        )
        kept = list(self._others(symbol).items())[-_MOST + 1 :]
        self._refused = {**dict(kept), symbol: (refused, now)}

    def note_answer(self, symbol: str) -> None:
        """IB has answered this one."""
        if symbol in self._refused:
            self._refused = self._others(symbol)

    def _others(self, symbol: str) -> dict[str, tuple[RefusedContract, datetime]]:
        return {other: one for other, one in self._refused.items() if other != symbol}
