"""The page's own files: styles, scripts and icons, at addresses that change with their content."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, request, url_for

_FOLDER = Path(__file__).parent / "static"
_TEXTS = ("text/", "application/json", "image/svg+xml")
_FOR_EVER = "public, max-age=31536000, immutable"
_CHECK_FIRST = "no-cache"
_NOTHING_FOR_ROBOTS = "User-agent: *\nDisallow: /\n"


@dataclass(frozen=True)
class Asset:
    """One file, in memory."""

    content: bytes
    compressed: bytes
    """With gzip; empty: that would not help."""
    mimetype: str
    digest: str
    """The first characters of its SHA-256."""


def read_assets(folder: Path = _FOLDER) -> Mapping[str, Asset]:
    """All files of a folder, by their name in it: `vendor/htmx.js`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): _read(path) for path in files}


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    mimetype = mimetypes.guess_type(path.name)[0] or "text/plain"
    is_text = mimetype.startswith(_TEXTS)
    compressed = gzip.compress(content, mtime=0) if is_text else b""
    return Asset(content, compressed, mimetype, hashlib.sha256(content).hexdigest()[:16])


def serve_assets(app: Flask) -> None:
    """Serve the files below `/static/`, and give templates `asset_url`.

    A browser keeps a file for ever under the address of `asset_url`, which has its digest.
    """
    assets = read_assets()
    static = Blueprint("assets", __name__)

    @static.get("/static/<path:name>")
    def asset(name: str) -> Response:
        found = assets.get(name) or abort(404)
        is_compressed = bool(found.compressed) and request.accept_encodings.quality("gzip") > 0
        content = found.compressed if is_compressed else found.content
        response = Response(content, mimetype=found.mimetype)
        if is_compressed:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        is_current = request.args.get("v") == found.digest
        response.headers["Cache-Control"] = _FOR_EVER if is_current else _CHECK_FIRST
        response.set_etag(f"{found.digest}-gzip" if is_compressed else found.digest)
        response.make_conditional(request)
        return response

    @static.get("/favicon.ico")
    def favicon() -> Response:
        """For what a browser shows without a link to an icon, such as JSON."""
        return asset("icons/idle.svg")

    @static.get("/robots.txt")
    def robots() -> Response:
        return Response(_NOTHING_FOR_ROBOTS, mimetype="text/plain")

    @app.template_global()
    def asset_url(name: str) -> str:
        return url_for("assets.asset", name=name, v=assets[name].digest)

    app.register_blueprint(static)
