"""Several files of one series become one file of the store, with all of them or with none."""

import json
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ktrdr.errors import InvalidRequest
from ktrdr.importing.bar_writer import Tally
from ktrdr.importing.columns import Stamp
from ktrdr.importing.importer import Importer, Wishes
from ktrdr.importing.joined_bars import JoinedBars
from ktrdr.importing.rows import WIDTH
from ktrdr.importing.series_names import name_of, series_to
from ktrdr.importing.source_files import source_files
from tests.importing.known_bars import (
    CRYPTO,
    DAYS,
    FOREX,
    HEADER,
    MINUTES,
    NOW,
    local,
    read,
    table,
)

DAY = 390
OCTOBER = [b for b in MINUTES if b[0].month == 10]
NOVEMBER = [b for b in MINUTES if b[0].month == 11]


def rows(bars):
    return table(bars, lambda t, o, h, lo, c, v: f"{t},{o},{h},{lo},{c},{v}", HEADER)


def naive(bars):
    return table(bars, lambda t, o, h, lo, c, v: f"{local(t)},{o},{h},{lo},{c},{v}", HEADER)


def write(folder, **texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)


def join(tmp_path, *paths, **wishes):
    """What became of the files in a folder; its store is beside it."""
    files = source_files(map(str, paths or [tmp_path / "in"]), is_recursive=True).files
    importer = Importer(tmp_path / "store", Wishes(**wishes), lambda: NOW)
    return importer.run_all(files, lambda _file: lambda _bytes: None)


def errors(found):
    return [one.error and one.error.message for one in found]


# What becomes one.


def test_months_become_one_file_in_order_of_time_whatever_the_order_of_their_names(tmp_path):
    write(tmp_path / "in", **{"AAPL_2026-11": rows(NOVEMBER), "AAPL_2026-10": rows(OCTOBER)})
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    found = join(tmp_path)
    assert errors(found) == [None, None]
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES
    assert [one.tally.bars for one in found] == [len(OCTOBER), len(NOVEMBER)]
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path):
    write(tmp_path / "in", AAPL_202610=rows(OCTOBER), AAPL_202611=rows(NOVEMBER))
    found = join(tmp_path, is_dry=True)
    assert [(one.error, one.tally.bars, str(one.series)) for one in found] == [
        (None, len(OCTOBER), "AAPL_1m"),
        (None, len(NOVEMBER), "AAPL_1m"),
    ]
    assert [one.parts for one in found] == [("AAPL_202610.csv", "AAPL_202611.csv")] * 2
    assert not (tmp_path / "store").exists()


def test_months_in_the_folder_of_a_symbol_become_one_file_and_other_symbols_another(tmp_path):
    for symbol in ("AAPL", "KO"):
        write(tmp_path / symbol, **{"2026-10": rows(OCTOBER), "2026-11": rows(NOVEMBER)})
    assert errors(join(tmp_path, tmp_path / "AAPL", tmp_path / "KO")) == [None] * 4
    assert read(tmp_path / "store/AAPL_1m.csv") == read(tmp_path / "store/KO_1m.csv") == MINUTES


def test_bars_of_two_lengths_become_two_files(tmp_path):
    write(
        tmp_path / "in",
        AAPL_2026_10=rows(OCTOBER),
        AAPL_2026_11=rows(NOVEMBER),
        AAPL_1d_2026=rows(DAYS),
    )
    assert errors(join(tmp_path)) == [None, None, None]
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS


def test_months_of_histdata_become_one_file(tmp_path):
    for month, bars in (("202610", FOREX[:14_400]), ("202611", FOREX[14_400:])):
        text = table(
            bars,
            lambda t, o, h, lo, c, _: f"{t - timedelta(hours=5):%Y%m%d %H%M%S};{o};{h};{lo};{c};0",
        )
        write(tmp_path / "in", **{f"DAT_ASCII_EURUSD_M1_{month}": text})
    assert errors(join(tmp_path, zone="Etc/GMT+5", stamp=Stamp.START)) == [None, None]
    assert read(tmp_path / "store/EURUSD_1m.csv") == FOREX


def test_archives_of_klines_become_the_series_that_a_person_names(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/instruments.toml").write_text('[BTC]\nsec_type = "CRYPTO"\n')
    for number, bars in enumerate((CRYPTO[:100], CRYPTO[100:])):
        name = f"BTCUSDT-1m-2026-11-2{number}"
        text = table(
            bars,
            lambda t, o, h, lo, c, v: (
                f"{t.timestamp():.0f}000,{o},{h},{lo},{c},{v},{t.timestamp() + 59:.0f}999,1,1,1,1,0"
            ),
        )
        with zipfile.ZipFile(tmp_path / f"in/{name}.zip", "w") as archive:
            archive.writestr(f"{name}.csv", text)
    assert errors(join(tmp_path, to=series_to("BTC_1m"))) == [None, None]
    assert read(tmp_path / "store/BTC_1m.csv") == CRYPTO


# Bars in two of them.


def test_a_bar_in_two_files_is_taken_once_and_named(tmp_path):
    both = rows(MINUTES[5 * DAY :])
    write(tmp_path / "in", AAPL_1m=rows(MINUTES[: 6 * DAY]), **{"AAPL_1m (1)": both})
    first, second = sorted(join(tmp_path), key=lambda one: one.tally.first)
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES
    assert (first.tally.bars, second.tally.bars) == (6 * DAY, len(MINUTES) - 6 * DAY)
    assert f"bars that are in AAPL_1m.csv too, alike, and taken from there: {DAY}" in second.notes


def test_a_bar_that_differs_in_two_files_is_refused_in_both_by_line(tmp_path):
    other = MINUTES[5 * DAY :]
    other[7] = (*other[7][:5], 1_000_000)
    write(tmp_path / "in", AAPL_1m=rows(MINUTES[: 6 * DAY]), **{"AAPL-1min": rows(other)})
    second, first = join(tmp_path)
    expected = [b for b in MINUTES if b[0] != other[7][0]]
    assert read(tmp_path / "store/AAPL_1m.csv") == expected
    assert [(one.line, one.why) for one in first.refused] == [
        (5 * DAY + 9, "files have different values for this time: see AAPL-1min.csv line 9")
    ]
    assert [(one.line, one.why) for one in second.refused] == [
        (9, f"files have different values for this time: see AAPL_1m.csv line {5 * DAY + 9}")
    ]
    kept = (tmp_path / "store/.ktrdr/imported/AAPL_1m.refused.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in kept] == ["file", "AAPL-1min.csv", "AAPL_1m.csv"]


def test_files_that_differ_in_many_bars_mean_different_things(tmp_path):
    halves = [(t, o / 2, h / 2, lo / 2, c / 2, v) for t, o, h, lo, c, v in MINUTES[5 * DAY :]]
    write(tmp_path / "in", AAPL_2026_10=rows(MINUTES[: 6 * DAY]), AAPL_1m=rows(halves))
    for error in errors(join(tmp_path)):
        assert "of 390 bars that are in several of its files, 390 have other values" in error
    assert not list((tmp_path / "store").glob("*.csv"))


def test_files_that_overlap_throughout_are_merged_a_piece_at_a_time():
    starts = np.arange(300_000) * 60
    with closing(JoinedBars()) as joined:
        for number in range(3):
            mine = starts[number:250_000:3] if number else starts
            rows = np.ones((len(mine), WIDTH))
            joined.add(f"{number}.csv", Tally(), [(mine, rows)])
        batches = [batch for batch, _ in joined.read()]
    assert (np.concatenate(batches) == starts).all()
    assert max(map(len, batches)) <= 65_536


# All, or none.


def test_one_file_that_is_not_understood_keeps_the_series_out_and_is_named(tmp_path):
    write(tmp_path / "in", AAPL_202610=rows(OCTOBER), AAPL_202611="Date,Open\n1,2\n")
    first, second = errors(join(tmp_path))
    assert first == (
        "nothing of it is imported, since files of its series are refused: AAPL_202611.csv"
    )
    assert "AAPL_202611.csv: no line has a time and four prices" in second
    assert not list((tmp_path / "store").glob("*.csv"))


def test_one_file_that_is_not_understood_keeps_no_other_series_out(tmp_path):
    write(tmp_path / "in", AAPL_202610=rows(OCTOBER), KO_202611="", KO_202610=rows(OCTOBER))
    assert [bool(one) for one in errors(join(tmp_path))] == [False, True, True]
    assert read(tmp_path / "store/AAPL_1m.csv") == OCTOBER


def test_files_whose_rows_mean_different_things_are_not_joined(tmp_path):
    closes = naive([(b[0] + timedelta(minutes=1), *b[1:]) for b in NOVEMBER])
    write(tmp_path / "in", AAPL_202610=naive(OCTOBER), AAPL_202611=closes)
    for error in errors(join(tmp_path)):
        assert "AAPL_202610.csv has starts of bars, AAPL_202611.csv ends of bars" in error


def test_rows_of_other_dates_than_those_in_the_name_are_no_part(tmp_path):
    write(tmp_path / "in", AAPL_2026=rows(OCTOBER), AAPL_2025=rows(NOVEMBER))
    _, second = join(tmp_path)[::-1]
    assert "bars of 2025-01-01 to 2025-12-31" in second.error.message
    assert not list((tmp_path / "store").glob("*.csv"))


def test_a_series_for_files_of_several_symbols_is_refused(tmp_path):
    write(tmp_path / "in", AAPL_1m=rows(OCTOBER), KO_1m=rows(NOVEMBER))
    with pytest.raises(
        InvalidRequest, match=r"AAPL_1m\.csv and .*KO_1m\.csv differ by more than num"
    ):
        join(tmp_path, to=series_to("AAPL_1m"))


# Around it.


def test_the_record_has_each_file_with_its_checksum(tmp_path):
    write(tmp_path / "in", AAPL_202610=rows(OCTOBER), AAPL_202611=rows(NOVEMBER))
    join(tmp_path)
    record = json.loads((tmp_path / "store/.ktrdr/imported/AAPL_1m.json").read_text())
    assert [(one["source"], one["bars"]) for one in record["parts"]] == [
        (str(tmp_path / "in/AAPL_202610.csv"), len(OCTOBER)),
        (str(tmp_path / "in/AAPL_202611.csv"), len(NOVEMBER)),
    ]
    assert len({one["sha256"] for one in record["parts"]}) == 2


@pytest.mark.parametrize(
    ("path", "symbol", "first", "end"),
    [
        ("AAPL_2023.csv", "AAPL", "2023-01-01", "2024-01-01"),
        ("AAPL_1m_2024-12.csv", "AAPL", "2024-12-01", "2025-01-01"),
        ("bars/AAPL/2024-01.csv", "AAPL", "2024-01-01", "2024-02-01"),
        ("AAPL/1m/2024_Q4.csv", "AAPL", "2024-10-01", "2025-01-01"),
        ("AAPL/2024/2024-02-29.csv.gz", "AAPL", "2024-02-29", "2024-03-01"),
        ("AAPL_2024_1m.csv", "AAPL", "2024-01-01", "2025-01-01"),
        ("20240131_AAPL_1m.csv", "AAPL", "2024-01-31", "2024-02-01"),
    ],
)
def test_dates_in_a_name_are_no_part_of_the_symbol(path, symbol, first, end):
    named = name_of(path, ())
    assert named.symbol == symbol
    dates = [f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in named.period]
    assert dates == [first, end]


@pytest.mark.parametrize(
    "path", ["bars/2024.csv", "2024.csv", "amzn/2024-01.csv", "AAPL_9999.csv", "AAPL_2024-13.csv"]
)
def test_dates_alone_name_no_series(path):
    assert name_of(path, ()) is None
