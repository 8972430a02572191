"""Damage to responses: correct bytes in, damaged bytes out. Uses no gateway and no client."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Iterator

from ktrdr.sim.gateway.wire import encode_texts

_BARS_MESSAGE = "17"
_BAR_FIELDS = 8
_MOST_GARBAGE = 1 << 20

Bar = tuple[str, ...]
Change = Callable[[list[Bar]], list[Bar]]


def doubled(bars: list[Bar]) -> list[Bar]:
    """Every bar twice."""
    return [bar for bar in bars for _ in range(2)]


def unordered(bars: list[Bar]) -> list[Bar]:
    """The same bars out of order, always in the same way for the same number of bars."""
    mixed = bars.copy()
    random.Random(len(bars)).shuffle(mixed)  # noqa: S311  disorder, no secret
    return mixed if mixed != bars else bars[::-1]


def missing(bars: list[Bar], every: int) -> list[Bar]:
    """The bars without every `every`-th one, from the second on."""
    return [bar for place, bar in enumerate(bars) if place % max(every, 1) != 1 % max(every, 1)]


def wrong(bars: list[Bar], how: str) -> list[Bar]:
    """The bars with every third one, from the second on, changed by `WRONGS[how]`."""
    return [
        changed
        for place, bar in enumerate(bars)
        for changed in (WRONGS[how](bar) if place % 3 == 1 else [bar])
    ]


def with_field(bar: Bar, place: int, text: str) -> Bar:
    """The bar with this text in one field."""
    return (*bar[:place], text, *bar[place + 1 :])


def _later(bar: Bar, seconds: int) -> list[Bar]:
    """The bar at a later time, if its time is in seconds."""
    date = bar[0]
    is_instant = date.isdigit() and len(date) > 8
    return [with_field(bar, 0, str(int(date) + seconds)) if is_instant else bar]


WRONGS: dict[str, Callable[[Bar], list[Bar]]] = {
    "nan": lambda bar: [with_field(bar, 4, "nan")],
    "inf": lambda bar: [with_field(bar, 2, "inf")],
    "unset": lambda bar: [(bar[0], *[repr(sys.float_info.max)] * 4, *bar[5:])],
    "text": lambda bar: [with_field(bar, 1, "n/a")],
    "torn": lambda bar: [bar[:-1]],
    "low": lambda bar: [with_field(bar, 3, repr(float(bar[2]) + 1))],
    "half_minute": lambda bar: _later(bar, 30),
    "night": lambda bar: _later(bar, 43_200),
    "contradicting": lambda bar: [bar, with_field(bar, 4, bar[1 if bar[4] != bar[1] else 2])],
    "zero": lambda bar: [(bar[0], *["0.0"] * 4, *bar[5:])],
    "unset_volume": lambda bar: [with_field(bar, 5, str(2**63 - 1))],
}
"""Wrong bars: not a number, the API's values for "not set", a missing field, a low above the
high, a wrong time, a contradicting duplicate."""


def change_bars(data: bytes, change: Change) -> bytes:
    """The same messages with `change` applied to the bars of those with historical bars."""
    return change_message(data, _BARS_MESSAGE, lambda fields: _with_bars(fields, change))


def change_message(data: bytes, number: str, change: Callable[[list[str]], list[str]]) -> bytes:
    """The same messages with `change` applied to the fields of those with this number."""
    changed = []
    for message in _messages(data):
        fields = message[4:].decode().removesuffix("\0").split("\0")
        changed.append(encode_texts(change(fields)) if fields[0] == number else message)
    return b"".join(changed)


def first_half(data: bytes) -> bytes:
    """The first half of the bytes, which ends within a message."""
    return data[: max(len(data) // 2, 5)]


def garbage(size: int) -> bytes:
    """Bytes that begin with an impossible length, so that a client waits for more."""
    return b"\x7f\xff\xff\xff" + random.Random(size).randbytes(min(max(size - 4, 0), _MOST_GARBAGE))  # noqa: S311


def _messages(data: bytes) -> Iterator[bytes]:
    while data:
        (length,) = struct.unpack_from(">I", data)
        yield data[: 4 + length]
        data = data[4 + length :]


def _with_bars(fields: list[str], change: Change) -> list[str]:
    """Message 17 has its id, the request's, start, end, count, and eight fields for each bar."""
    head, rest = fields[:4], fields[5:]
    bars = [tuple(rest[i : i + _BAR_FIELDS]) for i in range(0, len(rest), _BAR_FIELDS)]
    changed = change(bars)
    return [*head, str(len(changed)), *(field for bar in changed for field in bar)]
