"""What other programs read of a ledger: the same as its writer, or nothing."""

import numpy as np

from ktrdr.completeness.gaps import Gap
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.ledger.reader import absent_of, lifetime_of, own_file
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe

DAY = 86400
NOW = 400 * DAY
AAPL = "AAPL_1m AAPL/STK"
SERIES = Series("AAPL", Timeframe.M1)
BARS = np.array([60, 120], np.int64)


def test_absences_are_read(ledger, path):
    ledger.absences.record_absent(AAPL, [Gap(60, 60, 1)], NOW)
    assert absent_of(path, AAPL, BARS, NOW).tolist() == [60]


def test_an_absence_that_a_clock_ahead_has_dated_is_not_read(ledger, path):
    ledger.absences.record_absent(AAPL, [Gap(60, 60, 1)], NOW + DAY)
    assert absent_of(path, AAPL, BARS, NOW).tolist() == []
    assert absent_of(path, AAPL, BARS, NOW + DAY).tolist() == [60]


def test_a_file_is_read_only_if_it_is_owned(ledger, path):
    ledger.series.keep_file(SERIES, (1, 2, 3), is_owned=False)
    assert own_file(path, SERIES) is None
    ledger.series.keep_file(SERIES, (1, 2, 3), is_owned=True)
    assert own_file(path, SERIES) == (1, 2, 3)


def test_without_a_ledger_nothing_is_known_and_none_is_made(path):
    assert absent_of(path, AAPL, BARS, NOW).tolist() == []
    assert lifetime_of(path, "AAPL/STK") == ContractLifetime()
    assert own_file(path, SERIES) is None
    assert not path.exists()
