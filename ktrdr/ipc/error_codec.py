"""Errors as messages between our programs, and back. Their HTTP status is in `errors`."""

from __future__ import annotations

from collections.abc import Iterator

from ktrdr import errors
from ktrdr.ipc.messages import ErrorMessage


def _tree(kind: type[errors.KtrdrError]) -> Iterator[type[errors.KtrdrError]]:
    """An error and all derived from it that are defined in `ktrdr.errors`."""
    if kind.__module__ == errors.__name__:
        yield kind
    for derived in kind.__subclasses__():
        yield from _tree(derived)


_BY_NAME = {kind.__name__: kind for kind in _tree(errors.KtrdrError)}
_BY_OUTCOME = {kind.outcome: kind for kind in reversed(_BY_NAME.values())} | {
    errors.RequestFailed.outcome: errors.RequestFailed
}
"""Of several errors with one outcome the most general; for `failed` it is RequestFailed."""


def error_of(received: ErrorMessage, otherwise: str) -> errors.KtrdrError:
    """The inverse of `error_message`.

    An unknown kind of error, of another version, becomes one with the same outcome if there is
    one. `otherwise`: the message where it has none.
    """
    by_outcome = _BY_OUTCOME.get(received.outcome or "", errors.RequestFailed)
    kind = _BY_NAME.get(received.kind or "", by_outcome)
    message = otherwise if received.message is None else received.message
    return kind(message, code=received.code, hint=received.hint or "")


def error_message(error: errors.KtrdrError) -> ErrorMessage:
    """An error as a message: its kind, outcome, text, IB's code and the next step."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return ErrorMessage(
        kind=next(name for name in kinds if name in _BY_NAME),
        outcome=error.outcome,
        message=error.message,
        code=error.code,
        hint=error.hint,
    )
