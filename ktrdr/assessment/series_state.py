"""The known state of a series, and the snapshot that other threads read. Requests nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ktrdr.assessment.error_state import ErrorState
from ktrdr.completeness.coverage import Coverage
from ktrdr.completeness.differences import ComparedBars
from ktrdr.completeness.gaps import Reason
from ktrdr.completeness.lifetime import ContractLifetime, in_lifetime
from ktrdr.completeness.unscheduled import with_unscheduled
from ktrdr.errors import (
    KtrdrError,
    MalformedFile,
    Misconfigured,
    NotEntitled,
    NotUnderstood,
    OtherContract,
    UnknownContract,
)
from ktrdr.market.instruments import Instrument, Series, contract_name
from ktrdr.market.sessions import (
    DAILY_SETTLE_S,
    Expected,
    Schedule,
    expected,
)
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.file_key import FileKey
from ktrdr.store.interface import BarStore

_ANY_LIFETIME = ContractLifetime()
_NO_STARTS = np.empty(0, dtype=np.int64)
_REASONS: dict[type[KtrdrError], Reason] = {
    NotEntitled: Reason.NOT_ENTITLED,
    UnknownContract: Reason.UNKNOWN_CONTRACT,
    OtherContract: Reason.OTHER_CONTRACT,
    NotUnderstood: Reason.NOT_UNDERSTOOD,
    MalformedFile: Reason.BROKEN_FILE,
    Misconfigured: Reason.BROKEN_FILE,
}


@dataclass(frozen=True)
class Basis:
    """What an assessment is based on; replaced, never changed."""

    schedule: Schedule | None = None
    """All known sessions of the contract."""
    lifetime: ContractLifetime = _ANY_LIFETIME
    alignment: frozenset[int] = frozenset()
    """Where bars begin, as far as that is learnt; an argument of `expected`."""
    unscheduled: tuple[int, ...] = ()
    """Starts of bars received at times without trading, and not accepted yet."""

    def expected(
        self,
        timeframe: Timeframe,
        stored: tuple[int | None, int | None],
        span: tuple[int, int],
        now: int,
    ) -> Expected:
        """Bars that start in an interval and are due; none if no sessions are known.

        None before IB's own first bar, and none after the contract's last day, except between the
        first and last start of what is `stored`: stored bars count more than IB's report.
        """
        lifetime, schedule, (first, last) = self.lifetime, self.schedule, stored
        if schedule is None:
            return Expected(_NO_STARTS, _NO_STARTS)
        if lifetime.head is not None and first is not None:
            lifetime = lifetime._replace(head=min(lifetime.head, first))
        if lifetime.expires is not None and last is not None:
            lifetime = lifetime._replace(expires=max(lifetime.expires, last - last % DAY_S))
        start, end = max(span[0], schedule.start), span[1]
        found = expected(schedule, timeframe, start, end, now, alignment=self.alignment)
        more = [t for t in self.unscheduled if start <= t < min(end, now - DAILY_SETTLE_S)]
        found = with_unscheduled(found, np.array(more, np.int64), schedule, timeframe)
        return in_lifetime(found, lifetime, timeframe)


def absence_key(series: Series, instrument: Instrument) -> str:
    """The key of a series' absences in the ledger: those of one contract alone."""
    return f"{series} {contract_name(instrument)}"


class SeriesSnapshot(NamedTuple):
    """A series at one moment, for any thread. Fields as in `SeriesState`."""

    series: Series
    instrument: Instrument
    store: BarStore
    """Any thread may read its `rows`."""
    coverage: Coverage | None
    past: Coverage | None
    is_past_known: bool
    key: FileKey | None
    first: int | None
    last: int | None
    is_owned: bool
    error: KtrdrError | None
    incomplete: MalformedFile | None
    retry_at: float
    is_rebuilding: bool
    next_due: int | None
    basis: Basis
    compared: ComparedBars


class FileSnapshot(NamedTuple):
    """A series' file as last read."""

    key: FileKey | None = None
    """None: it was never read."""
    first: int | None = None
    last: int | None = None
    """Starts of its first and last bar (UTC seconds)."""
    is_verified: bool = False
    """Every row was read and is in order."""
    is_owned: bool = False
    """Every row was written by ktrdr."""
    incomplete: MalformedFile | None = None
    """Which rows lack a value, if any do; the others are kept complete."""


@dataclass(frozen=True)
class Assessment:
    """What a series is missing, as last assessed."""

    coverage: Coverage | None = None
    """The days that are kept complete; None: not assessed yet, or they cannot be."""
    past: Coverage | None = None
    """The days before, back to the file's first row; None: none, or not assessed yet."""
    past_basis: tuple[int, object, ContractLifetime, frozenset[int]] | None = None
    """What `past` is based on; first its end."""
    basis: Basis = Basis()
    """What the assessment is based on."""
    due_at: int | None = None
    """When the oldest missing bar that can still be filled was due (UTC seconds)."""
    next_due: int | None = None
    """When its next bar becomes due (UTC seconds); None: that is not known."""


_NOT_READ, _NOT_ASSESSED, _OK = FileSnapshot(), Assessment(), ErrorState()
_NONE_DIFFER = ComparedBars()


@dataclass(eq=False)
class SeriesState:
    """One series of the store, and its known state. For the thread that assesses it."""

    series: Series
    instrument: Instrument
    store: BarStore
    """The store of its file."""
    rebuilds_from: int | None = None
    """It is a staging copy, to which all bars from then on are requested; None: it is not."""
    file: FileSnapshot = _NOT_READ
    assessment: Assessment = _NOT_ASSESSED
    error_state: ErrorState = _OK
    tried_at: float = 0.0
    compared_at: float = 0.0
    """When the last request was sent whose answer matched the stored bars (UTC seconds).

    0: none since this process first read the file.
    """
    is_rebuilding: bool = False
    """It is being rebuilt in a staging copy, and left alone until that is done."""
    compared: ComparedBars = _NONE_DIFFER
    """How its bars compare with IB's, by the record, if the file has rows of others."""

    def __repr__(self) -> str:
        return f"<SeriesState {self.series} {self.error_state.state}>"

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        self.__dict__.pop("snapshot", None)

    @cached_property
    def snapshot(self) -> SeriesSnapshot:
        """A snapshot for other threads; the same until something is set."""
        file, assessment, error_state = self.file, self.assessment, self.error_state
        return SeriesSnapshot(
            self.series,
            self.instrument,
            self.store,
            assessment.coverage,
            assessment.past,
            self.is_past_known,
            file.key,
            file.first,
            file.last,
            file.is_owned,
            error_state.error,
            file.incomplete,
            error_state.retry_at,
            self.is_rebuilding,
            assessment.next_due,
            assessment.basis,
            self.compared,
        )

    # Its parts.

    @property
    def key(self) -> FileKey | None:
        """The file that was last read."""
        return self.file.key

    @property
    def first(self) -> int | None:
        """The start of its first bar."""
        return self.file.first

    @property
    def last(self) -> int | None:
        """The start of its last bar."""
        return self.file.last

    @property
    def is_owned(self) -> bool:
        """Every row of the file was written by ktrdr."""
        return self.file.is_owned

    @property
    def coverage(self) -> Coverage | None:
        """The coverage of the days that are kept complete."""
        return self.assessment.coverage

    @property
    def error(self) -> KtrdrError | None:
        """Its error, if any."""
        return self.error_state.error

    @property
    def is_past_known(self) -> bool:
        """The days before those kept complete were assessed, and nothing has changed since.

        Also if there are none.
        """
        basis, coverage = self.assessment.past_basis, self.assessment.coverage
        assessed_until = basis[0] if basis else None
        is_known = self.file.is_verified and coverage is not None
        return is_known and coverage is not None and coverage.since == assessed_until

    @property
    def absence_key(self) -> str:
        """The key of its absences in the ledger."""
        return absence_key(self.series, self.instrument)

    @property
    def reason(self) -> Reason:
        """The reason of its open gaps."""
        if self.error is None:
            return Reason.OPEN
        return _REASONS.get(type(self.error), Reason.FAILED)

    @property
    def is_blocked(self) -> bool:
        """Its file or its entry is broken, so that nothing may be requested or written."""
        return self.error_state.is_blocked

    # Events.

    def note_own_file(self, why: MalformedFile | None) -> None:
        """Note whether it has a file of its own; `why`: it has none, and is left alone."""
        if why is None:
            self.error_state = self.error_state.has_file()
            return
        self.error_state = self.error_state.no_file(why)
        self.assessment = replace(self.assessment, coverage=None, past=None, past_basis=None)
        self.file = FileSnapshot(is_owned=self.file.is_owned)

    def block(self, error: MalformedFile, key: FileKey | None) -> None:
        """Leave it alone until its file changes, which cannot be read."""
        self.error_state = self.error_state.broken(error)
        self.assessment = replace(self.assessment, coverage=None)
        self.file = self.file._replace(key=key)

    def failed(
        self, error: KtrdrError, now: float, delays_s: Sequence[float] | None = None
    ) -> None:
        """Defer it for a growing time; as `ErrorState.failed`. That of its rows stays."""
        if isinstance(self.error, NotUnderstood) and not isinstance(error, NotUnderstood):
            return
        self.error_state = self.error_state.failed(error, now, delays_s)
        if self.coverage is not None:
            self.assessment = replace(self.assessment, coverage=self.coverage.refused(self.reason))

    def succeeded(self) -> None:
        """Clear its error, since a request or a read succeeded; not that of its rows."""
        if not isinstance(self.error, NotUnderstood):
            self.error_state = self.error_state.succeeded()

    def understood(self) -> None:
        """Clear the error that its rows were not understood."""
        if isinstance(self.error, NotUnderstood):
            self.error_state = self.error_state.succeeded()

    def check_understood(self) -> None:
        """NotUnderstood: nothing may be written to its file."""
        if isinstance(self.error, NotUnderstood):
            raise self.error

    # Queries.

    def has_work(self, now: float) -> bool:
        """A request may be sent now."""
        coverage = self.coverage
        is_open = coverage is None or bool(coverage.open_gaps) or coverage.given_up is not None
        return is_open and self.may_be_requested(now)

    def may_be_requested(self, now: float) -> bool:
        """It is neither deferred nor blocked nor being rebuilt."""
        return self.error_state.retry_at <= now and not self.is_blocked and not self.is_rebuilding

    def is_current(self, now: float, grace_s: float) -> bool:
        """Nothing fillable is missing, except bars that became due just now."""
        if self.coverage is None or self.error is not None or self.is_rebuilding:
            return False
        return self.assessment.due_at is None or now < self.assessment.due_at + grace_s
