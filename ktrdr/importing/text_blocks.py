"""Reads a text file of any encoding or compression as blocks of whole lines. Parses none of them.

So much of the file is in memory as one block has, however large it is.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from ktrdr.errors import InvalidRequest, MalformedFile
from ktrdr.importing.rows import Block
from ktrdr.store.file_advice import other_format
from ktrdr.store.file_errors import hint_for
from ktrdr.store.file_key import FileKey, key_of

_BLOCK_BYTES = 2 * 1024 * 1024
_LINE_BYTES = 64 * 1024
"""Longer lines have no bars."""
(_NEWLINE,) = b"\n"
_UTF8_BOM = codecs.BOM_UTF8
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_DAMAGED = (
    EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError,
)  # fmt: skip
_OF_MACOS = re.compile(r"(?:^|/)(?:__MACOSX/|\._|\.DS_Store$)")
"""What macOS adds to the files in an archive."""
_CR_ALONE = re.compile(rb"\r(?![\r\n])")
"""The line end of old Macs."""


class Source(NamedTuple):
    """A file as it was before it was read."""

    path: Path
    key: FileKey
    sha256: str
    """Of its bytes as they are, compressed or not."""

    @property
    def is_unchanged(self) -> bool:
        """Nobody has written to it since."""
        return key_of(self.path.stat()) == self.key


def key_at(path: Path) -> FileKey:
    """The key of the file at this path. InvalidRequest: there is none, or it cannot be read."""
    with _named(path), _opened_plain(path) as file:
        return key_of(os.fstat(file.fileno()))


def sha256_of(path: Path) -> str:
    """The checksum of a file. InvalidRequest: there is none, or it cannot be read."""
    with _named(path), _opened_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blocks(path: Path, progress: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
    """The lines of a file. `progress`: is given how many of its bytes have been read.

    MalformedFile: it is damaged, or no text. InvalidRequest: it cannot be read.
    """
    line = 1
    try:
        with _named(path), _opened_plain(path) as file:
            for raw in _whole_lines(path.name, _decoded(path.name, _unpacked(path.name, file))):
                progress(file.tell())
                yield Block(line, raw)
                line += int(np.count_nonzero(np.frombuffer(raw, np.uint8) == _NEWLINE))
    except _DAMAGED as error:
        what = f"{path.name}: it cannot be decompressed: {error}"
        raise MalformedFile(what, hint="fetch the file again, or decompress it by hand") from None
    except RuntimeError as error:  # zipfile: it is encrypted
        raise MalformedFile(f"{path.name}: {error}", hint="decompress it by hand") from None


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        hint = "give the path of a file or folder"
        raise InvalidRequest(f"{path}: there is no such file", hint=hint) from None
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror or error}", hint=hint_for(error)) from error


def _opened_plain(path: Path) -> io.BufferedReader:
    """Links are followed. Not a pipe, whose reading might never end."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InvalidRequest(f"{path}: it is no regular file", hint="give the path of a file")
    return file


def _unpacked(name: str, file: IO[bytes]) -> IO[bytes]:
    begin = file.read(len(_ZIP))
    file.seek(0)
    if begin.startswith(_GZIP):
        return cast("IO[bytes]", gzip.open(file))
    if not begin.startswith(_ZIP):
        return file
    archive = zipfile.ZipFile(file)
    files = [one for one in archive.infolist() if not one.is_dir()]
    members = [one for one in files if not _OF_MACOS.search(one.filename)]
    if len(members) != 1 or members[0].filename.startswith(("[Content_Types]", "mimetype")):
        hint = "decompress it, and import the files; of a spreadsheet write the table as CSV"
        raise MalformedFile(f"{name}: it holds {len(members)} files, expected one", hint=hint)
    return archive.open(members[0])


def _decoded(name: str, file: IO[bytes]) -> Iterator[bytes]:
    """Its bytes in UTF-8, with line ends that have a newline."""
    raw = file.read(_BLOCK_BYTES)
    if raw.startswith(_UTF16_BOMS):
        decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        while raw:
            yield _with_newlines(decoder.decode(raw).encode(errors="replace"))
            raw = file.read(_BLOCK_BYTES)
        return
    if advice := other_format(raw[:_LINE_BYTES]):
        raise MalformedFile(f"{name}: {advice.partition(':')[0]}", hint=advice)
    if b"\0" in raw:
        hint = "restore it, or save it as UTF-8"
        raise MalformedFile(f"{name}: it has zero bytes, and is no text", hint=hint)
    raw = raw.removeprefix(_UTF8_BOM)
    while raw:
        if raw.endswith(b"\r"):
            raw += file.read(1)
        yield _with_newlines(raw)
        raw = file.read(_BLOCK_BYTES)


def _with_newlines(raw: bytes) -> bytes:
    """The text with a newline at the end of each line, also where a file has several kinds."""
    is_plain = b"\r" not in raw or raw.count(b"\r") == raw.count(b"\r\n")
    return raw if is_plain else _CR_ALONE.sub(b"\n", raw)


def _whole_lines(name: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        whole = piece.rfind(b"\n") + 1
        if whole:
            yield rest + piece[:whole]
            rest = b""
        rest += piece[whole:]
        if len(rest) > _BLOCK_BYTES + _LINE_BYTES:
            hint = "import a text file with a row on each line"
            raise MalformedFile(f"{name}: it has no lines", hint=hint)
    if rest:
        yield rest + b"\n"
