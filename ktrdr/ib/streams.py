"""The streams that are kept open over the connection, and the bars that they finish. Stores none.

A stream is opened as any request is, and again whenever it may have ended: a new connection, 1101,
1102, a farm that was broken, an error. One that died silently shows by a bar that is overdue,
which only who knows the sessions can tell: the gap filler, which then has it opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from ktrdr.errors import InvalidRequest, KtrdrError, Permanent
from ktrdr.ib.client import IbClient
from ktrdr.ib.connection import Connection
from ktrdr.ib.dispatcher import Requests
from ktrdr.ib.live_bars import LiveBars
from ktrdr.ipc.stream_messages import StreamedBar, StreamsMessage, StreamStatus
from ktrdr.market.bars import Bar
from ktrdr.market.bars_request import Priority
from ktrdr.market.instruments import Instrument
from ktrdr.market.timeframes import Timeframe

log = logging.getLogger("ib-connection")

LEASE_S = 300.0
"""A stream that nobody has requested again for so long is closed."""
_PATIENCE_S = 60.0
_PAUSES_S = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Before the next attempt, after so many failures in a row; the last one repeats."""
_CHECK_S = 1.0
"""How often to check for a farm that came back, and for the end of the lease."""
_EXACT_S = 2.0
"""The gateway reports whole seconds, and its answer takes time."""
_BARS_KEPT = 2000
_EARLY_MOST = 100
"""Updates that are kept while the first answer is being read."""


@dataclass
class Stream:
    """One stream that is wanted. For the connection's loop."""

    instrument: Instrument
    timeframe: Timeframe
    leased_until: float
    """By the loop's clock."""
    since: datetime
    state: str = "opening"
    last_update: datetime | None = None
    bars: int = 0
    error: str = ""
    problems: Mapping[str, int] = field(default_factory=dict)
    reopen: asyncio.Event = field(default_factory=asyncio.Event)
    """It should be opened anew."""

    @property
    def name(self) -> str:
        """As that of the series: `AAPL_1m`."""
        return f"{self.instrument.symbol}_{self.timeframe.value}"

    def status(self) -> StreamStatus:
        """What is known of it now."""
        known = (self.since, self.last_update, self.bars, self.error, dict(self.problems))
        return StreamStatus(self.name, self.state, *known)


class FinishedBars:
    """The last finished bars of all streams, numbered. For the connection's loop."""

    def __init__(self) -> None:
        self.run = uuid4().hex[:12]
        self.number = 0
        self._kept: deque[tuple[int, StreamedBar]] = deque(maxlen=_BARS_KEPT)
        self._next = asyncio.Event()

    def add(self, series: str, bar: Bar) -> None:
        """A bar is finished."""
        self.number += 1
        self._kept.append((self.number, StreamedBar.of(series, bar)))
        self.wake()

    def wake(self) -> None:
        """Let those who wait have what there is."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait_beyond(self, number: int, wait_s: float) -> None:
        """Wait until there is a bar after this one, or a stream has changed; at most `wait_s`."""
        if self.number <= number:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._next.wait(), wait_s)

    def after(self, number: int) -> tuple[tuple[StreamedBar, ...], bool]:
        """The bars after this one; and whether some of them are not kept any more."""
        bars = tuple(bar for n, bar in self._kept if n > number)
        return bars, len(bars) < self.number - number


class Streams:
    """The streams of one connection, at most `most`. On its event loop."""

    def __init__(
        self, connection: Connection, requests: Requests, now: Callable[[], datetime], most: int
    ) -> None:
        self._connection = connection
        self._requests = requests
        self._now = now
        self.most = most
        self._streams: dict[str, tuple[Stream, asyncio.Task[None]]] = {}
        self._finished: FinishedBars | None = None

    def __repr__(self) -> str:
        return f"<Streams {len(self._streams)} of {self.most}>"

    @property
    def _bars(self) -> FinishedBars:
        if self._finished is None:  # made on the loop that uses it
            self._finished = FinishedBars()
        return self._finished

    async def want(
        self, instrument: Instrument, timeframe: Timeframe, *, is_overdue: bool = False
    ) -> None:
        """Keep this stream open for `LEASE_S` more; `is_overdue`: it is dead, open it anew.

        InvalidRequest: there are as many as there may be, or none of daily bars.
        """
        loop = asyncio.get_running_loop()
        wanted = Stream(instrument, timeframe, loop.time() + LEASE_S, self._now())
        if timeframe.is_daily:
            raise InvalidRequest(f"{wanted.name}: daily bars are not streamed")
        known = self._streams.get(wanted.name)
        if known is not None and known[0].instrument == instrument:
            known[0].leased_until = wanted.leased_until
            if is_overdue:
                known[0].error = "a bar was overdue"
                known[0].reopen.set()
            return
        await self.unwant(wanted.name)
        if len(self._streams) >= self.most:
            raise InvalidRequest(
                f"{wanted.name}: there are {self.most} streams already",
                hint="KTRDR_LIVE_STREAMS says how many there may be",
            )
        self._streams[wanted.name] = (wanted, loop.create_task(self._keep(wanted)))

    async def unwant(self, name: str) -> None:
        """Close this stream, if there is one."""
        known = self._streams.pop(name, None)
        if known is not None:
            known[1].cancel()
            await asyncio.wait({known[1]})

    async def message(self, run: str, after: int, wait_s: float) -> StreamsMessage:
        """The bars that were finished after that number; waits for the first.

        Without the name of this run, as at first, there are no bars before now.
        """
        bars = self._bars
        is_known = run == bars.run and 0 <= after <= bars.number
        if is_known:
            await bars.wait_beyond(after, wait_s)
        found, is_behind = bars.after(after) if is_known else ((), bool(run))
        gateway = self._connection.status(asyncio.get_running_loop().time()).gateway
        states = tuple(stream.status() for stream, _ in self._streams.values())
        return StreamsMessage(bars.run, bars.number, is_behind, self.most, gateway, found, states)

    # One stream.

    async def _keep(self, stream: Stream) -> None:
        """Open it, again and again, until its lease ends."""
        loop = asyncio.get_running_loop()
        failures = 0
        while loop.time() < stream.leased_until:
            self._note(stream, "opening")
            try:
                await self._follow(stream)
                failures = 0
            except KtrdrError as error:
                failures = len(_PAUSES_S) if isinstance(error, Permanent) else failures + 1
                await self._pause(stream, str(error), failures)
            except Exception as error:  # a bug must not end what is kept open
                log.exception("%s: its stream failed", stream.name)
                failures += 1
                await self._pause(stream, repr(error), failures)
        self._streams.pop(stream.name, None)
        log.info("%s: its stream is wanted no longer", stream.name)

    def _gateway_behind_s(self) -> float:
        """How far the gateway's clock is behind this machine's, if that is more than it rounds."""
        offset_s = self._connection.status(asyncio.get_running_loop().time()).clock_offset_s or 0.0
        return -offset_s if offset_s < -_EXACT_S else 0.0

    def _note(self, stream: Stream, state: str) -> None:
        stream.state, stream.since = state, self._now()
        self._bars.wake()

    async def _pause(self, stream: Stream, why: str, failures: int) -> None:
        """Wait before the next attempt: until requests are to be repeated, or a while."""
        if why != stream.error:
            log.warning("%s: its stream is opened again later: %s", stream.name, why)
        stream.error = why
        self._note(stream, "waiting")
        pause_s = _PAUSES_S[min(failures, len(_PAUSES_S)) - 1]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection.availability.repeat.wait(), pause_s)

    async def _follow(self, stream: Stream) -> None:
        """Open it once, and hand on its bars until it may have ended."""
        opened = _OpenStream(stream, self._bars, self._now)
        stream.reopen.clear()
        loop = asyncio.get_running_loop()
        repeat = self._connection.availability.repeat.wait()

        async def send(client: IbClient) -> IbClient:
            stream_of = (stream.instrument, stream.timeframe)
            number, forming = await client.follow(*stream_of, opened.update, opened.end)
            opened.begin(number, forming)
            return client

        again = asyncio.ensure_future(repeat)
        client: IbClient | None = None
        try:
            client = await self._requests.answered(
                ("stream", stream.name, id(opened)),
                stream.instrument,
                send,
                patience_s=_PATIENCE_S,
                priority=Priority.TAIL,
            )
            self._requests.note_streams(1)
            opened_at = loop.time()
            log.info("%s: its stream is open", stream.name)
            self._note(stream, "open")
            while not (again.done() or client.closed.is_set() or stream.reopen.is_set()):
                if loop.time() >= stream.leased_until:
                    return
                if self._connection.availability.farm_back_after(opened_at) is not None:
                    return
                opened.behind_s = self._gateway_behind_s()
                await opened.wait(_CHECK_S)
        finally:
            again.cancel()
            opened.close()
            if client is not None:
                self._requests.note_streams(-1)
                client.unfollow(opened.number)


class _OpenStream:
    """A stream from its opening to its end: updates in, finished bars out."""

    def __init__(self, stream: Stream, bars: FinishedBars, now: Callable[[], datetime]) -> None:
        self._stream = stream
        self._bars = bars
        self._now = now
        self.number = -1
        self.behind_s = 0.0
        """How far the gateway's clock is behind this machine's."""
        self._live: LiveBars | None = None
        self._early: deque[Bar | None] = deque(maxlen=_EARLY_MOST)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, number: int, forming: Bar | None) -> None:
        """IB's first answer is there, with the bar so far."""
        self.number = number
        self._live = LiveBars(self._stream.timeframe, self._now().timestamp(), forming)
        self._stream.problems = self._live.problems
        while self._early:
            self.update(self._early.popleft())

    def update(self, bar: Bar | None) -> None:
        """IB has sent the forming bar again, or the next one."""
        if self._live is None:
            self._early.append(bar)
            return
        now = self._now()
        before = len(self._live.problems)
        self._hand_on(self._live.update(bar, now.timestamp(), self.behind_s))
        self._stream.last_update = now
        if len(self._live.problems) > before:  # each kind is named once
            why = list(self._live.problems)[-1]
            log.warning("%s: an update of its stream is ignored: %s: %s", self.name, why, bar)
        self._wait_for_end()

    @property
    def name(self) -> str:
        """That of the series."""
        return self._stream.name

    def end(self, error: KtrdrError) -> None:
        """IB has ended it."""
        if not self._ended.done():
            self._ended.set_exception(error)

    async def wait(self, wait_s: float) -> None:
        """Wait for a while; raises why IB has ended the stream."""
        await asyncio.wait({self._ended}, timeout=wait_s)
        if self._ended.done():
            self._ended.result()

    def close(self) -> None:
        """Hand on no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._ended.done() and not self._ended.cancelled():
            self._ended.exception()  # retrieved
        self._ended.cancel()

    def _wait_for_end(self) -> None:
        """Have the bar looked at when it counts as finished without another update."""
        due = self._live.settles_at if self._live else None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            left_s = max(due - self._now().timestamp(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(left_s, self._settle)

    def _settle(self) -> None:
        if self._live is not None:
            self._hand_on(self._live.settled(self._now().timestamp()))

    def _hand_on(self, finished: list[Bar]) -> None:
        for bar in finished:
            self._stream.bars += 1
            self._bars.add(self.name, bar)
