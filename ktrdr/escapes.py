"""Texts from outside made harmless: control and invisible characters become escapes."""

from __future__ import annotations

_SEEN = frozenset("\u00a0\u2007\u202f\u3000")
"""Harmless spaces of other scripts, which Python does not count as printable."""


def visible(text: str) -> str:
    r"""The text with line ends, control characters and invisible signs as escapes: `\n`, `\x1b`.

    Letters of every language stay; a text without such characters is returned as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _SEEN else _escape(c) for c in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay."""
    return "\n".join(map(visible, text.split("\n")))


def shortened(text: str, most: int) -> str:
    """The text, cut after `most` characters with a note of its length."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
