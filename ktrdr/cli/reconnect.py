"""`ktrdr reconnect`: the connection to IB is made anew."""

from __future__ import annotations

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_json, show_line
from ktrdr.ipc.client import LocalClient


def reconnect(*, as_json: AsJson = False) -> None:
    """Close the connection to IB, or cut a wait short, and make it anew.

    What is being requested is requested again. `ktrdr status` shows what comes of it.

    Example: ktrdr reconnect
    """
    LocalClient(settings_of_group().connection_socket, "ib-connection").post("/reconnect")
    if as_json:
        show_json({"program": "ib-connection", "action": "reconnect"})
    else:
        show_line("a new connection to IB has been requested")
