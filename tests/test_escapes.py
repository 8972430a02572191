"""ktrdr/escapes.py: what a terminal obeys, or nobody sees, is spelled out."""

import pytest

from ktrdr.escapes import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("IB 2104: x\n2026-11-20T14:30:00Z ERROR", "IB 2104: x\\n2026-11-20T14:30:00Z ERROR"),
        ("\x1b[2J\r\0", "\\x1b[2J\\r\\x00"),
        ("\x85\u2028", "\\x85\\u2028"),  # line ends for some readers
        ("\u202egnp", "\\u202egnp"),  # turns what follows around
        ("\udce4", "\\udce4"),  # a byte of a file name that is no UTF-8
    ],
)
def test_signs_that_would_do_something_are_spelled_out(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["AAPL", "Börse geschlossen", "接続が失われました", "1\u00a0000", "a\\nb"]
)
def test_letters_of_every_language_stay(text):
    assert visible(text) == text
