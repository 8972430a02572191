"""Evidence of whether IB delivers data: answers, refusals, notices, and the resulting events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from ktrdr.errors import CompetingSession, KtrdrError, Permanent, RequestFailed
from ktrdr.ib.availability import Availability
from ktrdr.ib.error_codes import is_english, says_no_farm
from ktrdr.ib.farms import Farms
from ktrdr.ib.history_refusals import HistoryRefusals
from ktrdr.ib.known_contracts import KnownContracts, kind
from ktrdr.ib.liveness import Liveness
from ktrdr.ib.notices import HistoryNews, meaning
from ktrdr.ib.overtaken import AnswerTimes
from ktrdr.ib.request_gate import RequestGate
from ktrdr.ib.states import Event, State
from ktrdr.ib.status_record import StatusRecord
from ktrdr.market.instruments import Instrument

_FAILED_OF_MANY = 3
"""Contracts refused for no known reason, and none answered: it is not the contracts."""

log = logging.getLogger("ib-connection")


class DataEvidence:
    """The evidence over successive connections. `emit` takes an event of the current one."""

    def __init__(
        self,
        now: Callable[[], datetime],
        status: StatusRecord,
        liveness: Liveness,
        availability: Availability,
        emit: Callable[[Event], None],
        gate: RequestGate,
    ) -> None:
        self._now = now
        self._status = status
        self._liveness = liveness
        self._availability = availability
        self._emit = emit
        self.gate = gate
        """What holds back requests that IB would refuse."""
        self.contracts = KnownContracts()
        self._farms = Farms()
        self._refusals = HistoryRefusals()
        self.answer_times = AnswerTimes()
        """How long IB's history takes."""
        self.probe_wanted = asyncio.Event()
        """Set when a probe is needed to test whether data come."""
        self._taken_for: Instrument | None = None
        """The contract whose data IB gives to another session of the same user."""

    def __repr__(self) -> str:
        return f"<DataEvidence {self._farms!r} {self._refusals!r}>"

    # What is known.

    @property
    def is_unproven(self) -> bool:
        """The last connection ended because no data came, and none have come since."""
        return self._refusals.is_unproven

    @property
    def is_farm_broken(self) -> bool:
        """Whether a farm of any kind is broken."""
        return bool(self._farms.broken)

    @property
    def is_data_farm_broken(self) -> bool:
        """Whether a farm that serves bars or contracts is broken."""
        return any(farm.serves_data for farm in self._farms.broken)

    def was_troubled_since(self, loop_time: float) -> bool:
        """Whether IB's servers or farms were away after `loop_time`, so failures prove little."""
        return (
            self._availability.was_lost_after(loop_time)
            or self._availability.farm_back_after(loop_time) is not None
            or self.is_data_farm_broken
            or not self._status.state.has_data
        )

    def to_probe(self) -> Instrument:
        """The contract that the next probe should request."""
        return self._taken_for or self.contracts.to_probe(self._refusals.kinds)

    # The start and end of a connection.

    def begin(self) -> None:
        """A connection begins."""
        self._taken_for = None
        self._refusals.forget()
        self.gate.open()

    def end(self) -> None:
        """The connection is gone, and with it the notices about broken farms."""
        self._farms.forget(self._now().timestamp())
        self._publish_farms()

    def end_unproven(self) -> None:
        """The connection ends because no data came."""
        self._refusals.is_unproven = True

    def note_data_back(self) -> None:
        """Wake those who wait for data: requests may be sent now."""
        self._status.note_data_back()
        self.gate.open()

    # Of requests.

    def note_data(self, instrument: Instrument, requested_at: float, *, is_history: bool) -> None:
        """A request for this contract's data was answered; `requested_at`: by the loop's clock."""
        self.contracts.answered(instrument, is_history=is_history)
        self._liveness.note_data()
        if is_history:
            self._note_history(instrument, requested_at)
        elif self.gate.holds_details and self.gate.answered(None, requested_at):
            self._status.note_data_back()

    def note_failed(self, instrument: Instrument, error: KtrdrError) -> bool:
        """IB refused this contract's history for no known reason. True: so it does for others.

        Then a request now and then is enough, until one is answered.
        """
        self._refusals.failed.add(instrument.symbol)
        if len(self._refusals.failed) < _FAILED_OF_MANY:
            return False
        if not self.gate.is_shut:
            self.probe_wanted.set()
        self.gate.shut(None, error)
        return True

    def note_no_farm(self, instrument: Instrument, error: KtrdrError) -> None:
        """IB refused this contract's history for a broken farm; perhaps it refuses all history."""
        self.gate.shut(kind(instrument), error)
        self._refusals.note_request()
        self._farms.refused(instrument.symbol, self._now().timestamp())
        self.probe_wanted.set()

    def note_refused_session(self, instrument: Instrument, error: CompetingSession) -> None:
        """IB gives this contract's data to another session of the same user."""
        self._liveness.note_data()
        if self._status.state.is_linked:
            self._taken_for = instrument
            self._status.note_error(error)
            self._emit(Event.SESSION_TAKEN)

    # Of probes.

    def note_probe(self, instrument: Instrument, requested_at: float) -> None:
        """A probe was answered: the trouble in which it was sent is over."""
        self._liveness.note_data()
        self.answer_times.answered_one(requested_at)
        self._note_history(instrument, requested_at)
        if requested_at < self._status.snapshot.state_since:
            return  # sent before the current state began, so it proves nothing about it
        if self._status.state is State.UPSTREAM_LOST:
            self._emit(Event.UPSTREAM_BACK)
        elif self._status.state is State.COMPETING_SESSION:
            self._taken_for = None
            self._emit(Event.SESSION_BACK)

    def note_probe_error(self, instrument: Instrument, error: KtrdrError) -> None:
        """A probe was answered with an error, which need not say whether data are available."""
        if says_no_farm(error):
            self._note_probe_without_farm(instrument, error)
            return
        self._liveness.note_data()
        if isinstance(error, Permanent | RequestFailed):  # perhaps of this contract alone
            self.contracts.refused(instrument)
            self._taken_for = None

    def _note_probe_without_farm(self, instrument: Instrument, error: KtrdrError) -> None:
        self._liveness.note_no_farm()
        self._farms.refused(instrument.symbol, self._now().timestamp())
        names = " ".join(self._farms.broken_history)
        known = self.contracts.kinds
        is_proven = self._refusals.note_probe(kind(instrument), known, is_announced=bool(names))
        if self._status.state is State.HISTORY_DOWN:
            return  # the next probe, of another kind, has time
        if not is_proven:
            self.probe_wanted.set()
        elif self._status.state.has_data:
            farm = f"IB's history farm {names}".strip()
            text = error.message.rpartition("message:")[2].split(".")[0]
            broken = RequestFailed(f"{farm} is broken: {text}", code=error.code)
            self._status.note_error(broken, hint=error.hint)
            self._emit(Event.HISTORY_LOST)

    def _note_history(self, instrument: Instrument, requested_at: float) -> None:
        """A history request for this contract was answered."""
        self._refusals.note_answer()
        if self.gate.answered(kind(instrument), requested_at):
            self._status.note_data_back()
        if self._farms.answered(instrument.symbol, self._now().timestamp()):
            self._note_farm_back()
            if not self._farms.broken:
                self._emit(Event.FARM_BACK)
        snapshot = self._status.snapshot
        if snapshot.state is State.HISTORY_DOWN and requested_at >= snapshot.state_since:
            self._emit(Event.HISTORY_BACK)

    # Of notices.

    def note_notice(self, code: int, text: str) -> None:
        """The gateway sent a notice, perhaps during the handshake."""
        if not is_english(text):
            self._status.note_foreign_text(text)
        found = meaning(self._farms, code, text, self._now().timestamp())
        if found.error is not None:
            self._status.note_error(found.error)
        if found.words:
            log.info("%s", found.words)
        if found.is_data_farm_back:
            self._note_farm_back()
        self._publish_farms()
        for event in found.events:
            self._emit(event)
        if found.history is not None:
            self._received_history(found.history)

    def _received_history(self, news: HistoryNews) -> None:
        """The history farm may have broken or come back; a notice that it is back is trusted.

        After a connection over which no data came, only data are trusted.
        """
        is_in_doubt = bool(self._refusals) or self._status.state is State.HISTORY_DOWN
        if news is HistoryNews.BROKEN or is_in_doubt:
            self.probe_wanted.set()
        if news is HistoryNews.BACK and not self.is_unproven:
            self._refusals.forget()
            self._emit(Event.HISTORY_BACK)

    def _note_farm_back(self) -> None:
        self._availability.note_farm_back(asyncio.get_running_loop().time())
        self._publish_farms()
        self.note_data_back()

    def _publish_farms(self) -> None:
        self._status.note_farms(self._farms.all)
