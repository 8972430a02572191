"""Which columns of a table are a bar's time, prices and volume. Opens no file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from ktrdr.errors import MalformedFile
from ktrdr.importing.dialect import is_number, is_row
from ktrdr.importing.time_cells import is_clock, is_time, needs_order
from ktrdr.store.columns import COLUMNS, OTHER_NAMES

ROLES = (*COLUMNS[1:], "time", "clock", "symbol")
NO_VOLUME = NO_SYMBOL = "none"
CHOICES = {
    "dates": ("day-first", "month-first"), "decimal": ("point", "comma"), "offsets": ("ignored",),
}  # fmt: skip
"""What else a person may say of the cells."""
_VALUES = COLUMNS[1:]
_TIME_PARTS = ("time", "clock")
_CLOCK_NAMES = ("time", "timestamp", "clock", "hour")
_SYMBOL_NAMES = (
    "symbol", "ticker", "code", "tic", "act_symbol", "ric", "sym", "name", "instrument", "asset",
    "pair", "stock", "security", "index",
)  # fmt: skip
_LABEL = re.compile(
    r".*(?:symbol|ticker|isin|cusip|figi|scrip|company|underlying|contract|ts_?code|secid).*"
    r"|(?:stock|security|instrument|asset|trading)[ _](?:name|code)",
    re.ASCII,
)
"""Names of columns that tell several contracts apart, but may not be spelled as symbols."""
_STARTS = ("open time", "open_time", "opentime", "ts_event", "window_start")
_ENDS = ("close time", "close_time", "closetime", "end time", "end_time")
_IN_UTC = re.compile(
    r"(?:(?P<before>.+?)[ _.-]*[ _.(\[-](?:utc|gmt|z)[)\]]?|(?:utc|gmt)(?:[ _.-]+(?P<behind>.+))?)",
    re.ASCII,
)
"""Names of columns that say their zone, such as `datetime_utc`, `Time (UTC)` and `Gmt time`."""
_INDEX_NAMES = ("date", "datetime", "timestamp", "time")
_KLINE_WIDTH, _KLINE_END = 12, 6
_NANO = 10**9
_TICKS = ("tickvol", "tick_volume", "tick volume")
_REAL = ("vol", "real_volume", "real volume")
_LAST_PRICE = ("price",)
"""The close, as of Investing.com, where no other column is."""
_IN_MONEY = re.compile(r"usd|eur|gbp|quote|notional|money|turnover|tick|ma$", re.ASCII)
_LEAST_KNOWN = 4
_LEAST_BARS = 3
_MIDNIGHT = re.compile(r"[^\d:+-]00:?00(?::?00)?(?:\.0+)?$", re.ASCII)
_LEAN_TIME = re.compile(r"\d{8} \d\d:\d\d", re.ASCII)
_LEAN_PRICE = re.compile(r"\d{4,}", re.ASCII)


class Stamp(Enum):
    """By which of its two times a bar is named."""

    START = "start"
    END = "end"


@dataclass(frozen=True)
class Columns:
    """The places of a bar's parts in the rows of a file."""

    names: tuple[str, ...]
    """All columns of the file; without a header their numbers, from 1."""
    times: tuple[int, ...]
    """One place, or those of date and clock."""
    numbers: tuple[int | None, ...]
    """Open, high, low, close and volume; None: there is no volume."""
    symbol: int | None = None
    has_symbols: bool = True
    """Those in its column are symbols; False: texts by which several contracts are told apart."""
    symbols: tuple[str, ...] = ()
    """Those that the header names."""
    stamp: Stamp | None = None
    """Known by the form; None: it is not."""
    zone: str = ""
    """`UTC`: the header says so."""
    divisor: int = 1
    """Of the prices."""

    @property
    def without_volume(self) -> Columns:
        """The same, with volumes that are not taken."""
        return replace(self, numbers=(*self.numbers[:4], None))

    @property
    def width(self) -> int:
        """How many cells a row has."""
        return len(self.names)

    @property
    def shown(self) -> str:
        """In words: `time=Date, open=Open, …`."""
        places = [("time", self.times[0])]
        places += [("clock", place) for place in self.times[1:]]
        places += [(n, p) for n, p in zip(_VALUES, self.numbers, strict=True) if p is not None]
        return ", ".join(f"{role}={self.names[place]}" for role, place in places)

    @property
    def likely_volume(self) -> str:
        """The column that may have the volumes, if none is taken; empty: there is none."""
        names = (one for one in self.unused if "vol" in one.lower())
        return next((one for one in names if not _IN_MONEY.search(one.lower())), "")

    @property
    def unused(self) -> tuple[str, ...]:
        """Columns that are not taken."""
        used = {*self.times, *self.numbers, self.symbol}
        return tuple(name for place, name in enumerate(self.names) if place not in used and name)


class Table(NamedTuple):
    """A file's columns, and where its rows begin."""

    columns: Columns
    first_row: int
    """The index of the first row among the lines that were looked at."""


def find_table(
    name: str, rows: Sequence[Sequence[str]], chosen: Mapping[str, str] | None = None
) -> Table:
    """The columns of the file `name`, from the cells of its first lines.

    `chosen`: role → the name of a column, or its number from 1, by a person. MalformedFile says
    what is missing or may mean several things.
    """
    first = next((place for place, cells in enumerate(rows) if is_row(cells)), None)
    if first is None:
        hint = "name them: --columns time=1,open=2,high=3,low=4,close=5,volume=6"
        raise MalformedFile(f"{name}: no line has a time and four prices", hint=hint)
    width = len(rows[first])
    begin = _first_row(rows, first)
    titles, symbols = _titles(rows[:begin], rows[first])
    if len(symbols) > 1:
        what = f"{name}: it has columns of several symbols: {', '.join(symbols[:5])}"
        hint = "write the columns of each symbol into a file of its own, and import these"
        raise MalformedFile(what, hint=hint)
    if titles is None:
        names = tuple(str(number) for number in range(1, width + 1))
        is_whole = chosen and {*_VALUES[:4], "time"} <= chosen.keys()
        found = None if is_whole else _without_header(name, names, rows[first:])
    else:
        names, found = titles, None
        if not chosen or not {*_VALUES[:4], "time"} <= chosen.keys():
            found = _by_header(name, names, rows[first:], chosen or {})
        else:
            found = Columns(names, (0,), (None,) * 5, _symbol_place(names, rows[first]))
    columns = _with_chosen(name, names, found, rows[first:], chosen or {})
    divisor = _NANO if titles and _is_nano(columns, rows[first]) else 1
    title = "" if columns.symbol is None else _plain(names[columns.symbol])
    has_symbols = title in _SYMBOL_NAMES or "symbol" in (chosen or {})
    columns = replace(columns, has_symbols=has_symbols, symbols=symbols, divisor=divisor)
    return Table(columns, begin)


def _first_row(rows: Sequence[Sequence[str]], first: int) -> int:
    """Where the rows begin, good or bad: behind the header, if there is one before the `first`.

    `first`: the first good row. A line that begins with a time, or has numbers, is no header.
    """
    wide = [place for place in range(first) if len(rows[place]) > 2]
    heads = [place for place in wide if not _is_like_row(rows[place])]
    known = [place for place in heads if is_header(rows[place])]
    if known and heads[-1] > known[-1]:
        cells = rows[heads[-1]]
        is_of_yfinance = bool(cells[0].strip()) and not any(map(str.strip, cells[1:]))
        is_of_yfinance |= bool(_repeated(cells))
        return heads[-1] + 1 if is_of_yfinance else known[-1] + 1
    if heads:
        return heads[-1] + 1
    return next((at for at in range(first) if rows[at] and _is_like_row(rows[at])), first)


def _is_like_row(cells: Sequence[str]) -> bool:
    return any(map(is_time, cells)) or sum(map(is_number, cells)) >= _LEAST_KNOWN


# With a header.


def _titles(
    before: Sequence[Sequence[str]], row: Sequence[str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The columns' names, from the lines before the first row, and the symbols named there."""
    lines = [[cell.strip() for cell in cells] for cells in before if any(map(str.strip, cells))]
    lines = [cells for cells in lines if len(cells) > 2]
    if not lines:
        return None, ()
    heads = [cells for cells in lines if is_header(cells)]
    symbols = sorted({cell for cells in lines for cell in _repeated(cells)})
    if not heads or not (symbols or (lines[-1][0] and not any(lines[-1][1:]))):
        return _as_wide(lines[-1], row), ()
    index = next((cells[0] for cells in lines if _plain(cells[0]) in _INDEX_NAMES), "Date")
    return _as_wide([index, *heads[-1][1:]], row), tuple(symbols)


def _repeated(cells: Sequence[str]) -> set[str]:
    """The symbols in a line of the header of yfinance: each stands over several columns."""
    named = [cell.strip() for cell in cells[1:] if cell.strip()]
    are_words = not is_header(cells) and not any(map(is_number, named))
    counts = {named.count(one) for one in named}
    is_repeated = len(named) >= _LEAST_KNOWN and min(counts) >= _LEAST_KNOWN
    return set(named) if are_words and is_repeated else set()


def _as_wide(titles: list[str], row: Sequence[str]) -> tuple[str, ...]:
    """The names for all cells of a row: one of date and clock, or of an end, may lack a name."""
    if len(titles) == len(row) - 1 and is_clock(row[1]) and is_time(row[0]):
        titles = [titles[0], "Time", *titles[1:]]
    extra = len(titles) - len(row)
    if extra > 0 and not any(titles[-extra:]):
        titles = titles[:-extra]
    if len(titles) == len(row) - 1 and not row[-1].strip():
        titles = [*titles, ""]
    return tuple(titles)


def _plain(title: str) -> str:
    """A column's name in small letters, without what surrounds it."""
    return re.sub(r"^\d+\. ", "", title.strip().strip("<>\"'#").strip().lower())


def is_header(cells: Sequence[str]) -> bool:
    """Whether these cells name open, high, low and close."""
    return _count_known(cells) >= _LEAST_KNOWN


def _count_known(titles: Sequence[str]) -> int:
    known = {one for role in _VALUES for one in (role, *OTHER_NAMES[role])}
    return sum(_plain(title) in known for title in titles)


def _by_header(
    name: str,
    titles: tuple[str, ...],
    rows: Sequence[Sequence[str]],
    chosen: Mapping[str, str],
) -> Columns:
    row = rows[0]
    if len(titles) != len(row):
        what = f"{name}: the header has {len(titles)} columns, and the first row {len(row)} cells"
        hint = "correct its header in a copy, and import that"
        if len(row) > len(titles) and all(map(str.isdigit, map(str.strip, row[1:]))):
            hint = "if its numbers have decimal commas, write ';' between the cells in a copy"
        raise MalformedFile(what, hint=hint)
    plain = [_plain(title) for title in titles]
    _refuse_double(name, titles, plain)
    times, zone, stamp = _times(plain, row)
    if not {"time", "clock"} & chosen.keys():
        _refuse_clock(name, plain, rows, times)
    values = [_first(plain, (role, *OTHER_NAMES[role])) for role in _VALUES]
    values[3] = _first(plain, _LAST_PRICE) if values[3] is None else values[3]
    values[4] = _volume(plain, rows, values[4])
    missing = [role for role, place in zip(_VALUES, values, strict=True) if place is None]
    missing += [] if times else ["time"]
    missing = [role for role in missing if role not in (*chosen, "volume")]
    if missing:
        has = ", ".join(filter(None, titles))
        time = next((t for t, cell in zip(titles, row, strict=True) if is_time(cell) and t), "NAME")
        named = ",".join(f"{role}={time if role == 'time' else 'NAME'}" for role in missing)
        hint = f"name it, if it is there: --columns {shlex.quote(named)}"
        raise MalformedFile(f"{name}: no column {', '.join(missing)} among {has}", hint=hint)
    symbol = _symbol_place(titles, row)
    return Columns(titles, times or (0,), tuple(values), symbol, stamp=stamp, zone=zone)


def _symbol_place(titles: Sequence[str], row: Sequence[str]) -> int | None:
    """The place of the symbols; an `index` may be the numbers of rows instead."""
    plain = [_plain(title) for title in titles]
    found = _first(plain, _SYMBOL_NAMES)
    if found is None:
        return next((at for at in range(len(row)) if _LABEL.fullmatch(plain[at])), None)
    if found >= len(row):
        return None
    is_numbers = _plain(titles[found]) == "index" and (is_number(row[found]) or is_time(row[found]))
    return None if is_numbers else found


def _is_nano(columns: Columns, row: Sequence[str]) -> bool:
    """Whether the prices are Databento's whole numbers of 1e-9."""
    prices = [row[place].strip() for place in columns.numbers[:4] if place is not None]
    has_type = any(_plain(title) == "rtype" for title in columns.names)
    return has_type and all(cell.lstrip("-").isdigit() for cell in prices)


def _refuse_double(name: str, titles: Sequence[str], plain: Sequence[str]) -> None:
    known = {*ROLES, *(one for names in OTHER_NAMES.values() for one in names if one)}
    double = next((one for one in plain if plain.count(one) > 1 and one in known), None)
    if double is not None:
        title = titles[plain.index(double)]
        hint = "remove one of them from a copy of the file, and import that"
        raise MalformedFile(f"{name}: the column {title!r} is there more than once", hint=hint)


def _times(plain: Sequence[str], row: Sequence[str]) -> tuple[tuple[int, ...], str, Stamp | None]:
    """The places of the time, the zone that their names say, and the stamp.

    A column that says its zone goes before the others.
    """
    bases = [_without_zone(one) for one in plain]
    names = ("timestamp", *OTHER_NAMES["timestamp"], *_STARTS, *_ENDS, "t")
    places = [at for one in dict.fromkeys(names) for at, base in enumerate(bases) if base == one]
    places.sort(key=lambda at: bases[at] == plain[at])
    times = [place for place in places if is_time(row[place])]
    if not times:
        return (), "", None
    place = times[0]
    zone, stamp = _said_by(plain[place])
    clock = _first(bases, _CLOCK_NAMES)
    if clock not in (None, place) and is_clock(row[clock or 0]) and not _has_clock(row[place]):
        return (place, clock or 0), zone or _said_by(plain[clock or 0])[0], stamp
    return (place,), zone, stamp


def _refuse_clock(
    name: str, plain: Sequence[str], rows: Sequence[Sequence[str]], times: Sequence[int]
) -> None:
    """MalformedFile: there is a column of clocks beside the dates, and it is not understood."""
    clock = _first([_without_zone(one) for one in plain], _CLOCK_NAMES)
    if clock is None or len(times) != 1 or clock == times[0]:
        return
    whole = [cells for cells in rows if len(cells) >= len(plain) and is_row(cells)]
    dates = [cells[times[0]].strip() for cells in whole]
    shown = {cells[clock].strip() for cells in whole}
    if all(map(_MIDNIGHT.search, dates)) and len(shown) > 1:
        what = f"{name}: its dates have the clock 00:00, and there is a column of clocks too"
        raise MalformedFile(what, hint="remove the clocks from the dates in a copy")
    odd = next((one for one in shown if one and not is_clock(one) and not is_time(one)), None)
    if odd is not None and not any(map(_has_clock, dates)):
        what = f"{name}: {odd!r} in its column of clocks is not understood"
        raise MalformedFile(what, hint="write clocks as 09:30 or 093000 in a copy")


def _said_by(title: str) -> tuple[str, Stamp | None]:
    """The zone and the stamp that the plain name of a column of times says."""
    base = _without_zone(title)
    stamp = Stamp.START if base in _STARTS else Stamp.END if base in _ENDS else None
    return "UTC" if base != title else "", stamp


def _without_zone(title: str) -> str:
    """The plain name of a column without the `UTC` in it; of `utc` alone: `time`."""
    found = _IN_UTC.fullmatch(title)
    return (found["before"] or found["behind"] or "time") if found else title


def _has_clock(cell: str) -> bool:
    return ":" in cell or len(cell.strip()) > len("24-September-2026")


def _volume(plain: Sequence[str], rows: Sequence[Sequence[str]], place: int | None) -> int | None:
    """The volume's place. MetaTrader has two: ticks are none, and the other one may be unused."""
    real, ticks = _first(plain, _REAL), _first(plain, _TICKS)
    if real is None or ticks is None:
        return place
    whole = [cells for cells in rows if len(cells) >= len(plain)]
    used = {at for cells in whole for at in (real, ticks) if cells[at].strip() not in ("0", "0.0")}
    return real if real in used or ticks not in used else None


def _first(plain: Sequence[str], names: Sequence[str]) -> int | None:
    return next((plain.index(one) for one in names if one in plain), None)


# Without one.


def _without_header(name: str, names: tuple[str, ...], rows: Sequence[Sequence[str]]) -> Columns:
    row = rows[0]
    if _is_kline(row):
        return Columns(names, (0,), (1, 2, 3, 4, 5), stamp=Stamp.START)
    times: tuple[int, ...] = (0,)
    has_clocks = all(is_clock(cells[1]) for cells in rows if len(cells) == len(row))
    if len(row) > 5 and has_clocks and is_time(row[0]) and not _has_clock(row[0]):
        times = (0, 1)
    rest = list(range(len(times), len(row)))
    if rest and not row[rest[-1]].strip():
        rest.pop()
    _refuse_lean(name, row)
    is_plain = is_time(row[0]) and all(is_number(row[place]) for place in rest)
    if not is_plain or len(rest) not in (4, 5):
        hint = "by their numbers: --columns time=1,open=2,high=3,low=4,close=5,volume=6"
        hint = f"name its columns {hint}, or volume=none"
        raise MalformedFile(f"{name}: it has no header, and {len(row)} columns", hint=hint)
    if len(rest) == 5:
        _refuse_sixth_price(name, rows, rest)
    return Columns(names, times, (*rest, None)[:5])


def _refuse_sixth_price(name: str, rows: Sequence[Sequence[str]], rest: Sequence[int]) -> None:
    """MalformedFile: what would be volumes is always between low and high, as adjusted closes."""
    whole = [cells for cells in rows if len(cells) == len(rows[0]) and is_row(cells)]
    try:
        bars = [[float(cells[place]) for place in rest] for cells in whole]
    except ValueError:
        return
    if len(bars) >= _LEAST_BARS and all(bar[2] <= bar[4] <= bar[1] for bar in bars):
        what = f"{name}: its last column has no volumes, but prices between low and high"
        hint = ",".join(f"{role}={at + 1}" for role, at in zip(_VALUES, rest[:4], strict=False))
        hint = f"name its columns: --columns time=1,{hint},volume=none"
        raise MalformedFile(what, hint=hint)


def _refuse_lean(name: str, row: Sequence[str]) -> None:
    """Those files have no header, and whole prices. MalformedFile: it is one of them."""
    prices = [cell.strip() for cell in row[1:5]]
    if _LEAN_TIME.fullmatch(row[0].strip()) and all(map(_LEAN_PRICE.fullmatch, prices)):
        what = f"{name}: its prices are whole numbers, as QuantConnect LEAN's times 10,000"
        hint = "divide them in a copy; if they are right: --columns time=1,open=2,high=3,low=4"
        raise MalformedFile(what, hint=f"{hint},close=5,volume=6")


def _is_kline(row: Sequence[str]) -> bool:
    """Of Binance: the times of open and close are epochs, in columns 1 and 7."""
    if len(row) != _KLINE_WIDTH or not all(map(is_number, row)):
        return False
    opens, closes = row[0].strip(), row[_KLINE_END].strip()
    is_long = len(opens) == len(closes) >= 13 and opens.isdigit() and closes.isdigit()
    return is_long and (int(closes) + 1 - int(opens)) % (60 * 10 ** (len(opens) - 10)) == 0


# By a person.


def parse_chosen(text: str) -> dict[str, str]:
    """`time=Date,open=Open` as role → name. ValueError says what was expected."""
    chosen: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        role, separator, title = part.partition("=")
        role = role.strip()
        if not separator or not title.strip() or role not in (*ROLES, *CHOICES):
            expected = " ".join((*ROLES, *CHOICES))
            raise ValueError(f"{part!r}: expected ROLE=COLUMN, the role one of {expected}")
        chosen[role] = title.strip()
        if title.strip() not in CHOICES.get(role, (title.strip(),)):
            raise ValueError(f"{part!r}: expected {role}={' or '.join(CHOICES[role])}")
    return chosen


def _with_chosen(
    name: str,
    names: tuple[str, ...],
    found: Columns | None,
    rows: Sequence[Sequence[str]],
    chosen: Mapping[str, str],
) -> Columns:
    """The columns with those that a person has chosen."""
    place = _finder(name, names)
    wanted = {role: title for role, title in chosen.items() if role in ROLES}
    if found is None:
        found = Columns(names, (0,), (None,) * 5, _text_place(rows))
    times, zone, stamp = found.times, found.zone, found.stamp
    if "time" in wanted:
        times = (place(wanted["time"]),)
        zone, stamp = _said_by(_plain(names[times[0]]))
    if "clock" in wanted:
        times = (times[0], place(wanted["clock"]))
    values = list(found.numbers)
    for number, role in enumerate(_VALUES):
        if role in wanted:
            values[number] = None if wanted[role] == NO_VOLUME else place(wanted[role])
    symbol = None if found.symbol in (*times, *values) else found.symbol
    if "symbol" in wanted:
        symbol = None if wanted["symbol"] == NO_SYMBOL else place(wanted["symbol"])
    numbers = tuple(values)
    _refuse_shared(name, names, (*times, *numbers, symbol))
    return replace(found, times=times, numbers=numbers, symbol=symbol, zone=zone, stamp=stamp)


def _refuse_shared(name: str, names: Sequence[str], places: Sequence[int | None]) -> None:
    """MalformedFile: one column is chosen for two of the parts of a bar."""
    taken = [place for place in places if place is not None]
    shared = next((place for place in taken if taken.count(place) > 1), None)
    if shared is not None:
        what = f"{name}: the column {names[shared]!r} is taken for two parts of a bar"
        raise MalformedFile(what, hint="choose another one for one of them in --columns")


def _text_place(rows: Sequence[Sequence[str]]) -> int | None:
    """The first column of texts, in rows without a header: they may be symbols."""
    whole = [cells for cells in rows if len(cells) == len(rows[0]) and is_row(cells)]

    def is_text(cell: str) -> bool:
        return bool(cell.strip()) and not (is_number(cell) or is_time(cell) or is_clock(cell))

    places = range(len(rows[0]))
    return next((at for at in places if all(is_text(cells[at]) for cells in whole)), None)


def _finder(name: str, names: tuple[str, ...]) -> Callable[[str], int]:
    def place(title: str) -> int:
        if title in names:
            return names.index(title)
        if title.isdigit() and 1 <= int(title) <= len(names):
            return int(title) - 1
        hint = f"it has {', '.join(filter(None, names))}; or give the column's number, from 1"
        raise MalformedFile(f"{name}: there is no column {title!r}", hint=hint)

    return place


def dates_need_order(columns: Columns, rows: Sequence[Sequence[str]]) -> bool:
    """Whether the dates are such as `01/02/2024`."""
    place = columns.times[0]
    return any(needs_order(cells[place]) for cells in rows if place < len(cells))
