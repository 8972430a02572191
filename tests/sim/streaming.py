"""Streams of bars as ib_insync gets them: a clock that is set, a request, and what comes."""

import asyncio
from datetime import timedelta

from ib_insync import Crypto, Stock

AAPL = Stock("AAPL", "SMART", "USD")
BTC = Crypto("BTC", "PAXOS", "USD")


class SetClock:
    """A clock that somebody sets."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def subscribed(client, contract, size, what="TRADES", duration="1 D", end="", rth=True):
    return client.reqHistoricalDataAsync(
        contract, end, duration, size, what, rth, 2, keepUpToDate=True
    )


class Forms:
    """The updates as they come over the wire, those included that ib_insync shows nobody."""

    def __init__(self, client):
        handlers = client.client.decoder.handlers
        self.seen, self._come, self._show = [], asyncio.Event(), handlers[90]
        handlers[90] = self.take

    def take(self, fields):
        _, number, count, time, opens, close, high, low, average, volume = fields
        prices = [float(text) for text in (opens, high, low, close)]
        self.seen.append((int(number), int(time), *prices, int(volume), float(average), int(count)))
        self._come.set()
        self._show(fields)

    async def after(self, known, bars=None):
        """Those of these bars, or of all, after so many, as soon as there is one."""
        while not (found := self.of(bars)[known:]):
            self._come.clear()
            await asyncio.wait_for(self._come.wait(), 5)
        return found

    def of(self, bars=None):
        return [form[1:] for form in self.seen if bars is None or form[0] == bars.reqId]


class Watched:
    """A client with streams of AAPL and of BTC, each of which changes every 5 s."""

    def __init__(self, client, gateway, clock):
        self.client, self.gateway, self.clock = client, gateway, clock
        self.forms, self.errors = Forms(client), []
        client.errorEvent += lambda number, code, *_: self.errors.append((number, code))

    async def open(self):
        self.aapl, self.btc = await self.stream(AAPL), await self.stream(BTC)
        self.errors.clear()
        return self

    async def stream(self, contract):
        what = "AGGTRADES" if contract is BTC else "TRADES"
        return await subscribed(self.client, contract, "1 min", what, duration="600 S")

    async def pass_s(self, seconds):
        """Let so many seconds pass; each time what streams send is there before the next ones."""
        for _ in range(seconds // 5):
            await self.step(5)
            await self.client.reqCurrentTimeAsync()

    async def step(self, seconds):
        """Let so many seconds pass at once, until no stream that lives has anything to send."""
        self.clock.now += timedelta(seconds=seconds)
        mark_s = int(self.clock.now.timestamp()) // 5 * 5
        await until(lambda: self.are_at(mark_s))

    def are_at(self, mark_s):
        return all(one["is_lost"] or one["until_s"] >= mark_s for one in self.gateway.streams)

    async def cancelled(self, bars):
        """The error of its cancellation."""
        known = len(self.errors)
        self.client.cancelHistoricalData(bars)
        await self.client.reqContractDetailsAsync(AAPL)
        (answer,) = [one for one in self.errors[known:] if one[0] == bars.reqId]
        return answer[1]


async def until(is_so):
    while not is_so():  # noqa: ASYNC110  what is waited for has no event
        await asyncio.sleep(0.001)
