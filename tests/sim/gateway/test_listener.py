import asyncio
import contextlib
import gc
import socket

import pytest
from ib_insync import IB

from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.server import SimulatedGateway


async def steps(count):
    """Let the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("rounds", range(8))
def test_a_client_that_connects_while_the_gateway_stops_leaves_nothing_behind(rounds):
    async def main():
        gateway = SimulatedGateway()
        await gateway.start()
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            await steps(rounds)
            await gateway.stop()
            client.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.to_thread(client.recv, 100) == b""
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return [repr(task) for task in left]

    assert asyncio.run(main()) == []
    gc.collect()  # a transport or a task that was forgotten would complain here


def test_a_client_that_comes_back_at_once_again_and_again_does_not_hinder_the_end():
    async def pester(port, stopped):
        while not stopped.is_set():
            client = IB()
            with contextlib.suppress(OSError, TimeoutError):
                await client.connectAsync("127.0.0.1", port, clientId=1, timeout=0.5)
            client.disconnect()

    async def main(gateway):
        stopped = asyncio.Event()
        pest = asyncio.create_task(pester(gateway.port, stopped))
        for _ in range(5):
            await asyncio.to_thread(gateway.stop)
            await asyncio.to_thread(gateway.start)
            await asyncio.to_thread(gateway.drop_connections)
        await asyncio.to_thread(gateway.stop)
        stopped.set()
        await pest

    with running_gateway() as gateway:
        asyncio.run(main(gateway))
        assert gateway.client_ids == []
    gc.collect()
