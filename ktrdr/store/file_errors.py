"""Turns errors of the file system into ktrdr errors with a hint what to do. Opens no file."""

from __future__ import annotations

import errno

from ktrdr.errors import StoreUnwritable

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

_HINTS = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space, or have the quota raised",
    errno.EROFS: "mount its disk so that it can be written to",
    errno.EACCES: "let the user that runs the programs read and write it (chown, chmod)",
    errno.EPERM: "let the user that runs the programs read and write it (chown, chmod, chattr)",
    errno.ELOOP: "it is a link that leads back to itself: remove it",
    errno.ENOTDIR: "it leads through a file as if that were a folder: remove it",
    errno.EIO: "see whether its disk is sound (dmesg)",
    errno.ESTALE: "mount the file system that it is on again",
    errno.ENOTCONN: "mount the file system that it is on again",
    errno.ENOLCK: "keep the store on a file system that has locks",
    errno.EOPNOTSUPP: "keep the store on a file system that has locks",
    errno.EMFILE: "let the programs have more open files (ulimit -n)",
    errno.ENFILE: "let the machine have more open files (sysctl fs.file-max)",
}
BY_ITSELF, TRY_AGAIN = "it goes on by itself then", "then try again"
"""What comes after the disk has room again: for bars, and for what a person has requested."""
_HINT = "see whether it can be read and written by hand; it is tried again"


def is_of_the_disk(error: OSError) -> bool:
    """The disk is full or read-only, which concerns every file on it."""
    return error.errno in _OF_THE_DISK


def hint_for(error: OSError, then: str = BY_ITSELF) -> str:
    """What a person can do about the error; never empty."""
    hint = _HINTS.get(error.errno or 0, _HINT)
    return f"{hint}; {then}" if is_of_the_disk(error) else hint


def unwritable(what: object, error: OSError, then: str = BY_ITSELF) -> StoreUnwritable:
    """The file system refused `what`, such as a file's name or path."""
    return StoreUnwritable(f"{what}: {error.strerror or error}", hint=hint_for(error, then))
