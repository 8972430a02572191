import contextlib
import sqlite3

import numpy as np
import pytest

from ktrdr.completeness.evidence import MissingSession, UnprovenAbsences
from ktrdr.completeness.gaps import Gap
from ktrdr.completeness.grids import Grid
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.completeness.unscheduled import Unscheduled
from ktrdr.ledger.file import LEDGER
from ktrdr.ledger.fills import FillRecords
from ktrdr.ledger.ledger import Clock, Ledger
from ktrdr.ledger.reader import sessions_of
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import Timeframe
from ktrdr.sqlite_file import open_database

DAY = 86400
NOW = 400 * DAY
AAPL, MSFT = "AAPL_1m AAPL/STK", "MSFT_1m MSFT/STK"
SERIES, OTHER = Series("AAPL", Timeframe.M1), Series("MSFT", Timeframe.M1)


def starts(*values):
    return np.array(values, dtype=np.int64)


def test_absence_is_remembered_for_its_series_alone(ledger):
    gap = Gap(NOW - 600, NOW - 480, 3)
    ledger.absences.record_absent(AAPL, [gap], NOW)
    expected = starts(NOW - 660, NOW - 600, NOW - 540, NOW - 480, NOW - 420)
    assert ledger.absences.absent(AAPL, expected, NOW).tolist() == [NOW - 600, NOW - 540, NOW - 480]
    assert ledger.absences.absent(MSFT, expected, NOW).tolist() == []


def test_runs_that_overlap_count_once(ledger):
    ledger.absences.record_absent(AAPL, [Gap(100, 200, 3), Gap(150, 300, 4)], NOW)
    found = ledger.absences.absent(AAPL, starts(50, 100, 150, 200, 250, 300, 350), NOW)
    assert found.tolist() == [100, 150, 200, 250, 300]


def expiries(ledger, series, bar, found_at):
    """When the absence of a bar expires, by the time at which it was found."""
    found = []
    for at in found_at:
        ledger.absences.record_absent(series, [Gap(bar, bar, 1)], at)
        (record,) = ledger.absences.within(series, bar, bar + 1)
        expected = starts(bar)
        assert ledger.absences.absent(series, expected, record.again_at - 1).tolist() == [bar]
        assert ledger.absences.absent(series, expected, record.again_at).tolist() == []
        found.append(record.again_at)
    return found


def test_absences_of_a_series_that_were_found_one_by_one_expire_together(ledger):
    found_at = range(NOW, NOW + DAY, 300)
    together = expiries(ledger, AAPL, NOW - 3600, found_at)
    assert len(set(together)) == 2  # of one day and of the next
    assert {time % DAY for time in together} == {together[0] % DAY}
    assert {at % DAY for at in expiries(ledger, MSFT, NOW - 3600, found_at)} != {
        together[0] % DAY  # so that not all series are requested at once
    }


@pytest.mark.parametrize(
    ("age_days", "is_known", "days"),
    [(0, False, 1), (0, True, 1), (20, False, 30), (20, True, 365)],
    ids=["recent", "recent again", "old", "old again"],
)
def test_absences_expire_the_next_day_after_a_month_or_after_a_year(
    ledger, age_days, is_known, days
):
    bar = NOW - age_days * DAY - 60
    if is_known:
        ledger.absences.record_absent(AAPL, [Gap(bar, bar, 1)], NOW - 3600)
    (found,) = expiries(ledger, AAPL, bar, [NOW])
    assert NOW + (days - 0.5) * DAY <= found < NOW + (days + 0.5) * DAY


def test_a_late_bar_is_no_absent_one_and_may_soon_be_requested_again(ledger):
    late = NOW - 120
    ledger.absences.record_late(AAPL, [Gap(late, late, 1)], NOW, until=NOW + 150)
    assert len(ledger.absences.late(AAPL, starts(late), NOW + 149)) == 1
    assert len(ledger.absences.absent(AAPL, starts(late), NOW)) == 0
    assert len(ledger.absences.late(AAPL, starts(late), NOW + 150)) == 0


def test_it_survives_a_restart(ledger, path):
    schedule = Schedule("UTC", 0, DAY, (Session(0, 3600, 0),))
    ledger.absences.record_absent(AAPL, [Gap(60, 60, 1)], NOW)
    ledger.contracts.keep_schedule("AAPL/STK", schedule, NOW)
    ledger.contracts.learn_alignment("AAPL/STK", frozenset({570}))
    ledger.contracts.learn_alignment("AAPL/STK", frozenset({720}))
    FillRecords(path).request(SERIES, 5 * DAY, NOW)
    ledger.close()
    again = Ledger(path)
    assert len(again.absences.absent(AAPL, starts(60), NOW)) == 1
    assert again.contracts.schedule("AAPL/STK") == (schedule, NOW)
    assert again.contracts.alignment("AAPL/STK") == frozenset({570, 720})
    assert (again.series.wanted(SERIES), again.series.wanted(OTHER)) == (5 * DAY, None)
    again.close()


def test_what_was_requested_before_there_were_fills_is_one_now(path):
    open_database(path, LEDGER).close()
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("DROP TABLE fills")
        old.execute("CREATE TABLE wanted (series TEXT PRIMARY KEY, since INTEGER)")
        old.execute("INSERT INTO wanted VALUES (?, ?)", (str(SERIES), 5 * DAY + 3600))
    for _ in range(2):
        ledger = Ledger(path)
        assert ledger.series.wanted(SERIES) == 5 * DAY
        ledger.close()
    (fill,) = FillRecords(path).listed()
    assert (fill.series, fill.since, fill.requested_at, fill.state) == (
        SERIES,
        5 * DAY,
        None,
        "queued",
    )


def test_it_notices_that_its_file_was_deleted_also_when_there_is_another_one(ledger, path):
    ledger.keep_clock(Clock("first", 5.5, NOW))
    assert ledger.file.is_in_place
    path.rename(path.with_suffix(".old"))
    assert not ledger.file.is_in_place
    path.write_bytes(b"")
    assert not ledger.file.is_in_place


def test_a_ledger_is_made_when_something_is_recorded_and_not_before(ledger, path):
    ledger.file.notice_deletion()
    ledger.put_off(DAY, NOW)
    assert ledger.forget_after(NOW) == 0
    assert not ledger.exists
    assert not path.exists()
    assert ledger.clock() is None
    assert ledger.exists
    assert path.exists()


def test_after_its_file_was_deleted_it_begins_a_new_one(ledger, path):
    forgotten = []
    ledger.file.when_void(lambda: forgotten.append("all"))
    ledger.contracts.learn_alignment("AAPL/STK", frozenset({570}))
    ledger.file.notice_deletion()
    assert (ledger.contracts.alignment("AAPL/STK"), forgotten) == (frozenset({570}), [])
    path.unlink()
    ledger.file.notice_deletion()
    assert (ledger.contracts.alignment("AAPL/STK"), forgotten) == (frozenset(), ["all"])
    assert path.exists()


def test_what_was_read_of_it_is_void_where_its_times_are_changed(ledger):
    forgotten = []
    ledger.file.when_void(lambda: forgotten.append("all"))
    ledger.series.note_check(SERIES, "sample", NOW)
    ledger.forget_after(NOW)
    assert forgotten == []
    ledger.forget_after(NOW - 1)
    assert forgotten == ["all"]
    ledger.put_off(60, NOW)
    assert forgotten == ["all", "all"]


def test_nothing_is_known_at_first(ledger):
    assert ledger.contracts.schedule("X") is None
    assert ledger.contracts.alignment("X") == frozenset()


def test_where_bars_begin_is_remembered_for_its_contract_and_length_alone(ledger, path):
    ledger.contracts.keep_grid("AAPL/STK", Timeframe.H1, Grid(30))
    ledger.contracts.keep_grid("AAPL/STK", Timeframe.M15, Grid(0, 5, 1, NOW, NOW))
    ledger.close()
    again = Ledger(path)
    assert again.contracts.grid("AAPL/STK", Timeframe.H1) == Grid(30)
    assert again.contracts.grid("AAPL/STK", Timeframe.M15) == Grid(0, 5, 1, NOW, NOW)
    assert (
        again.contracts.grid("AAPL/STK", Timeframe.M30)
        == again.contracts.grid("KO/STK", Timeframe.H1)
        == Grid()
    )
    again.close()
    learnt = [sessions_of(path, "AAPL/STK", t)[1] for t in (Timeframe.H1, Timeframe.M15)]
    assert learnt == [frozenset({30}), frozenset()]


def test_a_ledger_from_before_there_were_grids_is_read_and_opened(ledger, path):
    ledger.contracts.learn_alignment("AAPL/STK", frozenset({570}))
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE grids")
    assert sessions_of(path, "AAPL/STK", Timeframe.H1) == (None, frozenset())
    assert sessions_of(path, "AAPL/STK", Timeframe.H4) == (None, frozenset({570}))
    again = Ledger(path)
    assert again.contracts.grid("AAPL/STK", Timeframe.H1) == Grid()
    assert again.contracts.alignment("AAPL/STK") == frozenset({570})
    again.close()


def test_what_was_said_of_bars_that_begin_elsewhere_is_forgotten(ledger):
    expected = starts(60, 120, 180)
    ledger.absences.record_absent(AAPL, [Gap(60, 60, 1)], NOW)
    ledger.absences.record_late(AAPL, [Gap(120, 120, 1)], NOW, NOW + 60)
    ledger.absences.forget_late(AAPL)
    assert ledger.absences.late(AAPL, expected, NOW).tolist() == []
    assert ledger.absences.absent(AAPL, expected, NOW).tolist() == [60]
    ledger.absences.forget_missing(AAPL)
    assert ledger.absences.absent(AAPL, expected, NOW).tolist() == []


def test_what_was_found_out_later_than_now_is_forgotten(ledger):
    expected = starts(60, 120)
    for contract, at in ((AAPL, NOW - 1), (MSFT, NOW + 61)):
        ledger.absences.record_absent(contract, [Gap(60, 60, 1)], at)
        ledger.absences.keep_unproven(
            contract, starts(120), UnprovenAbsences(starts(2), starts(at)), starts(at + 60)
        )
        ledger.contracts.keep_missing_sessions(contract, {0: MissingSession(1, at)})
        ledger.contracts.keep_grid(contract, Timeframe.M1, Grid(5, 5, 1, at, at))
        ledger.contracts.keep_lifetime(contract, ContractLifetime(60, at, None))
        ledger.contracts.keep_schedule(contract, Schedule("UTC", 0, DAY, (Session(0, 60, 0),)), at)
    for series, at in ((SERIES, NOW - 1), (OTHER, NOW + 61)):
        ledger.series.note_check(series, "sample", at)
        ledger.requests.answered(series, 0, 180, at, 1)

    before = ledger.absences.absent(MSFT, expected, NOW)
    assert before.tolist() == []  # nor is it believed till then
    assert ledger.forget_after(NOW + 60) == 8
    assert ledger.forget_after(NOW + 60) == 0
    assert ledger.absences.absent(AAPL, expected, NOW).tolist() == [60]
    assert ledger.absences.absent(MSFT, expected, NOW).tolist() == []
    assert [ledger.absences.unproven(c, expected)[0].times.tolist() for c in (AAPL, MSFT)] == [
        [0, 2],
        [0, 0],
    ]
    assert [set(ledger.contracts.missing_sessions(c)) for c in (AAPL, MSFT)] == [{0}, set()]
    assert [ledger.contracts.grid(c, Timeframe.M1).times for c in (AAPL, MSFT)] == [1, 0]
    assert [ledger.contracts.lifetime(c).head_at for c in (AAPL, MSFT)] == [NOW - 1, None]
    kept = [ledger.contracts.schedule(c) for c in (AAPL, MSFT)]
    assert [(one[0].sessions, one[1]) for one in kept if one] == [
        ((Session(0, 60, 0),), NOW - 1),
        ((Session(0, 60, 0),), 0),
    ]
    assert [ledger.series.checked_at(s, "sample") for s in (SERIES, OTHER)] == [NOW - 1, None]
    assert ledger.requests.last_bars_at(SERIES, Gap(0, 0, 1), 60) == NOW - 1
    assert ledger.requests.last_bars_at(OTHER, Gap(0, 0, 1), 60) is None


def test_unproven_absences_grow_no_older_when_a_clock_is_set(ledger):
    ledger.absences.keep_unproven(
        AAPL, starts(120), UnprovenAbsences(starts(2), starts(NOW)), starts(NOW + 60)
    )
    ledger.contracts.keep_missing_sessions(AAPL, {0: MissingSession(1, NOW)})
    ledger.contracts.keep_grid(AAPL, Timeframe.M1, Grid(5, 5, 1, NOW, NOW + 1))
    ledger.contracts.keep_unscheduled(
        AAPL, {60: Unscheduled(Bar(60, 1.0, 1.0, 1.0, 1.0, 1.0), 1, NOW)}
    )
    ledger.put_off(DAY, NOW + 9 * DAY)
    assert ledger.absences.unproven(AAPL, starts(120))[0].first_at.tolist() == [NOW + DAY]
    assert ledger.contracts.missing_sessions(AAPL) == {0: MissingSession(1, NOW + DAY)}
    assert ledger.contracts.grid(AAPL, Timeframe.M1) == Grid(5, 5, 1, NOW + DAY, NOW + DAY + 1)
    assert ledger.contracts.unscheduled(AAPL)[60].first_at == NOW + DAY
    ledger.put_off(DAY, NOW + DAY + 2)  # which is not yet over: it begins anew
    assert ledger.absences.unproven(AAPL, starts(120))[0].first_at.tolist() == [NOW + DAY + 2]


def test_the_clock_is_remembered_as_it_was_last(ledger):
    assert ledger.clock() is None
    for clock in (Clock("first", 5.5, NOW), Clock("", -5.0, NOW + 1.5)):
        ledger.keep_clock(clock)
        assert ledger.clock() == clock


def test_a_file_that_is_no_database_is_put_aside(path):
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    ledger = Ledger(path)
    assert ledger.contracts.schedule("X") is None
    ledger.close()
    assert path.with_suffix(".broken").read_bytes().startswith(b"no database")
