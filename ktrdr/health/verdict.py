"""The one verdict on the group: healthy, or what is wrong and what to do. Values only.

It is healthy only if every part is. Page, API, metrics, command line and exit codes show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ktrdr.config.settings import Settings
from ktrdr.forwarder.report import Report
from ktrdr.health.peers import Answer
from ktrdr.health.services import SET_IT, STARTING, Service
from ktrdr.ib.diagnosis import CLOCK_S, Finding
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus
from ktrdr.ipc.wording import sentence

ANSWERING = ("upstream_lost", "competing_session", "connected", "farm_down", "history_down")
"""Connection states in which the gateway answers, with or without data."""
LOGGED_OUT = "logged_out"
FARM_DOWN = "farm_down"
"""Bars are available, and one of IB's farms is broken."""

_STALE_HEARTBEATS = 3
_STUCK_S = 600.0
"""A gap filler without a new report for this long is stuck."""
_TIGHT_BYTES = 100 * 2**20
_TIGHT_SHARE = 0.02
"""A disk with less than both of these free is nearly full."""
_TIGHT_ALWAYS_BYTES = 2**20
"""Any disk with less than this free is nearly full, however small."""
_NAMED = 5
AWAY = "away"
LATE = "series_late"
FILLING = "series_filling"
"""Kinds of concerns: the gateway is away; series are incomplete and held up; being completed."""
_HELD_UP = {"waiting", "failed"}
"""States of series for which nothing happens now."""
_PASSING = (
    "connecting",
    "disconnected",
    "stopping",
    "upstream_lost",
    "farm_down",
    "history_down",
    "connected",
)
"""Connection states without data that end by themselves."""
_VITAL = {
    "ib-connection": "nothing can be requested from IB",
    "gap-filler": "the store is not kept complete",
}
_USEFUL = {
    "port-forward": "containers cannot reach the gateway",
    "status-app": "there is no status page",
    "alerts": "nobody is notified",
    "gateway-sim": "there is no gateway to connect to",
}
_ACTIVITIES = {
    "filling": "being filled",
    "waiting": "waiting",
    "unproven": "waiting for proof that bars are absent",
    "failed": "to be tried again",
    "renewed": "being rebuilt",
    "refused": "left alone",
    "complete": "about to be filled",
}


ABOUT = ("program", "source", "store", "connection", "clock", "series")
"""What concerns are about."""


class Health(StrEnum):
    """The group's health, with the status API's values."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    """Nothing is kept complete while it lasts."""


@dataclass(frozen=True)
class Concern:
    """One problem."""

    what: str
    """The problem as a clause: `the disk with data is full`."""
    cause: str = ""
    consequence: str = ""
    next_step: str = ""
    """What a person has to do; empty: it heals by itself."""
    health: Health = Health.DEGRADED
    stops: bool = False
    """No series can be filled while it lasts."""
    is_fault: bool = False
    """A program, the store or its disk fails; not a gateway, and not a program that starts."""
    about: str = "connection"
    """One of ABOUT."""
    kind: str = ""
    """A name by which it is recognized while its words change."""

    @property
    def claim(self) -> str:
        """The problem and its cause, without a full stop of its own, since more may follow."""
        return f"{self.what}: {self.cause}".removesuffix(".") if self.cause else self.what

    @property
    def sentence(self) -> str:
        """Problem, cause, consequence and next step in one line."""
        more = f"; {self.consequence}" if self.consequence else ""
        step = f" – next step: {self.next_step}" if self.next_step else ""
        return f"{self.claim}{more}{step}"


@dataclass(frozen=True)
class Verdict:
    """The group's state in one sentence, and all concerns, the worst first."""

    summary: str
    concerns: tuple[Concern, ...] = ()

    @property
    def health(self) -> Health:
        """The health of the worst concern."""
        return max((c.health for c in self.concerns), key=list(Health).index, default=_WELL)

    @property
    def needs_person(self) -> tuple[Concern, ...]:
        """Concerns that a person has to act on."""
        return tuple(c for c in self.concerns if c.next_step and c.health is not _WELL)

    @property
    def heals(self) -> tuple[Concern, ...]:
        """Concerns that end by themselves."""
        return tuple(c for c in self.concerns if not c.next_step and c.health is not _WELL)

    @property
    def obstacles(self) -> tuple[Concern, ...]:
        """Why no series can be filled; empty: the group is ready."""
        return tuple(c for c in self.concerns if c.stops)

    @property
    def faults(self) -> tuple[Concern, ...]:
        """Faults on this machine, whatever the gateway does; empty: the programs can work."""
        return tuple(c for c in self.concerns if c.is_fault)


_WELL = Health.HEALTHY


def judge(
    found: Mapping[str, Service],
    connection: Answer[ConnectionStatus],
    gap_filler: Answer[GapFillerStatus],
    settings: Settings,
    now: datetime,
    forwarding: Report | None = None,
    full: Sequence[str] = (),
) -> Verdict:
    """The verdict on everything known. `found`: the programs; `now` is in UTC.

    `full`: folders of the programs, not of the store, whose disks are full.
    """
    status, filler = connection.content, gap_filler.content
    concerns = [*_of_programs(found), *_of_sources(settings, status, filler), *_of_folders(full)]
    if filler is not None:
        concerns += _of_store(filler, is_connected=status is not None and status.connected)
        concerns += [
            *_of_fills(filler),
            *_of_other_files(filler),
            *_of_standstill(filler, now),
            *_of_jump(filler),
        ]
    if status is not None:
        simulator = found.get("gateway-sim") if settings.is_simulated else None
        concerns += _of_connection(status, settings, now, simulator)
        concerns += [*_of_clock(status), *_of_texts(status)]
        concerns += _of_forwarding(forwarding, is_connected=status.connected)
    if filler is not None:
        concerns += _of_series(filler)
    ordered = sorted(concerns, key=lambda c: (-list(Health).index(c.health), c.about == "series"))
    return Verdict(_summary(ordered, filler, now), tuple(ordered))


def with_findings(verdict: Verdict, findings: Iterable[Finding]) -> Verdict:
    """A healthy verdict with the troubles that only the doctor's requests have found."""
    troubles = [finding for finding in findings if finding.is_trouble]
    if not troubles or verdict.health is not _WELL:
        return verdict
    concerns = [Concern(finding.what, next_step=finding.next_step) for finding in troubles]
    rest = verdict.summary[:1].lower() + verdict.summary[1:-1]
    return Verdict(sentence(f"{_claims(concerns)}; {rest}"), tuple(concerns) + verdict.concerns)


def sources(
    settings: Settings, connection: ConnectionStatus | None, gap_filler: GapFillerStatus | None
) -> list[str]:
    """The sources of settings and peers: `live`, `simulated`, or both, which is a problem."""
    claims = {settings.source}
    claims |= {connection.gateway} if connection else set()
    claims |= {gap_filler.source} if gap_filler else set()
    return sorted(claims)


def is_stale(status: ConnectionStatus, settings: Settings, now: datetime) -> bool:
    """True if the last real answer is older than it can be on a working connection."""
    if status.last_answer_time is None:
        return True
    age_s = (now - status.last_answer_time).total_seconds()
    return age_s > _STALE_HEARTBEATS * settings.ktrdr_ib_heartbeat_s


# Programs.


def _of_programs(found: Mapping[str, Service]) -> Iterator[Concern]:
    for name, service in found.items():
        if service.healthy or service.answers:
            continue
        is_vital, is_starting = name in _VITAL, service.status == STARTING
        yield Concern(
            service.why,
            consequence=_VITAL.get(name) or _USEFUL.get(name, ""),
            next_step=service.next_step,
            health=Health.CRITICAL if is_vital and not is_starting else Health.DEGRADED,
            stops=is_vital,
            is_fault=not is_starting and (is_vital or not service.program.runs),
            about="program",
            kind=f"program:{name}",
        )


def _of_folders(full: Sequence[str]) -> Iterator[Concern]:
    for folder in full:
        yield Concern(
            f"the disk with {folder} is full",
            consequence="logs are lost, and a program may not start again",
            next_step=f"free some space, see: df -h {folder}",
            about="program",
            kind=f"folder_full:{folder}",
        )


def _of_forwarding(report: Report | None, *, is_connected: bool) -> Iterator[Concern]:
    """The forwarder's gateway is away while ours is not: containers are to use another one."""
    if report is not None and report.misses_gateway and is_connected:
        yield Concern(
            f"port-forward cannot reach {report.target}",
            report.gateway_why,
            "containers cannot reach the gateway",
            "start what listens there, or set KTRDR_FORWARD_TARGET, then ./scripts/up",
            about="program",
            kind="forward_target",
        )


def _of_sources(
    settings: Settings, connection: ConnectionStatus | None, gap_filler: GapFillerStatus | None
) -> Iterator[Concern]:
    claims = sources(settings, connection, gap_filler)
    if len(claims) > 1:
        yield Concern(
            f"{' and '.join(claims)} programs at once",
            "they were started with different settings",
            "no price can be trusted",
            "./scripts/down, ./scripts/up",
            Health.CRITICAL,
            stops=True,
            is_fault=True,
            about="source",
            kind="two_sources",
        )


# The store.


def _of_store(status: GapFillerStatus, *, is_connected: bool) -> Iterator[Concern]:
    if status.state == "refused":
        yield Concern(
            "gap-filler refuses to work",
            status.reason,
            "the store is not kept complete",
            status.hint or SET_IT,
            Health.CRITICAL,
            stops=True,
            is_fault=True,
            about="store",
            kind="store_refused",
        )
    elif status.store_trouble is not None:
        trouble = status.store_trouble
        yield Concern(
            trouble.message,
            consequence="no bar can be stored",
            next_step=trouble.hint,
            health=Health.CRITICAL,
            stops=True,
            is_fault=True,
            about="store",
            kind="store_trouble",
        )
    elif status.state == "waiting" and is_connected and not status.clock_jump_s:
        yield Concern(
            "gap-filler waits",
            status.reason,
            "nothing is filled",
            stops=True,
            about="store",
            kind="filler_waits",
        )
    elif _is_tight(status):
        yield _nearly_full(status)


def _nearly_full(status: GapFillerStatus) -> Concern:
    return Concern(
        f"the disk with {status.data_dir} is nearly full",
        f"{(status.disk_free_bytes or 0) / 2**20:.1f} MiB are free",
        "soon no bar can be stored",
        "free some space",
        about="store",
        kind="disk_nearly_full",
    )


def _of_other_files(status: GapFillerStatus) -> Iterator[Concern]:
    """Files in the store that may have bars and are not read, by kind."""
    for kind in status.unread:
        more = "at least " if kind.is_limited else ""
        one = kind.count == 1
        yield Concern(
            "a file is ignored" if one else f"{more}{kind.count:,} files are ignored",
            kind.cause,
            next_step=kind.hint,
            about="store",
            kind=f"ignored_files:{kind.kind}",
        )


def _of_fills(status: GapFillerStatus) -> Iterator[Concern]:
    """Requested fills that need a person."""
    if failed := status.fills.get("failed", 0):
        yield Concern(
            "a requested fill has failed" if failed == 1 else f"{failed} requested fills failed",
            consequence="it is tried again, less and less often",
            next_step=".venv/bin/ktrdr fills shows why",
            about="store",
            kind="failed_fills",
        )


def _of_standstill(status: GapFillerStatus, now: datetime) -> Iterator[Concern]:
    if _age_s(status, now) > _STUCK_S:
        yield Concern(
            f"gap-filler has reported nothing new for {_age_s(status, now) / 60:.0f} min",
            consequence="the state of the series that is shown is that old",
            next_step=".venv/bin/supervisorctl restart gap-filler",
            is_fault=True,
            about="program",
            kind="filler_stuck",
        )


def _age_s(status: GapFillerStatus, now: datetime) -> float:
    """The age of gap-filler's report; 0 where it is not known."""
    return (now - status.as_of).total_seconds() if status.as_of else 0.0


def _is_tight(status: GapFillerStatus) -> bool:
    free, total = status.disk_free_bytes, status.disk_total_bytes
    if free is None or total is None:
        return False
    return free < min(_TIGHT_BYTES, max(_TIGHT_ALWAYS_BYTES, _TIGHT_SHARE * total))


# The connection.


def _of_connection(
    status: ConnectionStatus, settings: Settings, now: datetime, simulator: Service | None
) -> Iterator[Concern]:
    if status.connected:
        if is_stale(status, settings, now):
            yield Concern("connected, but no real request was answered lately", kind="stale")
        if status.state == FARM_DOWN:
            yield Concern(
                "data farms of IB's are broken",
                ", ".join(farm.name for farm in status.farms if not farm.up),
                "some data may come late",
                kind="farms",
            )
        return
    if status.expected and status.state != LOGGED_OUT:
        yield Concern("the gateway is away", status.expected, health=_WELL, stops=True, kind=AWAY)
        return
    error = status.last_error
    lost = "connected, but no data come from" if status.state in ANSWERING else "not connected to"
    hint = error.hint if error else ""
    is_starting = simulator is not None and simulator.status == STARTING
    if simulator is not None and not simulator.healthy and status.state != LOGGED_OUT:
        hint = simulator.next_step  # what the program itself needs
    yield Concern(
        f"{lost} the {status.gateway} gateway ({status.state.replace('_', ' ')})",
        error.message if error else "",
        "nothing new can be requested",
        "" if _is_passing(status) or is_starting else hint or ".venv/bin/ktrdr doctor",
        stops=True,
        kind=AWAY,
    )


def _is_passing(status: ConnectionStatus) -> bool:
    """It ends by itself, as far as is known: an attempt after one that failed may fail as well."""
    error, lost_at = status.last_error, status.no_data_since
    if status.state == "connecting" and error is not None and error.time is not None:
        return lost_at is not None and error.time <= lost_at
    return status.state in _PASSING


def _of_clock(status: ConnectionStatus) -> Iterator[Concern]:
    offset_s = status.clock_offset_s if status.connected else None
    if offset_s is not None and abs(offset_s) >= CLOCK_S:
        yield Concern(
            f"the gateway's clock and this machine's are {abs(offset_s):.0f} s apart",
            consequence="which bars are finished is judged by the one that is behind",
            next_step="set both by the network's time",
            about="clock",
            kind="clocks_apart",
        )


def _of_texts(status: ConnectionStatus) -> Iterator[Concern]:
    if status.foreign_text:
        yield Concern(
            f"the gateway's texts are not in English: “{status.foreign_text}”",
            consequence="what an error means is decided by its text, and may be mistaken",
            next_step='switch on "Show API error messages in English" in the gateway (Configure, '
            "Settings, API, Settings)",
            kind="foreign_texts",
        )


def _of_jump(status: GapFillerStatus) -> Iterator[Concern]:
    if status.clock_jump_s:
        way = "ahead" if status.clock_jump_s > 0 else "back"
        yield Concern(
            f"this machine's clock has jumped by {abs(status.clock_jump_s):.0f} s, {way}",
            consequence="nothing counts as complete until it has stayed there for five minutes",
            next_step="set it by the network's time, unless it is right now",
            about="clock",
            kind="clock_jump",
        )


# The series.


def _of_series(status: GapFillerStatus) -> Iterator[Concern]:
    """Series that need a person, by reason, and those that are being completed."""
    if status.last_scan_time is None:
        if status.state != "refused" and status.store_trouble is None:
            yield Concern("the store has not been scanned yet", about="series", kind="not_scanned")
        return
    if not status.series:
        yield Concern(
            f"there is no series in {status.data_dir}",
            consequence="nothing is kept complete",
            next_step=".venv/bin/ktrdr watch add AAPL 1m, or the page's box, adds one; where there "
            "were files: is the folder's disk mounted?",
            about="series",
            kind="no_series",
        )
    named = 0
    for trouble in status.troubles:
        named += trouble.count
        one = trouble.count == 1
        yield Concern(
            _listed(trouble.series, trouble.count),
            trouble.message,
            f"{'it is' if one else 'they are'} not kept complete",
            trouble.hint or ".venv/bin/ktrdr gaps shows what is known",
            about="series",
            kind=f"series:{trouble.outcome}:{trouble.message}",
        )
    if status.series_troubled > named:
        more = f"{status.series_troubled - named} more series need you"
        yield Concern(more, next_step=".venv/bin/ktrdr gaps", about="series", kind="more_series")
    if under_way := _under_way(status):
        count = _healing(status)
        are = "1 series is" if count == 1 else f"{count} series are"
        kind = LATE if status.series_states.keys() & _HELD_UP else FILLING
        yield Concern(f"{are} not complete yet", under_way, about="series", kind=kind)


def _healing(status: GapFillerStatus) -> int:
    """The number of series that are incomplete and need no person."""
    return max(0, status.series - status.series_current - status.series_troubled)


def _under_way(status: GapFillerStatus) -> str:
    """What is being done for them; empty: there are none."""
    count = _healing(status)
    if not count:
        return ""
    words = [f"{n} {_ACTIVITIES.get(state, state)}" for state, n in status.series_states.items()]
    return ", ".join(words) or f"{count} on their way"


def _listed(names: tuple[str, ...], count: int) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {count - _NAMED} more" if count > _NAMED else shown


def _summary(concerns: list[Concern], status: GapFillerStatus | None, now: datetime) -> str:
    """The first concern that is not about series, and how many series are complete."""
    of_group = [c for c in concerns if c.about != "series"]
    parts = [_claims(of_group)] if of_group else []
    if status is None:
        parts.append("the store's completeness is not known")
    elif status.last_scan_time is None or not status.series:
        parts += [c.what for c in concerns if c.about == "series"]
    else:
        parts.append(_counts(status, now))
    return sentence("; ".join(parts))


def _claims(concerns: list[Concern]) -> str:
    more = f" (and {len(concerns) - 1} more)" if len(concerns) > 1 else ""
    return f"{concerns[0].claim}{more}"


def _counts(status: GapFillerStatus, now: datetime) -> str:
    total, current = status.series, status.series_current
    many, one = ("were", "was") if _is_of_before(status, now) else ("are", "is")
    if current >= total:
        return f"all {total} series {many} complete" if total > 1 else f"the series {one} complete"
    parts = [f"{current} of {total} series {many} complete"]
    if status.series_troubled:
        verb = "needs" if status.series_troubled == 1 else "need"
        parts.append(f"{status.series_troubled} {verb} you: {_symbols(status)}")
    if under_way := _under_way(status):
        parts.append(under_way)
    return ", ".join(parts)


def _is_of_before(status: GapFillerStatus, now: datetime) -> bool:
    """Its report on the series is out of date: the store is gone, or gap-filler is stuck."""
    is_gone = status.store_trouble is not None and status.store_trouble.is_gone
    return is_gone or _age_s(status, now) > _STUCK_S


def _symbols(status: GapFillerStatus) -> str:
    """The symbols of the series that need a person."""
    names = [name.rpartition("_")[0] for trouble in status.troubles for name in trouble.series]
    symbols = list(dict.fromkeys(names))
    are_all = sum(len(trouble.series) for trouble in status.troubles) == status.series_troubled
    others = f"{len(symbols) - _NAMED} more" if are_all else "others"
    more = f" and {others}" if len(symbols) > _NAMED else ""
    return ", ".join(symbols[:_NAMED]) + more
