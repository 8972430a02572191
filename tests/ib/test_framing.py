import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.ib.framing import MESSAGE_MAX, Frames, NoMessageError


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4) + body


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.data())
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(bodies, data):
    stream = b"".join(map(framed, bodies))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30).map(sorted))
    frames = Frames()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += frames.feed(stream[begin:end])
    assert found == [framed(body) for body in bodies]
    assert frames.held == 0


def test_half_a_message_is_held():
    frames = Frames()
    assert frames.feed(framed(b"whole") + framed(b"half of it")[:7]) == [framed(b"whole")]
    assert frames.held == 7


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        (2 << 30).to_bytes(4),
        (MESSAGE_MAX + 1).to_bytes(4),
        bytes(4),
    ],
)
def test_what_is_no_message_is_refused_at_its_first_four_bytes(said):
    frames = Frames()
    with pytest.raises(NoMessageError, match="no message of IB's"):
        frames.feed(said)
    assert frames.held == 0


@given(st.binary(max_size=2000))
def test_any_bytes_are_messages_or_refused_and_little_is_held(said):
    frames = Frames()
    with contextlib.suppress(NoMessageError):
        frames.feed(said)
    assert frames.held <= len(said)
