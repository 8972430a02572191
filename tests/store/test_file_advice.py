"""Each kind of broken file has a hint of use, and its message a text that stands in the file."""

import ast
import gzip
import re
from pathlib import Path

import pytest

import ktrdr
from ktrdr.check.store import StoreCheck
from ktrdr.errors import MalformedFile
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_advice import HEADER
from tests.fake_connection import NOW

V = "1.5,1.5,1.5,1.5,7"
SOUND = f"{HEADER}\n2026-11-18 10:00:00+00:00,{V}\n2026-11-18 11:00:00+00:00,{V}\n"
FIX = ".venv/bin/ktrdr check AAPL 1h --fix "


def header(line, row=f"2026-11-18 10:00:00+00:00,{V}"):
    return f"{line}\n{row}\n"


HEADERS = {
    "capitals": (
        header("timestamp,Open,High,Low,Close,Volume"),
        "rename 'Open' to open, 'High' to high, 'Low' to low, 'Close' to close, 'Volume' to volume",
    ),
    "a date": (header("Date,open,high,low,close,volume"), "rename 'Date' to timestamp;"),
    "its zone": (header("Date,open,high,low,close,volume"), "without an offset count as UTC"),
    "no name": (header(",open,high,low,close,volume"), "rename '' to timestamp"),
    "MetaTrader": (
        header("<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>"),
        "join '<DATE>' and '<TIME>' in one column timestamp",
    ),
    "no volume": (header("timestamp,open,high,low,close"), "add volume (a volume that is not"),
    "no prices": (header("timestamp,price"), "add open, high, low, close, volume"),
    "Yahoo": (
        header("Date,Open,High,Low,Close,Volume,Adj Close"),
        "rename 'Date' to timestamp, 'O",
    ),
    "twice": (header(f"{HEADER},open"), "the column 'open' is there 2 times"),
    "semicolons": (header(HEADER.replace(",", ";")), "by ',' and not by ';'"),
    "tabs": (header(HEADER.replace(",", "\t")), "by ',' and not by a tab"),
    "bars": (header(HEADER.replace(",", "|")), "by ',' and not by '|'"),
    "a row": (f"2026-11-18 10:00:00+00:00,{V}\n" * 2, f"add the first line, such as {HEADER}"),
    "milliseconds": (f"1795000000000,{V}\n" * 2, f"add the first line, such as {HEADER}"),
    "a comment": (header("# from my broker", HEADER), "remove what is before the header"),
    "Excel's line": (header("sep=,", HEADER), "remove what is before the header"),
    "a web page": (header("<!DOCTYPE html>"), "it is a web page"),
    "JSON": (header('{"bars": []}'), "it is JSON"),
    "zeros": ("\0" * 600, "it begins with zero bytes"),
    "UTF-16": (SOUND.encode("utf-16"), "save it as UTF-8"),
    "gzip": (gzip.compress(SOUND.encode()), "decompress it"),
    "a spreadsheet": (b"PK\x03\x04\x14\0\x06\0" + b"x" * 50 + b"\n", "write its table as CSV"),
    "Parquet": (b"PAR1\x15\x04\n" + b"x" * 50, "write its table as CSV"),
}


def row(time, values=V, before=SOUND):
    return f"{before}{time},{values}\n"


ROWS = {
    "an empty line at the end": (f"{SOUND}\n", f"{FIX}drops empty lines"),
    "an empty line": (SOUND.replace("\n", "\n\n", 1), f"{FIX}drops empty lines"),
    "no time": (row(""), "add the time to a row without one"),
    "a repeated header": (f"{SOUND}{HEADER}\n", f"{FIX}drops a repeated header"),
    "a double": (row("2026-11-18 11:00:00+00:00"), f"{FIX}keeps a row once that is there twice"),
    "another row": (
        row("2026-11-18 11:00:00+00:00", "2,2,2,2,7"),
        "of two different rows for one time, remove the wrong one",
    ),
    "a late row": (row("2026-11-18 09:00:00+00:00"), f"{FIX}sorts the rows by time"),
    "the newest first": (
        header(HEADER, "\n".join(f"2026-11-18 {h}:00:00+00:00,{V}" for h in (13, 12, 11, 10))),
        f"{FIX}sorts rows that are the newest first",
    ),
    "words": (row("yesterday"), "write it like 2026-11-20 14:30:00+00:00"),
    "American": (row("11/20/2026 14:30"), "write it like 2026-11-20 14:30:00+00:00"),
    "ib_insync": (row("20261120  09:30:00 US/Eastern"), "write it like 2026-11-20 14:30:00+00"),
    "a day that is none": (row("2026-02-30 10:00:00"), "write it like"),
    "quotes": (row('"2026-11-20 10:00:00"'), "without quotes"),
    "ms": (row("1795000000000"), "in milliseconds: write seconds, 1795000000,"),
    "us": (row("1795000000000000"), "in microseconds: write seconds, 1795000000,"),
    "ns": (row("1795000000000000000"), "in nanoseconds: write seconds, 1795000000,"),
    "a fraction": (row("2026-11-20 10:00:00.5"), "a bar begins at a whole minute"),
    "a half minute": (row("2026-11-20 10:00:30"), "a bar begins at a whole minute"),
    "zeros at the end": (f"{SOUND}{chr(0) * 60}\n", "zero bytes"),
    "no number": (row("2026-11-20 10:00:00", "1.5,oops,1.5,1.5,7"), "a number instead of 'oops'"),
    "no number, and an empty price": (
        row("2026-11-20 10:00:00", "1.5,,oops,1.5,7"),
        "a number instead of 'oops'",
    ),
    "thousands": (row("2026-11-20 10:00:00", '1.5,1.5,1.5,1.5,"1,234"'), "without quotes"),
    "decimal commas": (
        row("2026-11-20 10:00:00", "1,5,1,5,1,5,1,5,7"),
        "10 fields, and the header",
    ),
    "a field too few": (
        row("2026-11-20 10:00:00", "1.5,1.5,1.5,7"),
        "5 fields, and the header has 6",
    ),
}
DAILY = {
    "Alpaca": (row("2026-11-20T05:00:00Z", before=f"{HEADER}\n"), "day alone, such as 2026-11-20"),
    "yfinance": (row("2026-11-20 00:00:00-05:00", before=f"{HEADER}\n"), "such as 2026-11-20"),
    "digits": (row("20261120", before=f"{HEADER}\n"), "such as 2026-11-20"),
    "seconds": (row("1795000001", before=f"{HEADER}\n"), "the trading day alone"),
}
CASES = [
    *(("AAPL_1h", what, *case) for what, case in {**HEADERS, **ROWS}.items()),
    *(("AAPL_1d", what, *case) for what, case in DAILY.items()),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]} {case[1]}")
def broken(request, tmp_path):
    """The series, its file's content, and a part of the hint."""
    name, _, content, hint = request.param
    series = parse_series(f"{name}.csv")
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / series.file_name).write_bytes(content)
    return series, content, hint


def test_the_hint_is_of_use_and_the_text_stands_in_the_file(broken, tmp_path):
    series, content, hint = broken
    with pytest.raises(MalformedFile) as raised:
        CsvStore(tmp_path).verify(series)
    error = raised.value
    assert hint in error.hint
    assert error.message.startswith(f"{series.file_name} line ")
    found = re.fullmatch(r"\S+ line \d+: (['\"].*['\"]): expected .+", error.message, re.DOTALL)
    assert ast.literal_eval(found[1]) in content.decode(errors="replace")
    assert "\n" not in error.message + error.hint


def test_check_says_what_to_do(broken, tmp_path):
    series, *_ = broken
    checked = StoreCheck(tmp_path, lambda: NOW).check(series)
    broken_ones = [one for one in checked.findings if one.is_broken]
    assert broken_ones
    for one in broken_ones:
        assert one.fix.removeprefix("a person must decide").strip(": ")


@pytest.mark.parametrize("what", [what for what, case in ROWS.items() if case[1].startswith(FIX)])
def test_what_check_is_said_to_fix_it_fixes(what, tmp_path):
    series = parse_series("AAPL_1h.csv")
    (tmp_path / series.file_name).write_text(ROWS[what][0])
    StoreCheck(tmp_path, lambda: NOW).check(series, fix=True)
    assert len(CsvStore(tmp_path).verify(series).starts) in (2, 3, 4)


ROOMS = [Path(ktrdr.__file__).parent / room for room in ("store", "check", "gap_filler", "data")]
OF_FILES = {"MalformedFile", "StoreUnwritable", "StoreGone", "UnknownSeries"}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_no_error_about_a_file_is_raised_without_a_hint(room):
    raised = [
        (path.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for path in room.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in OF_FILES
    ]
    assert raised
    assert not [(name, line) for name, line, keywords in raised if "hint" not in keywords]


def test_a_double_in_another_piece_of_a_long_file_has_both_ways(tmp_path):
    """Where the rows of one time are not read together, it is not known whether they are alike."""
    series = parse_series("AAPL_1m.csv")
    rows = [f"{1_700_000_040 + 60 * minute},{V}\n" for minute in range(60_000)]
    text = f"{HEADER}\n{''.join(rows)}"
    cut = text.rindex("\n", 0, len(f"{HEADER}\n") + 2**20) + 1
    last = text[text.rindex("\n", 0, cut - 1) + 1 : cut]
    (tmp_path / series.file_name).write_text(text[:cut] + last + text[cut:])
    with pytest.raises(MalformedFile) as raised:
        CsvStore(tmp_path).verify(series)
    assert "keeps a row once that is there twice" in raised.value.hint
    assert "of two different rows for one time" in raised.value.hint
