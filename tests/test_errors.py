import traceback

from ktrdr.errors import UnknownSeries


def test_a_traceback_shows_the_next_step():
    error = UnknownSeries("no AAPL_1m.csv", hint="create it")
    assert traceback.format_exception_only(error) == [
        "ktrdr.errors.UnknownSeries: no AAPL_1m.csv – next step: create it\n"
    ]
    assert (error.message, error.hint) == ("no AAPL_1m.csv", "create it")


def test_an_error_without_a_next_step_is_its_message():
    assert str(UnknownSeries("no AAPL_1m.csv")) == "no AAPL_1m.csv"
