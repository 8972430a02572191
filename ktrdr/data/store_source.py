"""Which source a store belongs to, as its own folder says. Loads no numpy and reads no bars."""

from __future__ import annotations

from pathlib import Path

OURS = ".ktrdr"
"""The folder inside the store that is this project's own."""


def source_of(folder: Path) -> str | None:
    """`live` or `simulated`; None for a store that nothing was written to."""
    try:
        text = (folder / OURS / "source").read_text(errors="replace")
    except FileNotFoundError:
        return None
    return text.strip() or None
