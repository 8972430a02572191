"""The terminal that commands write to; control characters in texts have no effect there."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from ktrdr.escapes import visible_lines


class Terminal(Console):
    """rich's console, which escapes control characters except line ends in every text."""

    def render_str(self, text: str, **how: Any) -> Text:
        """As rich does, from the escaped text. rich renders all texts with it, in tables too."""
        return super().render_str(visible_lines(text), **how)
