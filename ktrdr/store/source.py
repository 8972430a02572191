"""The source of a store's bars, as recorded in its own folder. Loads no numpy and reads no bars."""

from __future__ import annotations

from pathlib import Path

from ktrdr.errors import StoreUnwritable
from ktrdr.run_folder import open_plain
from ktrdr.store.file_errors import unwritable

_MOST_BYTES = 100

METADATA_DIR = ".ktrdr"
"""The folder inside the store that belongs to ktrdr."""


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
            hint = "put a file there that says live or simulated, whose bars these are"
            raise StoreUnwritable(f"{path}: it is no file of its own", hint=hint) from error
        raise unwritable(path, error) from error
    return text.decode(errors="replace").strip() or None
