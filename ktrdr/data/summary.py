"""A store in a few words, for `repr` and notebooks: never late, and never an error."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import GapFillerStatus
from ktrdr.ipc.wording import noun
from ktrdr.store.interface import BarStore

_MOST_S = 0.3
"""Longer than this nobody waits to see a name."""
_ANSWER_S = 0.2


def summary(
    settings: Settings, store: BarStore, source: Callable[[], str | None]
) -> dict[str, str]:
    """What there is to say, in order; after 0.3 s only what is known by then."""
    known = {"store": str(store.folder)}
    found: dict[str, str] = {}
    thread = threading.Thread(target=_look, args=(settings, store, source, found), daemon=True)
    thread.start()
    thread.join(_MOST_S)
    return known | dict(found)


def as_html(known: dict[str, str]) -> str:
    """The same as a small table."""
    cells = ((html.escape(name), html.escape(value)) for name, value in known.items())
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in cells)
    return f"<table><caption>DataManager</caption>{rows}</table>"


def _look(
    settings: Settings, store: BarStore, source: Callable[[], str | None], found: dict[str, str]
) -> None:
    try:
        origin = source()
        found["source"] = "SIMULATED" if origin == "simulated" else origin or "not known yet"
        client = LocalClient(settings.gap_filler_socket, "gap-filler")
        status = client.request(GapFillerStatus, "GET", "/status", _ANSWER_S)
    except (KtrdrError, OSError) as error:
        found["gap-filler"] = error.message if isinstance(error, KtrdrError) else str(error)
        found["series"] = _count(store)
        return
    found["series"] = f"{status.series_current} of {status.series} complete"
    left = status.gaps_remaining
    found["missing"] = f"{left} {noun(left, 'gap')} to be closed"
    found["gap-filler"] = status.state


def _count(store: BarStore) -> str:
    try:
        return f"{len(store.scan().found)}"
    except OSError as error:
        return str(error)
