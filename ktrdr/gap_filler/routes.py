"""Routes of the gap filler's socket, its local API. Decides nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from ktrdr.assessment.series_state import absence_key
from ktrdr.completeness.fill import DAY_HINT
from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.gap_filler.coverage_grid import CoverageGrids, span_of
from ktrdr.gap_filler.day_evidence import evidence_of_day
from ktrdr.gap_filler.fill_requests import is_there, series_from_query
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.gap_filler.queue import rule
from ktrdr.gap_filler.revision_list import RevisionQuery, revision_query, revisions_of
from ktrdr.gap_filler.watch_list import WatchRequests
from ktrdr.ipc.codec import to_json, to_text
from ktrdr.ipc.messages import ACCEPTED, Json, OutageCosts
from ktrdr.ipc.query import (
    interval_from_text,
    spans_from_query,
    time_from_text,
    timeframe_from_query,
)
from ktrdr.ipc.server import Handler
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S
from ktrdr.store.source import ledger_path


def routes(filler: GapFiller) -> Mapping[tuple[str, str], Handler]:
    """Method and path → handler."""

    async def status(_query: Mapping[str, str]) -> Json:
        return to_json(filler.status)

    async def scan(_query: Mapping[str, str]) -> Json:
        return {ACCEPTED: True, "scan_id": filler.request_scan()}

    return {
        ("GET", "/status"): status,
        ("GET", "/coverage"): _coverage(filler),
        ("GET", "/cost"): _cost(filler),
        ("GET", "/grid"): _grid(filler),
        ("GET", "/requests"): _requests(filler),
        ("GET", "/revisions"): _revisions(filler),
        ("POST", "/scan"): scan,
        **_fill_routes(filler),
        **_series_routes(filler.watch_list),
    }


def _coverage(filler: GapFiller) -> Handler:
    """Some series: with days and gaps, without, with an interval's gaps; or the bars of a day."""

    async def coverage(query: Mapping[str, str]) -> Json:
        if "day" in query:
            series = Series(query.get("symbol", ""), timeframe_from_query(query))
            day = time_from_text("day", query["day"])
            return await asyncio.to_thread(filler.bars_of_day, series, day - day % DAY_S)

        def is_wanted(series: Series) -> bool:
            symbol, timeframe = query.get("symbol"), query.get("timeframe")
            return symbol in (None, series.symbol) and timeframe in (None, series.timeframe.value)

        known = filler.published
        if "gaps" in query:
            span = interval_from_text("gaps", query["gaps"])
            return await asyncio.to_thread(lambda: to_json(known.gaps_of(is_wanted, span)))
        counts_only = query.get("days") == "0"  # thousands of series are many days
        found = known.counts_of if counts_only else known.coverage_of
        return await asyncio.to_thread(lambda: to_json(found(is_wanted)))

    return coverage


def _grid(filler: GapFiller) -> Handler:
    """All series, a character a trading day."""
    grids = CoverageGrids(filler.status.max_gap_age_days)

    async def grid(query: Mapping[str, str]) -> bytes:
        span, known, context = (
            span_of(query),
            filler.published.store,
            filler.requests.snapshot_now(),
        )
        is_held = context.hold is not None
        return await asyncio.to_thread(
            lambda: to_text(grids.grid(known, span, context.now, is_held=is_held))
        )

    return grid


def _requests(filler: GapFiller) -> Handler:
    """The evidence for one trading day: requests to IB, and what they have proven."""

    def evidence(series: Series, day: int) -> Json:
        bars = filler.bars_of_day(series, day)
        one = filler.published.store.series[series]
        ledger = ledger_path(filler.requests.store.folder)
        starts, key = [start for start, _ in bars["bars"]], absence_key(series, one.instrument)
        return to_json(evidence_of_day(ledger, series, key, bars["day"], starts))

    async def requests(query: Mapping[str, str]) -> Json:
        series = series_from_query(query)
        day = time_from_text("day", query.get("day", ""))
        return await asyncio.to_thread(evidence, series, day - day % DAY_S)

    return requests


def _revisions(filler: GapFiller) -> Handler:
    """The bars of a series that were revised and corrected, the newest first."""
    store = filler.requests.store

    def found(series: Series, wanted: RevisionQuery) -> Json:
        if not is_there(store, series):
            raise UnknownSeries(
                f"{series.file_name} is not in the store",
                hint=".venv/bin/ktrdr gaps lists what is there",
            )
        return to_json(revisions_of(ledger_path(store.folder), series, wanted))

    async def revisions(query: Mapping[str, str]) -> Json:
        return await asyncio.to_thread(found, series_from_query(query), revision_query(query))

    return revisions


def _cost(filler: GapFiller) -> Handler:
    """The costs of outages, in the order of the query."""

    async def cost(query: Mapping[str, str]) -> Json:
        outages, cost_of = spans_from_query(query), filler.published.cost_of
        return to_json(
            OutageCosts(await asyncio.to_thread(lambda: [cost_of(*outage) for outage in outages]))
        )

    return cost


def _fill_routes(filler: GapFiller) -> Mapping[tuple[str, str], Handler]:
    """Fills: requested, listed, paused, cancelled."""
    requests = filler.requests

    async def fill(query: Mapping[str, str]) -> Json:
        series = series_from_query(query)
        text = query.get("from", "")
        try:
            since = time_from_text("from", text)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, hint=DAY_HINT) from None
        requested = await asyncio.to_thread(requests.request, series, since, text)
        return {ACCEPTED: True} | to_json(requested)

    async def fills(query: Mapping[str, str]) -> Json:
        listed = await asyncio.to_thread(requests.listed, query.get("symbol"))
        queue = [*filler.published.queue]
        return to_json(replace(listed, queue=queue, rule=rule(filler.status.batch_symbols)))

    async def cancel(query: Mapping[str, str]) -> Json:
        return to_json(await asyncio.to_thread(requests.cancel, query))

    async def pause(query: Mapping[str, str]) -> Json:
        return to_json(await asyncio.to_thread(requests.pause, query))

    async def resume(query: Mapping[str, str]) -> Json:
        return to_json(await asyncio.to_thread(requests.resume, query))

    return {
        ("POST", "/fill"): fill,
        ("GET", "/fills"): fills,
        ("DELETE", "/fills"): cancel,
        ("POST", "/fills/pause"): pause,
        ("POST", "/fills/resume"): resume,
    }


def _series_routes(watch: WatchRequests) -> Mapping[tuple[str, str], Handler]:
    """Series: listed, added, removed, changed; and their contracts."""

    def route(answer: Callable[[Mapping[str, str]], object]) -> Handler:
        async def respond(query: Mapping[str, str]) -> Json:
            return to_json(await asyncio.to_thread(answer, query))

        return respond

    return {
        ("GET", "/series"): route(lambda _query: watch.listed()),
        ("POST", "/series"): route(watch.add),
        ("DELETE", "/series"): route(watch.remove),
        ("POST", "/series/settings"): route(watch.change),
        ("PATCH", "/series"): route(watch.change),
        ("GET", "/series/candidates"): route(watch.candidates),
    }
