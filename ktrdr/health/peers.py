"""The answers of ib-connection and gap-filler to requests, or why there are none; cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError, Permanent, UnknownFill
from ktrdr.health.latest import Latest
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.evidence_messages import DayBars, DayEvidence
from ktrdr.ipc.messages import (
    ACCEPTED,
    ConnectionHistory,
    ConnectionStatus,
    DetailedCoverage,
    FillList,
    FillStatus,
    GapFillerStatus,
    Json,
    Outage,
    OutageCosts,
    ScanAccepted,
    SeriesCoverage,
    SeriesStatus,
    StoreCoverage,
)
from ktrdr.ipc.revision_messages import RevisionList
from ktrdr.ipc.series_messages import ContractCandidates, CoverageGrid, SeriesChange, WatchList

M = TypeVar("M")
T = TypeVar("T")

REQUEST_TIMEOUT_S = 2.0
"""Peers serve cached state: one that takes longer hangs."""

WRITE_TIMEOUT_S = 5.0
"""The time-out of requests that are written down: a ledger may be locked for a moment."""

_CONTRACT_S = 30.0
"""The time-out of requests for which IB may be asked about contracts, up to twice."""

_FRESH_S = 0.5
_AHEAD_S = 0.15
_COVERAGE_FRESH_S = 3.0
_HISTORY_FRESH_S = 20.0
_COSTS = 10
"""The number of outages whose cost is requested: the newest."""
HISTORY_DAYS = (1, 30)
"""The periods, in days, whose connection history the page shows."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The answer of a peer: its content; or None, why there is none, and the next step."""

    content: T | None
    why: str = ""
    hint: str = ""

    @property
    def reason(self) -> str:
        """Why there is no content, with the next step, in a sentence; else empty."""
        return f"{self.why} – next step: {self.hint}" if self.hint else self.why


class Peers:
    """The two programs at their sockets; their state is requested at most thrice a second."""

    def __init__(self, settings: Settings) -> None:
        self._connection = LocalClient(settings.connection_socket, "ib-connection")
        self._gap_filler = LocalClient(settings.gap_filler_socket, "gap-filler")
        self._connection_status = _latest(
            lambda: self._connection.request(ConnectionStatus, "GET", "/status", REQUEST_TIMEOUT_S),
            _FRESH_S,
        )
        self._gap_filler_status = _latest(
            lambda: self._gap_filler.request(GapFillerStatus, "GET", "/status", REQUEST_TIMEOUT_S),
            _FRESH_S,
        )
        self._series = Latest(self._fetch_series, _COVERAGE_FRESH_S)
        self._fill_list = _latest(self._fetch_fill_list, _FRESH_S)
        self._histories = {
            days: _latest(partial(self._fetch_history, days), _HISTORY_FRESH_S)
            for days in HISTORY_DAYS
        }
        self._history_of: tuple[str, datetime | None] | None = None
        """The state of the connection, and since when it has no data, that the histories end in."""

    def connection(self) -> Answer[ConnectionStatus]:
        """The state of the connection to IB."""
        return self._connection_status.get()

    def history(self, days: int) -> Answer[ConnectionHistory]:
        """The connection's history of the last `days`, one of HISTORY_DAYS.

        It is never that of another state than the connection is in.
        """
        status = self.connection().content
        state = (status.state, status.no_data_since) if status else None
        if state != self._history_of:
            self._history_of = state
            for history in self._histories.values():
                history.forget()
        return self._histories[days].get()

    def reconnect(self) -> None:
        """Have the connection closed, or a wait cut short, and made anew. Raises KtrdrError."""
        self._connection.post("/reconnect", REQUEST_TIMEOUT_S)
        self._connection_status.forget()

    def gap_filler(self) -> Answer[GapFillerStatus]:
        """The state of the gap filler."""
        return self._gap_filler_status.get()

    def series(self) -> Answer[list[SeriesStatus]]:
        """The state of every series, without its days."""
        return self._series.get()

    def coverage(self, query: Mapping[str, str]) -> Answer[DetailedCoverage]:
        """Expected and present bars day by day. Permanent when the query is wrong."""
        return _answer(
            lambda: self._gap_filler.request(
                DetailedCoverage, "GET", "/coverage", REQUEST_TIMEOUT_S, **query
            )
        )

    def grid(self, query: Mapping[str, str]) -> Answer[CoverageGrid]:
        """The coverage of all series, a character a trading day; `from` and `to` are days.

        Permanent when the query is wrong.
        """
        return _answer(
            lambda: self._gap_filler.request(
                CoverageGrid, "GET", "/grid", REQUEST_TIMEOUT_S, **query
            )
        )

    def coverage_of(self, symbol: str, timeframe: str) -> Answer[list[SeriesCoverage]]:
        """One series with its gaps and days; an empty list if the store has no such series."""
        return self._of_series(DetailedCoverage, "/coverage", symbol, timeframe, lambda m: m.series)

    def bars_of_day(self, symbol: str, timeframe: str, day: str) -> Answer[DayBars]:
        """What is known of each bar of a trading day."""
        return self._of_series(DayBars, "/coverage", symbol, timeframe, lambda m: m, day=day)

    def requests_of(self, symbol: str, timeframe: str, day: str) -> Answer[DayEvidence]:
        """The requests that touched a trading day, and what they have proven."""
        return self._of_series(DayEvidence, "/requests", symbol, timeframe, lambda m: m, day=day)

    def revisions_of(
        self, symbol: str, timeframe: str, query: Mapping[str, str]
    ) -> Answer[RevisionList]:
        """The bars of a series that were corrected; `start`, `end`, `limit` and `before`.

        Permanent when the query is wrong, or the store has no such series.
        """
        series = {"symbol": symbol, "timeframe": timeframe}
        return _answer(
            lambda: self._gap_filler.request(
                RevisionList, "GET", "/revisions", REQUEST_TIMEOUT_S, **series, **query
            )
        )

    def _of_series(
        self,
        shape: type[M],
        path: str,
        symbol: str,
        timeframe: str,
        content: Callable[[M], T],
        **more: str,
    ) -> Answer[T]:
        """An answer about one series; also if the gap filler refuses the query."""
        query = {"symbol": symbol, "timeframe": timeframe, **more}
        try:
            found = self._gap_filler.request(shape, "GET", path, REQUEST_TIMEOUT_S, **query)
        except KtrdrError as error:
            return Answer(None, error.message, error.hint)
        return Answer(content(found))

    def scan(self) -> Answer[str]:
        """Have the gap filler scan for gaps now; the content is the scan's id."""
        return _answer(
            lambda: (
                self._gap_filler.request(ScanAccepted, "POST", "/scan", REQUEST_TIMEOUT_S).scan_id
            )
        )

    def open_fills(self) -> Answer[list[FillStatus]]:
        """The requested fills that are neither done nor cancelled."""
        answer = self._fill_list.get()
        if answer.content is None:
            return Answer(None, answer.why, answer.hint)
        return Answer([fill for fill in answer.content.fills if fill.is_open])

    def fill_list(self) -> Answer[FillList]:
        """All requested fills, and which series are filled next."""
        return self._fill_list.get()

    def fills_of(self, symbol: str | None) -> Answer[Json]:
        """All requested fills, of one symbol where it is given, as the gap filler's JSON has it."""
        chosen = {} if symbol is None else {"symbol": symbol}
        return _answer(lambda: self._gap_filler.get("/fills", REQUEST_TIMEOUT_S, **chosen))

    def fill(self, number: int) -> FillStatus:
        """A requested fill. UnknownFill: there is none with this number. PeerDown."""
        for one in self._fetch_fill_list().fills:
            if one.id == number:
                return one
        raise UnknownFill(
            f"there is no fill {number}", hint=".venv/bin/ktrdr fills lists all of them"
        )

    def request_fill(self, requested: Mapping[str, str]) -> Json:
        """Request a fill: `symbol`, `timeframe`, `from`. Raises the gap filler's errors."""
        accepted = self._gap_filler.post("/fill", WRITE_TIMEOUT_S, **requested)
        self._fill_list.forget()
        return {key: value for key, value in accepted.items() if key != ACCEPTED}

    def cancel_fill(self, number: str) -> Json:
        """Cancel a fill. Raises the gap filler's errors, such as UnknownFill."""
        changed = self._gap_filler.delete("/fills", WRITE_TIMEOUT_S, id=number)
        self._fill_list.forget()
        return changed

    def pause_fill(self, number: str) -> Json:
        """Pause a fill; returns it. Raises the gap filler's errors, such as UnknownFill."""
        changed = self._gap_filler.post("/fills/pause", WRITE_TIMEOUT_S, id=number)
        self._fill_list.forget()
        return changed

    def resume_fill(self, number: str) -> Json:
        """Go on with a paused fill; returns it. Raises the gap filler's errors."""
        changed = self._gap_filler.post("/fills/resume", WRITE_TIMEOUT_S, id=number)
        self._fill_list.forget()
        return changed

    def watch_list(self) -> WatchList:
        """All files of the store, kept or not. Raises the gap filler's errors."""
        return self._gap_filler.request(WatchList, "GET", "/series", REQUEST_TIMEOUT_S)

    def add_series(self, wanted: Mapping[str, str]) -> SeriesChange:
        """Keep a series: `symbol`, `timeframe`, and `since`, `con_id`, `unchecked`, `dry_run`.

        Raises the gap filler's errors; an ambiguous or unknown symbol is none, see `outcome`.
        """
        return self._gap_filler.request(SeriesChange, "POST", "/series", _CONTRACT_S, **wanted)

    def remove_series(self, symbol: str, timeframe: str) -> SeriesChange:
        """Do not keep a series any more; its file stays. Raises the gap filler's errors."""
        series = {"symbol": symbol, "timeframe": timeframe}
        return self._gap_filler.request(
            SeriesChange, "DELETE", "/series", WRITE_TIMEOUT_S, **series
        )

    def change_series(self, wanted: Mapping[str, str]) -> SeriesChange:
        """Change how a series is kept: `symbol`, `timeframe`, and `since` or `con_id`.

        Raises the gap filler's errors.
        """
        return self._gap_filler.request(
            SeriesChange, "POST", "/series/settings", _CONTRACT_S, **wanted
        )

    def candidates(self, symbol: str) -> ContractCandidates:
        """The contracts that a symbol may stand for. Raises the gap filler's errors."""
        return self._gap_filler.request(
            ContractCandidates, "GET", "/series/candidates", _CONTRACT_S, symbol=symbol
        )

    def _fetch_fill_list(self) -> FillList:
        return self._gap_filler.request(FillList, "GET", "/fills", REQUEST_TIMEOUT_S)

    def _fetch_history(self, days: int) -> ConnectionHistory:
        history = self._connection.request(
            ConnectionHistory, "GET", "/history", REQUEST_TIMEOUT_S, days=str(days)
        )
        return replace(history, outages=self._with_costs(history.outages, history.until))

    def _with_costs(self, outages: tuple[Outage, ...], until: datetime) -> tuple[Outage, ...]:
        """The outages, the newest ones with their cost if the gap filler answers."""
        older, newest = outages[:-_COSTS], outages[-_COSTS:]
        spans = [f"{one.start.isoformat()}/{(one.end or until).isoformat()}" for one in newest]
        try:
            response = self._gap_filler.request(
                OutageCosts, "GET", "/cost", REQUEST_TIMEOUT_S, spans=",".join(spans)
            )
            with_costs = [
                replace(one, bars_late=cost.bars_late, bars_lost=cost.bars_lost)
                for one, cost in zip(newest, response.costs, strict=True)
            ]
        except (KtrdrError, ValueError):
            return outages
        return (*older, *with_costs)

    def _fetch_series(self) -> Answer[list[SeriesStatus]]:
        def fetch() -> list[SeriesStatus]:
            coverage = self._gap_filler.request(
                StoreCoverage, "GET", "/coverage", REQUEST_TIMEOUT_S, days="0"
            )
            return coverage.series

        try:
            return _answer(fetch)
        except Permanent as error:
            return Answer(None, error.message, error.hint)


def connection_json(answer: Answer[ConnectionStatus]) -> Json:
    """The status API's `ib-status`, always with all keys."""
    status = _all_keys(ConnectionStatus, answer.content)
    return status | {"connected": bool(status["connected"]), "reason": answer.reason or None}


def gap_filler_json(answer: Answer[GapFillerStatus]) -> Json:
    """The status API's `gap-filler-status`, always with all keys."""
    status = _all_keys(GapFillerStatus, answer.content)
    reason = status["reason"] if answer.content else answer.reason
    return status | {"running": bool(status["running"]), "reason": reason or None}


def _all_keys(shape: type[Any], content: object | None) -> Json:
    return to_json(content) if content else {field.name: None for field in fields(shape)}


def _answer(fetch: Callable[[], T]) -> Answer[T]:
    """The answer, or why there is none. Permanent is raised, because the query is wrong."""
    try:
        return Answer(fetch())
    except Permanent:
        raise
    except KtrdrError as error:
        return Answer(None, error.message, error.hint)


def _latest(fetch: Callable[[], T], max_age_s: float) -> Latest[Answer[T]]:
    return Latest(lambda: _answer(fetch), max_age_s, ahead_s=_AHEAD_S)
