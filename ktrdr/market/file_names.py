"""Names of files with bars that are not read: their kinds, and the names that they should have.

A name is proposed only where it is certain which series is meant. Looks nothing up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from ktrdr.market.instruments import CURRENCIES, Series, parse_series
from ktrdr.market.series_words import CLASS_SHARES, length_of_words
from ktrdr.market.timeframes import Timeframe

COINS = frozenset("BCH BTC ETH LTC".split())
"""Coins that IB trades against the dollar (Paxos), and names without it: `BTC`, not `BTC-USD`."""

_COMPRESSED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z")
_TEXTS = (".txt", ".tab", ".tsv")
_TABLES = (".parquet", ".feather", ".arrow")
"""Formats that are used for tables only; the others are only counted under a name of bars."""
_FORMATS = (
    *_TABLES, ".h5", ".hdf5", ".hst", ".json", ".ods", ".pickle", ".pkl", ".xls", ".xlsx",
)  # fmt: skip
_NO_SYMBOLS = frozenset(
    "bar bars data day days fx hist index info list log logs main new notes old out price prices "
    "quote quotes readme src stock stocks temp test tests tick ticks tmp todo".split()
)
"""Words that are more likely no symbols."""

_NO_FOLDERS = frozenset(
    "adjusted all alpaca amex arca archive asia ask backup bats bid binance bonds bybit cboe "
    "cbot ccxt chicago clean cme coinbase comex commodities crypto csv csvs daily dax download "
    "downloads dump eod equities equity etf etfs eu eur eurex europe export exports files "
    "firstrate forex frankfurt futures fx gateway historical history hour hourly hours ib ibkr "
    "import imports indices input intraday kaggle kibot klines kraken lean lse market mexc mid "
    "midpoint min mins minute minutely minutes month monthly months my nasdaq nse nymex nyse "
    "ohlc ohlcv okx option options original output polygon raw real rth sample samples series "
    "share shares spot stooq sp500 test ticker tickers tiingo tokyo trade trades tsx uk "
    "unadjusted us usa usd user users week weekly weeks world xetra yahoo yfinance year yearly "
    "years".split()
)
"""Names of folders that are rather markets, sources or lengths, though some are symbols too."""

_COPY = re.compile(r"(?: ?\(\d{1,3}\)| - copy| copy(?: \d{1,3})?)+$", re.IGNORECASE)
"""What file managers add to the name of a second copy."""
_PARTS = re.compile(r"(.+?)[\s_.,-]+(\d{1,4} ?[A-Za-z]+|[MHDmhd]\d{1,4}|[A-Za-z]{3,})")
"""A symbol and a timeframe, however they are separated."""
_SEPARATORS = re.compile(r"[\s_.,()-]+")
_LETTER_FIRST = re.compile(r"([MHDmhd])(\d{1,4})")
"""Timeframes of MetaTrader: `M5`, `H4`, `D1`."""
_METATRADER = re.compile(r"([A-Za-z]{6})([MHD]\d{1,4}|\d{1,4})")
"""A pair and a timeframe or minutes without a separator: `EURUSDM5`, `EURUSD60`."""
_PAIR = re.compile(r"([A-Z]{3})[ ._-]?([A-Z]{3})(?:=X)?")
_COIN = re.compile(r"([A-Z]{3})[ ._-]?USD")
_SHARE_CLASS = re.compile(r"([A-Z]{1,5})[ ._-]([ABC])")
_PLAIN = re.compile(r"[A-Z0-9]{1,6}|[A-Z]{1,5} [A-Z]{1,2}")
_LONGEST = 5
"""Of a stock's symbol in small letters: longer ones are rather words."""
_OF_THE_US = ".us"
"""What stooq.com and others add to the symbols of American stocks."""


class Kind(Enum):
    """Why a file that may have bars is not read."""

    NAME = "name"
    """It is not named like a series."""
    CAPITALS = "capitals"
    """`.CSV` instead of `.csv`."""
    COMPRESSED = "compressed"
    TEXT = "text"
    """Its name ends like that of a text, such as `.txt`."""
    FORMAT = "format"
    """Another format, such as `.parquet`."""
    SUBFOLDER = "subfolder"


class ProperName(NamedTuple):
    """The series that a file certainly has."""

    series: Series
    is_coin: bool = False
    """Its symbol needs an entry in `instruments.toml`, else it is a stock."""

    @property
    def file_name(self) -> str:
        """The name that the file should have."""
        return self.series.file_name


class ProperSymbol(NamedTuple):
    """A symbol as IB and ktrdr spell it."""

    symbol: str
    is_coin: bool = False


def kind_of(name: str) -> Kind | None:
    """The kind of a file that is no series; None: nothing indicates that it has bars."""
    lower = name.lower()
    if lower.endswith(".csv"):
        return Kind.NAME if name.endswith(".csv") else Kind.CAPITALS
    if lower.endswith(_COMPRESSED):
        inner = lower.rpartition(".")[0]
        is_bars = inner.endswith((".csv", ".tsv")) or _is_like_bars(name)
        return Kind.COMPRESSED if is_bars else None
    if lower.endswith(_TEXTS):
        return Kind.TEXT if lower.endswith(".tsv") or _is_like_bars(name) else None
    if lower.endswith(_FORMATS):
        return Kind.FORMAT if lower.endswith(_TABLES) or _is_like_bars(name) else None
    return None


@lru_cache(maxsize=1000)
def proper_name(path: str) -> ProperName | None:
    """The series of a file by its name, or by that of its folder too; None: it is not certain.

    `AAPL-1day.csv` and `stocks/aapl 1d.csv.gz` are `AAPL_1d.csv`, and `NFLX/1d.csv` is
    `NFLX_1d.csv`.
    """
    folders, _, name = path.rpartition("/")
    stem = _stem(name)
    parts = _parts(stem)
    if parts is None and folders:
        parts = _parts_with_folder(folders.rpartition("/")[2], stem)
    if parts is None:
        return None
    symbol, timeframe = parts
    series = Series(symbol.symbol, timeframe)
    try:
        parse_series(series.file_name)
    except ValueError:
        return None
    return ProperName(series, symbol.is_coin)


def file_meant(series: Series, names: Iterable[str]) -> str:
    """The first file that certainly has this series, and only needs another name; empty: none."""
    renamed = (Kind.NAME, Kind.CAPITALS)
    for name in sorted(names):
        proper = proper_name(name) if kind_of(name) in renamed else None
        if proper is not None and proper.series == series:
            return name
    return ""


def proper_symbol(text: str) -> ProperSymbol | None:
    """The symbol that is certainly meant, in its spelling; None: it is not certain.

    `BRK.B` is `BRK B`, `EUR.USD` is `EURUSD`, `BTC-USD` is `BTC`, and `aapl` is `AAPL`.
    """
    if text.lower().endswith(_OF_THE_US):
        text = text[: -len(_OF_THE_US)].upper()
    is_of_one_case = text.isupper() or text.islower() or text.isdigit()
    if not is_of_one_case or text.lower() in _NO_SYMBOLS:
        return None
    is_word = text.islower() and text.isalpha() and len(text) > _LONGEST
    text = text.upper()
    if pair := _pair(text):
        return ProperSymbol(pair)
    if is_word:
        return None
    if (coin := _COIN.fullmatch(text)) and coin[1] in COINS:
        return ProperSymbol(coin[1], is_coin=True)
    if (share := _SHARE_CLASS.fullmatch(text)) and share[1] in CLASS_SHARES:
        return ProperSymbol(f"{share[1]} {share[2]}")
    return ProperSymbol(text) if _PLAIN.fullmatch(text) else None


def symbol_of_folder(name: str) -> ProperSymbol | None:
    """The symbol in capitals that a folder certainly has; None: not `US`, `NYSE` or `1d`."""
    is_other = not name.isupper() or name.lower() in _NO_FOLDERS or _timeframe(name) is not None
    return None if is_other else proper_symbol(name)


def _pair(text: str) -> str:
    """The pair of currencies, such as `EURUSD`; empty: it is none."""
    match = _PAIR.fullmatch(text)
    is_pair = match and {match[1], match[2]} <= CURRENCIES and match[1] != match[2]
    return match[1] + match[2] if match and is_pair else ""


def _stem(name: str) -> str:
    """The name without its endings, and without the mark of a copy."""
    for endings in (_COMPRESSED, (".csv", *_TEXTS, *_FORMATS)):
        ending = next((one for one in endings if name.lower().endswith(one)), "")
        name = _COPY.sub("", name.removesuffix(name[len(name) - len(ending) :]))
    return name


def _parts(stem: str) -> tuple[ProperSymbol, Timeframe] | None:
    if match := _METATRADER.fullmatch(stem):
        pair = _pair(match[1].upper())
        timeframe = _timeframe(f"{match[2]}m" if match[2].isdigit() else match[2])
        if pair and timeframe:
            return ProperSymbol(pair), timeframe
    if not (match := _PARTS.fullmatch(stem)):
        return None
    symbol, timeframe = proper_symbol(match[1].strip()), _timeframe(match[2])
    return (symbol, timeframe) if symbol and timeframe else None


def _parts_with_folder(folder: str, stem: str) -> tuple[ProperSymbol, Timeframe] | None:
    """`NFLX/1d` and `1d/NFLX`: a symbol in capitals and a timeframe."""
    for symbol, word in ((folder, stem), (stem, folder)):
        timeframe = _timeframe(word)
        is_certain = _is_symbol_alone(symbol) and (symbol == stem or symbol_of_folder(symbol))
        found = proper_symbol(symbol) if timeframe and is_certain else None
        if found and timeframe:
            return found, timeframe
    return None


def _timeframe(word: str) -> Timeframe | None:
    """The timeframe of exactly the length that a word gives."""
    if word.replace(" ", "") == "1M":  # a month
        return None
    if match := _LETTER_FIRST.fullmatch(word):
        word = match[2] + match[1]
    length_s = length_of_words(f"1{word}" if word.isalpha() and len(word) > 1 else word)
    length_s = length_s or length_of_words(word)
    return next((one for one in Timeframe if one.length_s == length_s), None)


def _is_like_bars(name: str) -> bool:
    """The name has a timeframe in digits, or is a symbol."""
    stem = _stem(name)
    words = [word for word in _SEPARATORS.split(stem) if not word.isalpha()]
    return any(map(_timeframe, words)) or _is_symbol_alone(stem)


def _is_symbol_alone(text: str) -> bool:
    """A symbol that is no word: in capitals, or marked as one."""
    is_marked = text.lower().endswith(_OF_THE_US)
    return (is_marked or text.isupper()) and proper_symbol(text) is not None
