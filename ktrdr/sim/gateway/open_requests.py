"""The open requests of one client. Each is answered in its own task: none waits for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from ktrdr.sim.gateway import answer_damage, answers, lies, refusals
from ktrdr.sim.gateway.clients import Clients
from ktrdr.sim.gateway.faults import DATA, HISTORY, HISTORY_FARM, Faults, kinds_of
from ktrdr.sim.gateway.limits import HISTORY_KINDS, HistoryPace, Limits, Violation
from ktrdr.sim.gateway.live_updates import LiveUpdates
from ktrdr.sim.gateway.record import Record
from ktrdr.sim.gateway.refusals import Refusal
from ktrdr.sim.gateway.request_handlers import Reply, RequestHandlers, refuse
from ktrdr.sim.gateway.stream_losses import Loss, loss_at_start
from ktrdr.sim.gateway.streams import Sink, Stream
from ktrdr.sim.gateway.wire import Request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latency:
    """The time until a response: a base, and more for its bars."""

    base_s: float = 0.0
    bars_per_s: float | None = None

    def of(self, reply: Reply) -> float:
        """Seconds from the request to this response."""
        return self.base_s + (reply.bars / self.bars_per_s if self.bars_per_s else 0.0)


@dataclass(frozen=True)
class Shared:
    """What the connections of one gateway share."""

    handlers: RequestHandlers
    record: Record
    latency: Latency
    version: int
    """The highest protocol version to offer."""
    limits: Limits
    pace: HistoryPace
    faults: Faults
    clients: Clients[object]


class OpenRequests:
    """The requests of one client that are not answered yet."""

    def __init__(
        self,
        shared: Shared,
        client_id: int,
        version: int,
        send: Callable[[bytes], str],
        failed: Callable[[], None],
        has_room: Callable[[], bool],
    ) -> None:
        """`send`: returns the fault that swallowed the bytes. `failed`: called after an error.

        `has_room`: whether the client reads what it is sent.
        """
        self._shared = shared
        self._client_id = client_id
        self._version = version
        self._send = send
        self._failed = failed
        self._has_room = has_room
        self._open: dict[int, asyncio.Task[None]] = {}
        self._requested: dict[asyncio.Task[None], Request] = {}
        self._streams: dict[int, Stream] = {}

    def __repr__(self) -> str:
        return f"client {self._client_id}"

    def begin(self, request: Request) -> bool:
        """Begin to answer; the id of a history request is in use until its response is sent.

        False: a limit was exceeded, and the connection ends.
        """
        self._shared.record.received(self._shared.handlers.now(), self._client_id, request)
        keeps_id = request.kind in HISTORY
        if keeps_id and request.request_id in self._open:
            refused = refusals.duplicate_request(request.request_id)
            self._respond(request, refuse(request, self._version, refused), "duplicate_id")
            return True
        if request.kind in HISTORY and (violation := self._violated(request)):
            return not violation.is_end
        outages = self._shared.faults.times("connectivity_lost")
        task = asyncio.create_task(self._answer(request, self._silenced(request), outages))
        self._requested[task] = request
        if keeps_id:
            self._open[request.request_id] = task
            self._shared.pace.open += 1
        task.add_done_callback(self._ended)
        return True

    def cancel(self, request: Request) -> None:
        """Cancel the history request with this id: error 162, or 366 if it is not open."""
        self._shared.record.received(self._shared.handlers.now(), self._client_id, request)
        task = self._free(request.request_id)
        if task is None:
            refused = refusals.nothing_to_cancel(request.request_id)
        else:
            task.cancel()
            refused = refusals.cancelled(request.request_id)
        self._respond(request, refuse(request, self._version, refused))

    def cancel_head_timestamp(self, request: Request) -> None:
        """Cancel the head-timestamp request with this id, without a response."""
        self._shared.record.received(self._shared.handlers.now(), self._client_id, request)
        task = self._free(request.request_id)
        if task is not None:
            task.cancel()

    def swallow(self, request: Request, fault: str) -> None:
        """Record a request that a fault keeps from being answered."""
        now = self._shared.handlers.now()
        self._shared.record.received(now, self._client_id, request)
        self._shared.record.swallowed(now, self._client_id, request, fault)

    async def end(self) -> None:
        """Cancel all requests: the client is gone."""
        tasks = list(self._requested)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _violated(self, request: Request) -> Violation | None:
        """The limit that a request exceeds; the client has been sent its error."""
        violation = self._shared.pace.check(request, asyncio.get_running_loop().time())
        if violation:
            log.info("%r: %s exceeds a limit: %s", self, _description(request), violation.limit)
            now = self._shared.handlers.now()
            self._shared.record.violation(now, self._client_id, violation, request)
        if violation and violation.refused:
            refused = refuse(request, self._version, violation.refused)
            self._respond(request, refused, violation.limit)
        return violation

    def _silenced(self, request: Request) -> str:
        """The fault that keeps a request that comes now from being answered; empty: none."""
        faults = self._shared.faults
        now_s = asyncio.get_running_loop().time()
        if request.kind == "current_time" and faults.time_is_requested(now_s):
            return "time_once"
        return faults.silences(request.kind, request.symbol)

    async def _answer(self, request: Request, silenced: str, outages: int) -> None:
        """Answer, unless a fault has silenced the request or the connection was lost since.

        `outages`: how many had begun when the request came.
        """
        faults = self._shared.faults
        now_s = asyncio.get_running_loop().time()
        delay_s = self._shared.pace.delay_s(now_s) if request.kind in HISTORY_KINDS else 0.0
        late_s = faults.number("late", "seconds") if faults.strikes("late") else 0.0
        reply, verdict = await self._reply(request)
        if reply is None:
            log.info("%r: %s is not supported; ignored", self, request.kind)
            return
        await asyncio.sleep(self._shared.latency.of(reply) + delay_s + late_s)
        silence = silenced or faults.silences(request.kind, request.symbol)
        if request.kind in DATA and outages != faults.times("connectivity_lost"):
            silence = "connectivity_lost"
        if silence:
            now = self._shared.handlers.now()
            self._shared.record.swallowed(now, self._client_id, request, silence)
            await asyncio.Event().wait()
        self._respond(request, reply, verdict or ("late" if late_s else ""))
        if request.kind == "head_timestamp" and faults.has("kept_heads"):
            await asyncio.Event().wait()
        if request.keep_up_to_date and reply.error_code is None:
            await self._keep_up_to_date(request, reply.until_s)

    async def _keep_up_to_date(self, request: Request, since_s: int) -> None:
        """Send updates of the forming bar until the request is cancelled, which is not an error."""
        shared = self._shared
        subscription = shared.handlers.subscription(request, self._version)
        updates = LiveUpdates(shared.handlers.market, subscription, since_s)
        sink = Sink(self._update, self._has_room)
        stream = Stream(subscription, updates, shared.faults, shared.handlers.now, sink)
        self._streams[request.request_id] = stream
        if loss := loss_at_start(subscription, shared.faults.active):
            self._lose(request.request_id, loss)
        try:
            await stream.run(since_s, shared.latency.base_s)
        finally:
            if self._streams.get(request.request_id) is stream:
                del self._streams[request.request_id]

    def _update(self, messages: bytes, count: int) -> None:
        was_sent = count > 0 and not self._send(messages)
        self._shared.record.updated(count if was_sent else 0)

    @property
    def streams(self) -> dict[int, Stream]:
        """The open streams by the ids of their requests, also those that are lost."""
        return dict(self._streams)

    def lose_streams(self, loss: Loss) -> None:
        """Lose the streams that a fault takes away."""
        for request_id, stream in list(self._streams.items()):
            if stream.subscription.is_of(loss.symbol):
                self._lose(request_id, loss)

    def _lose(self, request_id: int, loss: Loss) -> None:
        stream = self._streams[request_id]
        if not stream.is_lost:
            stream.lose()
            now = self._shared.handlers.now()
            self._shared.record.lost(now, self._client_id, stream.subscription.request, loss.fault)
            if loss.refused:
                refused = loss.refused(request_id)
                self._send(answers.refusal(self._version, request_id, refused))
        if loss.is_forgotten:
            del self._streams[request_id]
            if task := self._free(request_id):
                task.cancel()

    async def _reply(self, request: Request) -> tuple[Reply | None, str]:
        """The response and the fault in it; bars are made in a thread, so that nothing blocks."""
        handlers, faults = self._shared.handlers, self._shared.faults
        refused, fault = _false_error(request, faults)
        if refused:
            requested = replace(request, request_id=-1) if fault == "read_only_api" else request
            return refuse(requested, self._version, refused), fault
        if request.kind in HISTORY and faults.strikes("advisory_first"):
            advice = Refusal(int(faults.number("advisory_first", "code")), "worth knowing")
            self._send(answers.refusal(self._version, request.request_id, advice))
        if request.kind == "current_time" and faults.has("wrong_clock"):
            wrong = handlers.now() + timedelta(seconds=faults.number("wrong_clock", "seconds"))
            return Reply(answers.current_time(wrong)), "wrong_clock"
        if request.kind not in DATA:
            return handlers.reply(request, self._version), ""
        shift_s = faults.shift_s(request.bar_size) if request.kind == "historical_data" else 0
        reply = await asyncio.to_thread(handlers.reply, request, self._version, shift_s)
        if reply is None or reply.error_code is not None:
            return reply, ""
        reply, verdict = _falsified(request, reply, faults)
        if request.kind not in HISTORY:
            return reply, verdict
        return _damaged(reply, verdict or ("other_grid" if shift_s else ""), faults)

    def _ended(self, task: asyncio.Task[None]) -> None:
        request = self._requested.pop(task)
        if self._open.get(request.request_id) is task:
            self._free(request.request_id)
        if task.cancelled():
            self._shared.record.cancelled(self._shared.handlers.now(), self._client_id, request)
        elif error := task.exception():
            log.error("%r: a request failed, and its connection ends", self, exc_info=error)
            self._failed()

    def _free(self, request_id: int) -> asyncio.Task[None] | None:
        """Free the id of a history request, and its place among those that may be open at once."""
        task = self._open.pop(request_id, None)
        if task:
            self._shared.pace.open -= 1
        return task

    def _respond(self, request: Request, reply: Reply, verdict: str = "") -> None:
        if reply.error_code is not None:
            log.info("%r: %s answered %d", self, _description(request), reply.error_code)
        else:
            bars = f", {reply.bars} bars" if reply.bars else ""
            log.info("%r: %s answered%s", self, _description(request), bars)
        now = self._shared.handlers.now()
        if fault := self._send(reply.message):
            self._shared.record.swallowed(now, self._client_id, request, fault)
        else:
            self._shared.record.answered(now, self._client_id, request, reply, verdict)


def _false_error(request: Request, faults: Faults) -> tuple[Refusal | None, str]:
    """The error that a fault sends instead of the response, and the fault."""
    if request.kind in DATA and faults.strikes("false_200"):
        return refusals.unknown_contract(), "false_200"
    if _is_meant(request, faults, "false_no_data") and faults.strikes("false_no_data"):
        what = "Schedule" if request.kind == "schedule" else request.what_to_show
        return refusals.no_data(request.symbol, "SMART", what), "false_no_data"
    if _is_meant(request, faults, "refused") and faults.strikes("refused"):
        text = faults.text("refused", "text").encode(faults.text("refused", "encoding"))
        code = int(faults.number("refused", "code"))
        return Refusal(code, text.decode(errors="surrogateescape")), "refused"
    if request.kind in HISTORY and (no_history := _no_history(faults)):
        return no_history
    if faults.has("read_only_api") and request.kind in ("open_orders", "completed_orders"):
        return refusals.read_only(), "read_only_api"
    return None, ""


def _no_history(faults: Faults) -> tuple[Refusal, str] | None:
    """The error with which a fault refuses all history, and the fault; None: no fault does."""
    if faults.text("farm_broken", "farm") == HISTORY_FARM:
        return refusals.no_farm(), "farm_broken"
    if not faults.has("competing_session"):
        return None
    is_data = faults.number("competing_session", "code") == 10197
    refused = refusals.competing_session() if is_data else refusals.other_session()
    return refused, "competing_session"


def _is_meant(request: Request, faults: Faults, name: str) -> bool:
    """Whether a fault with `kind` and `symbol` applies to this request."""
    kinds, symbol = kinds_of(faults.text(name, "kind"), HISTORY), faults.text(name, "symbol")
    return request.kind in kinds and symbol in ("", request.symbol)


def _falsified(request: Request, reply: Reply, faults: Faults) -> tuple[Reply, str]:
    """A response after the faults that falsify it, and the last of these faults."""
    zone_name = partial(
        lies.zone_name,
        contract=faults.text("zone_name", "contract"),
        schedule=faults.text("zone_name", "schedule"),
    )
    changes: dict[str, dict[str, Callable[[bytes], bytes]]] = {
        "contract_details": {"zone_name": zone_name},
        "schedule": {
            "zone_name": zone_name,
            "odd_session": partial(lies.odd_session, text=faults.text("odd_session", "text")),
            "cut_schedule": partial(lies.cut_schedule, lost=faults.text("cut_schedule", "lost")),
        },
        "head_timestamp": {
            "late_head": partial(lies.late_head, days=int(faults.number("late_head", "days"))),
        },
        "historical_data": {
            "cut_bars": partial(
                lies.cut_bars,
                lost=faults.text("cut_bars", "lost"),
                share=faults.number("cut_bars", "share"),
            ),
            "odd_field": partial(
                lies.odd_field,
                field=faults.text("odd_field", "field"),
                text=faults.text("odd_field", "text"),
            ),
            "other_unit": partial(
                lies.other_unit,
                of=faults.text("other_unit", "of"),
                factor=faults.number("other_unit", "factor"),
            ),
        },
    }
    verdict = ""
    for name, change in changes[request.kind].items():
        if faults.strikes(name):
            reply, verdict = replace(reply, message=change(reply.message)), name
    return reply, verdict


def _damaged(reply: Reply, verdict: str, faults: Faults) -> tuple[Reply, str]:
    """A response after the faults that damage its bars, and the last of these faults."""
    every = int(faults.number("missing_bars", "every"))
    changes: dict[str, answer_damage.Change] = {
        "missing_bars": partial(answer_damage.missing, every=every),
        "doubled_bars": answer_damage.doubled,
        "unordered_bars": answer_damage.unordered,
        "wrong_bars": partial(answer_damage.wrong, how=faults.text("wrong_bars", "how")),
    }
    for name, change in changes.items():
        if faults.has(name) and reply.bars:
            message = answer_damage.change_bars(reply.message, change)
            reply, verdict = replace(reply, message=message), name
    return reply, verdict


def _description(request: Request) -> str:
    """A request in short, for the log."""
    query = request.query
    what = f" {query.local_symbol or query.symbol or query.con_id}" if query else ""
    span = f" {request.bar_size} {request.duration} to {request.end or 'now'}"
    return f"{request.kind}{what}{span if request.duration else ''}"
