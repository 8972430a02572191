"""What the connection says of itself, and asks for, while IB's farm of history is broken."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from ktrdr.errors import KtrdrError, NotConnected, RequestFailed
from ktrdr.ib.history import ConnectionHistory
from ktrdr.sim.gateway.in_thread import running_gateway
from tests.data import test_ib_connection_manager as usual
from tests.data.test_ib_connection_manager import answers, asking, history_of, is_in_flight

connect, gateway = usual.connect, usual.gateway  # the fixtures


def is_without_history(manager):
    return lambda: manager.status().state == "history_down"


@pytest.fixture
def manager(connect, gateway, wait_for):
    """A connection over which data were answered."""
    manager = connect(gateway.port)
    wait_for(lambda: manager.status().requests_answered >= 2)
    return manager


def test_without_the_farm_of_history_it_is_not_connected_though_nobody_asks(
    manager, gateway, wait_for
):
    with gateway.farm_broken():
        wait_for(is_without_history(manager))
        status = manager.status()
        assert not status.connected
        assert status.last_error.code == 162
        assert "history farm ushmds is broken" in status.last_error.message
        assert "by itself" in status.last_error.hint
        assert status.no_data_since is not None
    wait_for(lambda: manager.status().state == "connected")
    assert manager.is_connected
    assert manager.status().no_data_since is None
    assert gateway.summary()["connects"] == 1


def test_a_break_that_nobody_tells_of_is_known_by_its_refusals(manager, gateway, wait_for):
    with gateway.farm_broken(told="no"):
        with pytest.raises(KtrdrError) as raised:
            answers(manager, patience_s=3)
        wait_for(is_without_history(manager))
        assert not manager.is_connected
        assert raised.value.code == 162
        assert "HMDS server disconnect" in raised.value.message
    wait_for(lambda: manager.is_connected)  # the first answer ends it
    assert answers(manager).bars


def test_one_refusal_proves_nothing(manager, gateway, wait_for):
    with gateway.fault("refused", kind="bars", symbol="AAPL", text="HMDS server disconnect"):
        with suppress(KtrdrError):
            answers(manager, patience_s=1)
        before = gateway.summary()["answers"]
        with asking(manager, patience_s=1) as requested:
            wait_for(lambda: gateway.summary()["answers"] > before)
            requested.exception(10)
        assert manager.status().state == "connected"
        assert answers(manager, history_of("MSFT")).bars


def test_one_farm_of_several_takes_nothing_from_what_others_serve(manager, gateway, wait_for):
    answers(manager, history_of("EURUSD"))
    answers(manager)
    with gateway.fault("refused", kind="bars", symbol="AAPL", text="HMDS server disconnect"):
        with asking(manager, patience_s=6) as requested:
            # The request, and its probe; another kind is probed then, and answers.
            wait_for(lambda: gateway.summary()["verdicts"].get("refused", 0) >= 2)
            assert answers(manager, history_of("EURUSD")).bars
        with pytest.raises(RequestFailed, match="HMDS server disconnect"):
            requested.result()
        assert manager.is_connected


def test_2105_with_1100_and_1102_leaves_nothing_broken(manager, gateway, wait_for):
    gateway.notice(2105)
    wait_for(lambda: manager.status().state == "farm_down")
    gateway.notice(1100)
    gateway.notice(1102)  # it names all farms as connected
    wait_for(lambda: manager.status().state == "connected")
    assert all(farm.up for farm in manager.status().farms)


def test_what_is_answered_after_a_refusal_has_its_farm_back(manager, gateway, wait_for):
    with gateway.farm_broken(told="begin"):
        wait_for(is_without_history(manager))
    wait_for(lambda: manager.status().state == "connected")
    assert all(farm.up for farm in manager.status().farms)


def test_a_broken_farm_is_not_asked_again_and_again(manager, gateway):
    """Three requests, each with eight heartbeats' patience: their own, and a few of the probe's."""
    with gateway.farm_broken(told="no"):
        before = gateway.summary()["requests"]["historical_data"]
        askers = [asking(manager, history_of(s), patience_s=8) for s in ("AAPL", "MSFT", "KO")]
        with askers[0] as one, askers[1] as two, askers[2] as three:
            for requested in (one, two, three):
                with pytest.raises(NotConnected, match="HMDS server disconnect") as raised:
                    requested.result(30)
                assert raised.value.code == 162
        assert gateway.summary()["requests"]["historical_data"] - before <= 3 + 2 + 5


def test_without_history_one_probe_at_a_time_stands_for_all_kinds(manager, gateway, wait_for):
    for symbol in ("AAPL", "EURUSD", "USDJPY"):
        answers(manager, history_of(symbol))
    with gateway.farm_broken():
        wait_for(is_without_history(manager))
        began = time.monotonic()
        refused = gateway.summary()["verdicts"]["farm_broken"]
        wait_for(lambda: gateway.summary()["verdicts"]["farm_broken"] >= refused + 3)
        assert time.monotonic() - began > 3.5  # heartbeats: two and two, after the first


def test_who_waits_for_a_farm_is_answered_as_soon_as_it_is_back(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_heartbeat_s=20)  # nothing happens by itself so soon
    wait_for(lambda: manager.status().requests_answered >= 2)
    with gateway.farm_broken(), asking(manager) as requested:
        wait_for(is_without_history(manager))
        assert not requested.done()
        before = manager.status().data_back_at
        gateway.end_fault("farm_broken")
        assert requested.result(5).bars
        assert manager.status().data_back_at > before


def test_a_new_request_fails_at_once_with_the_cause(manager, gateway, wait_for):
    with gateway.farm_broken():
        wait_for(is_without_history(manager))
        with pytest.raises(NotConnected, match=r"history_down.*HMDS server disconnect"):
            answers(manager)


def test_time_without_the_farm_of_history_is_no_uptime(connect, gateway, scratch, wait_for):
    history = ConnectionHistory(scratch / "history.sqlite", datetime.now(UTC).timestamp())
    manager = connect(gateway.port, history=history)
    wait_for(lambda: manager.is_connected)
    with gateway.farm_broken(told="no"):
        with asking(manager, patience_s=3) as requested:
            wait_for(is_without_history(manager))
            requested.exception(20)
        wait_for(lambda: manager.call(manager.history(1), 5).uptime < 0.7)


def test_an_answer_to_what_was_asked_before_does_not_say_that_the_servers_are_back(
    connect, wait_for
):
    with running_gateway(bars_per_s=24) as gateway:  # the probe takes a second
        manager = connect(gateway.port)
        wait_for(lambda: manager.is_connected)
        wait_for(is_in_flight(gateway))
        gateway.notice(1100)
        wait_for(lambda: manager.status().state == "upstream_lost")
        wait_for(lambda: manager.status().requests_answered >= 2)  # the time, and the probe
        assert manager.status().state == "upstream_lost"
        wait_for(lambda: manager.is_connected)  # what is asked from now on says so


def test_probes_that_get_no_answer_follow_each_other_two_heartbeats_apart(
    manager, gateway, wait_for
):
    def swallowed():
        return [entry for entry in gateway.record if entry["event"] == "swallowed"]

    with gateway.unanswered("data"):
        gateway.notice(1100)
        wait_for(lambda: manager.status().state == "upstream_lost")
        since = len(swallowed())
        wait_for(lambda: len(swallowed()) >= since + 4)
    times = [datetime.fromisoformat(entry["time"]).timestamp() for entry in swallowed()[since:]]
    assert min(after - before for before, after in pairwise(times)) < 3  # the heartbeat is 1 s


def test_after_an_end_without_data_it_is_connected_only_when_data_come(manager, gateway, wait_for):
    said = []
    with gateway.unanswered("data"), asking(manager) as requested:
        wait_for(lambda: gateway.summary()["connects"] == 2)
        wait_for(lambda: said.append(manager.is_connected) or is_without_history(manager)())
        wait_for(lambda: said.append(manager.is_connected) or manager.status().state == "dead")
        assert not any(said)
        gateway.end_fault("unanswered")
        wait_for(lambda: manager.status().state == "connected")
        assert requested.result(30).bars


def test_an_end_that_only_a_second_probe_can_find_is_noticed_over_the_same_connection(
    manager, gateway, wait_for
):
    def probes():  # over the newest connection
        connected = [i for i, entry in enumerate(gateway.events) if entry["event"] == "connected"]
        since = gateway.events[connected[-1] :]
        return [entry for entry in since if entry["event"] == "swallowed"]

    with gateway.unanswered("bars"), asking(manager) as requested:
        wait_for(lambda: gateway.summary()["connects"] == 2)
        wait_for(is_without_history(manager))
        wait_for(probes)
        gateway.end_fault("unanswered")
        wait_for(lambda: manager.status().state == "connected")
        assert gateway.summary()["connects"] == 2
        assert requested.result(30).bars
