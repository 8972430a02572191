import numpy as np
import pytest

from ktrdr.data.ledger import Ledger
from ktrdr.planning.gaps import Gap
from ktrdr.planning.instruments import Series
from ktrdr.planning.sessions import Schedule, Session
from ktrdr.planning.timeframes import Timeframe

DAY = 86400
NOW = 400 * DAY
AAPL, MSFT = "AAPL_1m AAPL/STK", "MSFT_1m MSFT/STK"
SERIES, OTHER = Series("AAPL", Timeframe.M1), Series("MSFT", Timeframe.M1)


@pytest.fixture
def path(data_dir):
    return data_dir / ".ktrdr" / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def starts(*values):
    return np.array(values, dtype=np.int64)


def test_absence_is_remembered_for_its_series_alone(ledger):
    gap = Gap(NOW - 600, NOW - 480, 3)
    ledger.record_absent(AAPL, [gap], NOW)
    expected = starts(NOW - 660, NOW - 600, NOW - 540, NOW - 480, NOW - 420)
    assert ledger.absent(AAPL, expected, NOW).tolist() == [NOW - 600, NOW - 540, NOW - 480]
    assert ledger.absent(MSFT, expected, NOW).tolist() == []


def test_runs_that_overlap_count_once(ledger):
    ledger.record_absent(AAPL, [Gap(100, 200, 3), Gap(150, 300, 4)], NOW)
    found = ledger.absent(AAPL, starts(50, 100, 150, 200, 250, 300, 350), NOW)
    assert found.tolist() == [100, 150, 200, 250, 300]


def test_recent_absence_expires_the_next_day(ledger):
    recent = NOW - 3600
    ledger.record_absent(AAPL, [Gap(recent, recent, 1)], NOW)
    assert len(ledger.absent(AAPL, starts(recent), NOW + DAY - 1)) == 1
    assert len(ledger.absent(AAPL, starts(recent), NOW + DAY)) == 0


def test_old_absence_expires_after_a_month(ledger):
    old = NOW - 20 * DAY
    ledger.record_absent(AAPL, [Gap(old, old, 1)], NOW)
    assert len(ledger.absent(AAPL, starts(old), NOW + 30 * DAY - 1)) == 1
    assert len(ledger.absent(AAPL, starts(old), NOW + 30 * DAY)) == 0


def test_a_late_bar_is_no_absent_one_and_may_soon_be_asked_for_again(ledger):
    late = NOW - 120
    ledger.record_late(AAPL, [Gap(late, late, 1)], NOW, until=NOW + 150)
    assert len(ledger.late(AAPL, starts(late), NOW + 149)) == 1
    assert len(ledger.absent(AAPL, starts(late), NOW)) == 0
    assert len(ledger.late(AAPL, starts(late), NOW + 150)) == 0


def test_it_survives_a_restart(ledger, path):
    schedule = Schedule("UTC", 0, DAY, (Session(0, 3600, 0),))
    ledger.record_absent(AAPL, [Gap(60, 60, 1)], NOW)
    ledger.keep_schedule("AAPL/STK", schedule, NOW)
    ledger.learn_alignment("AAPL/STK", frozenset({570}))
    ledger.learn_alignment("AAPL/STK", frozenset({720}))
    ledger.want(SERIES, 5 * DAY)
    ledger.close()
    again = Ledger(path)
    assert len(again.absent(AAPL, starts(60), NOW)) == 1
    assert again.schedule("AAPL/STK") == (schedule, NOW)
    assert again.alignment("AAPL/STK") == frozenset({570, 720})
    assert (again.wanted(SERIES), again.wanted(OTHER)) == (5 * DAY, None)
    again.close()


def test_nothing_is_known_at_first(ledger):
    assert ledger.schedule("X") is None
    assert ledger.alignment("X") == frozenset()


def test_a_file_that_is_no_database_is_put_aside(path):
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    ledger = Ledger(path)
    assert ledger.schedule("X") is None
    ledger.close()
    assert path.with_suffix(".broken").read_bytes().startswith(b"no database")
