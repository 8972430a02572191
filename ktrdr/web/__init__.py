"""The status app: page and API on the group's state. The gap filler makes all changes."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Any

from flask import Flask, Response
from flask.json.provider import DefaultJSONProvider

from ktrdr.config.settings import ROOT, Settings
from ktrdr.escapes import visible, visible_lines
from ktrdr.health.recorder import FILE, Recorder
from ktrdr.health.simulator import Simulator
from ktrdr.health.system import System
from ktrdr.web.api import probes, system_api
from ktrdr.web.assets import serve_assets
from ktrdr.web.bars import data_api
from ktrdr.web.error_handlers import answer_errors
from ktrdr.web.fills import fills_api
from ktrdr.web.grid import grid_api
from ktrdr.web.guard import protect
from ktrdr.web.index import index_api
from ktrdr.web.kept_series import kept_series_api
from ktrdr.web.metrics import metrics_api
from ktrdr.web.pages.page import Site
from ktrdr.web.pages.site import pages
from ktrdr.web.reverse_proxy import stand_behind_proxies
from ktrdr.web.revisions import revisions_api
from ktrdr.web.streams import streams_api
from ktrdr.web.validators import validate_answers
from ktrdr.web.verdict_badge import badges

RECORDER = "ktrdr.recorder"
"""The key of the app's recorder in its extensions; `serve` has it run."""


class _Json(DefaultJSONProvider):
    """JSON with keys in the contract's order and letters as they are, for people with curl.

    Control characters that a terminal would obey are escaped, all of them and not only JSON's.
    """

    sort_keys = False
    ensure_ascii = False

    def dumps(self, obj: Any, **how: Any) -> str:
        """As Flask does. Outside of strings JSON has only line ends and printable ASCII."""
        how.setdefault("separators", (",", ":"))
        text = super().dumps(obj, **how)
        return "\n".join(map(_json_escaped, text.split("\n")))


def _json_escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if visible(c) == c else dumps(c)[1:-1] for c in line)


class _App(Flask):
    json_provider_class = _Json

    def make_default_options_response(self) -> Response:
        """An answer to OPTIONS without content, as it has none."""
        response = super().make_default_options_response()
        response.status_code = 204
        del response.headers["Content-Type"]
        return response


def _harmless(value: Any) -> Any:
    """A text for the page, with invisible and direction-changing characters escaped."""
    return visible_lines(value) if type(value) is str else value


def create_app(
    settings: Settings, *, supervisor_socket: Path | None = None, log_dir: Path | None = None
) -> Flask:
    """The WSGI application.

    `supervisor_socket`: supervisord's, by default in the run folder. `log_dir`: the programs' logs,
    by default `var/log` under the project's root.
    """
    app = _App(__name__, static_folder=None)
    app.jinja_env.finalize = _harmless
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    logs = log_dir or ROOT / "var/log"
    supervisor_socket = supervisor_socket or settings.run_dir / "supervisor.sock"
    system = System(settings, supervisor_socket, own="status-app")
    stand_behind_proxies(app, settings)
    recorder = app.extensions[RECORDER] = Recorder(system, settings.run_dir / FILE)
    protect(app, settings)
    validate_answers(app)
    answer_errors(app)
    serve_assets(app)
    app.register_blueprint(pages(Site(system, logs, Simulator(settings), recorder)))
    app.register_blueprint(index_api())
    app.register_blueprint(system_api(system, logs))
    app.register_blueprint(probes(system))
    app.register_blueprint(data_api(settings, system.peers))
    app.register_blueprint(streams_api(settings))
    app.register_blueprint(grid_api(system.peers, recorder))
    app.register_blueprint(fills_api(system.peers))
    app.register_blueprint(revisions_api(system.peers))
    app.register_blueprint(kept_series_api(system.peers))
    app.register_blueprint(metrics_api(system))
    app.register_blueprint(badges(system))
    return app
