from ktrdr.ib.known_contracts import KnownContracts, kind
from ktrdr.market.instruments import instrument_for

AAPL, MSFT, EURUSD = map(instrument_for, ("AAPL", "MSFT", "EURUSD"))


def test_where_nothing_was_answered_eurusd_is_good_for_all_but_itself():
    known = KnownContracts()
    assert known.good() == EURUSD
    assert known.good(other_than=EURUSD) == AAPL


def test_the_newest_answer_is_the_first_and_the_control_is_another():
    known = KnownContracts()
    known.answered(AAPL, is_history=True)
    known.answered(MSFT, is_history=True)
    assert known.good() == MSFT
    assert known.good(other_than=MSFT) == AAPL


def test_one_whose_data_are_refused_is_probed_no_more():
    known = KnownContracts()
    known.answered(AAPL, is_history=True)
    known.refused(AAPL)
    assert known.to_probe(refused=set()) == EURUSD
    assert known.kinds == set()


def test_a_probe_asks_for_another_kind_than_that_which_was_refused():
    known = KnownContracts()
    known.answered(EURUSD, is_history=True)
    known.answered(AAPL, is_history=True)
    assert known.to_probe(refused=set()) == AAPL
    assert known.to_probe(refused={kind(AAPL)}) == EURUSD


def test_an_answer_that_is_no_history_says_nothing_of_its_kind():
    known = KnownContracts()
    known.answered(AAPL, is_history=False)
    assert known.good() == AAPL
    assert known.kinds == set()
