"""IB's messages cut out of a stream of bytes, within bounds. Does not read their contents.

A message is its length as four bytes, big-endian, followed by that many bytes. An impossible
length reveals another protocol or garbage.
"""

from __future__ import annotations

MESSAGE_MAX = 0xFFFFFF
"""Maximum bytes in a message, as in IB's own client (ibapi, `MAX_MSG_LEN`)."""

_PREFIX = 4
_SHOWN = 16


class NoMessageError(ValueError):
    """These bytes are not a message of IB's."""


class Frames:
    """Assembles messages as their bytes arrive. Holds one unfinished message at most."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def held(self) -> int:
        """Number of bytes held of an unfinished message."""
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, with their prefixes. NoMessageError: bad length."""
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
