"""Known sessions of contracts, and when to request them again. Requests none itself.

Until those of a contract are known, the sessions of an alike one are used: a pair of currencies
has the hours of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from weakref import WeakValueDictionary

from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.stored_bars import has_bars
from ktrdr.completeness.evidence import settle
from ktrdr.completeness.unscheduled import with_sessions
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import Instrument, contract_name, hours_group
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.usual_sessions import usual_week

_SCHEDULE_FRESH_S = DAY_S
_SCHEDULE_AGAIN_S = 40 * DAY_S
"""Sessions of older days are not requested again."""
_AROUND_S = 8 * DAY_S
"""How much earlier than a missing session to begin, so that the answer has sessions before it."""
_MISSING_AGAIN_S = {1: 300, 2: 1800, 3: 7200}
"""How often an expected session was missing → how soon to request them again."""
_UNSCHEDULED_AGAIN_S = 300
"""How soon to request sessions again after bars were received at times without trading."""


class KnownSessions:
    """The sessions of one store's contracts, each read once from its ledger. For one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._schedules: dict[str, tuple[Schedule, float]] = {}
        """Contract → its sessions, and when they were requested."""
        self._unknown: set[str] = set()
        """Contracts of which the ledger has none."""
        self._of_group: dict[Hashable, Schedule] = {}
        """`hours_group` → the sessions that IB reported last for one of its contracts."""
        self._equal: WeakValueDictionary[int, Schedule] = WeakValueDictionary()
        ledger.file.when_void(self._forget_all)

    def _forget_all(self) -> None:
        self._schedules.clear()
        self._unknown.clear()
        self._of_group.clear()

    def schedule(self, instrument: Instrument, start: int, now: int) -> Schedule | None:
        """A contract's known sessions; None if they do not reach from `start` to `now`."""
        schedule = self.known_schedule(instrument)
        return schedule if schedule is not None and schedule.covers(start, now) else None

    def known_schedule(self, instrument: Instrument) -> Schedule | None:
        """All known sessions of a contract, or of an alike one until then; None: none."""
        own = self._own_schedule(instrument)
        return self._of_group.get(hours_group(instrument)) if own is None else own

    def are_of_another(self, instrument: Instrument) -> bool:
        """The known sessions are those of an alike contract: its own are not known yet."""
        return self._own_schedule(instrument) is None

    def _own_schedule(self, instrument: Instrument) -> Schedule | None:
        name = contract_name(instrument)
        if name not in self._schedules and name not in self._unknown:
            kept = self._ledger.contracts.schedule(name)
            if kept is None:
                self._unknown.add(name)
            else:
                self._keep(instrument, *kept)
        return self._schedules[name][0] if name in self._schedules else None

    def _keep(self, instrument: Instrument, schedule: Schedule, requested_at: float) -> None:
        schedule, name = self._shared(schedule), contract_name(instrument)
        self._schedules[name] = (schedule, requested_at)
        self._unknown.discard(name)
        group = hours_group(instrument)
        if group is not None and schedule.source == "ib":
            self._of_group[group] = schedule

    def take_schedule(
        self,
        series: Sequence[SeriesState],
        received: Schedule,
        now: int,
        closed: Collection[int] = (),
    ) -> None:
        """Record the sessions that IB reported for a contract, as far as they are accepted.

        `series`: those of that contract. `closed`: days without trading by another calendar, as
        UTC midnights.
        """
        instrument, name = series[0].instrument, contract_name(series[0].instrument)
        known = self._own_schedule(instrument)
        if known is not None and (known.start > received.end or received.start > known.end):
            known = None
        accepted = settle(
            known,
            received,
            usual_week(known, received, instrument.sec_type, now),
            self._ledger.contracts.missing_sessions(name),
            lambda session: any(has_bars(state, session) for state in series),
            now,
            closed,
        )
        most = max((one.times for one in accepted.missing.values()), default=0)
        again_s = _MISSING_AGAIN_S.get(most, _SCHEDULE_FRESH_S // 2)
        requested_at = now - _SCHEDULE_FRESH_S + again_s if accepted.is_suspect else now
        self._keep(instrument, accepted.schedule, requested_at)
        self._ledger.contracts.keep_schedule(name, accepted.schedule, requested_at)
        self._ledger.contracts.keep_missing_sessions(name, accepted.missing)

    def request_soon(self, instrument: Instrument, now: int) -> None:
        """Request SCHEDULE again soon, since bars were received that contradict it."""
        known, name = self._own_schedule(instrument), contract_name(instrument)
        if known is not None:
            requested_at = min(
                self._schedules[name][1], now - _SCHEDULE_FRESH_S + _UNSCHEDULED_AGAIN_S
            )
            self._schedules[name] = (known, requested_at)

    def add_sessions(self, instrument: Instrument, sessions: Iterable[Session]) -> None:
        """Record sessions that bars have shown; SCHEDULE may include them by now."""
        known, name = self._own_schedule(instrument), contract_name(instrument)
        if known is None:
            return
        schedule = with_sessions(known, sessions)
        self._schedules[name] = (self._shared(schedule), self._schedules[name][1])
        self._ledger.contracts.keep_schedule(name, schedule, int(self._schedules[name][1]))

    def _shared(self, schedule: Schedule) -> Schedule:
        """An equal schedule that is in memory already: an exchange has many contracts."""
        kept = self._equal.setdefault(hash(schedule), schedule)
        return kept if kept == schedule else schedule

    def again_from(self, instrument: Instrument, start: int, now: int) -> int:
        """The start of the sessions to request: old ones that are known do not change.

        Those that SCHEDULE has missed are requested again until that is settled. `start`: the
        start of the sessions needed.
        """
        known = self._own_schedule(instrument)
        if known is None or known.start > start or known.source != "ib":
            return start
        missing = self._ledger.contracts.missing_sessions(contract_name(instrument))
        unsettled = (day for day, one in missing.items() if not one.is_settled(now))
        oldest = min(unsettled, default=now) - _AROUND_S
        return max(start, min(oldest, known.end - _SCHEDULE_AGAIN_S, now - _SCHEDULE_AGAIN_S))

    def are_stale(self, instrument: Instrument, start: int, now: int) -> bool:
        """Its own are unknown from `start` on, or a day old: holidays are added, hours change."""
        own = self._own_schedule(instrument)
        if own is None or not own.covers(start, now):
            return True
        _, known_at = self._schedules[contract_name(instrument)]
        return now - known_at >= _SCHEDULE_FRESH_S
