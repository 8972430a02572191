"""Which files have bars of one series, as far as their names and first lines show. Writes nothing.

It only says which are read together: what they have is known when all of their rows were read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ktrdr.errors import InvalidRequest, KtrdrError
from ktrdr.importing.lengths import timeframe_of
from ktrdr.importing.rows import utc_of
from ktrdr.importing.series_names import name_of, one_of_each
from ktrdr.importing.source_files import SourceFile
from ktrdr.importing.table_file import table_at
from ktrdr.market.timeframes import Timeframe

Guess = tuple[str, Timeframe | None]
"""A symbol, and its timeframe if that is shown."""


def guess(file: SourceFile, chosen: Mapping[str, str]) -> Guess | None:
    """What the name of a file shows, or else its first lines; None: neither names its symbol.

    `chosen`: what a person says of its columns.
    """
    symbol = ""
    try:
        named = name_of(file.name, ())
        symbol = named.symbol if named else ""
        if named is not None and named.timeframe is not None:
            return symbol, named.timeframe
        table = table_at(file.path, chosen)
        first = table.first_rows()
        named = name_of(file.name, one_of_each({*first.symbols, *table.columns.symbols}))
        if named is None:
            return None
        symbol = named.symbol
        times = np.sort(utc_of(first.matrix))
        return symbol, named.timeframe or timeframe_of(file.path.name, times, None, symbol)
    except KtrdrError:
        return (symbol, None) if symbol else None


def groups_of(
    files: Sequence[SourceFile], guesses: Iterable[Guess | None]
) -> list[list[SourceFile]]:
    """The files, those of one series together; one whose timeframe is not shown with the others.

    With others of its symbol, if these are of one timeframe.
    """
    groups: dict[Guess, list[SourceFile]] = {}
    alone: list[list[SourceFile]] = []
    unclear: list[tuple[str, SourceFile]] = []
    for file, guessed in zip(files, guesses, strict=True):
        if guessed is None:
            alone.append([file])
        elif guessed[1] is None:
            unclear.append((guessed[0], file))
        else:
            groups.setdefault(guessed, []).append(file)
    for symbol, file in unclear:
        same = [group for (of, _), group in groups.items() if of == symbol]
        if len(same) == 1:
            same[0].append(file)
        else:
            alone.append([file])
    return [*groups.values(), *alone]


def refuse_other_names(files: Sequence[SourceFile], to: str) -> None:
    """InvalidRequest: files that are to be one series have names that differ by more than dates."""
    names = {re.sub(r"[\d\W_]+", " ", file.name).strip().lower(): file for file in files}
    if len(names) > 1:
        one, other = list(names.values())[:2]
        what = f"--to {to}: {one.path} and {other.path} differ by more than numbers"
        raise InvalidRequest(what, hint="give the files of one series alone, or leave --to out")
