"""Messages that IB's library cannot read, or garbles."""

import pytest

from ktrdr.ib.raw_messages import (
    answered_request,
    greeted_version,
    is_whole,
    read_error,
    readable,
    without_odd_bars,
)


def framed(*fields):
    body = b"".join(field + b"\0" for field in fields)
    return len(body).to_bytes(4) + body


def bars(*rows, count=None):
    fields = [field for row in rows for field in row.split(b",")]
    number = str(len(rows) if count is None else count).encode()
    return framed(b"17", b"9", b"begin", b"end", number, *fields)


GOOD = b"1700000000,1.5,2.5,0.5,2.0,100,1.7,12"
NEXT = b"1700000060,1.5,2.5,0.5,2.0,100,1.7,12"


@pytest.mark.parametrize("place", range(1, 6))
@pytest.mark.parametrize("text", [b"?", b"", b"1_0", b"1,5".replace(b",", b";"), b"\xff"])
def test_an_odd_number_costs_its_bar_alone(place, text):
    odd = NEXT.split(b",")
    odd[place] = text
    rest, found = without_odd_bars(bars(GOOD, b",".join(odd), NEXT), str.isdigit)
    assert rest == bars(GOOD, NEXT)
    assert [(bar.time, bar.before) for bar in found] == [("1700000060", "1700000000")]


def test_a_bar_without_a_time_is_named_by_the_one_before_it():
    rest, found = without_odd_bars(bars(GOOD, b"?" + NEXT[10:], NEXT), str.isdigit)
    assert rest == bars(GOOD, NEXT)
    assert [(bar.time, bar.before) for bar in found] == [("?", "1700000000")]


@pytest.mark.parametrize(("place", "instead"), [(6, b"0"), (7, b"0")])
def test_fields_that_nobody_uses_cost_nothing(place, instead):
    odd = NEXT.split(b",")
    odd[place] = b"?"
    mended = NEXT.split(b",")
    mended[place] = instead
    rest, found = without_odd_bars(bars(GOOD, b",".join(odd)), str.isdigit)
    assert (rest, found) == (bars(GOOD, b",".join(mended)), [])


@pytest.mark.parametrize("count", [1, 3, b"?"])
def test_a_message_of_another_shape_is_left_as_it_is(count):
    number = count if isinstance(count, bytes) else str(count).encode()
    fields = [*GOOD.split(b","), *NEXT.split(b",")]
    message = framed(b"17", b"9", b"begin", b"end", number, *fields)
    assert without_odd_bars(message, str.isdigit) is None
    assert without_odd_bars(framed(b"17", b"9"), str.isdigit) is None


def test_a_message_of_bars_has_as_many_fields_as_bars():
    assert is_whole(bars(GOOD, NEXT))
    assert is_whole(bars())
    for count in (0, 1, 3, -1, "9" * 5000):
        assert not is_whole(bars(GOOD, NEXT, count=count))
    assert not is_whole(framed(b"17", b"9"))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"HMDS query returned no data", "HMDS query returned no data"),
        ("HMDS 查询没有返回数据: AAPL".encode("gb18030"), "HMDS 查询没有返回数据: AAPL"),
        ("Für AAPL gibt es keine Daten".encode("cp1252"), "Für AAPL gibt es keine Daten"),
        ("Für AAPL gibt es keine Daten".encode(), "Für AAPL gibt es keine Daten"),
        ("données introuvables".encode("cp1252"), "données introuvables"),
    ],
)
def test_a_text_is_readable_in_whatever_bytes_it_comes(raw, text):
    assert readable(raw) == text
    assert read_error(framed(b"4", b"2", b"7", b"162", raw, b"")) == (7, 162, text)


@pytest.mark.parametrize("fields", [(b"4",), (b"4", b"2", b"x", b"162", b"text"), (b"4", b"2")])
def test_an_error_that_cannot_be_read_is_none(fields):
    assert read_error(framed(*fields)) is None


@pytest.mark.parametrize(
    ("fields", "version", "number"),
    [
        ((b"17", b"9", b"begin"), 178, 9),
        ((b"10", b"8", b"9", b"AAPL"), 163, 9),
        ((b"10", b"9", b"AAPL"), 164, 9),
        ((b"49", b"9", b"1700000000"), 178, -1),  # the time, which is about no request
        ((b"17",), 178, -1),
        ((b"17", b"-9"), 178, -1),
        ((b"17", b"9" * 20), 178, -1),
    ],
)
def test_which_request_a_message_answers(fields, version, number):
    assert answered_request(framed(*fields), version) == number


def test_a_greeting_is_a_version_and_a_time():
    assert greeted_version(framed(b"178", b"20261118 15:00:00 UTC")) == 178
    assert greeted_version(framed(b"HTTP/1.1 400", b"?")) is None
    assert greeted_version(framed(b"178")) is None
