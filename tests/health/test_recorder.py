from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from ktrdr.health.recorder import FILE, Recorder
from ktrdr.health.system import System
from ktrdr.health.usage import restarts_of
from tests.played_peers import SERIES

T = 1_795_000_000


class Clock:
    now = float(T)

    def __call__(self):
        return self.now


def until(true: Callable[[], object], patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def system(settings, run_dir):
    return System(settings, run_dir / "supervisor.sock", own="status-app")


@pytest.fixture
def new_recorder(system, run_dir, clock):
    """A recorder as after a start of the status app."""

    with contextlib.ExitStack() as stack:

        def make():
            recorder = Recorder(system, run_dir / FILE, clock)
            stack.callback(recorder.close)
            recorder.load()
            return recorder

        yield make


@pytest.mark.usefixtures("peers")
def test_a_sample_has_the_memory_of_this_process_and_its_cpu_from_the_second_on(
    new_recorder, clock
):
    recorder = new_recorder()
    recorder.step()
    [first] = recorder.usage.samples
    assert first.at == T
    assert first.loads["status-app"].rss_bytes > 10 * 2**20
    assert first.loads["status-app"].cpu_percent is None

    before_s, begun = sum(os.times()[:2]), time.monotonic()
    while sum(os.times()[:2]) - before_s < 0.6 or time.monotonic() - begun < 0.6:
        pass  # longer than a measurement is taken for new
    clock.now += 60
    recorder.step()
    assert 0.9 <= recorder.usage.samples[1].loads["status-app"].cpu_percent < 20


def test_the_pace_is_recorded(system, new_recorder, peers, clock, connected, filling):
    recorder = new_recorder()
    recorder.step()
    peers.connection = replace(connected, requests_answered=connected.requests_answered + 120)
    peers.gap_filler = replace(filling, bars_added=filling.bars_added + 30)
    clock.now += 60
    until(lambda: system.snapshot().connection.content.requests_answered == 48333)
    until(lambda: system.snapshot().gap_filler.content.bars_added == 184263)
    recorder.step()
    pace = recorder.usage.samples[-1].pace
    assert (pace.in_flight, pace.requests_per_s, pace.bars_per_s) == (2, 2.0, 0.5)


@pytest.mark.usefixtures("peers")
def test_a_restart_forgets_nothing(new_recorder, clock):
    before = new_recorder()
    before.step()
    clock.now += 60
    before.step()
    after = new_recorder()
    assert after.usage == before.usage
    assert len(after.usage.samples) == 2
    assert after.known == before.known
    assert [one.symbol for one in after.known.series] == ["AAPL"]
    assert after.known.grid.series[0].row == "cc!.c"
    assert after.known.at.timestamp() == T


@pytest.mark.usefixtures("peers")
def test_another_process_of_a_program_is_a_restart(new_recorder, clock):
    recorder = new_recorder()
    recorder.step()
    real = recorder.usage.starts["status-app"]
    recorder.usage = replace(recorder.usage, starts={"status-app": (real[0] - 500,)})
    clock.now += 60
    recorder.step()
    assert restarts_of(new_recorder().usage, "status-app") == real


def test_what_was_known_stays_when_the_gap_filler_is_gone(system, new_recorder, peers, clock):
    recorder = new_recorder()
    recorder.step()
    known = recorder.known
    peers.gap_filler = {"nonsense": True}
    clock.now += 1000
    until(lambda: system.snapshot().gap_filler.content is None)
    recorder.step()
    assert recorder.known == known
    assert new_recorder().known == known


def test_what_a_store_holds_is_requested_again_in_a_minute_until_all_is_assessed(
    system, new_recorder, peers, clock
):
    """The first seconds of a group must not be what is shown of it minutes later."""
    assessed = peers.coverage
    peers.coverage = {"series": [SERIES | {"state": "waiting", "expected": None}]}
    recorder = new_recorder()
    recorder.step()
    assert [one.state for one in recorder.known.series] == ["waiting"]
    peers.coverage = assessed
    until(lambda: system.peers.series().content[0].state == "filling")
    recorder.step()
    assert [one.state for one in recorder.known.series] == ["waiting"]
    clock.now += 60
    recorder.step()
    assert [one.state for one in recorder.known.series] == ["filling"]
    peers.coverage = {"series": []}
    until(lambda: system.peers.series().content == [])
    clock.now += 60
    recorder.step()
    assert [one.state for one in recorder.known.series] == ["filling"]


@pytest.mark.usefixtures("peers")
def test_what_a_store_holds_is_not_known_before_its_first_scan(new_recorder, peers, filling):
    peers.gap_filler = replace(filling, last_scan_time=None)
    recorder = new_recorder()
    recorder.step()
    assert recorder.known is None


def test_the_first_scan_is_known_within_seconds(new_recorder, peers, filling):
    """The next sample is a minute away."""
    peers.gap_filler = replace(filling, last_scan_time=None)
    recorder, stop = new_recorder(), threading.Event()
    running = threading.Thread(target=recorder.run, args=(stop,))
    running.start()
    try:
        until(lambda: recorder.usage.samples)
        peers.gap_filler = filling
        until(lambda: recorder.known)
        assert len(recorder.usage.samples) == 1
    finally:
        stop.set()
        running.join()
    assert new_recorder().known == recorder.known


@pytest.mark.usefixtures("peers")
def test_a_file_that_is_no_database_is_put_aside(new_recorder, run_dir):
    (run_dir / FILE).write_bytes(b"no database" * 1000)
    new_recorder().step()
    assert len(new_recorder().usage.samples) == 1


@pytest.mark.usefixtures("peers")
def test_without_a_file_it_records_in_memory_and_says_so_once(new_recorder, run_dir, clock, caplog):
    (run_dir / FILE).mkdir()
    recorder = new_recorder()
    with caplog.at_level(logging.WARNING):
        recorder.step()
        clock.now += 60
        recorder.step()
    assert len(recorder.usage.samples) == 2
    assert [line for line in caplog.messages if "a restart will forget" in line] == [
        caplog.messages[0]
    ]


@pytest.mark.usefixtures("peers")
def test_it_ends_at_once_when_it_is_to_stop(new_recorder):
    recorder, stop = new_recorder(), threading.Event()
    stop.set()
    recorder.run(stop)
    assert len(recorder.usage.samples) == 1
