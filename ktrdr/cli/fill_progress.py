"""The progress of a fill for `ktrdr fill`: requests it from the gap filler and polls its state."""

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
"""How long the gap filler may be away, as for a restart, before the command gives up."""
_RATE_OVER_S = 60.0
"""The rate of the last minute is used to estimate the time left."""
_LEAST_S, _SPREAD = 3.0, 1.5
"""How long bars must have arrived before an estimate is shown, and its uncertainty factor."""
_INTERRUPTED = 130


def request_fill(gap_filler: LocalClient, wanted: Mapping[str, str], out: Console) -> FillAccepted:
    """Request a fill from the gap filler and return its answer.

    Ctrl-C ends the program with code 130; the gap filler may have accepted the fill by then.
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
    """Show the progress of a fill until no more bars are available now, then a summary.

    RequestFailed: the fill needs a person, was cancelled, or is gone. PeerDown: the gap filler is
    away for too long. Ctrl-C ends the program with code 130, and not the fill.
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
    """The arguments that name a fill: its series, or its number if that has other open fills."""
    if any(one.is_open for one in requested.already):
        return str(requested.id)
    return f"{shlex.quote(requested.symbol)} {requested.timeframe}"


class _Follower:
    """Polls one fill and shows its progress."""

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
        """Poll until no more bars are available now; return the fill then."""
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
        """Print what the fill waits for and the next step, once while the reason is the same."""
        self._shown.update(self._task, left="waiting")
        line = f"waiting: {why}" + (f"\nnext: {hint}" if hint else "")
        what = why.partition(AGAIN)[0]
        if what != self._last_reason:
            self._shown.console.print(escape(line), highlight=False, soft_wrap=True)
        self._last_reason = what

    def _left(self, present: int, expected: int) -> str:
        """The estimate of the time left, or the state while there is none."""
        now = time.monotonic()
        self._known.append((now, present))
        while now - self._known[0][0] > _RATE_OVER_S:
            self._known.popleft()
        return time_left(self._known, expected) or "filling"


def time_left(counts: Sequence[tuple[float, int]], expected: int) -> str:
    """An estimate of the time left at the rate of these counts, in words; empty: not known yet.

    `counts`: times (seconds) and the bar counts then. The time before the first new bar is ignored.
    """
    (_, before), (now, present) = counts[0], counts[-1]
    began = max(at for at, bars in counts if bars == before)
    if present <= before or now - began < _LEAST_S:
        return ""
    likely_s = (expected - present) * (now - began) / (present - before)
    return f"{span_words(likely_s / _SPREAD, likely_s * _SPREAD)} left"


def counts_by_reason(missing: Mapping[str, int]) -> list[str]:
    """How many bars or gaps there are for each reason, in words."""
    return [f"{count} {because(reason)}" for reason, count in missing.items()]


def _summary(fill: FillStatus) -> str:
    missing = ", ".join(counts_by_reason(fill.missing))
    return f"{fill.present} of {fill.expected} bars; {missing or 'none is missing'}"
