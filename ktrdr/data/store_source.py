"""Which source a store belongs to, as its own folder says. Loads no numpy and reads no bars."""

from __future__ import annotations

from pathlib import Path

from ktrdr.data.file_errors import unwritable

OURS = ".ktrdr"
"""The folder inside the store that is this project's own."""


def source_of(folder: Path) -> str | None:
    """`live` or `simulated`; None for a store that nothing was written to.

    StoreUnwritable: what is there cannot be read, so that nobody knows.
    """
    path = folder / OURS / "source"
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(path, error) from error
    return text.strip() or None
