import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ib_insync import Contract, Stock
from ib_insync.client import Client

from ktrdr.sim.gateway.wire import MAX_MESSAGE_BYTES, Framer, WireError, encode, negotiate, parse


def sent_by_a_client(method, *args, version=176):
    """The fields of the message that ib_insync's own client writes."""
    client = Client(wrapper=None)
    client.connState = Client.CONNECTED
    client._serverVersion = version
    sent = []
    client.sendMsg = sent.append
    getattr(client, method)(*args)
    return sent[0].removesuffix("\0").split("\0")


def framed(*fields):
    return encode(*fields)


def test_a_history_request_is_read_as_a_client_writes_it():
    fields = sent_by_a_client(
        "reqHistoricalData", 42, Stock("BRK B", "SMART", "USD", primaryExchange="NYSE"),
        "20261120-22:00:00", "2 D", "5 mins", "TRADES", True, 2, False, [],
    )  # fmt: skip
    request = parse(fields)
    assert (request.kind, request.request_id, request.format_date) == ("historical_data", 42, 2)
    assert (request.end, request.duration, request.bar_size) == (
        "20261120-22:00:00",
        "2 D",
        "5 mins",
    )
    assert (request.what_to_show, request.use_rth, request.keep_up_to_date) == (
        "TRADES",
        True,
        False,
    )
    assert request.query is not None
    assert (request.query.symbol, request.query.sec_type) == ("BRK B", "STK")
    assert (request.query.exchange, request.query.primary_exchange) == ("SMART", "NYSE")


def test_keep_up_to_date_is_found_behind_the_legs_of_a_combination():
    for sec_type in ("STK", "BAG"):
        fields = sent_by_a_client(
            "reqHistoricalData", 1, Contract(secType=sec_type), "", "1 D", "1 min", "TRADES",
            0, 1, True, [],
        )  # fmt: skip
        assert parse(fields).keep_up_to_date is True


@pytest.mark.parametrize("version", [157, 176])
def test_a_request_for_details_is_read_in_every_version(version):
    contract = Contract(secType="FUT", localSymbol="ESZ6", exchange="CME", includeExpired=True)
    request = parse(sent_by_a_client("reqContractDetails", 7, contract, version=version))
    assert (request.kind, request.request_id) == ("contract_details", 7)
    assert request.query is not None
    assert (request.query.local_symbol, request.query.include_expired) == ("ESZ6", True)


def test_head_timestamps_and_cancellations_are_read_as_a_client_writes_them():
    head = parse(sent_by_a_client("reqHeadTimeStamp", 3, Stock("T"), "TRADES", False, 2))
    assert (head.kind, head.request_id, head.what_to_show) == ("head_timestamp", 3, "TRADES")
    assert (head.use_rth, head.format_date) == (False, 2)
    assert parse(sent_by_a_client("cancelHistoricalData", 9)).request_id == 9


@pytest.mark.parametrize(
    ("greeting", "version"),
    [("v157..176", 176), ("v100..170", 170), ("v157..300", 178), ("v160..176 +PACEAPI", 176),
     ("v160", 160)],
)  # fmt: skip
def test_the_highest_common_version_is_chosen(greeting, version):
    assert negotiate([greeting]) == version


@pytest.mark.parametrize("greeting", ["v100..156", "v179..200", "", "hello", "v99999..1", "71"])
def test_a_client_without_a_common_version_is_disconnected(greeting):
    with pytest.raises(WireError):
        negotiate([greeting])


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_yield_messages_or_a_wire_error(chunks):
    framer = Framer()
    with contextlib.suppress(WireError):
        for chunk in chunks:
            for fields in framer.feed(chunk):
                assert all(isinstance(field, str) for field in fields)


@given(
    st.sampled_from([3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 20, 25, 49, 61, 64, 71, 76, 77, 87, 90, 99]),
    st.lists(st.one_of(st.text(max_size=12), st.integers().map(str), st.just("")), max_size=26),
)
def test_any_fields_are_a_request_or_a_wire_error(message_id, fields):
    with contextlib.suppress(WireError):
        assert parse([str(message_id), *fields]).kind


@given(st.lists(st.integers(1, 30), max_size=60))
def test_however_bytes_are_cut_the_messages_are_the_same(cuts):
    whole = b"API\0" + framed("v157..176") + framed(71, 2, 1, "") + framed(49, 1) * 3
    framer, got, at = Framer(), [], 0
    for cut in [*cuts, len(whole)]:
        got += framer.feed(whole[at : at + cut])
        at += cut
    assert got == [["v157..176"], ["71", "2", "1", ""], *[["49", "1"]] * 3]


def test_a_false_length_ends_the_conversation():
    framer = Framer()
    framer.feed(b"API\0")
    with pytest.raises(WireError, match="a message of"):
        framer.feed(struct.pack(">I", MAX_MESSAGE_BYTES + 1))
