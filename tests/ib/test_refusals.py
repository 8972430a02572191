"""What one refusal may say, and what it may not: of a contract, of its kind, of the pace."""

import time

import pytest

from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.market.instruments import instrument_for
from ktrdr.sim.gateway.in_thread import running_gateway
from tests.data import test_ib_connection_manager as usual
from tests.data.test_ib_connection_manager import answers, asking, history_of

connect, gateway = usual.connect, usual.gateway  # the fixtures

SAYS = "Historical Market Data Service error message:"
NO_FARM = f"{SAYS}HMDS server disconnect occurred.  Attempting reconnection..."
PACED = f"{SAYS}Historical data request pacing violation"
UNKNOWN = "No security definition has been found for the request"


def received(gateway, since, kind="historical_data"):
    """The symbols of such requests, in order."""
    record = gateway.record[since:]
    return [e["symbol"] for e in record if (e["event"], e["kind"]) == ("received", kind)]


def is_refused(gateway, kind, symbol, since=0):
    def found():
        record = gateway.record[since:]
        return any(
            e.get("error_code") and (e["kind"], e["symbol"]) == (kind, symbol) for e in record
        )

    return found


def test_a_contract_without_its_farm_is_not_asked_for_without_end_while_others_are_answered(
    connect, gateway, wait_for
):
    manager = connect(gateway.port)  # its heartbeat is 1 s
    wait_for(lambda: manager.is_connected)
    for name in ("AAPL", "MSFT"):
        answers(manager, history_of(name))
    before = len(gateway.record)
    refused = gateway.fault("refused", kind="bars", symbol="AAPL", text=NO_FARM)
    with refused, pytest.raises(KtrdrError, match="HMDS server disconnect"):
        answers(manager, patience_s=8)
    assert received(gateway, before).count("AAPL") <= 10


def test_a_refusal_from_within_a_reset_says_nothing_of_a_contract_after_it(connect, wait_for):
    with running_gateway(latency_s=1) as gateway:
        manager = connect(gateway.port, ktrdr_ib_heartbeat_s=60)
        wait_for(lambda: manager.status().requests_answered == 2)
        for name in ("MSFT", "AAPL"):
            answers(manager, history_of(name))
        with gateway.false_200(), pytest.raises(RequestFailed, match="not even AAPL"):
            answers(manager, history_of("KO"))
        before = len(gateway.record)
        refused = gateway.fault("refused", kind="bars", symbol="AAPL", code=200, text=UNKNOWN)
        with refused, asking(manager) as requested:  # as if it were the last one of the reset
            wait_for(is_refused(gateway, "historical_data", "AAPL", before))
            gateway.end_fault("refused")
            assert requested.result(60).bars
        assert received(gateway, before, "contract_details") == ["MSFT", "AAPL"]


def test_eurusd_is_not_unknown_because_nothing_else_was_answered_yet(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.false_200(), pytest.raises(RequestFailed, match="not even AAPL"):
        answers(manager, history_of("EURUSD"))
    assert manager.status().refused == ()


def test_a_state_does_not_last_for_ever_because_the_contract_of_its_probes_went_away(
    connect, gateway, wait_for
):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager)
    with gateway.farm_broken(told="begin"):
        wait_for(lambda: manager.status().state == "history_down")
        gateway.begin_fault("refused", kind="bars", symbol="AAPL", code=200, text=UNKNOWN)
    wait_for(lambda: manager.is_connected)
    assert answers(manager, history_of("MSFT")).bars


def test_details_are_not_held_back_for_the_pace_of_bars(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_heartbeat_s=20)
    wait_for(lambda: manager.status().requests_answered == 2)
    before, back_at = gateway.summary()["errors"].get("162", 0), manager.status().data_back_at
    with gateway.fault("refused", kind="bars", text=PACED), asking(manager) as asked:
        wait_for(lambda: gateway.summary()["errors"].get("162", 0) > before)
        assert manager.call(manager.contract(instrument_for("MSFT")), 60)
        assert manager.status().data_back_at == back_at  # details say nothing of bars
        gateway.end_fault("refused")
        assert asked.result(60).bars
    assert manager.status().data_back_at != back_at


def test_what_is_doubted_ends_within_its_time_limit(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_heartbeat_s=60)
    wait_for(lambda: manager.status().requests_answered == 2)
    answers(manager, history_of("MSFT"))
    with gateway.fault("late", seconds=3):
        began = time.monotonic()
        with pytest.raises(KtrdrError):
            answers(manager, history_of("NOSUCH"), patience_s=7)
        took_s = time.monotonic() - began
    assert took_s < 7 + 2
