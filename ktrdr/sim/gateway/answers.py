"""The gateway's messages to a client: values in, bytes out, with fields in IB's order. No I/O."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ktrdr.sim.gateway import notices
from ktrdr.sim.gateway.refusals import Refusal
from ktrdr.sim.gateway.wire import encode, encode_texts
from ktrdr.sim.market.bars import Bars
from ktrdr.sim.market.contracts import Contract
from ktrdr.sim.market.sessions import DAY_S, LOGIN_ZONE, Int64Array, Sessions, to_wall

HOURS_DAYS = 7
"""Days of trading hours in contract details, including today."""

_FARMS = ("usfarm", "ushmds", "secdefil")


def greeting(version: int, now: datetime) -> bytes:
    """The first message: the negotiated protocol and the gateway's time."""
    return encode(version, now.astimezone(UTC).strftime("%Y%m%d %H:%M:%S UTC"))


def refusal(version: int, request_id: int, refused: Refusal) -> bytes:
    """An error message; `request_id` -1: a notice, which belongs to no request."""
    extra = [""] if version >= 166 else []
    return encode(4, 2, request_id, refused.code, refused.text, *extra)


def farm_notices(version: int, broken: str = "") -> bytes:
    """The notices after every log-in: the data farms are connected, except a `broken` one."""
    connected = [notices.farm_back(farm) for farm in _FARMS if farm != broken]
    return b"".join(refusal(version, -1, notice) for notice in connected)


def managed_accounts(account: str) -> bytes:
    """The accounts of the log-in."""
    return encode(15, 1, account)


def next_valid_id() -> bytes:
    """The first order id: always 1, since no order is ever placed here."""
    return encode(9, 1, 1)


def current_time(now: datetime) -> bytes:
    """The gateway's clock in whole seconds."""
    return encode(49, 1, int(now.timestamp()))


def positions_end() -> bytes:
    """The end of the positions, of which there are none."""
    return encode(62, 1)


def open_orders_end() -> bytes:
    """The end of the open orders, of which there are none."""
    return encode(53, 1)


def completed_orders_end() -> bytes:
    """The end of the completed orders, of which there are none."""
    return encode(102)


def executions_end(request_id: int) -> bytes:
    """The end of the executions, of which there are none."""
    return encode(55, 1, request_id)


_ACCOUNT_VALUES = (
    ("AccountType", "INDIVIDUAL", ""),
    ("NetLiquidation", "1000000.00", "USD"),
    ("TotalCashValue", "1000000.00", "USD"),
)


def account_updates(account: str, now: datetime) -> bytes:
    """The values of an account that holds only cash."""
    values = [encode(6, 2, *value, account) for value in _ACCOUNT_VALUES]
    time = encode(8, 1, now.astimezone(ZoneInfo(LOGIN_ZONE)).strftime("%H:%M"))
    return b"".join([*values, time, encode(54, 1, account)])


def account_updates_multi(request_id: int, account: str) -> bytes:
    """The same, for a request with an id."""
    values = [encode(73, 1, request_id, account, "", *value) for value in _ACCOUNT_VALUES]
    return b"".join([*values, encode(74, 1, request_id)])


def contract_details(version: int, request_id: int, found: Contract, now: datetime) -> bytes:
    """One contract with its coming sessions (TWS API, `ContractDetails`)."""
    lead = [10, 8] if version < 164 else [10]
    sizes = ["1", "1", "100"] if version >= 164 else ["100"] if version == 163 else []
    return encode(
        *lead, request_id, found.symbol, found.sec_type, found.expiry_text, 0, "", found.exchange,
        found.currency, found.local_symbol, found.trading_class, found.trading_class,
        found.con_id, np.format_float_positional(found.tick.size, trim="-"),
        *(["100"] if version < 164 else []), found.multiplier, "LMT,MKT",
        ",".join(found.valid_exchanges), 1, 0, found.long_name, found.primary_exchange,
        found.expiry_text[:6], "", "", "", found.calendar.zone,
        trading_hours(found, now, regular=False), trading_hours(found, now, regular=True),
        "", 0, 0, 1, found.symbol if found.expiry else "", "", "26", found.expiry_text,
        "COMMON" if found.sec_type == "STK" else "", *sizes,
    )  # fmt: skip


def contract_details_end(request_id: int) -> bytes:
    """The end of the matching contracts."""
    return encode(52, 1, request_id)


def trading_hours(found: Contract, now: datetime, *, regular: bool) -> str:
    """`20261123:0930-20261123:1600;20261124:CLOSED;…` in the contract's own zone.

    A day on which no session opens or closes is CLOSED.
    """
    first = (now.astimezone(ZoneInfo(found.calendar.zone)).date() - date(1970, 1, 1)).days
    days = range(first, first + HOURS_DAYS)
    wall = found.calendar.wall(first, min(days.stop + 2, found.last_day), regular=regular)
    wall = wall.only(wall.open < days.stop * DAY_S)
    open_days = {*(wall.open // DAY_S).tolist(), *((wall.close - 1) // DAY_S).tolist()}
    spans = [
        (opens, f"{_wall_minute(opens)}-{_wall_minute(closes)}")
        for opens, closes in zip(wall.open.tolist(), wall.close.tolist(), strict=True)
    ]
    closed = [
        (day * DAY_S, f"{_wall_minute(day * DAY_S)[:8]}:CLOSED")
        for day in days
        if day not in open_days
    ]
    return ";".join(text for _, text in sorted(spans + closed))


def _wall_minute(wall_s: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(seconds=int(wall_s))).strftime("%Y%m%d:%H%M")  # noqa: DTZ001


def head_timestamp(request_id: int, head_s: int, format_date: int) -> bytes:
    """The time of the first data, in UTC: the message has no zone."""
    text = datetime.fromtimestamp(head_s, UTC).strftime("%Y%m%d-%H:%M:%S")
    return encode(88, request_id, str(head_s) if format_date == 2 else text)


def schedule(request_id: int, sessions: Sessions) -> bytes:
    """Past sessions with their trading days, all in the contract's zone."""
    opens, closes = (_stamps(side + sessions.offset) for side in (sessions.open, sessions.close))
    days = [text[:8] for text in _stamps(sessions.day * DAY_S)]
    spans = [part for session in zip(opens, closes, days, strict=True) for part in session]
    return encode_texts(
        ["106", str(request_id), opens[0], closes[-1], sessions.zone, str(len(days)), *spans]
    )


def historical_data(
    version: int,
    request_id: int,
    bars: Bars,
    span: tuple[int, int],
    format_date: int,
    *,
    daily: bool,
) -> bytes:
    """The bars of one request in one message, as IB sends them; `span`: start and end, in UTC s."""
    begin, end = (_login_texts(np.array([side]), version)[0] for side in span)
    head = ["17", str(request_id), begin, end, str(len(bars))]
    trades, average = _traded(bars)
    columns = (
        _names(version, bars.start, format_date, daily=daily),
        *(map(repr, c.tolist()) for c in (bars.open, bars.high, bars.low, bars.close)),
        map(str, bars.volume.tolist()),
        map(repr, average),
        map(str, trades),
    )
    rows = zip(*columns, strict=True)
    return encode_texts([*head, *(field for row in rows for field in row)])


def historical_update(
    version: int, request_id: int, bar: Bars, format_date: int, *, daily: bool
) -> bytes:
    """A single bar of a request that is kept up to date."""
    ((trades,), (average,)) = _traded(bar)
    (name,) = _names(version, bar.start, format_date, daily=daily)
    prices = [float(side[0]) for side in (bar.open, bar.close, bar.high, bar.low)]
    return encode(90, request_id, trades, name, *prices, average, int(bar.volume[0]))


def _traded(bars: Bars) -> tuple[list[int], list[float]]:
    """The number of trades and their average price; -1 for quotes."""
    traded = bars.volume >= 0
    average = np.round((bars.open + bars.high + bars.low + bars.close) / 4, 7)
    trades = np.where(bars.volume > 0, np.maximum(bars.volume // 100, 1), 0)
    return np.where(traded, trades, -1).tolist(), np.where(traded, average, -1.0).tolist()


def _names(version: int, start: Int64Array, format_date: int, *, daily: bool) -> list[str]:
    """The times of bars: a day as `yyyymmdd`; others as UTC seconds, or in the login's zone."""
    if daily:
        return [text[:8] for text in _stamps(start)]
    if format_date == 2:
        return [str(s) for s in start.tolist()]
    return _login_texts(start, version)


def _login_texts(time_s: Int64Array, version: int) -> list[str]:
    """Times in the login's zone, with its name from protocol 174 on."""
    space, zone = (" ", f" {LOGIN_ZONE}") if version >= 174 else ("  ", "")
    return [f"{t[:8]}{space}{t[9:]}{zone}" for t in _stamps(to_wall(time_s, LOGIN_ZONE))]


def _stamps(wall_s: Int64Array) -> list[str]:
    """`yyyymmdd-HH:mm:ss` of wall-clock seconds."""
    texts = np.datetime_as_string(wall_s.astype("datetime64[s]")).tolist()
    return [f"{t[:4]}{t[5:7]}{t[8:10]}-{t[11:]}" for t in texts]
