"""The status app: shows what the group does. It changes nothing but by asking the gap filler."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Any

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from ktrdr.config.settings import ROOT, Settings
from ktrdr.escapes import visible, visible_lines
from ktrdr.health.system import System
from ktrdr.web.api import probes, system_api
from ktrdr.web.bars import data_api
from ktrdr.web.error_handlers import answer_errors
from ktrdr.web.fills import fills_api
from ktrdr.web.guard import protect
from ktrdr.web.metrics import metrics_api
from ktrdr.web.page import page


class _Json(DefaultJSONProvider):
    """Keys in the contract's order, and letters as they are: people read it with curl.

    What a terminal would obey is an escape, as JSON has it for some of that anyway.
    """

    sort_keys = False
    ensure_ascii = False

    def dumps(self, obj: Any, **how: Any) -> str:
        """As Flask does. Outside of its strings JSON has line ends and printable ASCII alone."""
        text = super().dumps(obj, **how)
        return "\n".join(map(_json_escaped, text.split("\n")))


def _json_escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if visible(c) == c else dumps(c)[1:-1] for c in line)


class _App(Flask):
    json_provider_class = _Json


def _harmless(value: Any) -> Any:
    """A text that the page shows, without signs that nobody sees, or that turn others around."""
    return visible_lines(value) if type(value) is str else value


def create_app(
    settings: Settings, *, supervisor_socket: Path | None = None, log_dir: Path | None = None
) -> Flask:
    """The WSGI application.

    `supervisor_socket`: where supervisord answers, by default in the run folder. `log_dir`: where
    it writes the programs' logs, by default `var/log` under the project's root.
    """
    app = _App(__name__)
    app.jinja_env.finalize = _harmless
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
