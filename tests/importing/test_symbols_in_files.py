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


HEADS = {
    "three lines": "Price,{titles}\nTicker,{who}\nDate,,,,,\n",
    "three lines, symbols first": "Ticker,{who}\nPrice,{titles}\nDate,,,,,\n",
    "three lines without names": ",{titles}\n,{who}\nDate,,,,,\n",
    "two lines": "Ticker,{who}\nPrice,{titles}\n",
    "two lines, symbols last": "Price,{titles}\nTicker,{who}\n",
    "two lines without names": ",{titles}\n,{who}\n",
    "two lines, a date first": "Date,{who}\n,{titles}\n",
    "two lines, a date before the titles": ",{who}\nDate,{titles}\n",
}


def of_yfinance(head, symbol):
    text = HEADS[head].format(titles="Close,High,Low,Open,Volume", who=",".join([symbol] * 5))
    return table(DAYS, lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d},{c},{h},{lo},{o},{v}", text)


@pytest.mark.parametrize("head", HEADS)
def test_the_symbol_in_the_header_of_yfinance_counts(tmp_path, head):
    (tmp_path / "prices.csv").write_text(of_yfinance(head, "AAPL"))
    found = imported(tmp_path / "store", tmp_path / "prices.csv")
    assert (found.error, found.refused) == (None, [])
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS
    (tmp_path / "MSFT_1d.csv").write_text(of_yfinance(head, "AAPL"))
    found = imported(tmp_path / "store", tmp_path / "MSFT_1d.csv")
    assert "its name is that of MSFT, and its rows are of AAPL" in found.error.message


def test_columns_of_several_symbols_are_not_mixed(tmp_path):
    titles = [title for title in ("Close", "High", "Low", "Open", "Volume") for _ in range(2)]
    head = f"Price,{','.join(titles)}\nTicker,{','.join(['AAPL', 'MSFT'] * 5)}\nDate{',' * 10}\n"
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(table(DAYS, lambda t, *b: f"{t:%Y-%m-%d},{','.join(map(str, (*b, *b)))}", head))
    found = imported(tmp_path / "store", path)
    assert "columns of several symbols: AAPL, MSFT" in found.error.message
