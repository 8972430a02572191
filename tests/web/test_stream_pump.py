"""ktrdr/web/stream_pump.py with answers that say themselves whether they have room."""

from __future__ import annotations

import pytest

from ktrdr.data.following import Following
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from ktrdr.web.event_stream import EventStream
from ktrdr.web.stream_pump import StreamPump
from tests.fake_connection import price, utc

FIRST = utc("2026-11-18 10:00")
AAPL = Series("AAPL", Timeframe.M1)


class Answer:
    """An answer to a client that takes what it is told to take."""

    def __init__(self):
        self.changed = lambda: None
        self.is_open = self.has_room = True
        self.sent = b""

    def send(self, content):
        self.sent += content

    def end(self):
        self.is_open = False


@pytest.fixture
def store(data_dir):
    store = CsvStore(data_dir)
    store.create(AAPL)
    return store


def test_it_sends_when_there_is_room_again(store, wait_for):
    pump, answer = StreamPump(store.folder), Answer()
    answer.has_room = False
    store.add(AAPL, [price(FIRST)])
    pump.add(EventStream(Following(store, {AAPL: FIRST})), answer)
    other = Answer()
    pump.add(EventStream(Following(store, {AAPL: FIRST})), other)
    wait_for(lambda: b"2026-11-18" in other.sent)
    assert answer.sent == b""
    answer.has_room = True
    answer.changed()
    wait_for(lambda: b"2026-11-18" in answer.sent)
    answer.is_open = other.is_open = False
    other.changed()


def test_a_stream_that_fails_ends_and_the_others_go_on(store, wait_for, caplog):
    pump, answer, other = StreamPump(store.folder), Answer(), Answer()
    pump.add(None, answer)
    pump.add(EventStream(Following(store, {AAPL: FIRST})), other)
    wait_for(lambda: not answer.is_open)
    store.add(AAPL, [price(FIRST)])
    wait_for(lambda: b"2026-11-18" in other.sent)
    assert "a stream was ended" in caplog.text
    other.is_open = False
    other.changed()


def test_where_nothing_happens_a_comment_shows_that_it_is_there(store, wait_for):
    pump, answer = StreamPump(store.folder, heartbeat_s=0), Answer()
    pump.add(EventStream(Following(store, {AAPL: FIRST})), answer)
    wait_for(lambda: answer.sent.startswith(b":\n\n"))
    answer.is_open = False
    answer.changed()
