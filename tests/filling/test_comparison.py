"""The correction of revised bars: in the file, and on record if that is what people read."""

import pytest

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.file_differences import FileDifferences
from ktrdr.assessment.file_ownership import FileOwnership
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.completeness.revisions import compare
from ktrdr.errors import MalformedFile
from ktrdr.filling.comparison import Comparison
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import instrument_for, parse_series
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import HEADER, price, utc

NOW = utc("2026-11-21 15:00")
AAPL = parse_series("AAPL_1m.csv")
FIRST, SECOND, THIRD = (price(utc(f"2026-11-20 10:0{n}")) for n in range(3))
REVISED = SECOND._replace(volume=4711.0)


@pytest.fixture
def ledger(data_dir):
    ledger = Ledger(data_dir / ".ktrdr" / "ledger.sqlite")
    yield ledger
    ledger.close()


@pytest.fixture
def correct(ledger):
    """Corrects what IB has revised of a series, as received now."""
    sessions = KnownSessions(ledger)
    ownership = FileOwnership(ledger, Contracts(ledger, sessions))
    comparison = Comparison(ownership, ledger.revisions, FileDifferences(ledger))

    def correct(state, stored, *received):
        revision = compare(stored, {bar.start: bar for bar in received})
        comparison.correct(state, revision, NOW)

    return correct


@pytest.fixture
def recorded(ledger):
    """What was stored and is stored since, by the record."""
    return lambda: [(one.old, one.new) for one in ledger.revisions.newest(AAPL, (0, NOW), 10)]


def series_in(store, *bars):
    (store.folder / AAPL.file_name).write_text(HEADER)
    store.add(AAPL, bars)
    return SeriesState(AAPL, instrument_for("AAPL"), store)


def test_the_bar_is_replaced_and_both_are_on_record(correct, recorded, data_dir):
    store = CsvStore(data_dir)
    state = series_in(store, FIRST, SECOND, THIRD)
    correct(state, [FIRST, SECOND, THIRD], FIRST, REVISED, THIRD)
    assert store.rows(AAPL).bars() == [FIRST, REVISED, THIRD]
    assert recorded() == [(SECOND, REVISED)]


def test_a_bar_that_has_gone_from_the_file_meanwhile_was_not_corrected(correct, recorded, data_dir):
    store = CsvStore(data_dir)
    state = series_in(store, FIRST, THIRD)
    correct(state, [FIRST, SECOND], FIRST._replace(volume=1.0), REVISED)
    assert recorded() == [(FIRST, FIRST._replace(volume=1.0))]


def test_a_bar_that_somebody_has_corrected_meanwhile_was_not_corrected_by_us(
    correct, recorded, data_dir
):
    state = series_in(CsvStore(data_dir), FIRST, REVISED)
    correct(state, [FIRST, SECOND], FIRST, REVISED)
    assert recorded() == []


def test_a_staging_copy_is_corrected_and_nobody_has_read_it(correct, recorded, data_dir):
    store = CsvStore(data_dir)
    series_in(store, FIRST)
    store.begin_staging(AAPL)
    store.staging.add(AAPL, [FIRST, SECOND])
    state = SeriesState(AAPL, instrument_for("AAPL"), store.staging, rebuilds_from=FIRST.start)
    correct(state, [FIRST, SECOND], FIRST, REVISED)
    assert store.staging.rows(AAPL).bars() == [FIRST, REVISED]
    assert recorded() == []


def test_nothing_is_on_record_that_could_not_be_written(correct, recorded, data_dir):
    store = CsvStore(data_dir)
    state = series_in(store, FIRST, SECOND)
    (data_dir / AAPL.file_name).write_text("no bars\n")
    with pytest.raises(MalformedFile):
        correct(state, [FIRST, SECOND], FIRST, REVISED)
    assert recorded() == []
