from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ktrdr.sim.gateway.request_handlers import RequestHandlers
from ktrdr.sim.gateway.wire import Request
from ktrdr.sim.market.contracts import Query
from ktrdr.sim.market.market import GeneratedMarket

NOW = datetime(2026, 11, 23, 15, 30, 25, tzinfo=UTC)
ENDS = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"\A\d{8}[- ]\d\d:\d\d:\d\d( (UTC|EST|Asia/Tokyo|Mars/Base|\.\./x))?\Z"),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001
        lambda t: t.strftime("%Y%m%d-%H:%M:%S")
    ),
)
DURATIONS = st.one_of(
    st.text(max_size=10), st.from_regex(r"\A\d{1,5} [SDWMYH]\Z"), st.sampled_from(["1 D", "60 S"])
)
QUERIES = st.sampled_from(
    [
        Query(symbol="AAPL", sec_type="STK", exchange="SMART"),
        Query(symbol="EUR", currency="USD", sec_type="CASH"),
        Query(local_symbol="ESZ6", sec_type="FUT"),
        Query(symbol="BTC", sec_type="CRYPTO"),
        Query(),
        Query(con_id=-5),
    ]
)
WORDS = st.text(max_size=8)
ANY_QUERY = st.builds(
    Query,
    sec_type=st.sampled_from(["STK", "CASH", "FUT", "CRYPTO", "OPT", ""]),
    symbol=WORDS,
    expiry=st.one_of(WORDS, st.from_regex(r"\A\d{6,8}\Z")),
    local_symbol=st.one_of(WORDS, st.from_regex(r"\A(ES|6E|CL|ZZ)[A-Z]\d{1,3}\Z")),
    currency=WORDS,
)


@pytest.fixture(scope="module")
def handlers():
    return RequestHandlers(GeneratedMarket(1), "DU1", lambda: NOW)


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(["historical_data", "schedule"]),
    query=QUERIES,
    end=ENDS,
    duration=DURATIONS,
    what=st.sampled_from(["TRADES", "MIDPOINT", "AGGTRADES", "SCHEDULE", "BID", ""]),
    rth=st.booleans(),
)
@example("schedule", Query(symbol="AAPL", sec_type="STK"), "00010101-00:00:00", "99 Y", "", False)
@example("historical_data", Query(symbol="EUR", sec_type="CASH", currency="USD"), "", "10 Y",
         "MIDPOINT", True)  # fmt: skip
def test_every_history_request_gets_one_answer_or_one_error(
    handlers, kind, query, end, duration, what, rth
):
    request = Request(
        kind, 1, query, end=end, duration=duration, bar_size="1 day", what_to_show=what, use_rth=rth
    )
    reply = handlers.reply(request, 176)
    assert reply.message
    has_bars = kind == "historical_data" and reply.error_code is None
    assert (reply.bars > 0) is has_bars


@given(kind=st.sampled_from(["contract_details", "head_timestamp"]), query=ANY_QUERY)
def test_every_request_for_a_contract_gets_a_response(handlers, kind, query):
    assert handlers.reply(Request(kind, 1, query, what_to_show="TRADES"), 176).message


def test_a_kind_that_it_does_not_know_gets_none(handlers):
    assert handlers.reply(Request("unknown", 4711), 176) is None
