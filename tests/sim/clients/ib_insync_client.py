"""Sends a plan of requests to gateways with ib_insync or ib_async, and prints what it received.

`python ib_insync_client.py MODULE < PLAN > REPORT`, both JSON; `conformance.py` says their keys.
Nothing of this project is imported: it runs where only the client is installed.
"""

import asyncio
import importlib
import json
import logging
import sys
from datetime import datetime

WAIT_S = 10


def stamp(when):
    """Seconds since 1970; a trading day as `yyyymmdd`; a time without a zone as it is."""
    if not isinstance(when, datetime):
        return when.strftime("%Y%m%d")
    return int(when.timestamp()) if when.tzinfo else when.isoformat(sep=" ")


def row(bar):
    prices = (bar.open, bar.high, bar.low, bar.close)
    return [stamp(bar.date), *prices, float(bar.volume), float(bar.average), bar.barCount]


class Talk:
    """One connection to one gateway."""

    def __init__(self, library):
        self.library = library
        self.client = library.IB()
        self.client.RaiseRequestErrors = True
        self.received = []
        self.refused = asyncio.Event()
        self.client.errorEvent += self.receive
        self.news = asyncio.Event()
        self.raw, self.told = [], []
        self.before, self.shown = {}, {}  # by the number of a stream

    def receive(self, number, code, text, *_):
        self.received.append([code, text])
        self.told.append([number, code])
        self.news.set()
        if not 2100 <= code < 2200:
            self.refused.set()

    def contract(self, fields):
        return self.library.Contract(**fields)

    async def hold(self, port, questions):
        """Connect, send all requests one after the other, and disconnect."""
        await self.client.connectAsync("127.0.0.1", port, clientId=5)
        report = {
            "version": self.client.client.serverVersion(),
            "accounts": self.client.managedAccounts(),
            "next_id": self.client.client.getReqId(),
            "notices": [code for code, _ in self.received],
            "answers": {},
        }
        for question in questions:
            self.received, self.refused = [], asyncio.Event()
            work = getattr(self, question["ask"])(question)
            if question["ask"] == "watch":  # its errors end nothing
                result = await asyncio.wait_for(work, 3 * WAIT_S)
            else:
                result = await self.answer_or_error(work)
            report["answers"][question["name"]] = {"result": result, "errors": self.received}
        self.client.disconnect()
        return report

    async def answer_or_error(self, work):
        """What `work` returns; None when an error came instead, which not every client raises."""
        answer, refused = asyncio.ensure_future(work), asyncio.ensure_future(self.refused.wait())
        done, _ = await asyncio.wait(
            (answer, refused), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            self.received.append([-1, f"no answer within {WAIT_S} s"])
        refused.cancel()
        if refused in done:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            return None
        return answer.result() if done else None

    async def details(self, question):
        found = await self.client.reqContractDetailsAsync(self.contract(question["contract"]))
        return [
            {
                "con_id": one.contract.conId,
                "symbol": one.contract.symbol,
                "local_symbol": one.contract.localSymbol,
                "expiry": one.contract.lastTradeDateOrContractMonth,
                "primary_exchange": one.contract.primaryExchange,
                "multiplier": one.contract.multiplier,
                "min_tick": one.minTick,
                "zone": one.timeZoneId,
                "liquid_hours": one.liquidHours,
                "stock_type": one.stockType,
                "real_expiry": one.realExpirationDate,
                "min_size": float(one.minSize),
                "suggested_size": float(one.suggestedSizeIncrement),
            }
            for one in found
        ]

    async def head(self, question):
        head = await self.client.reqHeadTimeStampAsync(
            self.contract(question["contract"]), question["what"], question["rth"], 2
        )
        return stamp(head)

    async def schedule(self, question):
        got = await self.client.reqHistoricalScheduleAsync(
            self.contract(question["contract"]), question["days"], question["end"], question["rth"]
        )
        sessions = [[s.startDateTime, s.endDateTime, s.refDate] for s in got.sessions]
        return {"zone": got.timeZone, "sessions": sessions}

    async def bars(self, question):
        got = await self.client.reqHistoricalDataAsync(*self.history(question), False)
        return [row(bar) for bar in got]

    def history(self, question):
        return (
            self.contract(question["contract"]),
            question["end"],
            question["duration"],
            question["size"],
            question["what"],
            question["rth"],
            question["format"],
        )

    async def updates(self, question):
        """Bars kept up to date: the first answer, then bars until one after the last has begun."""
        seen, enough = [], asyncio.Event()

        def take(bars, is_new):
            seen.append([is_new, row(bars[-1])])
            if is_new and len(seen) >= question["count"]:
                enough.set()

        bars = await self.client.reqHistoricalDataAsync(*self.history(question), True)
        first = [row(bar) for bar in bars]
        bars.updateEvent += take
        await enough.wait()
        self.client.cancelHistoricalData(bars)
        return {"first": first, "updates": [one for _, one in seen]}

    async def watch(self, question):
        """Two streams: what comes in the first until the second has had so many updates.

        With `after` the second one begins once that code has come.
        """
        self.tap()
        first = await self.stream(question["contract"], question["what"], question["size"])
        bars = self.before.get(first.reqId) or [row(bar) for bar in first]
        codes_before = len(self.told)
        while question["after"] not in [0, *(c for _, c in self.told[codes_before:])]:
            await self.news_of()
        before = len(self.of(first))
        second = await self.stream(question["witness"], question["witness_what"], question["size"])
        while len(self.of(second)) < question["count"]:
            await self.news_of()
        return {
            "first": bars,
            "updates": self.of(first),
            "after": self.of(first)[before:],
            "witness": self.of(second),
            "shown": list(self.shown.get(first.reqId, [])),
            "told": [["stream" if n == first.reqId else n, c] for n, c in self.told[codes_before:]],
        }

    async def stream(self, contract, what, size):
        return await self.client.reqHistoricalDataAsync(
            self.contract(contract), "", "600 S", size, what, False, 2, True
        )

    async def news_of(self):
        self.news.clear()
        await self.news.wait()

    def tap(self):
        """Note the updates as they come, those included that the library shows nobody."""
        handlers = self.client.client.decoder.handlers
        show = handlers[90]

        def take(fields):
            _, number, count, time, opens, close, high, low, average, volume = fields
            prices = [float(text) for text in (opens, high, low, close)]
            self.begin(int(number))
            self.raw.append(
                (int(number), [int(time), *prices, float(volume), float(average), int(count)])
            )
            self.news.set()
            show(fields)

        handlers[90] = take

    def begin(self, number):
        """Note what the library has before its first update, which may come with the answer."""
        bars = self.client.wrapper.reqId2Subscriber.get(number)
        if number in self.before or bars is None:
            return
        self.before[number], shown = [row(bar) for bar in bars], self.shown.setdefault(number, [])
        bars.updateEvent += lambda bars, _: shown.append(row(bars[-1]))

    def of(self, bars):
        return [one for number, one in self.raw if number == bars.reqId]

    async def time(self, _):
        return stamp(await self.client.reqCurrentTimeAsync())

    async def order(self, question):
        contract = self.contract(question["contract"])
        self.client.placeOrder(contract, self.library.LimitOrder("BUY", 1, 1.0))
        await self.refused.wait()

    async def unknown(self, question):
        """Unsupported messages, then a request: whether the connection still works."""
        self.client.client.send(9999, 1, "x")
        return await self.details(question)


async def main(module):
    logging.disable()
    plan = json.load(sys.stdin)
    library = importlib.import_module(module)
    if any(question["ask"] == "watch" for one in plan for question in one["questions"]):
        talks = [Talk(library).hold(one["port"], one["questions"]) for one in plan]
        report = await asyncio.gather(*talks)
    else:
        report = [await Talk(library).hold(one["port"], one["questions"]) for one in plan]
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
