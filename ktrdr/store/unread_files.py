"""Files of a store's folder that may have bars and are not read: one line for each kind. No I/O."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ktrdr.market.file_names import Kind, ProperName, kind_of, proper_name
from ktrdr.market.instruments import Series, parse_series

MOST_EXAMPLES = 10
"""How many files of each kind are named at most."""
_NAMED = 3
"""How many a hint names unless more are wanted."""
_FORM = "the name of a series, such as AAPL_1m.csv"

_WHY = {
    Kind.CAPITALS: ("its name ends in capitals", "their names end in capitals"),
    Kind.COMPRESSED: ("it is compressed", "they are compressed"),
    Kind.TEXT: ("its name does not end in .csv", "their names do not end in .csv"),
    Kind.FORMAT: ("it has another format than CSV", "they have other formats than CSV"),
    Kind.SUBFOLDER: ("it is in a subfolder", "they are in subfolders"),
}
"""Of one file and of several."""
_TO_DO = {
    Kind.NAME: "rename",
    Kind.CAPITALS: "rename",
    Kind.COMPRESSED: "decompress",
    Kind.TEXT: "if its columns are separated by commas, rename",
    Kind.FORMAT: "write the bars as CSV, those of",
    Kind.SUBFOLDER: "move",
}
_FORMS = {
    Kind.COMPRESSED: "decompress {} to {}",
    Kind.FORMAT: "write the bars of {} as CSV to {}",
    Kind.SUBFOLDER: "move {} into the store's folder, to {}",
}
_IMPORT = "or bring {} in with `ktrdr import`, or move {} away"
_OR = {
    Kind.COMPRESSED: _IMPORT,
    Kind.TEXT: _IMPORT,
    Kind.SUBFOLDER: "or bring {} in with `ktrdr import --recursive`, or give the subfolder a "
    "name that begins with a dot",
}


class UnreadFile(NamedTuple):
    """A file that is not read."""

    name: str
    """With its subfolder, if it is in one."""
    proper: ProperName | None
    """The name that it should have; None: that is not certain."""
    rival: str
    """Another file that has that name already, or should have it; empty: none."""

    @property
    def proper_name(self) -> str:
        """The name that it should have; empty: that is not certain."""
        return self.proper.file_name if self.proper else ""

    @property
    def free_name(self) -> str:
        """The same; empty also where another file has that name, or should have it."""
        return "" if self.rival else self.proper_name

    @property
    def coin(self) -> str:
        """The symbol that needs an entry; empty: none."""
        return self.proper.series.symbol if self.proper and self.proper.is_coin else ""


@dataclass(frozen=True)
class UnreadFiles:
    """All files of one kind that are not read."""

    kind: Kind
    count: int
    examples: tuple[UnreadFile, ...]
    """The first by name."""
    is_limited: bool = False
    """Not all were counted."""

    @property
    def cause(self) -> str:
        """Why they are not read, with an example."""
        first = self.examples[0].name
        if self.count > 1:
            names = "their names are not those of series"
            why = _WHY[self.kind][1] if self.kind in _WHY else names
            return f"{why}, such as {first!r}"
        if self.kind in _WHY:
            return f"{first!r}: {_WHY[self.kind][0]}"
        return f"{first!r} is no series: {_why_no_series(first)}"

    @property
    def message(self) -> str:
        """How many there are, and why they are not read."""
        if self.count == 1:
            return f"a file is not read: {self.cause}"
        return f"{self.number} files are not read: {self.cause}"

    @property
    def number(self) -> str:
        """How many there are, in words."""
        return f"at least {self.count:,}" if self.is_limited else f"{self.count:,}"

    @property
    def hint(self) -> str:
        """What a person can do, with the names that the first of them should have."""
        return self.hint_naming(_NAMED)

    def hint_naming(self, most: int) -> str:
        """The same with this many examples of each step at most."""
        free = [one for one in self.examples if one.proper and not one.rival][:most]
        taken = [one for one in self.examples if one.rival][:most]
        vague = [one for one in self.examples if not one.proper][:most]
        steps = []
        if free:
            changes = ", ".join(f"{one.name!r} to {one.proper_name}" for one in free)
            steps.append(f"{_TO_DO[self.kind]} {changes}")
        if coins := dict.fromkeys(one.coin for one in free if one.coin):
            entries = ", ".join(f'[{symbol}] sec_type = "CRYPTO"' for symbol in coins)
            steps.append(f"say in instruments.toml: {entries}")
        for name, rival in dict.fromkeys((one.proper_name, one.rival) for one in taken):
            same = ", ".join(f"{one.name!r}" for one in taken if one.proper_name == name)
            is_there = f"{name} is there already: of it" if name == rival else f"of {rival!r}"
            keep = "keep one" if name == rival else f"keep one, as {name}"
            steps.append(f"{is_there} and {same} {keep}")
        if others := _listed(vague, self.count - len(free) - len(taken)):
            steps.append(_FORMS.get(self.kind, "give {} {}").format(others, _FORM))
        them = "it" if self.count == 1 else "them"
        otherwise = _OR.get(self.kind, "or move {} away").replace("{}", them)
        return "; ".join([*steps, otherwise])


class InSubfolders(NamedTuple):
    """The files in subfolders that may have bars."""

    total: int
    first: tuple[str, ...]
    """The first by name, such as `stocks/META_1d.csv`."""
    is_limited: bool
    """Not all were looked at."""


def unread_files(
    names: Iterable[str], is_there: Callable[[Series], bool], in_subfolders: InSubfolders
) -> tuple[UnreadFiles, ...]:
    """The files of a folder that are not read, by kind.

    `names`: those of files that are no series; `is_there`: the folder has this series.
    """
    of_kind: dict[Kind, list[str]] = {}
    for name in names:
        if (kind := kind_of(name)) is not None:
            of_kind.setdefault(kind, []).append(name)
    named = _Examples(is_there)
    found = [
        UnreadFiles(kind, len(of_kind[kind]), named.of(of_kind[kind]))
        for kind in Kind
        if kind in of_kind
    ]
    if in_subfolders.total:
        total, first, is_limited = in_subfolders
        found.append(UnreadFiles(Kind.SUBFOLDER, total, named.of(first), is_limited))
    return tuple(found)


class _Examples:
    """Chooses the files that are named, no two of them for the same series without saying so."""

    def __init__(self, is_there: Callable[[Series], bool]) -> None:
        self._is_there = is_there
        self._first: dict[Series, str] = {}
        """The file that is to have the name of a series."""

    def of(self, names: Iterable[str]) -> tuple[UnreadFile, ...]:
        """The first of these files."""
        return tuple(self._named(name) for name in heapq.nsmallest(MOST_EXAMPLES, names))

    def _named(self, name: str) -> UnreadFile:
        proper = proper_name(name)
        if proper is None:
            return UnreadFile(name, None, "")
        if self._is_there(proper.series):
            return UnreadFile(name, proper, proper.file_name)
        rival = self._first.setdefault(proper.series, name)
        return UnreadFile(name, proper, "" if rival == name else rival)


def _listed(files: Collection[UnreadFile], count: int) -> str:
    """These files and how many others there are; empty: there are none."""
    if not files:
        return f"the other {count:,}" if count else ""
    names = ", ".join(f"{one.name!r}" for one in files)
    more = count - len(files)
    return f"{names} and {more:,} more" if more else names


def _why_no_series(name: str) -> str:
    try:
        parse_series(name)
    except ValueError as error:
        return str(error).removeprefix(f"{name!r}: ")
    return "expected SYMBOL_TIMEFRAME.csv"
