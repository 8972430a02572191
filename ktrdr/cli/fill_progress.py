"""Asks for a fill, and shows how far it is: for `ktrdr fill`. Asks the gap filler alone."""

from __future__ import annotations

import shlex
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn

from ktrdr.completeness.fill import AGAIN
from ktrdr.completeness.throughput import span_words
from ktrdr.errors import PeerDown, RequestFailed
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import FillAccepted, FillList, FillStatus
from ktrdr.ipc.wording import because

_POLL_S = 0.5
_AWAY_S = 30.0
"""How long the gap filler may be away, such as for a restart, before nobody waits any more."""
_RATE_OVER_S = 60.0
"""What was fetched in the last minute says how long the rest will take."""
_LEAST_S, _SPREAD = 3.0, 1.5
"""How long bars must have come before an estimate is shown, and its uncertainty as a factor."""
_INTERRUPTED = 130


def request_fill(gap_filler: LocalClient, wanted: Mapping[str, str], out: Console) -> FillAccepted:
    """What the gap filler says to a fill that is wanted.

    Ctrl-C ends the program with code 130; the gap filler may have the fill by then.
    """
    try:
        return gap_filler.request(FillAccepted, "POST", "/fill", 5.0, **wanted)
    except KeyboardInterrupt:
        out.print(
            "It may have been requested already; `ktrdr fills` shows whether",
            markup=False,
            highlight=False,
        )
        sys.exit(_INTERRUPTED)


def follow(gap_filler: LocalClient, requested: FillAccepted, out: Console) -> None:
    """The bars of a fill as they come, until no more can be had now, and then what there is.

    RequestFailed: it needs a person, was cancelled, or is not kept any more. PeerDown: the gap
    filler is away for long. Ctrl-C ends the program with code 130, and not the fill.
    """
    try:
        with Progress(
            "[progress.description]{task.description}",
            BarColumn(),
            TaskProgressColumn(),
            "{task.fields[left]}",
            console=out,
        ) as shown:
            fill = _Follower(gap_filler, requested, shown).wait()
    except KeyboardInterrupt:
        stop = f"`ktrdr fill --cancel {_name(requested)}`"
        out.print(f"The fill goes on; {stop} stops it", markup=False, highlight=False)
        sys.exit(_INTERRUPTED)
    out.print(_summary(fill), markup=False, highlight=False)


def _name(requested: FillAccepted) -> str:
    """How to name a fill: by its series, unless another one of it is open, which shall go on."""
    if any(one.is_open for one in requested.already):
        return str(requested.id)
    return f"{shlex.quote(requested.symbol)} {requested.timeframe}"


class _Follower:
    """Polls one fill."""

    def __init__(self, gap_filler: LocalClient, requested: FillAccepted, shown: Progress) -> None:
        self._gap_filler = gap_filler
        self._requested = requested
        self._shown = shown
        self._task: TaskID = shown.add_task(
            f"{requested.symbol}_{requested.timeframe}", total=None, left=""
        )
        self._known: deque[tuple[float, int]] = deque()
        """Times and bar counts of the last minute."""
        self._last_reason = ""

    def wait(self) -> FillStatus:
        """The fill when no more can be had of it now."""
        seen_at = time.monotonic()
        while True:
            try:
                fill, seen_at = self._fill(), time.monotonic()
            except PeerDown as error:
                if time.monotonic() - seen_at > _AWAY_S:
                    raise
                self._show_waiting(error.message, error.hint)
            else:
                self._show(fill)
                if fill.state in ("done", "unproven"):
                    return fill
                self._refuse(fill)
            time.sleep(_POLL_S)

    def _fill(self) -> FillStatus:
        listed = self._gap_filler.request(FillList, "GET", "/fills", symbol=self._requested.symbol)
        for fill in listed.fills:
            if fill.id == self._requested.id:
                return fill
        raise RequestFailed(
            f"fill {self._requested.id} is gone: the store's ledger was deleted",
            hint="request it again",
        )

    def _refuse(self, fill: FillStatus) -> None:
        if fill.state == "cancelled":
            raise RequestFailed("the fill was cancelled; what was fetched stays")
        if fill.state == "failed":
            raise RequestFailed(f"{fill.why}; the fill is kept, and tried again", hint=fill.hint)

    def _show(self, fill: FillStatus) -> None:
        if fill.state == "waiting":
            self._known.clear()
            self._show_waiting(fill.why, fill.hint)
        else:
            self._last_reason = ""
        left = fill.state
        if fill.state == "filling" and fill.expected is not None:
            left = self._left(fill.present or 0, fill.expected)
        self._shown.update(self._task, total=fill.expected, completed=fill.present or 0, left=left)

    def _show_waiting(self, why: str, hint: str) -> None:
        """What it waits for, and the next step: once, as long as that is the same."""
        self._shown.update(self._task, left="waiting")
        line = f"waiting: {why}" + (f"\nnext: {hint}" if hint else "")
        what = why.partition(AGAIN)[0]
        if what != self._last_reason:
            self._shown.console.print(escape(line), highlight=False, soft_wrap=True)
        self._last_reason = what

    def _left(self, present: int, expected: int) -> str:
        """How long the rest takes, as far as that is known."""
        now = time.monotonic()
        self._known.append((now, present))
        while now - self._known[0][0] > _RATE_OVER_S:
            self._known.popleft()
        return time_left(self._known, expected) or "filling"


def time_left(looks: Sequence[tuple[float, int]], expected: int) -> str:
    """How long the rest takes at the rate of these looks, for a person; empty: not known yet.

    `looks`: times (seconds) and the bar counts then. What passed before the first came is no work.
    """
    (_, before), (now, present) = looks[0], looks[-1]
    began = max(at for at, bars in looks if bars == before)
    if present <= before or now - began < _LEAST_S:
        return ""
    likely_s = (expected - present) * (now - began) / (present - before)
    return f"{span_words(likely_s / _SPREAD, likely_s * _SPREAD)} left"


def _summary(fill: FillStatus) -> str:
    missing = [f"{count} {because(reason)}" for reason, count in fill.missing.items()]
    return f"{fill.present} of {fill.expected} bars; {', '.join(missing) or 'none is missing'}"
