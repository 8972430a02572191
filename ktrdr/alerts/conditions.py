"""The problems of a snapshot that people are notified of, and what it does not know."""

from __future__ import annotations

from ktrdr.alerts.incidents import Condition
from ktrdr.health.system import Snapshot
from ktrdr.health.verdict import AWAY, FILLING, Concern, Health


def conditions(snapshot: Snapshot) -> list[Condition]:
    """The verdict's problems, and a log-in that is due soon.

    Not what is expected, such as the gateway's daily restart, and not series that are being filled.
    """
    found = [
        _of_concern(one)
        for one in snapshot.verdict.concerns
        if one.health is not Health.HEALTHY and one.kind != FILLING
    ]
    status = snapshot.connection.content
    if status and status.reminder:
        found.append(Condition("log_in_due", "connection", status.reminder, status.reminder))
    return found


def unknown(snapshot: Snapshot) -> frozenset[str]:
    """Kinds of problems, and what they are about, on which the snapshot says nothing."""
    found: set[str] = set()
    connection, filler = snapshot.connection.content, snapshot.gap_filler.content
    if connection is None:
        found |= {"connection", "clock"}
    elif not connection.connected:
        found |= {"clock", "stale", "farms"}
    if any(one.kind == AWAY and one.health is Health.HEALTHY for one in snapshot.verdict.concerns):
        found.add(AWAY)
    if filler is None:
        found |= {"store", "series", "clock"}
    elif filler.last_scan_time is None:
        found.add("series")
    return frozenset(found)


def _of_concern(concern: Concern) -> Condition:
    is_critical = concern.health is Health.CRITICAL
    return Condition(
        concern.kind or concern.what,
        concern.about,
        concern.what,
        concern.sentence,
        is_urgent=is_critical or concern.is_fault,
        is_critical=is_critical,
    )
