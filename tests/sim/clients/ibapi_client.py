"""Sends a plan of requests to gateways with IB's own `ibapi`, and prints what it received.

`python ibapi_client.py < PLAN > REPORT`, both JSON; `conformance.py` says their keys.
Nothing of this project is imported: it runs where only the client is installed.
"""

import json
import logging
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from zoneinfo import ZoneInfo

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.order import Order
from ibapi.wrapper import EWrapper

WAIT_S = 10
PAUSE_S = 1 / 45
"""IB takes 50 messages a second; this client leaves it to its user to keep to that."""


def stamp(text):
    """Seconds since 1970; a trading day as `yyyymmdd`; a time without a zone as it is."""
    if len(text) == 8:
        return text
    if text.isdigit():
        return int(text)
    day, time, *zone = text.split()
    local = datetime.strptime(day + time, "%Y%m%d%H:%M:%S")  # noqa: DTZ007
    return int(local.replace(tzinfo=ZoneInfo(zone[0])).timestamp()) if zone else str(local)


def row(bar):
    prices = (bar.open, bar.high, bar.low, bar.close)
    return [stamp(bar.date), *prices, float(bar.volume), float(bar.wap), bar.barCount]


class Talk(EWrapper, EClient):
    """One connection to one gateway. Callbacks come on the reader's thread, into one queue."""

    def __init__(self):
        EWrapper.__init__(self)
        EClient.__init__(self, wrapper=self)
        self.inbox = queue.Queue()
        self.number = 100
        self.raw, self.told = [], []

    def error(self, reqId, errorTime, errorCode, errorString, advancedOrderRejectJson=""):  # noqa: ARG002, N803
        self.told.append([reqId, errorCode])
        self.inbox.put(("error", [errorCode, errorString]))

    def managedAccounts(self, accountsList):  # noqa: N802, N803
        self.inbox.put(("accounts", accountsList.split(",")))

    def nextValidId(self, orderId):  # noqa: N802, N803
        self.inbox.put(("next_id", orderId))

    def currentTime(self, time):  # noqa: N802
        self.inbox.put(("end", time))

    def contractDetails(self, reqId, one):  # noqa: ARG002, N802, N803
        details = {
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
            "min_size": min(float(one.minSize), 1e9),
            "suggested_size": min(float(one.suggestedSizeIncrement), 1e9),
        }
        self.inbox.put(("part", details))

    def contractDetailsEnd(self, reqId):  # noqa: ARG002, N802, N803
        self.inbox.put(("end", None))

    def headTimestamp(self, reqId, headTimestamp):  # noqa: ARG002, N802, N803
        self.inbox.put(("end", stamp(headTimestamp)))

    def historicalSchedule(self, reqId, startDateTime, endDateTime, timeZone, sessions):  # noqa: ARG002, N802, N803
        listed = [[s.startDateTime, s.endDateTime, s.refDate] for s in sessions]
        self.inbox.put(("end", {"zone": timeZone, "sessions": listed}))

    def historicalData(self, reqId, bar):  # noqa: ARG002, N802, N803
        self.inbox.put(("part", row(bar)))

    def historicalDataEnd(self, reqId, start, end):  # noqa: ARG002, N802, N803
        self.inbox.put(("end", None))

    def historicalDataUpdate(self, reqId, bar):  # noqa: N802, N803
        self.raw.append((reqId, row(bar)))
        self.inbox.put(("update", row(bar)))

    def hold(self, port, questions):
        """Connect, send all requests one after the other, and disconnect."""
        self.connect("127.0.0.1", port, 5)
        reader = threading.Thread(target=self.run)
        reader.start()
        report = {"version": self.serverVersion(), "notices": [], "answers": {}}
        while len(report["notices"]) < 3 or "next_id" not in report:
            kind, value = self.inbox.get(timeout=WAIT_S)
            if kind == "error":
                report["notices"].append(value[0])
            else:
                report[kind] = value
        for question in questions:
            answer = self.watch if question["ask"] == "watch" else self.answer
            report["answers"][question["name"]] = answer(question)
            if len(questions) > 1 / PAUSE_S:
                time.sleep(PAUSE_S)
        self.disconnect()
        reader.join(WAIT_S)
        return report

    def answer(self, question):
        self.number += 1
        self.ask(question)
        parts, errors = [], []
        while True:
            try:
                kind, value = self.inbox.get(timeout=WAIT_S)
            except queue.Empty:
                return {"result": None, "errors": [*errors, [-1, f"no answer in {WAIT_S} s"]]}
            if kind == "part":
                parts.append(value)
            elif kind == "error":
                errors.append(value)
                if not 2100 <= value[0] < 2200:
                    return {"result": None, "errors": errors}
            elif kind == "end":
                if question["ask"] == "updates":
                    return {"result": self.updates(question, parts), "errors": errors}
                return {"result": parts or value, "errors": errors}

    def watch(self, question):
        """Two streams: what comes in the first until the second has had so many updates.

        With `after` the second one begins once that code has come.
        """
        stream = question | {"ask": "updates", "duration": "600 S", "end": "", "format": 2}
        first, bars = self.stream(stream | {"rth": False})
        known = len(self.told)
        while question["after"] not in [0, *(code for _, code in self.told[known:])]:
            self.inbox.get(timeout=WAIT_S)
        before = len(self.of(first))
        witness = {"contract": question["witness"], "what": question["witness_what"]}
        second, _ = self.stream(stream | witness | {"rth": False})
        while len(self.of(second)) < question["count"]:
            self.inbox.get(timeout=WAIT_S)
        told = [["stream" if n == first else n, code] for n, code in self.told[known:]]
        result = {"first": bars, "updates": self.of(first), "after": self.of(first)[before:]}
        result |= {"witness": self.of(second), "shown": None, "told": told}
        return {"result": result, "errors": []}

    def stream(self, question):
        """The id of a request that is kept up to date, and its bars."""
        self.number += 1
        self.ask(question)
        bars = []
        while (got := self.inbox.get(timeout=WAIT_S))[0] != "end":
            if got[0] == "part":
                bars.append(got[1])
        return self.number, bars

    def of(self, number):
        return [one for of, one in list(self.raw) if of == number]

    def ask(self, question):
        contract = Contract()
        for name, value in question.get("contract", {}).items():
            setattr(contract, name, value)
        match question["ask"]:
            case "details":
                self.reqContractDetails(self.number, contract)
            case "head":
                self.reqHeadTimeStamp(
                    self.number, contract, question["what"], int(question["rth"]), 2
                )
            case "schedule":
                days, rth = f"{question['days']} D", int(question["rth"])
                self.reqHistoricalData(
                    self.number, contract, question["end"], days, "1 day", "SCHEDULE", rth, 1,
                    False, [],
                )  # fmt: skip
            case "bars" | "updates":
                self.reqHistoricalData(
                    self.number, contract, question["end"], question["duration"],
                    question["size"], question["what"], int(question["rth"]), question["format"],
                    question["ask"] == "updates", [],
                )  # fmt: skip
            case "time":
                self.reqCurrentTime()
            case "order":
                order = Order()
                order.action, order.orderType = "BUY", "LMT"
                order.totalQuantity, order.lmtPrice = 1, 1.0
                self.placeOrder(self.number, contract, order)
            case "unknown":
                self.sendMsg(9999, "1\0x\0")
                self.reqContractDetails(self.number, contract)

    def updates(self, question, first):
        """Bars with keepUpToDate, until one begins after those of the response."""
        seen = []
        while len(seen) < question["count"] or seen[-1][0] == seen[0][0]:
            try:
                kind, value = self.inbox.get(timeout=WAIT_S)
            except queue.Empty:
                break
            if kind == "update":
                seen.append(value)
        self.cancelHistoricalData(self.number)
        return {"first": first, "updates": seen}


def main():
    logging.disable()
    plan = json.load(sys.stdin)
    asks = [question["ask"] for one in plan for question in one["questions"]]
    with ThreadPoolExecutor(len(plan) if "watch" in asks else 1) as pool:
        report = list(pool.map(lambda one: Talk().hold(one["port"], one["questions"]), plan))
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
