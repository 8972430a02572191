"""One connection to IB Gateway or TWS: the only file that knows IB's library. Retries nothing.

The library is ib_insync, or ib_async where that is installed. Its errors become ours here, with
IB's code. It answers an error with an empty list unless told otherwise, and a time-out always;
here both raise. Read-only: no function of this file, and so nothing in this project, can place
an order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from ktrdr.errors import (
    GatewayMute,
    HungUp,
    IdInUse,
    InvalidRequest,
    KtrdrError,
    NotConnected,
    RequestFailed,
    TimedOut,
    UnknownContract,
)
from ktrdr.ib.candidates import Candidate, which_is_meant
from ktrdr.ib.error_codes import NoDataError, Weight, translate, weight
from ktrdr.ib.framing import Frames, NoMessageError
from ktrdr.ib.pacing import MessageRate
from ktrdr.ib.raw_messages import OddBar, is_whole, read_error, without_odd_bars
from ktrdr.ib.schedules import ToldSchedule, ToldSession
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import Instrument
from ktrdr.market.sessions import utc_midnight


def _import_library() -> Any:
    """ib_async where it is installed, else ib_insync; the caller's thread keeps no event loop.

    eventkit, under both, asks for the thread's event loop when it is imported, and since Python
    3.14 none is made unasked, as in other threads than the main one before. We never use the one
    that it gets: each `IbClient` lives in a loop that runs.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        import ib_async as library  # noqa: PLC0415  not before there is a loop
    except ImportError:
        import ib_insync as library  # noqa: PLC0415
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return library


ib = _import_library()
log = logging.getLogger(__name__)

LIBRARY: str = ib.__name__
"""`ib_insync` or `ib_async`."""

SIMULATED_ACCOUNT = "SIMULATED"
"""The account of the group's own simulated gateway. IB names no account so."""

ANSWER_S = 30.0
"""How long anything but bars may take."""

Notice = Callable[[int, str], None]
"""Gets IB's code and text of what the gateway says unasked, and of errors."""

_ERROR, _DETAILS, _BARS = b"4", b"10", b"17"
_WHOLE_ANSWERS = (_BARS, b"88", b"106")
"""Messages that are an answer by themselves: bars, the first bar, sessions."""
_DIGITS_MAX = 20
"""No request has a number so long."""
_DETAILS_WITHOUT_VERSION = 164
"""Since this protocol the request's number is the first field of a contract's details."""
_ID_IN_USE = 326
_READ_ONLY = 321
_GRACE_S = 5.0
"""So long an answer may come after an error of which nobody knows whether it is the end."""
_BESIDE = 5
"""Bars before and after those asked for that are told of too."""
_UNSET_VOLUMES = frozenset(map(float, (2**31 - 1, 2**63 - 1, 2**127 - 1)))
"""IB's signs for none: UNSET_INTEGER, _LONG and _DECIMAL (TWS API, `ibapi/const.py`)."""
_BETWEEN_TIMES_S = 1.1
"""IB leaves the second of two requests for the time in one second unanswered."""
_ASK_THE_TIME, _ASK_FOR_ORDERS = "currentTime", "openOrders"


@dataclass(frozen=True)
class ContractFacts:
    """What IB says of a contract."""

    con_id: int
    local_symbol: str
    exchange: str
    currency: str
    zone: str
    """As IB names it; may be empty, or none that anybody knows."""
    last_trade_date: str
    long_name: str
    hours: str
    """The sessions of today and the days to come, in IB's form, as the instrument asks for."""


class IbClient:
    """One attempt at a connection, and its life. Make a new one for the next attempt."""

    def __init__(self, notice: Notice, time_asked_at: float = float("-inf")) -> None:
        """`time_asked_at`: when the gateway was last asked for the time, by the loop's clock."""
        self._notice = notice
        self._rate = MessageRate()
        self._ib = ib.IB()
        self._ib.RaiseRequestErrors = True
        self._ib.errorEvent -= self._ib._onError  # noqa: SLF001  it asks for accounts after 1102
        self._wire = self._ib.client
        # The library believes any length that it is told, and holds what comes until then.
        self._wire.conn.hasData -= self._wire._onSocketHasData  # noqa: SLF001
        self._wire.conn.hasData += self._on_data
        self._wire.conn.disconnected += self._on_disconnected
        self._frames = Frames()
        self._where = ""
        self._is_greeted = False
        self._pending: dict[int | str, asyncio.Future[Any]] = {}
        self._advice: dict[int | str, str] = {}
        """What was said of a request that still waits for its answer."""
        self._time_lock = asyncio.Lock()
        self.time_asked_at = time_asked_at
        """When the gateway was asked for the time last, by the loop's clock."""
        self._why_closed: KtrdrError | None = None
        self.closed = asyncio.Event()
        """Set when the socket is gone."""

    def __repr__(self) -> str:
        return f"<IbClient {self._where or 'new'}{' closed' if self.closed.is_set() else ''}>"

    @property
    def server_version(self) -> int:
        """The protocol version that both sides speak."""
        return int(self._wire.serverVersion())

    @property
    def is_simulated(self) -> bool:
        """True when the gateway itself says that it is the group's simulated one."""
        return SIMULATED_ACCOUNT in self._wire.getAccounts()

    @property
    def why_closed(self) -> KtrdrError:
        """What ended the connection."""
        return self._why_closed or NotConnected(f"{self._where} closed the connection")

    async def connect(self, host: str, port: int, client_id: int, timeout_s: float) -> None:
        """Greet the gateway with this client id; nothing is asked for that is not needed.

        IdInUse (IB's 326) at once, and not after the time-out in which the library hides it.
        HungUp: closed before it greeted. GatewayMute: nothing was said within the time.
        NotConnected says why otherwise. After an error nothing of the attempt is left.
        """
        self._where = f"{host}:{port}"
        greeting = asyncio.ensure_future(self._wire.connectAsync(host, port, client_id, None))
        ended = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait(
                {greeting, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if ended.done():
                raise self.why_closed
            if not greeting.done():
                raise self._mute() if self._wire.conn.transport else self._unreachable()
            await greeting
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name
            raise _cannot_connect(self._where, error) from error
        finally:
            ended.cancel()
            greeting.cancel()
            await asyncio.wait({greeting})  # which lets a cancellation of ours pass
            if not greeting.cancelled():
                greeting.exception()  # it was told, or does not matter any more
        self._ib.wrapper.clientId = client_id

    def close(self) -> None:
        """Close the socket for good; requests that wait for an answer get NotConnected."""
        self._end(NotConnected("the connection was closed"))

    async def current_time(self, timeout_s: float) -> datetime:
        """The gateway's clock; questions wait for each other, since IB answers one a second."""
        try:
            async with asyncio.timeout(timeout_s), self._time_lock:
                loop = asyncio.get_running_loop()
                await asyncio.sleep(self.time_asked_at + _BETWEEN_TIMES_S - loop.time())
                await self._turn()
                self.time_asked_at = loop.time()
                answer = await self._asked(
                    _ASK_THE_TIME, None, lambda _: self._wire.reqCurrentTime(), None, "the time"
                )
        except TimeoutError:
            raise _late("the time", timeout_s) from None
        return answer if isinstance(answer, datetime) else datetime.now(UTC)

    async def is_read_only(self, timeout_s: float) -> bool:
        """Whether the gateway's "Read-Only API" is on. It then refuses to tell of orders (321)."""
        what = "the open orders"
        await self._turn()
        try:
            await self._asked(
                _ASK_FOR_ORDERS, None, lambda _: self._wire.reqOpenOrders(), timeout_s, what
            )
        except InvalidRequest as error:
            if error.code == _READ_ONLY:
                return True
            raise
        return False

    async def contract(self, instrument: Instrument) -> ContractFacts:
        """What IB says of the one contract that the instrument stands for.

        UnknownContract when IB knows none, or several; its hint names these.
        """
        wanted = _contract(instrument)
        await self._turn()
        found = await self._asked(
            self._number(),
            wanted,
            lambda number: self._wire.reqContractDetails(number, wanted),
            ANSWER_S,
            f"the contract {instrument.symbol}",
        )
        if not all(hasattr(one, "contract") for one in found):
            raise RequestFailed(f"IB's answer is none to the question: {instrument.symbol}")
        if len(found) != 1:
            raise UnknownContract(
                f"IB knows {len(found)} contracts for {instrument.symbol} ({_kind(instrument)})",
                hint=which_is_meant(
                    instrument.symbol, [_candidate(one) for one in found], datetime.now(UTC).date()
                ),
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
            hours=hours,
        )

    async def sessions(self, instrument: Instrument, end: int, days: int) -> ToldSchedule | None:
        """The sessions of the last `days` trading days before `end` (UTC seconds), unread.

        None when IB answers that there were none, as before a listing.
        """
        text = "" if end >= datetime.now(UTC).timestamp() else _utc(end)
        try:
            answer = await self._history(
                instrument,
                (text, f"{days} D", "1 day", "SCHEDULE"),
                ANSWER_S,
                f"the sessions of {instrument.symbol}",
            )
        except NoDataError:
            return None
        if not hasattr(answer, "sessions"):
            raise RequestFailed(f"IB's answer is none to the question: {instrument.symbol}")
        sessions = (ToldSession(s.startDateTime, s.endDateTime, s.refDate) for s in answer.sessions)
        return ToldSchedule(answer.timeZone, answer.startDateTime, tuple(sessions))

    async def head(self, instrument: Instrument) -> int | None:
        """From when on IB has bars of the instrument (UTC seconds); None: it has none.

        It follows IB's rules for small bars (TWS API, "Earliest Available Data"), and stays open
        at the gateway until it is taken back.
        """
        wanted = _contract(instrument)
        await self._turn()
        number = self._number()
        try:
            answer = await self._asked(
                number,
                wanted,
                lambda number: self._wire.reqHeadTimeStamp(
                    number, wanted, instrument.what_to_show, int(not instrument.extended_hours), 2
                ),
                ANSWER_S,
                f"the first bar of {instrument.symbol}",
            )
        except NoDataError:
            return None
        finally:
            self._take_back(self._wire.cancelHeadTimeStamp, number)
        if not isinstance(answer, datetime):
            raise RequestFailed(f"IB's first bar of {instrument.symbol} is no time: {answer!r}")
        return int((answer if answer.tzinfo else answer.replace(tzinfo=UTC)).timestamp())

    async def bars(self, request: BarsRequest, now: int) -> Answer:
        """The bars of IB's answer that the request asks for.

        Raises for every answer that is neither bars nor "no data", and when none comes in time.
        """
        name = f"{request.instrument.symbol}_{request.timeframe.value}"
        asked = (
            request.ib_end(now),
            request.ib_duration(now),
            request.timeframe.ib_bar_size,
            request.instrument.what_to_show,
        )
        try:
            found = await self._history(
                request.instrument, asked, request.timeout_s, f"bars of {name}"
            )
        except NoDataError:
            return Answer([])
        if not isinstance(found, _Bars):
            raise RequestFailed(f"IB's answer is none to the question for bars of {name}")
        return _checked(name, request, found)

    async def probe(self, instrument: Instrument, timeout_s: float) -> None:
        """Ask for one day of hours, to see whether history is answered, with whatever.

        Raises what the answer was where it was neither bars nor "no data".
        """
        asked = ("", "1 D", "1 hour", instrument.what_to_show)
        with contextlib.suppress(NoDataError):
            await self._history(instrument, asked, timeout_s, f"a bar of {instrument.symbol}")

    async def _history(
        self, instrument: Instrument, asked: tuple[str, str, str, str], timeout_s: float, what: str
    ) -> Any:
        """The answer to a history request: end, duration, bar size, what to show."""
        wanted = _contract(instrument)
        await self._turn()
        number = self._number()

        def send(request_id: int | str) -> None:
            self._wire.reqHistoricalData(
                request_id,
                wanted,
                *asked,
                int(not instrument.extended_hours),
                2,  # epoch seconds: no zone to misread
                False,  # keepUpToDate
                [],
            )

        try:
            return await self._asked(number, wanted, send, timeout_s, what, _Bars())
        except (TimedOut, asyncio.CancelledError):
            self._take_back(self._wire.cancelHistoricalData, number)
            raise

    async def _turn(self) -> None:
        """Until one more message may go."""
        await asyncio.sleep(self._rate.delay_s(asyncio.get_running_loop().time()))

    def _take_back(self, cancel: Callable[[int], None], number: int) -> None:
        """Cancel a request; it is a message too, which those that come after it wait for."""
        if not self.closed.is_set():
            self._rate.delay_s(asyncio.get_running_loop().time())
            cancel(number)

    def _broken(self, what: str) -> NotConnected:
        """Why there is no answer any more."""
        why = self.why_closed
        return NotConnected(
            f"{why.message} before IB answered: {what}", code=why.code, hint=why.hint
        )

    def _number(self) -> int:
        """The next request's."""
        try:
            return int(self._wire.getReqId())
        except ConnectionError as error:
            raise NotConnected("the connection broke before IB was asked") from error

    async def _asked(
        self,
        key: int | str,
        contract: Any,
        send: Callable[[int | str], None],
        timeout_s: float | None,
        what: str,
        container: list[Any] | None = None,
    ) -> Any:
        """What the gateway answers to one request, or the error that is ours.

        `key`: the request's number, or the name under which the library files an answer that
        has none. `container`: where it puts the parts of the answer. The library's own calls hide
        whether an empty list was an answer or a time-out.
        """
        if self.closed.is_set():
            raise NotConnected(f"the connection broke before IB was asked: {what}")
        answer = self._ib.wrapper.startReq(key, contract, container)
        gone = asyncio.ensure_future(self.closed.wait())
        self._pending[key] = answer
        try:
            send(key)
            await asyncio.wait(
                {answer, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if answer.done():
                return answer.result()
            if gone.done():
                raise self._broken(what)
            raise _late(what, timeout_s or 0, self._advice.get(key, ""))
        except ib.RequestError as error:
            found = translate(error.code, error.message, what)
            if isinstance(found, NotConnected) and not self.closed.is_set():
                # So says the gateway of itself; this connection is there.
                found = RequestFailed(found.message, code=found.code)
            raise found from error
        except ConnectionError as error:
            raise self._broken(what) from error
        except ValueError as error:  # of the library, at an answer that is none
            raise RequestFailed(f"IB's answer cannot be read: {what}") from error
        finally:
            gone.cancel()
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # seen
            self._forget(key, answer)

    def _forget(self, key: int | str, answer: asyncio.Future[Any]) -> None:
        """Let go of a request, so that the library keeps nothing of it for what may come late."""
        if self._pending.get(key) is answer:
            del self._pending[key]
            self._advice.pop(key, None)
            self._ib.wrapper._endReq(key)  # noqa: SLF001
            self._ib.wrapper._results.pop(key, None)  # noqa: SLF001

    def _on_data(self, data: bytes) -> None:
        """Hand whole messages on to the library, and nothing that is none."""
        try:
            for message in self._frames.feed(data):
                if not self._is_greeted:
                    self._check_greeting(message)
                    self._is_greeted = True
                if not self.closed.is_set():
                    self._read(message)
        except NoMessageError as error:
            self._end(_no_gateway(self._where, str(error)))
        except (ValueError, IndexError) as error:
            said = f"it sent what cannot be read before the log-in was over ({error})"
            self._end(_no_gateway(self._where, said))

    def _read(self, message: bytes) -> None:
        """Have one message read; what the library cannot read is noticed, for it says nothing."""
        kind, _, rest = message[4:].partition(b"\0")
        if kind == _ERROR and (said := read_error(message)) is not None:
            self._on_error(*said)  # the library garbles what is not UTF-8
            return
        if kind == _BARS and not is_whole(message):
            self._cannot_be_read(self._number_in(kind, rest))
            return
        number = self._number_in(kind, rest)
        parts = self._parts_of(number)
        self._wire._onSocketHasData(message)  # noqa: SLF001
        answer = self._pending.get(number)
        if answer is None or answer.done():
            return
        if kind == _DETAILS and self._parts_of(number) == parts:
            self._cannot_be_read(number)
        if kind == _BARS:
            self._read_around(number, message)
        if kind in _WHOLE_ANSWERS:
            self._cannot_be_read(number)

    def _cannot_be_read(self, number: int) -> None:
        """A request that waits, and has no answer by now, ends: the library would wait for ever."""
        if (answer := self._pending.get(number)) is not None:
            _fail(answer, RequestFailed("IB's answer cannot be read"))

    def _number_in(self, kind: bytes, rest: bytes) -> int:
        """The number of the request that a message answers, as far as that matters; else -1."""
        is_versioned = kind == _DETAILS and self.server_version < _DETAILS_WITHOUT_VERSION
        number = rest.split(b"\0", 2)[is_versioned : is_versioned + 1]
        is_answer = kind == _DETAILS or kind in _WHOLE_ANSWERS
        is_number = bool(number) and number[0].isdigit() and len(number[0]) < _DIGITS_MAX
        return int(number[0]) if is_answer and is_number else -1

    def _parts_of(self, number: int) -> int:
        """How many parts of a request's answer the library has read."""
        return len(self._ib.wrapper._results.get(number, ()))  # noqa: SLF001

    def _read_around(self, number: int, message: bytes) -> None:
        """Read bars once more, without those that cannot be read: one costs no other."""
        bars = self._ib.wrapper._results.get(number)  # noqa: SLF001
        found = without_odd_bars(message, _is_time)
        if found is None or not isinstance(bars, _Bars):
            return
        rest, bars.odd = found
        bars.clear()
        self._wire._onSocketHasData(rest)  # noqa: SLF001

    def _check_greeting(self, message: bytes) -> None:
        """The first message is the protocol version and a time."""
        fields = message[4:].split(b"\0")
        if len(fields) != 3 or not fields[0].isdigit():
            raise NoMessageError(f"its first words are no greeting: {message[4:40]!r}")
        version = int(fields[0])
        oldest = self._wire.MinClientVersion
        if version < oldest:
            self._end(
                NotConnected(
                    f"{self._where} speaks protocol {version}; {oldest} is the oldest of use",
                    code=503,
                    hint="install a current IB Gateway or TWS",
                )
            )

    def _on_error(self, request_id: int, code: int, text: str, *_: object) -> None:
        """An error may be about one request, about the connection, or about none."""
        if code == _ID_IN_USE:
            self._end(IdInUse(text, code=code))
        key: int | str = request_id
        if request_id == -1 and code == _READ_ONLY:
            key = _ASK_FOR_ORDERS  # it names no request
        answer = self._pending.get(key)
        if answer is not None and not answer.done():
            error = ib.RequestError(request_id, code, text)
            match weight(code, text):
                case Weight.ENDS:
                    _fail(answer, error)
                case Weight.MAY_END:
                    asyncio.get_running_loop().call_later(_GRACE_S, _fail, answer, error)
                case Weight.ADVISES:
                    self._advice[key] = text
        self._notice(code, text)

    def _on_disconnected(self, *_reason: object) -> None:
        if self._is_greeted:
            self._end(NotConnected(f"{self._where} closed the connection"))
        else:
            self._end(
                HungUp(
                    f"{self._where} closed the connection before its greeting",
                    hint="a forwarder without a gateway behind it, or an address that the "
                    "gateway does not trust (API settings, Trusted IPs)",
                )
            )

    def _end(self, why: KtrdrError) -> None:
        """Close the socket now, whatever it has still to send; the first reason counts."""
        self._why_closed = self._why_closed or why
        transport = self._wire.conn.transport
        if transport is not None:
            transport.abort()
        self.closed.set()

    def _unreachable(self) -> NotConnected:
        return NotConnected(
            f"{self._where} does not answer",
            code=502,
            hint="is that machine up, does a firewall let this through, is the gateway stuck?",
        )

    def _mute(self) -> GatewayMute:
        half = f", after {self._frames.held} bytes of a message" if self._frames.held else ""
        return GatewayMute(
            f"{self._where} accepts connections and says nothing{half}",
            code=504,
            hint="restart the gateway, and log in if it waits for that",
        )


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    """End a request that has no answer by now."""
    if not answer.done():
        answer.set_exception(error)


def _late(what: str, timeout_s: float, advice: str = "") -> TimedOut:
    after = f" after it said “{advice}”" if advice else ""
    return TimedOut(f"IB did not answer within {timeout_s:.0f} s{after}: {what}")


def _no_gateway(where: str, said: str) -> NotConnected:
    return NotConnected(
        f"{where} is no IB Gateway: {said}",
        hint="is this the API's port? 4001 and 4002 are IB Gateway's, 7496 and 7497 TWS's",
    )


def _cannot_connect(where: str, error: Exception) -> NotConnected:
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
    """The library's contract for an instrument; IB's number of it speaks for itself."""
    if instrument.con_id:
        return ib.Contract(
            conId=instrument.con_id,
            exchange=instrument.exchange,
            includeExpired=instrument.sec_type == "FUT",
        )
    return ib.Contract(
        secType=instrument.sec_type,
        symbol=instrument.ib_symbol,
        localSymbol=instrument.ib_local_symbol,
        exchange=instrument.exchange,
        primaryExchange=instrument.primary_exchange,
        currency=instrument.currency,
        lastTradeDateOrContractMonth=instrument.expiry,
        multiplier=instrument.multiplier,
        tradingClass=instrument.trading_class,
        includeExpired=instrument.sec_type == "FUT",
    )


def _candidate(details: Any) -> Candidate:
    """One of several contracts, out of the library's details."""
    contract = details.contract
    return Candidate(
        con_id=contract.conId,
        local_symbol=contract.localSymbol,
        exchange=contract.exchange,
        primary_exchange=contract.primaryExchange,
        currency=contract.currency,
        multiplier=contract.multiplier,
        trading_class=contract.tradingClass,
        expiry=contract.lastTradeDateOrContractMonth,
        long_name=details.longName,
    )


def _utc(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y%m%d-%H:%M:%S")


def _checked(name: str, request: BarsRequest, found: list[Bar]) -> Answer:
    """Ours, in order, each start once, with what cannot be true left out and logged.

    Of a bar that comes twice with different numbers nobody can say which is right.
    """
    bars: dict[int, Bar] = {}
    wrong: list[Bar] = []
    contradicted: set[int] = set()
    odd = found.odd if isinstance(found, _Bars) else []
    for bar in found:
        if not bar.is_sound or _is_odd(bar) or not request.timeframe.can_begin_at(bar.start):
            wrong.append(bar)
        elif bars.setdefault(bar.start, bar) != bar:
            wrong.append(bar)
            contradicted.add(bar.start)
    if wrong:
        log.warning("%s: IB sent %d bars that cannot be: %s …", name, len(wrong), wrong[0])
    if odd:
        log.warning("%s: IB sent %d bars that cannot be read: %s …", name, len(odd), odd[0].words)
    starts = sorted(bars.keys() - contradicted)
    unreadable = {_start_of(bar, request) for bar in odd}
    unsound = ({bar.start for bar in wrong} | unreadable).difference(starts)
    first, end = bisect_left(starts, request.start), bisect_left(starts, request.end)
    beside = starts[max(first - _BESIDE, 0) : first] + starts[end : end + _BESIDE]
    return Answer(
        [bars[start] for start in starts[first:end]],
        tuple(sorted(start for start in unsound if request.start <= start < request.end)),
        tuple(bars[start] for start in beside),
    )


def _start_of(odd: OddBar, request: BarsRequest) -> int:
    """When a bar that cannot be read begins; by its own time, or after the one before it."""
    length_s = request.timeframe.length_s
    if _is_time(odd.time):
        return _start(ib.util.parseIBDatetime(odd.time))
    after = _start(ib.util.parseIBDatetime(odd.before)) if odd.before else request.start - length_s
    return max(request.start, min(after + length_s, request.end - length_s))


def _is_time(text: str) -> bool:
    """The library can read this as the time of a bar."""
    try:
        _start(ib.util.parseIBDatetime(text))
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, OSError):
        return False
    return True


def _is_odd(bar: Bar) -> bool:
    """Numbers that stand for none: all prices 0, or a volume that means that it is not set.

    Others may have written such bars all the same: their files are not judged by this.
    """
    return not any(bar[1:5]) or bar.volume in _UNSET_VOLUMES


class _Bars(list[Any]):
    """Bars as they come in, in columns: the library's own objects are ten times as large."""

    def __init__(self) -> None:
        super().__init__()
        self._columns = [array("d") for _ in Bar._fields]
        self.odd: list[OddBar] = []
        """Those that could not be read."""

    def clear(self) -> None:
        """Forget what has come in."""
        self._columns = [array("d") for _ in Bar._fields]

    def append(self, each: Any, /) -> None:
        """One of the library's."""
        for column, value in zip(self._columns, _bar(each), strict=True):
            column.append(value)

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Bar]:
        for start, *values in zip(*self._columns, strict=True):
            yield Bar(int(start), *values)


def _bar(each: Any) -> Bar:
    return Bar(_start(each.date), each.open, each.high, each.low, each.close, each.volume)


def _start(when: Any) -> int:
    """UTC seconds of a bar's time as the library has read it: daily bars have a date."""
    if isinstance(when, datetime):
        if when.tzinfo is None:  # seconds since 1970 were asked for
            raise ValueError(f"{when} is a time of no zone")
        return int(when.timestamp())
    return utc_midnight(when if isinstance(when, date) else date.fromisoformat(str(when)))
