"""Three programs that record bars in their own ways, each into a file that we splice meanwhile.

`python tests/store/recorders.py` does it for ten minutes, beside 200 splices, and tells what was
lost.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from ktrdr.errors import StoreUnwritable
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.time_spelling import spell_time

HEADER = "timestamp,open,high,low,close,volume,note\n"
FIRST = 1_700_000_000 // 60 * 60
_BEFORE = 20_000
"""So many minutes before the recorders' are for us."""
_PAUSE_S = 0.1

OPEN = """
with open(path, "a", buffering=1) as file:
    for row in rows():
        file.write(row)
"""
EACH = """
for row in rows():
    with open(path, "a") as file:
        file.write(row)
"""
HALVES = """
import random
with open(path, "a") as file:
    for row in rows():
        cut = random.randrange(1, len(row))
        file.write(row[:cut]); file.flush()
        time.sleep(pause / 2)
        file.write(row[cut:]); file.flush()
"""
KINDS = {"OPEN": OPEN, "EACH": EACH, "HALVES": HALVES}
_BEGIN = """
import sys, time
path, first, seconds, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
def rows():
    end, start = time.monotonic() + seconds, first
    while time.monotonic() < end:
        text = time.strftime("%Y-%m-%d %H:%M:%S+00:00", time.gmtime(start))
        yield f"{text},1,1,1,1,1,mine\\n"
        print(start, flush=True)
        start += 60
        time.sleep(pause)
"""


@dataclass
class Told:
    """What became of the recorders' rows."""

    splices: int = 0
    written: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    """The rows that are not in their file."""


def beside(folder: Path, seconds: float, splices: int) -> Told:
    """Let the recorders write for so long, and make so many splices into each of their files."""
    paths = {kind: folder / f"{kind}_1m.csv" for kind in KINDS}
    for path in paths.values():
        path.write_text(f"{HEADER}{spell_time(FIRST - 60 * _BEFORE)},1,1,1,1,1,first\n")
    with contextlib.ExitStack() as stack:
        programs = {
            kind: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _BEGIN + program,
                     *map(str, (paths[kind], FIRST, seconds, _PAUSE_S))],
                    stdout=subprocess.PIPE, text=True,
                )
            )
            for kind, program in KINDS.items()
        }  # fmt: skip
        told = Told(splices=splice(folder, seconds, splices))
        for kind, program in programs.items():
            starts = program.communicate()[0].split()
            assert program.returncode == 0
            told.written[kind] = len(starts)
            wanted = [f"{spell_time(int(start))},1,1,1,1,1,mine" for start in starts]
            with contextlib.closing(CsvStore(folder, indexed=True)) as store:
                store.scan()
                there = set(paths[kind].read_text().splitlines())
                store.verify(parse_series(paths[kind].name))
            told.lost += [f"{kind} {row}" for row in wanted if row not in there]
    return told


def splice(folder: Path, seconds: float, splices: int) -> int:
    """Add bars before the recorders' rows, and at times where they are; how often into each."""
    chance, store, done = random.Random(7), CsvStore(folder), 0
    began = time.monotonic()
    for number in range(splices):
        time.sleep(max(began + seconds * number / splices - time.monotonic(), 0))
        for kind in KINDS:
            series = parse_series(f"{kind}_1m.csv")
            last = int(store.rows(series).starts[-1])
            before = FIRST - 60 * chance.randrange(1, _BEFORE)
            among_theirs = last - 60 * chance.randrange(20)
            for start in (before, among_theirs):
                while True:
                    try:
                        store.add(series, [Bar(start, 2.0, 2.0, 2.0, 2.0, 2.0)])
                        break
                    except StoreUnwritable:  # it says that it is tried again
                        time.sleep(0.1)
        done += 1
    return done


def main() -> None:
    """Do it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--splices", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
        told = beside(Path(scratch), 60 * options.minutes, options.splices)
    written = ", ".join(f"{kind} {count}" for kind, count in told.written.items())
    lines = [f"{told.splices} splices into each; rows: {written}; lost: {len(told.lost)}"]
    sys.stdout.write("\n".join([*lines, *told.lost[:20], ""]))
    sys.exit(bool(told.lost))


if __name__ == "__main__":
    main()
