"""Series as a person writes them."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import InvalidRequest
from ktrdr.market.series_words import nearest_timeframe, series_of_words, timeframe_of_word
from ktrdr.market.timeframes import Timeframe

TODAY = date(2026, 11, 20)


def read(text):
    found = series_of_words(text, TODAY)
    since = found.since.isoformat() if found.since else None
    return list(found.symbols), [one.value for one in found.timeframes], since


@pytest.mark.parametrize(
    ("text", "symbols", "timeframes", "since"),
    [
        (
            "AAPL MSFT BRK B 1m 1h since 2020",
            ["AAPL", "MSFT", "BRK B"],
            ["1m", "1h"],
            "2020-01-01",
        ),
        ("aapl 1D", ["AAPL"], ["1d"], None),
        ("since 2020-03 1m AAPL", ["AAPL"], ["1m"], "2020-03-01"),
        ("AAPL 1m Since 2026-11-20", ["AAPL"], ["1m"], "2026-11-20"),
        ("AAPL,MSFT,1m", ["AAPL", "MSFT"], ["1m"], None),
        ("AAPL A 1m", ["AAPL", "A"], ["1m"], None),  # Apple and Agilent
        ("F T V 1m", ["F", "T", "V"], ["1m"], None),
        ("BRK T 1m", ["BRK", "T"], ["1m"], None),
        ("BRK A BRK B 1d", ["BRK A", "BRK B"], ["1d"], None),
        ("BRK, B 1d", ["BRK", "B"], ["1d"], None),
        ("XYZ K, MSFT, 1d", ["XYZ K", "MSFT"], ["1d"], None),
        ('"XYZ K" MSFT 1d', ["XYZ K", "MSFT"], ["1d"], None),
        ("'brk.b' 1d", ["brk.b"], ["1d"], None),
        ("BRK 1d B", ["BRK", "B"], ["1d"], None),
        ("AAPL 1m AAPL 1m", ["AAPL"], ["1m"], None),
        ("EURUSD 6EH7 ESZ6 2330 1m", ["EURUSD", "6EH7", "ESZ6", "2330"], ["1m"], None),
        ("AAPL\n\tMSFT\n1m", ["AAPL", "MSFT"], ["1m"], None),
    ],
)
def test_each_symbol_is_wanted_in_each_timeframe(text, symbols, timeframes, since):
    assert read(text) == (symbols, timeframes, since)


def test_they_are_listed_in_the_order_of_the_words():
    found = series_of_words("MSFT AAPL 1h 1m", TODAY).series
    assert [str(one) for one in found] == ["MSFT_1h", "MSFT_1m", "AAPL_1h", "AAPL_1m"]


@pytest.mark.parametrize(
    ("text", "named", "hint"),
    [
        ("", "no symbol", "AAPL MSFT"),
        ("1m since 2020", "no symbol", ""),
        ("AAPL", "AAPL: name a timeframe", ""),
        ("AAPL 2m", "2m: expected one of 1m 5m", "did you mean 1m?"),
        ("AAPL 60min", "60min: expected", "did you mean 1h?"),
        ("AAPL 1M", "1M: expected", "did you mean 1m?"),
        ("AAPL daily", "daily: expected", "did you mean 1d?"),
        ("AAPL 1m since", "since : expected a year", ""),
        ("AAPL 1m since yesterday", "since yesterday: expected a year", ""),
        ("AAPL 1m since 2020-13-01", "since 2020-13-01: expected", ""),
        ("AAPL 1m since 2027", "since 2027: expected", ""),
        ("AAPL 1m since 1969", "since 1969: expected", ""),
        ("AAPL 1m since 2020 since 2021", "since: expected once", ""),
        ("../AAPL 1m", r"symbol '../AAPL'", ""),
        ("A/B 1m", "symbol 'A/B'", ""),
        ('"AAPL 1m', '"AAPL 1m: a quote is not closed', ""),
        ('"" 1m', "symbol ''", ""),
        (" ".join(f"S{n}" for n in range(400)) + " 1m 5m 15m 30m 1h 4h", "2000 series", "parts"),
    ],
)
def test_an_error_names_the_part(text, named, hint):
    with pytest.raises(InvalidRequest) as caught:
        series_of_words(text, TODAY)
    assert named in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("1m", "1m"),
        ("2m", "1m"),
        ("3m", "5m"),
        ("10 mins", "15m"),
        ("60m", "1h"),
        ("1hour", "1h"),
        ("2h", "1h"),
        ("3h", "4h"),
        ("1440m", "1d"),
        ("1w", "1d"),
        ("Daily", "1d"),
        ("0m", None),
        ("AAPL", None),
        ("", None),
        ("m", None),
    ],
)
def test_the_nearest_timeframe_is_found(text, near):
    found = nearest_timeframe(text)
    assert (found.value if found else None) == near


def test_a_wrong_timeframe_names_the_nearest_one():
    assert timeframe_of_word("1h") is Timeframe.H1
    with pytest.raises(InvalidRequest, match="'2m': expected one of") as caught:
        timeframe_of_word("2m")
    assert caught.value.hint == "did you mean 1m?"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        found = series_of_words(text, TODAY)
    except InvalidRequest:
        return
    assert found.series


@given(
    st.lists(st.from_regex(r"\A[A-Z]{2,5}\Z"), min_size=1, unique=True),
    st.lists(st.sampled_from(list(Timeframe)), min_size=1, unique=True),
)
def test_what_was_written_is_read(symbols, timeframes):
    symbols = [one for one in symbols if one not in ("SINCE", "DAILY")] or ["AA"]
    text = " ".join([*symbols, *(one.value for one in timeframes)])
    found = series_of_words(text, TODAY)
    assert (list(found.symbols), list(found.timeframes)) == (symbols, timeframes)
