"""The ids of a stream's events: how far each of its series has been given. Reads no request.

An id is a check of the series' names, the latest position, and for each series, in the order of
their names, how many seconds it is behind that: `4f1c2a9b.tgpzuc.0.1o`. Numbers are of base 36.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from ktrdr.errors import InvalidRequest
from ktrdr.escapes import visible
from ktrdr.market.instruments import Series

LAST_EVENT_ID = "Last-Event-ID"
_BASE = 36
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID = re.compile(r"([0-9a-f]{8})\.(-?[0-9a-z]{1,8})((?:\.[0-9a-z]{1,8})+)")
_SHOWN = 60


class EventIds:
    """The ids of the streams of some series, in whatever order these were named."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._series = sorted(series, key=str)
        names = ",".join(map(str, self._series))
        self._check = hashlib.blake2b(names.encode(), digest_size=4).hexdigest()

    def write(self, positions: Mapping[Series, int]) -> str:
        """The id after which the bars from these starts on (UTC seconds) are still to be given."""
        found = [positions[one] for one in self._series]
        latest = max(found)
        behind = ".".join(_text(latest - one) for one in found)
        return f"{self._check}.{'-' * (latest < 0)}{_text(abs(latest))}.{behind}"

    def read(self, text: str) -> dict[Series, int]:
        """The positions of an id. InvalidRequest: it is none, or one of other series."""
        found = _ID.fullmatch(text)
        shown = visible(text[:_SHOWN])
        if found is None:
            raise InvalidRequest(
                f"{LAST_EVENT_ID}={shown!r}: expected the id of an event of this stream",
                hint="send it as it came, or leave it out and name a start",
            )
        behind = found[3][1:].split(".")
        if found[1] != self._check or len(behind) != len(self._series):
            names = ",".join(map(str, self._series))
            raise InvalidRequest(
                f"{LAST_EVENT_ID}={shown!r}: expected an id of a stream of {visible(names)}, and "
                "of no other series",
                hint="leave it out, and name a start",
            )
        latest = int(found[2], _BASE)
        numbers = (latest - int(one, _BASE) for one in behind)
        return dict(zip(self._series, numbers, strict=True))


def _text(number: int) -> str:
    digits = ""
    while number >= _BASE:
        number, digit = divmod(number, _BASE)
        digits = _DIGITS[digit] + digits
    return _DIGITS[number] + digits
