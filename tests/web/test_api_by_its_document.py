"""Requests that the OpenAPI document allows, and some that it does not: each answer is as it says.

schemathesis makes them and judges the answers; the peers are played, the app is called directly.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ktrdr.config.settings import load_settings
from ktrdr.web import create_app
from tests.played_peers import Peers, connected_status, filling_status, served, supervised

ROWS = "".join(
    f"2026-11-20 14:{minute}:00+00:00,228.06,228.21,227.98,228.15,41200\n"
    for minute in range(30, 60)
)
OPERATIONS = [
    (path, method, "parameters" in one)
    for path, item in create_app(load_settings(_env_file=None))
    .test_client()
    .get("/api/v1/openapi.json")
    .json["paths"]
    .items()
    for method, one in item.items()
]
"""Path, method, and whether there is anything to be wrong."""
EXAMPLES = 20
HOW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,  # the same requests every time
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def api():
    """The app with a store and played peers, as its own document describes it."""
    folder = Path(tempfile.mkdtemp(prefix="ktrdr-"))
    (folder / "run").mkdir(mode=0o700)
    (folder / "store").mkdir()
    (folder / "store" / "AAPL_1m.csv").write_text(f"timestamp,open,high,low,close,volume\n{ROWS}")
    chosen = {"ktrdr_run_dir": folder / "run", "ktrdr_data_dir": folder / "store"}
    supervisor = folder / "run" / "supervisor.sock"  # played: no program is stopped by these
    chosen_settings = load_settings(_env_file=None, ib_host=None, **chosen)
    app = create_app(chosen_settings, supervisor_socket=supervisor, log_dir=folder)
    peers = Peers(folder / "run")
    peers.connection, peers.gap_filler = connected_status(), filling_status(folder / "store")
    with served(folder / "run", peers.routes()), supervised(supervisor, {}):
        yield schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)
    shutil.rmtree(folder)


@pytest.mark.parametrize(("path", "method"), [one[:2] for one in OPERATIONS])
def test_what_the_document_allows_is_answered_as_it_says(api, path, method):
    _check(api[path][method], GenerationMode.POSITIVE)


@pytest.mark.parametrize(("path", "method"), [one[:2] for one in OPERATIONS if one[2]])
def test_what_it_does_not_allow_is_refused_as_it_says(api, path, method):
    _check(api[path][method], GenerationMode.NEGATIVE)


def _check(operation, mode):
    @HOW
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        # A document cannot say that a start is to be before its end, or which id came before.
        is_unsure = {"start", "end"} <= {*(case.query or ())} or "Last-Event-ID" in case.headers
        unsure = [positive_data_acceptance] if is_unsure else []
        case.call_and_validate(headers={"Accept-Encoding": "identity"}, excluded_checks=unsure)

    check()
