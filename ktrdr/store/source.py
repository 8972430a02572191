"""The source of a store's bars, live or simulated, as recorded in it. Reads no bars."""

from __future__ import annotations

from pathlib import Path

from ktrdr.errors import StoreUnwritable
from ktrdr.run_folder import open_plain
from ktrdr.store.file_errors import unwritable

_MOST_BYTES = 100

METADATA_DIR = ".ktrdr"
"""ktrdr's own folder inside the store."""


def ledger_path(folder: Path) -> Path:
    """Where the gap filler keeps its knowledge of a store, in SQLite."""
    return folder / METADATA_DIR / "ledger.sqlite"


def source_of(folder: Path) -> str | None:
    """`live` or `simulated`; None for a store that was never written to.

    StoreUnwritable: the record cannot be read, so that the source is unknown.
    """
    path = folder / METADATA_DIR / "source"
    try:
        with open_plain(path) as file:
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            hint = "put a file there that contains live or simulated, the source of these bars"
            raise StoreUnwritable(f"{path}: it is not a regular file", hint=hint) from error
        raise unwritable(path, error) from error
    return text.decode(errors="replace").strip() or None
