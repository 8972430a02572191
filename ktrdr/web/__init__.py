"""The status app: shows what the group does. It changes nothing but by asking the gap filler."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from ktrdr.config import ROOT, Settings
from ktrdr.health.system import System
from ktrdr.web.api import probes, system_api
from ktrdr.web.bars import data_api
from ktrdr.web.fills import fills_api
from ktrdr.web.guard import protect
from ktrdr.web.metrics import metrics_api
from ktrdr.web.page import page
from ktrdr.web.refusals import answer_errors


class _Json(DefaultJSONProvider):
    """Keys in the contract's order, and letters as they are: people read it with curl."""

    sort_keys = False
    ensure_ascii = False


class _App(Flask):
    json_provider_class = _Json


def create_app(
    settings: Settings, *, supervisor_socket: Path | None = None, log_dir: Path | None = None
) -> Flask:
    """The WSGI application.

    `supervisor_socket`: where supervisord answers, by default in the run folder. `log_dir`: where
    it writes the programs' logs, by default `var/log` under the project's root.
    """
    app = _App(__name__)
    logs = log_dir or ROOT / "var/log"
    supervisor_socket = supervisor_socket or settings.run_dir / "supervisor.sock"
    system = System(settings, supervisor_socket, own="status-app")
    protect(app, settings)
    answer_errors(app)
    app.register_blueprint(page(system, logs))
    app.register_blueprint(system_api(system, logs))
    app.register_blueprint(probes(system))
    app.register_blueprint(data_api(settings, system.peers))
    app.register_blueprint(fills_api(system.peers))
    app.register_blueprint(metrics_api(system))
    return app
