"""Fills on the status API: listed, requested, paused and cancelled. The gap filler keeps them."""

from __future__ import annotations

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field

from ktrdr.errors import PeerDown, StoreUnwritable, UnknownFill, UnknownSeries, WrongSource
from ktrdr.health.peers import Peers
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import FillAccepted, FillsCancelled, FillStatus
from ktrdr.market.timeframes import Timeframe
from ktrdr.web.answers import FillsAnswer
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.parameters import Day, Parameters, Symbol

_PROBLEMS = (UnknownFill, WrongSource, PeerDown, StoreUnwritable)
_NUMBER = {"number": {"type": "integer", "minimum": 0}}


class FillsQuery(Parameters):
    """Whose fills."""

    symbol: Symbol | None = Field(None, description="only those of this symbol")


class FillRequest(Parameters):
    """The history that is requested."""

    symbol: Symbol = Field(description="as in the name of the series' file")
    timeframe: Timeframe = Field(description="the series' bar length")
    since: Day = Field(alias="from", description="the first day")


def fills_api(peers: Peers) -> Blueprint:
    """`/api/v1/data/fills`."""
    api = Blueprint("fills", __name__, url_prefix="/api/v1/data/fills")

    @api.get("")
    @endpoint(Shape(FillsAnswer), query=FillsQuery)
    def fills(query: FillsQuery) -> ResponseReturnValue:
        """The fills that were requested, and which series come next."""
        answer = peers.fills_of(query.symbol)
        return answer.content or {"fills": None, "reason": answer.reason}

    @api.post("")
    @endpoint(
        Shape(FillAccepted, headers={"Location": "where the fill is"}),
        status=202,
        body=FillRequest,
        problems=(UnknownSeries, WrongSource, PeerDown, StoreUnwritable),
    )
    def request_fill(body: FillRequest) -> ResponseReturnValue:
        """Request older history of a series.

        The values are JSON or a form; without a body they may be in the query.
        """
        accepted = peers.request_fill(body.model_dump(mode="json", by_alias=True))
        return accepted, 202, {"Location": url_for(".one_fill", number=accepted["id"])}

    _add_changes(api, peers)
    return api


def _add_changes(api: Blueprint, peers: Peers) -> None:
    """`/api/v1/data/fills/NUMBER…`."""

    @api.get("/<int:number>")
    @endpoint(Shape(FillStatus), problems=(UnknownFill, PeerDown), path=_NUMBER)
    def one_fill(number: int) -> ResponseReturnValue:
        """One fill: how far it is, and what it waits for."""
        return to_json(peers.fill(number))

    @api.delete("/<int:number>")
    @endpoint(Shape(FillsCancelled), problems=_PROBLEMS, path=_NUMBER)
    def cancel_fill(number: int) -> ResponseReturnValue:
        """Cancel a fill; what it has fetched stays."""
        return peers.cancel_fill(str(number))

    @api.post("/<int:number>/pause")
    @endpoint(Shape(FillStatus), problems=_PROBLEMS, path=_NUMBER)
    def pause_fill(number: int) -> ResponseReturnValue:
        """Pause a fill: nothing more is requested for it until it is resumed."""
        return peers.pause_fill(str(number))

    @api.post("/<int:number>/resume")
    @endpoint(Shape(FillStatus), problems=_PROBLEMS, path=_NUMBER)
    def resume_fill(number: int) -> ResponseReturnValue:
        """Go on with a paused fill."""
        return peers.resume_fill(str(number))
