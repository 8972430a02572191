"""Changes a store's `instruments.toml`; comments, order and everything else in it stay.

Only valid TOML is changed, and an entry only into a valid one; wrong entries of other symbols are
reported by the gap filler, and stay. Somebody may write it at the same time: a
file that has changed since it was read is read again, and never overwritten.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from ktrdr.errors import Misconfigured, StoreUnwritable
from ktrdr.market.instruments import instrument_of_entry, read_tables
from ktrdr.store.atomic_write import take_after, write_whole
from ktrdr.store.file_errors import TRY_AGAIN, hint_for
from ktrdr.store.instruments_file import INSTRUMENTS, tables_of

_ATTEMPTS = 5
_BOM = b"\xef\xbb\xbf"
_LOCK = threading.Lock()
"""One change at a time in this process."""


@dataclass(frozen=True)
class EntryChange:
    """A change of one symbol's entry. What is not given stays as it is."""

    symbol: str
    fields: Mapping[str, str | int] = field(default_factory=dict)
    """Field → its new value."""
    dropped: Iterable[str] = ()
    """Fields to remove."""
    since: Mapping[str, date | None] = field(default_factory=dict)
    """Timeframe → the day from which history is wanted; None: no day of its own."""
    watch: Mapping[str, bool] = field(default_factory=dict)
    """Timeframe → whether the series is kept."""


def change_entry(
    folder: Path,
    change: EntryChange,
    changed: Callable[[bytes, EntryChange], bytes] | None = None,
) -> bool:
    """Change the entry of a symbol; False: it was so already.

    `changed`: makes the new content from the old one; by default `with_change`.

    Misconfigured: the file is not valid TOML (with line and reason), or an entry in it is wrong.
    StoreUnwritable: it cannot be written, or changes all the time. Nothing was changed then.
    """
    path = folder / INSTRUMENTS
    with _LOCK:
        for _ in range(_ATTEMPTS):
            before = _content(folder)
            after = (changed or with_change)(before or b"", change)
            if after == (before or b""):
                return False
            try:
                if _replaced(path, before, after):
                    return True
            except OSError as error:
                cannot = f"{INSTRUMENTS} cannot be written: {error.strerror or error}"
                raise StoreUnwritable(cannot, hint=hint_for(error, TRY_AGAIN)) from error
    raise StoreUnwritable(
        f"{INSTRUMENTS} is being changed by somebody else; nothing was written",
        hint="save it in the editor, then try again",
    )


def _content(folder: Path) -> bytes | None:
    """What the file holds; None: there is none. Misconfigured: it cannot be read."""
    tables_of(folder)  # says why it cannot be read
    try:
        return (folder / INSTRUMENTS).read_bytes()
    except FileNotFoundError:
        return None


def _replaced(path: Path, before: bytes | None, after: bytes) -> bool:
    """Write it in one step; False: it has changed meanwhile."""

    def is_same(new: Path) -> bool:
        if before is None:
            return not os.path.lexists(path)
        take_after(path, new)
        return path.read_bytes() == before

    try:
        return write_whole(path, [after], is_same)
    except FileNotFoundError:
        if before is None:
            raise
        return False


def with_change(content: bytes, change: EntryChange) -> bytes:
    """The content with the change.

    Misconfigured: it is not TOML, or the symbol's entry is wrong before or after the change.
    """
    mark = _BOM if content.startswith(_BOM) else b""
    try:
        text = content[len(mark) :].decode()
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{INSTRUMENTS}: {error}", hint="write it as UTF-8") from error
    is_usual = all(change.watch.values()) and not change.fields and not any(change.since.values())
    if change.symbol not in _checked(text, change.symbol) and is_usual:
        return content  # without the effort of keeping comments
    document = tomlkit.parse(text)
    _apply(document, change)
    changed = tomlkit.dumps(document)
    if "\r\n" in text:
        changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
    _checked(changed, change.symbol)
    return mark + changed.encode()


def _checked(text: str, symbol: str) -> dict[str, object]:
    """The tables of a text, with the entry of this symbol checked."""
    tables = read_tables(text)
    instrument_of_entry(symbol, tables.get(symbol))
    return tables


def _apply(document: tomlkit.TOMLDocument, change: EntryChange) -> None:
    is_new = change.symbol not in document
    entry: Any = tomlkit.table() if is_new else document[change.symbol]
    for name in change.dropped:
        if name not in change.fields:
            entry.pop(name, None)
    for name, value in change.fields.items():
        if entry.get(name) != value:
            entry[name] = value
    _set_by_timeframe(entry, "since", change.since)
    _set_by_timeframe(entry, "watch", change.watch, usual=True)
    if is_new and entry:
        if document.body:
            document.add(tomlkit.nl())
        document.add(change.symbol, entry)
    elif not is_new and not _has_content(entry):
        del document[change.symbol]


def _has_content(entry: Any) -> bool:
    """It has fields, or comments of somebody."""
    return bool(entry) or bool(entry.as_string().strip().strip("{}"))


def _set_by_timeframe(
    entry: Any, name: str, wanted: Mapping[str, Any], usual: object = None
) -> None:
    """Set what holds for single timeframes; one value for all of them becomes a table.

    `usual`: what holds without a value; wanting it removes the value of a timeframe.
    """
    there = entry.get(name)
    plain = getattr(there, "unwrap", lambda: there)()  # an item belongs to one place
    before = plain if isinstance(plain, dict) else {} if plain is None else {"": plain}
    after = dict(before)
    for timeframe, value in wanted.items():
        after.pop(timeframe, None)
        if value != after.get("", usual) and value is not None:
            after[timeframe] = value
    if after == before:
        return
    if not after:
        del entry[name]
    elif after.keys() == {""}:
        entry[name] = after[""]
    elif isinstance(there, Table):
        _update(there, after)
    else:
        table = tomlkit.inline_table()
        table.update(after)
        entry[name] = table


def _update(table: Any, after: Mapping[str, Any]) -> None:
    for timeframe in [one for one in table if one not in after]:
        del table[timeframe]
    for timeframe, value in after.items():
        if table.get(timeframe) != value:
            table[timeframe] = value
