"""Which series are kept, on the status API: listed, added, changed, removed; and their contracts.

The gap filler makes the changes, as it does for the forms of the page and for `ktrdr watch`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from pydantic import ConfigDict, Field

from ktrdr.errors import (
    AmbiguousContract,
    ContractConflict,
    InvalidRequest,
    NotConnected,
    PeerDown,
    StoreUnwritable,
    TimedOut,
    UnknownContract,
    UnknownSeries,
    WrongSource,
)
from ktrdr.health.peers import Peers
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.series_messages import ContractCandidates, KeptSeries, SeriesChange, WatchList
from ktrdr.market.timeframes import Timeframe
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.parameters import (
    SERIES_PATH,
    ConId,
    DayOrNull,
    Flag,
    Parameters,
    Symbol,
    series_of_path,
)

SERIES = "/api/v1/data/series"
_UNWRITTEN = (WrongSource, PeerDown, StoreUnwritable)
_UNCONFIRMED = (NotConnected, TimedOut)
_PLACE = {"Location": "where the series is listed, if its file was made"}


class NewSeries(Parameters):
    """The series that is to be kept."""

    symbol: Symbol = Field(description="as in the name of its file")
    timeframe: Timeframe = Field(description="its bar length")
    since: DayOrNull = Field(None, description="history from this day on")
    con_id: ConId = Field(
        default_factory=int, description="which contract it is, of those of the symbol"
    )
    unchecked: Flag = Field(False, description="IB is not asked which contract it is")
    dry_run: Flag = Field(False, description="only answer what would be; change nothing")


class SeriesSettings(Parameters):
    """What is to be changed; the rest stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    since: DayOrNull = Field(None, description="history from this day on; null: the last days")
    con_id: ConId = Field(
        default_factory=int, description="which contract it is, of those of the symbol"
    )


class ContractsQuery(Parameters):
    """Whose contracts."""

    symbol: Symbol = Field(description="as in file names")


def kept_series_api(peers: Peers) -> Blueprint:
    """`/api/v1/data/series…` and `/api/v1/data/contracts`."""
    api = Blueprint("kept_series", __name__, url_prefix="/api/v1/data")
    _add_reading(api, peers)
    _add_adding(api, peers)
    _add_changing(api, peers)
    return api


def _add_reading(api: Blueprint, peers: Peers) -> None:
    @api.get("/series")
    @endpoint(Shape(WatchList), problems=(PeerDown,))
    def all_series() -> ResponseReturnValue:
        """The store's series, kept or not, and since when."""
        return to_json(peers.watch_list())

    @api.get("/series/<symbol>/<timeframe>")
    @endpoint(Shape(KeptSeries), problems=(UnknownSeries, PeerDown), path=SERIES_PATH)
    def one_series(symbol: str, timeframe: str) -> ResponseReturnValue:
        """One series of the store: whether it is kept, and since when."""
        series = series_of_path(symbol, timeframe)
        for one in peers.watch_list().series:
            if (one.symbol, one.timeframe) == (series.symbol, series.timeframe.value):
                return to_json(one)
        raise UnknownSeries(
            f"{series.file_name} is not in the store", hint=f"GET {SERIES} lists all of them"
        )

    @api.get("/contracts")
    @endpoint(
        Shape(ContractCandidates),
        query=ContractsQuery,
        problems=(PeerDown, *_UNCONFIRMED),
    )
    def contracts(query: ContractsQuery) -> ResponseReturnValue:
        """The contracts that a symbol may stand for at IB."""
        return to_json(peers.candidates(query.symbol))


def _add_adding(api: Blueprint, peers: Peers) -> None:
    @api.post("/series")
    @endpoint(
        Shape(SeriesChange, headers=_PLACE),
        status=201,
        also={200: "it was kept already, or is kept again, or nothing was to be changed"},
        body=NewSeries,
        problems=(
            UnknownContract,
            AmbiguousContract,
            ContractConflict,
            *_UNWRITTEN,
            *_UNCONFIRMED,
        ),
    )
    def add_series(body: NewSeries) -> ResponseReturnValue:
        """Keep a series.

        IB confirms the contract before a file is made. `dry_run` answers with 200 whatever would
        be, also with the candidates of an ambiguous symbol.
        """
        change = peers.add_series(_texts(body))
        if change.is_refused and not change.is_trial:
            raise _refusal(change)
        if change.outcome != "added" or change.is_trial:
            return to_json(change)
        place = url_for(".one_series", symbol=change.symbol, timeframe=change.timeframe)
        return to_json(change), 201, {"Location": place}


def _add_changing(api: Blueprint, peers: Peers) -> None:
    @api.patch("/series/<symbol>/<timeframe>")
    @endpoint(
        Shape(SeriesChange),
        body=SeriesSettings,
        problems=(UnknownSeries, *_UNWRITTEN, *_UNCONFIRMED),
        path=SERIES_PATH,
    )
    def change_series(body: SeriesSettings, symbol: str, timeframe: str) -> ResponseReturnValue:
        """Change since when history is wanted, or which contract a series is."""
        series = series_of_path(symbol, timeframe)
        if not body.model_fields_set:
            raise InvalidRequest("nothing to change: expected since or con_id")
        wanted = {"symbol": series.symbol, "timeframe": series.timeframe.value, **_texts(body)}
        return to_json(peers.change_series(wanted))

    @api.delete("/series/<symbol>/<timeframe>")
    @endpoint(Shape(SeriesChange), problems=(UnknownSeries, *_UNWRITTEN), path=SERIES_PATH)
    def remove_series(symbol: str, timeframe: str) -> ResponseReturnValue:
        """Do not keep a series any more; its file stays."""
        series = series_of_path(symbol, timeframe)
        return to_json(peers.remove_series(series.symbol, series.timeframe.value))


def _texts(body: NewSeries | SeriesSettings) -> dict[str, str]:
    """What was sent, as the gap filler reads it."""
    given: dict[str, Any] = body.model_dump(mode="json", exclude_unset=True)
    return {name: _text(value) for name, value in given.items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _refusal(change: SeriesChange) -> UnknownContract:
    """Why no file was made, since the contract is not clear."""
    if not change.candidates:
        return UnknownContract(change.message, hint=change.hint)
    known = ", ".join(str(one.con_id) for one in change.candidates)
    return AmbiguousContract(
        change.message,
        hint=f"send the con_id of one of them: {known};"
        f" GET /api/v1/data/contracts?symbol={quote(change.symbol)} describes them",
    )
