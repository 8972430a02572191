"""What the command line writes to: texts of others are shown there, and never obeyed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from ktrdr.escapes import visible_lines


class Terminal(Console):
    """rich's console, which spells out what a terminal would obey: all but line ends.

    rich takes each text through here, those in the cells of a table, too.
    """

    def render_str(self, text: str, **how: Any) -> Text:
        """As rich does, of the text made harmless."""
        return super().render_str(visible_lines(text), **how)
