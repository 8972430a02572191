"""One connection to IB Gateway or TWS: the only file that knows IB's library. Retries nothing.

The library's errors become ours here, with IB's code. It answers an error with an empty list
unless told otherwise, and a time-out always; here both raise. Read-only: no function of this
file, and so nothing in this project, can place an order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import ib_insync as ib

from ktrdr.errors import (
    CompetingSession,
    IdInUse,
    InvalidRequest,
    KtrdrError,
    NotConnected,
    NotEntitled,
    Paced,
    RequestFailed,
    TimedOut,
    UnknownContract,
)
from ktrdr.planning.bars import Answer, Bar
from ktrdr.planning.instruments import Instrument
from ktrdr.planning.requests import BarsRequest
from ktrdr.planning.sessions import Schedule, Session, find_zone, parse_hours, utc_midnight

log = logging.getLogger(__name__)

SIMULATED_ACCOUNT = "SIMULATED"
"""The account of the group's own simulated gateway. IB names no account so."""

ANSWER_S = 30.0
"""How long anything but bars may take."""

Notice = Callable[[int, str], None]
"""Gets IB's code and text of what the gateway says unasked, and of errors."""

_ID_IN_USE = 326
_NO_DATA = "no data"


@dataclass(frozen=True)
class ContractFacts:
    """What IB says of a contract."""

    con_id: int
    local_symbol: str
    exchange: str
    currency: str
    zone: str
    last_trade_date: str
    long_name: str
    coming: Schedule | None
    """The sessions of today and the days to come, in the hours that the instrument asks for."""


class IbClient:
    """One attempt at a connection, and its life. Make a new one for the next attempt."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._ib = ib.IB()
        self._ib.RaiseRequestErrors = True
        self._ib.errorEvent += self._on_error
        self._ib.client.conn.disconnected += self._on_disconnected
        self._refused: asyncio.Future[None] | None = None
        self.closed = asyncio.Event()
        """Set when the socket is gone."""

    def __repr__(self) -> str:
        return f"IbClient({self._ib.client.host}:{self._ib.client.port})"

    @property
    def server_version(self) -> int:
        """The protocol version that both sides speak."""
        return int(self._ib.client.serverVersion())

    @property
    def is_simulated(self) -> bool:
        """True when the gateway itself says that it is the group's simulated one."""
        return SIMULATED_ACCOUNT in self._ib.client.getAccounts()

    async def connect(self, host: str, port: int, client_id: int, timeout_s: float) -> None:
        """Greet the gateway with this client id; nothing is asked for that is not needed.

        IdInUse (IB's 326) at once, and not after the time-out in which the library hides it.
        NotConnected says why otherwise.
        """
        refused = self._refused = asyncio.get_running_loop().create_future()
        greeting = asyncio.ensure_future(
            self._ib.client.connectAsync(host, port, client_id, timeout_s)
        )
        try:
            await asyncio.wait({greeting, refused}, return_when=asyncio.FIRST_COMPLETED)
            silent = greeting.done() and isinstance(greeting.exception(), TimeoutError)
            if refused.done() and not silent:
                refused.result()
            await greeting
        except (OSError, TimeoutError) as error:
            raise _cannot_connect(host, port, error) from error
        finally:
            greeting.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, TimeoutError):
                await greeting
            self._refused = None
            if refused.done():
                refused.exception()  # seen
        self._ib.wrapper.clientId = client_id

    def close(self) -> None:
        """Close the socket; requests that wait for an answer get NotConnected."""
        self._ib.disconnect()
        self.closed.set()

    async def current_time(self, timeout_s: float) -> datetime:
        """The gateway's clock. IB leaves the second of two such requests in a second unanswered."""
        answer = await self._answer(self._ib.reqCurrentTimeAsync(), timeout_s, "the time")
        return answer if isinstance(answer, datetime) else datetime.now(UTC)

    async def contract(self, instrument: Instrument) -> ContractFacts:
        """What IB says of the one contract that the instrument stands for.

        UnknownContract when IB knows none, or several.
        """
        asked = self._ib.reqContractDetailsAsync(_contract(instrument))
        found = await self._answer(asked, ANSWER_S, f"the contract {instrument.symbol}")
        if len(found) != 1:
            raise UnknownContract(
                f"IB knows {len(found)} contracts for {instrument.symbol} ({_kind(instrument)})",
                hint="say which in instruments.toml: sec_type, exchange, primary_exchange …",
            )
        details = found[0]
        hours = details.tradingHours if instrument.extended_hours else details.liquidHours
        return ContractFacts(
            con_id=details.contract.conId,
            local_symbol=details.contract.localSymbol,
            exchange=details.contract.primaryExchange or details.contract.exchange,
            currency=details.contract.currency,
            zone=details.timeZoneId,
            last_trade_date=details.contract.lastTradeDateOrContractMonth,
            long_name=details.longName,
            coming=parse_hours(hours, details.timeZoneId) if hours else None,
        )

    async def sessions(self, instrument: Instrument, end: int, days: int) -> Schedule | None:
        """The sessions of the last `days` trading days before `end` (UTC seconds).

        None when IB answers that there were none, as before a listing.
        """
        text = "" if end >= datetime.now(UTC).timestamp() else _utc(end)
        asked = self._ib.reqHistoricalScheduleAsync(
            _contract(instrument), days, text, not instrument.extended_hours
        )
        try:
            answer = await self._answer(asked, ANSWER_S, f"the sessions of {instrument.symbol}")
        except _NoDataError:
            return None
        return _schedule(answer, end)

    async def bars(self, request: BarsRequest, now: int) -> Answer:
        """The bars of IB's answer that the request asks for.

        Raises for every answer that is neither bars nor "no data", and when none comes in time.
        """
        wire = self._ib.client
        request_id = wire.getReqId()
        # The library's own call hides whether an empty list was an answer or a time-out.
        answer = self._ib.wrapper.startReq(request_id, _contract(request.instrument))
        wire.reqHistoricalData(
            request_id,
            _contract(request.instrument),
            request.ib_end(now),
            request.ib_duration(now),
            request.timeframe.ib_bar_size,
            request.instrument.what_to_show,
            int(not request.instrument.extended_hours),
            2,  # epoch seconds: no zone to misread
            False,  # keepUpToDate
            [],
        )
        name = f"{request.instrument.symbol}_{request.timeframe.value}"
        try:
            found = await self._answer(answer, request.timeout_s, f"bars of {name}")
        except _NoDataError:
            return Answer([])
        except (TimedOut, asyncio.CancelledError):
            if not self.closed.is_set():
                wire.cancelHistoricalData(request_id)
            raise
        return _checked(name, request, found)

    async def _answer(self, asked: Any, timeout_s: float, what: str) -> Any:
        """The library's answer, or the error that is ours.

        The library leaves requests waiting when it is told to disconnect, so `closed` counts too.
        """
        answer = asyncio.ensure_future(asked)
        gone = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait(
                {answer, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if answer.done():
                return answer.result()
            if gone.done():
                raise NotConnected(f"the connection broke before IB answered: {what}")
            raise TimedOut(f"IB did not answer within {timeout_s:.0f} s: {what}")
        except ib.RequestError as error:
            raise translate(error.code, error.message, what) from error
        except ConnectionError as error:
            raise NotConnected(f"the connection broke before IB answered: {what}") from error
        finally:
            answer.cancel()
            gone.cancel()

    def _on_error(self, _request_id: int, code: int, text: str, _contract: object) -> None:
        if code == _ID_IN_USE and self._refused is not None and not self._refused.done():
            self._refused.set_exception(IdInUse(text, code=code))
        self._notice(code, text)

    def _on_disconnected(self, *_reason: object) -> None:
        self.closed.set()
        if self._refused is not None and not self._refused.done():
            self._refused.set_exception(
                NotConnected(
                    "the gateway closed the connection before its greeting",
                    hint="a forwarder without a gateway behind it, or an address that the "
                    "gateway does not trust (API settings, Trusted IPs)",
                )
            )


class _NoDataError(KtrdrError):
    """IB's 162 that is an answer: it has no bars there."""


def translate(code: int, text: str, what: str) -> KtrdrError:
    """Our error for IB's code and text, with what a person can do about it.

    162 stands for many things and its text decides; a text that nobody here knows is a
    failure, never "no data". Codes: TWS API, "Message Codes".
    """
    message = f"{text} ({what})"
    if code in (162, 165, 366):
        return _translate_162(code, text, message)
    kind, hint = _BY_CODE.get(code, (RequestFailed, ""))
    return kind(message, code=code, hint=hint)


def _translate_162(code: int, text: str, message: str) -> KtrdrError:
    said = text.lower()
    for words, kind, hint in _BY_TEXT:
        if words in said:
            return kind(message, code=code, hint=hint)
    return RequestFailed(message, code=code)


_SUBSCRIBE = (
    "subscribe to this market's Level 1 data in IB's Client Portal, then restart the gateway"
)
_OTHER_SESSION = "log out where the same user is logged in, or use a second user for this gateway"

_BY_TEXT: tuple[tuple[str, type[KtrdrError], str], ...] = (
    (_NO_DATA, _NoDataError, ""),
    ("pacing violation", Paced, "another program may be asking IB for history too"),
    ("no market data permissions", NotEntitled, _SUBSCRIBE),
    ("different ip address", CompetingSession, _OTHER_SESSION),
)

_BY_CODE: dict[int, tuple[type[KtrdrError], str]] = {
    100: (Paced, "too many messages a second"),
    200: (UnknownContract, "check the symbol; say in instruments.toml what it is"),
    321: (InvalidRequest, ""),
    322: (Paced, ""),
    354: (NotEntitled, _SUBSCRIBE),
    502: (NotConnected, ""),
    504: (NotConnected, ""),
    10089: (NotEntitled, _SUBSCRIBE),
    10090: (NotEntitled, _SUBSCRIBE),
    10186: (NotEntitled, _SUBSCRIBE),
    10197: (CompetingSession, _OTHER_SESSION),
    10299: (InvalidRequest, "set what_to_show in instruments.toml"),
    10314: (InvalidRequest, ""),
    10339: (InvalidRequest, ""),
}


def _cannot_connect(host: str, port: int, error: Exception) -> NotConnected:
    where = f"{host}:{port}"
    if isinstance(error, TimeoutError):
        return NotConnected(
            f"{where} accepts connections and says nothing",
            code=504,
            hint="restart the gateway, and log in if it waits for that",
        )
    return NotConnected(
        f"cannot connect to {where}: {_system_text(error)}",
        code=502,
        hint="is IB Gateway running and logged in, is its API enabled, is this its port?",
    )


def _system_text(error: Exception) -> str:
    """The system's own words, such as "Connection refused"."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(error)


def _kind(instrument: Instrument) -> str:
    return f"{instrument.sec_type} on {instrument.exchange} in {instrument.currency}"


def _contract(instrument: Instrument) -> Any:
    """The library's contract for an instrument."""
    return ib.Contract(
        secType=instrument.sec_type,
        symbol=instrument.ib_symbol,
        localSymbol=instrument.local_symbol,
        exchange=instrument.exchange,
        primaryExchange=instrument.primary_exchange,
        currency=instrument.currency,
        lastTradeDateOrContractMonth=instrument.expiry,
        includeExpired=instrument.sec_type == "FUT",
    )


def _utc(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y%m%d-%H:%M:%S")


def _schedule(answer: Any, end: int) -> Schedule:
    """IB's SCHEDULE as ours: what it says of the days up to `end`, and no later."""
    zone = find_zone(answer.timeZone)

    def instant(text: str) -> int:
        moment = datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=zone)
        return int(moment.timestamp())

    sessions = tuple(
        sorted(
            Session(
                instant(s.startDateTime),
                instant(s.endDateTime),
                utc_midnight(datetime.strptime(s.refDate, "%Y%m%d").replace(tzinfo=UTC).date()),
            )
            for s in answer.sessions
        )
    )
    start = instant(answer.startDateTime) if answer.startDateTime else end
    return Schedule(
        answer.timeZone,
        min([start, *(s.open for s in sessions)]),
        max([end, *(s.close for s in sessions)]),
        sessions,
    )


def _checked(name: str, request: BarsRequest, found: list[Any]) -> Answer:
    """Ours, in order, each start once, with what cannot be true left out and logged."""
    bars: dict[int, Bar] = {}
    unsound = []
    for each in found:
        bar = _bar(each)
        if not request.start <= bar.start < request.end:
            continue
        if bar.is_sound:
            bars[bar.start] = bar
        else:
            unsound.append(bar.start)
            log.warning("%s: IB sent a bar that cannot be true, left out: %s", name, bar)
    return Answer([bars[start] for start in sorted(bars)], tuple(unsound))


def _bar(each: Any) -> Bar:
    when = each.date
    if isinstance(when, datetime):
        start = int(when.timestamp())
    else:
        start = utc_midnight(when if isinstance(when, date) else date.fromisoformat(str(when)))
    return Bar(start, each.open, each.high, each.low, each.close, each.volume)
