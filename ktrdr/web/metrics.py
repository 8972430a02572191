"""The group's state as Prometheus metrics, collected at each request. Counts nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ktrdr.forwarder.report import Report
from ktrdr.health.system import Snapshot, System
from ktrdr.health.verdict import Health, Service
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus


def metrics_api(system: System) -> Blueprint:
    """`/metrics`, from a registry of its own."""
    api = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(_Group(system))

    @api.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return api


class _Group(Collector):
    def __init__(self, system: System) -> None:
        self._system = system

    def describe(self) -> list[Metric]:
        return []  # so that registering requests nothing

    def collect(self) -> Iterator[Metric]:
        yield from families(self._system.snapshot())


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every metric whose value is known; of a peer that is down, only that it is down."""
    verdict = snapshot.verdict
    yield from _gauge("ready", "The group can do its work.", not verdict.obstacles)
    yield from _gauges(
        "health",
        "The verdict: 1 for the health that the group has.",
        "health",
        {one: one is verdict.health for one in Health},
    )
    yield from _gauge("needs_person", "Problems that need a person.", len(verdict.needs_person))
    yield from _of_services(snapshot.services)
    if snapshot.forwarding is not None:
        yield from _of_forwarding(snapshot.forwarding)
    connection, gap_filler = snapshot.connection.content, snapshot.gap_filler.content
    yield from _gauge(
        "connection_up",
        "A real request was answered lately.",
        connection is not None and connection.connected,
    )
    if connection is not None:
        yield from _of_connection(connection)
    if gap_filler is not None:
        yield from _of_gaps(gap_filler)
        yield from _of_store(gap_filler)


def _of_services(services: dict[str, Service]) -> Iterator[Metric]:
    programs = {name: service.program for name, service in services.items()}
    for name, meaning, values in (
        ("up", "The program runs.", {n: s.status == "RUNNING" for n, s in services.items()}),
        ("healthy", "The program is as it should be.", {n: s.healthy for n, s in services.items()}),
        (
            "cpu_percent",
            "CPU in percent of one core.",
            {n: p.cpu_percent for n, p in programs.items()},
        ),
        ("rss_bytes", "Resident memory.", {n: p.rss_bytes for n, p in programs.items()}),
        ("uptime_seconds", "Time since the start.", {n: p.uptime_s for n, p in programs.items()}),
    ):
        yield from _gauges(f"program_{name}", meaning, "program", values)


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
    refused = CounterMetricFamily(
        "ktrdr_forward_refused_calls", "Connections that were refused.", labels=["reason"]
    )
    for reason, number in sorted(report.refused.items()):
        refused.add_metric([reason], number)
    yield refused


def _of_connection(status: ConnectionStatus) -> Iterator[Metric]:
    yield _counter("connection_attempts", "Attempts to connect.", status.connection_attempts)
    yield _counter(
        "connection_failed_attempts", "Attempts to connect that failed.", status.failed_attempts
    )
    yield _counter("requests_answered", "Requests that IB answered.", status.requests_answered)
    yield from _gauge("requests_open", "Requests without an answer yet.", status.requests_open)
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


def _of_gaps(status: GapFillerStatus) -> Iterator[Metric]:
    yield _counter("gaps_detected", "Gaps found since the start.", status.gaps_detected)
    yield _counter("gaps_filled", "Gaps closed with bars since the start.", status.gaps_filled)
    yield _counter(
        "requests_failed", "Requests for bars that failed since the start.", status.requests_failed
    )
    yield from _gauge("gaps_remaining", "Gaps still to be closed.", status.gaps_remaining)
    yield from _gauge("gaps_failed", "Gaps whose last request failed.", status.gaps_failed)
    yield from _gauges(
        "gaps_unfillable", "Gaps that stay for now, by reason.", "reason", status.unfillable
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
    yield from _gauge("disk_free_bytes", "Free space of the store.", status.disk_free_bytes)
    yield from _time("newest_bar", "The start of the store's newest bar.", status.newest_bar_time)
    yield from _time("last_scan", "When the store was last scanned.", status.last_scan_time)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"ktrdr_{name}", meaning, value=value)


def _gauge(name: str, meaning: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(f"ktrdr_{name}", meaning, value=value)


def _time(name: str, meaning: str, when: datetime | None) -> Iterator[Metric]:
    value = None if when is None else when.timestamp()
    yield from _gauge(f"{name}_timestamp_seconds", meaning, value)


def _gauges(
    name: str, meaning: str, label: str, values: Mapping[str, float | None]
) -> Iterator[Metric]:
    """One gauge for each value that is known, by its label."""
    family = GaugeMetricFamily(f"ktrdr_{name}", meaning, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    yield family
