"""Answers that a client has already: a tag for each, 304 without a change, and compression.

What renders its answers once for all clients (`fragments`) sets its tag itself.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator

from flask import Flask, Response, request

COMPRESSED_FROM = 500
"""Bytes; below, the headers of compression cost as much as it saves."""
_LEVEL = 6
_STREAM_LEVEL = 1
"""Of what is sent while it is made: the client should wait for the bars, not for us."""
_TEXTS = ("text/", "application/json", "application/openmetrics-text", "image/svg+xml")
_EVENTS = "text/event-stream"
"""It comes bit by bit over hours: packed, an event would wait for others."""
_GZIP = 31
"""zlib's number for gzip's format with the largest window."""
_OF_CONTENT = ("Content-Type", "Content-Length", "Content-Disposition")


def validate_answers(app: Flask) -> None:
    """Give whole answers a tag, and compress texts for those who accept that."""

    @app.after_request
    def _validate(response: Response) -> Response:
        if request.method in ("GET", "HEAD") and response.status_code == 304:
            response.vary.add("Accept-Encoding")
        if request.method not in ("GET", "HEAD") or response.status_code != 200:
            return response
        if response.is_streamed:
            return _compressed_stream(response) if _may_compress(response) else response
        if response.get_etag()[0] is None and not response.cache_control.no_store:
            _set_tag(response, hashlib.blake2b(response.get_data(), digest_size=12).hexdigest())
        if response.status_code == 200 and _may_compress(response):
            data = response.get_data()
            if len(data) >= COMPRESSED_FROM:
                response.set_data(gzip.compress(data, _LEVEL, mtime=0))
                response.headers["Content-Encoding"] = "gzip"
        return response


def _set_tag(response: Response, tag: str) -> None:
    """The answer with this tag: 304 if the client has it. It is weak: one for all encodings."""
    given = request.if_none_match
    response.set_etag(tag, weak=True)
    response.headers.setdefault("Cache-Control", "no-cache")
    if given.contains_weak(tag) or given.star_tag:
        response.status_code = 304
        response.vary.add("Accept-Encoding")
        for name in _OF_CONTENT:
            response.headers.pop(name, None)


def _may_compress(response: Response) -> bool:
    """Whether it is a text that the client accepts compressed. Notes that this was looked at."""
    mimetype = response.mimetype or ""
    if (
        not mimetype.startswith(_TEXTS)
        or mimetype == _EVENTS
        or "Content-Encoding" in response.headers
    ):
        return False
    response.vary.add("Accept-Encoding")
    return request.accept_encodings.quality("gzip") > 0


def _compressed_stream(response: Response) -> Response:
    """The same answer, compressed as it comes."""
    response.headers["Content-Encoding"] = "gzip"
    response.headers.pop("Content-Length", None)
    if request.method == "GET":
        response.call_on_close(getattr(response.response, "close", lambda: None))
        response.response = _compress(response.iter_encoded())
    return response


def _compress(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(_STREAM_LEVEL, wbits=_GZIP)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()
