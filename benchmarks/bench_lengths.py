"""Whether it pays to learn how long a request may be, beside the first guess kept for ever.

Deep history in minutes is filled twice from gateways of two kinds: one where each request is slow,
however short, and one where each bar is. The yardstick is the same program, whose requests stay as
long as they are at first. Prints a table and a line of JSON; takes about twelve minutes.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from bench_eta import PAIRS, SATURDAY
from bench_filling import HEADER, bar_requests, gateway, group, is_complete

from ktrdr.filling.request_lengths import LearntLengths
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars_request import BarsRequest


class Profile(NamedTuple):
    """A gateway, and what is to be filled from it."""

    name: str
    latency_s: float
    bars_per_s: float
    pairs: int
    days: int


PROFILES = (
    Profile("slow by the request", 2.0, 50_000.0, 4, 250),
    Profile("slow by the bar", 0.5, 540.0, 6, 120),
)


class FirstGuess(LearntLengths):
    """Request lengths that no quick or slow answer changes."""

    def answered(self, ledger: Ledger, request: BarsRequest, took_s: float, bars: int) -> None:
        """Learn nothing."""


def measure(profile: Profile, *, is_learning: bool) -> dict[str, Any]:
    """One fill: its seconds, bars and requests."""
    options = {"latency_s": profile.latency_s, "bars_per_s": profile.bars_per_s}
    with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        for pair in PAIRS[: profile.pairs]:
            (folder / f"{pair}_1m.csv").write_text(HEADER)
        with (
            gateway(SATURDAY, options) as peer,
            group(folder, peer.port, SATURDAY, ktrdr_gap_max_age_days=profile.days) as ours,
        ):
            if not is_learning:
                ours.filler._scheduler._lengths = FirstGuess()  # noqa: SLF001 - there is no setting
            took_s = ours.fill(is_complete, timeout_s=1800)
            requests = len(bar_requests(peer.ask("record")))
            bars = ours.filler.status.bars_added
    return {"seconds": took_s, "bars": bars, "requests": requests}


def main() -> None:
    """Measure each profile both ways, and print what came of it."""
    found = []
    for profile in PROFILES:
        learnt = measure(profile, is_learning=True)
        fixed = measure(profile, is_learning=False)
        found.append({"profile": profile._asdict(), "learnt": learnt, "first_guess": fixed})
        print(
            f"{profile.name}, {learnt['bars']:,} bars: learnt {learnt['seconds']:.0f} s, "
            f"{learnt['requests']} requests; the first guess {fixed['seconds']:.0f} s, "
            f"{fixed['requests']} requests; {learnt['seconds'] / fixed['seconds']:.2f} of its time",
            flush=True,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
