"""HTTP over a Unix socket, for the programs of one machine: server, client, message shapes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import math
import os
import re
import socket
import stat
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from ktrdr import errors
from ktrdr.escapes import visible
from ktrdr.planning.bars import Answer, Bar
from ktrdr.planning.instruments import Instrument, check_entry, instrument_for
from ktrdr.planning.pacing import Priority
from ktrdr.planning.sessions import Schedule, Session
from ktrdr.planning.timeframes import Timeframe
from ktrdr.run_folder import prepare_folder

log = logging.getLogger(__name__)

Json = dict[str, Any]
Handler = Callable[[Mapping[str, str]], Awaitable[Json]]
"""The query's parameters in, the answer's JSON out; a KtrdrError becomes an error answer."""

_HTTP_STATUS: dict[type[errors.KtrdrError], int] = {
    errors.KtrdrError: 500,
    errors.Retryable: 503,
    errors.Permanent: 422,
    errors.Misconfigured: 500,
    errors.InvalidRequest: 400,
    errors.NotEntitled: 403,
    errors.UnknownContract: 404,
    errors.UnknownFill: 404,
    errors.UnknownSeries: 404,
    errors.CompetingSession: 409,
    errors.OtherContract: 409,
    errors.WrongSource: 409,
    errors.Paced: 429,
    errors.RequestFailed: 502,
    errors.TimedOut: 504,
    errors.PeerSilent: 504,
    errors.StoreUnwritable: 507,
}
"""What an error is answered with; one that is not here, with what its nearest base is."""


def _tree(kind: type[errors.KtrdrError]) -> Iterator[type[errors.KtrdrError]]:
    """An error and all that are derived from it, as far as they are everybody's."""
    if kind.__module__ == errors.__name__:
        yield kind
    for derived in kind.__subclasses__():
        yield from _tree(derived)


_BY_NAME = {kind.__name__: kind for kind in _tree(errors.KtrdrError)}
_BY_OUTCOME = {kind.outcome: kind for kind in reversed(_BY_NAME.values())} | {
    errors.RequestFailed.outcome: errors.RequestFailed
}
"""Of errors with one outcome the most general one, but of those that simply failed."""

ACCEPTED = "accepted"
"""A key of an answer: True when the work was only begun (HTTP 202)."""


@dataclass(frozen=True)
class LastError:
    """What is wrong, and what a person can do about it."""

    code: int | None
    message: str
    hint: str
    time: datetime | None = None
    """When it was noticed (UTC)."""


@dataclass(frozen=True)
class FarmStatus:
    """One of IB's data farms, as the gateway's notices tell of it."""

    name: str
    serves: str
    """`market data`, `history` or `contract details`."""
    up: bool
    since: datetime
    breaks: int
    """Since the program started."""
    last_break_s: float | None


@dataclass(frozen=True)
class RefusedContract:
    """A contract whose data IB refuses, until they are answered again."""

    symbol: str
    outcome: str
    """`not_entitled` or `unknown_contract`."""
    code: int | None
    message: str
    hint: str
    since: datetime


@dataclass(frozen=True)
class ConnectionStatus:
    """What ib-connection says of itself at `GET /status`. Times are UTC."""

    connected: bool
    """A real request was answered lately, and bars can be had as far as anybody knows."""
    state: str
    """One of `planning.lifecycle.State`."""
    gateway: str
    """`live` or `simulated`."""
    host: str
    port: int
    client_id: int | None
    server_version: int | None
    last_connect_time: datetime | None
    last_disconnect_time: datetime | None
    last_answer_time: datetime | None
    connection_attempts: int
    failed_attempts: int
    next_retry_time: datetime | None
    requests_open: int
    requests_answered: int
    last_error: LastError | None
    """What is wrong now; None when it is over."""
    expected: str = ""
    """Why the gateway is away where that was to be expected, such as its nightly restart."""
    expected_kind: str = ""
    """`restart`, or `log_out`, which wants somebody."""
    reminder: str = ""
    """What a person should do soon, such as to have the second factor at hand."""
    clock_offset_s: float | None = None
    """The gateway's clock minus this machine's."""
    requests_at_once: int = 0
    """How many may be under way now; 0: it is not known."""
    library: str = ""
    """What speaks with the gateway: `ib_insync` or `ib_async`."""
    foreign_text: str = ""
    """What it said last in another language since the last attempt; empty: it speaks English."""
    no_data_since: datetime | None = None
    """Since when no data can be had; None: they can."""
    data_back_at: datetime | None = None
    """When data could be had again, or a farm that they come from was back; None: never yet."""
    farms: tuple[FarmStatus, ...] = ()
    refused: tuple[RefusedContract, ...] = ()


@dataclass(frozen=True)
class StateSpan:
    """The connection was in one state for a while."""

    start: datetime
    end: datetime
    state: str
    """One of `planning.lifecycle.State`, or `not_running`."""
    why: str


@dataclass(frozen=True)
class Outage:
    """A time without data, whatever states it was made of."""

    start: datetime
    end: datetime | None
    """None: it lasts."""
    cause: str
    """What a person would say of it."""
    worst: str
    """The worst state in it; one of those of StateSpan."""
    expected_kind: str = ""
    """`restart` or `log_out`, where it was to be expected."""
    bars_late: int | None = None
    """Bars that became due meanwhile. None, like the next: the gap filler has not said."""
    bars_lost: int | None = None
    """Those of them that are still missing."""


@dataclass(frozen=True)
class ConnectionHistory:
    """What `GET /history` tells of the last days."""

    since: datetime
    until: datetime
    uptime: float | None
    """The share of the time in which bars could be had; None: nothing is known."""
    shares: tuple[float | None, ...]
    """The same for each of many slices of the time, oldest first."""
    spans: tuple[StateSpan, ...]
    """The newest ones, oldest first."""
    outages: tuple[Outage, ...] = ()
    """All of the last 30 days, whatever days were asked for; oldest first."""


@dataclass(frozen=True)
class Checkup:
    """What came of asking the gateway for a little of everything: `POST /checkup`."""

    clock_offset_s: float | None
    is_read_only: bool | None
    """None: nobody could say."""
    contract: str
    """The outcome of a question for a contract that is known to be good; `answered`: it came."""
    data: str
    """The same of a question for bars."""
    probed: str
    """The symbol that was asked for."""
    message: str
    """What went wrong; else empty."""


@dataclass(frozen=True)
class Problem:
    """Something that went wrong with one thing, such as a file."""

    time: datetime
    what: str
    message: str
    hint: str = ""
    is_over: bool = False
    """It is well again, or is not there any more."""


@dataclass(frozen=True)
class StoreTrouble:
    """Why nothing can be written into the store, and what a person can do about it."""

    message: str
    hint: str
    is_gone: bool = False
    """The folder is not there: what is said of its series is of before."""


@dataclass(frozen=True)
class SeriesTrouble:
    """Series that are not kept complete until a person sees to it, all for one reason."""

    outcome: str
    """The name of the error, such as `unknown_contract`."""
    message: str
    hint: str
    series: tuple[str, ...]
    """The first of them, such as `AAPL_1m`."""
    count: int
    """How many there are."""


@dataclass(frozen=True)
class GapFillerStatus:
    """What gap-filler says of itself at `GET /status`. Times are UTC; a gap is a run of bars.

    `gaps_detected`, `gaps_filled`, `bars_added`, `symbols_processed` and `requests_failed` count
    since `counted_since`; all other numbers are of `as_of`.
    """

    running: bool
    state: str
    """`starting`, `scanning`, `filling`, `idle`, `waiting` (for the connection) or `refused`."""
    reason: str
    """Why it waits or refuses; else empty."""
    source: str
    """`live` or `simulated`: what this store's bars come from."""
    data_dir: str
    check_interval_s: float
    max_gap_age_days: int
    batch_symbols: int
    supported_timeframes: tuple[str, ...]
    last_scan_time: datetime | None
    last_scan_id: str | None
    next_scan_time: datetime | None
    series: int
    series_blocked: int
    """Those that cannot be kept: a file or an entry in instruments.toml is broken."""
    gaps_detected: int
    """Found, each counted once."""
    gaps_filled: int
    """Closed with bars."""
    gaps_failed: int
    """Those still to be closed whose last request failed."""
    gaps_remaining: int
    """Those still to be closed, the failed ones among them."""
    unfillable: Mapping[str, int]
    """Reason → holes that stay for now."""
    bars_added: int
    symbols_processed: int
    current: tuple[str, ...]
    """Series that are being filled."""
    eta_s: float | None
    """How long that will take; None: not known, or nothing is being filled."""
    recent_errors: tuple[Problem, ...] = field(default=())
    clock_jump_s: float = 0.0
    """How far this machine's clock has jumped ahead, while that is not believed; 0: it has not."""
    as_of: datetime | None = None
    """When all this was so."""
    counted_since: datetime | None = None
    """Since when the counters count: the start of the program."""
    requests_failed: int = 0
    """Requests for bars that were refused or not answered."""
    series_current: int = 0
    """Series that lack nothing that may be had, but for bars that became due just now."""
    series_states: Mapping[str, int] = field(default_factory=dict)
    """State, as in `GET /coverage`, → how many of those that are neither that nor troubled."""
    series_troubled: int = 0
    """Series that a person has to see to."""
    troubles: tuple[SeriesTrouble, ...] = ()
    """Why, the first of the reasons."""
    newest_bar_time: datetime | None = None
    """The start of the newest bar of the store."""
    store_trouble: StoreTrouble | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    eta_low_s: float | None = None
    eta_high_s: float | None = None
    eta_words: str = ""
    """`about 2 to 3 min`; empty: not known, or nothing is being filled."""
    waits_for: str = ""
    """Why nothing is asked for, though something is missing."""
    hint: str = ""
    """What a person can do where it waits or refuses; else empty."""
    fills: Mapping[str, int] = field(default_factory=dict)
    """State → fills that are neither done nor cancelled."""
    strange: int = 0
    """Files whose names are none of a series."""
    strange_one: str = ""
    """What is wrong with the name of the first of them."""


def to_json(message: object) -> Json:
    """A message of this module as JSON-able values; times as ISO 8601 with `+00:00`."""
    return {key: _plain(value) for key, value in asdict(message).items()}  # type: ignore[call-overload]


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def bars_to_json(bars: Iterable[Bar]) -> Json:
    """Bars as columns: a tenth of the size and time of rows."""
    columns = list(zip(*bars, strict=True)) or [()] * len(Bar._fields)
    return dict(zip(Bar._fields, columns, strict=True))


def bars_from_json(columns: Mapping[str, list[float]]) -> list[Bar]:
    """The inverse of `bars_to_json`. InvalidRequest where a column is missing or too short."""
    try:
        return [Bar(*row) for row in zip(*(columns[name] for name in Bar._fields), strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise errors.InvalidRequest(f"bars that cannot be read: {error}") from error


def answer_from_json(said: Mapping[str, Any]) -> Answer:
    """The answer of `GET /bars`. InvalidRequest: not of this form."""
    return Answer(
        bars_from_json(said.get("bars", {})),
        tuple(said.get("unsound", ())),
        tuple(bars_from_json(said["beside"])) if said.get("beside") else (),
    )


def schedule_to_json(schedule: Schedule) -> Json:
    """The answer of `GET /sessions`."""
    return {
        "zone": schedule.zone,
        "start": schedule.start,
        "end": schedule.end,
        "sessions": schedule.sessions,
        "source": schedule.source,
    }


def schedule_from_json(said: Mapping[str, Any]) -> Schedule:
    """The inverse of `schedule_to_json`. InvalidRequest: not of this form."""
    try:
        sessions = tuple(Session(*map(int, session)) for session in said["sessions"])
        source = str(said.get("source", "ib"))
        span = int(said["start"]), int(said["end"])
        schedule = Schedule(str(said["zone"]), *span, sessions, source)
    except (KeyError, TypeError, ValueError) as error:
        raise errors.InvalidRequest(f"sessions that cannot be read: {error}") from error
    if not schedule.is_sound:
        raise errors.InvalidRequest("sessions that overlap, or of a time zone that is not known")
    return schedule


def request_to_query(
    instrument: Instrument, timeframe: Timeframe | None, start: int, end: int
) -> dict[str, str]:
    """A question about an instrument in `[start, end)` as the parameters of a query."""
    query = {name: str(getattr(instrument, name)) for name in _INSTRUMENT_FIELDS}
    query["con_id"] = str(instrument.con_id or "")
    query |= {"start": _iso(start), "end": _iso(end)}
    if timeframe is not None:
        query["timeframe"] = timeframe.value
    return {name: value for name, value in query.items() if value}


def instrument_from_query(query: Mapping[str, str]) -> Instrument:
    """The instrument of a query; what it leaves out is as it is without an entry.

    InvalidRequest names the parameter, the value and what was expected.
    """
    symbol = query.get("symbol", "")
    given: dict[str, Any] = {k: query[k] for k in _INSTRUMENT_FIELDS[1:] if k in query}
    if "extended_hours" in given:
        given["extended_hours"] = given["extended_hours"].lower() in ("true", "1")
    if re.fullmatch(r"[0-9]{1,10}", given.get("con_id", "")):
        given["con_id"] = int(given["con_id"])
    try:
        return instrument_for(symbol, check_entry("query", symbol, given))
    except (ValueError, errors.Misconfigured) as error:
        raise errors.InvalidRequest(str(error)) from error


def timeframe_from_query(query: Mapping[str, str]) -> Timeframe:
    """The timeframe of a query. InvalidRequest says which there are."""
    try:
        return Timeframe.parse(query.get("timeframe", ""))
    except ValueError as error:
        raise errors.InvalidRequest(str(error)) from error


def span_from_query(query: Mapping[str, str]) -> tuple[int, int]:
    """`start` and `end` of a query as UTC seconds; ISO 8601, without a zone in UTC."""
    start, end = (time_from_text(name, query.get(name, "")) for name in ("start", "end"))
    if start >= end:
        raise errors.InvalidRequest(f"start={query['start']}: expected a time before {end}")
    return start, end


def spans_from_query(query: Mapping[str, str]) -> list[tuple[int, int]]:
    """`spans` of a query, `start/end` each, separated by commas: UTC seconds.

    InvalidRequest: one ends before it begins, or there are too many.
    """
    texts = [text for text in query.get("spans", "").split(",") if text]
    if len(texts) > MOST_SPANS:
        raise errors.InvalidRequest(f"spans: expected {MOST_SPANS} at most, and not {len(texts)}")
    spans = []
    for text in texts:
        first, _, last = text.partition("/")
        span = time_from_text("spans", first), time_from_text("spans", last)
        if span[0] > span[1]:
            raise errors.InvalidRequest(f"spans={text}: expected an end behind the start")
        spans.append(span)
    return spans


MOST_SPANS = 50
"""In one question."""


def priority_from_query(query: Mapping[str, str]) -> Priority:
    """What goes first; a hole of the last days where nothing is said. InvalidRequest: no such."""
    name = query.get("priority", Priority.RECENT.name)
    try:
        return Priority[name.upper()]
    except KeyError:
        accepted = ", ".join(priority.name.lower() for priority in Priority)
        raise errors.InvalidRequest(f"priority={name}: expected one of {accepted}") from None


def number_from_query(query: Mapping[str, str], name: str) -> float | None:
    """A number above 0 of a query; None: it is not given. InvalidRequest: it is none."""
    if name not in query:
        return None
    try:
        number = float(query[name])
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise errors.InvalidRequest(f"{name}={query[name]}: expected a number above 0")
    return number


def expect_text(query: Mapping[str, str]) -> None:
    """InvalidRequest: a parameter has what is no text, such as bytes of another encoding."""
    for name, value in query.items():
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError:
            raise errors.InvalidRequest(f"{visible(name)}={visible(value)}: not UTF-8") from None


def time_from_text(name: str, text: str) -> int:
    """UTC seconds of a date or time in ISO 8601, without a zone in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = "a date or time such as 2026-11-20 or 2026-11-20T14:30:00+00:00"
        raise errors.InvalidRequest(f"{name}={text}: expected {expected}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _iso(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()


_INSTRUMENT_FIELDS = (
    "symbol",
    "sec_type",
    "exchange",
    "primary_exchange",
    "currency",
    "expiry",
    "multiplier",
    "trading_class",
    "local_symbol",
    "con_id",
    "what_to_show",
    "extended_hours",
)


class LocalServer:
    """Serves handlers at a Unix socket, on the event loop that starts it.

    The socket has mode 0600, in a folder of mode 0700.
    """

    def __init__(self, path: Path, routes: Mapping[tuple[str, str], Handler]) -> None:
        self._path = path
        self._routes = routes
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Begin to serve. Misconfigured: something that is ours to respect is in the way."""
        prepare_folder(self._path.parent)
        _clear_the_way(self._path)
        app = web.Application()
        for (method, path), handler in self._routes.items():
            app.router.add_route(method, path, _serve(handler))
        # A question that nobody waits for any more is not worth an answer of IB's.
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True
        )
        await self._runner.setup()
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
            self._path.chmod(0o600)
        except OSError as error:
            await self._runner.cleanup()
            raise errors.Misconfigured(f"cannot serve {self._path}: {error}") from error

    async def stop(self) -> None:
        """Close the socket and remove it."""
        if self._runner is not None:
            await self._runner.cleanup()
            await asyncio.sleep(0)  # transports close on the loop's next round
            self._runner = None
            self._path.unlink(missing_ok=True)  # Python before 3.13 leaves it


@contextlib.contextmanager
def serving(server: LocalServer) -> Iterator[None]:
    """The server on an event loop in a thread of its own, for a program that has none.

    Raises what `LocalServer.start` raises.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        try:
            await server.start()
        except Exception as error:  # noqa: BLE001  # whoever waits for the start gets it
            started.set_exception(error)
            return
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="local-api", daemon=True)
    thread.start()
    loop, stop = started.result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _clear_the_way(path: Path) -> None:
    """Remove a dead program's socket; refuse to touch a living one, or what is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise errors.Misconfigured(f"{path} is in the way: expected a socket or nothing")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise errors.AlreadyRunning(f"another program serves {path}")


def _serve(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            expect_text(request.query)
            said = await handler(request.query)
        except errors.KtrdrError as error:
            return web.json_response(_error_json(error), status=_http_status(error))
        except Exception:  # a request must not end the program that serves it
            log.exception("%s %s failed", request.method, request.path)
            mistake = errors.RequestFailed("internal error", hint="the program's log says more")
            return web.json_response(_error_json(mistake), status=500)
        return web.json_response(said, status=202 if said.get(ACCEPTED) else 200)

    return answer


def _http_status(error: errors.KtrdrError) -> int:
    return next(_HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in _HTTP_STATUS)


def _error_json(error: errors.KtrdrError) -> Json:
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return {
        "kind": next(name for name in kinds if name in _BY_NAME),
        "outcome": error.outcome,
        "message": error.message,
        "code": error.code,
        "hint": error.hint,
    }


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._unix_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(os.fspath(self._unix_path))
        except OSError:
            self.sock.close()
            raise


def read_json(body: bytes) -> Json:
    """What an answer says. InvalidRequest: it is no JSON object."""
    try:
        said = json.loads(body)
    except ValueError as error:
        raise errors.InvalidRequest("an answer that cannot be read") from error
    if not isinstance(said, dict):
        raise errors.InvalidRequest("an answer that is no object")
    return said


class LocalClient:
    """Asks another program of the group at its socket. Thread-safe; a connection per question."""

    def __init__(self, path: Path, program: str) -> None:
        self._path = path
        self._program = program
        self._open: set[_UnixConnection] = set()
        self._aborted = False
        self._lock = threading.Lock()

    def abort(self) -> None:
        """Break off all questions, also those to come: each raises PeerDown."""
        with self._lock:
            self._aborted = True
            for connection in self._open:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def get(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `GET path?parameters`.

        PeerDown when nobody answers there in time; InvalidRequest when a parameter is no text;
        otherwise the peer's own error, as it was raised over there.
        """
        return self._ask("GET", path, timeout_s, parameters)

    def post(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `POST path?parameters`. Raises as `get` does."""
        return self._ask("POST", path, timeout_s, parameters)

    def delete(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `DELETE path?parameters`. Raises as `get` does."""
        return self._ask("DELETE", path, timeout_s, parameters)

    def text(self, path: str, timeout_s: float = 5.0, **parameters: str) -> bytes:
        """The answer as it came, for `read_json`: a large one is better read late. As `get`."""
        return self._ask_text("GET", path, timeout_s, parameters)

    def _ask(self, method: str, path: str, timeout_s: float, parameters: Mapping[str, str]) -> Json:
        body = self._ask_text(method, path, timeout_s, parameters)
        try:
            return read_json(body)
        except errors.InvalidRequest as error:
            raise self._down("does not speak this version's language") from error

    def _ask_text(
        self, method: str, path: str, timeout_s: float, parameters: Mapping[str, str]
    ) -> bytes:
        expect_text(parameters)
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        connection = _UnixConnection(self._path, timeout_s)
        with self._lock:
            if self._aborted:
                raise self._down("is not asked any more")
            self._open.add(connection)
        try:
            connection.connect()
            if self._aborted:  # before there was anything to shut down
                raise self._down("is not asked any more")
            connection.request(method, target)
            response = connection.getresponse()
            body = response.read()
        except TimeoutError as error:
            late = self._down(f"did not answer within {timeout_s:g} s")
            raise errors.PeerSilent(late.message, hint=late.hint) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._down("is not running") from error
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()
        if response.status >= 400:
            raise self._refusal(response.status, body)
        return body

    def _refusal(self, status: int, body: bytes) -> errors.KtrdrError:
        """The peer's own error, as it was raised over there."""
        try:
            said = read_json(body)
        except errors.InvalidRequest:
            return self._down("does not speak this version's language")
        by_outcome = _BY_OUTCOME.get(str(said.get("outcome")), errors.RequestFailed)
        kind = _BY_NAME.get(str(said.get("kind")), by_outcome)
        message = str(said.get("message", f"HTTP {status}"))
        return kind(message, code=said.get("code"), hint=said.get("hint") or "")

    def _down(self, how: str) -> errors.PeerDown:
        hint = f".venv/bin/supervisorctl status {self._program}; where nothing runs, ./scripts/up"
        return errors.PeerDown(f"{self._program} {how} ({self._path.name})", hint=hint)
