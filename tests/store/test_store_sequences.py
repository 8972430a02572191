"""Whatever is done to a bar file, by us and by others, in whatever order: it is what it should be.

The model is a dictionary, start → line, and what follows the last line that ends.
"""

import os
import shutil
import tempfile
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ktrdr.errors import StoreUnwritable
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import line, utc
from tests.store.children import in_a_child

HEADER = "timestamp,open,high,low,close,volume\n"
AAPL = Series("AAPL", Timeframe.M1)
FIRST = utc("2026-11-20 14:30")
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""No disk is waited for, where there is such a folder."""
SLOTS = st.integers(0, 60)
STARTS = SLOTS.map(lambda slot: FIRST + 60 * slot)
PRICES = st.sampled_from([1.0, 228.06, 0.1 + 0.2, 1e-05])
VOLUMES = st.sampled_from([0, 7, 41200, 123456789])
BARS = st.builds(
    lambda start, price, volume: Bar(start, *[price] * 4, volume), STARTS, PRICES, VOLUMES
)
ADDED = st.lists(BARS, min_size=1, max_size=12, unique_by=lambda bar: bar.start)
CALLS = [
    "chmod", "chown", "close", "copy_file_range", "fdatasync", "fstat", "fsync", "ftruncate",
    "mkdir", "open", "pread", "readlink", "rename", "replace", "stat", "symlink",
    "unlink", "utime", "write",
]  # fmt: skip
"""All of the system that a change of a file may need."""


class BarFileMachine(RuleBasedStateMachine):
    """One series of one store."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ktrdr-", dir=IN_MEMORY))
        self.path = self.folder / AAPL.file_name
        self.store = CsvStore(self.folder, indexed=True)
        self.rows: dict[int, str] = {}
        self.tail = ""
        self.touches = 0
        self.begun = ""
        """The first row that we were about to append when we were killed last."""

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    # What the file should be.

    @property
    def starts(self) -> list[int]:
        return sorted(self.rows)

    def text(self) -> str:
        return HEADER + "".join(self.rows[start] for start in self.starts) + self.tail

    @property
    def is_marked(self) -> bool:
        """We were killed while we appended: what has no end there has never been whole.

        Not if what is there begins as another row: then another program has written it.
        """
        note = self.note().split()
        if not note or note[0].startswith(("-", "~")):
            return False
        inode, place, size = map(int, note[:3])
        whole = len(self.text()) - len(self.tail)
        is_there = inode in (0, self.path.stat().st_ino) and place <= whole < place + size
        minute = self.text()[place : place + len("2026-11-20 14:30")]
        return is_there and self.begun.startswith(minute)

    def note(self) -> str:
        """What our lock's file says."""
        mark = self.folder / ".ktrdr" / "locks" / f"{AAPL}.lock"
        return mark.read_text() if mark.exists() else ""

    def put(self, bars: list[Bar], *, correct: bool) -> int:
        """Do to the model what `add` does to a file."""
        whole = self.whole_tail()
        if whole is not None:
            self.rows[whole], self.tail = self.tail + "\n", ""
        new = [bar for bar in bars if bar.start not in self.rows]
        changes = bars if correct else new
        if changes or self.is_marked:
            self.tail = ""
        self.rows |= {bar.start: line(bar) for bar in changes}
        return len(new)

    def whole_tail(self) -> int | None:
        """The start of a last row that lacks only its end, as somebody else may have left it."""
        fields = self.tail.split(",")
        if self.is_marked or len(fields) != 6 or not fields[5]:
            return None
        start = utc(fields[0].removesuffix("+00:00"))
        return start if not self.rows or start > self.starts[-1] else None

    # What we do.

    @initialize(bars=st.lists(BARS, max_size=12, unique_by=lambda bar: bar.start))
    def begin(self, bars) -> None:
        self.rows = {bar.start: line(bar) for bar in bars}
        self.path.write_text(self.text())

    @rule(bars=ADDED, correct=st.booleans())
    def add(self, bars, correct) -> None:
        expected = self.put(bars, correct=correct)
        self.let_time_pass()
        try:
            added = self.store.add(AAPL, bars, correct=correct)
        except StoreUnwritable:  # a copy was made of it just now, and who writes to it may go on
            self.let_time_pass()
            added = self.store.add(AAPL, bars, correct=correct)
        assert added == expected

    def let_time_pass(self) -> None:
        """Nobody is still writing the last line."""
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            self.another_program_touches_it(is_coarse=False)

    @rule(gap=st.integers(1, 3), count=st.integers(1, 10), volume=VOLUMES)
    def append(self, gap, count, volume) -> None:
        self.add(self.behind(gap, count, volume), correct=False)

    def behind(self, gap: int, count: int, volume: float) -> list[Bar]:
        last = max(self.starts, default=FIRST)
        return [Bar(last + 60 * (gap + i), 5.5, 5.5, 5.5, 5.5, volume + i) for i in range(count)]

    @rule(since=STARTS)
    def look(self, since) -> None:
        seen = self.store.contents(AAPL, since)
        starts = self.starts
        assert [t for t in seen.starts.tolist() if t >= since] == starts[
            bisect_left(starts, since) :
        ]
        assert [t for t in starts if t >= seen.since] == seen.starts.tolist()
        assert (seen.first, seen.last) == ((starts[0], starts[-1]) if starts else (None, None))

    @rule()
    def verify(self) -> None:
        assert self.store.verify(AAPL).starts.tolist() == self.starts

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = CsvStore(self.folder, indexed=True)

    # What others do.

    @rule(bar=BARS)
    @precondition(lambda self: not self.tail)
    def another_program_appends_a_row(self, bar) -> None:
        if not self.rows or bar.start > self.starts[-1]:
            self.rows[bar.start] = line(bar)
            with self.path.open("a") as file:
                file.write(line(bar))

    @rule(place=SLOTS, digit=st.sampled_from("123456789"))
    @precondition(lambda self: self.rows)
    def another_program_edits_a_price_in_place(self, place, digit) -> None:
        start = self.starts[place % len(self.rows)]
        old = self.rows[start]
        self.rows[start] = old[:26] + digit + old[27:]
        self.edit(old, self.rows[start])

    @rule(place=SLOTS)
    @precondition(lambda self: self.rows)
    def another_program_moves_a_row_in_place(self, place) -> None:
        start = self.starts[place % len(self.rows)]
        if start + 60 not in self.rows and start + 60 != self.whole_tail():
            old = self.rows.pop(start)
            clock = line(Bar(start + 60, 1, 1, 1, 1, 1))[:25]
            self.rows[start + 60] = clock + old[25:]
            self.edit(old, self.rows[start + 60])

    def edit(self, old: str, new: str) -> None:
        place = self.path.read_text().index(old)
        with self.path.open("r+") as file:
            file.seek(place)
            file.write(new)

    @rule(place=SLOTS, is_renamed=st.booleans())
    @precondition(lambda self: self.rows)
    def another_program_removes_a_row(self, place, is_renamed) -> None:
        del self.rows[self.starts[place % len(self.rows)]]
        if is_renamed:
            other = self.folder / "other"
            other.write_text(self.text())
            other.replace(self.path)
        else:
            self.path.write_text(self.text())

    @rule(bar=BARS, length=st.integers(1, 40))
    @precondition(lambda self: not self.tail)
    def another_program_is_killed_while_it_appends(self, bar, length) -> None:
        self.tail = line(bar).removesuffix("\n")[:length]
        self.path.write_text(self.text())

    @rule()
    @precondition(lambda self: self.rows and not self.tail)
    def another_program_removes_the_last_line_end(self) -> None:
        self.tail = self.rows.pop(self.starts[-1]).removesuffix("\n")
        os.truncate(self.path, len(self.text()))

    @rule(is_coarse=st.booleans())
    def another_program_touches_it(self, is_coarse) -> None:
        """A time that no other change has: who forges one deceives us."""
        self.touches += 1
        at = 1_700_000_000 * 10**9 + self.touches * (10**9 if is_coarse else 1001)
        os.utime(self.path, ns=(at, at))

    # What kills us.

    @rule(bars=ADDED, correct=st.booleans(), call=st.integers(1, 40), share=st.floats(0, 1))
    def be_killed_while_it_adds(self, bars, correct, call, share) -> None:
        """All of it is there then, or nothing, or of an append some rows and a part of the next."""
        before, tail = dict(self.rows), self.tail
        completed = dict(before)
        if (whole := self.whole_tail()) is not None:
            completed[whole] = tail + "\n"
        states = [(before, tail), (completed, "")]
        if self.is_marked:
            states.append((before, ""))
        self.put(bars, correct=correct)
        after, note = self.rows, self.note()
        self.store.close()
        self.let_time_pass()
        code = in_a_child(lambda: self.killed(bars, correct, call, share))
        assert code in (0, KILLED)
        new = sorted(after.keys() - completed.keys())
        if new and self.note() != note:
            self.begun = after[new[0]]
        if self.path.read_text() == self.text():
            return
        assert code == KILLED
        self.read_rows()
        if (self.rows, self.tail) not in states:
            assert self.is_marked
            count = len(self.rows) - len(completed)
            assert new[0] > max(completed, default=0)
            assert self.rows == completed | {start: after[start] for start in new[:count]}
            assert after[new[count]].startswith(self.tail)

    def read_rows(self) -> None:
        content = self.path.read_text().removeprefix(HEADER)
        end = content.rfind("\n") + 1
        lines, self.tail = content[:end].splitlines(keepends=True), content[end:]
        self.rows = {utc(row[:19]): row for row in lines}
        assert lines == [self.rows[start] for start in self.starts]

    @rule(bars=st.tuples(st.integers(1, 3), st.integers(1, 10), VOLUMES), share=st.floats(0, 1))
    def be_killed_in_the_middle_of_an_append(self, bars, share) -> None:
        self.be_killed_while_it_adds(self.behind(*bars), False, None, share)

    def killed(self, bars, correct, call, share) -> None:
        die_at(call, share)
        CsvStore(self.folder, indexed=True).add(AAPL, bars, correct=correct)

    @rule()
    def start_again(self) -> None:
        if self.is_marked:
            self.tail = ""
        self.open_again()
        self.store.clear_leftovers()
        assert not self.is_marked
        assert sorted(path.name for path in self.folder.iterdir() if path.name != ".ktrdr") == [
            AAPL.file_name
        ]

    # What is true after each of them.

    @invariant()
    def it_is_what_it_should_be(self) -> None:
        if self.path.exists():
            assert self.path.read_text() == self.text()
            assert self.store.rows(AAPL).text.decode() == self.text()[len(HEADER) :].removesuffix(
                self.tail
            )

    @invariant()
    def what_is_called_verified_is_in_order(self) -> None:
        if self.path.exists() and self.store.was_verified(AAPL):
            assert self.store.contents(AAPL, 0).starts.tolist() == self.starts


KILLED = 77


def die_at(number: int | None, share: float) -> None:
    """At the call of that number the process ends, as if killed; None: when rows are written.

    What it was to write there has been written in part.
    """
    left = number

    def deadly(name: str):
        real = getattr(os, name)

        def call(*arguments, **named):
            nonlocal left
            if left is None and (name != "write" or bytes(arguments[1][:4]) != b"2026"):
                return real(*arguments, **named)
            if left is not None:
                left -= 1
            if not left:
                if name == "write":
                    file, text = arguments
                    real(file, text[: int(len(text) * share)])
                os._exit(KILLED)
            return real(*arguments, **named)

        setattr(os, name, call)

    for name in CALLS:
        if hasattr(os, name):
            deadly(name)


@pytest.mark.timeout(0)
def test_in_whatever_order_it_is_what_a_dictionary_would_be(request):
    run_state_machine_as_test(
        BarFileMachine,
        settings=settings(
            max_examples=max(25, request.config.getoption("--sequences")),
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
