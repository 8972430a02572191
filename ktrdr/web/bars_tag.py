"""The tag of bars, by which a client knows that it has them; and the answer to HEAD without them.

A tag is made of the file's state before the file is read: if a newer one is read then, nobody will
ask for that tag again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Flask, Response, g, request

from ktrdr.config.settings import Settings
from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.market.instruments import Series, check_symbol
from ktrdr.market.timeframes import Timeframe
from ktrdr.web.validators import set_tag

ENDPOINT = "data.bars"
_CSV = "text/csv"
_MIMETYPES = {
    "csv": _CSV,
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


def tag_bars(app: Flask, settings: Settings) -> None:
    """Give answers with bars their tags, also those that are streamed.

    Register it after `validate_answers`, which compresses them.
    """

    @app.before_request
    def _note_the_file() -> None:
        if request.endpoint == ENDPOINT and request.method == "GET":
            values = request.view_args or {}
            g.bars_file = _state(settings.data_dir, values["symbol"], values["timeframe"])

    @app.after_request
    def _tag(response: Response) -> Response:
        state = g.get("bars_file")
        if state and response.status_code == 200 and response.get_etag()[0] is None:
            # JSON says in words why something is missing, which the tag does not know
            set_tag(response, _tag_of(state, response), is_strong=response.mimetype == _CSV)
        return response


def head_of_bars(settings: Settings, symbol: str, timeframe: str, format_: str) -> Response:
    """The answer to HEAD, from the folder alone: whether there is such a file.

    What is known only once the bars are read is left out: their tag, and whether they are complete.
    InvalidRequest: no such symbol or timeframe is possible. UnknownSeries: there is no file.
    """
    try:
        series = Series(check_symbol(symbol), Timeframe.parse(timeframe))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    if not _state(settings.data_dir, symbol, timeframe):
        raise UnknownSeries(
            f"the store {settings.data_dir} has no {series.file_name}",
            hint="create it with the header line, and the gap filler fills it",
        )
    return Response(mimetype=_MIMETYPES[format_])


def _state(folder: Path, symbol: str, timeframe: str) -> str:
    """The state of a series' file, which no other content of it has; empty: there is no file."""
    try:
        series = Series(check_symbol(symbol), Timeframe.parse(timeframe))
        found = (folder / series.file_name).stat()
    except (OSError, ValueError):
        return ""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _tag_of(state: str, response: Response) -> str:
    """A digest of what the answer depends on; whether the bars are complete is in its headers."""
    ours = sorted((k, v) for k, v in response.headers.items() if k.lower().startswith("x-"))
    known = (state, request.full_path, response.content_type, ours)
    return hashlib.blake2b(repr(known).encode(), digest_size=12).hexdigest()
