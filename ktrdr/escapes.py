"""Text of others within one line: what a terminal obeys, or nobody sees, is spelled out."""

from __future__ import annotations

_SEEN = frozenset("\u00a0\u2007\u202f\u3000")
"""Spaces of other alphabets: not printable by Python's word, and harmless."""


def visible(text: str) -> str:
    r"""The text with line ends, control characters and invisible signs as escapes: `\n`, `\x1b`.

    Letters of every language stay; a text without such characters is returned as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _SEEN else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
