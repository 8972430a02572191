"""The watch list: which series are kept. Series are added, removed and changed here, for people.

A series is kept if its file is there, unless `watch` in instruments.toml says otherwise; removing
one keeps its file. Nothing is made before IB has confirmed which contract the symbol stands for.
"""

from __future__ import annotations

import difflib
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from ktrdr.assessment.series_state import absence_key
from ktrdr.errors import (
    ContractConflict,
    InvalidRequest,
    Misconfigured,
    PeerTimedOut,
    Retryable,
    TimedOut,
    UnknownSeries,
)
from ktrdr.gap_filler.fill_requests import is_there
from ktrdr.gap_filler.report import StoreSnapshot
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.query import request_to_query
from ktrdr.ipc.series_messages import (
    CandidateContract,
    ContractCandidates,
    KeptSeries,
    SeriesChange,
    WatchList,
)
from ktrdr.ledger.reader import con_id_of
from ktrdr.market.file_names import proper_symbol
from ktrdr.market.instruments import Instrument, Series, check_symbol, instrument_of_entry
from ktrdr.market.nearest_series import similar
from ktrdr.market.series_words import day_of_words, timeframe_of_word
from ktrdr.market.sessions import utc_midnight
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.instruments_edit import EntryChange, change_entry
from ktrdr.store.instruments_file import INSTRUMENTS, tables_of
from ktrdr.store.interface import BarStore
from ktrdr.store.source import ledger_path
from ktrdr.times import moment

ANSWER_S = 12.0
"""How long IB may take to name the contracts of a symbol."""
_CHOOSING = ("primary_exchange", "multiplier", "trading_class", "expiry", "con_id")
"""Fields that choose one of several contracts."""


@dataclass(frozen=True)
class WatchRequests:
    """Requests to change what one gap filler keeps. For any thread."""

    store: BarStore
    connection: LocalClient
    check_owner: Callable[[], None]
    """WrongSource: the store belongs to the other source."""
    snapshot: Callable[[], StoreSnapshot]
    """What was last published."""
    note_changed_files: Callable[[Iterable[str]], None]
    clock: Callable[[], float]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """One change at a time."""

    def listed(self) -> WatchList:
        """All files of the store, kept or not, in the order of their names."""
        store = self.snapshot()
        tables = tables_of(self.store.folder)
        kept = {series: store.state_of(one) for series, one in store.series.items()}
        states = kept | dict.fromkeys(store.unwatched, "not_watched")
        ordered = sorted(states, key=lambda one: (one.symbol, one.timeframe.length_s))
        return WatchList(
            [
                KeptSeries(
                    series.symbol,
                    series.timeframe.value,
                    series.file_name,
                    states[series],
                    series in kept,
                    _since_of(_instrument_or_none(series, tables), series.timeframe),
                )
                for series in ordered
            ]
        )

    def candidates(self, query: Mapping[str, str]) -> ContractCandidates:
        """The contracts that a symbol may stand for, whichever is chosen. Changes nothing.

        Retryable: there is no connection to IB.
        """
        instrument = self._instrument(_symbol_of(query))
        try:
            found = self._choices(instrument)
            return found if found.candidates else replace(found, hint=self._hint_for(found))
        except Retryable as error:
            what = f"the contracts of {instrument.symbol} cannot be requested: {error.message}"
            raise type(error)(what, code=error.code, hint=error.hint) from error

    def add(self, query: Mapping[str, str]) -> SeriesChange:
        """Keep a series: `symbol`, `timeframe` and, if wanted, `since`, `con_id`, `unchecked`.

        Where the symbol stands for no contract, or several, nothing is made, and the answer has
        these; `con_id` chooses one. `unchecked`: IB is not consulted. `dry_run`: nothing is
        changed. A file that is there already stays as it is, and so does an earlier `since`.

        ContractConflict: the symbol is kept as another contract. InvalidRequest, Misconfigured,
        WrongSource, StoreUnwritable: nothing was made either. Retryable: IB cannot be consulted.
        """
        series, since = _series_of(query), _since_from(query, self.clock())
        self.check_owner()
        instrument, is_trial = self._instrument(series.symbol), _is_set(query, "dry_run")
        found = ContractCandidates(series.symbol, [])
        fields: Mapping[str, str | int] = {}
        wanted = _con_id_of(query["con_id"]) if "con_id" in query else None
        is_known = wanted is not None and self._is_kept_as(series, instrument, wanted)
        if not is_known and (wanted is not None or not is_there(self.store, series)):
            found, fields = self._confirmed(series, instrument, query)
            if not found.is_clear and not fields:
                return _refused(series, found, self._hint_for(found), is_trial=is_trial)
            fields = {n: one for n, one in fields.items() if getattr(instrument, n) != one}
        known = instrument.since_for(series.timeframe)
        is_earlier = since is not None and (known is None or since < known)
        change = EntryChange(
            series.symbol,
            fields,
            ("con_id",) if fields else (),
            {series.timeframe.value: since} if is_earlier else {},
            {series.timeframe.value: True},
        )
        return self._make(series, change, found.candidates, is_trial=is_trial)

    def _make(
        self,
        series: Series,
        change: EntryChange,
        candidates: list[CandidateContract],
        *,
        is_trial: bool,
    ) -> SeriesChange:
        with self._lock:
            was_there = is_there(self.store, series)
            was_watched = self._instrument(series.symbol).is_watched(series.timeframe)
            if not is_trial:
                self._change(change)  # first, so that the file is filled as it says
                self._create(series)
        outcome = "watched_already" if was_watched else "watched_again"
        if not was_there or change.fields:
            outcome = "changed" if was_there else "added"
        chosen = [one for one in candidates if not change.fields or one.fields == change.fields]
        return self._result(series, outcome, chosen, is_trial=is_trial)

    def remove(self, query: Mapping[str, str]) -> SeriesChange:
        """Do not keep a series any more; its file stays. UnknownSeries: there is none."""
        series, is_trial = _series_of(query), _is_set(query, "dry_run")
        self.check_owner()
        self._refuse_missing(series)
        with self._lock:
            was_watched = self._instrument(series.symbol).is_watched(series.timeframe)
            if was_watched and not is_trial:
                self._change(EntryChange(series.symbol, watch={series.timeframe.value: False}))
        outcome = "removed" if was_watched else "not_watched"
        return self._result(series, outcome, is_trial=is_trial)

    def change(self, query: Mapping[str, str]) -> SeriesChange:
        """Change how a series is kept: `since` (empty: the last days alone), `con_id`.

        InvalidRequest: neither is given, or the contract is none of the candidates.
        """
        series = _series_of(query)
        self.check_owner()
        self._refuse_missing(series)
        if not query.keys() & {"since", "con_id"}:
            raise InvalidRequest("nothing to change: expected since or con_id")
        since = _since_from(query, self.clock())
        fields, chosen = (
            self._chosen(series.symbol, query["con_id"]) if "con_id" in query else ({}, [])
        )
        change = EntryChange(
            series.symbol,
            fields,
            _CHOOSING if fields else (),
            {series.timeframe.value: since} if "since" in query else {},
        )
        with self._lock:
            self._change(change)
        return self._result(series, "changed", chosen)

    # Contracts.

    def _is_kept_as(self, series: Series, instrument: Instrument, con_id: int) -> bool:
        """The symbol is kept as this contract. False: as which is not known yet.

        ContractConflict: it is kept as another one.
        """
        ledger = ledger_path(self.store.folder)
        recorded = (
            con_id_of(ledger, absence_key(one, instrument)) for one in self._there(series.symbol)
        )
        kept = instrument.con_id or next(filter(None, recorded), None)
        if kept not in (None, con_id):
            raise _conflict(series, kept, con_id)
        return kept is not None

    def _there(self, symbol: str) -> list[Series]:
        """The series of a symbol that have files, kept or not."""
        every = (Series(symbol, timeframe) for timeframe in Timeframe)
        return [one for one in every if is_there(self.store, one)]

    def _confirmed(
        self, series: Series, instrument: Instrument, query: Mapping[str, str]
    ) -> tuple[ContractCandidates, Mapping[str, str | int]]:
        """The candidates, and the fields that choose the one that was named by its `con_id`."""
        nothing = ContractCandidates(instrument.symbol, [])
        if _is_set(query, "unchecked"):
            fields = {"con_id": _con_id_of(query["con_id"])} if "con_id" in query else {}
            return nothing, fields
        if "con_id" not in query and self._is_confirmed(instrument):
            return nothing, {}
        try:
            found = self._requested(instrument)
        except Retryable as error:
            raise type(error)(
                f"{instrument.symbol} was not added, since IB cannot be asked which contract it "
                f"is: {error.message}",
                code=error.code,
                hint=f"{error.hint or 'wait for the connection'}; or add it unchecked",
            ) from error
        if "con_id" not in query:
            return found, {}
        only = found.candidates[0].con_id if len(found.candidates) == 1 else None
        if only not in (None, _con_id_of(query["con_id"])) and self._there(series.symbol):
            raise _conflict(series, only, _con_id_of(query["con_id"]))
        return found, _choice(found, query["con_id"]).fields

    def _is_confirmed(self, instrument: Instrument) -> bool:
        """Another series of the contract is being kept."""
        return any(
            one.instrument == instrument and one.error is None and one.basis.schedule is not None
            for one in self.snapshot().series.values()
        )

    def _chosen(
        self, symbol: str, con_id: str
    ) -> tuple[Mapping[str, str | int], list[CandidateContract]]:
        """The fields that choose a contract, and the contract."""
        one = _choice(self._choices(self._instrument(symbol)), con_id)
        return one.fields, [one]

    def _choices(self, instrument: Instrument) -> ContractCandidates:
        """All contracts of which the entry may have chosen one."""
        usual = {name: getattr(_NO_CHOICE, name) for name in _CHOOSING}
        open_ = replace(instrument, **usual)
        found = self._requested(open_)
        return found if found.candidates or open_ == instrument else self._requested(instrument)

    def _requested(self, instrument: Instrument) -> ContractCandidates:
        now = int(self.clock())
        query = request_to_query(instrument, None, now - DAY_S, now)
        try:
            return self.connection.request(
                ContractCandidates, "GET", "/candidates", ANSWER_S, **query
            )
        except PeerTimedOut as error:  # it is not stuck for that: its status would say so
            raise TimedOut(
                f"IB has named no contracts of {instrument.symbol} within {ANSWER_S:g} s",
                hint="try again in a minute: while much is requested, IB answers late",
            ) from error

    def _hint_for(self, found: ContractCandidates) -> str:
        """What to do about a contract that is not clear, with the symbol that may be meant."""
        proper = proper_symbol(found.symbol)
        is_respelt = proper is not None and proper.symbol != found.symbol
        if found.candidates or is_respelt:  # the hint has the other spelling
            return found.hint
        upper, known = found.symbol.upper(), self.snapshot()
        is_upper = upper == found.symbol
        near = similar(found.symbol, [*known.series, *known.unwatched]) if is_upper else ""
        meant = near if is_upper else f"did you mean {upper}?"
        return f"{meant} Else {found.hint}" if meant else found.hint

    # The store.

    def _instrument(self, symbol: str) -> Instrument:
        """The instrument by its entry now. Misconfigured: the file or the entry is wrong."""
        return instrument_of_entry(symbol, tables_of(self.store.folder).get(symbol))

    def _refuse_missing(self, series: Series) -> None:
        if is_there(self.store, series):
            return
        store = self.snapshot()
        names = {str(one).upper(): str(one) for one in (*store.series, *store.unwatched)}
        near = difflib.get_close_matches(str(series).upper(), names, 1)
        hint = (
            f"did you mean {names[near[0]]}?"
            if near
            else ".venv/bin/ktrdr watch list shows all of them"
        )
        raise UnknownSeries(f"{series.file_name} is not in the store", hint=hint)

    def _change(self, change: EntryChange) -> None:
        if change_entry(self.store.folder, change):
            self.note_changed_files([INSTRUMENTS])

    def _create(self, series: Series) -> None:
        self.store.create(series)
        self.note_changed_files([series.file_name])

    def _result(
        self,
        series: Series,
        outcome: str,
        candidates: list[CandidateContract] | None = None,
        *,
        is_trial: bool = False,
    ) -> SeriesChange:
        since = _since_of(self._instrument(series.symbol), series.timeframe)
        return SeriesChange(
            series.symbol,
            series.timeframe.value,
            series.file_name,
            outcome,
            _MESSAGES[outcome].format(series=series, file=series.file_name),
            since=since,
            candidates=candidates or [],
            is_trial=is_trial,
        )


_NO_CHOICE = Instrument("")
_MESSAGES = {
    "added": "{series} is kept from now on: {file} was made",
    "watched_again": "{series} is kept again",
    "watched_already": "{series} is kept already",
    "changed": "{series} was changed",
    "removed": "{series} is not kept any more; {file} stays",
    "not_watched": "{series} was not kept; {file} stays",
}


def _refused(
    series: Series, found: ContractCandidates, hint: str, *, is_trial: bool
) -> SeriesChange:
    """No file is made, since the contract is not clear."""
    return SeriesChange(
        series.symbol,
        series.timeframe.value,
        series.file_name,
        "ambiguous" if found.candidates else "unknown",
        f"{series} was not added: {found.message}",
        hint,
        candidates=found.candidates,
        is_trial=is_trial,
    )


def _conflict(series: Series, kept: int | None, wanted: int) -> ContractConflict:
    symbol = series.symbol
    return ContractConflict(
        f"{symbol} is kept as the contract with con_id {kept}, and not {wanted}:"
        " nothing was changed",
        hint=f"ktrdr contract {shlex.quote(symbol)} shows both; to change it: ktrdr watch set "
        f"{shlex.quote(symbol)} {series.timeframe.value} --con-id {wanted}",
    )


def _choice(found: ContractCandidates, con_id: str) -> CandidateContract:
    wanted = _con_id_of(con_id)
    for one in found.candidates:
        if one.con_id == wanted:
            return one
    known = ", ".join(str(one.con_id) for one in found.candidates) or "none"
    raise InvalidRequest(f"con_id={con_id}: expected one of those of {found.symbol}: {known}")


def _con_id_of(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text[:11]) < 2**31:
        return int(text[:11])
    raise InvalidRequest(f"con_id={text}: expected IB's number of a contract, such as 265598")


def _symbol_of(query: Mapping[str, str]) -> str:
    try:
        return check_symbol(query.get("symbol", ""))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _series_of(query: Mapping[str, str]) -> Series:
    return Series(_symbol_of(query), timeframe_of_word(query.get("timeframe", "")))


def _since_from(query: Mapping[str, str], now: float) -> date | None:
    text = query.get("since", "")
    return day_of_words(text, datetime.fromtimestamp(now, UTC).date()) if text else None


def _is_set(query: Mapping[str, str], name: str) -> bool:
    """A flag. InvalidRequest: neither true nor false."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise InvalidRequest(f"{name}={query[name]}: expected true or false")
    return text == "true"


def _since_of(instrument: Instrument | None, timeframe: Timeframe) -> datetime | None:
    since = instrument.since_for(timeframe) if instrument else None
    return moment(utc_midnight(since)) if since else None


def _instrument_or_none(series: Series, tables: Mapping[str, object]) -> Instrument | None:
    """None: its entry is wrong, which its state says."""
    try:
        return instrument_of_entry(series.symbol, tables.get(series.symbol))
    except Misconfigured:
        return None
