"""One connection to a simulated gateway; and each trap of IB's library, with what keeps us out."""

import asyncio
import contextlib
import gc
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from ktrdr.errors import (
    ConnectionClosedEarly,
    GatewayUnresponsive,
    IdInUse,
    InvalidRequest,
    NotConnected,
    NotEntitled,
    RequestFailed,
    TimedOut,
    UnknownContract,
)
from ktrdr.ib.client import IbClient
from ktrdr.ib.error_codes import NoDataError, Weight, translate, weight
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for, read_instruments
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.gateway.server import SimulatedGateway

HOST = "127.0.0.1"
AAPL = instrument_for("AAPL")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = utc("2026-11-23 12:00")
ASKED = BarsRequest(AAPL, Timeframe.H1, utc("2026-11-18"), utc("2026-11-20"))


def talk(work, *, client_id=1, **options):
    """What `await work(client, gateway)` returns, with a connected client."""

    async def run():
        async with SimulatedGateway(**options) as gateway, connected(gateway, client_id) as client:
            return await work(client, gateway)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def connected(gateway, client_id=1, notice=lambda _code, _text: None):
    client = IbClient(notice)
    await client.connect(HOST, gateway.port, client_id, timeout_s=5)
    try:
        yield client
    finally:
        client.close()


def test_an_error_is_an_error_and_no_empty_list():
    async def work(client, _):
        coin = instrument_for("BTC", {"sec_type": "CRYPTO", "what_to_show": "TRADES"})
        await client.bars(BarsRequest(coin, Timeframe.H1, ASKED.start, ASKED.end), NOW)

    with pytest.raises(InvalidRequest) as raised:
        talk(work)
    assert raised.value.code == 10299


def test_a_time_out_is_an_error_and_no_empty_list():
    async def work(client, gateway):
        with gateway.unanswered("historical_data"):
            await client.probe(AAPL, timeout_s=0.3)

    with pytest.raises(TimedOut, match=r"did not answer within 0 s: a bar of AAPL"):
        talk(work)


def test_no_data_is_an_answer():
    async def work(client, _):
        sunday = BarsRequest(AAPL, Timeframe.M1, utc("2026-11-15 10:00"), utc("2026-11-15 11:00"))
        return await client.bars(sunday, NOW)

    assert talk(work).bars == []


@pytest.mark.parametrize(
    "text", ["2147483647", "9223372036854775807", "170141183460469231731687303715884105727"]
)
def test_a_volume_that_is_ibs_sign_for_none_is_no_volume(text):
    async def work(client, gateway):
        whole = await client.bars(ASKED, NOW)
        with gateway.fault("odd_field", field="volume", text=text):
            return whole, await client.bars(ASKED, NOW)

    whole, odd = talk(work)
    assert whole.invalid == ()
    (start,) = odd.invalid
    assert odd.bars == [bar for bar in whole.bars if bar.start != start]


def test_bars_of_nothing_but_zeros_are_left_out_and_named():
    async def work(client, gateway):
        whole = await client.bars(ASKED, NOW)
        with gateway.wrong_bars("zero"):
            return whole, await client.bars(ASKED, NOW)

    whole, odd = talk(work)
    assert len(odd.invalid) >= 4
    assert odd.bars == [bar for bar in whole.bars if bar.start not in odd.invalid]


MONDAY = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
TWO_CLASSES = {"sec_type": "FUT", "expiry": "202612"}


@pytest.mark.parametrize(
    ("symbol", "entry"),
    [
        ("TWIN", {}),
        ("TWOF", TWO_CLASSES),
        ("ES", {"sec_type": "FUT"}),
    ],
)
def test_each_line_for_an_ambiguous_symbol_names_one_contract(symbol, entry):
    async def work(client, _):
        with pytest.raises(UnknownContract, match=r"IB knows \d+ contracts for") as raised:
            await client.contract(instrument_for(symbol, entry))
        table, *lines = raised.value.hint.splitlines()[1:]
        pasted = [
            read_instruments(f"{table}\n{line}\n")[symbol] for line in lines if line[0] != "#"
        ]
        return [
            (await client.contract(instrument_for(symbol, entry | one))).con_id for one in pasted
        ]

    found = talk(work, now=lambda: MONDAY)
    assert 2 <= len(found) <= 6
    assert len(set(found)) == len(found)


OF_A_CONTRACT = (
    "con_id", "symbol", "sec_type", "expiry", "exchange", "primary_exchange", "currency",
    "multiplier", "trading_class", "local_symbol",
)  # fmt: skip


def test_a_number_alone_names_a_contract_and_nothing_that_may_contradict_is_sent():
    async def work(client, gateway):
        wanted = instrument_for("TWOF", TWO_CLASSES | {"multiplier": "5"})
        con_id = (await client.contract(wanted)).con_id
        entry = {"sec_type": "FUT", "con_id": con_id, "currency": "EUR", "multiplier": "9"}
        entry |= {"local_symbol": "ESZ6", "trading_class": "ES", "expiry": "203001"}
        before = len(gateway.record)
        found = await client.contract(instrument_for("ANY", entry))
        requested = gateway.record[before]
        return (
            con_id,
            found.con_id,
            {key: requested[key] for key in OF_A_CONTRACT if requested[key]},
        )

    con_id, found, sent = talk(work, now=lambda: MONDAY)
    assert found == con_id
    assert sent == {"con_id": con_id, "exchange": "CME"}


@pytest.mark.parametrize(
    "entry",
    [{"multiplier": "7"}, {"trading_class": "ES"}, {"local_symbol": "TWOFZ6"}, {"con_id": 5}],
)
def test_what_names_no_contract_finds_none(entry):
    async def work(client, _):
        await client.contract(instrument_for("TWOF", TWO_CLASSES | entry))

    with pytest.raises(UnknownContract) as raised:
        talk(work, now=lambda: MONDAY)
    assert raised.value.code == 200


@pytest.mark.parametrize(
    ("symbol", "entry"),
    [
        ("BRK.B", {"local_symbol": "BRK B"}),
        ("TWOF", TWO_CLASSES | {"multiplier": "5"}),
        ("TWOF", TWO_CLASSES | {"trading_class": "TWOM"}),
    ],
)
def test_bars_are_those_of_the_contract_that_the_entry_names(symbol, entry):
    async def work(client, _):
        instrument = instrument_for(symbol, entry)
        span = (ASKED.start, ASKED.end)
        named = await client.bars(BarsRequest(instrument, Timeframe.H1, *span), NOW)
        con_id = (await client.contract(instrument)).con_id
        by_id = instrument_for(symbol, {"sec_type": instrument.sec_type, "con_id": con_id})
        again = await client.bars(BarsRequest(by_id, Timeframe.H1, *span), NOW)
        return named.bars, again.bars

    named, again = talk(work, now=lambda: MONDAY)
    assert len(named) >= 14
    assert named == again


def test_an_id_in_use_is_read_from_the_error_and_not_waited_for():
    async def work(_client, gateway):
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(IdInUse) as raised:
            await IbClient(lambda _code, _text: None).connect(HOST, gateway.port, 1, timeout_s=60)
        return raised.value.code, loop.time() - began

    code, waited_s = talk(work)
    assert code == 326
    assert waited_s < 30


def test_two_questions_for_the_time_in_one_second_are_both_answered():
    """IB never answers the second one, and the library files both under one name."""

    async def work(client, _):
        return await asyncio.gather(*(client.current_time(10) for _ in range(3)))

    times = talk(work)
    assert all((later - earlier).total_seconds() >= 1 for earlier, later in pairwise(times))


def test_orders_and_executions_are_not_asked_for_when_connecting():
    """One unanswered question of these is the end of the library's own way of connecting."""

    async def main():
        async with SimulatedGateway() as gateway:
            with gateway.unanswered_executions(), gateway.read_only_api():
                async with connected(gateway) as client:
                    await client.current_time(5)
            return {entry["kind"] for entry in gateway.record}

    assert asyncio.run(main()) == {"current_time"}


def test_a_read_only_gateway_is_recognised_though_its_answer_never_ends():
    async def work(client, gateway):
        before = await client.is_read_only(5)
        with gateway.read_only_api():
            during = await client.is_read_only(5)
        return before, during, await client.is_read_only(5)

    assert talk(work) == (False, True, False)


def test_an_invalid_request_is_refused_at_once_though_a_library_may_call_it_a_warning():
    """ib_async takes 321 for a warning, and leaves the request waiting."""

    async def work(client, _):
        return await asyncio.wait_for(client.sessions(AAPL, NOW, 400), 10)

    with pytest.raises(InvalidRequest) as raised:
        talk(work)
    assert raised.value.code == 321


def test_a_gateway_that_never_speaks_is_told_from_one_that_hangs_up():
    async def main():
        async with SimulatedGateway() as gateway:
            with gateway.wedged(), pytest.raises(GatewayUnresponsive, match="does not respond"):
                await IbClient(lambda *_: None).connect(HOST, gateway.port, 1, timeout_s=0.3)
            with (
                gateway.untrusting(),
                pytest.raises(ConnectionClosedEarly, match="during the handshake"),
            ):
                await IbClient(lambda *_: None).connect(HOST, gateway.port, 1, timeout_s=5)

    asyncio.run(main())


def test_what_waits_when_the_connection_breaks_is_told_at_once():
    """The library leaves requests waiting when it is told to disconnect."""

    async def work(client, gateway):
        with gateway.unanswered("data"):
            requested = asyncio.create_task(client.bars(ASKED, NOW))
            while not gateway.summary()["in_flight"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            client.close()
            await asyncio.wait_for(requested, 5)

    with pytest.raises(NotConnected, match="was closed before IB answered: bars of AAPL_1h"):
        talk(work)


def test_a_closed_client_answers_nothing_and_says_so():
    async def work(client, _):
        client.close()
        with pytest.raises(NotConnected):
            await client.bars(ASKED, NOW)
        with pytest.raises(NotConnected):
            await client.current_time(1)

    talk(work)


def test_a_request_that_is_given_up_is_taken_back():
    async def work(client, gateway):
        with gateway.unanswered("historical_data"), pytest.raises(TimedOut):
            await client.probe(AAPL, timeout_s=0.2)
        await client.current_time(5)
        return gateway.summary()["in_flight"]

    assert talk(work) == 0


def test_a_first_bar_is_taken_back_also_when_it_was_told():
    """50 that are open at the gateway block history, answered ones too."""

    async def work(client, gateway):
        with gateway.fault("kept_heads"):
            heads = [await client.head(AAPL) for _ in range(55)]
            assert None not in heads
            return await client.bars(ASKED, NOW)

    assert len(talk(work, limits=Limits(small_bars=False, messages_per_s=None)).bars) == 14


def test_a_late_answer_is_nobodys():
    async def work(client, gateway):
        with gateway.late(0.4), pytest.raises(TimedOut):
            await client.probe(AAPL, timeout_s=0.1)
        return await client.bars(ASKED, NOW)

    assert len(talk(work).bars) == 14


def test_a_length_that_no_message_has_ends_the_connection_at_once():
    """The library would hold whatever comes, and wait for two gigabytes of it."""

    async def work(client, gateway):
        gateway.garbage(100_000)
        await asyncio.wait_for(client.closed.wait(), 5)
        return client.why_closed.message

    assert "is no IB Gateway: what it sends is no message of IB's" in talk(work)


def test_a_message_with_senseless_fields_is_passed_over():
    async def main():
        async with SimulatedGateway() as gateway, connected(gateway) as client:
            for connection in gateway._connections:
                connection.send_raw(b"\0\0\0\x0817\0bars\0" + b"\0\0\0\x069999\0\0")
            return len((await client.bars(ASKED, NOW)).bars)

    assert asyncio.run(main()) == 14


def answer(gateway, number, code, text):
    """An error about one request, as the gateway's own."""
    fields = ["4", "2", str(number), str(code), text, ""]
    body = "".join(field + "\0" for field in fields).encode()
    for connection in gateway._connections:
        connection.send_raw(len(body).to_bytes(4) + body)


async def asked_for(gateway):
    """The number of the request that waits for its answer."""
    while not gateway.summary()["in_flight"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return gateway.record[-1]["request_id"]


def test_details_that_cannot_be_read_are_a_failure_and_no_unknown_contract():
    async def work(client, gateway):
        with gateway.unanswered("contract_details"):
            requested = asyncio.create_task(client.contract(AAPL))
            while not any(e["kind"] == "contract_details" for e in gateway.record):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            number = gateway.record[-1]["request_id"]
            for fields in (["10", str(number), "AAPL", "STK"], ["52", "1", str(number)]):
                body = "".join(field + "\0" for field in fields).encode()
                for connection in gateway._connections:
                    connection.send_raw(len(body).to_bytes(4) + body)
            await requested

    with pytest.raises(RequestFailed, match="cannot be read"):
        talk(work)


def test_an_error_that_nobody_knows_ends_a_request_unless_its_answer_follows():
    async def work(client, gateway):
        with gateway.unanswered("data"):
            requested = asyncio.create_task(client.bars(ASKED, NOW))
            answer(gateway, await asked_for(gateway), 19999, "something new")
            await requested

    with pytest.raises(RequestFailed, match="something new") as raised:
        talk(work)
    assert raised.value.code == 19999


def test_advice_is_told_with_a_time_out():
    async def work(client, gateway):
        with gateway.unanswered("data"):
            requested = asyncio.create_task(client.probe(AAPL, timeout_s=0.5))
            answer(gateway, await asked_for(gateway), 10167, "Displaying delayed data")
            await requested

    with pytest.raises(TimedOut, match="Displaying delayed data"):
        talk(work)


def test_a_gateway_that_says_of_itself_that_it_is_not_connected_is_no_lost_socket():
    """504 as the answer to a question: this connection is there."""

    async def main():
        async with SimulatedGateway() as gateway, connected(gateway) as client:
            with gateway.unanswered("data"):
                requested = asyncio.create_task(client.bars(ASKED, NOW))
                answer(gateway, await asked_for(gateway), 504, "Not connected")
                await requested

    with pytest.raises(RequestFailed) as raised:
        asyncio.run(main())
    assert raised.value.code == 504


def test_notices_are_told_from_errors():
    received = []

    async def main():
        async with SimulatedGateway() as gateway, hearing(gateway, received) as client:
            gateway.notice(1100)
            await client.current_time(5)

    asyncio.run(main())
    assert received == [2104, 2106, 2158, 1100]


def test_the_library_asks_for_nothing_by_itself():
    """It wants the account summary after 1102, and never looks at the answer."""

    async def work(client, gateway):
        gateway.notice(1102)
        await client.current_time(5)
        return {entry["kind"] for entry in gateway.record}

    assert talk(work) == {"current_time"}


def hearing(gateway, received):
    return connected(gateway, notice=lambda code, _: received.append(code))


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_nothing_is_left_of_a_connection_however_it_ends():
    async def main():
        async with SimulatedGateway() as gateway:
            async with connected(gateway) as client:
                await client.current_time(5)
            gc.collect()  # what other tests have left
            await asyncio.sleep(0.05)
            before, tasks = descriptors(), len(asyncio.all_tasks())
            for attempt in range(20):
                client = IbClient(lambda *_: None)
                fault = ("half_open", "wedged", "untrusted", "stall")[attempt % 4]
                with contextlib.suppress(NotConnected, TimedOut):
                    if fault in ("wedged", "untrusted"):
                        gateway.begin_fault(fault)
                    await client.connect(HOST, gateway.port, attempt + 1, timeout_s=0.2)
                    if fault in ("half_open", "stall"):
                        gateway.begin_fault(fault)
                    await client.probe(AAPL, 0.1)
                client.close()
                gateway.end_fault(fault)
            while gateway.client_ids:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            gc.collect()
            await asyncio.sleep(0.05)
            return descriptors() - before, len(asyncio.all_tasks()) - tasks

    assert asyncio.run(main()) == (0, 0)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (162, "Historical data request pacing violation", "paced"),
        (162, "No market data permissions for NYSE STK", "not_entitled"),
        (
            162,
            "Trading TWS session is connected from a different IP address",
            "competing_session",
        ),
        (162, "etwas ganz anderes", "failed"),
        (354, "Requested market data is not subscribed", "not_entitled"),
        (10197, "No market data during competing live session", "competing_session"),
        (321, "Error validating request", "invalid_request"),
        (9999, "something new", "failed"),
    ],
)
def test_ibs_codes_become_outcomes(code, text, kind):
    error = translate(code, text, "bars of X_1m")
    assert (error.outcome, error.code) == (kind, code)
    assert text in error.message
    assert isinstance(error, NotEntitled) == (kind == "not_entitled")
    assert (type(error) is RequestFailed) == (kind == "failed")


@pytest.mark.parametrize(
    ("code", "text", "means"),
    [
        (162, "whatever", Weight.ENDS),
        (321, "Error validating request", Weight.ENDS),
        (200, "No security definition has been found for the request", Weight.ENDS),
        (165, "worth knowing", Weight.ADVISES),
        (165, "HMDS query returned no data", Weight.MAY_END),
        (2188, "whatever", Weight.ADVISES),
        (10167, "Displaying delayed market data", Weight.ADVISES),
        (10999, "Warning: trimmed", Weight.ADVISES),
        (19999, "something new", Weight.MAY_END),
    ],
)
def test_not_every_error_is_the_end(code, text, means):
    assert weight(code, text) is means


def test_a_text_in_another_language_says_where_to_switch_it_off():
    assert "in English" in translate(162, "keine Daten für X", "bars").hint
    assert translate(162, "something new", "bars").hint == ""


@pytest.mark.parametrize(
    "text",
    [
        "Historical Market Data Service error message:HMDS query returned no data: X@SMART Trades",
        "Historical Market Data Service error message:No head time stamp",
    ],
)
def test_that_there_is_nothing_is_an_answer(text):
    assert isinstance(translate(162, text, "bars of X_1m"), NoDataError)


def test_no_second_has_more_messages_than_ib_takes():
    """All that is asked for at once is a burst, and the next one comes when the first is read."""

    async def work(client, gateway):
        kinds = [client.contract(AAPL) for _ in range(30)]
        kinds += [client.probe(AAPL, 20) for _ in range(30)]
        kinds += [client.sessions(AAPL, NOW, days) for days in range(1, 31)]
        kinds += [client.current_time(20), client.is_read_only(20)]
        await asyncio.gather(*kinds)
        return gateway.summary()["most_messages_per_s"]

    assert talk(work) <= 46  # IB's limit is 50


@pytest.mark.parametrize("rounds", range(8))
def test_whoever_gives_an_attempt_up_is_heard_even_while_it_ends_by_itself(rounds):
    """The gateway hangs up, and so many rounds of the loop later the attempt is cancelled."""

    async def run() -> bool:
        server = await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0)
        client = IbClient(lambda _code, _text: None)
        port = server.sockets[0].getsockname()[1]
        attempt = asyncio.create_task(client.connect(HOST, port, 1, timeout_s=5))
        await client.closed.wait()
        for _ in range(rounds):
            await asyncio.sleep(0)
        was_given_up = attempt.cancel()
        await asyncio.wait({attempt})
        server.close()
        client.close()
        return attempt.cancelled() or (
            not was_given_up and isinstance(attempt.exception(), ConnectionClosedEarly)
        )

    assert asyncio.run(run())


IN_A_THREAD = """
import asyncio, threading

def load():
    import ktrdr.ib.client as client
    try:
        asyncio.get_event_loop()
    except RuntimeError:
        print(client.LIBRARY, "and no event loop")

thread = threading.Thread(target=load)
thread.start()
thread.join()
"""


def test_where_python_makes_no_event_loop_unasked_the_library_is_imported_and_leaves_none():
    """Python 3.14 makes none in the main thread either."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_THREAD], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout in {"ib_insync and no event loop\n", "ib_async and no event loop\n"}
