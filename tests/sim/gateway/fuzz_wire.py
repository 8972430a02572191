"""Coverage-guided fuzzing of what a client's bytes can reach: wire and handlers. Not a test.

`scripts/fuzz` runs it for a bounded time. Whatever the bytes, only WireError may be raised.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ktrdr.sim"]):
    from ktrdr.sim.gateway import wire
    from ktrdr.sim.gateway.request_handlers import RequestHandlers
    from ktrdr.sim.gateway.wire import Framer, WireError
    from ktrdr.sim.market.market import GeneratedMarket

DESK = RequestHandlers(GeneratedMarket(), "DU1", lambda: datetime(2026, 11, 23, 15, 30, tzinfo=UTC))
AAPL = "0,AAPL,STK,,0.0,,,SMART,,USD,,,0"
SEEDS = (
    f"20,4,{AAPL},20261120-22:00:00,1 hour,1 D,1,TRADES,1,0,",
    f"20,4,{AAPL},20261120 22:00:00 US/Eastern,1 day,1 M,1,SCHEDULE,2,0,",
    f"9,8,4,{AAPL},,,",
    f"87,6,{AAPL},1,TRADES,1",
    "76,1,4,DU1,",
)
"""Where chance begins: messages as clients send them."""

START = b"API\0" + b"\0\0\0\x09v157..176"


def one_input(data):
    """The bytes as one message, since chance seldom finds a length; and as a whole stream."""
    for stream in (START + len(data).to_bytes(4, "big") + data, data):
        try:
            messages = Framer().feed(stream)[1:]
        except WireError:
            continue
        for message in messages:
            answer(message, wire.MIN_VERSION + len(data) % 20)


def answer(message, version):
    try:
        request = wire.parse(message)
    except WireError:
        return
    DESK.reply(request, version)


for place, seed in enumerate(SEEDS):
    Path(sys.argv[-1], f"seed-{place}").write_text(seed.replace(",", "\0") + "\0")
atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
