"""What a port shows, from real sockets and the simulated gateway."""

import asyncio
import contextlib

import pytest

from ktrdr.ib import port_probe
from ktrdr.ib.port_state import PortProbe, PortState
from ktrdr.sim.gateway.server import SimulatedGateway
from tests.fast_loop import FastLoop

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def serving(serve, port=0):
    """A server; yields its port and how many connections it has taken."""
    taken = []

    async def accept(reader, writer):
        taken.append(writer)
        with contextlib.suppress(OSError):
            await serve(reader, writer)

    server = await asyncio.start_server(accept, HOST, port)
    try:
        yield server.sockets[0].getsockname()[1], taken
    finally:
        server.close()
        for writer in taken:
            writer.transport.abort()


async def close_all(_reader, writer):
    writer.close()


async def say_nothing(reader, _writer):
    await reader.read()


def saying(words):
    async def say(_reader, writer):
        writer.write(words)
        await asyncio.sleep(30)

    return say


def run_fast(work):
    """By a clock that runs fast."""
    with asyncio.Runner(loop_factory=lambda: FastLoop(100)) as runner:
        return runner.run(work)


async def free_port():
    async with serving(say_nothing) as (port, _):
        return port


def test_a_gateway_greets_and_no_client_id_is_taken():
    async def main():
        async with SimulatedGateway(version=170) as gateway:
            found = await port_probe.probe(HOST, gateway.port, 5)
            return found, gateway.summary()["connects"]

    assert asyncio.run(main()) == (PortProbe(PortState.GREETED, version=170), 0)


@pytest.mark.parametrize(
    ("serve", "state"),
    [
        (close_all, PortState.CLOSES),
        (say_nothing, PortState.UNRESPONSIVE),
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), PortState.FOREIGN),
        (saying(b"\0\0\0\x05hello"), PortState.FOREIGN),
        (saying(b"\0\0\0\xffhalf a message"), PortState.UNRESPONSIVE),
    ],
    ids=["closes", "sends nothing", "http", "other words", "half a message"],
)
def test_what_is_no_gateway_is_told_apart(serve, state):
    async def main():
        async with serving(serve) as (port, _):
            return await port_probe.probe(HOST, port, 0.3)

    assert asyncio.run(main()).state is state


def test_a_closed_port_and_an_unknown_host_are_closed():
    async def main():
        closed = await port_probe.probe(HOST, await free_port(), 1)
        unknown = await port_probe.probe("no-such-host.invalid", 4002, 1)
        return closed, unknown

    closed, unknown = asyncio.run(main())
    assert closed == PortProbe(PortState.CLOSED, "Connection refused")
    assert unknown.state is PortState.CLOSED
    assert unknown.why


def test_a_port_that_opens_is_noticed():
    async def main():
        port = await free_port()
        opens = asyncio.create_task(port_probe.opens(HOST, port, PortState.CLOSED))
        await asyncio.wait({opens}, timeout=0.2)
        assert not opens.done()
        async with serving(say_nothing, port):
            await asyncio.wait_for(opens, 5)

    asyncio.run(main())


def test_a_forwarder_that_hangs_up_is_a_closed_port():
    async def main():
        async with serving(close_all) as (port, taken):
            opens = asyncio.create_task(port_probe.opens(HOST, port, PortState.GREETED))
            while len(taken) < 2:  # noqa: ASYNC110  it goes on looking
                await asyncio.sleep(0.01)
            assert not opens.done()
        async with serving(say_nothing, port):
            await asyncio.wait_for(opens, 5)

    asyncio.run(main())


def test_a_port_that_was_open_all_the_time_is_not_knocked_at():
    async def main():
        async with serving(say_nothing) as (port, taken):
            opens = asyncio.create_task(port_probe.opens(HOST, port, PortState.GREETED))
            await asyncio.wait({opens}, timeout=1.5)
            opens.cancel()
            return opens.done(), len(taken)

    assert asyncio.run(main()) == (False, 1)


def test_a_gateway_that_came_up_behind_a_forwarder_before_the_wait_began_is_noticed():
    async def main():
        async with SimulatedGateway() as gateway:
            await asyncio.wait_for(port_probe.opens(HOST, gateway.port, PortState.CLOSES), 5)

    asyncio.run(main())


@pytest.mark.parametrize("before", [PortState.CLOSES, PortState.FOREIGN, PortState.OUTDATED])
def test_a_port_that_does_not_greet_as_a_gateway_is_probed_every_eight_seconds(before):
    async def hang_up(reader, writer):
        await reader.read(1)
        writer.close()

    async def main():
        async with serving(hang_up) as (port, taken):
            opens = asyncio.create_task(port_probe.opens(HOST, port, before))
            loop = asyncio.get_running_loop()
            began = loop.time()
            while len(taken) < 8:  # one that sent nothing, seven with the handshake
                await asyncio.wait({opens}, timeout=1)
            opens.cancel()
            return opens.done(), loop.time() - began

    is_done, took_s = run_fast(main())
    assert not is_done
    assert took_s >= 6 * 8


@pytest.mark.parametrize("fault", ["untrusting", "truncating", "outdated"])
def test_a_gateway_that_greets_again_is_noticed_within_ten_seconds(fault):
    async def main():
        async with SimulatedGateway() as gateway:
            with getattr(gateway, fault)():
                before = (await port_probe.probe(HOST, gateway.port, 5)).state
                opens = asyncio.create_task(port_probe.opens(HOST, gateway.port, before))
                await asyncio.wait({opens}, timeout=20)
                assert not opens.done()
            began = asyncio.get_running_loop().time()
            await opens
            return before, asyncio.get_running_loop().time() - began

    with asyncio.Runner(loop_factory=lambda: FastLoop(20)) as runner:
        before, took_s = runner.run(main())
    assert before in (PortState.CLOSES, PortState.OUTDATED, PortState.FOREIGN)
    assert took_s < 10


def test_a_gateway_that_ceases_to_be_stuck_is_noticed_over_the_connection_that_waits():
    async def main():
        async with SimulatedGateway() as gateway:
            with gateway.wedged():
                greets = asyncio.create_task(port_probe.greets(HOST, gateway.port))
                await asyncio.wait({greets}, timeout=0.3)
                assert not greets.done()
            found = await asyncio.wait_for(greets, 5)
            return found, gateway.summary()["connects"]

    assert asyncio.run(main()) == (PortState.GREETED, 0)


def test_a_gateway_that_has_forgotten_the_handshake_gets_another_one_a_minute_later():
    greeting = b"176\x0020261118 15:00:00 UTC\x00"

    async def main():
        async def greet_the_third(_reader, writer):
            if len(taken) == 3:
                writer.write(len(greeting).to_bytes(4) + greeting)
            await asyncio.Event().wait()

        async with serving(greet_the_third) as (port, taken):
            loop = asyncio.get_running_loop()
            began = loop.time()
            found = await port_probe.greets(HOST, port)
            return found, loop.time() - began

    found, took_s = run_fast(main())
    assert found is PortState.GREETED
    assert took_s >= 120


def test_a_stuck_gateway_that_is_ended_has_closed_its_port():
    async def main():
        async with serving(say_nothing) as (port, _):
            greets = asyncio.create_task(port_probe.greets(HOST, port))
            await asyncio.wait({greets}, timeout=0.3)
        return await asyncio.wait_for(greets, 5)

    assert asyncio.run(main()) in (PortState.CLOSES, PortState.CLOSED)


def test_the_end_of_a_stuck_gateway_is_noticed_over_one_connection():
    async def main():
        async with serving(say_nothing) as (port, taken):
            closes = asyncio.create_task(port_probe.closes(HOST, port))
            await asyncio.wait({closes}, timeout=0.3)
            assert not closes.done()
            assert len(taken) == 1
        await asyncio.wait_for(closes, 5)

    asyncio.run(main())


def test_one_that_is_gone_already_has_ended():
    async def main():
        await asyncio.wait_for(port_probe.closes(HOST, await free_port()), 5)

    asyncio.run(main())
