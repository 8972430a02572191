"""The container's health check: requests the status app's /livez. Exit code 1: it is unhealthy.

http.client uses no proxy, whatever the environment says.
"""

import contextlib
import http.client
import os
import sys

_TIMEOUT_S = 8.0


_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared


def why_sick(host: str, port: str) -> str:
    """What is wrong, in a line; empty: nothing is."""
    if not port.isdecimal():
        return f"KTRDR_STATUS_PORT={port}: expected a port from 1 to 65535"
    host = host.strip("[]")
    host = _EVERYWHERE.get(host, host)
    try:
        connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", "/livez")
            status = connection.getresponse().status
    except (OSError, OverflowError, UnicodeError, http.client.HTTPException) as error:
        return f"the status app does not answer at {host}, port {port}: {error}"
    return "" if status == http.HTTPStatus.OK else "not well; in here, `ktrdr status` says why"


if __name__ == "__main__":
    host, port = os.environ.get("KTRDR_STATUS_HOST", ""), os.environ.get("KTRDR_STATUS_PORT", "")
    sys.exit(why_sick(host, port or "8000") or None)
