import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.check.defects import FindingState
from ktrdr.check.store import StoreCheck
from ktrdr.errors import Misconfigured, UnknownSeries
from ktrdr.ledger.fills import FillRecords
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series, contract_name, instrument_for
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore

HEADER = "timestamp,open,high,low,close,volume\n"
AAPL = Series("AAPL", Timeframe.M1)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = utc("2026-11-23 12:00")


def row(minute: int, values: str = "228.06,228.21,227.98,228.15,100") -> str:
    return f"2026-11-20 14:{minute:02}:00+00:00,{values}\n"


SOUND = HEADER + "".join(map(row, range(5)))


@pytest.fixture
def write(data_dir):
    def write(text: str | bytes, name: str = "AAPL_1m.csv") -> Path:
        path = data_dir / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def check(data_dir):
    """`check()`: the findings of the whole store, as (where, what, state)."""

    def check(*, fix=False, now=NOW):
        store = StoreCheck(data_dir, lambda: now)
        checked = store.check_rest(fix=fix)
        checked += [store.check(series, fix=fix) for series in store.series()]
        return [finding for one in checked for finding in one.findings]

    return check


@pytest.fixture
def kept(data_dir):
    """The old files that were kept, by name."""
    folder = data_dir / ".ktrdr" / "replaced"
    return lambda: {path.name: path.read_bytes() for path in folder.glob("*")}


@pytest.fixture
def ledger(data_dir):
    with contextlib.closing(Ledger(data_dir / ".ktrdr" / "ledger.sqlite")) as ledger:
        yield ledger


def states(findings):
    return [finding.state for finding in findings]


def everything(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """What changes when a file is touched: inode, size, time of change."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if path.is_file() and path.suffix != ".lock":
            found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


# What is sound.


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        "",
        HEADER,
        HEADER.rstrip("\n"),
        SOUND.replace("\n", "\r\n"),
        "\ufeff" + SOUND,
        SOUND.replace("+00:00", "Z").replace("2026-11-20 ", "2026-11-20T"),
        "timestamp,open,high,low,close,volume\n1763649000,1,2,0.5,1,-1\n",
        "note,volume,close,low,high,open,timestamp\nmine,5,1, 0.5,2e0,1,2026-11-20 14:30\n",
        HEADER + "2026-11-20 14:30:00+00:00,-37.63,10,-40.32,-13.1,0\n",
    ],
)
def test_a_sound_file_is_left_alone(write, check, data_dir, text):
    write(text)
    before = everything(data_dir)
    assert check() == []
    assert check(fix=True) == []
    assert everything(data_dir) == before


def test_real_data_is_sound(check, data_dir):
    if not REAL.is_dir():
        pytest.skip(f"no real market data: {REAL} is absent")
    for path in REAL.glob("*.csv"):
        shutil.copy(path, data_dir)
    before = everything(data_dir)
    assert len(before) >= 4
    assert check(fix=True) == []
    assert everything(data_dir) == before


@pytest.mark.usefixtures("ledger")
def test_a_store_that_the_gap_filler_has_written_is_sound(check, data_dir):
    store = CsvStore(data_dir, indexed=True)
    store.claim("simulated")
    store.create(AAPL)
    store.add(AAPL, [Bar(utc("2026-11-20 14:30"), 1.5, 2, 1, 1.25, 7)])
    FillRecords(data_dir / ".ktrdr/ledger.sqlite").request(AAPL, 0, 0)
    assert check() == []
    store.close()


# What needs a person.


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("2026-13-20 14:04:00+00:00,1,1,1,1,5", "a time that cannot be read"),
        ("\0\0\0\0,1,1,1,1,5", "a time that cannot be read"),
        (row(4, "1,1,1,1").strip(), "more or fewer fields"),
        (row(4, "1,1,1,1,5,6").strip(), "more or fewer fields"),
        (row(4, "1,1,1,one,5").strip(), "not a finite number"),
        (row(4, "1,1,one,,5").strip(), "not a finite number"),
        (row(4, "1,1e999,1,1,5").strip(), "not a finite number"),
        (row(4, "1,1.2.3,1,1,5").strip(), "not a finite number"),
        (row(4, "1,1_0,1,1,5").strip(), "not a finite number"),
        (row(4, "5,6,5.5,5,5").strip(), "prices outside low and high"),
        (row(4, "5,4,3,4,5").strip(), "prices outside low and high"),
        (row(4, "5,6,4,6.5,5").strip(), "prices outside low and high"),
        (row(4, "5,6,4,5,-2").strip(), "a volume below 0"),
        (row(4).replace(":00+", ":30+").strip(), "a time off the grid"),
        (row(3, "1,1,1,1,5").strip(), "a different row for the same time"),
    ],
)
def test_a_line_that_only_a_person_can_fix_is_named(write, check, data_dir, kept, line, what):
    write(SOUND.replace(row(4), line + "\n") + row(5))
    before = everything(data_dir)
    (finding,) = check(fix=True)
    assert what in finding.what
    assert finding.where == "AAPL_1m.csv"
    assert finding.lines == (6,)
    assert finding.count == 1
    assert finding.state is FindingState.STAYS
    assert "a person must decide" in finding.fix
    assert everything(data_dir) == before
    assert kept() == {}


@pytest.mark.parametrize("times", [(1763649000, 1763649060), (row(0)[:25], row(1)[:25])])
def test_a_field_too_few_does_not_hide_behind_a_field_too_many(write, check, times):
    write(f"{HEADER}{times[0]},1,1,1,1\n{times[1]},1,1,1,1,1,1\n")
    (finding,) = check()
    assert (finding.count, finding.lines) == (2, (2, 3))


def test_of_many_lines_the_first_three_are_named(write, check):
    write(HEADER + "".join(row(minute, "1,1,1,1,-7") for minute in range(50)))
    (finding,) = check()
    assert finding.lines == (2, 3, 4)
    assert finding.count == 50


def test_lines_are_counted_over_the_whole_of_a_large_file(write, check):
    start = utc("2020-01-01")
    lines = [
        f"{datetime.fromtimestamp(start + 60 * i, UTC).isoformat(' ')},1,1,1,1,5\n"
        for i in range(40_000)
    ]
    lines[39_000] = lines[39_000].replace(",5", ",five")
    write(HEADER + "".join(lines))
    assert [finding.lines for finding in check()] == [(39_002,)]


def test_a_line_that_never_ends_is_not_read_into_memory(write, check):
    write((SOUND + row(5)).encode() + b"x" * 3_000_000 + b"\n" + row(6).encode())
    (finding,) = check(fix=True)
    assert finding.lines == (8,)
    assert "too long" in finding.what
    assert finding.state is FindingState.STAYS


def test_daily_rows_stand_at_midnight(write, check):
    write(
        HEADER + "2026-11-19 00:00:00+00:00,1,1,1,1,5\n2026-11-20 05:00:00+00:00,1,1,1,1,5\n",
        "AAPL_1d.csv",
    )
    (finding,) = check()
    assert "00:00 UTC" in finding.what
    assert finding.lines == (3,)


@pytest.mark.parametrize(
    "text", ["time,o,h,l,c,v\n" + row(0), "timest", "\n" + row(0), row(0) + row(1)]
)
def test_without_a_header_a_file_is_left_as_it_is(write, check, data_dir, text):
    write(text)
    before = everything(data_dir)
    findings = check(fix=True)
    assert any("header" in finding.what for finding in findings)
    assert set(states(findings)) == {FindingState.STAYS}
    assert everything(data_dir) == before


def test_a_name_that_is_no_series_is_reported(check, write, data_dir):
    write(SOUND, "prices.csv")
    write(SOUND, "AAPL_2m.csv")
    (data_dir / "DIR_1d.csv").mkdir()
    os.mkfifo(data_dir / "PIPE_1d.csv")
    write("nothing of ours", "README.md")
    findings = check(fix=True)
    names = ["AAPL_2m.csv and 1 more", "DIR_1d.csv", "PIPE_1d.csv"]
    assert sorted(finding.where for finding in findings) == names
    assert set(states(findings)) == {FindingState.STAYS}


def test_of_very_many_files_that_are_not_read_one_finding_is_made(check, write, data_dir):
    write(SOUND)
    for number in range(2_000):
        (data_dir / f"S{number:04}-1d.csv").touch()
    (finding,) = check()
    assert (finding.where, finding.count) == ("S0000-1d.csv and 1,999 more", 2_000)
    assert "'S0000-1d.csv' to S0000_1d.csv, " in finding.fix
    assert "the other 1,990" in finding.fix
    assert list(finding.files.items())[:2] == [
        ("S0000-1d.csv", "S0000_1d.csv"),
        ("S0001-1d.csv", "S0001_1d.csv"),
    ]
    assert len(finding.files) == 10


def test_no_name_is_given_that_another_file_has(check, write):
    write(SOUND, "AAPL_1h.csv")
    for name in ("AAPL-1h.csv", "MSFT-1h.csv", "MSFT.1h.csv", "prices.csv"):
        write(SOUND, name)
    (finding,) = check()
    assert finding.files == {
        "AAPL-1h.csv": "",
        "MSFT-1h.csv": "MSFT_1h.csv",
        "MSFT.1h.csv": "",
        "prices.csv": "",
    }
    assert "AAPL_1h.csv is there already" in finding.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_reported(write, check):
    write(SOUND).chmod(0)
    (finding,) = check(fix=True)
    assert "Permission denied" in finding.what


@pytest.mark.parametrize("minutes", [[0, 1, 2], [2, 1, 0]])
@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_column_that_numbers_the_rows_is_named(write, check, minutes, name):
    """As pandas writes its index; also where the rows are out of order."""
    write(f"{name},{HEADER}" + "".join(f"{n},{row(at)}" for n, at in enumerate(minutes)))
    *_, finding = check()
    assert "first column has no name and numbers the rows" in finding.what
    assert "to_csv(…, index=False)" in finding.fix
    assert finding.state is FindingState.STAYS


def test_another_column_without_a_name_is_no_finding(write, check):
    write(f",{HEADER}" + "".join(f",{row(at)}" for at in range(3)))
    assert check() == []


# What is fixed.

FIXED = {
    "rows out of order": (HEADER + row(0) + row(3) + row(1) + row(2) + row(4), SOUND),
    "a doubled row": (SOUND.replace(row(2), row(2) * 3), SOUND),
    "a file behind itself": (SOUND + SOUND, SOUND),
    "a torn last line": (SOUND + row(5)[:30], SOUND),
    "a torn last number": (SOUND + row(5)[:-5] + "-", SOUND),
    "a last row without its end": (SOUND.rstrip("\n"), SOUND),
    "the same in disorder": (HEADER + row(4) + row(0) + row(3) + row(2) + row(1).strip(), SOUND),
    "empty lines": (SOUND.replace(row(2), "\n" + row(2) + "  \n") + "\n\n", SOUND),
    "an empty cell": (SOUND.replace(row(3), row(3) + row(5, "1,1,,1,5")), SOUND),
    "nan, inf and null": (
        SOUND + row(6, "1,nan,1,1,5") + row(7, "1,1,1,-inf,5") + row(8, "1,1,1,1,null"),
        SOUND,
    ),
    "a row without a value beside a good one": (SOUND + row(2, "1,1,1,1,"), SOUND),
    "line ends of Windows": (
        (HEADER + row(1) + row(0) + row(2).strip()).replace("\n", "\r\n"),
        (HEADER + row(0) + row(1) + row(2)).replace("\n", "\r\n"),
    ),
    "nothing but an empty line": ("\n", ""),
}


@pytest.mark.parametrize(("text", "sound"), FIXED.values(), ids=FIXED)
def test_what_can_be_fixed_without_loss_is_fixed(write, check, kept, data_dir, text, sound):
    path = write(text)
    path.chmod(0o640)
    before = everything(data_dir)
    assert set(states(check())) == {FindingState.FIXABLE}
    assert everything(data_dir) == before
    assert set(states(check(fix=True))) == {FindingState.FIXED}
    assert path.read_bytes() == sound.encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert kept() == {"AAPL_1m.20261123T120000Z.csv": text.encode()}
    after = everything(data_dir)
    assert check(fix=True) == []
    assert everything(data_dir) == after
    assert sorted(p.name for p in data_dir.iterdir()) == [".ktrdr", "AAPL_1m.csv"]


def test_only_what_is_broken_is_touched(write, check, data_dir):
    fine = write(SOUND, "MSFT_1m.csv")
    write(SOUND + "x")
    before = everything(data_dir)
    check(fix=True)
    assert everything(data_dir)[fine] == before[fine]


def test_where_most_rows_lack_a_value_a_person_must_decide(write, check, data_dir, kept):
    """The column may mean something else, such as volumes of forex."""
    write(HEADER + row(0) + row(1, "1,1,1,1,nan") + row(2, "1,1,1,1,nan"))
    before = everything(data_dir)
    (finding,) = check(fix=True)
    assert (finding.state, finding.count) == (FindingState.STAYS, 2)
    assert finding.lines == (3, 4)
    assert "a volume that is not known is -1" in finding.fix
    assert everything(data_dir) == before
    assert kept() == {}


def test_what_stays_is_reported_when_the_rest_is_fixed(write, check, kept):
    odd = row(3, "one,1,1,1,5")
    path = write(HEADER + row(4) + odd + row(0) + row(0) + row(1, "9,9,9,9,9") + row(1) + "torn")
    findings = {finding.what.partition(":")[0]: finding.state for finding in check(fix=True)}
    assert findings == {
        "a price or volume that is not a finite number": FindingState.STAYS,
        "a different row for the same time": FindingState.STAYS,
        "a row out of order": FindingState.FIXED,
        "a duplicate row": FindingState.FIXED,
        "an incomplete last line": FindingState.FIXED,
    }
    assert path.read_text() == HEADER + row(0) + row(1, "9,9,9,9,9") + row(1) + odd + row(4)
    assert len(kept()) == 1
    assert set(states(check(fix=True))) == {FindingState.STAYS}
    assert len(kept()) == 1


def test_rows_are_not_sorted_around_a_line_that_has_no_time(write, check):
    text = HEADER + row(2) + "yesterday,1,1,1,1,5\n" + row(1) + row(1)
    path = write(text + "torn")
    assert states(check(fix=True)) == [FindingState.STAYS] * 3 + [FindingState.FIXED]
    assert path.read_text() == text


def test_rows_alike_but_for_their_spelling_are_two_rows(write, check):
    write(SOUND + row(4).replace(",100\n", ",100.0\n"))
    (finding,) = check(fix=True)
    assert "a different row for the same time" in finding.what


def test_old_files_of_the_same_second_are_all_kept(write, check, kept):
    write(SOUND + "x")
    check(fix=True)
    write(SOUND + "y")
    check(fix=True)
    assert sorted(kept().values()) == [(SOUND + "x").encode(), (SOUND + "y").encode()]


def test_a_link_stays_a_link(scratch, data_dir, check, kept):
    real = scratch / "elsewhere.csv"
    real.write_text(SOUND + "x")
    link = data_dir / "AAPL_1m.csv"
    link.symlink_to(real)
    check(fix=True)
    assert link.is_symlink()
    assert real.read_text() == SOUND
    assert list(kept().values()) == [(SOUND + "x").encode()]


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_disorder_and_duplicates_of_sound_rows_are_fixed(write, check, data):
    minutes = data.draw(st.lists(st.integers(0, 59), unique=True, max_size=12))
    sound = [row(m, f"{m + 1},{m + 9},{m}.5,{m + 2},{m}") for m in sorted(minutes)]
    more = data.draw(st.lists(st.sampled_from(sound), max_size=6)) if sound else []
    lines = data.draw(st.permutations(sound + more))
    text = HEADER + "".join(lines)
    path = write(text[: len(text) - data.draw(st.booleans())] if lines else text)
    check(fix=True)
    assert path.read_text() == HEADER + "".join(sound)
    assert check() == []


def test_disorder_is_found_where_one_block_ends_and_the_next_begins(write, check):
    start = utc("2020-01-01")
    lines = [
        f"{datetime.fromtimestamp(start + 60 * i, UTC).isoformat(' ')},1,1,1,1,5\n"
        for i in range(30_000)
    ]
    block = 512 * 1024 // len(lines[0])
    path = write(HEADER + "".join(lines[block : 2 * block] + lines[:block] + lines[2 * block :]))
    (finding,) = check(fix=True)
    assert "a row out of order" in finding.what
    assert (finding.lines[0], finding.count) == (block + 2, block)
    assert path.read_text() == HEADER + "".join(lines)


def test_duplicates_alone_are_not_called_disorder(write, check):
    write(SOUND + SOUND.removeprefix(HEADER))
    (finding,) = check()
    assert "a duplicate row" in finding.what
    assert (finding.lines, finding.count) == ((7, 8, 9), 5)


def test_a_large_file_in_disorder_is_sorted(write, check):
    start = utc("2020-01-01")
    lines = [
        f"{datetime.fromtimestamp(start + 60 * i, UTC).isoformat(' ')},1,1,1,1,{i}\n"
        for i in range(30_000)
    ]
    shuffled = lines[:]
    random.Random(7).shuffle(shuffled)
    path = write(HEADER + "".join(shuffled + lines[:100]))
    assert set(states(check(fix=True))) == {FindingState.FIXED}
    assert path.read_text() == HEADER + "".join(lines)


# Bars that have not ended.

FORMING = utc("2026-11-20 14:04:30")


def test_an_owned_last_bar_that_has_not_ended_is_dropped_and_the_file_stays_owned(
    write, check, kept, ledger
):
    path = write(SOUND)
    store = CsvStore(path.parent)
    ledger.series.keep_file(AAPL, store.key(AAPL), is_owned=True)
    assert states(check(now=FORMING)) == [FindingState.FIXABLE]
    assert states(check(now=FORMING, fix=True)) == [FindingState.FIXED]
    assert path.read_text() == SOUND.removesuffix(row(4))
    assert list(kept().values()) == [SOUND.encode()]
    assert ledger.series.file(AAPL) == (store.key(AAPL), True)


def test_the_same_bar_of_somebody_else_stays(write, check, ledger):
    path = write(SOUND)
    ledger.series.keep_file(AAPL, CsvStore(path.parent).key(AAPL), is_owned=False)
    assert states(check(now=FORMING, fix=True)) == [FindingState.STAYS]
    path.write_text(SOUND)
    ledger.series.keep_file(AAPL, (1, 2, 3), is_owned=True)
    assert states(check(now=FORMING, fix=True)) == [FindingState.STAYS]


def test_many_bars_of_the_future_are_a_matter_for_a_person(write, check, ledger):
    path = write(SOUND)
    ledger.series.keep_file(AAPL, CsvStore(path.parent).key(AAPL), is_owned=True)
    (finding,) = check(now=utc("2026-11-20 14:02"), fix=True)
    assert finding.state is FindingState.STAYS
    assert finding.lines == (4, 5, 6)
    assert "clock" in finding.fix


def test_a_bar_that_may_not_have_ended_is_a_note(write, check):
    write(HEADER + "2026-11-23 00:00:00+00:00,1,1,1,1,5\n", "AAPL_1d.csv")
    assert states(check(fix=True)) == [FindingState.NOTE]
    assert check(now=utc("2026-11-24")) == []


def test_bars_outside_the_sessions_that_are_known_are_a_note(write, check, ledger):
    day = utc("2026-11-20")
    session = Session(utc("2026-11-20 14:02"), utc("2026-11-20 21:00"), day)
    schedule = Schedule("America/New_York", day, day + 86400, (session,))
    write("[AAPL]\nprimary_exchange = 'NASDAQ'\n", "instruments.toml")
    instrument = instrument_for("AAPL", {"primary_exchange": "NASDAQ"})
    ledger.contracts.keep_schedule(contract_name(instrument), schedule, NOW)
    write(SOUND)
    (finding,) = check(fix=True)
    assert finding.state is FindingState.NOTE
    assert finding.lines == (2, 3)


# The rest of the store.


@pytest.mark.parametrize("text", ["live\n", "simulated"])
def test_a_store_may_belong_to_either_source(check, data_dir, text):
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr" / "source").write_text(text)
    assert check() == []


def test_an_unknown_source_is_reported(check, data_dir):
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr" / "source").write_text("paper")
    (finding,) = check(fix=True)
    assert (finding.where, finding.state) == (".ktrdr/source", FindingState.STAYS)
    assert "'paper': expected live or simulated" in finding.what


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_stands_in_place_of_the_source_record_is_not_read(check, data_dir, scratch, kind):
    (data_dir / ".ktrdr").mkdir()
    (scratch / "other").write_text("s3cret")
    if kind == "link":
        (data_dir / ".ktrdr" / "source").symlink_to(scratch / "other")
    else:
        os.mkfifo(data_dir / ".ktrdr" / "source")
    (finding,) = check(fix=True)
    assert (finding.where, finding.state) == (".ktrdr/source", FindingState.STAYS)
    assert "is not a regular file" in finding.what
    assert "live or simulated" in finding.fix


@pytest.mark.parametrize(
    "text",
    [
        "s3cret\n",
        "\ns3cret\n",
        "\r\ns3cret\r\n",
        "\ufeff\ns3cret\n",
        "s3cret" * 100_000,
        "\0s3cret",
    ],
)
@pytest.mark.parametrize("hops", [1, 2])
def test_the_target_of_a_link_is_not_shown_unless_it_has_bars(check, data_dir, scratch, text, hops):
    (scratch / "0").write_text(text)
    for hop in range(1, hops):
        (scratch / str(hop)).symlink_to(scratch / str(hop - 1))
    (data_dir / "AAPL_1m.csv").symlink_to(scratch / str(hops - 1))
    findings = check()
    assert any(finding.is_broken for finding in findings)
    assert "cret" not in str(findings)


def test_a_link_to_a_file_of_bars_is_checked_as_any_other(check, data_dir, scratch):
    (scratch / "other").write_text(f"{SOUND}broken\n")
    (data_dir / "AAPL_1m.csv").symlink_to(scratch / "other")
    (finding,) = check()
    assert "'broken'" in finding.what


def test_a_value_where_a_table_belongs_is_not_shown(check, write):
    write("password = 's3cret'\n", "instruments.toml")
    (finding,) = check()
    assert finding.what == "[password]: expected a table, not a single value"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"[AAPL\n", "instruments.toml"),
        (b"\xff\xfe", "cannot be read"),
        (b"[AAPL]\nsec_type = 'SHARE'\n", "[AAPL] sec_type = 'SHARE': expected one of"),
        (b"[AAPL]\nsince = 3\n", "[AAPL] since = 3"),
    ],
)
def test_a_broken_entry_is_reported(write, check, text, what):
    write(text, "instruments.toml")
    write(SOUND)
    (finding,) = check(fix=True)
    assert (finding.where, finding.state) == ("instruments.toml", FindingState.STAYS)
    assert what in finding.what


def test_each_broken_entry_is_reported(write, check):
    write("[AAPL]\nsize = 1\n[MSFT]\nexchange = 'NYSE'\n[ES]\nexpiry = '26'\n", "instruments.toml")
    assert [finding.what.partition(" ")[0] for finding in check()] == ["[AAPL]", "[ES]"]


@pytest.mark.parametrize("name", ["ledger.sqlite", "connection-live.sqlite"])
def test_a_broken_database_is_reported_and_left(check, data_dir, name):
    path = data_dir / ".ktrdr" / name
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE numbers (n INTEGER, t TEXT)")
        database.execute("CREATE INDEX by_n ON numbers (n)")
        database.executemany(
            "INSERT INTO numbers VALUES (?, ?)", [(n, "x" * 50) for n in range(999)]
        )
        database.commit()
    assert check() == []
    raw = bytearray(path.read_bytes())
    raw[4096:12288] = b"\x55" * 8192
    path.write_bytes(raw)
    (finding,) = check(fix=True)
    assert (finding.where, finding.state) == (f".ktrdr/{name}", FindingState.STAYS)
    assert path.read_bytes() == bytes(raw)
    path.write_bytes(b"no database at all, but long enough to look like one" * 100)
    assert "not a database" in check()[0].what


LEFT = ".AAPL_1m.csv.4711-1.ktrdr-new"


def test_what_a_killed_writer_left_is_removed(write, check, data_dir):
    CsvStore(data_dir).claim("live")
    left = write("half", LEFT)
    (finding,) = check()
    assert (finding.where, finding.state) == (LEFT, FindingState.FIXABLE)
    assert left.exists()
    assert states(check(fix=True)) == [FindingState.FIXED]
    assert not left.exists()


def test_a_running_writers_temporary_file_is_left_alone(write, check, data_dir):
    left = write("half", LEFT)
    with CsvStore(data_dir).locked(AAPL):
        assert check(fix=True) == []
    assert left.exists()


@pytest.mark.parametrize("name", [".source.4711-1.ktrdr-new", "replaced/.x.4711-1.ktrdr-new"])
def test_where_there_is_no_lock_the_age_decides(check, data_dir, name):
    path = data_dir / ".ktrdr" / name
    path.parent.mkdir(parents=True)
    path.write_text("half")
    os.utime(path, (NOW - 60, NOW - 60))
    assert check(fix=True) == []
    os.utime(path, (NOW - 7200, NOW - 7200))
    assert states(check(fix=True)) == [FindingState.FIXED]
    assert not path.exists()


# While others write.


def test_a_line_that_is_just_being_written_is_not_taken_for_a_torn_one(data_dir, write):
    path = write(SOUND + row(5)[:30])
    steps = iter([lambda: write(SOUND + row(5)), lambda: None])

    def clock():
        """Called when the file is open."""
        next(steps)()
        return NOW

    assert StoreCheck(data_dir, clock).check(AAPL, fix=True).findings == ()
    assert path.read_text() == SOUND + row(5)


def test_what_is_appended_while_the_fixed_file_is_written_is_not_lost(
    data_dir, write, check, kept, monkeypatch
):
    path = write(HEADER + row(0) + "".join(map(row, range(30))))
    fsync, bars = os.fsync, [Bar(utc("2026-11-20 14:40"), 1, 1, 1, 1, 1)]

    def write_meanwhile(descriptor):
        fsync(descriptor)
        if bars:
            CsvStore(data_dir).add(AAPL, [bars.pop()])

    monkeypatch.setattr(os, "fsync", write_meanwhile)
    assert set(states(check(fix=True))) == {FindingState.FIXED}
    assert path.read_text() == HEADER + "".join(map(row, range(30))) + row(40, "1.0,1.0,1.0,1.0,1")
    assert len(kept()) == 1


def test_nobody_may_write_while_the_file_is_replaced(data_dir, write, check, monkeypatch):
    write(SOUND + "x")
    link, was_locked = os.link, []

    def look(old, new):
        with pytest.raises(Timeout):
            FileLock(data_dir / ".ktrdr" / "locks" / "AAPL_1m.lock", timeout=0).acquire()
        was_locked.append(True)
        link(old, new)

    monkeypatch.setattr(os, "link", look)
    check(fix=True)
    assert set(was_locked) == {True}


def test_a_fixed_file_that_a_starting_gap_filler_clears_away_is_made_again(
    data_dir, write, check, monkeypatch
):
    path = write(SOUND + "x")
    fsync, fillers = os.fsync, [CsvStore(data_dir)]

    def clear_once(descriptor):
        fsync(descriptor)
        if fillers:
            fillers.pop().clear_leftovers()

    monkeypatch.setattr(os, "fsync", clear_once)
    assert states(check(fix=True)) == [FindingState.FIXED]
    assert path.read_text() == SOUND


def test_what_is_appended_while_a_file_is_fixed_is_not_lost(data_dir, write, check, kept):
    first = "".join(map(row, range(60)))
    path = write(HEADER + first)
    store = CsvStore(data_dir)
    store.claim("live")
    bars = [Bar(utc("2026-11-20 15:00") + 60 * i, 1, 1, 1, 1, i) for i in range(150)]
    writer = threading.Thread(target=lambda: [store.add(AAPL, [bar]) for bar in bars])
    writer.start()
    while writer.is_alive():
        with store.locked(AAPL):  # a row twice, where the writer does not look
            path.write_text(path.read_text().replace(row(1), row(1) * 2))
        check(fix=True)
    check(fix=True)
    assert path.read_text().startswith(HEADER + first)
    assert store.rows(AAPL, bars[0].start).bars() == bars
    assert kept()


def test_a_locked_file_is_not_fixed(data_dir, write, check):
    path = write(SOUND + "x")
    store = CsvStore(data_dir)
    with store.locked(AAPL):
        (finding,) = check(fix=True)
    assert "locked by another process" in finding.what + finding.fix
    assert finding.is_broken
    assert path.read_text() == SOUND + "x"


def test_a_full_disk_is_reported_and_changes_nothing(data_dir, write, check, monkeypatch, kept):
    path = write(SOUND + "x")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    findings = check(fix=True)
    monkeypatch.undo()
    assert states(findings) == [FindingState.FIXABLE, FindingState.STAYS]
    assert "No space left" in findings[1].fix
    assert path.read_text() == SOUND + "x"
    assert kept() == {}
    assert [p.name for p in data_dir.iterdir()] == ["AAPL_1m.csv"]


def test_a_copy_with_a_wrong_content_does_not_replace_the_file(write, check, monkeypatch, kept):
    """As on a disk that damages what is written to it."""
    path = write(SOUND + "x")
    write_ = os.write

    def wrong(descriptor, text):
        return write_(descriptor, bytes(text).replace(b"14:01:", b"14:09:"))

    monkeypatch.setattr(os, "write", wrong)
    findings = check(fix=True)
    monkeypatch.undo()
    assert states(findings) == [FindingState.FIXABLE, FindingState.STAYS]
    assert "would be invalid" in findings[1].fix
    assert path.read_text() == SOUND + "x"
    assert kept() == {}


# Which series.


def test_a_symbol_and_a_timeframe_choose_the_series(write, data_dir):
    for name in ("AAPL_1m.csv", "AAPL_1d.csv", "MSFT_1m.csv"):
        write(HEADER, name)
    store = StoreCheck(data_dir)
    assert [str(s) for s in store.series()] == ["AAPL_1d", "AAPL_1m", "MSFT_1m"]
    assert [str(s) for s in store.series("AAPL")] == ["AAPL_1d", "AAPL_1m"]
    assert [str(s) for s in store.series("AAPL", "1m")] == ["AAPL_1m"]
    with pytest.raises(UnknownSeries, match="no series MSFT_1d"):
        store.series("MSFT", "1d")
    with pytest.raises(Misconfigured, match="is not a folder"):
        StoreCheck(data_dir / "none").series()


def test_a_file_that_disappears_meanwhile_is_no_finding(data_dir):
    assert StoreCheck(data_dir).check(AAPL).findings == ()


def test_it_loads_no_pandas():
    code = "import sys, ktrdr.check.store, ktrdr.cli; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_row_at_which_a_writer_was_killed_is_not_completed(check, write, data_dir):
    """An append that was cut short in the volume leaves what looks like a whole row."""
    path = write(SOUND + row(5).removesuffix("00\n"))
    mark = data_dir / ".ktrdr" / "locks" / "AAPL_1m.lock"
    mark.parent.mkdir(parents=True)
    mark.write_text(str(path.stat().st_ino))
    check(fix=True)
    assert path.read_text() == SOUND
    assert check() == []
