"""Series as a person writes them: `AAPL MSFT BRK B 1m 1h since 2020`. Looks nothing up.

Words are separated by spaces or commas, in any order: every symbol is wanted in every timeframe.

- A timeframe is one of `1m 5m 15m 30m 1h 4h 1d`.
- `since` is followed by a day, a month or a year.
- Everything else is a symbol, in capitals; text in quotes is a symbol as it stands.
- `A`, `B` or `C` after a symbol that is known to have classes of shares belongs to it, as IB spells
  them (`BRK B`); after any other it is a symbol of its own (`AAPL A`: Apple and Agilent). In a list
  with commas a single letter belongs to the symbol before it (`XYZ B, MSFT`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from ktrdr.errors import InvalidRequest
from ktrdr.market.instruments import Series, check_symbol
from ktrdr.market.timeframes import DAY_S, HOUR_S, MINUTE_S, Timeframe

EXAMPLE = "AAPL MSFT BRK B 1m 1h since 2020"
_HINT = f"write them like: {EXAMPLE}"
MOST = 2000
"""How many series may be named at once."""

CLASS_SHARES = frozenset(
    "AGM AKO BF BH BIO BRK CRD CWEN EBR FWON GEF GTN HEI HUB HVT JW LEN LGF LLYV MKC MOG PBR RUSH "
    "SPLP STZ TAP UHAL WSO".split()
)
"""Symbols with classes of shares, which IB writes with a space."""

_WORD = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|(,)|([^\s,"']+))""")
_TIMEFRAME_LIKE = re.compile(r"(\d{1,4})\s*([A-Za-z]+)")
_UNITS = {"m": MINUTE_S, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}
_UNIT_OF = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "wk", "week", "weeks"), "w"),
}
_NAMED = {"hourly": Timeframe.H1, "daily": Timeframe.D1}


@dataclass(frozen=True)
class SeriesWanted:
    """What a person wants kept: every symbol in every timeframe."""

    symbols: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    since: date | None = None
    """The day from which history is wanted; None: only the last days."""

    @property
    def series(self) -> list[Series]:
        """Each of them, in the order of the words."""
        return [Series(symbol, t) for symbol in self.symbols for t in self.timeframes]


@dataclass(frozen=True)
class _Word:
    text: str
    is_quoted: bool
    follows_comma: bool


def series_of_words(text: str, today: date) -> SeriesWanted:
    """The series that a text names. InvalidRequest names the part that is wrong."""
    words = list(_words(text))
    has_commas = "," in text
    symbols: dict[str, None] = {}
    timeframes: dict[Timeframe, None] = {}
    since: date | None = None
    last: str | None = None
    """The symbol to which a single letter may belong."""
    while words:
        word = words.pop(0)
        timeframe = None if word.is_quoted else _timeframe(word.text)
        if not word.is_quoted and word.text.lower() == "since":
            since, last = _since(words, since, today), None
        elif timeframe is not None:
            timeframes[timeframe], last = None, None
        elif last is not None and _is_class_of(last, word, has_commas=has_commas):
            del symbols[last]
            symbols[f"{last} {word.text.upper()}"], last = None, None
        else:
            symbol = _symbol(word)
            is_new = symbol not in symbols
            symbols[symbol] = None
            last = symbol if is_new and not word.is_quoted else None
    return _checked(SeriesWanted(tuple(symbols), tuple(timeframes), since))


def timeframe_of_word(text: str) -> Timeframe:
    """The timeframe of this name. InvalidRequest: none; it names the nearest right one."""
    try:
        return Timeframe.parse(text)
    except ValueError as error:
        near = nearest_timeframe(text)
        hint = f"did you mean {near.value}?" if near else ""
        raise InvalidRequest(str(error), hint=hint) from None


def nearest_timeframe(text: str) -> Timeframe | None:
    """The timeframe that is meant or comes nearest; None: the text is no length of time."""
    length_s = length_of_words(text)
    if length_s is None:
        return None
    return min(Timeframe, key=lambda one: abs(math.log(one.length_s / length_s)))


def length_of_words(text: str) -> int | None:
    """The length in seconds of `60m`, `1 day` or `hourly`; None: the text is no length of time."""
    word = text.strip().lower()
    if word in _NAMED:
        return _NAMED[word].length_s
    match = _TIMEFRAME_LIKE.fullmatch(word)
    unit = _UNIT_OF.get(match[2]) if match else None
    if match is None or unit is None or not int(match[1]):
        return None
    return int(match[1]) * _UNITS[unit]


def _words(text: str) -> Iterator[_Word]:
    place, follows_comma = 0, False
    text = text.strip()
    while place < len(text):
        match = _WORD.match(text, place)
        if match is None:
            raise InvalidRequest(f"{text[place:].strip()}: a quote is not closed", hint=_HINT)
        place = match.end()
        quoted = match[1] if match[1] is not None else match[2]
        if match[3]:
            follows_comma = True
            continue
        yield _Word(quoted if quoted is not None else match[4], quoted is not None, follows_comma)
        follows_comma = False


def _timeframe(word: str) -> Timeframe | None:
    """The timeframe that a word is; None: it is none. InvalidRequest: it is nearly one."""
    if word in {one.value for one in Timeframe}:
        return Timeframe(word)
    near = nearest_timeframe(word)
    if near is None:
        return None
    if near.value == word.lower() and not word.endswith("M"):  # IB's `1 M` is a month
        return near
    accepted = " ".join(one.value for one in Timeframe)
    raise InvalidRequest(f"{word}: expected one of {accepted}", hint=f"did you mean {near.value}?")


def _is_class_of(last: str, word: _Word, *, has_commas: bool) -> bool:
    if word.is_quoted or word.follows_comma or not re.fullmatch(r"[A-Za-z]", word.text):
        return False
    return has_commas or (last in CLASS_SHARES and word.text.upper() in "ABC")


def _symbol(word: _Word) -> str:
    symbol = word.text if word.is_quoted else word.text.upper()
    try:
        return check_symbol(symbol)
    except ValueError as error:
        raise InvalidRequest(str(error), hint=_HINT) from None


def _since(words: list[_Word], before: date | None, today: date) -> date:
    """The day behind `since`, which is taken from the words."""
    if before is not None:
        raise InvalidRequest("since: expected once", hint=_HINT)
    text = words.pop(0).text if words else ""
    return day_of_words(text, today, name="since ")


def day_of_words(text: str, today: date, name: str = "since=") -> date:
    """The first day of a year, a month or a day, such as `2020`, `2020-03`, `2020-03-01`.

    InvalidRequest: it is none, before 1970, or in the future.
    """
    match = re.fullmatch(r"([0-9]{4})(?:-([0-9]{1,2}))?(?:-([0-9]{1,2}))?", text)
    try:
        found = date(*(int(part or 1) for part in match.groups())) if match else None
    except ValueError:
        found = None
    if found is None or not date(1970, 1, 1) <= found <= today:
        raise InvalidRequest(
            f"{name}{text}: expected a year, a month or a day from 1970 to today, such as "
            "2020 or 2020-03-01",
            hint=_HINT,
        )
    return found


def _checked(wanted: SeriesWanted) -> SeriesWanted:
    if not wanted.symbols:
        raise InvalidRequest("no symbol is named", hint=_HINT)
    if not wanted.timeframes:
        accepted = " ".join(one.value for one in Timeframe)
        named = " ".join(wanted.symbols[:3])
        raise InvalidRequest(f"{named}: name a timeframe, one of {accepted}", hint=_HINT)
    if len(wanted.symbols) * len(wanted.timeframes) > MOST:
        raise InvalidRequest(f"expected {MOST} series at most", hint="add them in several parts")
    return wanted
