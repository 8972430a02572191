"""Peers to play: real Unix sockets that answer, hang, or talk nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

import pytest
from flask.testing import FlaskClient

from ktrdr.config.settings import Settings, load_settings
from ktrdr.errors import KtrdrError
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus
from ktrdr.ipc.server import Handler, LocalServer
from ktrdr.web import create_app

SERIES = {
    "symbol": "AAPL",
    "timeframe": "1m",
    "file": "AAPL_1m.csv",
    "state": "filling",
    "first": "2026-11-20T14:30:00+00:00",
    "last": "2026-11-20T20:59:00+00:00",
    "expected": 390,
    "present": 380,
    "holes": 2,
    "missing": {"open": 8, "no_trades": 2},
    "error": None,
    "days": [
        {"date": "2026-11-20", "expected": 390, "present": 380, "missing": {"open": 8}},
    ],
}


FILL = {
    "id": 3,
    "symbol": "AAPL",
    "timeframe": "1m",
    "from": "2015-01-01T00:00:00+00:00",
    "asked_at": "2026-11-20T21:00:00+00:00",
    "state": "waiting",
    "why": "no data from IB",
    "hint": "log in",
    "expected": 1000,
    "present": 250,
    "missing": {"open": 750},
    "ended_at": None,
}


REVISIONS = [
    {
        "id": 12,
        "corrected_at": "2026-11-20T21:10:00+00:00",
        "timestamp": None,
        "old": None,
        "new": None,
        "why": "IB revised all prices by a split ratio (4:1, 10 of 10 bars)",
        "old_file": ".ktrdr/replaced/AAPL_1m.20261120T211000Z.csv",
        "bars": 0,
    },
    {
        "id": 7,
        "corrected_at": "2026-11-20T21:00:00+00:00",
        "timestamp": "2026-11-20T14:31:00+00:00",
        "old": {"open": 11.5, "high": 20.0, "low": 9.25, "close": 11.0, "volume": 1001.0},
        "new": {"open": 11.5, "high": 20.0, "low": 9.25, "close": 12.75, "volume": 1234.0},
    },
]


CANDIDATE = {
    "con_id": 265598,
    "local_symbol": "AAPL",
    "exchange": "NASDAQ",
    "currency": "USD",
    "name": "APPLE INC",
    "expiry": "",
    "fields": {},
    "toml": "",
}


KEPT = {
    "symbol": "AAPL",
    "timeframe": "1m",
    "file": "AAPL_1m.csv",
    "state": "filling",
    "is_watched": True,
    "since": "2020-01-01T00:00:00+00:00",
}


class Peers:
    """Plays ib-connection and gap-filler. What each answers may be changed at any time."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.connection: object = {}
        self.gap_filler: object = {}
        self.coverage: object = {"scan_time": "2026-11-20T21:00:00+00:00", "series": [SERIES]}
        self.history: object = {
            "since": "2026-11-19T00:00:00+00:00",
            "until": "2026-11-20T00:00:00+00:00",
            "uptime": 0.998,
            "shares": [None, 1.0, 1.0, 0.4, 0.0, 1.0],
            "spans": [
                {
                    "start": "2026-11-19T04:45:00+00:00",
                    "end": "2026-11-19T04:46:20+00:00",
                    "state": "waiting",
                    "why": "nobody listens there",
                },
                {
                    "start": "2026-11-19T04:46:20+00:00",
                    "end": "2026-11-20T00:00:00+00:00",
                    "state": "connected",
                    "why": "answered",
                },
            ],
            "outages": [
                {
                    "start": "2026-11-02T04:45:00+00:00",
                    "end": "2026-11-02T04:46:30+00:00",
                    "cause": "restart",
                    "worst": "waiting",
                    "expected_kind": "restart",
                },
                {
                    "start": "2026-11-19T21:00:00+00:00",
                    "end": None,
                    "cause": "the history farm ushmds was broken",
                    "worst": "history_down",
                    "expected_kind": "",
                },
            ],
        }
        self.grid: object = {
            "version": "1a",
            "first": "2026-11-16",
            "days": 5,
            "legend": {"c": "complete", ".": "closed", "!": "failed"},
            "series": [["AAPL", "1m", "failed", "cc!.c"]],
            "columns": ["symbol", "timeframe", "state", "row"],
        }
        self.candidates: object = {"symbol": "AAPL", "candidates": [CANDIDATE]}
        self.cost: object = {"costs": [{"bars_late": 12, "bars_lost": 0}] * 2}
        self.day: object = {"day": "2026-11-20", "state": "closed", "bars": []}
        self.evidence: object = {"day": "2026-11-20", "requests": [], "absences": []}
        self.revisions: object = {
            "symbol": "AAPL",
            "timeframe": "1m",
            "total": 2,
            "revisions": [one.copy() for one in REVISIONS],
        }
        self.scan: object = {"accepted": True, "scan_id": "5f1c"}
        self.fill: object = {"accepted": True, "scan_id": "5f1c", "already": [], **FILL}
        self.fills: object = {"fills": [FILL, FILL | {"id": 2, "state": "done"}]}
        self.paused: object = FILL | {"state": "paused"}
        self.resumed: object = FILL | {"state": "queued"}
        self.kept: object = {"series": [KEPT]}
        self.changes: dict[str, object] = {}
        """Symbol → what becomes of its series, where that is not `added`."""
        self.reconnected: object = {"accepted": True}
        self.cancelled: object = {"cancelled": [FILL | {"state": "cancelled"}]}
        self.requested: list[dict[str, str]] = []

    def routes(self) -> Mapping[str, Mapping[tuple[str, str], Handler]]:
        return {
            "ib-connection.sock": {
                ("GET", "/status"): self._says("connection"),
                ("GET", "/history"): self._says("history"),
                ("POST", "/reconnect"): self._says("reconnected"),
            },
            "gap-filler.sock": {
                ("GET", "/status"): self._says("gap_filler"),
                ("GET", "/coverage"): self._covers,
                ("GET", "/requests"): self._says("evidence"),
                ("GET", "/revisions"): self._says("revisions"),
                ("GET", "/grid"): self._says("grid"),
                ("GET", "/cost"): self._says("cost"),
                ("POST", "/scan"): self._says("scan"),
                ("POST", "/fill"): self._says("fill"),
                ("GET", "/fills"): self._says("fills"),
                ("GET", "/series"): self._says("kept"),
                ("POST", "/series"): self._changes("added"),
                ("DELETE", "/series"): self._changes("removed"),
                ("POST", "/series/settings"): self._changes("changed"),
                ("GET", "/series/candidates"): self._says("candidates"),
                ("POST", "/fills/pause"): self._says("paused"),
                ("POST", "/fills/resume"): self._says("resumed"),
                ("DELETE", "/fills"): self._says("cancelled"),
            },
        }

    def _changes(self, outcome: str) -> Handler:
        async def handler(query: Mapping[str, str]) -> dict:
            self.requested.append({"what": outcome, **query})
            answer = self.changes.get(query["symbol"], {})
            if isinstance(answer, KtrdrError):
                raise answer
            name = f"{query['symbol']}_{query['timeframe']}"
            return {
                "symbol": query["symbol"],
                "timeframe": query["timeframe"],
                "file": f"{name}.csv",
                "outcome": outcome,
                "message": f"{name}: {outcome}",
                "candidates": [CANDIDATE],
                "is_trial": query.get("dry_run") == "true",
                **answer,
            }

        return handler

    async def _covers(self, query: Mapping[str, str]) -> dict:
        return await self._says("day" if "day" in query else "coverage")(query)

    def _says(self, what: str) -> Handler:
        async def handler(query: Mapping[str, str]) -> dict:
            self.requested.append({"what": what, **query})
            answer = getattr(self, what)
            if isinstance(answer, KtrdrError):
                raise answer
            return answer if isinstance(answer, dict | list) else to_json(answer)

        return handler


@contextlib.contextmanager
def served(
    run_dir: Path, routes: Mapping[str, Mapping[tuple[str, str], Handler]]
) -> Iterator[None]:
    """The routes, each at its socket, on a loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers = [LocalServer(run_dir / name, handlers) for name, handlers in routes.items()]
    try:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield
    finally:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def pretended(run_dir: Path, *names: str) -> Iterator[None]:
    """Programs that seem to run: their pid files, and a process with their names."""
    words = ["ktrdr.sim", "ktrdr.web", "ktrdr.forwarder", "ktrdr.data.ib_connection_manager"]
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=PIPE) as process:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            (run_dir / f"{name}.pid").write_text(str(process.pid))
        yield
        for name in names:
            (run_dir / f"{name}.pid").unlink()
        process.communicate(b"\n")


class Supervisor:
    """Plays supervisord for `supervised`."""

    def __init__(self, states: Mapping[str, tuple[str, int]]) -> None:
        self.states = states
        self.called: list[tuple[object, ...]] = []
        self.fault: Fault | None = None

    def answer(self, method: str, arguments: tuple[object, ...]) -> object:
        name = method.removeprefix("supervisor.")
        if name == "getAllProcessInfo":
            return [
                {"name": one, "statename": state, "pid": pid, "start": 1}
                for one, (state, pid) in self.states.items()
            ]
        self.called.append((name, *arguments))
        if self.fault:
            raise self.fault
        return True


@contextlib.contextmanager
def supervised(path: Path, states: Mapping[str, tuple[str, int]]) -> Iterator[Supervisor]:
    """supervisord at its socket, with programs in these states (and their pids)."""
    played = Supervisor(states)

    class Handler(SimpleXMLRPCRequestHandler):
        rpc_paths = ("/", "/RPC2")
        disable_nagle_algorithm = False

        def address_string(self) -> str:
            return "a Unix socket"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer, SimpleXMLRPCDispatcher):
        logRequests = False  # noqa: N815 - xmlrpc's name

        def __init__(self) -> None:
            SimpleXMLRPCDispatcher.__init__(self)
            socketserver.ThreadingUnixStreamServer.__init__(self, str(path), Handler)

        def _dispatch(self, method: str, params: tuple[object, ...]) -> object:
            return played.answer(method, params)

    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield played
        server.shutdown()
        thread.join()
    path.unlink()


@contextlib.contextmanager
def hung(path: Path) -> Iterator[None]:
    """A program that accepts connections, and sends nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        yield
    path.unlink()


@contextlib.contextmanager
def babbling(path: Path, words: bytes) -> Iterator[None]:
    """A program that answers everything with the same bytes."""

    class Babble(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(words)

    with socketserver.ThreadingUnixStreamServer(str(path), Babble) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield
        server.shutdown()
        thread.join()
    path.unlink()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short, for a socket's path has 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="ktrdr-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def settings(run_dir: Path, tmp_path: Path) -> Settings:
    folder = tmp_path / "store"
    folder.mkdir(exist_ok=True)  # as the gap filler does
    return load_settings(_env_file=None, ib_host=None, ktrdr_run_dir=run_dir, ktrdr_data_dir=folder)


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


@pytest.fixture
def new_client(settings: Settings, log_dir: Path) -> Callable[..., FlaskClient]:
    """A client of an app with these settings changed."""

    def make(**changes) -> FlaskClient:
        changed = settings.model_copy(update=changes)
        return create_app(changed, log_dir=log_dir).test_client()

    return make


@pytest.fixture
def client(new_client: Callable[..., FlaskClient]) -> FlaskClient:
    return new_client()


@pytest.fixture
def played(run_dir: Path, connected: ConnectionStatus, filling: GapFillerStatus) -> Peers:
    """Both programs, which answer once they are served."""
    played = Peers(run_dir)
    played.connection, played.gap_filler = connected, filling
    return played


@pytest.fixture
def peers(run_dir: Path, played: Peers) -> Iterator[Peers]:
    """Both programs, answering."""
    with served(run_dir, played.routes()):
        yield played


@pytest.fixture
def connected() -> ConnectionStatus:
    return connected_status()


def connected_status() -> ConnectionStatus:
    """The status of a connection that is well."""
    now = datetime.now(UTC)
    return ConnectionStatus(
        connected=True,
        state="connected",
        gateway="simulated",
        host="127.0.0.1",
        port=4102,
        client_id=1,
        server_version=178,
        last_connect_time=now - timedelta(hours=3),
        last_disconnect_time=None,
        last_answer_time=now - timedelta(seconds=4),
        connection_attempts=7,
        failed_attempts=3,
        next_retry_time=None,
        requests_open=2,
        requests_answered=48213,
        last_error=None,
    )


@pytest.fixture
def filling(tmp_path: Path) -> GapFillerStatus:
    return filling_status(tmp_path / "store")


def filling_status(folder: Path) -> GapFillerStatus:
    """The status of a gap filler that is at work."""
    now = datetime.now(UTC)
    return GapFillerStatus(
        running=True,
        state="filling",
        reason="",
        source="simulated",
        data_dir=str(folder),
        check_interval_s=300,
        max_gap_age_days=30,
        batch_symbols=5,
        supported_timeframes=("1m", "5m", "15m", "30m", "1h", "4h", "1d"),
        last_scan_time=now - timedelta(seconds=73),
        last_scan_id="ab12",
        next_scan_time=now + timedelta(seconds=227),
        series=1,
        gaps_detected=1312,
        gaps_filled=1201,
        gaps_failed=0,
        series_blocked=0,
        gaps_remaining=108,
        unfillable={"no_trades": 14},
        bars_added=184233,
        symbols_processed=7,
        current=("AAPL 1m",),
        eta_s=412.0,
        eta_words="about 6 to 8 min",
        as_of=now,
        counted_since=now - timedelta(hours=2),
        series_states={"filling": 1},
    )


@pytest.fixture
def idle(filling: GapFillerStatus) -> GapFillerStatus:
    return idle_status(filling)


def idle_status(filling: GapFillerStatus) -> GapFillerStatus:
    """The same when all is complete."""
    return replace(
        filling,
        state="idle",
        gaps_remaining=0,
        current=(),
        eta_s=0.0,
        eta_words="",
        series_current=1,
        series_states={},
    )


@pytest.fixture
def hang() -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    return hung


@pytest.fixture
def babble() -> Callable[[Path, bytes], contextlib.AbstractContextManager[None]]:
    return babbling
