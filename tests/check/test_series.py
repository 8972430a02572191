"""Files whose rows mean other times than they seem to are told, and left as they are."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from ktrdr.check.defects import FindingState
from ktrdr.check.store import StoreCheck
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import Series, contract_name, instrument_for
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore

HEADER = "timestamp,open,high,low,close,volume\n"
NEW_YORK = ZoneInfo("America/New_York")
OPEN = datetime(2026, 11, 20, 9, 30, tzinfo=NEW_YORK)
NOW = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
DAY = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
SESSION = Session(int(OPEN.timestamp()), int(OPEN.timestamp()) + 390 * 60, DAY)
TABLE = {"primary_exchange": "NASDAQ"}


@pytest.fixture
def ledger(data_dir):
    with contextlib.closing(Ledger(data_dir / ".ktrdr" / "ledger.sqlite")) as ledger:
        yield ledger


@pytest.fixture
def check(data_dir, ledger):
    """Write a file of AAPL, whose sessions of that day are known, and check it."""

    def check(rows, timeframe="1m", *, fix=False, is_ours=False, **table):
        table = TABLE | table
        lines = [
            f"{key} = {str(value).lower() if value is True else repr(value)}"
            for key, value in table.items()
        ]
        (data_dir / "instruments.toml").write_text("\n".join(["[AAPL]", *lines, ""]))
        schedule = Schedule("America/New_York", DAY, DAY + 86400, (SESSION,))
        instrument = instrument_for("AAPL", table)
        ledger.contracts.keep_schedule(contract_name(instrument), schedule, NOW)
        series = Series("AAPL", Timeframe.parse(timeframe))
        path = data_dir / series.file_name
        path.write_text(HEADER + "".join(rows))
        before = path.read_bytes()
        if is_ours:
            ledger.series.keep_file(series, CsvStore(data_dir).key(series), is_owned=True)
        store = StoreCheck(data_dir, lambda: NOW)
        found = store.check(series, fix=fix).findings
        if not fix:
            assert path.read_bytes() == before
        return found

    return check


def rows(count, step_min=1, *, zone=UTC, form="%Y-%m-%d %H:%M:%S%z", first_min=0):
    moments = (OPEN + timedelta(minutes=first_min + step_min * number) for number in range(count))
    return [f"{moment.astimezone(zone):{form}},1,2,0.5,1.5,100\n" for moment in moments]


PLAIN = "%Y-%m-%d %H:%M:%S"


def test_local_times_without_a_zone_are_told_with_the_zone_that_fits(check):
    (finding,) = [
        one
        for one in check(rows(390, zone=NEW_YORK, form=PLAIN))
        if one.state is FindingState.STAYS
    ]
    assert finding.what == (
        "as UTC 90 of 390 rows lie in the contract's sessions, as America/New_York 390 of 390"
    )
    assert "in UTC or with its offset" in finding.fix


def test_rows_newest_first_are_understood_before_they_are_sorted(check):
    newest_first = rows(390, zone=NEW_YORK, form=PLAIN)[::-1]
    assert any("America/New_York" in one.what for one in check(newest_first))
    assert any("America/New_York" in one.what for one in check(newest_first, fix=True))


@pytest.mark.parametrize(
    ("zone", "form"),
    [
        (UTC, PLAIN),
        (UTC, "%Y-%m-%d %H:%M:%S+00:00"),
        (UTC, "%s"),
        (NEW_YORK, "%Y-%m-%dT%H:%M:%S%z"),
        (timezone(timedelta(hours=9)), "%Y%m%d %H%M%S%z"),
    ],
)
def test_times_that_fit_are_no_finding(check, zone, form):
    assert check(rows(390, zone=zone, form=form)) == ()


def test_rows_that_ktrdr_wrote_are_not_doubted(check):
    found = check(rows(390, zone=NEW_YORK, form=PLAIN), is_ours=True)
    assert {one.state for one in found} == {FindingState.NOTE}


@pytest.mark.parametrize(
    ("found", "timeframe", "what"),
    [
        (rows(390), "5m", "most rows are a minute apart, less than a bar of 5m"),
        (rows(78, 5), "1m", "all rows begin as bars of 5m do, and not as those of 1m"),
    ],
)
def test_bars_that_are_other_ones_are_told(check, found, timeframe, what):
    told = check(found, timeframe)
    assert (told[-1].what, told[-1].state) == (what, FindingState.STAYS)


def test_extended_hours_are_worth_knowing(check):
    found = check(rows(960, first_min=-330))
    assert [one.state for one in found] == [FindingState.NOTE] * 2
    assert "most others in extended hours" in found[-1].what
    assert "extended_hours = true" in found[-1].fix


def test_a_file_with_broken_lines_is_understood_all_the_same(check):
    lines = rows(390, zone=NEW_YORK, form=PLAIN)
    lines[10] = "soon,1,2,0.5,1.5,100\n"
    lines[-1] = lines[-1].replace("100", "many")
    assert any("as America/New_York 389 of 389" in one.what for one in check(lines))
