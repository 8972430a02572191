"""What was imported into a store: a record for each series, and the lines that were refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ktrdr.importing.rows import Refused
from ktrdr.market.instruments import Series
from ktrdr.store.atomic_write import write_whole
from ktrdr.store.file_errors import TRY_AGAIN, unwritable
from ktrdr.store.import_record import import_folder, record_path


def refused_path(store: Path, series: Series) -> Path:
    """Where the refused lines are: `line,why,text,file`."""
    return import_folder(store) / f"{series}.refused.csv"


def keep_record(
    store: Path, series: Series, content: dict[str, Any], refused: Iterable[tuple[str, Refused]]
) -> None:
    """Keep what became of an import, in the place of an earlier one. StoreUnwritable.

    `refused`: each line with the name of its file.
    """
    path, lines = record_path(store, series), refused_path(store, series)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("line", "why", "text", "file"))
    writer.writerows((one.line, one.why, one.text, name) for name, one in refused)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(lines, [text.getvalue().encode(errors="replace")])
        write_whole(path, [json.dumps(content, indent=2).encode(), b"\n"])
    except OSError as error:
        raise unwritable(path, error, TRY_AGAIN) from error


def records_of(store: Path) -> list[dict[str, Any]]:
    """The records of a store by name; one that cannot be read is left out."""
    found = []
    for path in sorted(import_folder(store).glob("*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
