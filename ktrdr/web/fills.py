"""Fills on the status API: listed, requested and cancelled. The gap filler keeps them."""

from __future__ import annotations

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from ktrdr.health.peers import Peers

_PARAMETERS = ("symbol", "timeframe", "from")
_LONGEST = 100
"""Characters per value; the gap filler's socket accepts a few thousand in all."""


def fills_api(peers: Peers) -> Blueprint:
    """`/api/v1/data/fills`."""
    api = Blueprint("fills", __name__, url_prefix="/api/v1/data/fills")

    @api.get("")
    def fills() -> ResponseReturnValue:
        answer = peers.fills_of(request.args.get("symbol"))
        return answer.content or {"fills": None, "reason": answer.reason}

    @api.post("")
    def request_fill() -> ResponseReturnValue:
        return peers.request_fill(_requested()), 202

    @api.delete("/<int:number>")
    def cancel(number: int) -> ResponseReturnValue:
        return peers.cancel_fill(str(number))

    return api


def _requested() -> dict[str, str]:
    """The fill in the request: as JSON, as a form or in the query. Aborts if values are missing."""
    values = request.get_json() if request.is_json else request.values
    if not isinstance(values, dict):
        abort(400, "expected an object with symbol, timeframe and from")
    if missing := [name for name in _PARAMETERS if not isinstance(values.get(name), str)]:
        abort(400, f"expected {', '.join(_PARAMETERS)} as texts; missing: {', '.join(missing)}")
    if long := [name for name in _PARAMETERS if len(values[name]) > _LONGEST]:
        abort(400, f"expected at most {_LONGEST} characters; longer: {', '.join(long)}")
    return {name: values[name] for name in _PARAMETERS}
