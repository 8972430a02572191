"""The data endpoints: the store's coverage, and the bars.

pandas is imported at the first request for bars; the page does not need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, request
from flask.json import dumps
from flask.typing import ResponseReturnValue

from ktrdr.config.settings import Settings
from ktrdr.health.peers import Peers
from ktrdr.web.bars_tag import head_of_bars

if TYPE_CHECKING:
    from pandas import DataFrame

_FORMATS = ("csv", "json")
_ROWS_AT_ONCE = 20_000
_BARE_ZONE = re.compile(r"(?<=:\d\d) (?=\d\d:\d\d$)")


def data_api(settings: Settings, peers: Peers) -> Blueprint:
    """`/api/v1/data/…`."""
    api = Blueprint("data", __name__, url_prefix="/api/v1/data")

    @api.get("/coverage")
    def coverage() -> ResponseReturnValue:
        known = {k: v for k, v in request.args.items() if k in ("symbol", "timeframe")}
        answer = peers.coverage(known)
        return answer.content or {"scan_time": None, "series": None, "reason": answer.reason}

    @api.get("/<symbol>/<timeframe>")
    def bars(symbol: str, timeframe: str) -> ResponseReturnValue:
        wanted = request.args.get("format", "csv")
        if wanted not in _FORMATS:
            abort(400, f"format={wanted!r}: expected one of {', '.join(_FORMATS)}")
        if request.method == "HEAD":
            return head_of_bars(settings, symbol, timeframe, wanted)
        found = _load(settings, symbol, timeframe)
        if wanted == "csv":
            return _csv_response(found, f"{symbol}_{timeframe}.csv")
        return Response(_json_parts(found), mimetype="application/json")

    return api


def _load(settings: Settings, symbol: str, timeframe: str) -> DataFrame:
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415 - 100 MiB that few requests need

    return DataManager(settings).load(symbol, timeframe, start=_time("start"), end=_time("end"))


def _time(name: str) -> str | None:
    """A time in the query, where an unescaped `+` of its zone has become a space."""
    return _BARE_ZONE.sub("+", request.args.get(name, "")) or None


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
