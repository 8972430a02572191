"""The verdict and the programs as JSON: the same for the status API and the command line."""

from __future__ import annotations

from ktrdr.health.services import Service
from ktrdr.health.system import Snapshot
from ktrdr.health.verdict import Concern, Verdict
from ktrdr.ipc.messages import Json


def system_json(snapshot: Snapshot, verdict: Verdict | None = None) -> Json:
    """The status API's `system-status`; with another verdict, if one is given."""
    verdict = verdict or snapshot.verdict
    return {
        "health": verdict.health.value,
        "summary": verdict.summary,
        "needs_person": [
            _concern_json(concern) | {"next_step": concern.next_step}
            for concern in verdict.needs_person
        ],
        "heals": [_concern_json(concern) for concern in verdict.heals],
        "services": {name: _service_json(one) for name, one in snapshot.services.items()},
    }


def _concern_json(concern: Concern) -> Json:
    return {
        "what": concern.what,
        "cause": concern.cause or concern.what,
        "consequence": concern.consequence,
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
