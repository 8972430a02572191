"""The status API's endpoints on the group's state, in JSON; those on bars are in `bars`."""

from __future__ import annotations

import re
from pathlib import Path

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from ktrdr.forwarder.report import Report
from ktrdr.health.peers import HISTORY_DAYS, connection_json, gap_filler_json
from ktrdr.health.programs import NAMES
from ktrdr.health.system import Snapshot, System
from ktrdr.health.verdict import Concern, Service
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import Json
from ktrdr.times import iso
from ktrdr.web.error_handlers import unavailable
from ktrdr.web.logs import MOST_LINES, tail

_LOG_LINES = 50


def system_api(system: System, log_dir: Path) -> Blueprint:
    """`/api/v1/system/…`."""
    api = Blueprint("system", __name__, url_prefix="/api/v1/system")

    @api.get("/ib-status")
    def ib_status() -> ResponseReturnValue:
        return connection_json(system.peers.connection())

    @api.get("/ib-history")
    def ib_history() -> ResponseReturnValue:
        history = system.peers.history(_days(request.args.get("days", "")))
        if history.content is None:
            return unavailable(history)
        return to_json(history.content)

    @api.get("/gap-filler-status")
    def gap_filler_status() -> ResponseReturnValue:
        return gap_filler_json(system.peers.gap_filler())

    @api.get("/system-status")
    def system_status() -> ResponseReturnValue:
        return system_json(system.snapshot())

    @api.get("/port-forward-status")
    def port_forward_status() -> ResponseReturnValue:
        return forwarding_json(system.snapshot().forwarding)

    @api.post("/gap-filler/force-scan")
    def force_scan() -> ResponseReturnValue:
        scan = system.peers.scan()
        return ({"scan_id": scan.content}, 202) if scan.content else unavailable(scan)

    @api.get("/logs/<name>")
    def logs(name: str) -> ResponseReturnValue:
        if name not in NAMES:
            abort(404, f"no program has the name {name!r}: expected one of {', '.join(NAMES)}")
        found = tail(log_dir / f"{name}.log", _line_count(request.args.get("lines", "")))
        return {"file": str(found.path), "lines": found.lines, "reason": found.reason or None}

    return api


def probes(system: System) -> Blueprint:
    """`/healthz`, `/livez` and `/readyz`."""
    api = Blueprint("probes", __name__)

    @api.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return {"alive": True}

    @api.get("/livez")
    def livez() -> ResponseReturnValue:
        """503 while something is wrong on this machine; a gateway that is away does not count."""
        is_live = not system.snapshot().verdict.faults
        return {"live": is_live}, 200 if is_live else 503

    @api.get("/readyz")
    def readyz() -> ResponseReturnValue:
        verdict = system.snapshot().verdict
        reasons = [concern.sentence for concern in verdict.obstacles]
        body = {"ready": not reasons, "reasons": reasons}
        body |= {"health": verdict.health, "summary": verdict.summary}
        return body, 503 if reasons else 200

    return api


def system_json(snapshot: Snapshot) -> Json:
    """The status API's `system-status`: the verdict, and the programs."""
    verdict = snapshot.verdict
    return {
        "health": verdict.health,
        "summary": verdict.summary,
        "needs_person": [
            _concern_json(concern) | {"next_step": concern.next_step}
            for concern in verdict.needs_person
        ],
        "heals": [_concern_json(concern) for concern in verdict.heals],
        "services": {name: _service_json(s) for name, s in snapshot.services.items()},
    }


def _concern_json(concern: Concern) -> Json:
    return {
        "what": concern.what,
        "cause": concern.cause or concern.what,
        "consequence": concern.consequence,
    }


def forwarding_json(report: Report | None) -> Json:
    """port-forward's report; `bytes` are of both directions, all counts since its start."""
    if report is None:
        return {"running": False, "reason": "port-forward has not reported lately"}
    return {
        "running": True,
        "reason": None,
        "port": report.port,
        "target": report.target,
        "copying": report.copying,
        "since": iso(report.started),
        "listening": [
            {"name": one.name, "takes": one.whom, "trouble": one.trouble or None}
            for one in report.listening
        ],
        "notes": [*report.complaints, *report.notes],
        "open_calls": report.open_calls,
        "full": [*report.full],
        "calls": report.calls,
        "refused": dict(report.refused),
        "bytes": report.bytes,
        "gateway": report.gateway or None,
        "gateway_why": report.gateway_why or None,
        "last_error": report.last_error or None,
        "last_error_time": iso(report.last_error_time),
    }


def _service_json(service: Service) -> Json:
    program = service.program
    return {
        "status": service.status,
        "healthy": service.healthy,
        "pid": program.pid,
        "uptime_s": program.uptime_s,
        "cpu_percent": program.cpu_percent,
        "rss_bytes": program.rss_bytes,
    }


def _days(text: str) -> int:
    known = {str(days): days for days in HISTORY_DAYS}
    if text and text not in known:
        abort(400, f"days={text!r}: expected one of {', '.join(known)}")
    return known.get(text, HISTORY_DAYS[0])


def _line_count(text: str) -> int:
    if not text:
        return _LOG_LINES
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_LINES:
        abort(400, f"lines={text!r}: expected a whole number from 1 to {MOST_LINES}")
    return int(text)
