"""The folders of the programs themselves, with sockets and logs: which are on a full disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_LEAST_BYTES = 65_536


def full_folders(folders: Iterable[Path], store: Path) -> tuple[Path, ...]:
    """Those that no file can be written to; not those on the store's disk, which it reports."""
    known = {_device(store)}
    found = []
    for folder in folders:
        device = _device(folder)
        if device not in known and _is_full(folder):
            found.append(folder)
        known.add(device)
    return tuple(found)


def _device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def _is_full(folder: Path) -> bool:
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    is_out_of_files = room.f_files > 0 and room.f_favail == 0
    return room.f_bavail * room.f_frsize < _LEAST_BYTES or is_out_of_files
