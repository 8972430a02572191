"""Streams of bars as ib_insync gets them: a clock that is set, a request, and what comes."""

import asyncio


class SetClock:
    """A clock that somebody sets."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def subscribed(client, contract, size, what="TRADES", duration="1 D", end=""):
    return client.reqHistoricalDataAsync(
        contract, end, duration, size, what, True, 2, keepUpToDate=True
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
