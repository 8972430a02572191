"""The exit codes of all commands: one table, also in docs/cli.md."""

from __future__ import annotations

from enum import IntEnum

from ktrdr.errors import (
    InvalidRequest,
    KtrdrError,
    Misconfigured,
    PeerDown,
    UnknownFill,
    UnknownSeries,
)


class ExitCode(IntEnum):
    """How a command ended; of several the highest counts. `ktrdr ctl` has supervisorctl's codes."""

    GREEN = 0
    """It is done, or all is well."""
    NOT_GREEN = 1
    """Something is not well, or was refused, and what was printed says what."""
    USAGE = 2
    """A word, an option, a value or a setting is wrong, or names what there is none of."""
    DOWN = 3
    """A program that is needed does not answer."""
    INTERRUPTED = 130
    """Ctrl-C."""


_CODES: tuple[tuple[type[KtrdrError], ExitCode], ...] = (
    (PeerDown, ExitCode.DOWN),
    (InvalidRequest, ExitCode.USAGE),
    (UnknownSeries, ExitCode.USAGE),
    (UnknownFill, ExitCode.USAGE),
    (Misconfigured, ExitCode.USAGE),
)


def code_of(error: KtrdrError) -> ExitCode:
    """The exit code of a command that ends with this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.NOT_GREEN)
