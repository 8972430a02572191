"""How fast the simulated gateway serves, and how many at once. Prints a table and a line of JSON.

The gateway runs in a process of its own, as it does for its users. What one ib_insync client
gets a second is compared with what its own decoder makes of the same message in memory, in the
same run, since that bounds whatever a gateway can do; and with a reader that decodes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from ib_library import IB, Decoder, Forex, Stock, Wrapper

from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.gateway.wire import encode

NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)
EURUSD = Forex("EURUSD")
END = "20261120-22:00:00"
CLIENTS = 32


def gateway_process(pipe: Connection) -> None:
    """Serve until the other end of the pipe says something; then tell the summary."""
    limits = Limits(messages_per_s=None)
    with running_gateway(now=lambda: NOW, limits=limits) as gateway:
        pipe.send(gateway.port)
        pipe.recv()
        pipe.send(gateway.summary())


async def client_rate(port: int, duration: str, runs: int) -> tuple[int, float]:
    """Bars an answer, and bars a second that one ib_insync client gets (median)."""
    client = IB()
    await client.connectAsync("127.0.0.1", port, 1)
    rates = []
    for _ in range(runs + 1):
        begin = perf_counter()
        bars = await client.reqHistoricalDataAsync(
            EURUSD, END, duration, "1 min", "MIDPOINT", False, 2, timeout=120
        )
        rates.append(len(bars) / (perf_counter() - begin))
    client.disconnect()
    return len(bars), statistics.median(rates[1:])


async def raw_message(port: int, duration: str, runs: int) -> tuple[bytes, float]:
    """The answer's bytes, and the seconds until a reader that decodes nothing has it (median)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    writer.write(b"API\0" + struct.pack(">I", 9) + b"v157..176")
    await _message(reader)
    writer.write(encode(71, 2, 99, ""))
    requested = (0, "EUR", "CASH", "", 0.0, "", "", "IDEALPRO", "", "USD", "", "", 0)
    times = []
    for request_id in range(1000, 1001 + runs):
        begin = perf_counter()
        writer.write(
            encode(20, request_id, *requested, END, "1 min", duration, 0, "MIDPOINT", 2, 0, "")
        )
        message = await _message(reader)
        while not message.startswith(b"17\0"):
            message = await _message(reader)
        times.append(perf_counter() - begin)
    writer.close()
    return message, statistics.median(times[1:])


async def _message(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    return await reader.readexactly(length)


def parsing_rate(message: bytes, bars: int, runs: int) -> float:
    """Bars a second of ib_insync's decoder on the message in memory (median)."""
    client = IB()
    wrapper = Wrapper(client)
    decoder = Decoder(wrapper, 176)
    rates = []
    for _ in range(runs):
        begin = perf_counter()
        decoder.interpret(message.decode().removesuffix("\0").split("\0"))
        rates.append(bars / (perf_counter() - begin))
    return statistics.median(rates)


async def many_clients(port: int) -> dict[str, Any]:
    """32 clients, each with five questions at once; how long it took, and errors."""
    clients = [IB() for _ in range(CLIENTS)]
    errors: list[int] = []
    for client in clients:
        client.errorEvent += lambda _id, code, *_: errors.extend([code] * (code < 2000))
    begin = perf_counter()
    await asyncio.gather(
        *(c.connectAsync("127.0.0.1", port, n, timeout=30) for n, c in enumerate(clients, 1))
    )
    stock = Stock("AAPL", "SMART", "USD")
    rounds = [
        await asyncio.gather(
            *(
                c.reqHistoricalDataAsync(stock, END, f"{n} D", "1 min", "TRADES", True)
                for c in clients
            )
        )
        for n in range(1, 6)
    ]
    took_s = perf_counter() - begin
    for client in clients:
        client.disconnect()
    answers = [len(bars) for answered in rounds for bars in answered]
    return {
        "clients": CLIENTS,
        "answers": len(answers),
        "empty": answers.count(0),
        "errors": errors,
        "bars": sum(answers),
        "seconds": round(took_s, 2),
    }


def measure(duration: str, runs: int) -> dict[str, Any]:
    """All figures, in one run."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=gateway_process, args=(theirs,))
    process.start()
    port = ours.recv()
    bars, rate = asyncio.run(client_rate(port, duration, runs))
    message, seconds = asyncio.run(raw_message(port, duration, runs))
    parsed = parsing_rate(message, bars, runs)
    many = asyncio.run(many_clients(port))
    ours.send("end")
    summary = ours.recv()
    process.join(30)
    return {
        "bars_an_answer": bars,
        "client_bars_per_s": round(rate),
        "parsing_alone_bars_per_s": round(parsed),
        "served_bars_per_s": round(bars / seconds),
        "share_of_parsing": round(rate / parsed, 2),
        "many": many,
        "violations": summary["violations"],
    }


def report(found: dict[str, Any], say: Callable[[str], None]) -> None:
    """The table, then the JSON."""
    rows = (
        ("one ib_insync client gets, bars/s", found["client_bars_per_s"]),
        ("its decoder alone, same message, bars/s", found["parsing_alone_bars_per_s"]),
        ("a reader that decodes nothing, bars/s", found["served_bars_per_s"]),
        ("bars an answer", found["bars_an_answer"]),
        (f"{CLIENTS} clients at once: answers", found["many"]["answers"]),
        ("  errors", len(found["many"]["errors"])),
        ("  seconds", found["many"]["seconds"]),
    )
    for name, value in rows:
        say(f"{name:<42} {value:>12,}")
    say(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", default="10 D", help="of the answer of minutes measured")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    report(measure(options.duration, options.runs), print)
