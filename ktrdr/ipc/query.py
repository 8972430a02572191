"""Requests as the parameters of a query, and back. Sends nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ktrdr import errors
from ktrdr.market.bars_request import Priority
from ktrdr.market.instruments import Instrument, check_entry, instrument_for
from ktrdr.market.timeframes import Timeframe


def request_to_query(
    instrument: Instrument, timeframe: Timeframe | None, start: int, end: int
) -> dict[str, str]:
    """A request about an instrument in `[start, end)` as the parameters of a query."""
    query = {name: str(getattr(instrument, name)) for name in _INSTRUMENT_FIELDS}
    query["con_id"] = str(instrument.con_id or "")
    query |= {"start": _iso(start), "end": _iso(end)}
    if timeframe is not None:
        query["timeframe"] = timeframe.value
    return {name: value for name, value in query.items() if value}


def instrument_from_query(query: Mapping[str, str]) -> Instrument:
    """The instrument of a query; omitted parameters are as without an entry in instruments.toml.

    InvalidRequest names the parameter, the value and what was expected.
    """
    symbol = query.get("symbol", "")
    given: dict[str, Any] = {k: query[k] for k in _INSTRUMENT_FIELDS[1:] if k in query}
    if "extended_hours" in given:
        given["extended_hours"] = given["extended_hours"].lower() in ("true", "1")
    if re.fullmatch(r"[0-9]{1,10}", given.get("con_id", "")):
        given["con_id"] = int(given["con_id"])
    try:
        return instrument_for(symbol, check_entry("query", symbol, given))
    except (ValueError, errors.Misconfigured) as error:
        raise errors.InvalidRequest(str(error)) from error


def timeframe_from_query(query: Mapping[str, str]) -> Timeframe:
    """The timeframe of a query. InvalidRequest lists the possible ones."""
    try:
        return Timeframe.parse(query.get("timeframe", ""))
    except ValueError as error:
        raise errors.InvalidRequest(str(error)) from error


def span_from_query(query: Mapping[str, str]) -> tuple[int, int]:
    """`start` and `end` of a query as UTC seconds; ISO 8601, without a zone in UTC."""
    start, end = (time_from_text(name, query.get(name, "")) for name in ("start", "end"))
    if start >= end:
        raise errors.InvalidRequest(f"start={query['start']}: expected a time before {end}")
    return start, end


def spans_from_query(query: Mapping[str, str]) -> list[tuple[int, int]]:
    """`spans` of a query, `start/end` each, separated by commas: UTC seconds.

    InvalidRequest: one ends before it begins, or there are too many.
    """
    texts = [text for text in query.get("spans", "").split(",") if text]
    if len(texts) > MOST_SPANS:
        raise errors.InvalidRequest(f"spans: expected {MOST_SPANS} at most, and not {len(texts)}")
    spans = []
    for text in texts:
        first, _, last = text.partition("/")
        start, end = time_from_text("spans", first), time_from_text("spans", last)
        if start > end:
            raise errors.InvalidRequest(f"spans={text}: expected an end behind the start")
        spans.append((start, end))
    return spans


MOST_SPANS = 50
"""Maximum in one request."""


def priority_from_query(query: Mapping[str, str], usually: Priority) -> Priority:
    """The priority of a query; `usually`: if it has none. InvalidRequest: an unknown one."""
    name = query.get("priority", usually.name)
    try:
        return Priority[name.upper()]
    except KeyError:
        accepted = ", ".join(priority.name.lower() for priority in Priority)
        raise errors.InvalidRequest(f"priority={name}: expected one of {accepted}") from None


def number_from_query(query: Mapping[str, str], name: str) -> float | None:
    """A number above 0 of a query; None: it is not given. InvalidRequest: anything else."""
    if name not in query:
        return None
    try:
        number = float(query[name])
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise errors.InvalidRequest(f"{name}={query[name]}: expected a number above 0")
    return number


def interval_to_text(span: tuple[int, int]) -> str:
    """An interval in UTC seconds, which may be that of all times, for a query."""
    return f"{span[0]}/{span[1]}"


def interval_from_text(name: str, text: str) -> tuple[int, int]:
    """The interval in UTC seconds. InvalidRequest: it is none."""
    try:
        start, end = map(int, text.split("/"))
    except ValueError:
        expected = "UTC seconds such as 1795185000/1795188600"
        raise errors.InvalidRequest(f"{name}={text}: expected {expected}") from None
    return start, end


def time_from_text(name: str, text: str) -> int:
    """UTC seconds of a date or time in ISO 8601, without a zone in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = "a date or time such as 2026-11-20 or 2026-11-20T14:30:00+00:00"
        raise errors.InvalidRequest(f"{name}={text}: expected {expected}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _iso(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()


_INSTRUMENT_FIELDS = (
    "symbol",
    "sec_type",
    "exchange",
    "primary_exchange",
    "currency",
    "expiry",
    "multiplier",
    "trading_class",
    "local_symbol",
    "con_id",
    "what_to_show",
    "extended_hours",
)
