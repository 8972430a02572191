"""Attempts to connect: one handshake and one answer each, with a client id that is free."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from ktrdr.config.settings import Settings
from ktrdr.errors import (
    ConnectionClosedEarly,
    GatewayUnresponsive,
    IdInUse,
    KtrdrError,
    NotConnected,
    TimedOut,
)
from ktrdr.ib.client import IbClient
from ktrdr.ib.client_ids import LAST_ID, ClientIds
from ktrdr.ib.liveness import LEAST_S
from ktrdr.ib.port_state import PortState
from ktrdr.ib.retries import Retries
from ktrdr.ib.states import Event
from ktrdr.ib.status_record import StatusRecord

log = logging.getLogger("ib-connection")

_GREETING_S = 15.0
"""Seconds for the handshake and the first answer; a fresh gateway takes several."""
_APART_S = 1.0
"""Minimum seconds between the starts of two attempts, also of requested ones."""
_NO_CONNECTION = 502
"""The error code for "could not connect"."""
_TOO_OLD = 503
"""The error code for "the gateway is out of date"."""


class Attempts:
    """Attempts one after another, on one event loop."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        status: StatusRecord,
        retries: Retries,
    ) -> None:
        self._settings = settings
        self._now = now
        self._status = status
        self._retries = retries
        self.client_ids = ClientIds(settings.ib_client_id)
        self._began_at = float("-inf")
        """When the last attempt began, by the loop's clock."""
        self.time_requested_at = float("-inf")
        """When any connection last requested the time, by the loop's clock."""

    def __repr__(self) -> str:
        return f"<Attempts {self.client_ids!r}>"

    async def begin(self) -> None:
        """Begin an attempt as soon as one may begin; it satisfies any earlier reconnect request."""
        loop = asyncio.get_running_loop()
        if not self.client_ids.is_trying_next:
            await asyncio.sleep(self._began_at + _APART_S - loop.time())
        self._began_at = loop.time()
        self._retries.reconnect_requested.clear()
        self._status.note_attempt(self.client_ids.current)

    async def greet(self, client: IbClient) -> datetime | Event:
        """The time of the gateway's clock; or the event with which the attempt has ended."""
        patience_s = min(_GREETING_S, 2 * self._settings.ktrdr_ib_heartbeat_s)
        host, port = self._settings.gateway_host, self._settings.gateway_port
        try:
            await client.connect(host, port, self.client_ids.current, patience_s)
            left_s = self._began_at + patience_s - asyncio.get_running_loop().time()
            answered = await client.current_time(max(left_s, LEAST_S))
        except IdInUse as error:
            return self._id_in_use(error)
        except (GatewayUnresponsive, TimedOut) as error:
            is_open = client.was_greeted
            self._retries.port_before = PortState.GREETED if is_open else PortState.UNRESPONSIVE
            failed = self._failed(error)
            return failed if failed is Event.LOGIN_NEEDED else Event.UNRESPONSIVE
        except KtrdrError as error:
            self._retries.port_before = _state_shown_by(error)
            return self._failed(error)
        self._retries.port_before = PortState.GREETED
        self.client_ids.note_other_end()
        return answered

    def _id_in_use(self, error: IdInUse) -> Event:
        """The next id is tried at once; when all are in use, after the backoff."""
        if self.client_ids.note_in_use():
            log.info("client id %d is in use, trying the next", self.client_ids.current)
            return Event.ID_IN_USE
        self._retries.port_before = PortState.GREETED
        return self._failed(
            NotConnected(
                f"all client ids from {self.client_ids.first} to {LAST_ID} are in use",
                code=error.code,
                hint="close other API programs, or restart the gateway",
            )
        )

    def _failed(self, error: KtrdrError) -> Event:
        self.client_ids.note_other_end()
        self._status.note_failure()
        away = self._status.snapshot.expectation.absence(self._now())
        if away is None or away.kind != "log_out":
            self._status.note_error(error, is_expected=away is not None)
            return Event.FAILED
        hint = "log in to the gateway, with the second factor"
        needed = NotConnected(f"{away.words} ({error.message})", code=error.code, hint=hint)
        self._status.note_error(needed, is_expected=True)
        return Event.LOGIN_NEEDED


def _state_shown_by(error: KtrdrError) -> PortState:
    """The state of the port that a failed attempt shows; greeted: open, and no more is known."""
    if isinstance(error, ConnectionClosedEarly):
        return PortState.CLOSES
    if error.code == _TOO_OLD:
        return PortState.OUTDATED
    return PortState.CLOSED if error.code == _NO_CONNECTION else PortState.GREETED
