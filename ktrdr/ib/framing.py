"""IB's messages cut out of a stream of bytes, within bounds. Knows nothing of what they say.

A message is its length as four bytes, big-endian, and so many bytes more. A length that no
message has is how another protocol, or garbage, gives itself away.
"""

from __future__ import annotations

MESSAGE_MAX = 0xFFFFFF
"""Bytes in a message at most: what IB's own client accepts (ibapi, `MAX_MSG_LEN`)."""

_PREFIX = 4
_SHOWN = 16


class NoMessageError(ValueError):
    """These bytes are no message of IB's."""


class Frames:
    """Puts messages together as their bytes come in. Holds one unfinished message at most."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def held(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes finish, each with its prefix. NoMessageError: never."""
        self._held += data
        whole: list[bytes] = []
        begin = 0
        while len(self._held) - begin >= _PREFIX:
            length = int.from_bytes(self._held[begin : begin + _PREFIX])
            if not 0 < length <= MESSAGE_MAX:
                shown = bytes(self._held[begin : begin + _SHOWN])
                self._held.clear()
                raise NoMessageError(f"what it sends is no message of IB's: {shown!r} …")
            end = begin + _PREFIX + length
            if len(self._held) < end:
                break
            whole.append(bytes(self._held[begin:end]))
            begin = end
        del self._held[:begin]
        return whole
