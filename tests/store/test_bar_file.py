"""Lines of a file, some at a time: together they are the rows that one reading gives."""

from __future__ import annotations

import pytest

from ktrdr.errors import MalformedFile
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_text import HEADER
from ktrdr.store.time_spelling import spell_time

FIRST = 1_795_185_000
FAR = 2**62


@pytest.fixture
def path(tmp_path):
    """A thousand minutes, of which every seventh is missing; the last line has no end."""
    starts = [FIRST + 60 * n for n in range(1000) if n % 7]
    lines = [f"{spell_time(start)},1.5,2.25,1,2,{n}" for n, start in enumerate(starts)]
    file = tmp_path / "AAPL_1m.csv"
    file.write_text("\n".join([HEADER, *lines]))
    return file


@pytest.mark.parametrize("most_bytes", [1, 40, 4096, 10**6])
@pytest.mark.parametrize(
    ("first", "end"),
    [
        (-FAR, FAR),
        (60, 120),
        (0, 60),
        (420, 421),
        (419, 30_000),
        (30_000, FAR),
        (FAR, FAR),
        (90, 30),
    ],
)
def test_pieces_are_the_rows_of_the_span(path, most_bytes, first, end):
    span = (first if abs(first) == FAR else FIRST + first, end if end == FAR else FIRST + end)
    with BarFile(path, Timeframe.M1) as file:
        whole = file.rows(*span)
        pieces = [*file.pieces(*span, most_bytes)]

    assert b"".join(one.raw for one in pieces) == whole.text
    assert all(one.is_usual for one in pieces)
    assert [start for one in pieces for start in one.rows().starts] == whole.starts.tolist()
    assert len(pieces) < 3 or max(len(one.raw) for one in pieces) <= max(most_bytes, 128)


@pytest.mark.parametrize("most_bytes", [1, 40, 4096, 10**6])
@pytest.mark.parametrize(
    ("first", "end"), [(-FAR, FAR), (60, 120), (420, 421), (30_000, FAR), (FAR, FAR), (90, 30)]
)
def test_a_window_has_the_rows_of_the_span_and_whole_lines(path, most_bytes, first, end):
    span = (first if abs(first) == FAR else FIRST + first, end if end == FAR else FIRST + end)
    with BarFile(path, Timeframe.M1) as file:
        whole = file.rows(*span)
        window = file.window(*span, most_bytes)
        pieces = [*window.pieces]
    text = b"".join(one.raw for one in pieces)
    assert whole.text in text
    assert text in path.read_bytes()
    assert len(text) <= window.size <= len(text) + 128
    starts = [start for one in pieces for start in one.rows().starts]
    assert [start for start in starts if span[0] <= start < span[1]] == whole.starts.tolist()
    assert len(pieces) < 3 or max(len(one.raw) for one in pieces) <= most_bytes + 1024


def test_a_window_goes_over_lines_that_are_longer_than_a_piece(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    rows = [f"{spell_time(FIRST + 60 * n)},1,1,1,1,1,{'x' * 3000}\n" for n in range(5)]
    path.write_text(f"{HEADER},note\n" + "".join(rows))
    with BarFile(path, Timeframe.M1) as file:
        pieces = [*file.window(-FAR, FAR, 100).pieces]
    assert b"".join(one.raw for one in pieces).decode() == "".join(rows)


@pytest.mark.parametrize("change", ["append", "rewrite"])
def test_a_window_of_a_file_that_is_changed_meanwhile_is_not_believed(path, change):
    with BarFile(path, Timeframe.M1) as file:
        pieces = file.window(-FAR, FAR, 4096).pieces
        next(pieces)
        with path.open("a" if change == "append" else "w") as other:
            other.write("2")
        with pytest.raises(MalformedFile, match="changed while it was read"):
            list(pieces)


def test_pieces_of_a_file_without_rows_are_none(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    for text in ("", HEADER, f"{HEADER}\n", f"{HEADER}\n2026-11-20 14:30"):
        path.write_text(text)
        with BarFile(path, Timeframe.M1) as file:
            assert [*file.pieces(-FAR, FAR, 100)] == []
            assert [*file.window(-FAR, FAR, 100).pieces] == []


@pytest.mark.parametrize(
    ("line", "is_usual"),
    [
        ("2026-11-20 14:30:00+00:00,1,1,1,1,1", True),
        ("2026-11-20T14:30:00+00:00,1,1,1,1,1", False),
        ("2026-11-20 14:30:00+01:00,1,1,1,1,1", False),
        ("2026-11-20 14:30:00Z,1,1,1,1,1.123456", False),
        ("2026-11-20,1,1,1,1,1", False),
    ],
)
def test_a_line_that_is_spelled_otherwise_is_noticed_among_usual_ones(tmp_path, line, is_usual):
    path = tmp_path / "AAPL_1m.csv"
    usual = "2026-11-19 14:30:00+00:00,1,1,1,1,1"
    later = "2026-11-21 14:30:00+00:00,1,1,1,1,1"
    for lines in ((usual, line), (line, later), (usual, line, later)):
        path.write_text("\n".join([HEADER, *lines, ""]))
        with BarFile(path, Timeframe.M1) as file:
            assert [one.is_usual for one in file.pieces(-FAR, FAR, 10**6)] == [is_usual]


def test_verifying_names_the_line(path):
    path.write_text(path.read_text().replace(",2.25,1,2,600\n", ",2.25,one,2,600\n"))
    with BarFile(path, Timeframe.M1) as file, pytest.raises(MalformedFile, match="line 602: "):
        file.verify()
