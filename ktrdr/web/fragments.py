"""The live part of each page, rendered once for all who look at it.

A client that has the newest one is told so in a few bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from flask import Response, request

from ktrdr.health.latest import Latest

Key = TypeVar("Key", bound=Hashable)

FRESH_S = 1.0
"""A fragment is at most this old, and what it shows a little older."""
_KEPT = 64
"""Fragments in memory: pages, and their filters that are in use."""


@dataclass(frozen=True)
class Fragment:
    """A part of a page, or JSON that pages request, and a tag that changes with it."""

    html: str
    tag: str
    compressed: bytes

    @classmethod
    def of(cls, html: str, before: Fragment | None = None) -> Fragment:
        """The fragment with this HTML: the one before if nothing has changed."""
        if before is not None and before.html == html:
            return before
        content = html.encode()
        tag = hashlib.blake2b(content, digest_size=12).hexdigest()
        return cls(html, tag, gzip.compress(content, 6, mtime=0))

    @property
    def etag(self) -> str:
        """The tag as it stands in the headers of requests and answers."""
        return f'W/"{self.tag}"'

    def response(self, mimetype: str = "text/html") -> Response:
        """Its answer to this request: 304 if the client has it, else compressed if it may be."""
        response = Response(mimetype=mimetype)
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = "no-cache"
        response.set_etag(self.tag, weak=True)
        given = request.if_none_match
        if given.contains_weak(self.tag) or given.star_tag:
            response.status_code = 304
            del response.headers["Content-Type"]
        elif request.accept_encodings.quality("gzip") > 0:
            response.headers["Content-Encoding"] = "gzip"
            response.set_data(self.compressed)
        else:
            response.set_data(self.html)
        return response


class Fragments(Generic[Key]):
    """The newest fragment for each key, rendered again when it is too old. Thread-safe."""

    def __init__(self, render: Callable[[Key], str]) -> None:
        self._render = render
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, Latest[Fragment]] = OrderedDict()

    def get(self, key: Key) -> Fragment:
        """The fragment. Raises what rendering it raises."""
        with self._lock:
            latest = self._held.get(key) or self._new(key)
            self._held.move_to_end(key)
            while len(self._held) > _KEPT:
                self._held.popitem(last=False)
        return latest.get()

    def forget(self) -> None:
        """Have all rendered anew: something was changed."""
        with self._lock:
            for latest in self._held.values():
                latest.forget()

    def _new(self, key: Key) -> Latest[Fragment]:
        before: list[Fragment] = []

        def render() -> Fragment:
            before[:] = [Fragment.of(self._render(key), *before)]
            return before[0]

        self._held[key] = Latest(render, FRESH_S)
        return self._held[key]
