"""A real client receives each kind of false response."""

import asyncio
from zoneinfo import ZoneInfo

import pytest
from ib_insync import Contract, Stock
from ib_insync.wrapper import RequestError

from ktrdr.errors import InvalidRequest
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.gateway.server import SimulatedGateway

AAPL, KO = Stock("AAPL", "SMART", "USD"), Stock("KO", "SMART", "USD")
END = "20261120-22:00:00"


async def bars(client, contract=AAPL):
    requested = (END, "2 D", "1 hour", "TRADES", True, 2)
    return list(await client.reqHistoricalDataAsync(contract, *requested))


def sessions(client, days=10):
    return client.reqHistoricalScheduleAsync(AAPL, days, END, True)


def head(client):
    return client.reqHeadTimeStampAsync(AAPL, "TRADES", True, 2)


def with_fault(with_client, request, name, **values):
    """The answer as it should be, and as it is under the fault. Questions may be repeated."""

    async def work(client, gateway):
        true = await request(client)
        with gateway.fault(name, **values):
            false = await request(client)
        assert await request(client) == true
        return true, false

    return with_client(work, limits=Limits(small_bars=False))


@pytest.mark.parametrize("kind", ["historical_data", "schedule", "head_timestamp", "data"])
def test_no_data_is_returned_although_there_are_some(with_client, kind):
    requests = {"historical_data": bars, "schedule": sessions, "head_timestamp": head}

    async def work(client, gateway):
        codes = {}
        with gateway.fault("false_no_data", kind=kind):
            for name, request in requests.items():
                try:
                    await request(client)
                except RequestError as error:
                    codes[name] = (error.code, "returned no data" in error.message)
        return codes

    wanted = requests if kind == "data" else [kind]
    assert with_client(work) == dict.fromkeys(wanted, (162, True))


def test_no_data_of_one_symbol_leaves_the_others_alone(with_client):
    async def work(client, gateway):
        with gateway.fault("false_no_data", symbol="KO"):
            assert await bars(client, AAPL)
            with pytest.raises(RequestError):
                await bars(client, KO)

    with_client(work)


@pytest.mark.parametrize("lost", ["oldest", "newest"])
def test_answers_are_cut_off(with_client, lost):
    true, cut = with_fault(with_client, bars, "cut_bars", lost=lost, share=0.25)
    assert len(true) == 14
    assert cut == (true[4:] if lost == "oldest" else true[:-4])


def test_of_a_cut_answer_one_bar_is_left(with_client):
    true, cut = with_fault(with_client, bars, "cut_bars", share=1.0)
    assert cut == true[-1:]


@pytest.mark.parametrize("lost", ["all", "oldest", "newest", "middle"])
def test_a_schedule_lacks_sessions(with_client, lost):
    true, cut = with_fault(with_client, sessions, "cut_schedule", lost=lost)
    days = [session.refDate for session in true.sessions]
    assert len(days) == 10
    left = {"all": [], "oldest": days[4:], "newest": days[:6], "middle": days[:4] + days[8:]}
    assert [session.refDate for session in cut.sessions] == left[lost]


def test_a_head_timestamp_is_too_late(with_client):
    true, late = with_fault(with_client, head, "late_head", days=3)
    assert (late - true).days == 3


@pytest.mark.parametrize(
    ("field", "text"), [("open", "?"), ("volume", ""), ("average", "?"), ("count", "n/a")]
)
def test_one_field_of_one_bar_is_odd(field, text):
    """On the wire: what a client makes of it is the client's affair."""

    async def main():
        async with SimulatedGateway() as gateway:
            gateway.begin_fault("odd_field", field=field, text=text)
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            history = [20, 1, 0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", "", 0]
            rest = [END, "1 hour", "1 D", 1, "TRADES", 2, 0, ""]
            received = b""
            writer.write(b"API\0\0\0\0\x09v157..176")
            for message in ([71, 2, 1, ""], history + rest):
                body = "".join(f"{one}\0" for one in message).encode()
                writer.write(len(body).to_bytes(4, "big") + body)
            while b"17\x001\x00" not in received or not received.endswith(b"\0"):
                received += await asyncio.wait_for(reader.read(1 << 16), 10)
            writer.close()
            fields = received[received.index(b"17\x001\x00") :].decode().split("\0")[5:-1]
            return [fields[i : i + 8] for i in range(0, len(fields), 8)]

    rows = asyncio.run(main())
    place = ["time", "open", "high", "low", "close", "volume", "average", "count"].index(field)
    assert [row[place] == text for row in rows] == [number == 3 for number in range(7)]


@pytest.mark.parametrize("code", [165, 2188, 10167])
def test_an_advisory_comes_before_the_answer(with_client, code):
    async def work(client, gateway):
        codes = []
        client.RaiseRequestErrors = False
        client.errorEvent += lambda number, code, *_: codes.append((number > 0, code))
        with gateway.fault("advisory_first", code=code):
            await bars(client)
        return codes, gateway.summary()["bars"]

    codes, sent = with_client(work)
    assert (True, code) in codes
    assert sent == 14


@pytest.mark.parametrize("prices", ["same", "other"])
def test_a_symbol_becomes_another_contract(with_client, prices):
    async def work(client, gateway):
        before = (
            (await client.reqContractDetailsAsync(KO))[0].contract.conId,
            await bars(client, KO),
        )
        with gateway.fault("other_contract", symbol="KO", prices=prices):
            after = (
                (await client.reqContractDetailsAsync(KO))[0].contract.conId,
                await bars(client, KO),
            )
            by_id = await client.reqContractDetailsAsync(Contract(conId=before[0]))
        return before, after, by_id

    before, after, _ = with_client(work)
    assert before[0] != after[0]
    assert (before[1] == after[1]) == (prices == "same")


def test_prices_are_in_another_unit(with_client):
    true, other = with_fault(with_client, bars, "other_unit", factor=0.01)
    assert [bar.close for bar in other] == [round(bar.close / 100, 8) for bar in true]
    assert [bar.volume for bar in other] == [bar.volume for bar in true]


def test_volumes_are_in_another_unit(with_client):
    true, other = with_fault(with_client, bars, "other_unit", of="volume", factor=100)
    assert [bar.volume for bar in other] == [100 * bar.volume for bar in true]
    assert [bar.close for bar in other] == [bar.close for bar in true]


def test_a_rate_hits_so_many_and_is_counted(with_client):
    async def work(client, gateway):
        refused = 0
        with gateway.fault("false_no_data", rate=0.2):
            for _ in range(100):
                try:
                    await bars(client)
                except RequestError:
                    refused += 1
        return refused, gateway.summary()["verdicts"]

    refused, struck = with_client(work)
    assert 5 < refused < 40
    assert struck == {"false_no_data": refused}


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_is_a_share(with_client, rate):
    async def work(_, gateway):
        with pytest.raises(InvalidRequest, match="expected a"):
            gateway.begin_fault("false_no_data", rate=rate)

    with_client(work)


def test_one_session_closes_at_an_odd_time(with_client):
    true, odd = with_fault(with_client, sessions, "odd_session", text="24:00:00")
    changed = [s for s in odd.sessions if s not in true.sessions]
    assert [s.endDateTime[8:] for s in changed] == ["-24:00:00"]
    assert len(odd.sessions) == len(true.sessions)


def test_zones_have_other_names(with_client):
    async def details(client):
        (found,) = await client.reqContractDetailsAsync(AAPL)
        return found

    true, other = with_fault(with_client, details, "zone_name", contract="IST", schedule="same")
    assert (true.timeZoneId, other.timeZoneId) == ("America/New_York", "IST")
    assert other.tradingHours == true.tradingHours
    true, other = with_fault(with_client, sessions, "zone_name", contract="IST", schedule="")
    assert (true.timeZone, other.timeZone) == ("America/New_York", "")
    assert other.sessions == true.sessions


@pytest.mark.parametrize(
    ("encoding", "received"),
    [("utf-8", "查询"), ("gb18030", r"\xb2\xe9ѯ")],
)
def test_a_request_is_refused_with_any_text_in_any_encoding(with_client, encoding, received):
    async def work(client, gateway):
        values = {"kind": "schedule", "code": 162, "text": "查询", "encoding": encoding}
        with gateway.fault("refused", **values):
            assert await bars(client)
            with pytest.raises(RequestError) as raised:
                await sessions(client)
        return raised.value.code, raised.value.message

    assert with_client(work) == (162, received)


def test_first_bars_that_are_not_taken_back_block_history_in_the_end(with_client):
    async def work(client, gateway):
        with gateway.fault("kept_heads"):
            for number in (900, 901):  # the library itself takes each back
                told = client.wrapper.startReq(number)
                client.client.reqHeadTimeStamp(number, AAPL, "TRADES", 1, 2)
                assert await told
            with pytest.raises(RequestError) as raised:
                await bars(client)
            client.client.cancelHeadTimeStamp(900)
            await client.reqCurrentTimeAsync()
            assert await bars(client)
            return raised.value.code

    assert with_client(work, limits=Limits(open_requests=2, small_bars=False)) == 322


def local(found):
    return [f"{bar.date.astimezone(ZoneInfo('America/New_York')):%d %H:%M}" for bar in found]


@pytest.mark.parametrize("bar", ["any", "1 hour"])
def test_bars_begin_at_other_minutes(with_client, bar):
    true, other = with_fault(with_client, bars, "other_grid", minutes=20, bar=bar)
    assert local(true)[:8] == [
        *("19 09:30", "19 10:00", "19 11:00", "19 12:00"),
        *("19 13:00", "19 14:00", "19 15:00", "20 09:30"),
    ]
    assert local(other)[:9] == [
        *("19 09:30", "19 10:20", "19 11:20", "19 12:20"),
        *("19 13:20", "19 14:20", "19 15:20", "20 09:30", "20 10:20"),
    ]
    assert sum(bar.volume for bar in other) == sum(bar.volume for bar in true)
    assert (other[0].open, other[6].close) == (true[0].open, true[6].close)


@pytest.mark.parametrize(("minutes", "bar"), [(60, "any"), (20, "15 mins")])
def test_shorter_bars_and_those_of_other_sizes_begin_where_they_did(with_client, minutes, bar):
    true, other = with_fault(with_client, bars, "other_grid", minutes=minutes, bar=bar)
    assert other == true


def test_an_answer_on_another_grid_is_counted(with_client):
    async def work(client, gateway):
        with gateway.fault("other_grid", rate=0.5):
            told = [local(await bars(client))[1] for _ in range(20)]
        return told.count("19 10:30"), gateway.summary()["verdicts"]

    struck, counted = with_client(work)
    assert 0 < struck < 20
    assert counted == {"other_grid": struck}
