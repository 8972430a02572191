"""How well the time left is known after the first tenth of a fill: three fills of different length.

The yardstick is the fill itself: what was said to be left when a tenth of the bars was there, and
how long the rest really took. Prints a table and a line of JSON. `--minutes 1 5 20` take half an
hour.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_filling import HEADER, gateway, group

SATURDAY = datetime(2026, 11, 28, 15, tzinfo=UTC)
PAIRS = (
    "EURUSD USDJPY GBPUSD AUDUSD USDCAD USDCHF NZDUSD EURJPY EURGBP EURCHF GBPJPY AUDJPY CADJPY "
    "CHFJPY EURAUD EURCAD GBPCHF AUDCAD AUDNZD NZDJPY"
).split()
OPTIONS = {"latency_s": 0.3, "bars_per_s": 150.0}
"""A request takes this and so much more for each of its bars, whatever else is under way."""
BARS_A_MINUTE = 150_000
"""About so many come, with as many requests at once as the connection comes to use."""
BARS_A_DAY = 5 / 7 * 1425
"""Of a pair of currencies in minutes."""


def store(folder: Path, minutes: float) -> int:
    """Empty files that lack so much that it takes about so long; the days to be filled."""
    pairs = PAIRS[: max(6, min(len(PAIRS), round(4 * minutes)))]
    folder.mkdir()
    for pair in pairs:
        (folder / f"{pair}_1m.csv").write_text(HEADER)
        (folder / f"{pair}_1h.csv").write_text(HEADER)
    return max(10, round(minutes * BARS_A_MINUTE / BARS_A_DAY / len(pairs)))


def measure(minutes: float) -> dict[str, Any]:
    """One fill from its first request to its end."""
    looks: list[tuple[float, int, float | None, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "store"
        days = store(folder, minutes)
        with (
            gateway(SATURDAY, OPTIONS) as peer,
            group(folder, peer.port, SATURDAY, ktrdr_gap_max_age_days=days) as ours,
        ):

            def look(filler: Any) -> bool:
                said = filler.status
                looks.append((time.monotonic(), said.bars_added, said.eta_s, said.eta_words))
                is_scanned = said.last_scan_time is not None
                return bool(is_scanned and said.state == "idle" and not said.gaps_remaining)

            ours.fill(look, timeout_s=240 * minutes)
    return judged(minutes, looks)


def judged(minutes: float, looks: list[tuple[float, int, float | None, str]]) -> dict[str, Any]:
    """What was said after a tenth, and how wrong that was; the same at each further tenth."""
    begin, end, total = looks[0][0], looks[-1][0], looks[-1][1]
    tenths = []
    for tenth in range(1, 10):
        at, _, eta_s, words = next(x for x in looks if x[1] >= total * tenth / 10)
        left = end - at
        factor = None if not eta_s else max(eta_s / left, left / eta_s)
        tenths.append(
            {"at_s": at - begin, "left_s": left, "eta_s": eta_s, "words": words, "factor": factor}
        )
    first = next((at - begin for at, _, eta_s, _ in looks if eta_s), None)
    return {
        "minutes": minutes,
        "took_s": end - begin,
        "bars": total,
        "first_eta_s": first,
        "tenths": tenths,
    }


def tell(one: dict[str, Any]) -> None:
    """Print what came of one."""
    print(
        f"a fill of {one['took_s']:.0f} s, {one['bars']:,} bars: the time left is told after "
        f"{one['first_eta_s'] or 0:.0f} s",
        flush=True,
    )
    for place, tenth in enumerate(one["tenths"], 1):
        eta = "not told" if tenth["eta_s"] is None else f"{tenth['eta_s']:.0f} s"
        factor = "–" if tenth["factor"] is None else f"{tenth['factor']:.2f}"
        print(
            f"  after {place}0 %: {eta} left, really {tenth['left_s']:.0f} s; factor {factor}; "
            f"“{tenth['words']}”",
            flush=True,
        )


def main() -> None:
    """Measure each, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20])
    found = []
    for minutes in parser.parse_args().minutes:
        found.append(one := measure(minutes))
        tell(one)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
