"""The hints are pasted by people, so that they are read here as `instruments.toml` is."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.ib.candidates import Candidate, how_else_spelt, singled_out, which_is_meant
from ktrdr.market.instruments import instrument_for, read_instruments

TODAY = date(2026, 11, 23)
BIG = Candidate(
    495512563, "ESZ6", "CME", "", "USD", "50", "ES", "20261218", "E-mini S&P 500",
)  # fmt: skip
CALLED_OTHERWISE = {
    "primary_exchange": "NYSE",
    "currency": "EUR",
    "multiplier": "5",
    "trading_class": "ESX",
    "expiry": "20270319",
    "local_symbol": "ESH7",
}


def like(one: Candidate, con_id: int, **other: str) -> Candidate:
    return Candidate(**(vars(one) | {"con_id": con_id} | other))


@pytest.mark.parametrize(("name", "value"), CALLED_OTHERWISE.items())
def test_a_field_that_no_other_shares_singles_a_contract_out(name, value):
    other = like(BIG, 2, **{name: value})
    assert singled_out(other, [BIG, other]) == (name, value)


def test_the_plainest_of_several_such_fields_is_taken():
    other = like(BIG, 2, **CALLED_OTHERWISE)
    assert singled_out(other, [BIG, other]) == ("primary_exchange", "NYSE")


def test_a_value_that_a_third_one_shares_singles_nobody_out():
    small = like(BIG, 2, multiplier="5", local_symbol="MESZ6")
    later = like(BIG, 3, multiplier="5", local_symbol="MESH7", expiry="20270319")
    three = [BIG, small, later]
    assert [singled_out(one, three) for one in three] == [
        ("multiplier", "50"),
        ("local_symbol", "MESZ6"),
        ("expiry", "20270319"),
    ]


def test_the_number_is_for_those_that_nothing_else_tells_apart():
    twin = like(BIG, 7)
    assert singled_out(twin, [BIG, twin]) == ("con_id", 7)


def test_what_an_entry_could_not_say_singles_nobody_out():
    odd = like(BIG, 7, primary_exchange="A/B", multiplier="", local_symbol=" ")
    assert singled_out(odd, [BIG, odd]) == ("con_id", 7)


def test_a_hint_has_the_line_for_each_and_says_what_each_is():
    twin = like(BIG, 495512564, long_name="E-mini\nS&P 500")
    small = like(BIG, 3, multiplier="5", trading_class="MES", local_symbol="MESZ6", long_name="")
    assert which_is_meant("ES", [BIG, twin, small], TODAY).splitlines() == [
        "say in instruments.toml which one is meant, by one of these lines:",
        "[ES]",
        "con_id = 495512563   # ESZ6: CME, class ES, multiplier 50, USD, 20261218, E-mini S&P 500",
        "con_id = 495512564   # ESZ6: CME, class ES, multiplier 50, USD, 20261218, E-mini S&P 500",
        'multiplier = "5"     # MESZ6: CME, class MES, multiplier 5, USD, 20261218',
    ]


def test_of_many_months_those_are_shown_that_expire_next_and_the_others_counted():
    months = [
        like(BIG, year * 100 + month, expiry=f"{year}{month:02}18", local_symbol="")
        for year in (2025, 2026, 2027)
        for month in (3, 6, 9, 12)
    ]
    lines = which_is_meant("ES", months, TODAY).splitlines()
    assert [line.partition("   #")[0] for line in lines[2:]] == [
        'expiry = "20261218"',
        'expiry = "20270318"',
        'expiry = "20270618"',
        'expiry = "20270918"',
        'expiry = "20271218"',
        'expiry = "20250318"',
        "# and 6 more",
    ]


ANY_TEXT = st.text(max_size=12)


@given(
    symbol=st.sampled_from(["ES", "BRK.B", "BRK B", "A-B_c", "7203"]),
    candidates=st.lists(
        st.builds(
            Candidate,
            con_id=st.integers(1, 2**31 - 1),
            local_symbol=ANY_TEXT,
            exchange=ANY_TEXT,
            primary_exchange=ANY_TEXT,
            currency=ANY_TEXT,
            multiplier=ANY_TEXT,
            trading_class=ANY_TEXT,
            expiry=st.sampled_from(["", "20261218", "20270319"]),
            long_name=ANY_TEXT,
        ),
        min_size=2,
        max_size=4,
        unique_by=lambda one: one.con_id,
    ),
)
def test_each_line_can_be_pasted_and_means_one_contract_alone(symbol, candidates):
    _, table, *lines = which_is_meant(symbol, candidates, TODAY).split("\n")
    assert len(lines) == len(candidates)
    meant = []
    for line in lines:
        ((name, value),) = read_instruments(f"{table}\n{line}\n")[symbol].items()
        meant += [one.con_id for one in candidates if getattr(one, name) == value]
    assert sorted(meant) == sorted(one.con_id for one in candidates)


def spelt(symbol: str, today: date = TODAY, **entry: object) -> str:
    return how_else_spelt(instrument_for(symbol, entry), today)


def pasted(hint: str) -> dict:
    return read_instruments(hint.partition("\n")[2])


@pytest.mark.parametrize(
    ("symbol", "local_symbol"),
    [("BRK.B", "BRK B"), ("BF-B", "BF B"), ("AGM.PR", "AGM PR"), ("brk-b", "BRK B")],
)
def test_a_class_of_shares_is_spelt_with_a_space(symbol, local_symbol):
    assert pasted(spelt(symbol)) == {symbol: {"local_symbol": local_symbol}}
    assert f"name the file {local_symbol}_….csv" in spelt(symbol)


@pytest.mark.parametrize(
    ("symbol", "known_as"),
    [
        ("EUR.USD", "EURUSD"),
        ("GBP-JPY", "GBPJPY"),
        ("eurusd", "EURUSD"),
        ("aapl", "AAPL"),
        ("aapl.us", "AAPL"),
    ],
)
def test_a_pair_and_a_symbol_in_small_letters_are_spelt_as_the_file_should_be_named(
    symbol, known_as
):
    assert spelt(symbol) == (
        f"did you mean {known_as}? Then name the file {known_as}_….csv, else check the symbol; "
        "say in instruments.toml what it is"
    )


@pytest.mark.parametrize("symbol", ["BTC-USD", "BTCUSD", "btc-usd", "BTC.USD"])
def test_a_coin_is_named_without_the_dollar_and_with_an_entry(symbol):
    assert "name the file BTC_….csv" in spelt(symbol)
    assert pasted(spelt(symbol)) == {"BTC": {"sec_type": "CRYPTO"}}


def test_a_forex_contract_of_an_entry_is_not_taken_for_a_stock():
    assert "name the file" not in spelt("EUR.USD", sec_type="CASH")


@pytest.mark.parametrize(
    ("symbol", "today", "local_symbol", "expiry"),
    [
        ("CLF7", date(2026, 11, 23), "CLF27", "202701"),
        ("CLF7", date(2027, 1, 31), "CLF27", "202701"),
        ("CLF7", date(2027, 2, 1), "CLF37", "203701"),
        ("CLZ6", date(2026, 11, 23), "CLZ26", "202612"),
        ("CLV6", date(2026, 11, 23), "CLV36", "203610"),
        ("CLG0", date(2029, 11, 23), "CLG30", "203002"),
        ("CLF07", date(2026, 11, 23), "CLF7", "200701"),
        ("CLF27", date(2026, 11, 23), "CLF7", "202701"),
    ],
)
def test_a_month_may_have_a_year_of_one_digit_or_of_two(symbol, today, local_symbol, expiry):
    assert pasted(spelt(symbol, today)) == {
        symbol: {"local_symbol": local_symbol},
        "CL": {"sec_type": "FUT", "expiry": expiry},
    }


def test_a_month_of_another_exchange_is_named_by_its_root_with_that_exchange():
    entry = {"sec_type": "FUT", "exchange": "EUREX", "currency": "EUR"}
    assert pasted(spelt("FESXH7", **entry)) == {
        "FESXH7": {"local_symbol": "FESXH27"},
        "FESX": entry | {"expiry": "202703"},
    }


def test_a_root_that_is_no_symbol_of_ibs_is_not_proposed():
    assert pasted(spelt("6EH7")) == {"6EH7": {"local_symbol": "6EH27"}}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"con_id": 5, "exchange": "CME"}, "con_id = 5 on the exchange CME"),
        ({"multiplier": "7"}, 'multiplier = "7"'),
        ({"local_symbol": "BRK  B", "trading_class": "X"}, 'trading_class = "X", local_symbol ='),
    ],
)
def test_what_an_entry_says_already_is_to_be_checked_first(entry, said):
    hint = spelt("BRK.B", **entry)
    assert f"IB knows none with {said}" in hint
    assert '["BRK.B"]' in hint


@pytest.mark.parametrize("symbol", ["XYZZY", "AGLE.CNT", "EURUSD"])
def test_of_other_symbols_nothing_better_is_known(symbol):
    assert spelt(symbol) == "check the symbol; say in instruments.toml what it is"
