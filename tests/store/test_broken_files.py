"""What is reported of a broken file: the line, the cell as it stands there, what to do."""

from bisect import bisect_right
from itertools import accumulate

import pytest

from ktrdr.errors import MalformedFile
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import DAY, HEADER, coverage_of, fill, line, price, utc

VALUES = "1.5,1.5,1.5,1.5,7\n"


def hours(*days):
    return [price(utc(f"{day} {hour}:00")) for day in days for hour in (10, 11)]


SOUND = HEADER + "".join(map(line, hours("2026-11-17", "2026-11-18")))


@pytest.fixture
def filler(make_filler):
    return make_filler()


def received(filler, what="AAPL_1h"):
    """Message and hint, the same among recent errors and with the series."""
    (entry,) = coverage_of(filler)["series"]
    (problem,) = [one for one in filler.status.recent_errors if one.what == what]
    assert (problem.message, problem.hint) == (entry["error"], entry["hint"])
    return problem.message, problem.hint


BROKEN = {
    "a price": (SOUND + f"2026-11-19 10:00:00+00:00,oops,{VALUES}"[:-4] + "\n", 6, "oops"),
    "a time": (SOUND + f"yesterday,{VALUES}", 6, "'yesterday'"),
    "a half minute": (SOUND + f"2026-11-19T10:00:30Z,{VALUES}", 6, "'2026-11-19T10:00:30Z'"),
    "a double": (SOUND + f"2026-11-18T11:00:00Z,{VALUES}", 6, "'2026-11-18T11:00:00Z'"),
    "the order": (SOUND + f"2026-11-17 06:30:00-05:00,{VALUES}", 6, "'2026-11-17 06:30:00-05:00'"),
    "an empty line": (SOUND + "\n", 6, "''"),
    "seconds and not minutes": (SOUND + f"1795000001,{VALUES}", 6, "'1795000001'"),
    "the header": (SOUND.replace("open", "Open"), 1, "timestamp,Open"),
    "a column twice": (SOUND.replace("volume", "volume,open"), 1, "volume,open"),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_the_line_its_cell_and_the_next_step_are_reported(what, filler, data_dir):
    text, number, cell = BROKEN[what]
    path = data_dir / "AAPL_1h.csv"
    path.write_text(text)
    fill(filler)
    message, hint = received(filler)
    assert message.startswith(f"AAPL_1h.csv line {number}: ")
    assert cell in message
    assert "ktrdr check AAPL 1h" in hint or (number == 1 and "first line" in hint)


@pytest.mark.parametrize("what", list(BROKEN))
def test_the_same_is_reported_at_every_later_scan_and_nothing_is_written(
    what, filler, clock, data_dir
):
    text, *_ = BROKEN[what]
    path = data_dir / "AAPL_1h.csv"
    path.write_text(text)
    fill(filler)
    there, first = path.read_text(), received(filler)
    for _ in range(3):
        clock.now += DAY
        filler.request_scan()
        fill(filler)
        assert received(filler) == first
    assert path.read_text() == there


def test_a_bad_cell_outside_of_the_days_looked_at_is_named_by_its_line(filler, clock, data_dir):
    """Also where it is come upon by a comparison, which reads some rows alone."""
    path = data_dir / "AAPL_1h.csv"
    rows = list(map(line, hours("2026-11-03", "2026-11-16")))
    path.write_text(HEADER + "".join(rows))
    fill(filler)
    text = path.read_text()
    path.write_text(text.replace(rows[1], rows[1].replace(",", ",oops", 1)))
    for _ in range(3):
        clock.now += DAY
        filler.request_scan()
        fill(filler)
        message, hint = received(filler)
        assert message.startswith("AAPL_1h.csv line 3: '2026-11-03 11:00:00+00:00,oops")
        assert "ktrdr check AAPL 1h" in hint


def test_a_broken_row_next_to_the_requested_ones_is_named_by_its_line(filler, data_dir):
    """Bars next to the response are compared, whose rows were not read."""
    path = data_dir / "AAPL_1h.csv"
    rows = list(map(line, hours("2026-11-16", "2026-11-17")))
    path.write_text(HEADER + "".join([*rows[:3], rows[3].replace(",", ",oops", 1)]))
    for _ in range(3):
        filler.step()
    message, _ = received(filler)
    assert message.startswith("AAPL_1h.csv line 5: '2026-11-17 11:00:00+00:00,oops")


DAILY = {
    "20261028": "digits alone are seconds since 1970",
    "2026-10-28 00:00:00-05:00": "expected 00:00:00 UTC",
    "2026-10-28T14:30:00Z": "expected 00:00:00 UTC",
}


@pytest.mark.parametrize("cell", list(DAILY))
def test_a_daily_row_at_another_hour_is_shown_as_it_stands(cell, data_dir):
    (data_dir / "AAPL_1d.csv").write_text(f"{HEADER}{cell},{VALUES}")
    with pytest.raises(MalformedFile) as raised:
        CsvStore(data_dir).verify(parse_series("AAPL_1d.csv"))
    error = raised.value
    assert error.message.startswith(f"AAPL_1d.csv line 2: '{cell}': expected 00:00:00 UTC")
    assert DAILY[cell] in error.message
    assert "ktrdr check AAPL 1d" in error.hint


def test_a_row_that_is_late_is_shown_as_it_stands_in_a_long_file_too(data_dir):
    """Where the row before it was read with another piece of the file."""
    start = utc("2020-01-01 00:00")
    rows = [line(price(start + 60 * minute)) for minute in range(40_000)]
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + "".join(rows))
    assert path.stat().st_size > 2**20
    ends = list(accumulate(map(len, rows)))
    first = bisect_right(ends, 2**20)  # the first row that a piece of a megabyte has not
    number, values = first + 2, rows[first].partition(",")[2]
    late = f"2019-01-01T00:00:00Z,{values}"
    path.write_text(HEADER + "".join([*rows[:first], late, *rows[first + 1 :]]))
    with pytest.raises(MalformedFile, match=f"line {number}: '2019-01-01T00:00:00Z': expected"):
        CsvStore(data_dir).verify(parse_series("AAPL_1m.csv"))


def test_a_symbol_with_a_space_is_quoted_in_what_is_to_be_called(data_dir):
    (data_dir / "BRK B_1d.csv").write_text(f"{HEADER}x,{VALUES}")
    with pytest.raises(MalformedFile) as raised:
        CsvStore(data_dir).verify(parse_series("BRK B_1d.csv"))
    assert "ktrdr check 'BRK B' 1d" in raised.value.hint


@pytest.mark.parametrize("entry", ['sec_type = "X"', "since = 7", "con_id = 'x'"])
def test_the_error_of_a_wrong_entry_names_where_to_correct_it(entry, filler, data_dir):
    (data_dir / "AAPL_1h.csv").write_text(HEADER)
    (data_dir / "instruments.toml").write_text(f"[AAPL]\n{entry}\n")
    fill(filler)
    message, hint = received(filler)
    assert "[AAPL]" in message
    assert hint == "correct [AAPL] in instruments.toml"


@pytest.mark.parametrize("text", [b"[AAPL\n", b"\xff\xfe"])
def test_the_error_of_unreadable_entries_has_what_to_do(text, filler, data_dir):
    (data_dir / "instruments.toml").write_bytes(text)
    fill(filler)
    (problem,) = filler.status.recent_errors
    assert filler.status.state == "refused"
    assert "instruments.toml" in problem.message
    assert "move it away" in problem.hint
