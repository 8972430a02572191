"""Unfinished files that killed writers left in a store, and beside the targets of its links."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ktrdr.store.atomic_write import clear_leftovers
from ktrdr.store.source import METADATA_DIR

_OURS = ("replaced", "renewed", "growing", f"renewed/{METADATA_DIR}/growing")


def clear_all(folder: Path) -> int:
    """Remove them; returns the number of files. OSError: a folder of the store refuses."""
    metadata = folder / METADATA_DIR
    folders = {folder, metadata, *(metadata / name for name in _OURS)}
    targets: set[Path] = set()
    with contextlib.suppress(FileNotFoundError):
        links = [path for path in folder.glob("*.csv") if path.is_symlink()]
        targets = {Path(os.path.realpath(path)).parent for path in links} - folders
    removed = sum(clear_leftovers(one) for one in folders)
    for target in targets:
        with contextlib.suppress(OSError):  # it may be somebody else's
            removed += clear_leftovers(target)
    return removed
