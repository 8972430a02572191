"""Which problems are notified of now: each once when it lasts, and once when it is over. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

AGAIN_S = 86400.0
"""A problem that lasts is notified of again after this long."""
URGENT_GRACE_S = 60.0
_SETTLED_S = 60.0
"""A problem is over when it has been absent for as long as its grace, and this at most."""


@dataclass(frozen=True)
class Condition:
    """A problem that there is now, in the verdict's words."""

    kind: str
    """The same while it lasts, whatever its words."""
    about: str
    what: str
    sentence: str
    is_urgent: bool = False
    """It has the short grace: a program or the disk fails."""
    is_critical: bool = False
    """Nothing is kept complete while it lasts: quiet hours do not hold it back."""


@dataclass(frozen=True)
class Incident:
    """A problem from its beginning until its end was notified of. Times are UTC."""

    condition: Condition
    began: datetime
    gone: datetime | None = None
    """Since when it is absent."""
    notified: datetime | None = None
    """When it was last notified of."""
    is_held: bool = False
    """It lasted for its grace in the quiet hours, and was not notified of yet."""
    is_over: bool = False
    """It has ended; that is still to be notified of, after the quiet hours."""

    @property
    def lasted_s(self) -> float:
        """How long it lasted; 0 while it does."""
        return (self.gone - self.began).total_seconds() if self.gone else 0.0


@dataclass(frozen=True)
class News:
    """What is to be notified of now."""

    begun: tuple[Incident, ...] = ()
    again: tuple[Incident, ...] = ()
    """They still last."""
    over: tuple[Incident, ...] = ()
    missed: tuple[Incident, ...] = ()
    """They began and ended in the quiet hours."""

    def __bool__(self) -> bool:
        return bool(self.begun or self.again or self.over or self.missed)


def decide(
    conditions: Iterable[Condition],
    unknown: Collection[str],
    incidents: Iterable[Incident],
    now: datetime,
    grace_s: float,
    *,
    is_quiet: bool = False,
) -> tuple[tuple[Incident, ...], News]:
    """The incidents after this moment, and what is to be notified of.

    `unknown`: kinds, and what conditions are about, that cannot be judged now: they neither begin
    nor end. `is_quiet`: these are the quiet hours.
    """
    present = {one.kind: one for one in conditions}
    known = list(incidents)
    followed = {one.condition.kind for one in known if not one.is_over}
    current = [_followed(one, present, unknown, now, grace_s) for one in known]
    current += [Incident(one, now) for kind, one in present.items() if kind not in followed]
    kept: list[Incident] = []
    news: dict[str, list[Incident]] = {"begun": [], "again": [], "over": [], "missed": []}
    for incident in current:
        is_present = incident.condition.kind in present and not incident.is_over
        topic = _topic(incident, now, grace_s, is_present=is_present)
        if topic and is_quiet and not incident.condition.is_critical:
            kept.append(replace(incident, is_held=incident.is_held or topic == "begun"))
            continue
        if topic:
            news[topic].append(incident)
        if not incident.is_over:
            told = now if topic else incident.notified
            kept.append(replace(incident, notified=told, is_held=incident.is_held and not topic))
    return tuple(kept), News(**{topic: tuple(found) for topic, found in news.items()})


def grace_of(condition: Condition, grace_s: float) -> float:
    """How long a problem lasts before it is notified of."""
    return min(grace_s, URGENT_GRACE_S) if condition.is_urgent else grace_s


def _followed(
    incident: Incident,
    present: dict[str, Condition],
    unknown: Collection[str],
    now: datetime,
    grace_s: float,
) -> Incident:
    """The incident with what is known of it now."""
    old = incident.condition
    if incident.is_over:
        return incident
    if old.kind in present:
        return replace(incident, condition=present[old.kind], gone=None)
    if old.kind in unknown or old.about in unknown:
        return incident
    gone = incident.gone or now
    settled_s = min(grace_of(old, grace_s), _SETTLED_S)
    return replace(incident, gone=gone, is_over=(now - gone).total_seconds() >= settled_s)


def _topic(incident: Incident, now: datetime, grace_s: float, *, is_present: bool) -> str:
    """The part of the news that an incident belongs to; empty: none."""
    grace_s = grace_of(incident.condition, grace_s)
    if incident.is_over:
        if incident.notified:
            return "over"
        return "missed" if incident.is_held else ""
    if not is_present:
        return ""
    if incident.notified is None:
        return "begun" if (now - incident.began).total_seconds() >= grace_s else ""
    return "again" if (now - incident.notified).total_seconds() >= AGAIN_S else ""
