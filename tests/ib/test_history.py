import contextlib
import sqlite3

import pytest

from ktrdr.ib.expected_outages import Outage
from ktrdr.ib.history import (
    KEPT_S,
    NOT_RUNNING,
    ROWS_MAX,
    ConnectionHistory,
    Span,
    lost_at,
    outages,
    shares,
    uptime,
)

DAY = 86400


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
    assert history.spans(0, 1600) == [
        Span(1000, 1002, "connecting", "start"),
        Span(1002, 1500, "connected", "answered"),
        Span(1500, 1600, "dead", "nothing was answered"),
    ]
    assert history.spans(1400, 1550) == [
        Span(1400, 1500, "connected", "answered"),
        Span(1500, 1550, "dead", "nothing was answered"),
    ]


def test_nothing_is_known_before_the_beginning(open_history):
    history = open_history(1000)
    assert history.spans(0, 2000) == []
    assert uptime([]) is None


def test_the_next_run_finds_it(open_history):
    first = open_history(1000)
    first.note(1000, "connected", "")
    first.close(1100)
    second = open_history(1500)
    second.note(1500, "connected", "")
    assert [(s.start, s.end, s.state) for s in second.spans(0, 1600)] == [
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
    assert [(s.start, s.end, s.state) for s in next_run.spans(0, 5001)] == [
        (1000, 1060, "connected"),
        (1060, 5000, NOT_RUNNING),
        (5000, 5001, "connecting"),
    ]


def test_uptime_is_the_share_in_which_bars_could_be_had():
    spans = [
        Span(0, 60, "connected"),
        Span(60, 70, "dead"),
        Span(70, 80, "farm_down"),
        Span(80, 100, NOT_RUNNING),
    ]
    assert uptime(spans) == 0.7


def test_each_slice_of_time_has_its_share():
    spans = [Span(10, 25, "connected"), Span(25, 30, "dead"), Span(30, 40, NOT_RUNNING)]
    assert shares(spans, 0, 50, 5) == [None, 1.0, 0.5, 0.0, None]
    assert shares([], 0, 50, 2) == [None, None]


def test_outages_are_losses_and_not_the_programs_own_pauses():
    spans = [
        Span(0, 5, "connecting"),
        Span(5, 60, "connected"),
        Span(60, 61, "waiting"),
        Span(61, 150, "connecting"),
        Span(150, 200, "connected"),
        Span(200, 210, "waiting"),
        Span(210, 300, NOT_RUNNING),
        Span(300, 400, "connected"),
        Span(400, 500, "dead"),
    ]
    assert outages(spans) == [Outage(60, 150)]
    farm = [Span(0, 9, "connected"), Span(9, 60, "history_down"), Span(60, 70, "connected")]
    assert outages(farm) == []
    assert lost_at(spans) == 400
    assert lost_at(spans[:5]) is None
    assert lost_at(spans[:1]) is None


def test_what_is_older_than_thirty_days_goes_but_for_how_they_began(open_history):
    history = open_history(0)
    history.note(0, "connected", "")
    history.note(5 * DAY, "dead", "")
    history.note(6 * DAY, "connected", "")
    history.note(5 * DAY + KEPT_S + 100, "dead", "")
    assert [s.state for s in history.spans(0, 40 * DAY)] == ["dead", "connected", "dead"]


def test_a_connection_that_flaps_for_weeks_does_not_fill_the_disk(path, open_history):
    history = open_history(0)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        rows = ((second / 10, "dead", "x") for second in range(ROWS_MAX + 500))
        db.executemany("INSERT INTO states VALUES (?, ?, ?)", rows)
    history.note(1e6, "connected", "")
    assert len(history.spans(0, 2e6)) == ROWS_MAX
    assert history.spans(0, 2e6)[-1].state == "connected"


def test_a_file_that_is_no_database_is_put_aside(path, open_history, caplog):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, whatever it is" * 100)
    history = open_history(0)
    history.note(1, "connected", "")
    assert [s.state for s in history.spans(0, 2)] == ["connected"]
    assert path.with_suffix(".broken").exists()
    assert "put aside" in caplog.text


def test_a_disk_that_refuses_is_reported_once_and_costs_nothing_else(path, open_history, caplog):
    path.parent.mkdir(parents=True)
    path.mkdir()  # a folder where the file should be
    history = open_history(0)
    history.note(1, "connected", "")
    history.note(2, "dead", "")
    assert history.spans(0, 3) == []
    assert caplog.text.count("cannot be kept") == 1
    path.rmdir()
    history.note(4, "connected", "")
    assert [s.state for s in history.spans(0, 5)] == ["connected"]


def test_after_its_end_nothing_is_written(open_history):
    history = open_history(0)
    history.note(1, "connected", "")
    history.close(2)
    history.note(3, "dead", "")
    assert [s.state for s in open_history(4).spans(0, 5)] == ["connected", NOT_RUNNING]
