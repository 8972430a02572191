"""The revisions of a series, from the ledger, as the local API has them. Records none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ktrdr.errors import InvalidRequest, RequestFailed
from ktrdr.ipc.query import time_from_text
from ktrdr.ipc.revision_messages import BarValues, RevisionList, RevisionStatus
from ktrdr.ledger.revisions import KEPT, RevisionRecord, RevisionRecords
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.sqlite_file import DatabaseError, reading
from ktrdr.times import utc

_EVER = (-(2**62), 2**62)
_LARGEST = 2**62


class RevisionQuery(NamedTuple):
    """Which revisions of a series."""

    span: tuple[int, int]
    """Of bars that start in `[start, end)` (UTC seconds)."""
    limit: int
    """So many at most, the newest."""
    before: int | None
    """Only those with a smaller id; None: all."""


def revision_query(query: Mapping[str, str]) -> RevisionQuery:
    """`start`, `end`, `limit` and `before` of a query, each of which may be omitted.

    InvalidRequest names the parameter, the value and what was expected.
    """
    start, end = (
        time_from_text(name, query[name]) if name in query else otherwise
        for name, otherwise in zip(("start", "end"), _EVER, strict=True)
    )
    if start > end:
        raise InvalidRequest(f"start={query['start']}: expected a time before end={query['end']}")
    limit = _whole(query, "limit", KEPT)
    before = _whole(query, "before", _LARGEST)
    return RevisionQuery((start, end), KEPT if limit is None else limit, before)


def _whole(query: Mapping[str, str], name: str, most: int) -> int | None:
    """A number from 1 on of a query; None: it is not given."""
    if name not in query:
        return None
    text = query[name]
    if not re.fullmatch("[0-9]{1,18}", text) or not 1 <= int(text) <= most:
        raise InvalidRequest(f"{name}={text}: expected a whole number from 1 to {most}")
    return int(text)


def revisions_of(ledger: Path, series: Series, wanted: RevisionQuery) -> RevisionList:
    """The revisions of a series in a ledger. RequestFailed: it cannot be read now."""
    found, total = _read(ledger, series, wanted._replace(limit=wanted.limit + 1))
    shown = found[: wanted.limit]
    return RevisionList(
        series.symbol,
        series.timeframe.value,
        total,
        [_status(one) for one in shown],
        has_more=len(found) > len(shown),
    )


def _read(path: Path, series: Series, wanted: RevisionQuery) -> tuple[list[RevisionRecord], int]:
    if not path.exists():
        return [], 0
    try:
        with reading(path) as database:
            is_there = "SELECT 1 FROM sqlite_schema WHERE name = 'revisions'"
            if not database.execute(is_there).fetchone():  # an earlier ledger, not opened yet
                return [], 0
            records = RevisionRecords(lambda: database)
            found = records.newest(series, wanted.span, wanted.limit, wanted.before)
            return found, records.count(series, wanted.span)
    except DatabaseError as error:
        raise RequestFailed(
            f"{path.name} cannot be read now: {error}", hint="try again in a moment"
        ) from error


def _status(one: RevisionRecord) -> RevisionStatus:
    if one.old is None or one.new is None:
        return RevisionStatus(
            one.id, utc(one.at), None, None, None, one.why, one.kept or None, bars=0
        )
    found = RevisionStatus(
        one.id, utc(one.at), utc(one.old.start), _values(one.old), _values(one.new), one.why
    )
    if one.left is None:
        return found
    last = utc(one.left.last) if one.left.bars > 1 else None
    return replace(found, is_left=True, last=last, bars=one.left.bars)


def _values(bar: Bar) -> BarValues:
    return BarValues(bar.open, bar.high, bar.low, bar.close, bar.volume)
