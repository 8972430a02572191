r"""The TWS API's wire format on the gateway's side: bytes to requests, values to bytes. No I/O.

A message is a 4-byte big-endian length and fields that each end with a zero byte; the first
field is the message's id. A client begins with `API\0` and the range of versions it supports.
Field orders are those of protocol 157 to 178, as clients of these versions write and read them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ktrdr.sim.market.contracts import Query

MIN_VERSION, MAX_VERSION = 157, 178
"""The lowest and highest protocol version that can be served."""

MAX_MESSAGE_BYTES = 1 << 20
"""Maximum bytes of a client's message: usual ones have a few hundred; more is garbage."""

_MAX_INT = 2**31 - 1


class WireError(ValueError):
    """Bytes that are not a message of this protocol. `fatal`: later bytes cannot be read either."""

    def __init__(self, text: str, *, fatal: bool) -> None:
        super().__init__(text)
        self.fatal = fatal


@dataclass(frozen=True)
class Request:
    """One message from a client. Fields that its kind does not have keep their defaults."""

    kind: str
    """`historical_data`, `schedule`, `contract_details`, `head_timestamp`, `current_time`, …"""
    request_id: int = -1
    query: Query | None = None
    end: str = ""
    duration: str = ""
    bar_size: str = ""
    what_to_show: str = ""
    use_rth: bool = False
    format_date: int = 1
    keep_up_to_date: bool = False
    client_id: int = -1
    account: str = ""
    subscribe: bool = True

    @property
    def symbol(self) -> str:
        """The local symbol or symbol of its contract; empty: it has none."""
        return (self.query.local_symbol or self.query.symbol) if self.query else ""


class Framer:
    """Collects bytes, however they are split, and returns whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> list[list[str]]:
        """The messages that are now complete, each as its fields.

        The first message has one field, the client's version range (`v157..176 options`).
        WireError (fatal): this is not the API's protocol.
        """
        self._buffer += data
        if not self._greeted and not self._take_greeting():
            return []
        messages = []
        while (message := self._take_message()) is not None:
            messages.append(message)
        return messages

    def _take_greeting(self) -> bool:
        if not b"API\0".startswith(bytes(self._buffer[:4])):
            raise WireError("a client must begin with API", fatal=True)
        if len(self._buffer) < 4:
            return False
        del self._buffer[:4]
        self._greeted = True
        return True

    def _take_message(self) -> list[str] | None:
        if len(self._buffer) < 4:
            return None
        (length,) = struct.unpack_from(">I", self._buffer)
        if length > MAX_MESSAGE_BYTES:
            raise WireError(f"a message of {length} bytes", fatal=True)
        if len(self._buffer) < 4 + length:
            return None
        text = bytes(self._buffer[4 : 4 + length]).decode(errors="backslashreplace")
        del self._buffer[: 4 + length]
        return text.removesuffix("\0").split("\0")


def negotiate(greeting: list[str], offered: int = MAX_VERSION) -> int:
    """The highest version that both sides support. WireError: there is none."""
    match = re.match(r"v(\d{1,4})(?:\.\.(\d{1,4}))?(?: |$)", greeting[0], re.ASCII)
    if not match:
        raise WireError(f"no version range: {greeting[0][:40]!r}", fatal=True)
    low, high = int(match[1]), int(match[2] or match[1])
    version = min(high, offered)
    if version < max(low, MIN_VERSION):
        raise WireError(f"no common version: the client supports {low} to {high}", fatal=True)
    return version


def parse(fields: list[str]) -> Request:
    """The request in a message; kind `unknown` when its id is not supported here.

    WireError: fields are missing, or are not numbers where numbers belong.
    """
    try:
        message_id = int(fields[0])
        reader = _READERS.get(message_id)
        return reader(fields[1:]) if reader else Request("unknown", message_id)
    except (ValueError, IndexError) as error:
        raise WireError(f"cannot read {fields[:24]!r}: {error}", fatal=False) from error


def encode(*fields: object) -> bytes:
    """A message of these fields: True is 1, None is empty, a float its shortest exact text."""
    # Text in another encoding has lone surrogates here.
    body = "".join(f"{_text(field)}\0" for field in fields).encode(errors="surrogateescape")
    return struct.pack(">I", len(body)) + body


def encode_texts(texts: Iterable[str]) -> bytes:
    """A message of fields that are already texts."""
    body = ("\0".join(texts) + "\0").encode()
    return struct.pack(">I", len(body)) + body


def _text(field: object) -> str:
    if field is None:
        return ""
    if isinstance(field, bool):
        return str(int(field))
    return repr(field) if isinstance(field, float) else str(field).replace("\0", " ")


def _int(text: str) -> int:
    """A 32-bit number of the protocol; empty means none, so 0."""
    if not re.fullmatch(r"-?\d{0,10}", text, re.ASCII) or text == "-":
        raise ValueError(f"{text[:20]!r} is not a whole number")
    number = int(text or 0)
    if abs(number) > _MAX_INT:
        raise ValueError(f"{number} is out of range")
    return number


def _query(fields: list[str]) -> Query:
    """The twelve fields of a contract, followed by the flag for expired ones."""
    return Query(
        con_id=_int(fields[0]),
        symbol=fields[1],
        sec_type=fields[2],
        expiry=fields[3].split(" ")[0],
        multiplier=fields[6],
        exchange=fields[7],
        primary_exchange=fields[8],
        currency=fields[9],
        local_symbol=fields[10],
        trading_class=fields[11],
        include_expired=fields[12] == "1",
    )


def _history(f: list[str]) -> Request:
    return Request(
        "schedule" if f[18] == "SCHEDULE" else "historical_data",
        _int(f[0]),
        _query(f[1:14]),
        end=f[14],
        bar_size=f[15],
        duration=f[16],
        use_rth=f[17] != "0",
        what_to_show=f[18],
        format_date=_int(f[19]),
        keep_up_to_date=f[20:][-2:-1] == ["1"],  # the legs of a combination come before it
    )


def _details(f: list[str]) -> Request:
    return Request("contract_details", _int(f[1]), _query(f[2:15]))


def _head(f: list[str]) -> Request:
    return Request(
        "head_timestamp",
        _int(f[0]),
        _query(f[1:14]),
        use_rth=f[14] != "0",
        what_to_show=f[15],
        format_date=_int(f[16]),
    )


def _plain(kind: str) -> Callable[[list[str]], Request]:
    """A parser of messages whose fields are not used."""
    return lambda _: Request(kind)


def _numbered(kind: str, place: int = 1) -> Callable[[list[str]], Request]:
    """A parser of messages of which only the request id is used, `place` fields after their id."""
    return lambda f: Request(kind, _int(f[place]))


_READERS: dict[int, Callable[[list[str]], Request]] = {
    3: _numbered("place_order", 0),
    4: _numbered("cancel_order"),
    5: _plain("open_orders"),
    6: lambda f: Request("account_updates", subscribe=f[1] == "1", account=f[2]),
    7: _numbered("executions"),
    8: _plain("ids"),
    9: _details,
    15: _plain("auto_open_orders"),
    16: _plain("open_orders"),
    17: _plain("managed_accounts"),
    20: _history,
    25: _numbered("cancel_historical_data"),
    49: _plain("current_time"),
    61: _plain("positions"),
    64: _plain("cancel_positions"),
    71: lambda f: Request("start_api", client_id=_int(f[1])),
    76: lambda f: Request("account_updates_multi", _int(f[1]), account=f[2]),
    77: _numbered("cancel_account_updates_multi"),
    87: _head,
    90: _numbered("cancel_head_timestamp", 0),
    99: _plain("completed_orders"),
}
