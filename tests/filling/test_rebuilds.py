"""A series that is pulled again keeps the look of its file: columns, line ends, mark, spelling."""

import pytest

from ktrdr.errors import MalformedFile
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import DAY, coverage_of, fill, price, utc

AAPL = parse_series("AAPL_1d.csv")
HEADERS = {
    "ours": "timestamp,open,high,low,close,volume\n",
    "a further column": "timestamp,open,high,low,close,volume,note\n",
    "columns in another order": "note,volume,close,low,high,open,timestamp,vwap\n",
    "Windows line ends": "timestamp,open,high,low,close,volume,note\r\n",
    "a byte order mark": "\ufefftimestamp,open,high,low,close,volume\n",
    "all of these": "\ufeffnote,close,timestamp,open,high,low,volume\r\n",
}


def quarter(bar):
    """After a split of four to one."""
    low, high = bar.low / 4, bar.high / 4
    return bar._replace(open=bar.open / 4, high=high, low=low, close=bar.close / 4)


def split(filler, connection, clock):
    connection.factor = quarter
    for _ in range(3):
        clock.now += DAY + 60
        filler.request_scan()
        fill(filler)


@pytest.mark.parametrize("header", list(HEADERS.values()), ids=list(HEADERS))
def test_the_new_file_looks_as_the_old_one(header, make_filler, connection, clock, data_dir):
    path = data_dir / AAPL.file_name
    path.write_bytes(header.encode())
    fill(filler := make_filler(ktrdr_gap_max_age_days=30))
    before = path.read_bytes()
    split(filler, connection, clock)
    (old,) = (data_dir / ".ktrdr" / "replaced").iterdir()
    assert old.read_bytes().startswith(before)
    first, *rows = path.read_bytes().decode().splitlines(keepends=True)
    assert first == header
    columns = header.strip("\ufeff\r\n").split(",")
    end = header.removeprefix(header.rstrip("\r\n"))
    starts = []
    for row in rows:
        assert row.endswith(end)
        cells = dict(zip(columns, row.removesuffix(end).split(","), strict=True))
        assert cells["timestamp"].endswith(" 00:00:00+00:00")
        starts.append(utc(cells["timestamp"][:19]))
        assert float(cells["close"]) == price(starts[-1]).close / 4
        assert not cells.get("note")
        assert not cells.get("vwap")
    wanted = connection.market("1d", utc("2026-10-21"), utc("2026-11-24"))
    assert starts == [bar.start for bar in wanted]


def test_it_goes_on_alike_after_a_restart_midway(make_filler, connection, clock, data_dir):
    path, header = data_dir / AAPL.file_name, HEADERS["all of these"]
    path.write_bytes(header.encode())
    fill(filler := make_filler(ktrdr_gap_max_age_days=30))
    connection.factor = quarter
    clock.now += DAY + 60
    filler.request_scan()
    copy = data_dir / ".ktrdr" / "renewed" / AAPL.file_name
    for _ in range(20):
        if copy.exists():
            break
        filler.step()
    assert copy.read_bytes() == header.encode()
    filler.close()
    again = make_filler(ktrdr_gap_max_age_days=30)
    fill(again)
    split(again, connection, clock)
    assert path.read_bytes().startswith(header.encode())
    _, close, start, *_ = path.read_text().splitlines()[1].split(",")
    assert float(close) == price(utc(start[:19])).close / 4


SPELLED = ["2026-11-19T00:00:00Z", "2026-11-19", "2026-11-19 00:00:00", "1795046400"]


@pytest.mark.parametrize("text", SPELLED)
def test_its_first_rows_spell_their_times_as_the_old_file_does(text, data_dir):
    store, path = CsvStore(data_dir), data_dir / AAPL.file_name
    path.write_text(f"note,timestamp,open,high,low,close,volume\n,{text},1,1,1,1,1\n")
    (data_dir / ".ktrdr").mkdir()
    store.begin_staging(AAPL)
    store.staging.add(AAPL, [price(utc("2026-11-19")), price(utc("2026-11-20"))])
    copied = (data_dir / ".ktrdr" / "renewed" / AAPL.file_name).read_text().splitlines()
    assert copied[0] == "note,timestamp,open,high,low,close,volume"
    next_day = text.replace("11-19", "11-20").replace("1795046400", "1795132800")
    assert [row.split(",")[1] for row in copied[1:]] == [text, next_day]


def test_one_that_was_begun_is_left_as_it_is(data_dir):
    store = CsvStore(data_dir)
    (data_dir / AAPL.file_name).write_text(HEADERS["ours"])
    store.begin_staging(AAPL)
    store.staging.add(AAPL, [price(utc("2026-11-19"))])
    there = store.staging.path(AAPL).read_bytes()
    store.begin_staging(AAPL)
    assert store.staging.path(AAPL).read_bytes() == there


@pytest.mark.parametrize("text", ["", "\ufeff", "timestamp,open,high,low,close,volume"])
def test_of_a_file_without_a_whole_header_the_copy_has_one(text, data_dir):
    store = CsvStore(data_dir)
    (data_dir / AAPL.file_name).write_text(text)
    store.begin_staging(AAPL)
    mark = "\ufeff" if text == "\ufeff" else ""
    assert store.staging.path(AAPL).read_text() == mark + HEADERS["ours"]


def test_of_a_file_that_is_gone_or_broken_there_is_no_copy(data_dir):
    store = CsvStore(data_dir)
    with pytest.raises(FileNotFoundError):
        store.begin_staging(AAPL)
    (data_dir / AAPL.file_name).write_text("time,price\n")
    with pytest.raises(MalformedFile):
        store.begin_staging(AAPL)
    assert not store.staging.path(AAPL).exists()


def test_a_file_with_foreign_rows_is_not_rebuilt(make_filler, connection, clock, data_dir):
    path = data_dir / AAPL.file_name
    path.write_text(HEADERS["a further column"])
    fill(filler := make_filler(ktrdr_gap_max_age_days=30))
    path.write_text(path.read_text().replace(",\n", ",mine\n", 1))
    there = path.read_text()
    split(filler, connection, clock)
    assert path.read_text() == there
    assert not (data_dir / ".ktrdr" / "replaced").exists()
    (entry,) = coverage_of(filler)["series"]
    assert entry["state"] == "failed"
    assert "foreign rows (not written by ktrdr)" in entry["error"]
