"""IB's error codes and texts as our outcomes, each with a hint for a person. Pure."""

from __future__ import annotations

from enum import Enum, auto

from ktrdr.errors import (
    CompetingSession,
    InvalidRequest,
    KtrdrError,
    NotConnected,
    NotEntitled,
    PacingViolation,
    RequestFailed,
    UnknownContract,
)
from ktrdr.ib.candidates import CHECK_THE_SYMBOL


class NoDataError(KtrdrError):
    """IB's 162 where it is an answer: there are no bars."""


class Weight(Enum):
    """The effect of an error on the request that it names."""

    ENDS = auto()
    """There will be no answer."""
    MAY_END = auto()
    """Unknown: an answer may follow."""
    ADVISES = auto()
    """The answer follows."""


_ADVICE = frozenset({*range(2100, 2200), 492, 10167, 10285})
"""Codes of warnings before an answer (TWS API, "Message Codes"; 10285 was observed)."""
_DOUBTFUL = 165
"""The query service's own messages: refusals as with 162, or mere information."""
_QUERY = (162, _DOUBTFUL, 366)
"""Codes whose meaning depends on the text."""


def weight(code: int, text: str) -> Weight:
    """Whether a request is over after this error; an unknown error may end it.

    Codes: TWS API, "Message Codes".
    """
    if code in _ADVICE or text.lstrip().casefold().startswith("warning"):
        return Weight.ADVISES
    if code == _DOUBTFUL:
        return Weight.MAY_END if _meaning(text) else Weight.ADVISES
    return Weight.ENDS if code in _BY_CODE or code in _QUERY else Weight.MAY_END


def translate(code: int, text: str, what: str) -> KtrdrError:
    """Our error for IB's code and text, with a hint for a person.

    162 has many meanings and its text decides; an unknown text is a failure, never "no data".
    Codes: TWS API, "Message Codes".
    """
    message = f"{text} ({what})"
    if code in _QUERY:
        return _translate_162(code, text, message)
    kind, hint = _BY_CODE.get(code, (RequestFailed, ""))
    return kind(message, code=code, hint=hint)


def says_several(error: KtrdrError) -> bool:
    """Whether IB's 200 means that it knows several such contracts, and not none."""
    return error.code == 200 and "is ambiguous" in error.message


def says_no_farm(error: KtrdrError) -> bool:
    """Whether IB refuses history because the farm that serves it is broken."""
    text = error.message.lower()
    return error.code in _QUERY and any(words in text for words in _NO_FARM)


def _translate_162(code: int, text: str, message: str) -> KtrdrError:
    kind, hint = _meaning(text) or (RequestFailed, "" if is_english(text) else NOT_ENGLISH)
    return kind(message, code=code, hint=hint)


def _meaning(text: str) -> tuple[type[KtrdrError], str] | None:
    text = text.lower()
    return next(((kind, hint) for words, kind, hint in _BY_TEXT if words in text), None)


NOT_ENGLISH = (
    'switch on "Show API error messages in English" in the gateway (Configure, Settings, API, '
    "Settings): its texts decide what an error means"
)


def is_english(text: str) -> bool:
    """Whether all letters of the gateway's text are English."""
    return not any(letter.isalpha() and not letter.isascii() for letter in text)


_SUBSCRIBE = (
    "subscribe to this market's Level 1 data in IB's Client Portal, then restart the gateway"
)
_OTHER_SESSION = "log out where the same user is logged in, or use a second user for this gateway"

_NO_FARM = ("hmds server disconnect", "hmds connection attempt failed")
"""The query service's text while the history farm is broken."""

_BY_TEXT: tuple[tuple[str, type[KtrdrError], str], ...] = (
    ("no data", NoDataError, ""),
    ("no head time stamp", NoDataError, ""),
    *((words, RequestFailed, "wait: IB brings its farms back by itself") for words in _NO_FARM),
    ("pacing violation", PacingViolation, "another program may be requesting history from IB too"),
    ("no market data permissions", NotEntitled, _SUBSCRIBE),
    ("different ip address", CompetingSession, _OTHER_SESSION),
)

_BY_CODE: dict[int, tuple[type[KtrdrError], str]] = {
    100: (PacingViolation, "too many messages a second"),
    200: (UnknownContract, CHECK_THE_SYMBOL),
    321: (InvalidRequest, ""),
    322: (PacingViolation, ""),
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
