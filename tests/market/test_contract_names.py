"""The names under which ledgers keep what they know: those that are there stay as they are."""

import pytest

from ktrdr.market.instruments import contract_name, instrument_for


@pytest.mark.parametrize(
    ("symbol", "entry", "name"),
    [
        ("AAPL", {}, "AAPL/STK/SMART//USD//TRADES/regular"),
        (
            "TWIN",
            {"primary_exchange": "NYSE", "extended_hours": True},
            "TWIN/STK/SMART/NYSE/USD//TRADES/extended",
        ),
        ("ESZ6", {}, "ESZ6/FUT/CME//USD//TRADES/extended"),
        (
            "ES",
            {"sec_type": "FUT", "expiry": "202612"},
            "ES/FUT/CME//USD/202612/TRADES/extended",
        ),
        ("EURUSD", {}, "EURUSD/CASH/IDEALPRO//USD//MIDPOINT/regular"),
    ],
)
def test_a_contract_has_the_name_that_ledgers_have_always_had(symbol, entry, name):
    assert contract_name(instrument_for(symbol, entry)) == name


def test_further_fields_of_an_entry_are_at_the_end_of_the_name():
    closer = {"multiplier": "50", "trading_class": "ES", "con_id": 495512563}
    future = instrument_for("ES", {"sec_type": "FUT", "expiry": "202612"} | closer)
    assert contract_name(future) == (
        "ES/FUT/CME//USD/202612/TRADES/extended/multiplier=50/trading_class=ES/con_id=495512563"
    )
    stock = instrument_for("BRK.B", {"local_symbol": "BRK B"})
    assert contract_name(stock) == "BRK.B/STK/SMART//USD//TRADES/regular/local_symbol=BRK B"
