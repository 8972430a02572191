"""Changes the text of an `.env` file, and leaves the rest as it stands. Values only."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from dotenv.parser import Binding, parse_stream

_BYTE_ORDER_MARK = "\ufeff"
_LINE = re.compile(
    r"(?P<before>\s*(?:export[ \t]+)?[^=\s]+[ \t]*=[ \t]*)"
    r"(?P<value>.*?)(?P<after>[ \t]+#[^\r\n]*)?(?P<end>\r?\n)?",
    re.DOTALL,
)


def with_values(text: str, values: Mapping[str, str | None]) -> str:
    """The text with these variables set, or, where the value is None, commented out.

    A variable that is there keeps its place and its comment; others are added at the end.
    """
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    text = text.removeprefix(mark)
    parts, there = [], set()
    for binding in parse_stream(io.StringIO(text, newline="")):
        name = (binding.key or "").upper()
        parts.append(_changed(binding, values[name]) if name in values else binding.original.string)
        there.add(name)
    end = "\r\n" if "\r\n" in text else "\n"
    changed = "".join(parts)
    new = [f"{name}={value}{end}" for name, value in values.items() if value and name not in there]
    if new and changed and not changed.endswith("\n"):
        changed += end
    return mark + changed + "".join(new)


def _changed(binding: Binding, value: str | None) -> str:
    """One variable's lines with another value, or commented out."""
    original = binding.original.string
    found = _LINE.fullmatch(original)
    if value is not None and found is not None:
        return f"{found['before']}{value}{found['after'] or ''}{found['end'] or ''}"
    if value is not None:
        return f"{binding.key}={value}\n"
    blank = original[: len(original) - len(original.lstrip())]
    lines = original.lstrip().splitlines(keepends=True)
    return blank + "".join(f"#{line}" for line in lines)
