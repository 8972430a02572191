"""Streams on the API: finished bars as they come, as server-sent events."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import Field, PlainValidator, WithJsonSchema
from werkzeug.exceptions import ServiceUnavailable

from ktrdr.config.settings import Settings
from ktrdr.data.following import FollowedStore
from ktrdr.errors import InvalidRequest, MalformedFile, StoreUnwritable, UnknownSeries
from ktrdr.escapes import visible
from ktrdr.market.instruments import Series, parse_series
from ktrdr.market.timeframes import Timeframe
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.event_ids import LAST_EVENT_ID, EventIds
from ktrdr.web.event_stream import MEDIA_TYPE, EventStream
from ktrdr.web.open_answers import HAND_OVER
from ktrdr.web.parameters import SYMBOL, Moment, Parameters
from ktrdr.web.stream_pump import MOST_STREAMS, StreamPump

MOST_SERIES = 50
_RETRY_AFTER_S = 30
_SHOWN = 60


def series_named(text: str) -> list[Series]:
    """The series of a parameter. InvalidRequest: one is none, or there twice, or they are many."""
    names = text.split(",")
    if len(names) > MOST_SERIES:
        raise InvalidRequest(f"series: {len(names)} of them: expected at most {MOST_SERIES}")
    found: list[Series] = []
    for name in names:
        try:
            one = parse_series(f"{name}.csv")
        except ValueError as error:
            shown = visible(name[:_SHOWN])
            raise InvalidRequest(
                f"series={shown!r}: expected SYMBOL_TIMEFRAME: {error}",
                hint="name them as their files: series=AAPL_1m,ESZ6_1m",
            ) from None
        if one in found:
            raise InvalidRequest(f"series={visible(name)!r} is there more than once: expected one")
        found.append(one)
    return found


_NAME = {
    "type": "string",
    "pattern": f"{SYMBOL['pattern'][:-1]}_({'|'.join(one.value for one in Timeframe)})$",
    "maxLength": SYMBOL["maxLength"] + len("_1m"),
}
_NAMES = {
    "type": "array",
    "items": _NAME,
    "minItems": 1,
    "maxItems": MOST_SERIES,
    "uniqueItems": True,
    "examples": [["AAPL_1m", "ESZ6_1m"]],
}
SeriesNames = Annotated[list[Series], PlainValidator(series_named), WithJsonSchema(_NAMES)]
"""Names of files without their ending, separated by commas."""


class StreamQuery(Parameters):
    """Which bars."""

    series: SeriesNames = Field(description="which series, separated by commas")
    start: Moment = Field(
        None, description="the first bar starts then or later; otherwise it ends after the request"
    )


def streams_api(settings: Settings) -> Blueprint:
    """`GET /api/v1/stream`."""
    api = Blueprint("streams", __name__, url_prefix="/api/v1")
    store = FollowedStore(settings)
    pump = StreamPump(store.folder)

    @api.get("/stream")
    @endpoint(
        Shape(media_types=(MEDIA_TYPE,), headers={"X-Source": "`live` or `simulated`"}),
        query=StreamQuery,
        sent={LAST_EVENT_ID: "the id of the last event that came: go on after it"},
        problems=(UnknownSeries, MalformedFile, StoreUnwritable),
        further={503: "there are too many streams, or the disk refuses: try again later"},
    )
    def stream(query: StreamQuery) -> Response:
        """Each finished bar once, as it is stored, as server-sent events.

        `data` is a JSON object: symbol, timeframe, timestamp, open, high, low, close, volume. The
        bars of a series ascend. An event `problem` has the problem details of a series that cannot
        be read. With `Last-Event-ID`, which browsers send by themselves, a stream of the same
        series goes on from the files.
        """
        if last := request.headers.get(LAST_EVENT_ID):  # what is not there now is waited for
            positions = EventIds(query.series).read(last)
        else:
            positions = store.positions(query.series, query.start, int(time.time()))
        hand_over = request.environ.get(HAND_OVER) if request.method == "GET" else None
        if hand_over and not pump.admit(time.monotonic()):
            why = f"{MOST_STREAMS} streams are open: expected fewer"
            raise ServiceUnavailable(why, retry_after=_RETRY_AFTER_S)
        events = EventStream(store.following(positions))
        begin = events.begin() + events.next_part().text
        if hand_over:  # else it ends here, and the client comes again
            hand_over(partial(pump.add, events))
        response = Response(iter([begin]), mimetype=MEDIA_TYPE)
        if source := store.source:
            response.headers["X-Source"] = source
        response.headers["X-Accel-Buffering"] = "no"  # nginx would keep the events
        return response

    return api
