"""Who may ask: decides on Host, Origin and Sec-Fetch-Site, and says what a browser may do.

It stands in for Flask's TRUSTED_HOSTS, which refuses `[::1]` even when it is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from flask import Flask, Response, abort, request

_ALWAYS = frozenset({"localhost", "127.0.0.1", "::1"})
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


def protect(app: Flask, status_host: str) -> None:
    """Refuse foreign hosts (400) and other sites' writing requests (403), before anything else."""
    trusted = trusted_hosts(status_host)
    everywhere = _is_everywhere(status_host)

    @app.before_request
    def _refuse() -> None:
        host = request.headers.get("Host", "")
        name = host_name(host)
        if name not in trusted and not (everywhere and _is_address(name)):
            abort(400, f"Host {host!r} is none of ours: {', '.join(sorted(trusted))}")
        if request.method not in _SAFE_METHODS and is_foreign(
            host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        ):
            abort(403, "this request comes from another site")

    @app.after_request
    def _restrict(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def trusted_hosts(status_host: str) -> frozenset[str]:
    """Names under which a browser may know us: this machine's, and the one we are bound to."""
    return _ALWAYS if _is_everywhere(status_host) else _ALWAYS | {status_host.lower()}


def host_name(host: str) -> str:
    """The name in a Host header, without the port; `::1` for `[::1]:8000`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def is_foreign(host: str, origin: str | None, fetch_site: str | None) -> bool:
    """True when a browser says that another site makes the request; curl says nothing."""
    if fetch_site is not None and fetch_site not in _OUR_OWN_SITES:
        return True
    return origin is not None and origin.lower() != f"http://{host.lower()}"


def _is_address(name: str) -> bool:
    """True for an address: a page elsewhere can make a name lead here, but not an address."""
    try:
        return not ip_address(name).is_unspecified
    except ValueError:
        return False


def _is_everywhere(status_host: str) -> bool:
    try:
        return ip_address(status_host).is_unspecified
    except ValueError:
        return False
