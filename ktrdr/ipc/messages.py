"""The messages between the programs, as values. Encoding them is the codec's work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, WithJsonSchema

Json = dict[str, Any]
ACCEPTED = "accepted"
"""A key of a response: True if the work was only accepted (HTTP 202)."""


def _in_seconds(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


Time = Annotated[
    datetime,
    PlainSerializer(_in_seconds, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time (UTC), written as ISO 8601 with `+00:00`."""
Number = Annotated[float, Field(allow_inf_nan=False)]
"""A number that JSON can represent."""


@dataclass(frozen=True)
class ErrorMessage:
    """An error in a response. Another version may omit any part."""

    kind: str | None = None
    """The name of the class in `ktrdr.errors`."""
    outcome: str | None = None
    message: str | None = None
    code: int | None = None
    """IB's."""
    hint: str | None = None


@dataclass(frozen=True)
class LastError:
    """What is wrong, and what a person can do about it."""

    code: int | None
    message: str
    hint: str
    time: Time | None = None
    """When it was noticed (UTC)."""


@dataclass(frozen=True)
class FarmStatus:
    """One of IB's data farms, according to the gateway's notices."""

    name: str
    serves: str
    """`market data`, `history` or `contract details`."""
    up: bool
    since: Time
    breaks: int
    """Since the program started."""
    last_break_s: Number | None


@dataclass(frozen=True)
class RefusedContract:
    """A contract whose data IB refuses, until a request for them is answered."""

    symbol: str
    outcome: str
    """`not_entitled` or `unknown_contract`."""
    code: int | None
    message: str
    hint: str
    since: Time


@dataclass(frozen=True)
class ConnectionStatus:
    """The state of ib-connection: the response of `GET /status`. Times are UTC."""

    connected: bool
    """A real request was answered recently, and bars are available as far as is known."""
    state: str
    """One of `ib.states.State`."""
    gateway: str
    """`live` or `simulated`."""
    host: str
    port: int
    client_id: int | None
    server_version: int | None
    last_connect_time: Time | None
    last_disconnect_time: Time | None
    last_answer_time: Time | None
    connection_attempts: int
    failed_attempts: int
    next_retry_time: Time | None
    requests_open: int
    requests_answered: int
    last_error: LastError | None
    """What is wrong now; None when it is over."""
    expected: str = ""
    """Why the gateway is away, where that was expected, such as its nightly restart."""
    expected_kind: str = ""
    """`restart`, or `log_out`, which needs a person."""
    reminder: str = ""
    """What a person should do soon, such as to have the second factor at hand."""
    clock_offset_s: Number | None = None
    """The gateway's clock minus this machine's."""
    requests_at_once: int = 0
    """How many may be in flight now; 0: not known."""
    library: str = ""
    """IB's library: `ib_insync` or `ib_async`."""
    foreign_text: str = ""
    """The gateway's last text in another language than English since the last attempt; or empty."""
    no_data_since: Time | None = None
    """Since when no data are available; None: they are."""
    data_back_at: Time | None = None
    """When data last became available again, or a farm came back; None: never yet."""
    farms: tuple[FarmStatus, ...] = ()
    refused: tuple[RefusedContract, ...] = ()


@dataclass(frozen=True)
class StateSpan:
    """An interval in which the connection was in one state."""

    start: Time
    end: Time
    state: str
    """One of `ib.states.State`, or `not_running`."""
    why: str


@dataclass(frozen=True)
class Outage:
    """A time without data, of one state or several."""

    start: Time
    end: Time | None
    """None: it continues."""
    cause: str
    """The cause in plain words."""
    worst: str
    """The worst state in it; one of those of StateSpan."""
    expected_kind: str = ""
    """`restart` or `log_out`, where it was expected; else empty."""
    bars_late: int | None = None
    """Bars that became due meanwhile. None, like the next: not known from the gap filler."""
    bars_lost: int | None = None
    """Those of them that are still missing."""


@dataclass(frozen=True)
class ConnectionHistory:
    """The connection in the last days: the response of `GET /history`."""

    since: Time
    until: Time
    uptime: Number | None
    """The share of the time in which bars were available; None: not known."""
    shares: tuple[Number | None, ...]
    """The same for each of many slices of the time, oldest first."""
    spans: tuple[StateSpan, ...]
    """The newest ones, oldest first."""
    outages: tuple[Outage, ...] = ()
    """All of the last 30 days, whatever days were requested; oldest first."""


@dataclass(frozen=True)
class TrialResult:
    """The outcomes of a few small requests to the gateway: the response of `POST /trial`."""

    clock_offset_s: Number | None
    is_read_only: bool | None
    """None: not known."""
    contract: str
    """The outcome of a request for a contract that is known to be good, such as `answered`."""
    data: str
    """The outcome of a request for bars."""
    probed: str
    """The symbol that was requested."""
    message: str
    """What went wrong; else empty."""


@dataclass(frozen=True)
class Problem:
    """A problem with one thing, such as a file."""

    time: Time
    what: str
    message: str
    hint: str = ""
    is_over: bool = False
    """The problem is solved, or the thing is gone."""


@dataclass(frozen=True)
class StoreTrouble:
    """Why nothing can be written into the store, and what a person can do about it."""

    message: str
    hint: str
    is_gone: bool = False
    """The folder is missing: the facts about its series are from before that."""


@dataclass(frozen=True)
class SeriesTrouble:
    """Series that need a person before they are kept complete, all for one reason."""

    outcome: str
    """The name of the error, such as `unknown_contract`."""
    message: str
    hint: str
    series: tuple[str, ...]
    """The first of them, such as `AAPL_1m`."""
    count: int
    """How many there are."""


@dataclass(frozen=True)
class UnreadKind:
    """Files of one kind in the store's folder that may have bars and are not read."""

    kind: str
    """`name`, `capitals`, `compressed`, `text`, `format` or `subfolder`."""
    count: int
    cause: str
    """Why they are not read, with an example."""
    hint: str
    files: Mapping[str, str]
    """Names of the first → the names that they should have.

    Empty: it is not certain, or another file has that name.
    """
    is_limited: bool = False
    """Not all were counted."""


@dataclass(frozen=True)
class GapFillerStatus:
    """The state of gap-filler: the response of `GET /status`. A gap is a run of missing bars.

    `gaps_detected`, `gaps_filled`, `bars_added`, `symbols_processed` and `requests_failed` count
    since `counted_since`; all other numbers are of `as_of`.
    """

    running: bool
    state: str
    """`starting`, `scanning`, `filling`, `idle`, `waiting` (for the connection) or `refused`."""
    reason: str
    """Why it waits or refuses; else empty."""
    source: str
    """`live` or `simulated`: the source of this store's bars."""
    data_dir: str
    check_interval_s: Number
    max_gap_age_days: int
    batch_symbols: int
    supported_timeframes: tuple[str, ...]
    last_scan_time: Time | None
    last_scan_id: str | None
    """That of the last requested scan; before any was requested, that of the first."""
    next_scan_time: Time | None
    series: int
    series_blocked: int
    """Series that cannot be kept complete: a file or an entry in instruments.toml is broken."""
    gaps_detected: int
    """Found since then, each counted once."""
    gaps_filled: int
    """Closed with bars."""
    gaps_failed: int
    """Gaps still to be closed whose last request failed."""
    gaps_remaining: int
    """Gaps still to be closed, including the failed ones."""
    unfillable: Mapping[str, int]
    """Reason → gaps that remain for now."""
    bars_added: int
    symbols_processed: int
    current: tuple[str, ...]
    """Series that are being filled."""
    eta_s: Number | None
    """How long that will take; None: not known, or nothing is being filled."""
    recent_errors: tuple[Problem, ...] = field(default=())
    clock_jump_s: Number = 0.0
    """How far this machine's clock has jumped ahead, until that is accepted; 0: it has not."""
    as_of: Time | None = None
    """The time of all numbers but the counters."""
    counted_since: Time | None = None
    """Since when the counters count: the start of the program."""
    requests_failed: int = 0
    """Requests for bars that were refused or not answered."""
    series_current: int = 0
    """Series without missing bars, except bars that became due just now."""
    series_states: Mapping[str, int] = field(default_factory=dict)
    """State, as in `GET /coverage`, → series that are neither current nor troubled."""
    series_troubled: int = 0
    """Series that need a person."""
    troubles: tuple[SeriesTrouble, ...] = ()
    """The first of the reasons why they do."""
    newest_bar_time: Time | None = None
    """The start of the newest bar of the store."""
    store_trouble: StoreTrouble | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    eta_low_s: Number | None = None
    eta_high_s: Number | None = None
    eta_words: str = ""
    """`about 2 to 3 min`; empty: not known, or nothing is being filled."""
    waits_for: str = ""
    """Why nothing is requested although bars are missing; else empty."""
    hint: str = ""
    """What a person can do where it waits or refuses; else empty."""
    fills: Mapping[str, int] = field(default_factory=dict)
    """State → fills that are neither done nor cancelled."""
    strange: int = 0
    """Files that may have bars and are not read, since they are not named like a series, have
    another format, or are in a subfolder."""
    strange_one: str = ""
    """Why the first of them is not read."""
    unread: tuple[UnreadKind, ...] = ()
    """The same files by kind."""
    streams: tuple[str, ...] = ()
    """Series that are kept new by streams, such as `AAPL_1m`; the others by requests."""
    series_differing: int = 0
    """Series with rows of others that IB has otherwise; they are left as they are."""
    bars_differing: int = 0
    """The bars of these rows."""
    series_comparing: int = 0
    """Imported series of which not all bars were compared with IB's yet."""


@dataclass(frozen=True)
class ComparisonStatus:
    """How the bars of a file with rows of others compare with IB's. Counts are bars."""

    differ: int
    """IB has them otherwise, of those that were compared."""
    total: int = 0
    """Imported ones, which are all compared once; 0: there are none."""
    compared: int = 0
    """How many of these were compared."""
    absent: int = 0
    """How many of these IB does not have."""
    is_over: bool = False
    """All of these were compared that IB has."""


@dataclass(frozen=True)
class SeriesFacts:
    """What is known of one file of the store. Counts are bars."""

    symbol: str
    timeframe: str
    file: str
    state: str
    """`complete`, `filling`, `waiting`, `unproven`, `renewed` (being rebuilt), `failed`,
    `not_understood` (the rows of its file), `incomplete_row` (only bars are missing whose rows lack
    a value) or `refused`."""
    first: Time | None = None
    last: Time | None = None
    expected: int | None = None
    """None, like the next two: not assessed yet, or the file cannot be read."""
    present: int | None = None
    holes: int | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    """Reason → bars that are missing for it."""
    error: str | None = None
    hint: str | None = None
    """What a person can do about the error."""
    error_code: int | None = None
    """IB's."""
    looked_from: Annotated[Time | None, Field(alias="from")] = None
    listed: Time | None = None
    expires: Time | None = None
    sessions_from: str | None = None
    """`ib`, `hours` or `rules`: the source of the sessions."""
    zone: str | None = None
    """The exchange's time zone, such as `America/New_York`; None: not known yet."""
    is_owned: Annotated[bool | None, Field(alias="ours")] = None
    """Whether ktrdr wrote every row; None: not known."""
    proven_until: Annotated[Time | None, Field(alias="until")] = None
    """Nothing is known of later bars."""
    kept_new_by: str | None = None
    """`stream`: its bars come as they form; `requests`: each is requested when it is due; None:
    neither, since nothing is known of it yet or something is wrong with it."""
    next_due: Time | None = None
    """When its next bar is due: a second after the end of that bar."""
    comparison: ComparisonStatus | None = None
    """None: all rows were written by ktrdr, or it is not known."""


@dataclass(frozen=True)
class SeriesStatus(SeriesFacts):
    """One file of the store, in the response of `GET /coverage`."""

    key: tuple[int, int, int] | None = None
    """Size, time of change (ns) and inode of the file that was read."""


@dataclass(frozen=True)
class DayStatus:
    """One trading day of a series, in bars."""

    date: str
    expected: int
    present: int
    missing: Mapping[str, int]
    """Reason → bars that are missing for it."""


@dataclass(frozen=True)
class SeriesCoverage(SeriesStatus):
    """One file of the store, with its gaps and days."""

    gaps: list[tuple[int, int, int, str]] = field(default_factory=list)
    """First and last missing start (UTC seconds), bars, and the reason."""
    days: list[DayStatus] = field(default_factory=list)


@dataclass(frozen=True)
class StoreCoverage:
    """The response of `GET /coverage?days=0`."""

    series: list[SeriesStatus]
    scan_time: Time | None = None


@dataclass(frozen=True)
class DetailedCoverage:
    """The response of `GET /coverage`."""

    series: list[SeriesCoverage]
    scan_time: Time | None = None


@dataclass(frozen=True)
class FillStatus:
    """History that was requested, in the response of `GET /fills`. Counts are bars."""

    id: int
    symbol: str
    timeframe: str
    since: Annotated[Time, Field(alias="from")]
    state: str
    """One of `completeness.fill.State`."""
    why: str = ""
    """The obstacle; else empty."""
    hint: str = ""
    expected: int | None = None
    """None, like the next one: not known yet."""
    present: int | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    """Reason → bars that are missing for it."""
    requested_at: Annotated[Time | None, Field(alias="asked_at")] = None
    ended_at: Time | None = None
    paused_at: Time | None = None
    """Since when it is paused; None: it is not."""
    bars_per_s: Number | None = None
    """How fast its bars have arrived lately; None: not known, or they do not."""
    eta_words: str = ""
    """How long the rest takes, such as `about 2 to 3 min`; empty: not known."""

    @property
    def is_open(self) -> bool:
        """Neither done nor cancelled."""
        return self.state not in ("done", "cancelled")


@dataclass(frozen=True)
class QueuedSeries:
    """A series whose bars are requested now, next or later, in the response of `GET /fills`."""

    symbol: str
    timeframe: str
    state: str
    """`filling`, `next` or `later`."""
    why: str
    """Why it is its turn then."""
    missing: int | None
    """Bars that can be filled; None: not known yet."""
    at: Time | None = None
    """When it is tried again, if later."""


@dataclass(frozen=True)
class FillList:
    """The response of `GET /fills`."""

    fills: list[FillStatus]
    queue: list[QueuedSeries] = field(default_factory=list)
    """The series that are filled next, in order; the first of many."""
    rule: str = ""
    """Why in this order."""


@dataclass(frozen=True)
class FillAccepted(FillStatus):
    """The response of `POST /fill`: the fill, and earlier ones of its series."""

    scan_id: str = ""
    """The id of the scan that begins it."""
    already: list[FillStatus] = field(default_factory=list)
    """Other fills of the series, except cancelled ones."""
    setting_since: Annotated[Time | None, Field(alias="since")] = None
    """The start of the history that instruments.toml requests."""


@dataclass(frozen=True)
class FillsCancelled:
    """The response of `DELETE /fills`."""

    cancelled: list[FillStatus]


@dataclass(frozen=True)
class OutageCost:
    """The cost of a time without data, in bars of all series."""

    bars_late: int
    """Bars that became due meanwhile, and could only come afterwards."""
    bars_lost: int
    """Those of them that are still missing, and not proven absent."""


@dataclass(frozen=True)
class OutageCosts:
    """The response of `GET /cost`, in the order of the request."""

    costs: list[OutageCost]


@dataclass(frozen=True)
class ScanAccepted:
    """The response of `POST /scan`."""

    scan_id: str
