"""IB's messages parsed where its library cannot: errors, and bars with invalid fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

ERROR, DETAILS, BARS = b"4", b"10", b"17"
WHOLE_ANSWERS = (BARS, b"88", b"106")
"""Kinds of messages that are a complete answer: bars, the first bar, sessions."""

_PREFIX = 4
_DIGITS_MAX = 20
"""No request has a number with as many digits."""
_DETAILS_WITHOUT_VERSION = 164
"""From this protocol version on, contract details begin with the request's number."""
_BAR_FIELDS = 8
"""Time, open, high, low, close, volume, average, count (TWS API, `historicalData`)."""
_NUMBERS = slice(1, 6)
"""The fields that must be numbers. A bar with an invalid average or count is kept."""
_HIGH_RUNS = re.compile(rb"[\x80-\xff]+")


class GatewayError(NamedTuple):
    """The contents of an error message."""

    request_id: int
    """-1: about no request."""
    code: int
    text: str


class OddBar(NamedTuple):
    """A bar that cannot be read."""

    time: str
    """As IB writes it; may be invalid."""
    before: str
    """The last valid time of a bar before it; empty: there is none."""
    words: str
    """The whole bar, for a person to read."""


def kind_of(message: bytes) -> bytes:
    """The kind of message, from its first field."""
    return message[_PREFIX:].partition(b"\0")[0]


def answered_request(message: bytes, server_version: int) -> int:
    """The number of the request that details or a complete answer belong to; otherwise -1."""
    kind, *fields = message[_PREFIX:].split(b"\0", 3)
    if kind != DETAILS and kind not in WHOLE_ANSWERS:
        return -1
    is_versioned = kind == DETAILS and server_version < _DETAILS_WITHOUT_VERSION
    number = fields[is_versioned] if len(fields) > is_versioned else b""
    return int(number) if number.isdigit() and len(number) < _DIGITS_MAX else -1


def greeted_version(message: bytes) -> int | None:
    """The protocol version in a handshake, which also has a time; None: it is not a handshake."""
    fields = message[_PREFIX:].split(b"\0")
    return int(fields[0]) if len(fields) == 3 and fields[0].isdigit() else None


def read_error(message: bytes) -> GatewayError | None:
    """The contents of an error message, in any language; None: it cannot be read.

    Its fields are kind, version, request, code, text, and later ones (TWS API, `error`).
    """
    fields = message[_PREFIX:].split(b"\0")
    try:
        return GatewayError(int(fields[2]), int(fields[3]), readable(fields[4]))
    except (ValueError, IndexError):
        return None


def readable(text: bytes) -> str:
    """A text from the gateway: UTF-8, or else GB 18030 or Windows-1252.

    In GB 18030 bytes above ASCII come in pairs, in Windows-1252 mostly alone.
    """
    try:
        return text.decode()
    except UnicodeDecodeError:
        pass
    if all(len(run) > 1 for run in _HIGH_RUNS.findall(text)):
        try:
            return text.decode("gb18030")
        except UnicodeDecodeError:
            pass
    return text.decode("cp1252", errors="replace")


def is_whole(message: bytes) -> bool:
    """Whether a message of bars has all fields of the bars that it counts."""
    head = message[_PREFIX:].split(b"\0", 5)
    if len(head) < 6 or not head[4].isdigit() or len(head[4]) > 9:
        return False
    return message.count(b"\0", _PREFIX) == 5 + int(head[4]) * _BAR_FIELDS


def without_odd_bars(
    message: bytes, is_time: Callable[[str], bool]
) -> tuple[bytes, list[OddBar]] | None:
    """A message of bars without the unreadable ones, and these.

    `is_time`: whether a bar's time can be read. None: it is not a complete message of bars.
    """
    fields = message[_PREFIX:].split(b"\0")
    head, rest = fields[:5], fields[5:-1]
    if len(head) < 5 or not head[4].isdigit() or len(rest) != int(head[4]) * _BAR_FIELDS:
        return None
    kept: list[bytes] = []
    odd: list[OddBar] = []
    before = ""
    for place in range(0, len(rest), _BAR_FIELDS):
        bar = rest[place : place + _BAR_FIELDS]
        time = bar[0].decode(errors="replace")
        if is_time(time) and all(map(_is_number, bar[_NUMBERS])):
            kept += [*bar[:6], bar[6] if _is_number(bar[6]) else b"0", _whole(bar[7])]
        else:
            odd.append(OddBar(time, before, b",".join(bar).decode(errors="replace")))
        before = time if is_time(time) else before
    body = b"\0".join([*head[:4], str(len(kept) // _BAR_FIELDS).encode(), *kept, b""])
    return len(body).to_bytes(_PREFIX) + body, odd


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return b"_" not in text


def _whole(text: bytes) -> bytes:
    """A count that the library can read; 0 for an invalid one."""
    return text if re.fullmatch(rb"-?\d{1,18}", text) else b"0"
