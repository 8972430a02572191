"""Reads a store's `instruments.toml`. Checks none of its entries."""

from __future__ import annotations

import stat
from pathlib import Path

from ktrdr.errors import Misconfigured
from ktrdr.market.instruments import read_tables
from ktrdr.store.file_errors import hint_for

INSTRUMENTS = "instruments.toml"


def tables_of(folder: Path) -> dict[str, object]:
    """The tables of a store's `instruments.toml`, unchecked; none if there is no such file.

    Misconfigured: it cannot be read, or is not TOML. A dangling link is not the same as no file:
    without their entries symbols stand for other contracts.
    """
    path = folder / INSTRUMENTS
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would never end
            raise Misconfigured(f"{path} is not a regular file", hint="move it away")
        return read_tables(path.read_text("utf-8-sig"), path.name)
    except FileNotFoundError:
        if not path.is_symlink():
            return {}
        raise Misconfigured(
            f"{path} is a link to {str(path.readlink())!r}, which is not there",
            hint=f"put a file there, or remove the link {path}",
        ) from None
    except OSError as error:
        unreadable = f"{path} cannot be read: {error.strerror or error}"
        raise Misconfigured(unreadable, hint=hint_for(error)) from error
    except UnicodeDecodeError as error:
        hint = "write it as UTF-8, or move it away"
        raise Misconfigured(f"{path} cannot be read: {error}", hint=hint) from error
