"""The client of another program of the group: HTTP over its Unix socket. Retries nothing."""

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
from ktrdr.ipc.text import expect_text
from ktrdr.unix_http import HTTP_ERRORS, UnixConnection

T = TypeVar("T")


class LocalClient:
    """Sends requests to one program. Thread-safe; each request has a connection of its own."""

    def __init__(self, path: Path, program: str) -> None:
        self._path = path
        self._program = program
        self._open: set[UnixConnection] = set()
        self._aborted = False
        self._lock = threading.Lock()

    def abort(self) -> None:
        """End all requests, also those to come: each raises PeerDown."""
        with self._lock:
            self._aborted = True
            for connection in self._open:
                connection.abort()

    def get(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `GET path?parameters`.

        PeerDown: no answer came in time. InvalidRequest: a parameter is not valid text. Otherwise
        the error that the other program raised.
        """
        return self._read(self._send("GET", path, timeout_s, parameters))

    def post(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `POST path?parameters`. Raises as `get` does."""
        return self._read(self._send("POST", path, timeout_s, parameters))

    def delete(self, path: str, timeout_s: float = 5.0, **parameters: str) -> Json:
        """The JSON answer to `DELETE path?parameters`. Raises as `get` does."""
        return self._read(self._send("DELETE", path, timeout_s, parameters))

    def request(
        self, shape: type[T], method: str, path: str, timeout_s: float = 5.0, **parameters: str
    ) -> T:
        """The answer to `METHOD path?parameters` as a message.

        Raises as `get` does; PeerDown also where the answer does not have this shape.
        """
        body = self._send(method, path, timeout_s, parameters)
        try:
            return from_text(shape, body)
        except errors.InvalidRequest as error:
            self._read(body)  # raises if it is not even JSON
            raise self.unreadable(error.message) from error

    def text(self, path: str, timeout_s: float = 5.0, **parameters: str) -> bytes:
        """The answer unparsed, for `from_text`: a large one is better parsed late. As `get`."""
        return self._send("GET", path, timeout_s, parameters)

    def _read(self, body: bytes) -> Json:
        try:
            return read_json(body)
        except errors.InvalidRequest as error:
            raise self._down("answers in a format that this version does not understand") from error

    def _send(
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
            if self._aborted:  # before its socket existed
                raise self._down("is no longer contacted")
            connection.request(method, target)
            response = connection.getresponse()
            body = response.read()
        except TimeoutError as error:
            raise errors.PeerTimedOut(
                f"{self._program} did not answer within {timeout_s:g} s ({self._path.name})",
                hint=f".venv/bin/supervisorctl restart {self._program}",
            ) from error
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
        """The error that the other program raised."""
        try:
            message = from_text(ErrorMessage, body)
        except errors.InvalidRequest:
            return self._down("answers in a format that this version does not understand")
        return error_of(message, f"HTTP {status}")

    def unreadable(self, why: str) -> errors.PeerDown:
        """The error for an answer that cannot be read."""
        return errors.PeerDown(
            f"{self._program} gave an answer that cannot be read ({why})",
            hint=f".venv/bin/supervisorctl restart {self._program}",
        )

    def _down(self, how: str) -> errors.PeerDown:
        hint = f".venv/bin/supervisorctl status {self._program}; where nothing runs, ./scripts/up"
        return errors.PeerDown(f"{self._program} {how} ({self._path.name})", hint=hint)
