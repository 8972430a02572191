"""Whoever is killed and whatever fails: no row is lost or changed, and none is read in part.

`--kills 500` is the long torture (`scripts/torture`).
"""

import multiprocessing
import random
import runpy
import signal
import time
from collections import Counter, defaultdict, deque
from contextlib import suppress
from statistics import median

import pytest

from ktrdr.store.csv_store import CsvStore
from tests.store import torture
from tests.store.torture import FIRST, MODES, NEWLINES, READERS, SERIES, Book, Judge


class Torture:
    """A store, its readers, and one writer after another."""

    def __init__(self, scratch, data_dir, seed: int) -> None:
        self.folder = data_dir
        self.rng = random.Random(seed)
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([CsvStore.__module__])
        self._book_path = scratch / "book"
        self._book = Book(self._book_path)
        torture.make_store(data_dir, self._book, self.rng)
        self._judge = Judge(data_dir)
        self._checked: dict[int, object] = {}
        self._times: dict[tuple[object, ...], deque[float]] = defaultdict(lambda: deque(maxlen=20))
        """How long adds took: those of a system, and of each kind of add on it."""
        self.counts: Counter[str] = Counter()
        self._readers = [
            self._process("read", data_dir, self._book_path, number) for number in range(READERS)
        ]
        for reader in self._readers:
            reader.start()

    def _process(self, program: str, *given):
        arguments = (torture.__file__, {"GIVEN": given}, program)
        return self._processes.Process(target=runpy.run_path, args=arguments)

    def kill_one(self, system: str) -> None:
        """A writer's life: some adds, and its end within one more. Then what must be true."""
        receive, tell = self._processes.Pipe(duplex=False)
        arguments = (self.folder, self._book_path, tell, self.rng.getrandbits(32), system)
        writer = self._process("write", *arguments)
        writer.start()
        tell.close()
        kind = None
        with suppress(EOFError):  # it has failed, as its exit code shows
            # One at the least, to know how long they take.
            for _ in range(max(self.rng.randint(0, 4), not self._times[system,])):
                job = receive.recv()
                began = time.perf_counter()
                receive.recv()
                for which in ((system,), (system, *job)):
                    self._times[which].append(time.perf_counter() - began)
                self.counts["adds"] += 1
            kind, *_ = job = receive.recv()
            times = self._times[system, *job] or self._times[system,]
            receive.poll(self.rng.uniform(0, 1.2) * median(times))
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        self.counts["kills"] += 1
        self._after_kill(kind)

    def _after_kill(self, kind) -> None:
        left = torture.left_over(self.folder)
        torn = [s for s in SERIES if not (self.folder / s.file_name).read_bytes().endswith(b"\n")]
        flying = [file for file in range(len(SERIES)) if self._book.flight[file].any()]
        self.counts["left-over files"] += len(left)
        self.counts["torn last lines"] += len(torn)
        self.counts["within an add"] += bool(flying)
        for file in range(len(SERIES)):
            self._check(file, kind)
        if self.rng.random() < 0.3:
            return  # the next writer finds it as it is, and may be killed while it removes it
        store = CsvStore(self.folder, indexed=True)
        store.clear_leftovers()
        assert torture.left_over(self.folder) == []
        for file in {*flying, self.rng.randrange(len(SERIES))}:
            self._go_on(store, file)
        store.close()

    def _check(self, file: int, kind) -> None:
        """What was acknowledged is there, and what was being written wholly or not."""
        path = self.folder / SERIES[file].file_name
        status = path.stat()
        assert status.st_mode & 0o777 == MODES[file]
        key = (status.st_size, status.st_mtime_ns, status.st_ino)
        flight = self._book.flight[file]
        if self._checked.get(file) == key and not flight.any():
            return
        seen = self._judge.versions(torture.lines_of(path.read_bytes(), NEWLINES[file]))
        acked, flies = self._book.acked[file], flight > 0
        assert (seen[~flies] == acked[~flies]).all(), f"{path.name}: rows are lost or changed"
        is_new = seen[flies] == flight[flies]
        assert (is_new | (seen[flies] == acked[flies])).all(), f"{path.name}: rows of nobody"
        if flies.any():
            assert torture.whole_or_not(kind, flight[flies], seen[flies])
        acked[:] = seen
        flight[:] = 0
        self._checked[file] = key

    def _go_on(self, store: CsvStore, file: int) -> None:
        """The next add after the start."""
        _, slots = torture.plan(self.rng, self._book.acked[file])
        version = self._book.new_version()
        self._book.begin(file, slots, version)
        bars = [torture.bar(slot, version) for slot in slots]
        store.add(SERIES[file], bars, correct=True)
        self._book.acknowledge(file, slots, version)
        assert (self.folder / SERIES[file].file_name).read_bytes().endswith(b"\n")
        assert torture.left_over(self.folder) == []
        self._check(file, None)
        there = self._book.acked[file].nonzero()[0]
        assert ((store.contents(SERIES[file], 0).starts - FIRST) // 60).tolist() == there.tolist()

    def end(self) -> None:
        self._book.end()
        for reader in self._readers:
            reader.join(60)
            reader.kill()

    def summary(self) -> str:
        assert [reader.exitcode for reader in self._readers] == [0] * READERS
        self.counts["reads"] = sum(int(self._book.counter(number)[0]) for number in range(READERS))
        self.counts["refusals"] = int(self._book.counter(READERS)[0])
        return ", ".join(f"{count} {what}" for what, count in self.counts.items())


@pytest.fixture
def tortured(scratch, data_dir):
    tortured = Torture(scratch, data_dir, seed=6)
    yield tortured
    tortured.end()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("systems", [("sound", "slow"), ("failing",)], ids=["kills", "faults"])
def test_no_row_is_lost_or_changed_or_read_in_part(tortured, systems, request, capsys):
    count, began = request.config.getoption("--kills"), time.monotonic()
    for number in range(count):
        tortured.kill_one(systems[number % len(systems)])
    tortured.end()
    summary = tortured.summary()
    assert tortured.counts["within an add"] > count / 2
    with capsys.disabled():
        print(f"\n{' and '.join(systems)}: {summary}, in {time.monotonic() - began:.0f} s")  # noqa: T201  what the long torture is run for
