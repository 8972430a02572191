"""Coverage of a series by the ledger alone, without the gap filler. Writes nothing.

It applies the sessions, the contract's lifetime and the proven absences of the store's ledger. What
the gap filler knows beyond these, such as failed requests, is lacking: such bars count as open.
"""

from __future__ import annotations

from ktrdr.completeness.coverage import Coverage, compute_coverage
from ktrdr.completeness.lifetime import in_lifetime
from ktrdr.ledger.reader import absent_of, lifetime_of, sessions_of, wanted_of
from ktrdr.market.instruments import Instrument, Series, contract_name
from ktrdr.market.sessions import Int64Array, expected, utc_midnight
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.interface import BarStore
from ktrdr.store.source import ledger_path

_NO_SESSIONS = "the ledger has no sessions of this contract"


def coverage_by_ledger(
    store: BarStore,
    series: Series,
    instrument: Instrument,
    present: Int64Array,
    span: tuple[int, int],
    due_by: int,
    now: int,
    max_age_days: int,
) -> tuple[Coverage | None, str]:
    """The coverage of an interval, as far as sessions are known; or None, and why.

    `present`: the starts of the bars that are there; `due_by`: later bars are not expected; all in
    UTC seconds. `max_age_days` as in the
    settings: older bars are requested only where that was asked for.
    """
    path, name = ledger_path(store.folder), contract_name(instrument)
    schedule, alignment = sessions_of(path, name, series.timeframe)
    if schedule is None:
        return None, _NO_SESSIONS
    if series.timeframe is Timeframe.H4 and not alignment:
        return None, "it is not known yet when four-hour bars of this contract begin"
    start, end = max(span[0], schedule.start), min(span[1], schedule.end, due_by)
    if start >= end:
        return None, f"{_NO_SESSIONS} for these days"
    found = expected(schedule, series.timeframe, start, end, due_by, alignment=alignment)
    bars = in_lifetime(found, lifetime_of(path, name), series.timeframe)
    absent = absent_of(path, f"{series} {name}", bars.starts, now)
    fill_from = _fill_from(store, series, instrument, now - max_age_days * DAY_S)
    nothing = absent[:0]
    coverage = compute_coverage(bars, present, absent, nothing, fill_from, (start, end))
    return coverage, ""


def _fill_from(store: BarStore, series: Series, instrument: Instrument, oldest: int) -> int:
    """From when on bars are requested without anybody asking for them (UTC seconds)."""
    wanted = wanted_of(ledger_path(store.folder), series)
    since = instrument.since_for(series.timeframe)
    days = [oldest - oldest % DAY_S, wanted, utc_midnight(since) if since else None]
    return min(day for day in days if day is not None)
