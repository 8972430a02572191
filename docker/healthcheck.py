"""Whether the container is well: asks the status app's /livez. Exit code 1 and one line: it is not.

http.client goes by no proxy, whatever the environment says.
"""

import http.client
import os
import sys

_TIMEOUT_S = 8.0


def why_sick(port: int) -> str:
    """What is wrong, in a line; empty: nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"the status app does not answer at port {port}: {error}"
    finally:
        connection.close()
    return "" if status == http.HTTPStatus.OK else "not well; in here, `ktrdr status` says why"


if __name__ == "__main__":
    sys.exit(why_sick(int(os.environ.get("KTRDR_STATUS_PORT") or 8000)) or None)
