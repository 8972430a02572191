import asyncio
import contextlib
import json
import random
import struct

import pytest
from ib_insync import IB, Contract, Forex, LimitOrder, Stock
from ib_insync.wrapper import RequestError

from ktrdr.errors import Misconfigured
from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.server import SimulatedGateway

AAPL = Stock("AAPL", "SMART", "USD")


def errors_of(client):
    """(code, text) of every error and notice that the client gets from now on."""
    seen = []
    client.errorEvent += lambda _id, code, text, _contract: seen.append((code, text))
    return seen


async def until(is_so):
    """Let the loop run until something is so; the test's time-out is the limit."""
    while not is_so():  # noqa: ASYNC110  what is waited for has no event
        await asyncio.sleep(0.001)


async def connected(gateway, client_id=1):
    client = IB()
    client.RaiseRequestErrors = True
    await client.connectAsync("127.0.0.1", gateway.port, clientId=client_id)
    return client


def test_a_client_with_its_defaults_receives_an_empty_account(with_client, caplog):
    async def work(client, _):
        return client.positions(), client.trades(), client.fills(), client.accountValues()

    positions, trades, fills, values = with_client(work, account="SIMULATED")
    assert (positions, trades, fills) == ([], [], [])
    assert {v.account for v in values} == {"SIMULATED"}
    assert "timed out" not in caplog.text


def test_a_client_that_connects_receives_that_all_farms_are_ok():
    async def main():
        async with SimulatedGateway() as gateway:
            client = IB()
            seen = errors_of(client)
            await client.connectAsync("127.0.0.1", gateway.port, clientId=1)
            client.disconnect()
            return [code for code, _ in seen]

    assert asyncio.run(main()) == [2104, 2106, 2158]


def test_a_client_id_in_use_gets_326_and_is_disconnected_while_the_first_goes_on():
    async def main():
        async with SimulatedGateway() as gateway:
            first = await connected(gateway, 7)
            second = IB()
            seen = errors_of(second)
            with pytest.raises((TimeoutError, ConnectionError)):
                await second.connectAsync("127.0.0.1", gateway.port, clientId=7, timeout=0.5)
            assert [code for code, _ in seen] == [326]
            assert await first.reqCurrentTimeAsync()
            first.disconnect()
            await until(lambda: not gateway.client_ids)
            again = await connected(gateway, 7)
            again.disconnect()

    asyncio.run(main())


@pytest.mark.parametrize("version", [157, 160, 163, 164, 166, 170, 176])
def test_the_client_reads_every_answer_in_every_protocol_version(with_client, version):
    async def work(client, _):
        assert client.client.serverVersion() == version
        details = await client.reqContractDetailsAsync(AAPL)
        with pytest.raises(RequestError) as refused:
            await client.reqContractDetailsAsync(Stock("NOPE", "SMART", "USD"))
        return details[0], refused.value.code

    details, code = with_client(work, version=version)
    assert (details.contract.symbol, details.minTick, details.timeZoneId, code) == (
        "AAPL",
        0.01,
        "America/New_York",
        200,
    )


def test_orders_are_refused_as_by_a_read_only_gateway(with_client):
    async def work(client, _):
        seen = errors_of(client)
        contract = (await client.qualifyContractsAsync(AAPL))[0]
        client.placeOrder(contract, LimitOrder("BUY", 1, 1.0))
        await client.reqCurrentTimeAsync()
        return seen

    assert [(code, "Read-Only" in text) for code, text in with_client(work)] == [(321, True)]


def test_unsupported_messages_are_ignored(with_client):
    async def work(client, _):
        seen = errors_of(client)
        client.client.send(9999, 1, "x")
        client.client.reqNewsProviders()
        assert await client.reqCurrentTimeAsync()
        return seen

    assert with_client(work) == []


def frame(*fields):
    body = "".join(f"{field}\0" for field in fields).encode()
    return struct.pack(">I", len(body)) + body


GREETING = b"API\0" + struct.pack(">I", 9) + b"v157..176"


async def send_raw(gateway, *parts):
    """Send the parts one by one, and read until the gateway closes or is silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    got = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(0.3):
            while chunk := await reader.read(65536):
                got += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return got


def test_messages_cut_into_single_bytes_are_understood():
    async def main():
        async with SimulatedGateway() as gateway:
            whole = GREETING + frame(71, 2, 5, "") + frame(49, 1)
            got = await send_raw(gateway, *(bytes([byte]) for byte in whole))
            return got.split(b"\0")

    fields = asyncio.run(main())
    assert b"DU1000000" in fields
    assert b"49" in fields[-3] + fields[-4]


def test_fields_that_do_not_parse_get_320_and_the_client_goes_on():
    async def main():
        async with SimulatedGateway() as gateway:
            broken = frame(20, "abc", "?") + frame("x") + frame(9, 8) + frame(49, 1)
            return await send_raw(gateway, GREETING, frame(71, 2, 5, ""), broken)

    got = asyncio.run(main())
    assert got.count(b"\x00320\x00") == 3
    assert b"49\x001\x00" in got


def test_garbage_from_one_client_never_disturbs_another():
    noise = random.Random(5)
    attacks = [
        [b"GET / HTTP/1.1\r\n\r\n"],
        [b"API\0" + b"\xff" * 4],
        [b"API\0" + struct.pack(">I", 5) + b"v1..2"],
        [GREETING, frame(71, 2, "one", "")],
        [GREETING, frame(49, 1)],
        [GREETING, frame(71, 2, 9, ""), struct.pack(">I", 0) * 50],
        [GREETING, frame(71, 2, 9, ""), b"\xff" * 1000],
        *([noise.randbytes(noise.randrange(1, 300))] for _ in range(10)),
        *([GREETING, frame(71, 2, 9, ""), frame(20, noise.randbytes(40))] for _ in range(5)),
    ]

    async def main():
        async with SimulatedGateway() as gateway:
            client = await connected(gateway, 1)
            for attack in attacks:
                await asyncio.wait_for(send_raw(gateway, *attack), 5)
            bars = await client.reqHistoricalDataAsync(AAPL, "", "1 D", "1 hour", "TRADES", True)
            client.disconnect()
            return len(bars)

    assert asyncio.run(main()) > 0


def test_a_slow_answer_does_not_hold_up_the_others(with_client):
    async def work(client, _):
        begin = asyncio.get_running_loop().time()
        requests = (
            client.reqHistoricalDataAsync(AAPL, "", f"{n} D", "1 day", "TRADES", True)
            for n in range(1, 21)
        )
        await asyncio.gather(*requests)
        return asyncio.get_running_loop().time() - begin

    assert 0.2 <= with_client(work, latency_s=0.2) < 2.0


def test_more_bars_take_more_time(with_client):
    async def work(client, _):
        begin = asyncio.get_running_loop().time()
        await client.reqHistoricalDataAsync(AAPL, "", "2 D", "1 min", "TRADES", True)
        return asyncio.get_running_loop().time() - begin

    assert with_client(work, bars_per_s=1000) >= 0.4  # Friday's 390 bars and some of Monday's


def test_a_cancelled_request_is_never_answered(with_client):
    async def work(client, gateway):
        seen = errors_of(client)
        request = asyncio.ensure_future(
            client.reqHistoricalDataAsync(AAPL, "", "5 D", "1 min", "TRADES", True)
        )
        await until(lambda: gateway.record[-1]["kind"] == "historical_data")
        number = gateway.record[-1]["request_id"]
        client.client.cancelHistoricalData(number)
        with pytest.raises(RequestError) as refused:
            await request
        client.client.cancelHistoricalData(number)
        await client.reqCurrentTimeAsync()
        return refused.value.code, [code for code, _ in seen], gateway.record

    code, codes, record = with_client(work, latency_s=0.1)
    assert code == 162
    assert codes == [162, 366]
    assert not [e for e in record if e["kind"] == "historical_data" and e["event"] == "answered"]


def test_the_record_has_every_request_and_its_response(with_client, tmp_path):
    async def work(client, gateway):
        await client.reqHistoricalDataAsync(
            Forex("EURUSD"), "20261120-21:00:00", "3600 S", "5 mins", "MIDPOINT", False
        )
        with pytest.raises(RequestError):
            await client.reqHistoricalDataAsync(
                Contract(secType="STK", symbol="NOPE", exchange="SMART", currency="USD"),
                "", "1 D", "1 day", "TRADES", True,
            )  # fmt: skip
        return gateway.record, gateway.events

    path = tmp_path / "record.jsonl"
    record, events = with_client(work, record_to=path, client_id=3)
    requested = [entry for entry in record if entry["kind"] == "historical_data"]
    keys = ("event", "client_id", "symbol", "currency", "duration", "bar_size", "use_rth")
    assert [tuple(entry[key] for key in keys) for entry in requested] == [
        ("received", 3, "EUR", "USD", "3600 S", "5 mins", False),
        ("answered", 3, "EUR", "USD", "3600 S", "5 mins", False),
        ("received", 3, "NOPE", "USD", "1 D", "1 day", True),
        ("answered", 3, "NOPE", "USD", "1 D", "1 day", True),
    ]
    assert [(e["bars"], e["error_code"]) for e in requested[1::2]] == [(12, None), (0, 200)]
    assert [json.loads(line) for line in path.read_text().splitlines()] == events


def test_a_port_that_is_taken_is_said_in_one_line():
    async def main():
        async with SimulatedGateway() as gateway:
            await SimulatedGateway(port=gateway.port).start()

    with pytest.raises(Misconfigured, match=r"port \d+ on 127.0.0.1: in use"):
        asyncio.run(main())


def test_a_gateway_in_a_thread_serves_drops_stops_and_starts_again():
    async def bars(port):
        client = IB()
        await client.connectAsync("127.0.0.1", port, clientId=2)
        try:
            return len(
                await client.reqHistoricalDataAsync(AAPL, "", "1 D", "1 day", "TRADES", True)
            )
        finally:
            client.disconnect()

    async def dropped(gateway):
        client = await connected(gateway, 3)
        lost = client.disconnectedEvent
        await asyncio.gather(lost, asyncio.to_thread(gateway.drop_connections))
        return client.isConnected()

    with running_gateway(seed=3) as gateway:
        port = gateway.port
        assert asyncio.run(bars(port)) == 1
        assert asyncio.run(dropped(gateway)) is False
        assert gateway.client_ids == []
        gateway.stop()
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(bars(port))
        gateway.start()
        assert gateway.port == port
        assert asyncio.run(bars(port)) == 1
    assert any(entry["kind"] == "historical_data" for entry in gateway.record)
