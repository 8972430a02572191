"""Cancelling, pausing and resuming of fills, which are named by their series or by their number."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ktrdr.cli.output import show_json, show_line
from ktrdr.errors import UnknownFill
from ktrdr.health.peers import WRITE_TIMEOUT_S
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import FillList, FillsCancelled, FillStatus


class Change(Enum):
    """What may be done to a fill: its name in JSON, and in words what came of it."""

    CANCEL = ("cancelled", "is cancelled; what was fetched stays")
    PAUSE = ("paused", "is paused; nothing more is requested for it until it is resumed")
    RESUME = ("resumed", "goes on")


def change_fills(
    gap_filler: LocalClient, change: Change, chosen: Mapping[str, str], *, as_json: bool
) -> None:
    """Change the fill with this `id`, or the open ones of `symbol` and `timeframe`, and show them.

    UnknownFill: there is none.
    """
    if change is Change.CANCEL:
        changed = gap_filler.request(
            FillsCancelled, "DELETE", "/fills", WRITE_TIMEOUT_S, **chosen
        ).cancelled
    else:
        path = f"/fills/{change.name.lower()}"
        changed = [
            gap_filler.request(FillStatus, "POST", path, WRITE_TIMEOUT_S, id=number)
            for number in _numbers(gap_filler, chosen)
        ]
    name, words = change.value
    if as_json:
        show_json({name: [to_json(one) for one in changed]})
        return
    for one in changed:
        show_line(f"{title(one)} {words}")


def title(fill: FillStatus) -> str:
    """A fill as the subject of a sentence."""
    return f"fill {fill.id}, {fill.symbol}_{fill.timeframe} from {fill.since.date()} on,"


def _numbers(gap_filler: LocalClient, chosen: Mapping[str, str]) -> list[str]:
    """The numbers of the chosen fills. UnknownFill: the series has no open one."""
    if "id" in chosen:
        return [chosen["id"]]
    symbol, timeframe = chosen["symbol"], chosen["timeframe"]
    listed = gap_filler.request(FillList, "GET", "/fills", WRITE_TIMEOUT_S, symbol=symbol).fills
    found = [str(one.id) for one in listed if one.is_open and one.timeframe == timeframe]
    if not found:
        raise UnknownFill(
            f"there is no open fill of {symbol}_{timeframe}",
            hint=".venv/bin/ktrdr fills lists all of them",
        )
    return found
