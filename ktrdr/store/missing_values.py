"""Rows of a bar file that lack a value: an empty cell, `nan`, `null`, `inf`. Opens no file.

Such a row is no bar. Its bar counts as missing, and the row stays until it is removed
(`ktrdr check --fix`). A cell with anything else that is not a number may be a mistyped value, and
is for a person.
"""

from __future__ import annotations

from collections.abc import Sequence

_SPELLINGS = frozenset(
    {b"", b"nan", b"null", b"none", b"na", b"<na>", b"n/a", b"#n/a", b"nat", b"inf", b"infinity"}
)
"""Without sign, in small letters."""


def is_missing(cell: bytes) -> bool:
    """Whether a cell stands for no value, or for one that is not finite."""
    return cell.strip().lstrip(b"+-").lower() in _SPELLINGS


def lacks_value(line: bytes, width: int, places: Sequence[int]) -> bool:
    """Whether a line of `width` fields has no value in one of these `places`.

    Not one with more or fewer fields: where its values are is not known.
    """
    fields = line.split(b",")
    return len(fields) == width and any(is_missing(fields[place]) for place in places)
