"""What the gap filler would request of a store, and write into it. Sends and writes nothing.

The series are assessed by a copy of the ledger, which is deleted afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap
from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError, RequestFailed, StoreUnwritable
from ktrdr.filling.next_requests import next_requests, whole_request
from ktrdr.filling.request_lengths import LearntLengths
from ktrdr.gap_filler.ownership import Ownership
from ktrdr.gap_filler.scan import is_watched
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import Instrument, Series, contract_name, instrument_of_entry
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.usual_sessions import by_rules
from ktrdr.sqlite_file import DatabaseError, copy_to
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.entries import read_entries
from ktrdr.store.file_errors import TRY_AGAIN, unwritable
from ktrdr.store.instruments_file import tables_of
from ktrdr.store.source import ledger_path


@dataclass(frozen=True)
class Planned:
    """What would be requested and written of one series."""

    series: Series
    requests: tuple[BarsRequest, ...] = ()
    """For bars, newest first; IB's answers may show that fewer or more are needed."""
    appended: int = 0
    """Expected bars after the file's last row, or all if it has none."""
    inserted: int = 0
    """Expected bars before it: the file is replaced by a copy that has them too."""
    wants_sessions: bool = False
    """The sessions of its contract are requested first."""
    by_usual_sessions: bool = False
    """The bars were counted by the usual sessions of such a contract, since its own are unknown."""
    is_owned: bool = False
    """Every row of the file was written by ktrdr, or it has none."""
    error: KtrdrError | None = None
    """Why nothing is requested or written."""

    @property
    def bars(self) -> int:
        """How many bars are expected."""
        return self.appended + self.inserted


class DryRun:
    """The plan for the store of these settings. `clock` returns UTC seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._now = int(clock())
        self._lengths = LearntLengths()
        self._presumed: set[str] = set()
        """Contracts of which the usual sessions are taken."""

    def planned(self, chosen: Callable[[Series], bool]) -> list[Planned]:
        """The plan for the kept series that are chosen, in the order of their names.

        WrongSource: nothing may be written to this store. Misconfigured: instruments.toml cannot
        be read. StoreUnwritable: the ledger cannot be read.
        """
        folder = self._settings.data_dir
        Ownership(CsvStore(folder), self._settings.is_live_folder).check(self._settings.source)
        found = read_entries(folder)
        tables = tables_of(folder)
        listed = {**dict.fromkeys(found.found), **found.blocked}
        with self._assessor() as assessor:
            return [
                self._planned(assessor, series, tables.get(series.symbol), listed[series])
                for series in sorted(listed, key=lambda one: (one.symbol, one.timeframe.length_s))
                if chosen(series) and is_watched(series, tables.get(series.symbol))
            ]

    @contextmanager
    def _assessor(self) -> Iterator[Assessor]:
        """Assesses the files by a copy of their ledger, if there is one."""
        path = ledger_path(self._settings.data_dir)
        with tempfile.TemporaryDirectory(prefix="ktrdr-") as scratch:
            ledger = Ledger(Path(scratch) / path.name)
            try:
                if path.exists():
                    copy_to(path, ledger.file.path)
                store = CsvStore(self._settings.data_dir, state=ledger.file)
                yield Assessor(store, ledger, self._settings.ktrdr_gap_max_age_days)
            except DatabaseError as error:
                raise StoreUnwritable(
                    f"{path} cannot be read: {error}", hint="ktrdr check says whether it is broken"
                ) from error
            finally:
                ledger.close()

    def _planned(
        self, assessor: Assessor, series: Series, entry: object, why: KtrdrError | None
    ) -> Planned:
        """The plan for one series; `why`: it has no file of its own."""
        try:
            if why is not None:
                raise why
            instrument = instrument_of_entry(series.symbol, entry)
            state = SeriesState(series, instrument, assessor.main_store)
            state.compared_at = self._now  # else only what touches stored bars comes first
            return self._plan(assessor, state)
        except FileNotFoundError:
            return Planned(series)
        except OSError as error:
            return Planned(series, error=unwritable(series.file_name, error, TRY_AGAIN))
        except KtrdrError as error:
            return Planned(series, error=error)

    def _plan(self, assessor: Assessor, state: SeriesState) -> Planned:
        if str(state.series) in assessor.ledger.series.rebuilds():
            what = f"{state.series} is being rebuilt: all of its bars are requested anew"
            raise RequestFailed(what, hint="ktrdr gaps shows how far it is")
        since, name = assessor.fill_from(state, self._now), contract_name(state.instrument)
        state.file = state.file._replace(first=state.store.contents(state.series, since).first)
        wants_sessions = assessor.wants_schedule(state, self._now)
        is_known = assessor.sessions.schedule(state.instrument, since, self._now) is not None
        if not is_known and _has_usual_sessions(state.instrument):
            usual = by_rules(state.instrument.sec_type, since - DAY_S, self._now + DAY_S)
            assessor.sessions.take_schedule([state], usual, self._now)
            self._presumed.add(name)
        assessor.assess(state, self._now)
        requests: list[BarsRequest] = []
        gaps: list[Gap] = []
        if state.coverage is not None:
            gaps, lengths = state.coverage.open_gaps, self._lengths.known(assessor.ledger)
            requests = next_requests(state, state.coverage, lengths, [], self._now)
        behind = [gap.bars for gap in gaps if state.last is None or gap.first > state.last]
        return Planned(
            state.series,
            tuple(whole_request(one, state, assessor, self._now) for one in requests),
            sum(behind),
            sum(gap.bars for gap in gaps) - sum(behind),
            wants_sessions,
            name in self._presumed,
            state.is_owned,
        )


def _has_usual_sessions(instrument: Instrument) -> bool:
    """Contracts like it usually have the sessions of `by_rules`: not those of other countries."""
    if instrument.sec_type == "STK":
        return instrument.currency == "USD" and not instrument.extended_hours
    return instrument.sec_type in ("CASH", "CONTFUT", "CRYPTO", "FUT")
