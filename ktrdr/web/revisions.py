"""Revisions on the status API: which stored bars were corrected. The gap filler records them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.health.peers import Peers
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.revision_messages import RevisionList
from ktrdr.times import iso
from ktrdr.web.answers import RevisionsAnswer
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.parameters import DIGITS, SERIES_PATH, Moment, Parameters, series_of_path

_MOST, _LARGEST = 1000, 999_999_999
_FIRST = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
"""What can be written as ISO 8601."""


class RevisionsQuery(Parameters):
    """Which revisions."""

    start: Moment = Field(None, description="of bars that start then or later")
    end: Moment = Field(None, description="of bars that start before")
    limit: Annotated[int, Field(ge=1, le=_MOST), DIGITS] = Field(
        100, description="so many at most, the newest; `next` leads to the others"
    )
    before: Annotated[int, Field(ge=1, le=_LARGEST), DIGITS] | None = Field(
        None, description="only those with a smaller `id`"
    )


def revisions_api(peers: Peers) -> Blueprint:
    """`GET /api/v1/data/{symbol}/{timeframe}/revisions`."""
    api = Blueprint("revisions", __name__, url_prefix="/api/v1/data")

    @api.get("/<symbol>/<timeframe>/revisions")
    @endpoint(
        Shape(RevisionsAnswer, headers={"Link": '`<…>; rel="next"`: the next page'}),
        query=RevisionsQuery,
        problems=(UnknownSeries,),
        path=SERIES_PATH,
    )
    def revisions(query: RevisionsQuery, symbol: str, timeframe: str) -> Response:
        """Which stored bars were corrected because IB had revised them, the newest first.

        Each has its values before and after. A rebuild, as after a split, is one entry for the
        whole series, which any range has.
        """
        series = series_of_path(symbol, timeframe)
        found = peers.revisions_of(series.symbol, series.timeframe.value, _wanted(query))
        answer = RevisionsAnswer(series.symbol, series.timeframe.value, None, found.reason)
        if found.content is not None:
            answer = _answer(found.content)
        response = jsonify(to_json(answer))
        if answer.next is not None:
            response.headers["Link"] = f'<{answer.next}>; rel="next"'
        return response

    return api


def _wanted(query: RevisionsQuery) -> dict[str, str]:
    """The query as the gap filler takes it."""
    if query.start is not None and query.end is not None and query.start > query.end:
        start, end = _text(query.start), _text(query.end)
        raise InvalidRequest(f"start={start}: expected a time before end={end}")
    times = {"start": query.start, "end": query.end}
    wanted = {name: _text(time_s) for name, time_s in times.items() if time_s is not None}
    wanted["limit"] = str(query.limit)
    return wanted if query.before is None else wanted | {"before": str(query.before)}


def _text(time_s: int) -> str:
    return str(iso(min(max(time_s, _FIRST), _LAST)))


def _answer(found: RevisionList) -> RevisionsAnswer:
    following = None
    if found.has_more:
        given = {k: v for k, v in request.args.items() if v}
        given["before"] = str(found.revisions[-1].id)
        following = f"{quote(request.script_root + request.path)}?{urlencode(given)}"
    return RevisionsAnswer(
        found.symbol, found.timeframe, found.revisions, None, found.total, following
    )
