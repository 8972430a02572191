"""The status API's endpoints on the group's state, in JSON; those on bars are in `bars`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from flask import Blueprint, abort
from flask.typing import ResponseReturnValue
from pydantic import Field

from ktrdr.errors import PeerDown, ProgramRefused
from ktrdr.forwarder.report import Report
from ktrdr.health.peers import connection_json, gap_filler_json
from ktrdr.health.programs import NAMES
from ktrdr.health.supervisor import ACTIONS
from ktrdr.health.system import System
from ktrdr.health.system_json import system_json
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import (
    ConnectionHistory,
    ConnectionStatus,
    GapFillerStatus,
    Json,
    ScanAccepted,
)
from ktrdr.times import iso
from ktrdr.web.answers import ForwardingAnswer, LogAnswer, RequestedAction, SystemAnswer
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.error_handlers import unavailable
from ktrdr.web.logs import MOST_LINES, tail
from ktrdr.web.parameters import DIGITS, Parameters


class HistoryQuery(Parameters):
    """How long ago the history begins."""

    days: Annotated[Literal[1, 30], DIGITS] = Field(1, description="how many days")


class LogQuery(Parameters):
    """How much of a log."""

    lines: Annotated[int, Field(ge=1, le=MOST_LINES), DIGITS] = Field(
        50, description="how many lines at most, counted from the end"
    )


def system_api(system: System, log_dir: Path) -> Blueprint:
    """`/api/v1/system/…`."""
    api = Blueprint("system", __name__, url_prefix="/api/v1/system")

    @api.get("/ib-status")
    @endpoint(Shape(ConnectionStatus, name="IbStatus", flag="connected"))
    def ib_status() -> ResponseReturnValue:
        """The state of the connection to IB."""
        return connection_json(system.peers.connection())

    @api.get("/ib-history")
    @endpoint(Shape(ConnectionHistory), query=HistoryQuery, problems=(PeerDown,))
    def ib_history(query: HistoryQuery) -> ResponseReturnValue:
        """The connection's states and outages in the last days."""
        history = system.peers.history(query.days)
        if history.content is None:
            return unavailable(history)
        return to_json(history.content)

    @api.get("/gap-filler-status")
    @endpoint(Shape(GapFillerStatus, name="FillerStatus", flag="running"))
    def gap_filler_status() -> ResponseReturnValue:
        """What the gap filler does, and what is still missing."""
        return gap_filler_json(system.peers.gap_filler())

    @api.get("/system-status")
    @endpoint(Shape(SystemAnswer))
    def system_status() -> ResponseReturnValue:
        """The verdict on everything, and the programs."""
        return system_json(system.snapshot())

    @api.get("/port-forward-status")
    @endpoint(Shape(ForwardingAnswer))
    def port_forward_status() -> ResponseReturnValue:
        """Where port-forward listens, for whom, and how much it has forwarded."""
        return forwarding_json(system.snapshot().forwarding)

    _add_actions(api, system)
    _add_logs(api, log_dir)
    return api


def _add_actions(api: Blueprint, system: System) -> None:
    """What programs can be made to do."""

    @api.post("/gap-filler/force-scan")
    @endpoint(Shape(ScanAccepted), status=202, problems=(PeerDown,))
    def force_scan() -> ResponseReturnValue:
        """Have the gap filler look for gaps now."""
        scan = system.peers.scan()
        return ({"scan_id": scan.content}, 202) if scan.content else unavailable(scan)

    @api.post("/ib-connection/reconnect")
    @endpoint(Shape(RequestedAction), status=202, problems=(PeerDown,))
    def reconnect() -> ResponseReturnValue:
        """Close the connection to IB, or cut a wait short, and make it anew."""
        system.peers.reconnect()
        return to_json(RequestedAction("ib-connection", "reconnect")), 202

    @api.post("/programs/<name>/<action>")
    @endpoint(
        Shape(RequestedAction),
        status=202,
        problems=(PeerDown, ProgramRefused),
        further={404: "there is no such program, or nothing of that kind to do"},
        path={
            "name": {"type": "string", "enum": [*NAMES]},
            "action": {"type": "string", "enum": [*ACTIONS]},
        },
    )
    def control_program(name: str, action: str) -> ResponseReturnValue:
        """Start, stop or restart a program; the end of it is not waited for."""
        _expect_program(name)
        if action not in ACTIONS:
            abort(404, f"nothing to do is named {action!r}: expected one of {', '.join(ACTIONS)}")
        system.control(name, action)
        return to_json(RequestedAction(name, action)), 202


def _add_logs(api: Blueprint, log_dir: Path) -> None:
    """`/api/v1/system/logs/…`."""

    @api.get("/logs/<name>")
    @endpoint(
        Shape(LogAnswer),
        query=LogQuery,
        further={404: "there is no such program"},
        path={"name": {"type": "string", "enum": [*NAMES]}},
    )
    def logs(query: LogQuery, name: str) -> ResponseReturnValue:
        """The last lines of a program's log."""
        _expect_program(name)
        found = tail(log_dir / f"{name}.log", query.lines)
        return {"file": str(found.path), "lines": found.lines, "reason": found.reason or None}


def _expect_program(name: str) -> None:
    if name not in NAMES:
        abort(404, f"no program has the name {name!r}: expected one of {', '.join(NAMES)}")


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
