"""The guard of the page: checks Host, Origin and token, and sets the security headers.

It replaces Flask's TRUSTED_HOSTS, which refuses `[::1]` even when it is listed.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from flask import Flask, Response, abort, request
from werkzeug.exceptions import TooManyRequests

from ktrdr.addresses import split_site
from ktrdr.config.settings import Settings
from ktrdr.web.guesses import Guesses

_ALWAYS = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?", re.IGNORECASE)
_FOR_ALL = ("/healthz", "/livez")
"""Paths that need no token: probes have none, and the answers reveal nothing."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OUR_OWN_SITES = frozenset({"same-origin", "none"})

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # `no-referrer` would turn our own forms' Origin into null
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def protect(app: Flask, settings: Settings) -> None:
    """Check each request first, and refuse it if the page is not for it.

    That is: a foreign host (400), another site's writing request (403), and where a token is set,
    a request without it (401), or after too many wrong ones (429).
    """
    urls, token = [split_site(url)[0] for url in settings.status_urls], settings.status_token
    trusted = trusted_hosts(settings.ktrdr_status_host, urls)
    everywhere = _is_everywhere(settings.ktrdr_status_host)
    guesses = Guesses()

    @app.before_request
    def _refuse() -> None:
        host = request.headers.get("Host", "")
        name = host_name(host)
        if name not in trusted and not (everywhere and _is_address(name)):
            abort(
                400, f"Host {host!r} is not one of this page's names: {', '.join(sorted(trusted))}"
            )
        origin, fetch_site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        is_writing = request.method not in _SAFE_METHODS
        if is_writing and is_foreign(host, origin, fetch_site, urls, request.scheme):
            abort(403, "this request comes from another site")
        needs_token = token and request.path not in _FOR_ALL
        if needs_token:
            _expect_token(token, guesses)

    @app.after_request
    def _restrict(response: Response) -> Response:
        if response.status_code == 304:  # the client has the answer, and these headers with it
            return response
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if response.status_code == 401:  # browsers ask for a user and a password
            response.headers["WWW-Authenticate"] = 'Basic realm="ktrdr"'
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _expect_token(token: str, guesses: Guesses) -> None:
    authorization, client = request.headers.get("Authorization", ""), request.remote_addr or ""
    if authorization:
        if is_token(authorization, token):  # even if others at its address guess, as behind a proxy
            return
        now = time.monotonic()
        if wait_s := guesses.wait_s(client, now):
            why = f"too many wrong tokens from {client}"
            raise TooManyRequests(why, retry_after=math.ceil(wait_s))
        guesses.note(client, authorization, now)
    abort(401, "send KTRDR_STATUS_TOKEN as a bearer token, or as the password of any user")


def is_token(authorization: str, token: str) -> bool:
    """Whether a header has the token: `Bearer TOKEN`, or `Basic` with it as the password."""
    scheme, _, credentials = authorization.partition(" ")
    given = credentials.strip().encode(errors="replace")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given, token.encode())


def trusted_hosts(status_host: str, urls: Sequence[str] = ()) -> frozenset[str]:
    """Host names that a browser may use: this machine's, the one listened on, those of `urls`."""
    own = set() if _is_everywhere(status_host) else {_without_zone(status_host)}
    return _ALWAYS | _names(urls) | own


def host_name(host: str) -> str:
    """The name in a Host header, without the port; `::1` for `[::1]:8000`.

    Empty: it is not valid, such as `localhost:80@evil`, `[::1]evil` or `localhost:99999`.
    """
    found = _HOST.fullmatch(host)
    if not found or (found[3] is not None and not 1 <= int(found[3]) <= 65535):
        return ""
    if found[2] is not None:
        return found[2].lower()
    try:
        return str(IPv6Address(found[1]))
    except ValueError:
        return ""


def is_foreign(
    host: str,
    origin: str | None,
    fetch_site: str | None,
    urls: Sequence[str] = (),
    scheme: str = "http",
) -> bool:
    """True if a browser declares that another site makes the request; curl declares nothing.

    Requests under one of the page's own names must come from exactly these origins (`urls`): the
    same name without TLS may be another site. `scheme`: ours, or that of a trusted proxy.
    """
    if fetch_site is not None and fetch_site not in _OUR_OWN_SITES:
        return True
    if origin is None or origin.lower() in urls:
        return False
    is_named = host_name(host) in _names(urls) - _ALWAYS
    return is_named or origin.lower() != f"{scheme}://{host.lower()}"


def _names(urls: Sequence[str]) -> set[str]:
    return {host_name(url.partition("://")[2]) for url in urls}


def _without_zone(status_host: str) -> str:
    """The name in a browser's Host header, which has no zone."""
    host = status_host.partition("%")[0]
    return host_name(f"[{host}]" if ":" in host else host)


def _is_address(name: str) -> bool:
    """True for an address: another site can point a name of its own here, but not an address."""
    try:
        return not ip_address(name).is_unspecified
    except ValueError:
        return False


def _is_everywhere(status_host: str) -> bool:
    try:
        return ip_address(status_host).is_unspecified
    except ValueError:
        return False
