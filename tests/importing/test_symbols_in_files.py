"""Rows of several contracts are refused, in whichever column that is; spellings of one are not."""

import pytest

from ktrdr.importing.columns import parse_chosen
from tests.importing.known_bars import DAYS, imported, read, table


def of_two(title, row="{who},{date},{bar}"):
    """Rows of one symbol, and then of another one; none of their times is the same."""
    return (f"{title},date,open,high,low,close,volume\n" if title else "") + "".join(
        row.format(
            who="AAPL" if n < 10 else "MSFT", date=f"{b[0]:%Y-%m-%d}", bar=",".join(map(str, b[1:]))
        )
        + "\n"
        for n, b in enumerate(DAYS)
    )


@pytest.mark.parametrize("title", ["ts_code", "isin", "Company", "Stock Name", "contract", "Scrip"])
def test_several_contracts_are_refused_whatever_tells_them_apart(tmp_path, title):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(of_two(title))
    found = imported(tmp_path / "store", path)
    assert "several symbols: AAPL, MSFT" in found.error.message
    assert "symbol=none" in found.error.hint
    assert imported(tmp_path / "store", path, columns=parse_chosen("symbol=none")).error is None


def test_several_symbols_are_refused_where_a_person_chose_the_other_columns(tmp_path):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(of_two(""))
    chosen = "time=2,open=3,high=4,low=5,close=6,volume=7"
    found = imported(tmp_path / "store", path, columns=parse_chosen(chosen))
    assert "several symbols: AAPL, MSFT" in found.error.message
    chosen = parse_chosen(f"{chosen},symbol=none")
    assert imported(tmp_path / "store", path, columns=chosen).error is None


def test_one_symbol_is_not_several_for_its_spelling_or_empty_cells(tmp_path):
    path = tmp_path / "bars.csv"
    path.write_text(
        table(
            enumerate(DAYS),
            lambda n, b: (
                f"{('AAPL', 'AAPL ', 'aapl', '')[n % 4]},{b[0]:%Y-%m-%d},"
                + ",".join(map(str, b[1:]))
            ),
            "symbol,date,open,high,low,close,volume\n",
        )
    )
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS


@pytest.mark.parametrize("title", ["isin", "company"])
def test_what_only_tells_contracts_apart_contradicts_no_name(tmp_path, title):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(of_two(title).replace("AAPL,", "APPLE INC,").replace("MSFT,", "APPLE INC,"))
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS
