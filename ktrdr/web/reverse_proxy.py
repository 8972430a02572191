"""Behind a reverse proxy: whom it forwards, and under which path the page is there.

Werkzeug reads the headers. Which connections they are believed of is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flask import Flask, abort, request
from werkzeug.middleware.proxy_fix import ProxyFix

from ktrdr.addresses import plain_address, split_site
from ktrdr.config.callers import Network, may_connect, parse_callers
from ktrdr.config.settings import Settings
from ktrdr.web.page_access import own_networks

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_FORWARDED = (
    *("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT"),
    *("HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_PROTO"),
)
_IS_FORWARDED = "ktrdr.is_forwarded"
_PREFIX = re.compile(r"(?:/(?!\.+(?:/|$))[A-Za-z0-9._~-]+)+")
_NOWHERE = "::"
"""The address of ours that a forwarded client has reached: none."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def stand_behind_proxies(app: Flask, settings: Settings) -> None:
    """Have the app see the client that a trusted proxy forwards; refuse what is not well-formed.

    With KTRDR_STATUS_CALLERS, a client that it does not name is refused (403).
    """
    wsgi_app = app.wsgi_app
    app.wsgi_app = _BehindProxies(wsgi_app, settings)  # type: ignore[method-assign]
    named = settings.ktrdr_status_callers
    callers = parse_callers(named) if named else None

    @app.before_request
    def _check() -> None:
        if not request.environ.get(_IS_FORWARDED):
            return
        client = request.remote_addr or ""
        if request.scheme not in ("http", "https"):
            abort(400, f"X-Forwarded-Proto {request.scheme!r}: expected http or https")
        if request.script_root and not _PREFIX.fullmatch(request.script_root):
            abort(400, f"X-Forwarded-Prefix {request.script_root!r}: expected a path: /ktrdr")
        try:
            plain_address(client)
        except ValueError:
            abort(400, f"X-Forwarded-For {client!r}: expected an address")
        own = own_networks() if callers and callers.with_own else []
        if callers and not may_connect(callers, client, _NOWHERE, own):
            abort(403, f"{client} is not in KTRDR_STATUS_CALLERS")


def prefix_of(path: str, host: str, sites: Sequence[str]) -> str:
    """The path under which the page is for a request, by its own URLs; empty: the root.

    It is that of the URL with the request's host, or one with which the request's path begins, as
    from a proxy that passes neither the host nor a shortened path on.
    """
    paths = [split_site(site) for site in sites]
    own = [prefix for origin, prefix in paths if _is_host(host, origin)]
    begin = [prefix for _, prefix in paths if prefix and _is_below(path, prefix)]
    return next(iter([*own[:1], *begin]), "")


def below(path: str, prefix: str) -> str:
    """The path without the prefix; a proxy may have removed it before."""
    return path[len(prefix) :] or "/" if prefix and _is_below(path, prefix) else path


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _is_host(host: str, origin: str) -> bool:
    scheme, _, place = origin.partition("://")
    return host.lower().removesuffix(_DEFAULT_PORTS[scheme]) == place


def _is_from(address: str, networks: Iterable[Network]) -> bool:
    try:
        client = plain_address(address)
    except ValueError:
        return False
    return any(client in network for network in networks)


class _BehindProxies:
    """The application for requests as the clients have sent them, on whose way proxies may be."""

    def __init__(self, app: WSGIApplication, settings: Settings) -> None:
        self._app = app
        self._proxies, self._sites = settings.status_proxies, settings.status_urls
        self._forwarded = ProxyFix(self._below_prefix, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if not _is_from(environ.get("REMOTE_ADDR", ""), self._proxies):
            for name in _FORWARDED:
                environ.pop(name, None)
            return self._below_prefix(environ, start_response)
        environ[_IS_FORWARDED] = any(name in environ for name in _FORWARDED)
        return self._forwarded(environ, start_response)

    def _below_prefix(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        given = environ.get("SCRIPT_NAME", "").rstrip("/")
        prefix = given or prefix_of(path, environ.get("HTTP_HOST", ""), self._sites)
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = prefix, below(path, prefix)
        return self._app(environ, start_response)
