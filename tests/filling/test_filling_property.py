"""For any sessions, holes and refusals in any order: what can be had is there in the end."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ktrdr.config.settings import load_settings
from ktrdr.errors import (
    NotConnected,
    NotEntitled,
    PacingViolation,
    PeerDown,
    PeerTimedOut,
    RequestFailed,
    TimedOut,
    UnknownContract,
)
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.bars_message import BarColumns
from ktrdr.ipc.codec import from_text, to_json
from ktrdr.ipc.query import span_from_query
from tests.fake_connection import (
    DAY,
    LENGTHS,
    Inline,
    connection_status,
    coverage_of,
    line,
    price,
    utc,
)

pytestmark = pytest.mark.timeout(360)  # many runs, on a machine that does more

HEADER = "timestamp,open,high,low,close,volume\n"
FIRST, DAYS = utc("2026-11-10"), 7
NOW = FIRST + (DAYS + 1) * DAY
ERRORS = (
    RequestFailed("who knows", code=162),
    TimedOut("no answer"),
    PacingViolation("pacing violation", code=162),
    NotEntitled("not subscribed", code=354),
    UnknownContract("reset", code=200),
    PeerTimedOut("no answer on the socket"),
    PeerDown("not running"),
    NotConnected("broken"),
)


@dataclass
class Market:
    """Speaks as ib-connection does. Bars are where the sessions are, but for those it lacks."""

    timeframe: str
    sessions: list[tuple[int, int, int]]
    absent: set[int]
    refusals: list = field(default_factory=list)
    """What the next questions for bars are answered with, None: as they should be."""

    def starts(self) -> list[int]:
        length = LENGTHS[self.timeframe]
        if self.timeframe == "1d":
            found = {day for _, _, day in self.sessions}
        else:
            found = {
                t
                for opens, closes, _ in self.sessions
                for t in (opens, *range(opens - opens % length + length, closes, length))
            }
        return sorted(found - self.absent)

    def request(self, shape, method, path, timeout_s=5.0, **query):
        assert method == "GET"
        return from_text(shape, self.text(path, timeout_s, **query))

    def text(self, path, timeout_s=5.0, **query):
        return json.dumps(self.get(path, timeout_s, **query)).encode()

    def get(self, path, timeout_s=5.0, **query):
        assert timeout_s > 0
        if path == "/status":
            return to_json(connection_status())
        if path == "/head":
            return {"head": None}
        if path == "/sessions":
            start, end = span_from_query(query)
            return {"zone": "UTC", "start": start, "end": end + DAY, "sessions": self.sessions}
        if (refused := self.refusals.pop(0) if self.refusals else None) is not None:
            raise refused
        start, end = span_from_query(query)
        there = self.starts() if query["timeframe"] == self.timeframe else []
        before = [t for t in there if t < start][-5:]
        after = [t for t in there if t >= end][:5]
        return {
            "gateway": "simulated",
            "bars": to_json(BarColumns.of([price(t) for t in there if start <= t < end])),
            "invalid": [],
            "neighbours": to_json(BarColumns.of([price(t) for t in before + after])),
        }

    def abort(self):
        pass


@st.composite
def sessions(draw):
    """Up to two a day, none on some days."""
    found = []
    for number in range(DAYS):
        day = FIRST + number * DAY
        times = draw(st.lists(st.integers(0, 95), min_size=0, max_size=4, unique=True).map(sorted))
        times = times[: len(times) // 2 * 2]
        for opens, closes in zip(times[::2], times[1::2], strict=True):
            found.append((day + opens * 900, day + closes * 900, day))
    return found


@st.composite
def situations(draw):
    timeframe = draw(st.sampled_from(["1m", "5m", "1h", "1d"]))
    market = Market(timeframe, draw(sessions()), set())
    starts = market.starts()
    lacking = st.sets(st.sampled_from(starts), max_size=30) if starts else st.just(set())
    market.absent = draw(lacking)
    # Whole days that were not traded, though the exchange was open.
    for day in draw(st.sets(st.integers(0, DAYS - 1), max_size=2)):
        market.absent |= {t for t in starts if t // DAY == FIRST // DAY + day}
    there = market.starts()
    stored = set(there) - draw(st.sets(st.sampled_from(there), max_size=60)) if there else set()
    if there and draw(st.booleans()):
        stored -= set(there[draw(st.integers(0, len(there) - 1)) :])
    market.refusals = draw(st.lists(st.sampled_from([None, *ERRORS]), max_size=10))
    return market, sorted(stored)


def at_both_ends():
    """All that is stored lies between two minutes without a trade."""
    market = Market("1m", [(FIRST, FIRST + 3600, FIRST)], {FIRST, FIRST + 3540})
    return market, market.starts()


@example(at_both_ends())
@given(situations())
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=50)
def test_what_can_be_had_is_there_in_the_end_and_the_rest_is_verified_to_be_absent(situation):
    market, stored = situation
    with tempfile.TemporaryDirectory(prefix="ktrdr-") as folder:
        path = Path(folder) / f"AAPL_{market.timeframe}.csv"
        path.write_text(HEADER + "".join(line(price(t)) for t in stored))
        now = [float(NOW)]
        filler = GapFiller(
            load_settings(
                _env_file=None,
                ib_host=None,
                ktrdr_data_dir=Path(folder),
                ktrdr_run_dir=Path(folder) / "run",
                ktrdr_gap_max_age_days=60,
            ),
            market,
            lambda: now[0],
            Inline(),
        )
        for _ in range(40):
            for _ in range(200):
                if not filler.step():
                    break
            else:
                raise AssertionError("it never ends")
            now[0] += 6 * 3600  # what needs a person is tried again then
        status, gaps = filler.status, coverage_of(filler)["series"][0]["gaps"]
        filler.close()
        assert path.read_text() == HEADER + "".join(line(price(t)) for t in market.starts())
        assert status.gaps_remaining == 0
        assert set(status.unfillable) <= {"no_trades", "late", "unproven"}
        unproven = [(first, last) for first, last, _, reason in gaps if reason == "unproven"]
        left = {t for t in market.absent if any(first <= t <= last for first, last in unproven)}
        assert not left or not market.starts(), "something has been answered, so that counts"
