"""The outages of data, each as one row: start, end and cause. Reads no history itself.

A restart of a minute and a half is ten states: attempts, and the waits between them. This merges
them into one row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from itertools import groupby

from ktrdr.config.restart_times import Restart
from ktrdr.ib.expected_outages import absence
from ktrdr.ib.states import LINKED, WITH_DATA, State
from ktrdr.ipc.messages import Outage, StateSpan

NOT_RUNNING = "not_running"
"""From the end of one run of the program to the beginning of the next."""


_FROM_GOOD_TO_BAD = (
    *(State.STOPPING, State.DISCONNECTED, State.CONNECTING, State.HISTORY_DOWN),
    *(State.COMPETING_SESSION, State.UPSTREAM_LOST, State.WAITING, State.DEAD),
    *(NOT_RUNNING, State.LOGGED_OUT),
)
_BY_STATE = {
    NOT_RUNNING: "ib-connection was not running",
    State.LOGGED_OUT: "logged out",
    State.UPSTREAM_LOST: "IB's servers were away (1100)",
    State.COMPETING_SESSION: "another session of the same user had the data",
    State.DISCONNECTED: "ib-connection was starting",
}
_BY_WORDS = (
    ("Connection refused", "connection refused"),
    ("closed the connection", "the gateway closed the connection"),
    ("answers no request for data", "the gateway answered no request for data"),
    ("does not respond", "the gateway answered nothing"),
    ("says nothing", "the gateway answered nothing"),  # in the history of older versions
    ("answered nothing", "the gateway answered nothing"),
    ("did not answer", "the gateway answered nothing"),
    ("ids from", "all client ids were in use"),
)
_BY_EVENT = {
    "start": "ib-connection was starting",
    "reconnect": "a new connection was requested",
    "port_opened": "the gateway was being reached",
    "retry_due": "the gateway was being reached",
}
_FARM = re.compile(r"history farm (?:([\w.]+(?: [\w.]+)*) )?is broken")


def has_data(span: StateSpan) -> bool:
    """Whether bars were available."""
    return span.state in WITH_DATA


def outages(spans: Sequence[StateSpan], restart: Restart | None, *, logs_out: bool) -> list[Outage]:
    """Each time without data as one row, oldest first; the last one continues if no data follow it.

    `spans`: oldest first, without gaps. `restart`, `logs_out`: the gateway's usual absences.
    """
    found = []
    for is_up, run in groupby(spans, has_data):
        if not is_up:
            states = list(run)
            found.append(_outage(states, states[-1] is spans[-1], restart, logs_out=logs_out))
    return found


def _outage(
    states: Sequence[StateSpan], lasts: bool, restart: Restart | None, *, logs_out: bool
) -> Outage:
    start, end = states[0].start, states[-1].end
    kind = _expected_kind(states, restart, logs_out=logs_out)
    cause = {"restart": "restart", "log_out": "logged out"}.get(kind) or _cause(states)
    worst = max((span.state for span in states), key=_rank)
    return Outage(start, None if lasts else end, cause, worst, kind)


def _expected_kind(states: Sequence[StateSpan], restart: Restart | None, *, logs_out: bool) -> str:
    """The kind of the usual absence that these states fit; empty: none."""
    names = {span.state for span in states}
    if names <= {*LINKED, NOT_RUNNING} or not _is_the_gateways(names, states):
        return ""
    logs_out = logs_out and State.LOGGED_OUT in names
    away = absence(restart, logs_out=logs_out, lost_at=states[0].start, now=states[-1].end)
    return away.kind if away else ""


def _is_the_gateways(names: AbstractSet[str], states: Sequence[StateSpan]) -> bool:
    """The gateway was away for most of the time in which there were no data.

    The program may have been restarted meanwhile; that it only had to connect again is no absence.
    """
    was_refused = not names.isdisjoint({State.WAITING, State.LOGGED_OUT})
    return NOT_RUNNING not in names or (was_refused and _cause(states) != _BY_STATE[NOT_RUNNING])


def _cause(states: Sequence[StateSpan]) -> str:
    """The cause with the longest total time; of equals the first."""
    total_ms: Counter[str] = Counter()
    for span in states:
        total_ms[_words(span)] += max((span.end - span.start) // timedelta(milliseconds=1), 0)
    return total_ms.most_common(1)[0][0]


def _words(span: StateSpan) -> str:
    if span.state in _BY_STATE:
        return _BY_STATE[span.state]
    if farm := _FARM.search(span.why):
        return (
            f"the history farm {farm[1]} was broken" if farm[1] else "the history farm was broken"
        )
    known = next((words for part, words in _BY_WORDS if part in span.why), "")
    return known or _BY_EVENT.get(span.why) or span.why or span.state.replace("_", " ")


def _rank(state: str) -> int:
    return _FROM_GOOD_TO_BAD.index(state) if state in _FROM_GOOD_TO_BAD else -1
