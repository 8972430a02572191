"""What a person says of the columns, and what they are taken for without that."""

import pytest

from ktrdr.importing.columns import parse_chosen
from tests.importing.known_bars import DAYS, FOREX, HEADER, MINUTES, imported, local, read, table

TITLES = "Date,Open,High,Low,Close,Volume\n"


def plain(head=TITLES):
    return table(DAYS, lambda t, *bar: f"{t:%Y-%m-%d},{','.join(map(str, bar))}", head)


@pytest.mark.parametrize(
    "chosen", ["time=Open", "clock=Volume", "symbol=Open", "open=Date", "volume=Close"]
)
def test_one_column_is_not_taken_for_two_parts_of_a_bar(tmp_path, chosen):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(plain())
    found = imported(tmp_path / "store", path, columns=parse_chosen(chosen))
    assert "is taken for two parts of a bar" in found.error.message
    assert "--columns" in found.error.hint


def test_without_a_header_only_the_missing_volume_has_to_be_said(tmp_path):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(table(DAYS, lambda t, o, h, lo, c, _: f"{t:%Y-%m-%d},{o},{h},{lo},{c}"))
    found = imported(tmp_path / "store", path)
    assert "volume=none" in found.error.hint
    found = imported(tmp_path / "store", path, columns=parse_chosen("volume=none"))
    assert found.error is None
    assert read(tmp_path / "store/AAPL_1d.csv") == [(*b[:5], -1) for b in DAYS]


@pytest.mark.parametrize("volume", ["", "NaN", "n/a"])
def test_volumes_that_are_not_taken_need_not_be_numbers(tmp_path, volume):
    path = tmp_path / "EURUSD_1m.csv"
    path.write_text(
        table(FOREX[:5000], lambda t, o, h, lo, c, _: f"{t},{o},{h},{lo},{c},{volume}", HEADER)
    )
    found = imported(tmp_path / "store", path)
    assert found.error is None
    assert found.refused == []
    assert read(tmp_path / "store/EURUSD_1m.csv") == FOREX[:5000]


def test_a_time_with_its_offset_is_taken_beside_its_date_and_clock(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(
        table(
            MINUTES,
            lambda t, *bar: f"{local(t, '%Y-%m-%d,%H:%M')},{t},{','.join(map(str, bar))}",
            "Date,Time,Datetime,Open,High,Low,Close,Volume\n",
        )
    )
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES


def test_the_columns_that_may_be_volumes_are_named(tmp_path):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(plain(TITLES.replace("Volume", "Volume USD")))
    found = imported(tmp_path / "store", path)
    assert "not taken: Volume USD" in found.error.message
    assert "volume=NAME" in found.error.hint
    chosen = parse_chosen("volume=Volume USD")
    assert imported(tmp_path / "store", path, columns=chosen).error is None
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS
