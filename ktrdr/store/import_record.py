"""The record of an import: where it is, and which bars of a series were imported. Writes none."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ktrdr.market.instruments import Series
from ktrdr.store.file_key import FileKey
from ktrdr.store.source import METADATA_DIR

_FOLDER = "imported"
_KEPT = 4096
_MOST_BYTES = 32 * 1024 * 1024
"""A larger file is no record: one of ten thousand files has half of that."""


class ImportRecord(NamedTuple):
    """What was imported of a series, once."""

    checksum: str
    """Of the record: another import has another one."""
    first: int
    last: int
    """The starts of its first and last bar (UTC seconds)."""


def import_folder(store: Path) -> Path:
    """Where the records of a store are."""
    return store / METADATA_DIR / _FOLDER


def record_path(store: Path, series: Series) -> Path:
    """Where the record of a series is."""
    return import_folder(store) / f"{series}.json"


def import_record(store: Path, series: Series) -> ImportRecord | None:
    """The record of a series; None: it has none, or one that is not understood."""
    path = record_path(store, series)
    try:
        found = path.stat()
        if found.st_size > _MOST_BYTES:
            return None
        record = _read(path, str(series), (found.st_size, found.st_mtime_ns, found.st_ino))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None
    except RecursionError:  # JSON in very many brackets
        return None
    return record


@lru_cache(_KEPT)
def _read(path: Path, name: str, _key: FileKey) -> ImportRecord:
    """ValueError: it is of another series than that of this name."""
    raw = path.read_bytes()
    content = json.loads(raw)
    if content["series"] != name:
        raise ValueError(content["series"])
    parts = content.get("parts", [content])
    firsts, lasts = ([_seconds(part[name]) for part in parts] for name in ("first", "last"))
    return ImportRecord(hashlib.sha256(raw).hexdigest(), min(firsts), max(lasts))


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
