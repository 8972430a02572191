"""The connection from start to start: what ends it, what must not, and what is told of that."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ktrdr.config.settings import Settings
from ktrdr.data.ib_connection_manager import (
    PersistentIbConnectionManager,
    get_connection_manager,
    serve,
)
from ktrdr.ib.history import ConnectionHistory
from tests.data import test_ib_connection_manager as usual
from tests.data.test_ib_connection_manager import answers
from tests.ports import free_port

connect, gateway = usual.connect, usual.gateway  # the fixtures


def test_one_that_is_started_again_keeps_to_its_ladder(connect, wait_for):
    manager = connect(free_port(), ktrdr_ib_retry_delays_s=(60,))
    wait_for(lambda: manager.status().state == "waiting")
    manager.stop()
    manager.start()
    wait_for(lambda: manager.status().state == "waiting")
    assert not threading.Event().wait(2.5)
    assert manager.status().connection_attempts == 1


def test_one_that_is_started_again_works_and_takes_notes(connect, gateway, scratch, wait_for):
    history = ConnectionHistory(scratch / "history.sqlite", datetime.now(UTC).timestamp())
    manager = connect(gateway.port, history=history)
    wait_for(lambda: manager.is_connected)
    manager.stop()
    manager.start()
    wait_for(lambda: manager.is_connected)
    assert answers(manager).bars
    wait_for(lambda: manager.call(manager.history(1), 5).spans[-1].state == "connected")


def test_who_asks_after_a_stop_gets_another_connection(make_settings, gateway, wait_for):
    settings = make_settings(ktrdr_sim_port=gateway.port)
    first = get_connection_manager(settings)
    first.stop()
    second = get_connection_manager(settings)
    try:
        assert second is not first
        wait_for(lambda: second.is_connected)
    finally:
        second.stop()


class Moody(Settings):
    """Settings that fail when they are asked for the port to look at in the first wait."""

    reads: int = 0

    @property
    def gateway_port(self) -> int:
        object.__setattr__(self, "reads", self.reads + 1)
        if self.reads == 3:  # after the first status and the first attempt
            raise RuntimeError("whatever a library does")
        return self.ktrdr_sim_port


def test_an_unexpected_error_in_a_wait_costs_no_more_than_the_wait(make_settings, wait_for, caplog):
    settings = make_settings(ktrdr_sim_port=free_port(), ktrdr_ib_retry_delays_s=(1, 60))
    manager = PersistentIbConnectionManager(Moody(**settings.model_dump()))
    manager.start()
    try:
        wait_for(lambda: "whatever a library does" in caplog.text)
        wait_for(lambda: manager.status().failed_attempts == 2)
        assert not threading.Event().wait(2.5)  # the ladder goes on
        assert manager.status().failed_attempts == 2
        assert manager.broken is None
    finally:
        manager.stop()


def test_what_ends_its_life_is_said_and_told_to_whoever_runs_it(make_settings, gateway, wait_for):
    is_broken, received = threading.Event(), threading.Event()

    def now():
        if is_broken.is_set():
            raise RuntimeError("no clock")
        return datetime.now(UTC)

    manager = PersistentIbConnectionManager(make_settings(ktrdr_sim_port=gateway.port), now=now)
    manager.when_broken(received.set)
    manager.start()
    wait_for(lambda: manager.is_connected)
    is_broken.set()
    manager.reconnect()
    assert received.wait(10)
    assert str(manager.broken) == "no clock"
    is_broken.clear()
    manager.stop()


def test_the_program_ends_with_what_ended_the_life_of_its_connection(make_settings):
    """The ladder has no step, which settings from outside cannot be: the first wait ends it."""
    settings = make_settings(ktrdr_sim_port=free_port())
    broken = settings.model_copy(update={"ktrdr_ib_retry_delays_s": ()})
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        program = thread.submit(serve, broken, stop)
        try:
            assert isinstance(program.exception(15), IndexError)
        finally:
            stop.set()


def test_a_loss_right_after_the_time_was_told_costs_no_attempt(connect, gateway, wait_for):
    """IB gives the time once a second, and leaves the next request unanswered."""
    with gateway.fault("time_once"):
        manager = connect(gateway.port, ktrdr_ib_heartbeat_s=2)
        wait_for(lambda: gateway.summary()["requests"].get("current_time") == 2)  # its heartbeat
        gateway.drop()
        wait_for(lambda: gateway.summary()["connects"] == 2 and manager.is_connected)
        assert manager.status().failed_attempts == 0
        assert gateway.summary()["swallowed"] == {}
