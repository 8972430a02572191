"""What is on record of bars that were missing goes when they come."""

from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import contract_name, instrument_for
from tests.fake_connection import NOW, fill, utc


def reasons_on_record(folder):
    ledger = Ledger(folder / ".ktrdr" / "ledger.sqlite")
    name = f"AAPL_1m {contract_name(instrument_for('AAPL'))}"
    found = {record.reason for record in ledger.absences.within(name, 0, NOW + 86400)}
    ledger.close()
    return found


def test_bars_that_came_after_all_are_unproven_no_more(
    connection, clock, put, make_filler, data_dir
):
    path = put("AAPL_1m")
    connection.absent = set(range(utc("2026-11-19 10:30"), utc("2026-11-19 11:00"), 60))
    filler = make_filler()
    fill(filler)
    assert filler.status.unfillable == {"unproven": 1}
    assert reasons_on_record(data_dir) == {"unproven"}
    connection.absent.clear()
    clock.now += 3601
    fill(filler)
    assert len(path.read_text().splitlines()) == 1 + 4 * 120
    assert filler.status.unfillable == {}
    assert reasons_on_record(data_dir) == set()
