"""The check that parameters of a query are text. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping

from ktrdr.errors import InvalidRequest
from ktrdr.escapes import visible


def expect_text(query: Mapping[str, str]) -> None:
    """InvalidRequest: a parameter is not valid text, such as bytes of another encoding."""
    for name, value in query.items():
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{visible(name)}={visible(value)}: not UTF-8") from None
