"""A gateway that lies at random for up to a day, then tells the truth: nothing false is believed.

`--lies 10000` is the long drill (`scripts/drill lies`).
"""

import contextlib
import itertools
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ktrdr.sim.market.market import GeneratedMarket
from tests.fake_connection import DAY, LENGTHS, coverage_of, line
from tests.simulated_group import NOW, Group

SPEED = 100.0
HOUR = 3600
SERIES = (
    "AAPL_1m AAPL_5m AAPL_1d ILLIQ_5m EURUSD_1h EURUSD_15m FRESH_1d FRESH_1h "
    "KO_5m KO_4h MSFT_15m SPY_5m"
).split()
"""Liquid ones, one with few trades, one around the clock, one not listed for long."""
SETTLE_S = 600
"""What ended so lately may be on its way."""
HEALING_S = [0, HOUR, 6 * HOUR, 12 * HOUR, DAY + HOUR, 2 * DAY, 3 * DAY + 2 * HOUR, 5 * DAY]
"""When it is looked at after the last lie; at the end everything is there, and known to be."""

AGAIN = 12
"""Hours more, for answers that came too late just then."""

RATE = st.one_of(st.just(0.2), st.integers(0, 19).map(lambda less: (20 - less) / 100))


def at_a_rate(name, **values):
    """A lie that is told for some of the questions."""
    chosen = {key: st.sampled_from(several) for key, several in values.items()}
    return st.tuples(st.just(name), st.fixed_dictionaries(chosen | {"rate": RATE}))


LIE = st.one_of(
    at_a_rate(
        "false_no_data", kind=["historical_data", "schedule", "head_timestamp", "data"], symbol=[""]
    ),
    at_a_rate("cut_schedule", lost=["all", "oldest", "newest", "middle"]),
    at_a_rate("cut_bars", lost=["oldest", "newest"], share=[0.1, 0.5, 0.9]),
    at_a_rate("late_head", days=[1, 10, 400]),
    at_a_rate("false_200"),
    at_a_rate("late", seconds=[5.0, 40.0]),
    st.tuples(
        st.just("wrong_clock"),
        st.fixed_dictionaries({"seconds": st.sampled_from([-DAY, -600.0, 600.0, DAY])}),
    ),
    st.tuples(st.just("machine_clock"), st.sampled_from([-DAY, -600.0, 600.0, DAY])),
)
PAUSES = st.lists(st.sampled_from([60, 300, 301, 1800, 3600, 6 * HOUR]), min_size=3, max_size=12)
SITUATIONS = st.tuples(
    st.lists(LIE, min_size=2, max_size=8, unique_by=lambda lie: lie[0]),
    PAUSES.filter(lambda pauses: sum(pauses) <= DAY),
    st.integers(0, 2**32),
    st.booleans(),
)


class Case:
    """A store with holes that is filled from one gateway while that lies."""

    def __init__(self, group: Group):
        self.group = group
        self.market: dict[str, dict[str, int]] = {}
        """Series → row → its start, as IB has them, in their order."""
        self.starts: dict[str, list[int]] = {}
        self.seen: dict[str, tuple] = {}
        horizon = NOW + 2 * DAY + HEALING_S[-1]
        for name in SERIES:
            symbol, timeframe = name.split("_")
            market = group.market_until(symbol, timeframe, NOW - 14 * DAY, horizon)
            self.market[name] = {line(bar).rstrip("\n"): bar.start for bar in market}
            self.starts[name] = list(self.market[name].values())
            there = [bar for bar in market if NOW - 9 * DAY <= bar.start < NOW - 7 * DAY]
            group.watch(name, [] if "_1d" in name else there)

    def fill(self) -> None:
        """Until there is nothing to do, and nothing false is said meanwhile."""
        for _ in range(1000):
            is_left = self.group.filler.step()
            self.look()
            if not is_left:
                return
        raise AssertionError("it never ends")

    def look(self) -> None:
        scanned = self.group.filler.status.last_scan_time
        if scanned is None:
            return
        until = min(scanned.timestamp(), self.group.now)
        known = self.group.filler.published.counts_of(lambda _series: True)
        for entry in known.series:
            name = entry.file.removesuffix(".csv")
            if entry.state == "complete":
                assert not self.lacking(name, until), (name, entry)

    def lacking(self, name, until):
        """What IB has, is kept complete, and is not in the file, as it should be."""
        since = self.group.now - (self.group.settings.ktrdr_gap_max_age_days - 1) * DAY
        rows = self.rows(name)
        length = LENGTHS[name.split("_")[1]]
        until -= length + (DAY if "_1d" in name else SETTLE_S)
        market, starts = self.market[name], self.starts[name]
        within = bisect_left(starts, since), bisect_right(starts, until)
        wanted = itertools.islice(market.items(), *within)
        return [at for row, at in wanted if row not in rows]

    def rows(self, name):
        """Those of the file; read when it has changed."""
        path = self.group.folder / f"{name}.csv"
        key = (path.stat().st_mtime_ns, path.stat().st_size)
        if self.seen.get(name, (None,))[0] != key:
            self.seen[name] = (key, set(path.read_text().splitlines()[1:]))
        return self.seen[name][1]

    def wrong(self, name):
        """Rows that IB's market does not have."""
        return sorted(self.rows(name) - self.market[name].keys())

    def lie(self, lies, pauses, *, restarts: bool) -> None:
        for name, values in lies:
            if name == "machine_clock":
                self.group.off_s = values
            else:
                self.group.gateway.begin_fault(name, **values)
        self.fill()
        for pause_s in pauses:
            self.group.now += pause_s
            self.fill()
            if restarts:
                self.group.end_filler()
                self.group.start_filler()
        self.group.off_s = 0.0
        for name in list(self.group.gateway.faults):
            self.group.gateway.end_fault(name)

    def heal(self, wait_for) -> None:
        ended = self.group.now
        for later_s in HEALING_S:
            wait_for(lambda: self.group.manager.is_connected)
            self.group.now = ended + later_s
            self.fill()
        for _ in range(AGAIN):  # clocks run fast, so that on a busy machine a true answer is late
            if self.is_healed():
                break
            wait_for(lambda: self.group.manager.is_connected)
            self.group.now += HOUR
            self.fill()
        assert self.is_healed(), coverage_of(self.group.filler)

    def is_healed(self) -> bool:
        """All is there, and known to be; the latest quiet day of the thin one may be in doubt."""
        for name in SERIES:
            assert self.wrong(name) == []
        states = {e["file"]: e["state"] for e in coverage_of(self.group.filler)["series"]}
        del states["ILLIQ_5m.csv"]
        is_there = not any(self.lacking(name, self.group.now) for name in SERIES)
        return is_there and set(states.values()) == {"complete"}


def received(situation, make_settings, wait_for) -> Counter:
    """The lies that were told in one situation, after which everything has healed."""
    lies, pauses, seed, restarts = situation
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ktrdr-")))
        (folder / "data").mkdir()
        group = Group(
            stack,
            lambda **given: make_settings(
                **given | {"ktrdr_data_dir": folder / "data", "ktrdr_run_dir": folder / "run"}
            ),
            folder / "data",
            GeneratedMarket(seed=5),
            speed=SPEED,
            seed=seed,
            ktrdr_gap_max_age_days=12,
        )
        wait_for(lambda: group.manager.is_connected)
        case = Case(group)
        case.lie(lies, pauses, restarts=restarts)
        case.heal(wait_for)
        return Counter(group.gateway.summary()["verdicts"])


def lies_in(counted: Counter) -> int:
    """Without what every look at the clock tells."""
    return counted.total() - counted["wrong_clock"] - counted["late"]


@pytest.mark.timeout(0)
def test_whatever_it_says_nothing_is_called_complete_that_is_not(
    make_settings, wait_for, request, capsys
):
    wanted, began = request.config.getoption("--lies"), time.monotonic()
    counted, runs = Counter(), 0

    def each(situation):
        nonlocal runs
        counted.update(received(situation, make_settings, wait_for))
        runs += 1

    try:
        while lies_in(counted) < wanted:
            settings(
                max_examples=5,
                deadline=None,
                database=None,
                derandomize=False,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(given(SITUATIONS)(each))()
    finally:
        with capsys.disabled():
            print(  # noqa: T201  what the long drill is run for
                f"\n{lies_in(counted)} lies in {runs} situations, "
                f"{time.monotonic() - began:.0f} s: {dict(counted)}"
            )
