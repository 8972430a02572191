"""History requests: their end, their duration as trading time, their bars. Sends nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ktrdr.sim.gateway import refusals
from ktrdr.sim.gateway.wire import Request
from ktrdr.sim.market.bars import BAR_SIZE_ALIASES, BAR_SIZES, Bars, BarSize
from ktrdr.sim.market.contracts import Contract
from ktrdr.sim.market.market import Market
from ktrdr.sim.market.sessions import DAY_S, LOGIN_ZONE, Sessions

MAX_BARS = 500_000
"""A request for more bars is refused. IB's own limit is lower and not documented."""

_DAYS_PER = {"D": 1, "W": 7, "M": 31, "Y": 366}
WHAT_TO_SHOW = (
    "TRADES",
    "MIDPOINT",
    "BID",
    "ASK",
    "BID_ASK",
    "AGGTRADES",
    "ADJUSTED_LAST",
)
"""The kinds of bars that are served; SCHEDULE is answered separately."""

SMALL_BAR_S = 30
SMALL_BARS_KEPT_S = 183 * DAY_S
"""Bars of 30 s or less are kept for six months (TWS API, "Unavailable Historical Data")."""

_LONGEST_S = {1: 2000, 5: 10_000, 10: 14_400, 15: 30_000, 30: 86_400}
"""Maximum seconds in one request, by bar size (TWS API, "Valid Duration and Bar Size")."""

FUTURE_KEPT_S = 731 * DAY_S
"""A future's bars are kept for two years after its expiry (the same page)."""

KEEP_UP_MIN_S = 5
"""The smallest bars that are kept up to date (TWS API, "keepUpToDate")."""

_KEPT_UP = ("TRADES", "MIDPOINT", "BID", "ASK", "AGGTRADES")
"""The kinds that are kept up to date (TWS API, "Keep Up To Date"). It does not name AGGTRADES,
which are crypto's trades."""

_END = re.compile(r"(?:(\d{8})(-| {1,2}))?(\d\d:\d\d:\d\d)(?: (\S+))?", re.ASCII)
_ZONE = re.compile(r"UTC|GMT|[A-Za-z]+(/[A-Za-z0-9_+-]+)+", re.ASCII)


@dataclass(frozen=True)
class Duration:
    """A duration in IB's terms, such as `5 D`."""

    count: int
    unit: str


@dataclass(frozen=True)
class End:
    """The end of a request, and whether its text had no zone (IB's warning 2174)."""

    time_s: int
    without_zone: bool = False


def parse_end(text: str, now_s: int) -> End:
    """The end that `text` means, not after now; empty: now.

    `yyyymmdd-HH:mm:ss` is UTC, `yyyymmdd HH:mm:ss ZONE` needs an IANA zone. The default date is
    today; the default zone is the login's, with a warning (IB's text of 10314). Refusal 10314:
    anything else.
    """
    if not text.strip():
        return End(now_s)
    match = _END.fullmatch(text.strip())
    if not match or (match[2] == "-" and match[4]):
        raise refusals.bad_end()
    try:
        zone = ZoneInfo("UTC") if match[2] == "-" else _zone(match[4] or LOGIN_ZONE)
        day = match[1] or datetime.fromtimestamp(now_s, zone).strftime("%Y%m%d")
        local = datetime.strptime(day + match[3], "%Y%m%d%H:%M:%S")  # noqa: DTZ007
        time_s = int(local.replace(tzinfo=zone).timestamp())
    except (ValueError, LookupError, OverflowError, OSError):
        raise refusals.bad_end() from None
    return End(min(time_s, now_s), without_zone=match[2] != "-" and not match[4])


def _zone(name: str) -> ZoneInfo:
    if not _ZONE.fullmatch(name):
        raise ValueError(name)
    return ZoneInfo(name)


def parse_duration(text: str) -> Duration:
    """The duration that `text` means. Refusal 321: an unknown unit, or more than IB allows."""
    match = re.fullmatch(r"(\d{1,9}) ([SDWMY])", text.strip(), re.ASCII)
    if not match or not int(match[1]):
        raise refusals.invalid(f"Historical data query duration is invalid: {text!r}")
    count, unit = int(match[1]), match[2]
    if unit == "S" and count > DAY_S:
        raise refusals.invalid(
            "Historical data requests for durations longer than 86400 seconds must be made in days."
        )
    if count * _DAYS_PER.get(unit, 0) > 100 * 366 or (unit == "D" and count > 365):
        raise refusals.invalid(
            "Historical data requests for durations longer than 365 days must be made in years."
        )
    return Duration(count, unit)


def begin_s(
    duration: Duration, end_s: int, last_sessions: Callable[[int, int], Sessions]
) -> int | None:
    """The start of a request (UTC seconds); None: nothing trades before its end.

    `D` counts trading days back, including that of the end; `S` trading seconds; weeks are 7 days,
    months and years follow the calendar. `last_sessions(n, before_s)` is the market's method.
    """
    if duration.unit == "D":
        sessions = last_sessions(duration.count, end_s)
        return int(sessions.open[0]) if len(sessions) else None
    if duration.unit == "S":
        return _seconds_back(duration.count, end_s, last_sessions)
    if duration.unit == "W":
        return end_s - 7 * DAY_S * duration.count
    return _months_back(duration.count * (12 if duration.unit == "Y" else 1), end_s)


def _seconds_back(
    seconds: int, end_s: int, last_sessions: Callable[[int, int], Sessions]
) -> int | None:
    sessions = last_sessions(seconds // 3600 + 2, end_s)
    left = seconds
    for opens, closes in zip(sessions.open[::-1], sessions.close[::-1], strict=True):
        traded = min(int(closes), end_s) - int(opens)
        if traded >= left:
            return min(int(closes), end_s) - left
        left -= traded
    return int(sessions.open[0]) if len(sessions) else None


def _months_back(months: int, end_s: int) -> int:
    """The same day and time, months earlier; the month's last day if the month is too short."""
    end = datetime.fromtimestamp(end_s, UTC)
    year, month = divmod(end.year * 12 + end.month - 1 - months, 12)
    for day in range(end.day, end.day - 4, -1):
        try:
            return int(end.replace(year=year, month=month + 1, day=day).timestamp())
        except ValueError:
            continue
    return 0


@dataclass(frozen=True)
class HistoryBars:
    """The bars of a response and its interval (UTC seconds)."""

    bars: Bars
    start_s: int
    end_s: int
    size: BarSize


def find_bars(
    market: Market,
    contract: Contract,
    request: Request,
    end_s: int,
    now_s: int,
    shift_s: int = 0,
) -> HistoryBars:
    """The bars for a request. Refusals: 321, 10299, 10339, and 162 when there are none.

    `shift_s`: seconds by which longer intraday bars begin later than usual.
    """
    size = check(contract, request)
    duration = parse_duration(request.duration)
    _check_step(size, duration)
    start_s = _start(market, contract, request, duration, end_s)
    if size.length_s <= SMALL_BAR_S:
        start_s = max(start_s, now_s - SMALL_BARS_KEPT_S)
    is_forgotten = contract.last_day * DAY_S + FUTURE_KEPT_S < now_s
    if start_s >= end_s or is_forgotten:
        raise _no_data(contract, request)
    if (end_s - start_s) // size.length_s > MAX_BARS:
        raise refusals.historical("Time length exceed max.")
    bars = market.bars(
        contract,
        size,
        request.what_to_show,
        start_s,
        end_s,
        regular=request.use_rth,
        as_of=datetime.fromtimestamp(now_s, UTC).date(),
        shift_s=shift_s,
    )
    if not len(bars):
        raise _no_data(contract, request)
    return HistoryBars(bars, start_s, end_s, size)


def find_sessions(market: Market, contract: Contract, request: Request, end_s: int) -> Sessions:
    """The sessions for a SCHEDULE request. Refusals: 321, and 162 when there are none."""
    if request.bar_size != "1 day":
        raise refusals.invalid("SCHEDULE is for the bar size 1 day only")
    duration = parse_duration(request.duration)
    start_s = _start(market, contract, request, duration, end_s)
    found = market.sessions(contract, start_s, end_s, regular=request.use_rth)
    if not len(found):
        raise _no_data(contract, request)
    return found


def _start(
    market: Market, contract: Contract, request: Request, duration: Duration, end_s: int
) -> int:
    """The start of the request (UTC seconds), not before the contract's first session."""
    head_s = market.head_s(contract, regular=request.use_rth)
    requested = begin_s(
        duration,
        end_s,
        lambda n, before_s: market.last_sessions(contract, n, before_s, regular=request.use_rth),
    )
    if requested is None or head_s is None or head_s >= end_s:
        raise _no_data(contract, request)
    return max(requested, head_s)


def check(contract: Contract, request: Request) -> BarSize:
    """The bar size of a valid request; others are refused."""
    size = BAR_SIZES.get(BAR_SIZE_ALIASES.get(request.bar_size, request.bar_size))
    if size is None:
        raise refusals.invalid(
            "Historical data bar size setting is invalid. Legal ones are: " + ", ".join(BAR_SIZES)
        )
    if request.what_to_show not in WHAT_TO_SHOW:
        raise refusals.invalid(f"what to show {request.what_to_show!r}: {WHAT_TO_SHOW} are served")
    _check_end(contract, request, size)
    if not contract.is_entitled:
        raise refusals.not_permitted(contract.primary_exchange, contract.sec_type)
    if contract.sec_type == "CRYPTO" and request.what_to_show == "TRADES":
        raise refusals.wants_aggregated_trades()
    if request.what_to_show not in contract.what_to_show:
        raise _no_data(contract, request)
    return size


def _check_end(contract: Contract, request: Request, size: BarSize) -> None:
    """Refuse an end for data that are available up to now only, and keepUpToDate of small bars."""
    if request.end.strip() and contract.sec_type == "CONTFUT":
        raise refusals.end_of_continuous()
    if request.end.strip() and request.what_to_show == "ADJUSTED_LAST":
        raise refusals.invalid("End Date not supported with adjusted last")
    if request.keep_up_to_date:
        _check_live(request, size)


def _check_live(request: Request, size: BarSize) -> None:
    """Refuse what is not kept up to date (texts: deepentropy/ibx, `check_bar_request`)."""
    if request.end.strip():
        raise refusals.invalid("End date not supported with live updates")
    if request.what_to_show not in _KEPT_UP:
        raise refusals.invalid("Source price not supported with live updates")
    if size.length_s < KEEP_UP_MIN_S:
        raise refusals.invalid(f"Live updates are not supported with bars of {size.name}")


def _check_step(size: BarSize, duration: Duration) -> None:
    """Refuse a duration that is too long for a small bar size."""
    seconds = duration.count * (DAY_S * _DAYS_PER[duration.unit] if duration.unit != "S" else 1)
    if seconds > _LONGEST_S.get(size.length_s, seconds):
        raise refusals.historical(
            f"invalid step: {duration.count} {duration.unit} of {size.name} bars"
        )


def _no_data(contract: Contract, request: Request) -> refusals.Refusal:
    return refusals.no_data(contract.local_symbol, contract.exchange, request.what_to_show)
