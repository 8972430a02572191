"""How soon there is a connection when a gateway is well again, whatever the retry delays say."""

import contextlib
import time
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager
from ktrdr.errors import KtrdrError
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import running_gateway
from tests.fast_loop import FastClock, FastLoop
from tests.ib.test_fault_sequences import START

SPEED = 40.0
NEVER_S = 86400.0
MINUTES = BarsRequest(
    instrument_for("AAPL"), Timeframe.M1, int(START.timestamp()) - 86400, int(START.timestamp())
)


@contextlib.contextmanager
def connected(make_settings, wait_for):
    """A gateway and a connection on fast clocks, which by itself would not try a second time."""
    clock = FastClock(START, SPEED)
    with running_gateway(now=clock, new_loop=lambda: FastLoop(SPEED)) as gateway:
        settings = make_settings(ktrdr_sim_port=gateway.port, ktrdr_ib_retry_delays_s=(NEVER_S,))
        manager = PersistentIbConnectionManager(
            settings, now=clock, new_loop=lambda: FastLoop(SPEED)
        )
        manager.start()
        try:
            wait_for(lambda: manager.status().requests_answered >= 2)  # data too
            yield gateway, manager
        finally:
            manager.stop()


def seconds_until(is_so, wait_for):
    """By the fast clock."""
    began = time.monotonic()
    wait_for(is_so)
    return (time.monotonic() - began) * SPEED


@pytest.mark.parametrize("fault", ["wedged", "stall"])
def test_a_gateway_that_was_stuck_is_connected_as_soon_as_it_greets(fault, make_settings, wait_for):
    with connected(make_settings, wait_for) as (gateway, manager):
        with gateway.fault(fault):
            gateway.drop()
            wait_for(lambda: manager.status().state == "dead")
            attempts = manager.status().connection_attempts
        assert seconds_until(lambda: manager.is_connected, wait_for) < NEVER_S
        assert manager.status().connection_attempts == attempts + 1


@pytest.mark.parametrize("fault", ["untrusted", "old_version", "truncated"])
def test_a_gateway_that_did_not_greet_as_one_is_connected_when_it_does(
    fault, make_settings, wait_for
):
    with connected(make_settings, wait_for) as (gateway, manager):
        with gateway.fault(fault):
            gateway.drop()
            wait_for(lambda: manager.status().failed_attempts >= 1)
            wait_for(lambda: manager.status().state == "waiting")
            attempts = manager.status().connection_attempts
        assert seconds_until(lambda: manager.is_connected, wait_for) < NEVER_S
        assert manager.status().connection_attempts == attempts + 1


def test_a_gateway_that_greets_and_answers_nothing_is_tried_all_the_same(make_settings, wait_for):
    with connected(make_settings, wait_for) as (gateway, manager):
        with gateway.unanswered("current_time"):
            gateway.drop()
            wait_for(lambda: manager.status().failed_attempts >= 2)
        assert seconds_until(lambda: manager.is_connected, wait_for) < NEVER_S


@pytest.mark.parametrize(
    ("fault", "values", "at_first"),
    [("competing_session", {}, 2), ("farm_broken", {"told": "begin"}, 3)],
)
def test_what_refuses_for_minutes_is_probed_soon_and_then_twice_a_minute(
    fault, values, at_first, make_settings, wait_for
):
    with connected(make_settings, wait_for) as (gateway, manager):
        began = gateway.now()
        with gateway.fault(fault, **values):
            with contextlib.suppress(KtrdrError):
                manager.call(manager.bars(MINUTES, 1), 30)
            wait_for(lambda: gateway.now() >= began + timedelta(minutes=5))
            refused = [e["time"] for e in gateway.record if e.get("error_code") == 162]
    times = [datetime.fromisoformat(at).timestamp() for at in refused]
    pauses_s = [after - before for before, after in pairwise(times)]
    assert sum(pause_s < 25 for pause_s in pauses_s) <= at_first  # for short ones
    assert len(refused) >= 5


PACED = "Historical Market Data Service error message:Historical data request pacing violation"
FAILED = "Historical Market Data Service error message:Query failed"


@pytest.mark.parametrize(
    ("fault", "values"),
    [
        ("false_200", {}),
        ("refused", {"kind": "bars", "text": FAILED}),
        ("refused", {"kind": "bars", "text": PACED}),
    ],
)
def test_the_end_of_refusals_is_found_though_nobody_asks(fault, values, make_settings, wait_for):
    with connected(make_settings, wait_for) as (gateway, manager):
        with gateway.fault(fault, **values):
            for name in ("AAPL", "MSFT", "KO"):
                wanted = replace(MINUTES, instrument=instrument_for(name))
                with pytest.raises(KtrdrError):
                    manager.call(manager.bars(wanted, 20), 60)
            wait_for(lambda: manager.status().requests_open == 0)
            ending = gateway.now()
        wait_for(lambda: (manager.status().data_back_at or START) > ending, 40)
