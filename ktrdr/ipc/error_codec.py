"""Our errors as messages, and the error again that was meant. Speaks to nobody."""

from __future__ import annotations

from collections.abc import Iterator

from ktrdr import errors
from ktrdr.ipc.messages import ErrorMessage


def _tree(kind: type[errors.KtrdrError]) -> Iterator[type[errors.KtrdrError]]:
    """An error and all that are derived from it, as far as they are everybody's."""
    if kind.__module__ == errors.__name__:
        yield kind
    for derived in kind.__subclasses__():
        yield from _tree(derived)


_BY_NAME = {kind.__name__: kind for kind in _tree(errors.KtrdrError)}
_BY_OUTCOME = {kind.outcome: kind for kind in reversed(_BY_NAME.values())} | {
    errors.RequestFailed.outcome: errors.RequestFailed
}
"""Of errors with one outcome the most general one, but of those that simply failed."""


def error_of(said: ErrorMessage, otherwise: str) -> errors.KtrdrError:
    """The error that was meant by `error_message`, as it was raised over there.

    One of a version that is not ours: of the same outcome, if there is such a one. `otherwise` is
    its message where it brings none.
    """
    by_outcome = _BY_OUTCOME.get(said.outcome or "", errors.RequestFailed)
    kind = _BY_NAME.get(said.kind or "", by_outcome)
    message = otherwise if said.message is None else said.message
    return kind(message, code=said.code, hint=said.hint or "")


def error_message(error: errors.KtrdrError) -> ErrorMessage:
    """An error as values: its kind, its outcome, its words, IB's code and what to do."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return ErrorMessage(
        kind=next(name for name in kinds if name in _BY_NAME),
        outcome=error.outcome,
        message=error.message,
        code=error.code,
        hint=error.hint,
    )
