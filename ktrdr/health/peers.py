"""What ib-connection and gap-filler say of themselves, or why they say nothing. Never raises."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError, PeerDown, Permanent
from ktrdr.health.latest import Latest
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import (
    ACCEPTED,
    ConnectionHistory,
    ConnectionStatus,
    GapFillerStatus,
    Json,
    Outage,
)

T = TypeVar("T")

ASK_TIMEOUT_S = 2.0
"""A peer serves cached state: what takes longer than this hangs."""

_WRITE_TIMEOUT_S = 5.0
"""How long what is to be written down may take: a ledger may be locked for a moment."""

_FRESH_S = 0.5
_COVERAGE_FRESH_S = 3.0
_HISTORY_FRESH_S = 20.0
_COSTS = 10
"""Outages of which it is asked what they have cost."""
HISTORY_DAYS = (1, 30)
"""The spans of time of which the page shows how the connection was."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a peer said; or None, and why, with the next step."""

    said: T | None
    why: str = ""
    hint: str = ""

    @property
    def reason(self) -> str:
        """Why nothing was said, in a sentence that names the next step; else empty."""
        return f"{self.why} – next step: {self.hint}" if self.hint else self.why


class Series(BaseModel):
    """One file of the store, as the gap filler sees it. Counts are bars."""

    symbol: str
    timeframe: str
    file: str
    state: str
    """`complete`, `filling`, `waiting`, `renewed` (pulled again), `failed` or `refused`."""
    first: datetime | None = None
    last: datetime | None = None
    expected: int | None = None
    """None, like the next two: nobody has looked yet, or the file cannot be read."""
    present: int | None = None
    holes: int | None = None
    missing: dict[str, int] = {}
    """Reason → bars that are missing for it."""
    error: str | None = None
    hint: str | None = None
    """What a person can do about the error."""
    error_code: int | None = None
    """IB's."""
    looked_from: datetime | None = Field(default=None, alias="from")
    listed: datetime | None = None
    expires: datetime | None = None
    sessions_from: str | None = None
    """`ib`, `hours` or `rules`: who has told the sessions."""


class Fill(BaseModel):
    """History that somebody asked for, as the gap filler sees it. Counts are bars."""

    id: int
    symbol: str
    timeframe: str
    since: datetime = Field(alias="from")
    state: str
    """One of `filling.fill.State`."""
    why: str = ""
    """What is in the way; else empty."""
    hint: str = ""
    expected: int | None = None
    """None, like the next one: not known yet."""
    present: int | None = None

    @property
    def is_open(self) -> bool:
        """Neither done nor cancelled."""
        return self.state not in ("done", "cancelled")


_CONNECTION = TypeAdapter(ConnectionStatus)
_HISTORY = TypeAdapter(ConnectionHistory)
_GAP_FILLER = TypeAdapter(GapFillerStatus)
_SERIES = TypeAdapter(list[Series])
_FILLS = TypeAdapter(list[Fill])


class Peers:
    """Asks the two programs at their sockets, each question at most twice a second."""

    def __init__(self, settings: Settings) -> None:
        self._connection = LocalClient(settings.connection_socket, "ib-connection")
        self._gap_filler = LocalClient(settings.gap_filler_socket, "gap-filler")
        self._connection_status = Latest(self._ask_connection, _FRESH_S)
        self._gap_filler_status = Latest(self._ask_gap_filler, _FRESH_S)
        self._series = Latest(self._ask_series, _COVERAGE_FRESH_S)
        self._open_fills = Latest(self._ask_open_fills, _FRESH_S)
        self._histories = {
            days: Latest(partial(self._ask_history, days), _HISTORY_FRESH_S)
            for days in HISTORY_DAYS
        }

    def connection(self) -> Answer[ConnectionStatus]:
        """The state of the connection to IB."""
        return self._connection_status.get()

    def history(self, days: int) -> Answer[ConnectionHistory]:
        """How the connection was in the last days, one of HISTORY_DAYS."""
        return self._histories[days].get()

    def gap_filler(self) -> Answer[GapFillerStatus]:
        """The state of the gap filler."""
        return self._gap_filler_status.get()

    def series(self) -> Answer[list[Series]]:
        """Every file of the store, without its days."""
        return self._series.get()

    def coverage(self, question: Mapping[str, str]) -> Answer[Json]:
        """The gap filler's own words on what is expected and present, day by day.

        Permanent when the question is wrong, such as for a series that is not there.
        """
        return _answer("gap-filler", lambda: _with_series(self._ask_coverage(**question)))

    def scan(self) -> Answer[str]:
        """Have the gap filler look for holes now; the scan's id."""
        return _answer(
            "gap-filler",
            lambda: str(self._gap_filler.post("/scan", timeout_s=ASK_TIMEOUT_S)["scan_id"]),
        )

    def open_fills(self) -> Answer[list[Fill]]:
        """What was asked for, and is neither done nor cancelled."""
        return self._open_fills.get()

    def fills_of(self, symbol: str | None) -> Answer[Json]:
        """The gap filler's own words on all that was asked for, of one symbol where it is given."""
        chosen = {} if symbol is None else {"symbol": symbol}
        return _answer(
            "gap-filler", lambda: self._gap_filler.get("/fills", ASK_TIMEOUT_S, **chosen)
        )

    def ask_for_fill(self, asked: Mapping[str, str]) -> Json:
        """Have a series (`symbol`, `timeframe`) filled from `from` on. Raises its errors."""
        said = self._gap_filler.post("/fill", _WRITE_TIMEOUT_S, **asked)
        return {key: value for key, value in said.items() if key != ACCEPTED}

    def cancel_fill(self, number: str) -> Json:
        """Give a fill up. Raises the gap filler's errors, such as UnknownFill."""
        return self._gap_filler.delete("/fills", _WRITE_TIMEOUT_S, id=number)

    def _ask_open_fills(self) -> Answer[list[Fill]]:
        def ask() -> list[Fill]:
            said = self._gap_filler.get("/fills", timeout_s=ASK_TIMEOUT_S).get("fills")
            return [fill for fill in _read(_FILLS, said) if fill.is_open]

        return _answer("gap-filler", ask)

    def _ask_connection(self) -> Answer[ConnectionStatus]:
        return _answer(
            "ib-connection",
            lambda: _read(_CONNECTION, self._connection.get("/status", timeout_s=ASK_TIMEOUT_S)),
        )

    def _ask_history(self, days: int) -> Answer[ConnectionHistory]:
        def ask() -> ConnectionHistory:
            said = self._connection.get("/history", timeout_s=ASK_TIMEOUT_S, days=str(days))
            history = _read(_HISTORY, said)
            return replace(history, outages=self._with_costs(history.outages, history.until))

        return _answer("ib-connection", ask)

    def _with_costs(self, outages: tuple[Outage, ...], until: datetime) -> tuple[Outage, ...]:
        """The newest ones with what they have cost, as far as the gap filler says."""
        older, newest = outages[:-_COSTS], outages[-_COSTS:]
        spans = [f"{one.start.isoformat()}/{(one.end or until).isoformat()}" for one in newest]
        try:
            said = self._gap_filler.get("/cost", timeout_s=ASK_TIMEOUT_S, spans=",".join(spans))
            costs = [(int(one["bars_late"]), int(one["bars_lost"])) for one in said["costs"]]
            with_costs = [
                replace(one, bars_late=late, bars_lost=lost)
                for one, (late, lost) in zip(newest, costs, strict=True)
            ]
        except (KtrdrError, KeyError, TypeError, ValueError):
            return outages
        return (*older, *with_costs)

    def _ask_gap_filler(self) -> Answer[GapFillerStatus]:
        return _answer(
            "gap-filler",
            lambda: _read(_GAP_FILLER, self._gap_filler.get("/status", timeout_s=ASK_TIMEOUT_S)),
        )

    def _ask_series(self) -> Answer[list[Series]]:
        try:
            return _answer(
                "gap-filler", lambda: _read(_SERIES, self._ask_coverage(days="0").get("series"))
            )
        except Permanent as error:
            return Answer(None, error.message, error.hint)

    def _ask_coverage(self, **question: str) -> Json:
        return self._gap_filler.get("/coverage", timeout_s=ASK_TIMEOUT_S, **question)


def connection_json(answer: Answer[ConnectionStatus]) -> Json:
    """The status API's `ib-status`: all keys, always."""
    said = _all_keys(ConnectionStatus, answer.said)
    return said | {"connected": bool(said["connected"]), "reason": answer.reason or None}


def gap_filler_json(answer: Answer[GapFillerStatus]) -> Json:
    """The status API's `gap-filler-status`: all keys, always."""
    said = _all_keys(GapFillerStatus, answer.said)
    reason = said["reason"] if answer.said else answer.reason
    return said | {"running": bool(said["running"]), "reason": reason or None}


def _all_keys(shape: type[Any], said: object | None) -> Json:
    return to_json(said) if said else {field.name: None for field in fields(shape)}


def _answer(program: str, ask: Callable[[], T]) -> Answer[T]:
    """The answer, or the reason why there is none. A Permanent passes: the question is wrong."""
    try:
        return Answer(ask())
    except Permanent:
        raise
    except KtrdrError as error:
        return Answer(None, error.message, error.hint)
    except (KeyError, TypeError, ValueError) as error:
        unread = PeerDown(
            f"{program} gave an answer that cannot be read ({_first_line(error)})",
            hint=f".venv/bin/supervisorctl restart {program}",
        )
        return Answer(None, unread.message, unread.hint)


def _read(shape: TypeAdapter[T], said: object) -> T:
    """A peer's JSON as the value it stands for, with no leniency about types."""
    return shape.validate_json(json.dumps(said, allow_nan=False), strict=True)


def _with_series(said: Json) -> Json:
    if not isinstance(said.get("series"), list):
        raise TypeError("series: a list was expected")
    return said


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
