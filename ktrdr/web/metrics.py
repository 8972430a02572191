"""The group's state as Prometheus metrics, collected at each request."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector

from ktrdr import __version__
from ktrdr.completeness import fill
from ktrdr.completeness.gaps import Reason
from ktrdr.forwarder.report import Report
from ktrdr.health.restarts import Restarts
from ktrdr.health.services import Service
from ktrdr.health.system import Snapshot, System
from ktrdr.health.verdict import ABOUT, Concern, Health
from ktrdr.ib.states import State
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus, SeriesStatus

NOT_RUNNING = "not_running"
"""The connection's state while ib-connection does not answer, as in its history."""
_USUAL = ("open", "failed")
"""Reasons of which each series has a number; of the others if any series has one, for all eleven
would be half a megabyte at 500 series."""
_REFUSALS = ("foreign", "too_many", "too_many_of_one", "no_gateway")
_INCOMPLETE = ("filling", "waiting", "unproven", "renewed", "failed", "complete")
"""States of series that are not current and need no person."""


def metrics_api(system: System) -> Blueprint:
    """`/metrics`, from a registry of its own; OpenMetrics for who accepts it."""
    api = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(_Group(system))

    @api.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = Response(encode(registry), content_type=content_type)
        response.vary.add("Accept")
        return response

    return api


class _Group(Collector):
    def __init__(self, system: System) -> None:
        self._system = system
        self._restarts = Restarts()

    def describe(self) -> list[Metric]:
        return []  # so that registering requests nothing

    def collect(self) -> Iterator[Metric]:
        snapshot = self._system.snapshot()
        yield from families(snapshot)
        programs = {name: service.program for name, service in snapshot.services.items()}
        restarts = _counter_by(
            "program_restarts",
            "Restarts that were noticed since status-app started.",
            "program",
        )
        for name, count in self._restarts.counts(programs).items():
            restarts.add_metric([name], count)
        yield restarts
        series = self._system.series(snapshot).content
        if series is not None:
            yield from _of_each_series(series)


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every metric of the group whose value is known; of a peer that is down, only that it is."""
    verdict = snapshot.verdict
    versions = {"version": __version__, "python_version": platform.python_version()}
    yield InfoMetricFamily("ktrdr_build", "The version of ktrdr.", value=versions)
    yield from _gauge("ready", "The group can do its work.", not verdict.obstacles)
    yield _states("health", "The verdict.", Health, verdict.health)
    yield from _gauge("needs_person", "Problems that need a person.", len(verdict.needs_person))
    yield _of_concerns(verdict.concerns)
    yield from _of_services(snapshot.services)
    if snapshot.forwarding is not None:
        yield from _of_forwarding(snapshot.forwarding)
    connection, gap_filler = snapshot.connection.content, snapshot.gap_filler.content
    yield from _gauge(
        "connection_up",
        "A real request was answered lately.",
        connection is not None and connection.connected,
    )
    yield _states(
        "connection_state",
        "The state of the connection to IB.",
        [*State, NOT_RUNNING],
        connection.state if connection else NOT_RUNNING,
    )
    if connection is not None:
        yield from _of_connection(connection)
    if gap_filler is not None:
        yield from _of_gaps(gap_filler)
        yield from _of_store(gap_filler)


def _of_concerns(concerns: Iterable[Concern]) -> Metric:
    """How many problems there are, of each kind; zeros for the others."""
    numbers = {(about, health.value): 0 for about in ABOUT for health in Health}
    for concern in concerns:
        numbers[concern.about, concern.health.value] += 1
    family = GaugeMetricFamily(
        "ktrdr_concerns", "Problems that the verdict names.", labels=["about", "health"]
    )
    for labels, number in numbers.items():
        family.add_metric(labels, number)
    return family


def _of_services(services: Mapping[str, Service]) -> Iterator[Metric]:
    programs = {name: service.program for name, service in services.items()}
    for name, meaning, values in (
        ("up", "The program runs.", {n: s.status == "RUNNING" for n, s in services.items()}),
        ("healthy", "The program is as it should be.", {n: s.healthy for n, s in services.items()}),
        ("rss_bytes", "Resident memory.", {n: p.rss_bytes for n, p in programs.items()}),
        (
            "start_time_seconds",
            "When it was started, since 1970.",
            {n: p.started for n, p in programs.items()},
        ),
    ):
        yield from _gauges(f"program_{name}", meaning, "program", values)
    spent = _counter_by(
        "program_cpu_seconds", "CPU time of the program and its children.", "program"
    )
    for name, program in programs.items():
        if program.cpu_s is not None:
            spent.add_metric([name], program.cpu_s)
    yield spent


def _of_forwarding(report: Report) -> Iterator[Metric]:
    yield from _gauge(
        "forward_listeners",
        "Places where port-forward accepts connections.",
        sum(not one.trouble for one in report.listening),
    )
    yield from _gauge("forward_open_calls", "Connections that are open now.", report.open_calls)
    yield from _gauge(
        "forward_gateway_reached",
        "port-forward could reach the gateway when it last tried.",
        report.gateway == "reached" if report.gateway else None,
    )
    yield _counter("forward_calls", "Connections that were forwarded.", report.calls)
    yield _counter("forward_bytes", "Bytes forwarded, both directions.", report.bytes)
    refused = _counter_by("forward_refused_calls", "Connections that were refused.", "reason")
    for reason, number in (dict.fromkeys(_REFUSALS, 0) | dict(report.refused)).items():
        refused.add_metric([reason], number)
    yield refused


def _of_connection(status: ConnectionStatus) -> Iterator[Metric]:
    yield _counter("connection_attempts", "Attempts to connect.", status.connection_attempts)
    yield _counter(
        "connection_failed_attempts", "Attempts to connect that failed.", status.failed_attempts
    )
    yield from _gauge(
        "connection_away_expected",
        "The gateway is away, and that was expected, such as at its daily restart.",
        bool(status.expected),
    )
    yield from _gauge("login_due", "Somebody should log in soon.", bool(status.reminder))
    yield _counter("requests_answered", "Requests that IB answered.", status.requests_answered)
    yield from _gauge("requests_open", "Requests without an answer yet.", status.requests_open)
    yield from _gauge(
        "requests_open_limit",
        "Requests that may be in flight at once now.",
        status.requests_at_once or None,
    )
    yield from _gauge(
        "farms_broken",
        "IB's data farms that are broken.",
        sum(not farm.up for farm in status.farms),
    )
    yield from _gauge("contracts_refused", "Contracts that IB refuses.", len(status.refused))
    yield from _gauge(
        "gateway_clock_offset_seconds",
        "The gateway's clock minus this machine's.",
        status.clock_offset_s,
    )
    yield from _time("last_answer", "When IB last answered.", status.last_answer_time)
    yield from _time("no_data_since", "Since when there are no data.", status.no_data_since)


def _of_gaps(status: GapFillerStatus) -> Iterator[Metric]:
    yield _counter("gaps_detected", "Gaps found since the start.", status.gaps_detected)
    yield _counter("gaps_filled", "Gaps closed with bars since the start.", status.gaps_filled)
    yield _counter(
        "requests_failed", "Requests for bars that failed since the start.", status.requests_failed
    )
    yield from _gauge("gaps_remaining", "Gaps still to be closed.", status.gaps_remaining)
    yield from _gauge("gaps_failed", "Gaps whose last request failed.", status.gaps_failed)
    yield from _gauges(
        "gaps_unfillable",
        "Gaps that stay for now, by reason.",
        "reason",
        dict.fromkeys(map(str, Reason), 0) | dict(status.unfillable),
    )
    yield from _gauges(
        "fills_open",
        "Requested fills that are neither done nor cancelled.",
        "state",
        {state.value: 0 for state in fill.State if state.is_open} | dict(status.fills),
    )
    yield _counter("bars_added", "Bars written since the start.", status.bars_added)
    yield from _time(
        "gap_filler_counted_since", "Since when the gap filler counts.", status.counted_since
    )


def _of_store(status: GapFillerStatus) -> Iterator[Metric]:
    yield from _gauge("series", "Files in the store.", status.series)
    yield from _gauge(
        "series_complete",
        "Series that are complete, and as new as their market allows.",
        status.series_current,
    )
    yield from _gauge("series_need_person", "Series that need a person.", status.series_troubled)
    yield from _gauges(
        "series_incomplete",
        "Series that are neither, by what is being done for them.",
        "state",
        dict.fromkeys(_INCOMPLETE, 0) | dict(status.series_states),
    )
    yield from _gauge("disk_free_bytes", "Free space of the store's disk.", status.disk_free_bytes)
    yield from _gauge("disk_size_bytes", "Size of the store's disk.", status.disk_total_bytes)
    yield from _time("newest_bar", "The start of the store's newest bar.", status.newest_bar_time)
    yield from _time("last_scan", "When the store was last scanned.", status.last_scan_time)


def _of_each_series(series: Iterable[SeriesStatus]) -> Iterator[Metric]:
    """Every series by name; only the last bar's time may be missing: an empty file has none."""
    all_series = list(series)
    numbers: tuple[tuple[str, str, Callable[[SeriesStatus], float | None]], ...] = (
        ("bars_expected", "Bars that should be in its file.", lambda one: one.expected),
        ("bars_present", "Bars of those that are in its file.", lambda one: one.present),
        (
            "last_bar_timestamp_seconds",
            "The start of its last bar.",
            lambda one: one.last.timestamp() if one.last else None,
        ),
    )
    for name, meaning, read in numbers:
        family = GaugeMetricFamily(f"ktrdr_series_{name}", meaning, labels=["symbol", "timeframe"])
        for one in all_series:
            if (value := read(one)) is not None:
                family.add_metric([one.symbol, one.timeframe], value)
        yield family
    missing = GaugeMetricFamily(
        "ktrdr_series_bars_missing",
        "Bars that are not in its file, by reason.",
        labels=["symbol", "timeframe", "reason"],
    )
    found = {reason for one in all_series for reason in one.missing}
    none = dict.fromkeys([*_USUAL, *sorted(found - {*_USUAL})], 0)
    for one in all_series:
        for reason, number in (none | dict(one.missing)).items():
            missing.add_metric([one.symbol, one.timeframe, reason], number)
    yield missing


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"ktrdr_{name}", meaning, value=value)


def _counter_by(name: str, meaning: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"ktrdr_{name}", meaning, labels=[label])


def _gauge(name: str, meaning: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(f"ktrdr_{name}", meaning, value=value)


def _time(name: str, meaning: str, when: datetime | None) -> Iterator[Metric]:
    value = None if when is None else when.timestamp()
    yield from _gauge(f"{name}_timestamp_seconds", meaning, value)


def _states(name: str, meaning: str, known: Iterable[str], current: str) -> Metric:
    """A state set: 1 for the state that it is in, 0 for all others."""
    states = {str(one): one == current for one in known} | {str(current): True}
    return StateSetMetricFamily(f"ktrdr_{name}", meaning, value=states)


def _gauges(
    name: str, meaning: str, label: str, values: Mapping[str, float | None]
) -> Iterator[Metric]:
    """One gauge for each value that is known, by its label."""
    family = GaugeMetricFamily(f"ktrdr_{name}", meaning, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    yield family
