"""Known facts of contracts: when they have bars, where these begin, and their identity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ktrdr.assessment.series_state import Basis, SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.completeness.grids import Grid
from ktrdr.completeness.identity import Identity, KnownContract, settled
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.completeness.unscheduled import Unscheduled
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import Instrument, contract_name
from ktrdr.market.sessions import Expected, Schedule, expected
from ktrdr.market.timeframes import DAY_S, Timeframe

_HEAD_NEAR_S = 30 * DAY_S
"""No exchange is closed for longer than this: more than a trading day lies between."""


class Contracts:
    """The contracts of one store, each fact read once from its ledger. For one thread."""

    def __init__(self, ledger: Ledger, sessions: KnownSessions) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._lifetimes: dict[str, ContractLifetime] = {}
        self._alignments: dict[str, frozenset[int]] = {}
        self._grids: dict[tuple[str, Timeframe], Grid] = {}
        self._unscheduled: dict[str, dict[int, Unscheduled]] = {}
        ledger.file.when_void(self._forget_all)

    def _forget_all(self) -> None:
        """Forget everything that was read from the ledger."""
        self._lifetimes.clear()
        self._alignments.clear()
        self._grids.clear()
        self._unscheduled.clear()

    def basis(self, state: SeriesState, schedule: Schedule | None = None) -> Basis:
        """The facts known now; with other sessions, if given."""
        return Basis(
            self._sessions.known_schedule(state.instrument) if schedule is None else schedule,
            self.lifetime(state.instrument),
            self.alignment(state),
            tuple(self.unscheduled(state)),
        )

    def expected(
        self, state: SeriesState, schedule: Schedule, start: int, end: int, now: int
    ) -> Expected:
        """Due bars that start in `[start, end)`, according to these sessions; as in `Basis`."""
        basis = self.basis(state, schedule)
        stored = (state.first, state.last)
        return basis.expected(state.series.timeframe, stored, (start, end), now)

    def lifetime(self, instrument: Instrument) -> ContractLifetime:
        """When the contract can have bars, as far as is known."""
        name = contract_name(instrument)
        if name not in self._lifetimes:
            self._lifetimes[name] = self._ledger.contracts.lifetime(name)
        return self._lifetimes[name]

    def keep_lifetime(self, instrument: Instrument, lifetime: ContractLifetime) -> None:
        """Record it in the ledger."""
        name = contract_name(instrument)
        if lifetime != self._lifetimes.get(name):
            self._lifetimes[name] = lifetime
            self._ledger.contracts.keep_lifetime(name, lifetime)

    def head_is_confirmed(self, state: SeriesState, head: int, now: int) -> bool:
        """The first stored bar is of the day on which IB's bars begin according to IB."""
        schedule = self._sessions.known_schedule(state.instrument)
        if schedule is None or state.first is None:
            return False
        begin = head - head % DAY_S if state.series.timeframe.is_daily else head
        alignment = self.alignment(state)
        if not begin <= state.first < begin + _HEAD_NEAR_S:  # years are not looked through for it
            return False
        between = expected(
            schedule, state.series.timeframe, begin, state.first + 1, now, alignment=alignment
        )
        return len(np.unique(between.days)) <= 1

    def alignment(self, state: SeriesState) -> frozenset[int]:
        """Where the bars of a series begin, as far as learnt; an argument of `expected`."""
        if state.series.timeframe is Timeframe.H4:
            return self._four_hours(state.instrument)
        return self.grid(state).alignment

    def _four_hours(self, instrument: Instrument) -> frozenset[int]:
        name = contract_name(instrument)
        if name not in self._alignments:
            self._alignments[name] = self._ledger.contracts.alignment(name)
        return self._alignments[name]

    def learn_alignment(self, instrument: Instrument, minutes: frozenset[int]) -> None:
        """Record more local minutes at which four-hour bars of a contract begin."""
        if not minutes <= self._four_hours(instrument):
            name = contract_name(instrument)
            self._ledger.contracts.learn_alignment(name, minutes)
            self._alignments[name] |= minutes

    def grid(self, state: SeriesState) -> Grid:
        """Where the bars of a series begin, except four-hour bars, and any unconfirmed change."""
        place = (contract_name(state.instrument), state.series.timeframe)
        if place not in self._grids:
            self._grids[place] = self._ledger.contracts.grid(*place)
        return self._grids[place]

    def keep_grid(self, state: SeriesState, grid: Grid) -> None:
        """Record it in the ledger."""
        if grid != self.grid(state):
            place = (contract_name(state.instrument), state.series.timeframe)
            self._ledger.contracts.keep_grid(*place, grid)
            self._grids[place] = grid

    def unscheduled(self, state: SeriesState) -> Mapping[int, Unscheduled]:
        """Start → bar received at a time without trading, and not accepted yet."""
        name = state.absence_key
        if name not in self._unscheduled:
            self._unscheduled[name] = (
                self._ledger.contracts.unscheduled(name) if self._ledger.exists else {}
            )
        return self._unscheduled[name]

    def keep_unscheduled(self, state: SeriesState, bars: Mapping[int, Unscheduled]) -> None:
        """Record these unscheduled bars in place of the earlier ones of the series."""
        if bars != self.unscheduled(state):
            self._ledger.contracts.keep_unscheduled(state.absence_key, bars)
            self._unscheduled[state.absence_key] = dict(bars)

    def take_identity(self, state: SeriesState, received: Identity) -> None:
        """Record which contract the symbol means at IB; another one than before is unconfirmed.

        A continuous future becomes another contract at each roll, and its old bars change.
        """
        if state.rebuilds_from is not None:
            return  # a staging copy: the series itself is checked
        known = self._ledger.contracts.identity(state.absence_key)
        is_rolled = state.instrument.sec_type == "CONTFUT"
        now_known = settled(known, received, has_bars=state.first is not None and not is_rolled)
        if now_known != known:
            self._ledger.contracts.keep_identity(state.absence_key, now_known)

    def unconfirmed_contract(self, state: SeriesState) -> KnownContract | None:
        """What the symbol meant and means now, if it is unknown whether that is one contract."""
        known = self._ledger.contracts.identity(state.absence_key) if self._ledger.exists else None
        return known if known is not None and known.received is not None else None

    def confirm_contract(self, state: SeriesState) -> None:
        """Record that the stored bars are those of the contract that IB reports now."""
        known = self.unconfirmed_contract(state)
        if known is not None and known.received is not None:
            self._ledger.contracts.keep_identity(state.absence_key, KnownContract(known.received))
