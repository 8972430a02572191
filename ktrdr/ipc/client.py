"""Asks another program of the group over HTTP, at its Unix socket."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from ktrdr import errors
from ktrdr.ipc.codec import from_text, read_json
from ktrdr.ipc.error_codec import error_of
from ktrdr.ipc.messages import ErrorMessage, Json
from ktrdr.ipc.query import expect_text
from ktrdr.unix_http import HTTP_ERRORS, UnixConnection

T = TypeVar("T")


class LocalClient:
    """Asks another program of the group at its socket. Thread-safe; a connection per question."""

    def __init__(self, path: Path, program: str) -> None:
        self._path = path
        self._program = program
        self._open: set[UnixConnection] = set()
        self._aborted = False
        self._lock = threading.Lock()

    def abort(self) -> None:
        """Break off all questions, also those to come: each raises PeerDown."""
        with self._lock:
            self._aborted = True
            for connection in self._open:
                connection.abort()

    def get(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `GET path?parameters`.

        PeerDown when nobody answers there in time; InvalidRequest when a parameter is no text;
        otherwise the peer's own error, as it was raised over there.
        """
        return self._ask("GET", path, timeout_s, parameters)

    def post(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `POST path?parameters`. Raises as `get` does."""
        return self._ask("POST", path, timeout_s, parameters)

    def delete(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `DELETE path?parameters`. Raises as `get` does."""
        return self._ask("DELETE", path, timeout_s, parameters)

    def ask(
        self, shape: type[T], method: str, path: str, timeout_s: float = 5.0, **parameters: str
    ) -> T:
        """The answer to `METHOD path?parameters` as the message that it is.

        Raises as `get` does; PeerDown also where the answer is not of this shape.
        """
        body = self._ask_text(method, path, timeout_s, parameters)
        try:
            return from_text(shape, body)
        except errors.InvalidRequest as error:
            self._read(body)  # which says so where it is no JSON at all
            raise self.unreadable(error.message) from error

    def text(self, path: str, timeout_s: float = 5.0, **parameters: str) -> bytes:
        """The answer as it came, for `from_text`: a large one is better read late. As `get`."""
        return self._ask_text("GET", path, timeout_s, parameters)

    def _ask(self, method: str, path: str, timeout_s: float, parameters: Mapping[str, str]) -> Json:
        return self._read(self._ask_text(method, path, timeout_s, parameters))

    def _read(self, body: bytes) -> Json:
        try:
            return read_json(body)
        except errors.InvalidRequest as error:
            raise self._down("answers in a format that this version does not understand") from error

    def _ask_text(
        self, method: str, path: str, timeout_s: float, parameters: Mapping[str, str]
    ) -> bytes:
        expect_text(parameters)
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        connection = UnixConnection(self._path, timeout_s)
        with self._lock:
            if self._aborted:
                raise self._down("is no longer contacted")
            self._open.add(connection)
        try:
            connection.connect()
            if self._aborted:  # before there was anything to shut down
                raise self._down("is no longer contacted")
            connection.request(method, target)
            response = connection.getresponse()
            body = response.read()
        except TimeoutError as error:
            late = self._down(f"did not answer within {timeout_s:g} s")
            raise errors.PeerTimedOut(late.message, hint=late.hint) from error
        except HTTP_ERRORS as error:
            raise self._down("is not running") from error
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()
        if response.status >= 400:
            raise self._refusal(response.status, body)
        return body

    def _refusal(self, status: int, body: bytes) -> errors.KtrdrError:
        """The peer's own error, as it was raised over there."""
        try:
            said = from_text(ErrorMessage, body)
        except errors.InvalidRequest:
            return self._down("answers in a format that this version does not understand")
        return error_of(said, f"HTTP {status}")

    def unreadable(self, why: str) -> errors.PeerDown:
        """What to raise where an answer of the peer makes no sense."""
        return errors.PeerDown(
            f"{self._program} gave an answer that cannot be read ({why})",
            hint=f".venv/bin/supervisorctl restart {self._program}",
        )

    def _down(self, how: str) -> errors.PeerDown:
        hint = f".venv/bin/supervisorctl status {self._program}; where nothing runs, ./scripts/up"
        return errors.PeerDown(f"{self._program} {how} ({self._path.name})", hint=hint)
