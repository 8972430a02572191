from ktrdr.ib.history_refusals import HistoryRefusals

STOCKS, FOREX = ("STK", "USD"), ("CASH", "USD")


def test_one_refusal_that_no_notice_explains_proves_nothing_and_two_do():
    refusals = HistoryRefusals()
    assert not refusals.note_probe(STOCKS, {STOCKS}, is_announced=False)
    assert refusals.note_probe(STOCKS, {STOCKS}, is_announced=False)


def test_with_a_notice_of_a_broken_farm_one_is_enough():
    assert HistoryRefusals().note_probe(STOCKS, {STOCKS}, is_announced=True)


def test_a_request_that_was_refused_counts_too():
    refusals = HistoryRefusals()
    refusals.note_request()
    assert refusals.note_probe(STOCKS, {STOCKS}, is_announced=False)


def test_history_is_not_broken_while_a_known_kind_was_not_asked_for():
    refusals = HistoryRefusals()
    known = {STOCKS, FOREX}
    assert not refusals.note_probe(STOCKS, known, is_announced=True)
    assert refusals.kinds == {STOCKS}
    assert refusals.note_probe(FOREX, known, is_announced=True)
    assert refusals.kinds == frozenset()


def test_an_answer_ends_all_doubt():
    refusals = HistoryRefusals()
    refusals.is_unproven = True
    refusals.note_probe(STOCKS, {STOCKS, FOREX}, is_announced=True)
    refusals.note_answer()
    assert not refusals
    assert refusals.kinds == frozenset()
    assert not refusals.is_unproven


def test_a_new_connection_forgets_what_was_refused_and_not_that_data_never_came():
    refusals = HistoryRefusals()
    refusals.is_unproven = True
    refusals.note_request()
    refusals.forget()
    assert not refusals
    assert refusals.is_unproven
