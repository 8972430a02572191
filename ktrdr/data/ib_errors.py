"""IB's error codes and texts as our outcomes, each with what a person can do. Asks nobody."""

from __future__ import annotations

from ktrdr.errors import (
    CompetingSession,
    InvalidRequest,
    KtrdrError,
    NotConnected,
    NotEntitled,
    Paced,
    RequestFailed,
    UnknownContract,
)


class NoDataError(KtrdrError):
    """IB's 162 that is an answer: it has no bars there."""


def translate(code: int, text: str, what: str) -> KtrdrError:
    """Our error for IB's code and text, with what a person can do about it.

    162 stands for many things and its text decides; a text that nobody here knows is a
    failure, never "no data". Codes: TWS API, "Message Codes".
    """
    message = f"{text} ({what})"
    if code in (162, 165, 366):
        return _translate_162(code, text, message)
    kind, hint = _BY_CODE.get(code, (RequestFailed, ""))
    return kind(message, code=code, hint=hint)


def _translate_162(code: int, text: str, message: str) -> KtrdrError:
    said = text.lower()
    for words, kind, hint in _BY_TEXT:
        if words in said:
            return kind(message, code=code, hint=hint)
    return RequestFailed(message, code=code)


_SUBSCRIBE = (
    "subscribe to this market's Level 1 data in IB's Client Portal, then restart the gateway"
)
_OTHER_SESSION = "log out where the same user is logged in, or use a second user for this gateway"

_BY_TEXT: tuple[tuple[str, type[KtrdrError], str], ...] = (
    ("no data", NoDataError, ""),
    ("no head time stamp", NoDataError, ""),
    ("pacing violation", Paced, "another program may be asking IB for history too"),
    ("no market data permissions", NotEntitled, _SUBSCRIBE),
    ("different ip address", CompetingSession, _OTHER_SESSION),
)

_BY_CODE: dict[int, tuple[type[KtrdrError], str]] = {
    100: (Paced, "too many messages a second"),
    200: (UnknownContract, "check the symbol; say in instruments.toml what it is"),
    321: (InvalidRequest, ""),
    322: (Paced, ""),
    354: (NotEntitled, _SUBSCRIBE),
    502: (NotConnected, ""),
    504: (NotConnected, ""),
    10089: (NotEntitled, _SUBSCRIBE),
    10090: (NotEntitled, _SUBSCRIBE),
    10186: (NotEntitled, _SUBSCRIBE),
    10197: (CompetingSession, _OTHER_SESSION),
    10299: (InvalidRequest, "set what_to_show in instruments.toml"),
    10314: (InvalidRequest, ""),
    10339: (InvalidRequest, ""),
}
