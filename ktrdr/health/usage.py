"""What programs and connection have used in the last 24 hours, as values. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus
from ktrdr.market.timeframes import DAY_S
from ktrdr.times import moment

STEP_S = 60
"""From one sample to the next."""
KEPT_S = DAY_S
_HOLE_S = 2.5 * STEP_S
"""Samples that are farther apart have a time between them in which nobody measured."""
_SAME_S = 1.0
"""Times of one start differ by less: the system's clock is set meanwhile, a little at a time."""


@dataclass(frozen=True)
class Load:
    """One program at one sample."""

    cpu_percent: float | None
    """Of one core, since the sample before; None: it did not run then."""
    rss_bytes: int


@dataclass(frozen=True)
class Pace:
    """The requests and bars of the minute before a sample. None: not known."""

    in_flight: int | None = None
    requests_per_s: float | None = None
    bars_per_s: float | None = None


@dataclass(frozen=True)
class Sample:
    """All programs and the pace at one time."""

    at: int
    """UTC seconds."""
    loads: Mapping[str, Load]
    """Program → its load; those that do not run are missing."""
    pace: Pace = Pace()


@dataclass(frozen=True)
class Usage:
    """The samples of the last 24 hours, oldest first, and when each program was started."""

    samples: tuple[Sample, ...] = ()
    starts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Program → times of its starts (UTC seconds): one before the 24 hours, and all later ones."""

    def with_sample(self, sample: Sample, started: Mapping[str, float]) -> Usage:
        """With one more; what is too old is left out. `started`: program → its last start."""
        begin = sample.at - KEPT_S
        kept = tuple(one for one in self.samples if begin < one.at < sample.at)
        names = self.starts.keys() | started.keys()
        starts = {name: _starts(self.starts.get(name, ()), started.get(name)) for name in names}
        return Usage((*kept, sample), {k: _since(times, begin) for k, times in starts.items()})


def _starts(known: tuple[int, ...], start: float | None) -> tuple[int, ...]:
    is_known = start is None or any(abs(one - start) <= _SAME_S for one in known)
    return known if is_known or start is None else tuple(sorted((*known, round(start))))


def _since(times: tuple[int, ...], begin: float) -> tuple[int, ...]:
    """Those from `begin` on, and the last one before."""
    before = [one for one in times if one < begin]
    return (*before[-1:], *(one for one in times if one >= begin))


@dataclass(frozen=True)
class Figures:
    """A program in the last 24 hours. None: not measured yet."""

    cpu_mean: float | None
    cpu_most: float | None
    rss_most: int | None
    restarts: int
    last_restart: datetime | None


def figures(usage: Usage, name: str) -> Figures:
    """The figures of a program. Its first known start is no restart."""
    loads = [one.loads[name] for one in usage.samples if name in one.loads]
    cpu = [one.cpu_percent for one in loads if one.cpu_percent is not None]
    restarts = restarts_of(usage, name)
    return Figures(
        sum(cpu) / len(cpu) if cpu else None,
        max(cpu, default=None),
        max((one.rss_bytes for one in loads), default=None),
        len(restarts),
        moment(restarts[-1]) if restarts else None,
    )


def restarts_of(usage: Usage, name: str) -> tuple[int, ...]:
    """When a program was started again (UTC seconds)."""
    return usage.starts.get(name, ())[1:]


def pace_between(
    before: tuple[ConnectionStatus | None, GapFillerStatus | None],
    now: tuple[ConnectionStatus | None, GapFillerStatus | None],
    seconds: float,
) -> Pace:
    """The pace from one reading of both programs to the next."""
    connections, fillers = (before[0], now[0]), (before[1], now[1])
    requests = [one.requests_answered if one else None for one in connections]
    bars = [one.bars_added if one else None for one in fillers]
    return Pace(
        now[0].requests_open if now[0] else None, _rate(requests, seconds), _rate(bars, seconds)
    )


def _rate(counts: Sequence[int | None], seconds: float) -> float | None:
    """A counter that has gone back was begun anew."""
    first, last = counts
    if first is None or last is None or last < first or seconds <= 0:
        return None
    return round((last - first) / seconds, 2)


def chart(usage: Usage, names: Sequence[str]) -> Mapping[str, object]:
    """The samples as columns of one length, with a gap where nobody measured.

    Times are UTC seconds, CPU percent, memory MiB.
    """
    rows: list[Sample] = []
    for one in usage.samples:
        if rows and one.at - rows[-1].at > _HOLE_S:
            rows.append(Sample(rows[-1].at + STEP_S, {}))
        rows.append(one)
    return {
        "times": [one.at for one in rows],
        "programs": {
            name: {
                "cpu": [_cpu(one.loads.get(name)) for one in rows],
                "memory": [_mib(one.loads.get(name)) for one in rows],
                "restarts": restarts_of(usage, name),
            }
            for name in names
        },
        "pace": {
            "in_flight": [one.pace.in_flight for one in rows],
            "requests": [one.pace.requests_per_s for one in rows],
            "bars": [one.pace.bars_per_s for one in rows],
        },
    }


def _cpu(load: Load | None) -> float | None:
    return None if load is None or load.cpu_percent is None else round(load.cpu_percent, 1)


def _mib(load: Load | None) -> float | None:
    return None if load is None else round(load.rss_bytes / 2**20, 1)
