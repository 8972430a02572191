"""The data endpoints: the store's coverage, and its bars, which are passed on piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue
from pydantic import Field

from ktrdr.config.settings import Settings
from ktrdr.data.bar_reading import EVER, BarReading, OpenBars
from ktrdr.errors import InvalidRequest, MalformedFile, StoreUnwritable, UnknownSeries
from ktrdr.escapes import visible
from ktrdr.health.peers import Peers
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import Json
from ktrdr.market.timeframes import Timeframe
from ktrdr.times import iso
from ktrdr.web.answers import BarsAnswer, CoverageAnswer, coverage_answer
from ktrdr.web.bar_formats import MEDIA_TYPES, csv_parts, json_parts, parquet_parts
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.parameters import DIGITS, SERIES_PATH, Moment, Parameters, Symbol, series_of_path

MOST_ROWS = 10_000_000
_NO_PARQUET = (
    "Parquet needs pyarrow, which is not installed here:"
    " python3 -m pip --python .venv/bin/python install 'pyarrow>=26,<27'"
)
_HEADERS = {
    "X-Complete": "`true`: it is proven that no bar is missing; else `false`",
    "X-Complete-Why": "why it is not",
    "X-Source": "`live` or `simulated`",
    "Link": '`<…>; rel="next"`: the next page, if `limit` has left bars out',
    "ETag": "changes with the bars and with what is known of them",
}


class CoverageQuery(Parameters):
    """Which series."""

    symbol: Symbol | None = Field(None, description="only series of this symbol")
    timeframe: Timeframe | None = Field(None, description="only series of this bar length")


class BarsQuery(Parameters):
    """Which bars, and how they are written."""

    start: Moment = Field(None, description="the first bar starts then or later")
    end: Moment = Field(None, description="the last bar starts before")
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS), DIGITS] | None = Field(
        None, description="so many bars at most; a `Link` leads to the next ones"
    )
    format: Literal["csv", "json", "parquet"] | None = Field(
        None, description="otherwise `Accept` decides, and CSV is the default"
    )


def data_api(settings: Settings, peers: Peers) -> Blueprint:
    """`/api/v1/data/…`."""
    api = Blueprint("data", __name__, url_prefix="/api/v1/data")
    reading = BarReading(settings)

    @api.get("/coverage")
    @endpoint(Shape(CoverageAnswer), query=CoverageQuery, problems=(UnknownSeries,))
    def coverage(query: CoverageQuery) -> ResponseReturnValue:
        """How many bars are expected and present, day by day, and why the others are not."""
        answer = peers.coverage(query.model_dump(mode="json", exclude_none=True))
        if answer.content is None:
            return to_json(CoverageAnswer(None, None, answer.reason))
        return to_json(coverage_answer(answer.content))

    @api.get("/<symbol>/<timeframe>")
    @endpoint(
        Shape(
            BarsAnswer, ("text/csv", "application/json", MEDIA_TYPES["parquet"]), headers=_HEADERS
        ),
        query=BarsQuery,
        problems=(UnknownSeries, MalformedFile, StoreUnwritable),
        further={406: "`Accept` has none of these media types"},
        path=SERIES_PATH,
    )
    def bars(query: BarsQuery, symbol: str, timeframe: str) -> ResponseReturnValue:
        """The bars of a series that the store has.

        CSV is in the store's own format. A row of JSON is a list in the order of `columns`.
        """
        series, span, chosen = series_of_path(symbol, timeframe), _span(query), _format(query)
        found = reading.open(series, span, query.limit)
        response = Response(_parts(found, chosen), mimetype=MEDIA_TYPES[chosen])
        response.call_on_close(found.close)
        response.implicit_sequence_conversion = False  # never all of it in memory
        _describe(response, found, chosen)
        return _if_changed(response)

    return api


def _if_changed(response: Response) -> Response:
    """The answer, or 304 if the client has it already."""
    response.make_conditional(request)
    if response.status_code == 304:
        del response.headers["Content-Disposition"]
    return response


def _span(query: BarsQuery) -> tuple[int, int]:
    start = EVER[0] if query.start is None else query.start
    end = EVER[1] if query.end is None else query.end
    if start > end:
        raise InvalidRequest(f"start={iso(start)}: expected a time before end={iso(end)}")
    return start, end


def _format(query: BarsQuery) -> str:
    """The format's name: by the parameter, or by `Accept`. Aborts if there is none."""
    possible = {k: v for k, v in MEDIA_TYPES.items() if k != "parquet" or find_spec("pyarrow")}
    if query.format is not None:
        return query.format if query.format in possible else abort(406, _NO_PARQUET)
    accepted = request.accept_mimetypes.best_match(possible.values(), MEDIA_TYPES["csv"])
    if request.accept_mimetypes and not request.accept_mimetypes.quality(accepted):
        known = ", ".join(possible.values())
        abort(406, f"Accept {visible(str(request.accept_mimetypes))!r}: expected one of {known}")
    return next(name for name, media_type in possible.items() if media_type == accepted)


def _parts(found: OpenBars, chosen: str) -> Iterator[bytes]:
    pieces = found.pieces()
    if chosen == "csv":
        return csv_parts(pieces)
    about: Json = {
        "symbol": found.series.symbol,
        "timeframe": found.series.timeframe.value,
        "source": found.source,
        "complete": found.complete,
        "why": found.why,
    }
    if chosen == "parquet":
        return parquet_parts(about, pieces)
    return json_parts(about | {"next": _next(found)}, pieces)


def _next(found: OpenBars) -> str | None:
    """Where the bars are that `limit` has left out."""
    if found.next_start is None:
        return None
    given = {k: v for k, v in request.args.items() if v} | {"start": iso(found.next_start)}
    return f"{quote(request.script_root + request.path)}?{urlencode(given)}"


def _describe(response: Response, found: OpenBars, chosen: str) -> None:
    """The headers of bars."""
    headers = response.headers
    headers["X-Complete"] = "true" if found.complete else "false"
    if found.why:
        headers["X-Complete-Why"] = visible(found.why).encode("ascii", "replace").decode()
    if found.source:
        headers["X-Source"] = found.source
    if (following := _next(found)) is not None:
        headers["Link"] = f'<{following}>; rel="next"'
    if chosen != "json":
        name = f"{found.series.symbol}_{found.series.timeframe.value}.{chosen}"
        headers.set("Content-Disposition", "attachment", filename=name)
    headers["Cache-Control"] = "no-cache"
    response.vary.add("Accept")
    facts = (found.key, found.span, found.next_start, found.source, found.complete, found.why)
    tag = hashlib.blake2b(repr((facts, chosen)).encode(), digest_size=12).hexdigest()
    response.set_etag(tag, weak=True)
