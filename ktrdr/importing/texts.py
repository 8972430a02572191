"""Columns of texts, in which each different text is kept once. Opens no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.market.sessions import Int64Array

_WORD = 8
_QUOTE = ord('"')
_MOST_BYTES = 64


class Texts(NamedTuple):
    """A column of texts."""

    codes: Int64Array
    """Which of `each` a row has."""
    each: list[str]

    def numbers(self, of: Callable[[str], tuple[int, ...]], width: int) -> Int64Array:
        """So many numbers of each text, a row each; made once for texts that are alike."""
        found = np.array([of(text) for text in self.each], np.int64).reshape(-1, width)
        return found[self.codes]


def texts_of(cells: Sequence[str]) -> Texts:
    """The texts of these cells."""
    codes, each = pd.factorize(np.array(cells, object))
    return Texts(codes.astype(np.int64), list(each))


def first_cells(raw: bytes, begins: Int64Array, separator: str) -> NDArray[np.uint8] | None:
    """The bytes of the first cell of each line, a row each; None: they are not of one length.

    `begins`: where the lines begin, of which each has a separator. Cells in quotes count as not.
    """
    width = raw.find(separator.encode())
    if not 0 < width <= _MOST_BYTES or begins[-1] + width >= len(raw):
        return None
    every_place = np.ndarray((len(raw) - width,), f"V{width + 1}", raw, 0, (1,))
    cells = every_place[begins].view(np.uint8).reshape(-1, width + 1)
    inside, mark = cells[:, :-1], ord(separator)
    if (cells[:, -1] != mark).any() or ((inside == mark) | (inside == _QUOTE)).any():
        return None
    return inside


def fixed_texts(cells: NDArray[np.uint8]) -> Texts:
    """The texts of rows of bytes, without making one for each row."""
    count, width = cells.shape
    padded = np.zeros((count, max(-(-width // _WORD), 1) * _WORD), np.uint8)
    padded[:, :width] = cells
    words = padded.view(np.uint64)
    begins = np.flatnonzero(np.append(True, (words[1:] != words[:-1]).any(axis=1)))
    if 2 * len(begins) < count:  # as dates are, of which many follow each other
        codes = _codes(words[begins]).repeat(np.diff(begins, append=count))
    else:
        codes = _codes(words)
    first = np.zeros(int(codes.max(initial=-1)) + 1, np.int64)
    first[codes[::-1]] = np.arange(count)[::-1]
    return Texts(codes, [cells[row].tobytes().decode(errors="replace") for row in first.tolist()])


def _codes(words: NDArray[np.uint64]) -> Int64Array:
    """A number for each different row of words."""
    codes = np.zeros(len(words), np.int64)
    for column in words.T:
        if (column[1:] == column[:-1]).all():
            continue
        more, each = pd.factorize(column)
        codes = pd.factorize(codes * len(each) + more)[0].astype(np.int64) if codes.any() else more
    return codes
