"""The group's state for Prometheus, gathered when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

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
        return []  # so that registering asks nobody

    def collect(self) -> Iterator[Metric]:
        yield from families(self._system.snapshot())


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every metric; of a peer that is down only that it is down, for a made-up 0 would lie."""
    verdict = snapshot.verdict
    yield GaugeMetricFamily(
        "ktrdr_ready", "The group can do its work.", value=not verdict.obstacles
    )
    health = GaugeMetricFamily("ktrdr_health", "The verdict: 1 for how it is.", labels=["health"])
    for one in Health:
        health.add_metric([one], one is verdict.health)
    yield health
    yield GaugeMetricFamily(
        "ktrdr_needs_person", "Problems that need a person.", value=len(verdict.needs_person)
    )
    yield from _of_services(snapshot.services)
    if snapshot.forwarding is not None:
        yield from _of_forwarding(snapshot.forwarding)
    connection, gap_filler = snapshot.connection.content, snapshot.gap_filler.content
    yield GaugeMetricFamily(
        "ktrdr_connection_up",
        "A real request was answered lately.",
        value=connection is not None and connection.connected,
    )
    if connection is not None:
        yield from _of_connection(connection)
    if gap_filler is not None:
        yield from _of_gap_filler(gap_filler)


def _of_services(services: dict[str, Service]) -> Iterator[Metric]:
    up = GaugeMetricFamily("ktrdr_program_up", "The program runs.", labels=["program"])
    well = GaugeMetricFamily(
        "ktrdr_program_healthy", "The program is as it should be.", labels=["program"]
    )
    cpu = GaugeMetricFamily(
        "ktrdr_program_cpu_percent", "CPU in percent of one core.", labels=["program"]
    )
    rss = GaugeMetricFamily("ktrdr_program_rss_bytes", "Resident memory.", labels=["program"])
    uptime = GaugeMetricFamily(
        "ktrdr_program_uptime_seconds", "Time since the start.", labels=["program"]
    )
    for name, service in services.items():
        program = service.program
        up.add_metric([name], service.status == "RUNNING")
        well.add_metric([name], service.healthy)
        for family, value in (
            (cpu, program.cpu_percent),
            (rss, program.rss_bytes),
            (uptime, program.uptime_s),
        ):
            if value is not None:
                family.add_metric([name], value)
    yield from (up, well, cpu, rss, uptime)


def _of_forwarding(report: Report) -> Iterator[Metric]:
    listening = sum(not one.trouble for one in report.listening)
    yield GaugeMetricFamily(
        "ktrdr_forward_listeners", "Places where port-forward takes calls.", value=listening
    )
    yield GaugeMetricFamily(
        "ktrdr_forward_open_calls", "Calls that are open now.", value=report.open_calls
    )
    if report.gateway:
        yield GaugeMetricFamily(
            "ktrdr_forward_gateway_reached",
            "The gateway behind port-forward could be reached when it was tried last.",
            value=report.gateway == "reached",
        )
    yield _counter("forward_calls", "Calls that were passed on.", report.calls)
    yield _counter("forward_bytes", "Bytes passed on, both directions.", report.bytes)
    refused = CounterMetricFamily(
        "ktrdr_forward_refused_calls", "Calls that were not served.", labels=["reason"]
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
    yield GaugeMetricFamily(
        "ktrdr_requests_open", "Requests without an answer yet.", value=status.requests_open
    )
    yield GaugeMetricFamily(
        "ktrdr_farms_broken",
        "Data farms of IB's that are broken.",
        value=sum(not farm.up for farm in status.farms),
    )
    yield GaugeMetricFamily(
        "ktrdr_contracts_refused", "Contracts that IB refuses.", value=len(status.refused)
    )
    if status.clock_offset_s is not None:
        yield GaugeMetricFamily(
            "ktrdr_gateway_clock_offset_seconds",
            "The gateway's clock minus this machine's.",
            value=status.clock_offset_s,
        )
    if status.last_answer_time is not None:
        yield GaugeMetricFamily(
            "ktrdr_last_answer_timestamp_seconds",
            "When IB answered last.",
            value=status.last_answer_time.timestamp(),
        )


def _of_gap_filler(status: GapFillerStatus) -> Iterator[Metric]:
    yield _counter("gaps_detected", "Gaps found since the start.", status.gaps_detected)
    yield _counter("gaps_filled", "Gaps closed with bars since the start.", status.gaps_filled)
    yield _counter(
        "requests_failed", "Requests for bars that failed since the start.", status.requests_failed
    )
    yield GaugeMetricFamily(
        "ktrdr_gaps_remaining", "Gaps still to be closed.", value=status.gaps_remaining
    )
    yield GaugeMetricFamily(
        "ktrdr_gaps_failed", "Those whose last request failed.", value=status.gaps_failed
    )
    unfillable = GaugeMetricFamily(
        "ktrdr_gaps_unfillable", "Gaps that stay for now, by reason.", labels=["reason"]
    )
    for reason, holes in status.unfillable.items():
        unfillable.add_metric([reason], holes)
    yield unfillable
    yield _counter("bars_added", "Bars written since the start.", status.bars_added)
    if status.counted_since is not None:
        yield GaugeMetricFamily(
            "ktrdr_gap_filler_counted_since_timestamp_seconds",
            "Since when the gap filler counts.",
            value=status.counted_since.timestamp(),
        )
    yield GaugeMetricFamily("ktrdr_series", "Files in the store.", value=status.series)
    yield GaugeMetricFamily(
        "ktrdr_series_complete",
        "Series that are complete, and as new as their market allows.",
        value=status.series_current,
    )
    yield GaugeMetricFamily(
        "ktrdr_series_need_person",
        "Series that need a person.",
        value=status.series_troubled,
    )
    if status.disk_free_bytes is not None:
        yield GaugeMetricFamily(
            "ktrdr_disk_free_bytes", "Free space of the store.", value=status.disk_free_bytes
        )
    if status.newest_bar_time is not None:
        yield GaugeMetricFamily(
            "ktrdr_newest_bar_timestamp_seconds",
            "The start of the store's newest bar.",
            value=status.newest_bar_time.timestamp(),
        )
    if status.last_scan_time is not None:
        yield GaugeMetricFamily(
            "ktrdr_last_scan_timestamp_seconds",
            "When the store was last scanned.",
            value=status.last_scan_time.timestamp(),
        )


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"ktrdr_{name}", meaning, value=value)
