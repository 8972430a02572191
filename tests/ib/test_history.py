import contextlib
import sqlite3
from datetime import UTC, datetime

import pytest

from ktrdr.ib.expected_outages import Disconnection
from ktrdr.ib.history import (
    KEPT_S,
    NOT_RUNNING,
    ROWS_MAX,
    ConnectionHistory,
    disconnections,
    lost_at,
    shares,
    uptime,
)
from ktrdr.ipc.messages import StateSpan

DAY = 86400


def at(time_s):
    return datetime.fromtimestamp(time_s, UTC)


def seconds(spans):
    return [(span.start.timestamp(), span.end.timestamp(), span.state) for span in spans]


def span(start, end, state, why=""):
    return StateSpan(at(start), at(end), state, why)


@pytest.fixture
def path(scratch):
    return scratch / "store" / ".ktrdr" / "connection-live.sqlite"


@pytest.fixture
def open_history(path):
    """`open_history(now)`: the history as a run that begins then has it. It ends with the test."""
    opened = []

    def open_(now):
        opened.append(ConnectionHistory(path, now))
        return opened[-1]

    yield open_
    for history in opened:
        history.close(0)


def test_states_are_spans_that_leave_no_holes(open_history):
    history = open_history(1000)
    history.note(1000, "connecting", "start")
    history.note(1002, "connected", "answered")
    history.note(1500, "dead", "nothing was answered")
    assert history.spans(at(0), at(1600)) == [
        span(1000, 1002, "connecting", "start"),
        span(1002, 1500, "connected", "answered"),
        span(1500, 1600, "dead", "nothing was answered"),
    ]
    assert history.spans(at(1400), at(1550)) == [
        span(1400, 1500, "connected", "answered"),
        span(1500, 1550, "dead", "nothing was answered"),
    ]


def test_nothing_is_known_before_the_beginning(open_history):
    history = open_history(1000)
    assert history.spans(at(0), at(2000)) == []
    assert uptime([]) is None


def test_the_next_run_finds_it(open_history):
    first = open_history(1000)
    first.note(1000, "connected", "")
    first.close(1100)
    second = open_history(1500)
    second.note(1500, "connected", "")
    assert [
        (s.start.timestamp(), s.end.timestamp(), s.state) for s in second.spans(at(0), at(1600))
    ] == [
        (1000, 1100, "connected"),
        (1100, 1500, NOT_RUNNING),
        (1500, 1600, "connected"),
    ]


def test_a_killed_run_counts_until_it_was_seen_last(open_history):
    killed = open_history(1000)
    killed.note(1000, "connected", "")
    killed.note_alive(1060)
    next_run = open_history(5000)
    next_run.note(5000, "connecting", "")
    assert [
        (s.start.timestamp(), s.end.timestamp(), s.state) for s in next_run.spans(at(0), at(5001))
    ] == [
        (1000, 1060, "connected"),
        (1060, 5000, NOT_RUNNING),
        (5000, 5001, "connecting"),
    ]


def test_uptime_is_the_share_in_which_bars_could_be_had():
    spans = [
        span(0, 60, "connected"),
        span(60, 70, "dead"),
        span(70, 80, "farm_down"),
        span(80, 100, NOT_RUNNING),
    ]
    assert uptime(spans) == 0.7


def test_each_slice_of_time_has_its_share():
    spans = [span(10, 25, "connected"), span(25, 30, "dead"), span(30, 40, NOT_RUNNING)]
    assert shares(spans, at(0), at(50), 5) == [None, 1.0, 0.5, 0.0, None]
    assert shares([], at(0), at(50), 2) == [None, None]
    assert shares(spans, at(20), at(20), 2) == [1.0, 1.0]  # shorter than a microsecond each


def test_outages_are_losses_and_not_the_programs_own_pauses():
    spans = [
        span(0, 5, "connecting"),
        span(5, 60, "connected"),
        span(60, 61, "waiting"),
        span(61, 150, "connecting"),
        span(150, 200, "connected"),
        span(200, 210, "waiting"),
        span(210, 300, NOT_RUNNING),
        span(300, 400, "connected"),
        span(400, 500, "dead"),
    ]
    assert disconnections(spans) == [Disconnection(at(60), at(150))]
    farm = [span(0, 9, "connected"), span(9, 60, "history_down"), span(60, 70, "connected")]
    assert disconnections(farm) == []
    assert lost_at(spans) == at(400)
    assert lost_at(spans[:5]) is None
    assert lost_at(spans[:1]) is None


def test_what_is_older_than_thirty_days_goes_but_for_how_they_began(open_history):
    history = open_history(0)
    history.note(0, "connected", "")
    history.note(5 * DAY, "dead", "")
    history.note(6 * DAY, "connected", "")
    history.note(5 * DAY + KEPT_S + 100, "dead", "")
    assert [s.state for s in history.spans(at(0), at(40 * DAY))] == ["dead", "connected", "dead"]


def test_a_connection_that_flaps_for_weeks_does_not_fill_the_disk(path, open_history):
    history = open_history(0)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        rows = ((second / 10, "dead", "x") for second in range(ROWS_MAX + 500))
        db.executemany("INSERT INTO states VALUES (?, ?, ?)", rows)
    history.note(1e6, "connected", "")
    assert len(history.spans(at(0), at(2e6))) == ROWS_MAX
    assert history.spans(at(0), at(2e6))[-1].state == "connected"


def test_a_file_that_is_no_database_is_put_aside(path, open_history, caplog):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, whatever it is" * 100)
    history = open_history(0)
    history.note(1, "connected", "")
    assert [s.state for s in history.spans(at(0), at(2))] == ["connected"]
    assert path.with_suffix(".broken").exists()
    assert "put aside" in caplog.text


def test_a_disk_that_refuses_is_reported_once_and_costs_nothing_else(path, open_history, caplog):
    path.parent.mkdir(parents=True)
    path.mkdir()  # a folder where the file should be
    history = open_history(0)
    history.note(1, "connected", "")
    history.note(2, "dead", "")
    assert history.spans(at(0), at(3)) == []
    assert caplog.text.count("cannot be kept") == 1
    path.rmdir()
    history.note(4, "connected", "")
    assert [s.state for s in history.spans(at(0), at(5))] == ["connected"]


def test_after_its_end_nothing_is_written(open_history):
    history = open_history(0)
    history.note(1, "connected", "")
    history.close(2)
    history.note(3, "dead", "")
    assert [s.state for s in open_history(4).spans(at(0), at(5))] == ["connected", NOT_RUNNING]
