"""The published status of the connection: a snapshot that is always replaced as a whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.ib.client import LIBRARY
from ktrdr.ib.expected_outages import Expectation
from ktrdr.ib.farms import Farm
from ktrdr.ib.snapshot import Snapshot
from ktrdr.ib.states import State
from ktrdr.ipc.messages import ConnectionStatus, FarmStatus, LastError

log = logging.getLogger("ib-connection")

_NEVER = datetime.min.replace(tzinfo=UTC)


class StatusRecord:
    """The thread of the connection writes it; any thread may read `snapshot`."""

    def __init__(self, settings: Settings, now: Callable[[], datetime]) -> None:
        self._now = now
        self._attempt_at = _NEVER
        self.snapshot = Snapshot(
            State.DISCONNECTED, _at_first(settings), Expectation(None, logs_out=False, lost_at=None)
        )

    def __repr__(self) -> str:
        noted = self.snapshot.noted
        return f"<StatusRecord {self.snapshot.state} {noted.host}:{noted.port}>"

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self.snapshot.state

    def note_state(self, state: State, loop_time: float) -> None:
        """The connection is in another state."""
        had_data, since = self.snapshot.state.has_data, self.snapshot.noted.no_data_since
        if state.has_data:
            since = None
        elif had_data or since is None:
            since = self._now()
        noted = replace(self.snapshot.noted, no_data_since=since)
        self.snapshot = replace(self.snapshot, state=state, state_since=loop_time, noted=noted)

    def note_data_back(self) -> None:
        """Data are available again, or a data farm is back."""
        self._note(data_back_at=self._now())

    def note_attempt(self, client_id: int) -> None:
        """An attempt begins."""
        self._attempt_at = self._now()
        self._note(
            connection_attempts=self.snapshot.noted.connection_attempts + 1,
            next_retry_time=None,
            foreign_text="",
            client_id=client_id,
        )

    def note_failure(self) -> None:
        """The attempt has failed."""
        self._note(failed_attempts=self.snapshot.noted.failed_attempts + 1)

    def note_connected(self, server_version: int, *, is_simulated: bool) -> None:
        """The attempt has succeeded."""
        self._note(
            gateway="simulated" if is_simulated else "live",
            last_connect_time=self._now(),
            server_version=server_version,
        )

    def note_disconnected(self, at: datetime) -> None:
        """The connection was lost or closed."""
        self._note(last_disconnect_time=at)

    def note_retry(self, delay_s: float) -> None:
        """The next attempt is due after `delay_s` seconds."""
        self._note(next_retry_time=self._now() + timedelta(seconds=delay_s))

    def note_answer(self) -> None:
        """The gateway has answered a request."""
        answered = self.snapshot.noted.requests_answered + 1
        self._note(last_answer_time=self._now(), requests_answered=answered)

    def note_fresh_until(self, loop_time: float) -> None:
        """Until when the connection counts as alive without another answer."""
        self.snapshot = replace(self.snapshot, fresh_until=loop_time)

    def note_gateway_time(self, answered: datetime, loop_time: float) -> None:
        """The gateway has answered with its time."""
        self.snapshot = replace(self.snapshot, gateway_time=(answered, loop_time))

    def note_expectation(self, expectation: Expectation) -> None:
        """The expected absences of the gateway have changed."""
        self.snapshot = replace(self.snapshot, expectation=expectation)

    def note_farms(self, farms: Iterable[Farm]) -> None:
        """The current states of the farms."""
        self._note(farms=tuple(map(_farm_status, farms)))

    def note_foreign_text(self, text: str) -> None:
        """The gateway has sent this text in another language than English."""
        self._note(foreign_text=text)

    def note_error(self, error: KtrdrError, *, hint: str = "", is_expected: bool = False) -> None:
        """Publish the current error, and log it."""
        last = LastError(error.code, error.message, error.hint or hint, self._now())
        self._note(last_error=last)
        level = logging.INFO if is_expected else logging.WARNING
        log.log(level, "%s%s", error.message, f" ({last.hint})" if last.hint else "")

    def forget_error(self, *, but_of_attempt: bool) -> None:
        """The error is over; `but_of_attempt`: keep one that was reported during this attempt."""
        error = self.snapshot.noted.last_error
        is_new = but_of_attempt and error and (error.time or _NEVER) >= self._attempt_at
        if not is_new:
            self._note(last_error=None)

    def _note(self, **parts: Any) -> None:
        self.snapshot = replace(self.snapshot, noted=replace(self.snapshot.noted, **parts))


def _farm_status(farm: Farm) -> FarmStatus:
    since = datetime.fromtimestamp(farm.since, UTC)
    return FarmStatus(farm.name, farm.serves, farm.is_up, since, farm.breaks, farm.last_break_s)


def _at_first(settings: Settings) -> ConnectionStatus:
    return ConnectionStatus(
        connected=False,
        state=State.DISCONNECTED.value,
        gateway=settings.source,
        host=settings.gateway_host,
        port=settings.gateway_port,
        client_id=None,
        server_version=None,
        last_connect_time=None,
        last_disconnect_time=None,
        last_answer_time=None,
        connection_attempts=0,
        failed_attempts=0,
        next_retry_time=None,
        requests_open=0,
        requests_answered=0,
        last_error=None,
        library=LIBRARY,
    )
