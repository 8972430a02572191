"""One connection to IB Gateway or TWS: the only file that uses IB's library. Retries nothing.

The library is ib_insync, or ib_async where that is installed. Its errors become our errors here,
with IB's code. The library returns an empty list for an error unless configured otherwise, and
for a time-out always; here both raise. Read-only: no function of this file, and so nothing in
this project, can place an order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ktrdr.errors import (
    IdInUse,
    InvalidRequest,
    KtrdrError,
    NotConnected,
    RequestFailed,
    TimedOut,
)
from ktrdr.ib import connect_errors, raw_messages
from ktrdr.ib.bar_updates import BarUpdates, Ended, Updated
from ktrdr.ib.bars_answer import ReceivedBars, checked, start_of, start_of_odd
from ktrdr.ib.candidates import AmbiguousContract, candidate_of, which_is_meant
from ktrdr.ib.contract_facts import ContractFacts, facts_of
from ktrdr.ib.error_codes import NoDataError, Weight, translate, weight
from ktrdr.ib.framing import Frames, NoMessageError
from ktrdr.ib.pacing import MessageRate
from ktrdr.ib.schedules import ReceivedSchedule, ReceivedSession
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import Instrument
from ktrdr.market.timeframes import Timeframe


def _import_library() -> Any:
    """ib_async where it is installed, else ib_insync; the caller's thread keeps no event loop.

    eventkit, which both use, gets the thread's event loop when it is imported; since Python 3.14
    none is created implicitly, and in threads other than the main one it never was. That loop is
    never used: each `IbClient` lives in a running loop.
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
"""The account of the group's own simulated gateway. IB has no account of this name."""

ANSWER_S = 30.0
"""Time limit for every request except bars, in seconds."""

Notice = Callable[[int, str], None]
"""Receives IB's code and text of notices and of errors."""
Key = int | str
"""A request's number, or the library's name for a request that has no number."""

_ID_IN_USE = 326
_READ_ONLY = 321
_GRACE_S = 5.0
"""Seconds in which an answer may follow an error that may not end the request."""
_BETWEEN_TIMES_S = 1.1
"""Seconds between requests for the time: IB ignores the second of two within one second."""
_REQUEST_TIME, _REQUEST_ORDERS = "currentTime", "openOrders"


class IbClient:
    """One attempt at a connection, and the connection. Make a new one for the next attempt."""

    def __init__(self, notice: Notice, time_requested_at: float = float("-inf")) -> None:
        """`time_requested_at`: when the gateway's time was last requested (loop clock)."""
        self._socket = _GatewaySocket(notice)
        self.closed = self._socket.closed
        """Set when the socket is gone."""
        self._time_lock = asyncio.Lock()
        self.time_requested_at = time_requested_at
        """When the gateway's time was last requested, by the loop's clock."""

    def __repr__(self) -> str:
        return (
            f"<IbClient {self._socket.where or 'new'}{' closed' if self.closed.is_set() else ''}>"
        )

    @property
    def server_version(self) -> int:
        """The negotiated protocol version."""
        return int(self._socket.wire.serverVersion())

    @property
    def was_greeted(self) -> bool:
        """Whether the gateway has answered the handshake."""
        return self._socket.is_greeted

    @property
    def is_simulated(self) -> bool:
        """True when the gateway's account is that of the group's simulated one."""
        return SIMULATED_ACCOUNT in self._socket.wire.getAccounts()

    @property
    def why_closed(self) -> KtrdrError:
        """The reason for the end of the connection."""
        return self._socket.why_closed

    async def connect(self, host: str, port: int, client_id: int, timeout_s: float) -> None:
        """Do the handshake with this client id, and request nothing else.

        IdInUse (IB's 326) is raised at once, where the library would wait for its time-out.
        ConnectionClosedEarly: closed during the handshake. GatewayUnresponsive: no response in
        time. NotConnected: any other reason. After an error nothing of the attempt is left.
        """
        await self._socket.connect(host, port, client_id, timeout_s)

    def close(self) -> None:
        """Close the socket for good; requests that wait for an answer get NotConnected."""
        self._socket.end(NotConnected("the connection was closed"))

    async def current_time(self, timeout_s: float) -> datetime:
        """The gateway's clock; requests wait for each other, since IB answers one a second."""
        wire = self._socket.wire
        try:
            async with asyncio.timeout(timeout_s), self._time_lock:
                loop = asyncio.get_running_loop()
                await asyncio.sleep(self.time_requested_at + _BETWEEN_TIMES_S - loop.time())
                await self._socket.turn()
                self.time_requested_at = loop.time()
                answer = await self._socket.answer(
                    _REQUEST_TIME,
                    None,
                    lambda _: wire.reqCurrentTime(),
                    None,
                    "the time",
                )
        except TimeoutError:
            raise _late("the time", timeout_s) from None
        return answer if isinstance(answer, datetime) else datetime.now(UTC)

    async def is_read_only(self, timeout_s: float) -> bool:
        """Whether the gateway's "Read-Only API" is on; it then rejects order requests (321)."""
        what = "the open orders"
        await self._socket.turn()
        try:
            await self._socket.answer(
                _REQUEST_ORDERS, None, lambda _: self._socket.wire.reqOpenOrders(), timeout_s, what
            )
        except InvalidRequest as error:
            if error.code == _READ_ONLY:
                return True
            raise
        return False

    async def contract(self, instrument: Instrument) -> ContractFacts:
        """IB's facts about the one contract that the instrument stands for.

        UnknownContract when IB knows none, or several; its hint names these.
        """
        wanted = _contract(instrument)
        await self._socket.turn()
        found = await self._socket.answer(
            self._socket.next_number(),
            wanted,
            lambda number: self._socket.wire.reqContractDetails(number, wanted),
            ANSWER_S,
            f"the contract {instrument.symbol}",
        )
        if not all(hasattr(one, "contract") for one in found):
            raise RequestFailed(f"IB sent an answer to another request: {instrument.symbol}")
        if len(found) != 1:
            candidates = [candidate_of(one) for one in found]
            today = datetime.now(UTC).date()
            raise AmbiguousContract(
                f"IB knows {len(found)} contracts for {instrument.symbol} ({_kind(instrument)})",
                hint=which_is_meant(instrument.symbol, candidates, today),
                candidates=candidates,
            )
        return facts_of(found[0], extended_hours=instrument.extended_hours)

    async def sessions(
        self, instrument: Instrument, end: int, days: int
    ) -> ReceivedSchedule | None:
        """The sessions of the last `days` trading days before `end` (UTC seconds), unparsed.

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
            raise RequestFailed(f"IB sent an answer to another request: {instrument.symbol}")
        sessions = (
            ReceivedSession(s.startDateTime, s.endDateTime, s.refDate) for s in answer.sessions
        )
        return ReceivedSchedule(answer.timeZone, answer.startDateTime, tuple(sessions))

    async def head(self, instrument: Instrument) -> int | None:
        """The start of IB's first bar of the instrument (UTC seconds); None: it has no bars.

        The request counts under IB's rules for small bars (TWS API, "Earliest Available Data"),
        and stays open at the gateway until it is cancelled.
        """
        wanted = _contract(instrument)
        await self._socket.turn()
        number = self._socket.next_number()
        try:
            answer = await self._socket.answer(
                number,
                wanted,
                lambda number: self._socket.wire.reqHeadTimeStamp(
                    number, wanted, instrument.what_to_show, int(not instrument.extended_hours), 2
                ),
                ANSWER_S,
                f"the first bar of {instrument.symbol}",
            )
        except NoDataError:
            return None
        finally:
            self._socket.take_back(self._socket.wire.cancelHeadTimeStamp, number)
        if not isinstance(answer, datetime):
            raise RequestFailed(f"IB's first bar of {instrument.symbol} is no time: {answer!r}")
        return int((answer if answer.tzinfo else answer.replace(tzinfo=UTC)).timestamp())

    async def bars(self, request: BarsRequest, now: int) -> Answer:
        """The requested bars of IB's answer.

        Raises for every answer that is neither bars nor "no data", and when none comes in time.
        """
        name = f"{request.instrument.symbol}_{request.timeframe.value}"
        requested = (
            request.ib_end(now),
            request.ib_duration(now),
            request.timeframe.ib_bar_size,
            request.instrument.what_to_show,
        )
        try:
            found = await self._history(
                request.instrument, requested, request.timeout_s, f"bars of {name}"
            )
        except NoDataError:
            return Answer([])
        if not isinstance(found, ReceivedBars):
            raise RequestFailed(f"IB sent an answer to another request: bars of {name}")
        return _checked(name, request, found, now)

    async def probe(self, instrument: Instrument, timeout_s: float) -> None:
        """Request one day of hourly bars, to test whether history requests get any response.

        Raises the response's error where it was neither bars nor "no data".
        """
        requested = ("", "1 D", "1 hour", instrument.what_to_show)
        with contextlib.suppress(NoDataError):
            await self._history(instrument, requested, timeout_s, f"a bar of {instrument.symbol}")

    async def follow(
        self, instrument: Instrument, timeframe: Timeframe, updated: Updated, ended: Ended
    ) -> tuple[int, Bar | None]:
        """Open a stream of the forming bar; its number, for `unfollow`, and the bar so far.

        It ends with the connection, when IB ends it (`ended`), or silently. Raises as `bars` does;
        RequestFailed also if IB has no data.
        """
        requested = ("", "1800 S", timeframe.ib_bar_size, instrument.what_to_show)
        what = f"a stream of {instrument.symbol}_{timeframe.value}"
        number = self._socket.next_number()
        self._socket.updates.begin(number, updated, ended)
        try:
            found = await self._history(instrument, requested, ANSWER_S, what, number)
        except NoDataError as error:
            self.unfollow(number)
            raise RequestFailed(f"IB has no data for {what}") from error
        except BaseException:
            self._socket.updates.end(number)
            raise
        bars = sorted(found) if isinstance(found, ReceivedBars) else []
        return number, bars[-1] if bars else None

    def unfollow(self, number: int) -> None:
        """End a stream; also one that has ended."""
        self._socket.updates.end(number)
        self._socket.take_back(self._socket.wire.cancelHistoricalData, number)

    async def _history(
        self,
        instrument: Instrument,
        requested: tuple[str, str, str, str],
        timeout_s: float,
        what: str,
        stream: int | None = None,
    ) -> Any:
        """The answer to a history request: end, duration, bar size, what to show.

        `stream`: the number of a stream that the request opens.
        """
        wanted = _contract(instrument)
        await self._socket.turn()
        number = self._socket.next_number() if stream is None else stream

        def send(request_id: int | str) -> None:
            self._socket.wire.reqHistoricalData(
                request_id,
                wanted,
                *requested,
                int(not instrument.extended_hours),
                2,  # epoch seconds: no zone to misread
                stream is not None,  # keepUpToDate
                [],
            )

        try:
            return await self._socket.answer(number, wanted, send, timeout_s, what, ReceivedBars())
        except (TimedOut, asyncio.CancelledError):
            self._socket.take_back(self._socket.wire.cancelHistoricalData, number)
            raise


class _GatewaySocket:
    """The socket to a gateway: the handshake, the messages, and the reason for its end."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._rate = MessageRate()
        self._ib = ib.IB()
        self._ib.RaiseRequestErrors = True
        self._ib.errorEvent -= self._ib._onError  # noqa: SLF001  it requests accounts after 1102
        self.wire = self._ib.client
        """The library's low-level client, which sends."""
        # The library trusts any length that it receives, and buffers up to it.
        self.wire.conn.hasData -= self.wire._onSocketHasData  # noqa: SLF001
        self.wire.conn.hasData += self._on_data
        self.wire.conn.disconnected += self._on_disconnected
        self._requests = _OpenRequests(self._ib.wrapper, self.wire)
        self.updates = BarUpdates(self._ib.wrapper, _read_time)
        self._frames = Frames()
        self.where = ""
        self.is_greeted = False
        """Whether the gateway has answered the handshake."""
        self._why_closed: KtrdrError | None = None
        self.closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<_GatewaySocket {self.where or 'new'}>"

    @property
    def why_closed(self) -> KtrdrError:
        """The reason for the end of the connection."""
        return self._why_closed or connect_errors.closed(self.where)

    async def connect(self, host: str, port: int, client_id: int, timeout_s: float) -> None:
        """As `IbClient.connect`."""
        self.where = f"{host}:{port}"
        greeting = asyncio.ensure_future(self.wire.connectAsync(host, port, client_id, None))
        ended = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait(
                {greeting, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if ended.done():
                raise self.why_closed
            if not greeting.done():
                raise self._silent()
            await greeting
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name
            raise connect_errors.cannot_connect(self.where, error) from error
        finally:
            ended.cancel()
            greeting.cancel()
            await asyncio.wait({greeting})  # a cancellation of this task still passes
            if not greeting.cancelled():
                greeting.exception()  # raised above, or no longer relevant
        self._ib.wrapper.clientId = client_id

    def end(self, why: KtrdrError) -> None:
        """Close the socket now and discard unsent data; the first reason counts."""
        self._why_closed = self._why_closed or why
        transport = self.wire.conn.transport
        if transport is not None:
            transport.abort()
        self.closed.set()

    async def turn(self) -> None:
        """Wait until one more message may be sent."""
        await asyncio.sleep(self._rate.delay_s(asyncio.get_running_loop().time()))

    def take_back(self, cancel: Callable[[int], None], number: int) -> None:
        """Cancel a request; the cancellation counts as a message in the rate limit."""
        if not self.closed.is_set():
            self._rate.delay_s(asyncio.get_running_loop().time())
            cancel(number)

    def next_number(self) -> int:
        """The number of the next request."""
        try:
            return int(self.wire.getReqId())
        except ConnectionError as error:
            raise NotConnected("the connection broke before the request was sent") from error

    async def answer(
        self,
        key: Key,
        contract: Any,
        send: Callable[[Key], None],
        timeout_s: float | None,
        what: str,
        container: list[Any] | None = None,
    ) -> Any:
        """The gateway's answer to one request; its errors are raised as our errors.

        `container`: where the library puts the parts of the answer. The library's own calls hide
        whether an empty list was an answer or a time-out.
        """
        if self.closed.is_set():
            raise NotConnected(f"the connection broke before the request was sent: {what}")
        answer = self._requests.begin(key, contract, container)
        gone = asyncio.ensure_future(self.closed.wait())
        try:
            send(key)
            await asyncio.wait(
                {answer, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if answer.done():
                return answer.result()
            if gone.done():
                raise self._broken(what)
            raise _late(what, timeout_s or 0, self._requests.advice(key))
        except ib.RequestError as error:
            raise self._ours(error, what) from error
        except ConnectionError as error:
            raise self._broken(what) from error
        except ValueError as error:  # raised by the library for an invalid answer
            raise RequestFailed(f"IB's answer cannot be read: {what}") from error
        finally:
            gone.cancel()
            self._requests.end(key, answer)

    def _ours(self, error: Any, what: str) -> Exception:
        """Our error for IB's error."""
        found = translate(error.code, error.message, what)
        if isinstance(found, NotConnected) and not self.closed.is_set():
            # This is about the gateway's own connection to IB; ours is there.
            return RequestFailed(found.message, code=found.code)
        return found

    def _broken(self, what: str) -> NotConnected:
        """The error for a request that a broken connection has ended."""
        why = self.why_closed
        return NotConnected(
            f"{why.message} before IB answered: {what}", code=why.code, hint=why.hint
        )

    def _silent(self) -> KtrdrError:
        """The error when the handshake got no response in time."""
        if self.wire.conn.transport:
            return connect_errors.unresponsive(self.where, self._frames.held)
        return connect_errors.unreachable(self.where)

    def _on_data(self, data: bytes) -> None:
        """Pass complete and valid messages to the library, and nothing else."""
        try:
            for message in self._frames.feed(data):
                if not self.is_greeted:
                    self._check_greeting(message)
                    self.is_greeted = True
                if not self.closed.is_set():
                    self._read(message)
        except NoMessageError as error:
            self.end(connect_errors.no_gateway(self.where, str(error)))
        except (ValueError, IndexError) as error:
            words = f"it sent an unreadable message during the log-in ({error})"
            self.end(connect_errors.no_gateway(self.where, words))

    def _check_greeting(self, message: bytes) -> None:
        """The first message is the protocol version and a time."""
        version = raw_messages.greeted_version(message)
        if version is None:
            raise NoMessageError(f"unexpected handshake: {message[4:40]!r}")
        oldest = self.wire.MinClientVersion
        if version < oldest:
            self.end(connect_errors.too_old(self.where, version, oldest))

    def _read(self, message: bytes) -> None:
        """Parse one message: errors here, all others in the library."""
        is_error = raw_messages.kind_of(message) == raw_messages.ERROR
        error = raw_messages.read_error(message) if is_error else None
        if error is None:
            self._requests.read(message)
            return
        if error.code == _ID_IN_USE:
            self.end(IdInUse(error.text, code=error.code))
        self._requests.take_error(error)
        if weight(error.code, error.text) is not Weight.ADVISES:
            self.updates.fail(error.request_id, translate(error.code, error.text, "a stream"))
        self._notice(error.code, error.text)

    def _on_disconnected(self, *_reason: object) -> None:
        why = connect_errors.closed if self.is_greeted else connect_errors.closed_before_greeting
        self.end(why(self.where))


class _OpenRequests:
    """Requests that wait for an answer, and the library's state of each."""

    def __init__(self, wrapper: Any, wire: Any) -> None:
        self._wrapper = wrapper
        self._wire = wire
        self._answers: dict[Key, asyncio.Future[Any]] = {}
        self._advice: dict[Key, str] = {}
        """Warnings about requests that still wait for their answer."""

    def __repr__(self) -> str:
        return f"<_OpenRequests {len(self._answers)}>"

    def begin(self, key: Key, contract: Any, container: list[Any] | None) -> asyncio.Future[Any]:
        """Register a request before it is sent; the future of its answer or the library's error."""
        answer: asyncio.Future[Any] = self._wrapper.startReq(key, contract, container)
        self._answers[key] = answer
        return answer

    def end(self, key: Key, answer: asyncio.Future[Any]) -> None:
        """Remove a request, so that the library keeps no state of it for a late answer."""
        if not answer.cancel() and not answer.cancelled():
            answer.exception()  # retrieved
        if self._answers.get(key) is answer:
            del self._answers[key]
            self._advice.pop(key, None)
            self._wrapper._endReq(key)  # noqa: SLF001
            self._wrapper._results.pop(key, None)  # noqa: SLF001

    def advice(self, key: Key) -> str:
        """The warning about a request; empty: none."""
        return self._advice.get(key, "")

    def take_error(self, error: raw_messages.GatewayError) -> None:
        """Handle an error about one request; an error about none is ignored here."""
        key: Key = error.request_id
        if error.request_id == -1 and error.code == _READ_ONLY:
            key = _REQUEST_ORDERS  # it names no request
        answer = self._answers.get(key)
        if answer is None or answer.done():
            return
        failure = ib.RequestError(*error)
        match weight(error.code, error.text):
            case Weight.ENDS:
                _fail(answer, failure)
            case Weight.MAY_END:
                asyncio.get_running_loop().call_later(_GRACE_S, _fail, answer, failure)
            case Weight.ADVISES:
                self._advice[key] = error.text

    def read(self, message: bytes) -> None:
        """Have the library parse a message; a failure is detected here, as the library hides it."""
        kind = raw_messages.kind_of(message)
        number = raw_messages.answered_request(message, self._wire.serverVersion())
        if kind == raw_messages.BARS and not raw_messages.is_whole(message):
            self._cannot_be_read(number)
            return
        parts = self._parts_of(number)
        self._wire._onSocketHasData(message)  # noqa: SLF001
        answer = self._answers.get(number)
        if answer is None or answer.done():
            return
        if kind == raw_messages.DETAILS and self._parts_of(number) == parts:
            self._cannot_be_read(number)
        if kind == raw_messages.BARS:
            self._read_around(number, message)
        if kind in raw_messages.WHOLE_ANSWERS:
            self._cannot_be_read(number)

    def _cannot_be_read(self, number: int) -> None:
        """End a request that has no answer yet: the library would wait for ever."""
        if (answer := self._answers.get(number)) is not None:
            _fail(answer, RequestFailed("IB's answer cannot be read"))

    def _parts_of(self, number: int) -> int:
        """How many parts of a request's answer the library has parsed."""
        return len(self._wrapper._results.get(number, ()))  # noqa: SLF001

    def _read_around(self, number: int, message: bytes) -> None:
        """Parse bars once more, without the unreadable ones, so that the others are kept."""
        bars = self._wrapper._results.get(number)  # noqa: SLF001
        found = raw_messages.without_odd_bars(message, lambda time: _read_time(time) is not None)
        if found is None or not isinstance(bars, ReceivedBars):
            return
        rest, bars.odd = found
        bars.clear()
        self._wire._onSocketHasData(rest)  # noqa: SLF001


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    """End a request that has no answer yet."""
    if not answer.done():
        answer.set_exception(error)


def _late(what: str, timeout_s: float, advice: str = "") -> TimedOut:
    after = f" after it sent “{advice}”" if advice else ""
    return TimedOut(f"IB did not answer within {timeout_s:.0f} s{after}: {what}")


def _kind(instrument: Instrument) -> str:
    return f"{instrument.sec_type} on {instrument.exchange} in {instrument.currency}"


def _contract(instrument: Instrument) -> Any:
    """The library's contract for an instrument; with IB's contract id no other name is needed."""
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


def _utc(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y%m%d-%H:%M:%S")


def _checked(name: str, request: BarsRequest, found: ReceivedBars, now: int) -> Answer:
    """The requested bars; invalid and unreadable ones are logged."""
    unreadable = {start_of_odd(bar, request, _read_time) for bar in found.odd}
    answer, wrong = checked(request, found.numbers(), unreadable, now)
    if wrong:
        log.warning("%s: IB sent %d invalid bars: %s …", name, len(wrong), wrong[0])
    if found.odd:
        log.warning(
            "%s: IB sent %d bars that cannot be read: %s …",
            name,
            len(found.odd),
            found.odd[0].words,
        )
    return answer


def _read_time(text: str) -> int | None:
    """The start of a bar from IB's text for its time; None: the library cannot parse it."""
    try:
        return start_of(ib.util.parseIBDatetime(text))
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, OSError):
        return None
