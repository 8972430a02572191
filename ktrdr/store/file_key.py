"""The key by which a changed file is recognized without being opened."""

from __future__ import annotations

import os

FileKey = tuple[int, int, int]
"""Size, mtime in ns, inode: the same key, the same content."""


def key_of(status: os.stat_result) -> FileKey:
    """The key of a file."""
    return status.st_size, status.st_mtime_ns, status.st_ino
