"""Requests of series that are slow to fill: sent as soon as there is room, each bar once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest

from ktrdr.gap_filler.gap_filler import GapFiller
from tests.fake_connection import FakeConnection, coverage_of, utc

PAIRS = ["AUDUSD", "EURUSD", "GBPUSD", "NZDUSD", "USDCAD"]
ALL = 10_000
DAYS = 90
"""Nineteen requests for minutes: those of all pairs together are more than may be in flight."""


class SlowConnection(FakeConnection):
    """Answers a request for bars when it is told to, one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = threading.Semaphore(0)
        self.answered: list[str] = []
        """The symbols of the requests for bars that were answered."""

    def _bars(self, query: dict[str, str]) -> dict:
        found = super()._bars(query)
        self.turns.acquire()
        self.answered.append(query["symbol"])
        return found

    @contextlib.contextmanager
    def in_the_end(self) -> Iterator[None]:
        """Let no thread wait when the block has ended."""
        try:
            yield
        finally:
            self.turns.release(ALL)

    def spans(self, symbol: str) -> list[tuple[int, int]]:
        """The intervals requested of a symbol, oldest first."""
        return sorted((start, end) for one, _, start, end in self.requested if one == symbol)


@pytest.fixture
def connection():
    return SlowConnection()


def test_a_series_that_waits_for_slow_answers_requests_more_when_there_is_room(
    make_settings, connection, clock, put, wait_for
):
    for pair in PAIRS:
        put(f"{pair}_1m")
    clock.now = utc("2026-11-21 12:00")  # a Saturday, long after the last bar
    filler = GapFiller(make_settings(ktrdr_gap_max_age_days=DAYS), connection, clock)

    def all_have_begun() -> bool:
        filler.step()
        return all(connection.spans(pair) for pair in PAIRS)

    with contextlib.closing(filler), connection.in_the_end():
        wait_for(all_have_begun, 40)
        filler.step()  # it waits for answers, so that each request has been sent
        sent = {pair: len(connection.spans(pair)) for pair in PAIRS}

        def one_has_requested_more() -> bool:
            connection.turns.release()
            filler.step()  # it has an answer
            filler.step()  # it waits for the next one
            unanswered = set(PAIRS) - set(connection.answered)
            return any(len(connection.spans(pair)) > sent[pair] for pair in unanswered)

        wait_for(one_has_requested_more, 40)
        connection.turns.release(ALL)
        wait_for(lambda: not filler.step(), 60)
    states = [one["state"] for one in coverage_of(filler)["series"]]
    assert states == ["complete"] * len(PAIRS)
    for pair in PAIRS:
        assert all(one[1] <= following[0] for one, following in pairwise(connection.spans(pair)))
