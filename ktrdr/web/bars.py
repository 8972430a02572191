"""The data endpoints: the store's coverage, and the bars.

pandas is imported at the first request for bars; the page does not need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from flask import Blueprint, Response, request
from flask.json import dumps
from flask.typing import ResponseReturnValue
from pydantic import Field

from ktrdr.config.settings import Settings
from ktrdr.errors import MalformedFile, UnknownSeries
from ktrdr.health.peers import Peers
from ktrdr.ipc.codec import to_json
from ktrdr.market.timeframes import Timeframe
from ktrdr.times import moment
from ktrdr.web.answers import CoverageAnswer, coverage_answer
from ktrdr.web.bars_tag import head_of_bars
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.parameters import Moment, Parameters, Symbol

if TYPE_CHECKING:
    from pandas import DataFrame

_ROWS_AT_ONCE = 20_000


class CoverageQuery(Parameters):
    """Which series."""

    symbol: Symbol | None = Field(None, description="only series of this symbol")
    timeframe: Timeframe | None = Field(None, description="only series of this bar length")


class BarsQuery(Parameters):
    """Which bars, and how they are written."""

    start: Moment | None = Field(None, description="the first bar starts then or later")
    end: Moment | None = Field(None, description="the last bar starts before")
    format: Literal["csv", "json"] = Field("csv", description="how they are written")


def data_api(settings: Settings, peers: Peers) -> Blueprint:
    """`/api/v1/data/…`."""
    api = Blueprint("data", __name__, url_prefix="/api/v1/data")

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
        Shape(None, ("text/csv", "application/json")),
        query=BarsQuery,
        problems=(UnknownSeries, MalformedFile),
    )
    def bars(query: BarsQuery, symbol: str, timeframe: str) -> ResponseReturnValue:
        """The bars of a series that the store has."""
        if request.method == "HEAD":
            return head_of_bars(settings, symbol, timeframe, query.format)
        found = _load(settings, symbol, timeframe, query)
        if query.format == "csv":
            return _csv_response(found, f"{symbol}_{timeframe}.csv")
        return Response(_json_parts(found), mimetype="application/json")

    return api


def _load(settings: Settings, symbol: str, timeframe: str, query: BarsQuery) -> DataFrame:
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415 - 100 MiB that few requests need

    start, end = moment(query.start), moment(query.end)
    return DataManager(settings).load(symbol, timeframe, start=start, end=end)


def _csv_response(found: DataFrame, name: str) -> Response:
    """CSV in the store's own format, so that it can be put into a store again."""
    response = Response(_csv_parts(found), mimetype="text/csv")
    response.headers.set("Content-Disposition", "attachment", filename=name)
    response.headers["X-Complete"] = "true" if found.attrs.get("complete") else "false"
    if found.attrs.get("source"):
        response.headers["X-Source"] = found.attrs["source"]
    return response


def _csv_parts(found: DataFrame) -> Iterator[str]:
    yield found.iloc[:0].to_csv(lineterminator="\n")
    for begin in range(0, len(found), _ROWS_AT_ONCE):
        part = found.iloc[begin : begin + _ROWS_AT_ONCE]
        yield _exact(part).to_csv(header=False, lineterminator="\n")


def _json_parts(found: DataFrame) -> Iterator[str]:
    """One JSON object: what the bars are, the columns' names, and a row per bar."""
    names = ("symbol", "timeframe", "source", "complete", "why")
    about = {name: found.attrs.get(name) for name in names}
    about |= {"count": len(found), "columns": [found.index.name, *found.columns]}
    yield dumps(about)[:-1] + ', "bars": ['
    for begin in range(0, len(found), _ROWS_AT_ONCE):
        part = _exact(found.iloc[begin : begin + _ROWS_AT_ONCE])
        times = [when.isoformat() for when in part.index]
        rows = [[when, *row] for when, row in zip(times, part.to_numpy().tolist(), strict=True)]
        yield ("," if begin else "") + dumps(rows)[1:-1]
    yield "]}\n"


def _exact(part: DataFrame) -> DataFrame:
    """Whole volumes as whole numbers, as IB and the store write them."""
    volume = part["volume"]
    if volume.dtype.kind != "f" or not (volume % 1 == 0).all():
        return part
    return part.assign(volume=volume.astype("int64")).astype({"volume": object})
