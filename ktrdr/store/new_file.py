"""Creates the file of a series that the store does not have yet, in one step and never over one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.market.instruments import Series
from ktrdr.store.atomic_write import sync_folder, write_whole
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_errors import TRY_AGAIN, unwritable

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def refuse_existing(store: CsvStore, series: Series) -> None:
    """MalformedFile: the store has a file, a link or a folder of this name."""
    path = store.path(series)
    if os.path.lexists(path):
        hint = f"nothing of it is changed: move {path} away, then import again"
        raise MalformedFile(f"{series.file_name} is there already", hint=hint)


def write_new_series(store: CsvStore, series: Series, pieces: Iterable[bytes]) -> None:
    """Create the file of a series with this content.

    What `pieces` raises leaves nothing behind. MalformedFile: there is such a file, also if it came
    only meanwhile. StoreUnwritable: the disk refused.
    """
    path = store.path(series)
    refuse_existing(store, series)

    def accept(new: Path) -> bool:
        try:
            os.link(new, path)
        except FileExistsError:
            refuse_existing(store, series)
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            refuse_existing(store, series)
            return True
        sync_folder(path.parent)
        return False

    try:
        with store.locked(series):
            write_whole(path, pieces, accept)
    except StoreUnwritable:
        raise
    except OSError as error:
        raise unwritable(path, error, TRY_AGAIN) from error
