"""Which series the bars of a file are: by a person, its name, its folder or its symbols. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ktrdr.errors import MalformedFile
from ktrdr.market.file_names import COINS, kind_of, proper_name, proper_symbol, symbol_of_folder
from ktrdr.market.instruments import Series, parse_series
from ktrdr.market.timeframes import Timeframe

_HISTDATA = re.compile(r"DAT_(?:ASCII|MT|NT|XLSX)_([A-Z]{6})_M1(?:_\d{4,6})?", re.IGNORECASE)
_METATRADER = re.compile(r"(.+_(?:[MH]\d{1,2}|Daily|D1))_\d{8,12}(?:_\d{8,12})?")
"""Behind the timeframe are the first and the last time."""
_ENDINGS = re.compile(r"(?:\.(?:csv|txt|tsv|tab|gz|zip))+$", re.IGNORECASE)


_PERIOD = (
    r"(?:19|20)\d\d(?:[-_.]?(?:0[1-9]|1[0-2])(?:[-_.]?(?:0[1-9]|[12]\d|3[01]))?|[-_.]?Q[1-4])?"
)
_WITH_PERIOD = re.compile(rf"(?:(.+?)[\s_.-]+)?({_PERIOD})", re.IGNORECASE)
_AFTER_PERIOD = re.compile(rf"({_PERIOD})[\s_.-]+(.+)", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])?|2100")
"""A year, or a month of one: in the folder of a symbol it is none itself."""


_COIN = "|".join(sorted(COINS))
_OTHER_MONEY = re.compile(
    rf"(?<![A-Za-z0-9])(?:([A-Z0-9]{{2,10}}?)[-_/ ]?(USDT|USDC|FDUSD)"
    rf"|({_COIN})[-_/ ]?(BUSD|TUSD|EUR|GBP|JPY|TRY|BNB|{_COIN}))(?![A-Za-z0-9])",
    re.IGNORECASE,
)
"""A coin and what its price is in, such as `BTCUSDT`, `BTC-EUR` and `ETHBTC`."""


class Named(NamedTuple):
    """What is known of a series without its rows."""

    symbol: str
    timeframe: Timeframe | None
    """None: it is measured."""
    is_coin: bool = False
    """Its symbol is that of a coin if the store says so, and else of a stock."""
    period: tuple[int, int] | None = None
    """The dates `[first, end)` in its name, in UTC seconds, in which all of its rows lie."""


class OtherMoney(NamedTuple):
    """A coin with its price in something else than dollars, as IB has none."""

    coin: str
    money: str


def other_money(path: str) -> OtherMoney | None:
    """The pair in a file's name, such as `BTCUSDT-1m-2024-01.csv`, or that is its folder's name."""
    *folders, name = path.split("/")
    found = _OTHER_MONEY.search(name)
    found = found or next(filter(None, map(_OTHER_MONEY.fullmatch, folders)), None)
    if found is None:
        return None
    coin, money = filter(None, found.groups())
    return OtherMoney(coin.upper(), money.upper())


def money_of(texts: Iterable[str]) -> OtherMoney | None:
    """The first pair in these texts: a file's path, and the symbols in it."""
    return next(filter(None, map(other_money, texts)), None)


def refuse_other_money(name: str, texts: Iterable[str], length: Timeframe) -> None:
    """MalformedFile: the file `name` has prices in a stablecoin, a coin or euros, by these texts.

    `length`: of its bars, for the hint.
    """
    pair = money_of(texts)
    if pair is not None:
        what = f"{name}: its prices are of {pair.coin} in {pair.money}, and IB has coins in USD"
        hint = "leave it out; or if they may stand for prices in USD, write them under"
        hint = f"{hint} {pair.coin}: --to {pair.coin}_{length.value}"
        raise MalformedFile(what, hint=hint)


def one_of_each(symbols: Iterable[str]) -> set[str]:
    """The symbols without spaces around them, in one spelling of capitals; empty ones are none."""
    stripped = sorted({text.strip() for text in symbols} - {""}, reverse=True)
    return set({text.casefold(): text for text in stripped}.values())


def refuse_several(name: str, symbols: Collection[str]) -> None:
    """MalformedFile: the file `name` has bars of several symbols."""
    if len(symbols) > 1:
        few = ", ".join(sorted(symbols)[:5])
        hint = (
            "write the rows of each symbol into a file of its own, and import these; if these are "
            "no symbols: --columns symbol=none"
        )
        raise MalformedFile(f"{name}: it has bars of several symbols: {few}", hint=hint)


def name_of(path: str, symbols: Collection[str]) -> Named | None:
    """The series that a file has by its path, or else by the symbols in it; None: unknown.

    `symbols`: one at most. MalformedFile: it is another one than that of its name.
    """
    name = path.rpartition("/")[2]
    named = _without_years(path, _by_path(path))
    inside = next((_by_symbol(symbol) for symbol in symbols), None)
    if named is None or inside is None:
        if named is not None and (other := next(filter(_is_other(named), symbols), None)):
            what = f"{name}: its name is that of {named.symbol}, and its rows are of {other}"
            hint = "give it the name of its symbol, or say which series it is: --to"
            raise MalformedFile(what, hint=f"{hint} {named.symbol}_{_shown(named)}")
        return named or inside
    if named.symbol != inside.symbol:
        what = f"{name}: its name is that of {named.symbol}, and its rows are of {inside.symbol}"
        hint = f"say which series it is: --to {inside.symbol}_{_shown(named)}"
        raise MalformedFile(what, hint=hint)
    return named


def _is_other(named: Named) -> Callable[[str], bool]:
    """Whether a symbol in capitals, such as `MSFT.O`, has the words of another series."""
    wanted = re.sub(r"[^A-Z0-9]", "", named.symbol)

    def is_other(text: str) -> bool:
        words = re.findall(r"[A-Z0-9]+", text)
        places = range(len(words) + 1)
        parts = {"".join(words[begin:end]) for end in places for begin in range(end)}
        return text.isupper() and wanted not in parts

    return is_other


def _without_years(path: str, named: Named | None) -> Named | None:
    """`AMZN/2026_1d.csv` is of AMZN, that in `amzn` or `US` of nothing certain; else as named."""
    folder = path.rpartition("/")[0].rpartition("/")[2]
    if named is None or not _YEAR.fullmatch(named.symbol):
        return named
    found = symbol_of_folder(folder)
    if found is None or _YEAR.fullmatch(found.symbol):
        return None
    return Named(found.symbol, named.timeframe, found.is_coin)


def _shown(named: Named) -> str:
    return named.timeframe.value if named.timeframe else Timeframe.M1.value


def _by_path(path: str) -> Named | None:
    name = path.rpartition("/")[2]
    try:
        series = parse_series(name)
    except ValueError:
        pass
    else:
        found = proper_symbol(series.symbol)
        if found is None:
            dated = _of_period("", series.symbol)
            named = dated if dated is not None and dated.timeframe is None else Named("", None)
            return named._replace(symbol=named.symbol or series.symbol, timeframe=series.timeframe)
        return Named(found.symbol, series.timeframe, found.is_coin)
    stem = _ENDINGS.sub("", name)
    if histdata := _HISTDATA.fullmatch(stem):
        return Named(histdata[1].upper(), Timeframe.M1)
    if metatrader := _METATRADER.fullmatch(stem):
        path = f"{metatrader[1]}.csv"
    if (proper := proper_name(path)) is not None:
        return Named(proper.series.symbol, proper.series.timeframe, proper.is_coin)
    if (part := _of_period(path, stem)) is not None:
        return part
    is_marked = stem.isupper() or stem.lower().endswith(".us")
    return _by_symbol(stem) if is_marked and kind_of(name) is not None else None


def _of_period(path: str, stem: str) -> Named | None:
    """`AAPL_1m_2024-01.csv` and `AAPL/2024.csv`: those of AAPL for a month, a year or a day."""
    if match := _WITH_PERIOD.fullmatch(stem):
        rest, period = match[1], match[2]
    elif match := _AFTER_PERIOD.fullmatch(stem):
        rest, period = match[2], match[1]
    else:
        return None
    folders = path.rpartition("/")[0]
    if not rest and not folders.rpartition("/")[2]:
        return None
    named = _by_path(f"{folders}/{rest}.csv" if rest else f"{folders}.csv")
    if named is None or (rest and named.period is not None) or _YEAR.fullmatch(named.symbol):
        return None
    folder = folders.rpartition("/")[2]
    is_certain = rest or named.timeframe or _WITH_PERIOD.fullmatch(folder)
    if not is_certain and symbol_of_folder(folder) is None:
        return None
    return named._replace(period=_dates_of(period))


def _dates_of(period: str) -> tuple[int, int]:
    """The first second of a year, quarter, month or day, and the one behind its last."""
    year, rest = int(period[:4]), period[4:].lstrip("-_.").upper()
    first, count = 1, 12
    if rest.startswith("Q"):
        first, count = 3 * int(rest[1]) - 2, 3
    elif rest:
        first, count = int(rest[:2]), 1
    begin = datetime(year, first, 1, tzinfo=UTC)
    end = datetime(year + (first + count > 12), (first + count - 1) % 12 + 1, 1, tzinfo=UTC)
    if day := rest[2:].lstrip("-_.") if count == 1 else "":
        begin += timedelta(days=int(day) - 1)
        end = begin + timedelta(days=1)
    return int(begin.timestamp()), int(end.timestamp())


def _by_symbol(text: str) -> Named | None:
    found = proper_symbol(text.strip())
    return Named(found.symbol, None, found.is_coin) if found else None


def series_to(text: str) -> Series:
    """The series that a person names: `AAPL_1m`. ValueError says what was expected."""
    return parse_series(text if text.endswith(".csv") else f"{text}.csv")
