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

from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.output import show_line
from ktrdr.completeness.fill import AGAIN
from ktrdr.completeness.throughput import span_words
from ktrdr.errors import PeerDown, RequestFailed
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import FillAccepted, FillList, FillStatus
from ktrdr.ipc.wording import counts_by_reason

_POLL_S = 0.5
_AWAY_S = 30.0
"""How long the gap filler may be away, as for a restart, before the command gives up."""
_RATE_OVER_S = 60.0
"""The rate of the last minute is used to estimate the time left."""
_LEAST_S, _SPREAD = 3.0, 1.5
"""How long bars must have arrived before an estimate is shown, and its uncertainty factor."""


def request_fill(gap_filler: LocalClient, wanted: Mapping[str, str]) -> FillAccepted:
    """Request a fill from the gap filler and return its answer.

    Ctrl-C ends the program with code 130; the gap filler may have accepted the fill by then.
    """
    try:
        return gap_filler.request(FillAccepted, "POST", "/fill", 5.0, **wanted)
    except KeyboardInterrupt:
        show_line("It may have been requested already; `ktrdr fills` shows whether")
        sys.exit(ExitCode.INTERRUPTED)


def follow(
    gap_filler: LocalClient,
    requested: FillAccepted,
    out: Console,
    timeout_s: float | None = None,
) -> FillStatus:
    """Show the progress of a fill until no more bars are available now, then a summary.

    RequestFailed: the fill needs a person, was cancelled, is gone, or takes longer than
    `timeout_s`. PeerDown: the gap filler is away for too long. Ctrl-C ends the program with code
    130, and not the fill.
    """
    try:
        with Progress(
            "[progress.description]{task.description}",
            BarColumn(),
            TaskProgressColumn(),
            "{task.fields[left]}",
            console=out,
            disable=not out.is_terminal,
        ) as shown:
            fill = _Follower(gap_filler, requested, shown).wait(timeout_s)
    except KeyboardInterrupt:
        out.print(f"The fill goes on; {_stop(requested)}", markup=False, highlight=False)
        sys.exit(ExitCode.INTERRUPTED)
    out.print(_summary(fill), markup=False, highlight=False, soft_wrap=True)
    return fill


def _stop(requested: FillAccepted) -> str:
    return f"`ktrdr fill --cancel {_name(requested)}` stops it"


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

    def wait(self, timeout_s: float | None) -> FillStatus:
        """Poll until no more bars are available now; return the fill then."""
        began = seen_at = time.monotonic()
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
            if timeout_s is not None and time.monotonic() - began >= timeout_s:
                raise RequestFailed(
                    f"not done after {timeout_s:g} s; the fill goes on",
                    hint=f"`ktrdr fills` shows it, {_stop(self._requested)}",
                )
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


def _summary(fill: FillStatus) -> str:
    missing = ", ".join(counts_by_reason(fill.missing))
    return f"{fill.present} of {fill.expected} bars; {missing or 'none is missing'}"
