"""Whatever bytes a client sends, the server goes on and another client does not notice."""

import asyncio
import contextlib
import logging
import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ib_insync import IB, Stock

from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.sim.gateway.wire import Framer, WireError, encode, parse

GREETING = b"API\0" + struct.pack(">I", 9) + b"v157..176"
START = encode(71, 2, 9, "")
AAPL = (0, "AAPL", "STK", "", 0.0, "", "", "SMART", "", "USD", "", "", 0)
VALID = (
    (49, 1), (61, 1), (5, 1), (17, 1), (25, 1, 4), (76, 1, 4, "DU1", ""),
    (9, 8, 4, *AAPL, "", "", ""),
    (20, 4, *AAPL, "", "1 hour", "1 D", 1, "TRADES", 1, 0, ""),
    (20, 5, *AAPL, "20261120-22:00:00", "1 min", "3600 S", 0, "MIDPOINT", 2, 1, ""),
    (87, 6, *AAPL, 1, "TRADES", 1),
    (3, 7, *AAPL, "BUY", 1, "LMT", 1.0),
)  # fmt: skip
"""Messages as clients send them; with fields of them changed they are nearly valid."""

fields = st.one_of(
    st.text(max_size=12),
    st.integers(-(2**40), 2**40),
    st.sampled_from(["", "-1", "1 D", "99999 Y", "1 secs", "20260101-00:00:00", "SCHEDULE", "é"]),
    st.floats(),
)
raw = st.lists(st.binary(max_size=300), min_size=1, max_size=4).map(b"".join)


@st.composite
def mutated(draw):
    """A valid message with a few fields changed, left out or doubled."""
    message = list(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(message) - 1)) if message else 0
        match draw(st.sampled_from(["change", "drop", "double"])):
            case "change" if message:
                message[place] = draw(fields)
            case "drop" if len(message) > 1:
                del message[place]
            case _:
                message.insert(place, draw(fields))
    return encode(*message)


nonsense = st.lists(fields, max_size=25).map(lambda texts: encode(*texts))
cut = st.builds(lambda message, n: message[: max(n, 1)], mutated(), st.integers(1, 200))
messages = st.lists(st.one_of(mutated(), nonsense, raw, cut), min_size=1, max_size=8).map(b"".join)
attacks = st.one_of(
    raw,
    messages.map(lambda sent: GREETING + sent),
    messages.map(lambda sent: GREETING + START + sent),
)


@given(st.lists(st.binary(max_size=200), max_size=6))
@settings(max_examples=200, deadline=None)
def test_the_wire_reads_any_bytes_or_raises_an_error(pieces):
    framer = Framer()
    for piece in pieces:
        try:
            for message in framer.feed(piece):
                parse(message)
        except WireError:
            return


class Witness:
    """A real client on another connection than the attacker."""

    def __init__(self):
        self.client = IB()
        self.gateway = SimulatedGateway(limits=Limits(messages_per_s=None), keep_record=False)
        self.lost = False

    async def begin(self):
        await self.gateway.start()
        await self.client.connectAsync("127.0.0.1", self.gateway.port, 1)
        self.client.client.MaxRequests = 0
        self.client.disconnectedEvent += self.note_loss

    def note_loss(self):
        self.lost = True

    async def attack(self, sent):
        """Send, close at once or after an answer; then the witness is still answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        with contextlib.suppress(OSError):
            writer.write(sent)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(10), 0.002)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return len(await self.client.reqPositionsAsync())

    async def end(self):
        aapl = Stock("AAPL", "SMART", "USD")
        got = await self.client.reqHistoricalDataAsync(aapl, "", "1 D", "1 hour", "TRADES", True)
        self.client.disconnectedEvent -= self.note_loss
        self.client.disconnect()
        await self.gateway.stop()
        return len(got)


@pytest.fixture(scope="module")
def witness():
    logging.getLogger("ktrdr.sim").setLevel(logging.CRITICAL)
    with asyncio.Runner() as runner:
        one = Witness()
        one.do = lambda work: runner.run(asyncio.wait_for(work, 20))
        one.do(one.begin())
        yield one
        assert one.do(one.end()) > 0
    logging.getLogger("ktrdr.sim").setLevel(logging.NOTSET)


@given(sent=attacks)
@example(sent=b"")
@example(sent=GREETING + START + struct.pack(">I", 0) * 50)
@example(sent=GREETING + START + b"\xff" * 1000)
@example(sent=GREETING + START * 40)
@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_stop_the_server_or_disturb_another_client(witness, sent):
    assert witness.do(witness.attack(sent)) == 0
    assert not witness.lost
