"""The command line, against peers that are real sockets, and none."""

import asyncio
import contextlib
import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.cli.fill_progress import follow, time_left
from ktrdr.errors import (
    InvalidRequest,
    KtrdrError,
    PeerDown,
    StoreUnwritable,
    UnknownContract,
    UnknownFill,
)
from ktrdr.escapes import visible
from ktrdr.ipc.codec import from_text, to_json
from ktrdr.ipc.messages import ACCEPTED, FillAccepted, LastError, SeriesTrouble
from ktrdr.ipc.server import LocalServer, serving
from tests.conftest import wait_for
from tests.played_peers import KEPT, connected_status, filling_status, idle_status, pretended

HEADER = "timestamp,open,high,low,close,volume\n"
CONNECTED = connected_status()
LOST = replace(
    CONNECTED,
    connected=False,
    state="waiting",
    no_data_since=datetime(2026, 11, 20, 21, 0, 5, tzinfo=UTC),
    last_error=LastError(502, "cannot connect", "start the gateway"),
)
FILLER = replace(filling_status(Path("data")), gaps_remaining=7, unfillable={"too_old": 2})
COMPLETE = replace(idle_status(FILLER), unfillable={"too_old": 2})
SERIES = {
    "file": "AAPL_1m.csv",
    "holes": 0,
    "error_code": None,
    "symbol": "AAPL",
    "timeframe": "1m",
    "state": "complete",
    "expected": 390,
    "present": 388,
    "missing": {"no_trades": 2},
    "last": "2026-11-20T20:59:00+00:00",
    "error": None,
}


@pytest.fixture
def settings(make_settings, monkeypatch):
    """Those that a command finds in its environment."""
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("COLUMNS", "200")
    return settings


@pytest.fixture
def ktrdr(settings):
    assert settings.run_dir
    return lambda *words: CliRunner().invoke(app, words)


def of_now(status):
    """The same, as of now."""
    moment = "last_answer_time" if status in (CONNECTED, LOST) else "as_of"
    return replace(status, **{moment: datetime.now(UTC)})


def says(answer):
    async def handler(_query):
        return answer if isinstance(answer, dict) else to_json(of_now(answer))

    return handler


@pytest.fixture
def connection(settings):
    """Let ib-connection say something."""
    return lambda answer: serving(
        LocalServer(settings.connection_socket, {("GET", "/status"): says(answer)})
    )


@pytest.fixture
def gap_filler(settings):
    routes = {
        ("GET", "/status"): says(COMPLETE),
        ("GET", "/coverage"): says({"series": [SERIES, SERIES | {"symbol": "MSFT"}]}),
        ("POST", "/scan"): says({ACCEPTED: True, "scan_id": "abc123"}),
    }
    with serving(LocalServer(settings.gap_filler_socket, routes)):
        yield


@pytest.fixture
def others(settings):
    """The programs, which get no request."""
    with pretended(settings.run_dir, "port-forward", "status-app", "gateway-sim"):
        yield


def test_with_nothing_running_status_says_so_and_fails(ktrdr):
    result = ktrdr("status")
    assert result.exit_code == 3
    assert "critical ib-connection is not running" in result.output
    assert result.output.count("next: ./scripts/up") == 4


def test_with_nothing_running_the_doctor_names_what_starts_the_group_and_nothing_else(ktrdr):
    result = ktrdr("doctor")
    assert result.exit_code == 3
    steps = {line for line in result.output.splitlines() if "next: " in line}
    assert steps == {"  next: ./scripts/up"}


@pytest.mark.usefixtures("gap_filler", "others")
def test_status_tells_that_all_is_well(ktrdr, connection):
    with connection(CONNECTED):
        result = ktrdr("status")
    assert result.exit_code == 0, result.output
    for words in (
        "healthy The series is complete.",
        "SIMULATED gateway at 127.0.0.1:4102",
        "1 of 1 series complete",
        "2 gaps remain",
    ):
        assert words in result.output


@pytest.mark.usefixtures("others")
def test_status_tells_one_of_a_kind_in_the_singular(ktrdr, connection, filler):
    one = replace(FILLER, gaps_remaining=1, gaps_failed=1, gaps_filled=1, bars_added=1)
    filler(status=replace(one, unfillable={"too_old": 1}, counted_since=datetime.now(UTC)))
    with connection(CONNECTED):
        output = ktrdr("status").output
    assert "1 gap to close, 1 of them failed" in output
    assert "1 gap remains: too old to be fetched unless requested" in output
    assert "1 bar added, 1 gap filled" in output


@pytest.mark.usefixtures("others")
def test_status_tells_what_is_on_its_way(ktrdr, connection, filler):
    filler()
    with connection(CONNECTED):
        result = ktrdr("status")
    assert result.exit_code == 1
    for words in (
        "degraded 0 of 1 series are complete, 1 being filled.",
        "7 gaps to close",
        "done in about 6 to 8 min",
    ):
        assert words in result.output


@pytest.mark.usefixtures("others")
def test_status_tells_who_needs_somebody_and_what_to_do(ktrdr, connection, filler):
    trouble = SeriesTrouble("unknown_contract", "none such", "is it spelt so?", ("XYZQ_1d",), 1)
    filler(status=replace(COMPLETE, series=2, series_troubled=1, troubles=(trouble,)))
    with connection(CONNECTED):
        result = ktrdr("status")
    assert result.exit_code == 1
    assert "1 of 2 series are complete, 1 needs you: XYZQ." in result.output
    assert "✗ XYZQ_1d: none such\n  it is not kept complete\n  next: is it" in result.output


NASTY = "a\x1b[2J\x9b31mb\rc\u202ed\u200be"
SPELLED = r"a\x1b[2J\x9b31mb\rc\u202ed\u200be"


@pytest.mark.usefixtures("others")
def test_no_text_of_others_is_obeyed_by_the_terminal(ktrdr, connection, settings):
    trouble = SeriesTrouble("unknown_contract", NASTY, NASTY, (f"{NASTY}_1d",), 1)
    status = replace(COMPLETE, series=2, series_troubled=1, troubles=(trouble,))
    nasty = SERIES | {"symbol": NASTY, "state": "failed", "error": NASTY, "hint": NASTY}
    routes = {
        ("GET", "/status"): says(to_json(of_now(status))),
        ("GET", "/coverage"): says({"series": [nasty]}),
        ("POST", "/scan"): says({ACCEPTED: True, "scan_id": NASTY}),
        ("GET", "/fills"): says({"fills": [FILL | {"symbol": NASTY, "why": NASTY}]}),
    }
    with (
        connection(to_json(replace(of_now(CONNECTED), host=NASTY, reminder=NASTY))),
        serving(LocalServer(settings.gap_filler_socket, routes)),
    ):
        for words in (["status"], ["doctor"], ["gaps"], ["scan"], ["fills"]):
            output = ktrdr(*words).output
            assert SPELLED.replace("[", "") in output.replace("\n", "").replace("[", ""), words
            assert not [c for c in output if c not in "\n\t" and visible(c) != c], words


def test_nor_is_that_of_a_file(ktrdr, settings):
    (settings.data_dir / "AAPL_1m.csv").write_text(f"{HEADER}{NASTY},1,1,1,1,1\n")
    (settings.data_dir / f"{NASTY}_1x.csv").touch()
    output = ktrdr("check").output
    assert r"\x1b" in output
    assert not [c for c in output if c not in "\n\t" and visible(c) != c]


@pytest.mark.usefixtures("gap_filler", "others")
def test_a_lost_connection_is_shown_with_the_next_step(ktrdr, connection):
    with connection(LOST):
        result = ktrdr("status")
    assert result.exit_code == 1
    assert "next: start the gateway" in result.output
    assert "no data since 2026-11-20 21:00:05 UTC" in result.output


@pytest.mark.usefixtures("gap_filler")
def test_gaps_shows_why_bars_are_missing(ktrdr):
    result = ktrdr("gaps", "AAPL")
    assert "AAPL_1m" in result.output
    assert "2 without trades, verified" in result.output
    assert "MSFT" not in result.output


@pytest.mark.usefixtures("gap_filler")
@pytest.mark.parametrize(
    ("words", "expected", "hint"),
    [
        (["ZZZZ"], "has no series of 'ZZZZ'", "ktrdr watch list shows all series"),
        (["aapl"], "has no series of 'aapl'", "did you mean AAPL?"),
        (["AAPL", "5m"], "has AAPL in 1m, and not in 5m", "ktrdr watch add AAPL 5m\n"),
        (["AAPL", "2m"], "'2m': expected one of 1m 5m 15m 30m 1h 4h 1d", "did you mean 1m?"),
    ],
)
def test_a_series_that_nobody_watches_is_named_with_what_there_is(ktrdr, words, expected, hint):
    result = ktrdr("gaps", *words)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert hint in result.stderr


@pytest.mark.usefixtures("gap_filler")
@pytest.mark.parametrize(
    "words",
    [
        ["gaps", "AAPL", "1m", "--day", "\udcff"],
        ["fill", "\udcff", "1m", "--from", "2026-11-01"],
        ["fill", "AAPL", "1m", "--from", "\udcff"],
        ["fill", "--cancel", "\udcff", "1m"],
        ["fills", "\udcff"],
        ["sim", "fault", "\udcff"],
        ["sim", "fault", "late", "seconds=\udcff"],
        ["sim", "fault", "late", "\udcff=3"],
    ],
)
def test_what_is_no_text_is_refused_in_a_line(ktrdr, words):
    result = ktrdr(*words)
    assert result.exit_code == 2
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("ktrdr: "))
    assert r"\udcff" in line
    assert line.endswith("not UTF-8")


@pytest.mark.usefixtures("gap_filler")
def test_a_scan_is_requested(ktrdr):
    assert "scan abc123" in ktrdr("scan").output


def test_show_prints_the_bars_and_says_what_is_not_proven(ktrdr, settings):
    row = "2026-11-20 14:30:00+00:00,228.06,228.21,227.98,228.15,41200"
    (settings.data_dir / "AAPL_1m.csv").write_text(f"{HEADER}{row}\n")
    result = ktrdr("show", "AAPL", "1m")
    assert result.exit_code == 0
    assert "228.06,228.21,227.98,228.15,41200\n" in result.stdout
    assert "not complete: gap-filler is not running" in result.stderr


@pytest.fixture
def simulated(settings):
    """A store of simulated bars."""
    row = "2026-11-20 14:30:00+00:00,228.06,228.21,227.98,228.15,41200"
    (settings.data_dir / "AAPL_1m.csv").write_text(f"{HEADER}{row}\n")
    (settings.data_dir / ".ktrdr").mkdir()
    (settings.data_dir / ".ktrdr" / "source").write_text("simulated\n")
    return settings


@pytest.mark.usefixtures("simulated")
def test_simulated_bars_are_never_shown_without_that_word(ktrdr, scratch):
    shown = ktrdr("show", "AAPL", "1m")
    assert shown.stderr.startswith("SIMULATED: ")
    assert shown.stdout.startswith("timestamp,")
    exported = ktrdr("export", "AAPL", "--timeframe", "1m", "--to", f"{scratch}/bars.parquet")
    assert "SIMULATED: " in exported.stderr


def test_bars_of_nobody_are_not_called_simulated(ktrdr, simulated):
    (simulated.data_dir / ".ktrdr" / "source").unlink()
    assert "SIMULATED" not in ktrdr("show", "AAPL", "1m").output


@pytest.mark.parametrize(
    "words", [("gaps",), ("fill", "AAPL", "1m", "--from", "2020-01-01", "--no-wait")]
)
@pytest.mark.parametrize(("source", "times"), [("simulated", 1), ("live", 0)])
def test_coverage_of_simulated_bars_is_shown_with_that_word(ktrdr, filler, words, source, times):
    filler(status=replace(FILLER, source=source))
    assert ktrdr(*words).stderr.count("SIMULATED: ") == times


@pytest.mark.parametrize(
    ("words", "named", "code"),
    [
        (("show", "../../etc/passwd", "1m"), "'../../etc/passwd'", 2),
        (("show", "AAPL", "2m"), "'2m'", 2),
        (("show", "AAPL", "1m"), "has no AAPL_1m.csv", 2),
        (("scan",), "gap-filler is not running", 3),
        (("reconnect",), "ib-connection is not running", 3),
        (("gaps", "AAPL"), "gap-filler is not running", 3),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_code(ktrdr, words, named, code):
    result = ktrdr(*words)
    assert result.exit_code == code
    assert named in result.stderr
    assert "Traceback" not in result.output


def test_a_wrong_setting_is_one_line(ktrdr, monkeypatch):
    monkeypatch.setenv("IB_PORT", "http")
    result = ktrdr("status")
    assert result.exit_code == 2
    assert "IB_PORT=http" in result.stderr


def test_an_unknown_name_is_one_line(ktrdr, monkeypatch):
    monkeypatch.setenv("KTRDR_GAP_MAX_AGE_DAY", "5")
    result = ktrdr("status")
    assert result.exit_code == 2
    assert result.stderr.endswith("did you mean KTRDR_GAP_MAX_AGE_DAYS?\n")
    assert result.stderr.count("\n") == 1


FILL = {
    "id": 3,
    "symbol": "AAPL",
    "timeframe": "1m",
    "from": "2020-01-01T00:00:00+00:00",
    "state": "filling",
    "why": "",
    "hint": "",
    "expected": 390,
    "present": 380,
    "missing": {"open": 10},
}
DONE = FILL | {"state": "done", "present": 388, "missing": {"no_trades": 2}}
WAITING = FILL | {"state": "waiting", "why": "no data from IB: refused", "hint": "log in"}


def changes(requested, what, state):
    """The answer to a change of one fill."""

    async def handler(query):
        requested.append((what, dict(query)))
        return FILL | {"id": int(query["id"]), "state": state}

    return handler


@pytest.fixture
def filler(settings):
    """`filler(**answers)`: a gap filler with these answers; `fills` are given one after another."""
    with contextlib.ExitStack() as stack:

        def play(
            status=FILLER, coverage=(SERIES,), fill=FILL, fills=(DONE,), cancelled=(), day=None
        ):
            requested, coming = [], list(fills)

            def raised(answer):
                if isinstance(answer, KtrdrError):
                    raise answer
                return answer

            async def says_status(_):
                return to_json(of_now(replace(status, last_scan_id="f1", eta_s=12.0)))

            async def says_coverage(query):
                requested.append(("coverage", dict(query)))
                return day if "day" in query else {"series": list(coverage)}

            async def says_series(_):
                return {"series": [KEPT]}

            async def says_fill(query):
                requested.append(("fill", dict(query)))
                answer = {ACCEPTED: True, "scan_id": "f1", "already": [], "since": None}
                return answer | raised(fill)

            async def says_fills(query):
                requested.append(("fills", dict(query)))
                now = coming.pop(0) if len(coming) > 1 else coming[0]
                return {"fills": now if isinstance(now, list) else [raised(now)]}

            async def says_cancelled(query):
                requested.append(("cancel", dict(query)))
                return {"cancelled": list(raised(cancelled))}

            routes = {
                ("GET", "/status"): says_status,
                ("GET", "/coverage"): says_coverage,
                ("GET", "/series"): says_series,
                ("POST", "/fill"): says_fill,
                ("GET", "/fills"): says_fills,
                ("DELETE", "/fills"): says_cancelled,
                ("POST", "/fills/pause"): changes(requested, "pause", "paused"),
                ("POST", "/fills/resume"): changes(requested, "resume", "queued"),
            }
            stack.enter_context(serving(LocalServer(settings.gap_filler_socket, routes)))
            return requested

        yield play


START = ("fill", "AAPL", "1m", "--from", "2020-01-01")


def test_a_fill_is_requested_and_followed_to_its_end(ktrdr, filler):
    requested = filler(fills=[FILL, DONE])
    done = ktrdr(*START)
    assert done.exit_code == 0, done.output
    assert requested[0] == ("fill", {"symbol": "AAPL", "timeframe": "1m", "from": "2020-01-01"})
    assert "fill 3, AAPL_1m from 2020-01-01 on, begins with the newest bars" in done.output
    assert "388 of 390 bars; 2 without trades" in done.output


def test_a_fill_need_not_be_waited_for(ktrdr, filler):
    requested = filler()
    assert ktrdr(*START, "--no-wait").exit_code == 0
    assert [what for what, _ in requested] == ["fill"]


def test_what_was_requested_already_is_shown(ktrdr, filler):
    earlier = FILL | {"id": 1, "from": "2015-01-01T00:00:00+00:00"}
    filler(fill=FILL | {"already": [earlier], "since": "2018-01-01T00:00:00+00:00"})
    output = ktrdr(*START, "--no-wait").output
    assert "fill 1 from 2015-01-01 on, since = 2018-01-01 in instruments.toml" in output


def test_a_fill_that_waits_says_for_what_once_and_the_next_step_and_no_time(ktrdr, filler):
    again = [WAITING | {"why": f"{WAITING['why']}; tried again at 10:0{n}"} for n in range(3)]
    filler(fills=[*again, FILL, DONE])
    done = ktrdr(*START)
    assert done.exit_code == 0
    assert done.output.count("waiting: no data from IB: refused; tried again at 10:00") == 1
    assert done.output.count("waiting:") == 1
    assert "next: log in" in done.output
    assert "left" not in done.output


class Restarted:
    """A gap filler that is away once."""

    def __init__(self):
        self.coming = [FILL, None, DONE]

    def request(self, shape, _method, _path, **_query):
        now = self.coming.pop(0)
        if now is None:
            raise PeerDown("gap-filler is not running", hint="supervisorctl status")
        return from_text(shape, json.dumps({"fills": [now]}).encode())


def test_a_gap_filler_that_is_away_for_a_moment_is_waited_for():
    out = Console(file=io.StringIO(), width=200)
    follow(Restarted(), from_text(FillAccepted, json.dumps(FILL).encode()), out)
    output = out.file.getvalue()
    assert "waiting: gap-filler is not running\nnext: supervisorctl status" in output
    assert "388 of 390 bars" in output


def test_a_fill_that_needs_a_person_says_why_and_that_it_is_kept(ktrdr, filler):
    failed = {"state": "failed", "why": "IB knows no AAPL", "hint": "see its name"}
    filler(fills=[FILL | failed])
    done = ktrdr(*START)
    assert done.exit_code == 1
    assert "IB knows no AAPL; the fill is kept, and tried again" in done.output
    assert "next: see its name" in done.output


def test_what_may_come_later_is_not_waited_for(ktrdr, filler):
    filler(fills=[FILL | {"state": "unproven", "missing": {"unproven": 10}}])
    done = ktrdr(*START)
    assert done.exit_code == 0
    assert "380 of 390 bars; 10 missing from IB’s answer" in done.output


@pytest.mark.parametrize("now", [FILL | {"state": "cancelled"}, []])
def test_a_fill_that_is_given_up_meanwhile_ends_with_one_line(ktrdr, filler, now):
    filler(fills=[FILL, now])
    done = ktrdr(*START)
    assert done.exit_code == 1
    assert "ktrdr: " in done.stderr
    assert "Traceback" not in done.output


def test_a_fill_that_is_refused_says_what_to_do(ktrdr, filler):
    filler(fill=InvalidRequest("from=2030-01-01: expected a day", hint="name the first day"))
    done = ktrdr("fill", "AAPL", "1m", "--from", "2030-01-01")
    assert done.exit_code == 2
    assert "next: name the first day" in done.output


def test_a_store_that_cannot_keep_the_fill_says_so(ktrdr, filler):
    filler(fill=StoreUnwritable("the ledger is locked; nothing was changed", hint="see who"))
    done = ktrdr(*START)
    assert done.exit_code == 1
    assert "nothing was changed" in done.output


@pytest.mark.parametrize(
    ("already", "name"), [([], "AAPL 1m"), ([DONE], "AAPL 1m"), ([FILL | {"id": 2}], "3")]
)
def test_ctrl_c_ends_the_command_and_says_how_to_end_the_fill(filler, settings, already, name):
    requested = filler(fill=FILL | {"already": already}, fills=[FILL])
    command = [sys.executable, "-m", "ktrdr.cli", *START]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=settings.run_dir) as run:
        wait_for(lambda: ("fills", {"symbol": "AAPL"}) in requested)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=20)
    assert run.returncode == 130
    assert f"The fill goes on; `ktrdr fill --cancel {name}` stops it\n" in output


def test_ctrl_c_before_the_fill_was_acknowledged_says_where_to_see_whether_it_was(settings):
    requested = []

    async def hangs(query):
        requested.append(query)
        await asyncio.Event().wait()

    command = [sys.executable, "-m", "ktrdr.cli", *START]
    with (
        serving(LocalServer(settings.gap_filler_socket, {("POST", "/fill"): hangs})),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=settings.run_dir) as run,
    ):
        wait_for(lambda: requested)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=20)
    assert run.returncode == 130
    assert output == "It may have been requested already; `ktrdr fills` shows whether\n"


def test_a_fill_that_was_acknowledged_is_shown_though_the_gap_filler_goes_then(ktrdr, settings):
    async def goes(_query):
        raise StoreUnwritable("it is being stopped")

    acknowledged = says({ACCEPTED: True, "scan_id": "f1", "already": [], "since": None} | FILL)
    routes = {("POST", "/fill"): acknowledged, ("GET", "/status"): goes}
    with serving(LocalServer(settings.gap_filler_socket, routes)):
        done = ktrdr(*START, "--no-wait")
    assert done.exit_code == 1
    assert "fill 3, AAPL_1m from 2020-01-01 on, begins with the newest bars" in done.output


@pytest.mark.parametrize(
    ("words", "query"),
    [(("AAPL", "1m"), {"symbol": "AAPL", "timeframe": "1m"}), (("3",), {"id": "3"})],
)
def test_a_fill_is_cancelled_by_its_series_or_its_number(ktrdr, filler, words, query):
    requested = filler(cancelled=[FILL | {"state": "cancelled"}])
    done = ktrdr("fill", "--cancel", *words)
    assert done.exit_code == 0
    assert requested == [("cancel", query)]
    assert "fill 3, AAPL_1m from 2020-01-01 on, is cancelled; what was fetched stays" in done.output


def test_a_fill_that_is_not_there_cannot_be_cancelled(ktrdr, filler):
    filler(cancelled=UnknownFill("there is no fill 7", hint="ktrdr fills"))
    done = ktrdr("fill", "--cancel", "7")
    assert done.exit_code == 2
    assert "there is no fill 7" in done.stderr


@pytest.mark.parametrize(
    ("verb", "name", "words"),
    [
        ("pause", "paused", "is paused; nothing more is requested for it until it is resumed"),
        ("resume", "resumed", "goes on"),
    ],
)
def test_a_fill_is_paused_and_resumed_by_its_series_or_its_number(ktrdr, filler, verb, name, words):
    other = FILL | {"id": 5, "timeframe": "1h"}
    requested = filler(fills=[[FILL | {"id": 4}, other, FILL | {"id": 6}, DONE | {"id": 2}]])
    done = ktrdr("fill", f"--{verb}", "AAPL", "1m")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"fill {number}, AAPL_1m from 2020-01-01 on, {words}" for number in (4, 6)
    ]
    assert requested[1:] == [(verb, {"id": "4"}), (verb, {"id": "6"})]

    as_json = json.loads(ktrdr("fill", f"--{verb}", "5", "--json").stdout)
    assert [one["id"] for one in as_json[name]] == [5]
    assert requested[3:] == [(verb, {"id": "5"})]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_series_without_an_open_fill_has_none_to_pause_or_resume(ktrdr, filler, verb):
    filler(fills=[[DONE]])
    done = ktrdr("fill", f"--{verb}", "AAPL", "1m")
    assert done.exit_code == 2
    assert "there is no open fill of AAPL_1m" in done.stderr
    assert "next: .venv/bin/ktrdr fills lists all of them" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("AAPL", "1m"),
        ("AAPL", "1m", "--pause", "--resume"),
        ("AAPL", "--pause"),
        ("AAPL", "1m", "--from", "2020-01-01", "--cancel"),
        ("AAPL", "--from", "2020-01-01"),
        ("AAPL", "--cancel"),
    ],
)
def test_a_fill_with_too_few_or_too_many_words_is_a_wrong_use(ktrdr, filler, words):
    requested = filler()
    done = ktrdr("fill", *words)
    assert done.exit_code == 2
    assert requested == []


def looks(stalled_s, coming_s):
    """A look each half second: first no bar comes, then a hundred a second."""
    count = int(2 * (stalled_s + coming_s)) + 1
    return [(n / 2, 700 + max(0, int(100 * (n / 2 - stalled_s)))) for n in range(count)]


@pytest.mark.parametrize("stalled_s", [0, 1, 30])
def test_the_time_left_is_a_range_that_holds_it_whatever_was_waited_for_before(stalled_s):
    assert time_left(looks(stalled_s, 10), expected=1700 + 5000) == "about 30 to 80 s left"


@pytest.mark.parametrize(("stalled_s", "coming_s"), [(0, 0), (30, 0), (30, 2.5)])
def test_the_time_left_is_not_shown_before_bars_have_come_for_a_while(stalled_s, coming_s):
    assert time_left(looks(stalled_s, coming_s), expected=6700) == ""


def test_where_bars_were_removed_in_between_no_time_is_shown():
    assert time_left([(0.0, 900), (5.0, 400)], expected=6700) == ""


def test_fills_are_whole_lines_where_nobody_looks(ktrdr, filler, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    filler(fills=[[DONE, WAITING | {"id": 4, "hint": "say so:\n[AAPL]\ncurrency = EUR"}]])
    header, done, waiting = ktrdr("fills").output.splitlines()
    assert header.split("\t")[:4] == ["fill", "series", "from", "state"]
    assert done.split("\t") == [
        "3", "AAPL_1m", "2020-01-01", "done", "388", "390", "2 without trades, verified",
    ]  # fmt: skip
    assert waiting.endswith(
        "no data from IB: refused; 10 to be fetched; next: say so: [AAPL] currency = EUR"
    )


def test_fills_of_one_symbol_are_listed(ktrdr, filler):
    requested = filler(fills=[[FILL | {"expected": None, "present": None, "missing": {}}]])
    assert "3\tAAPL_1m\t2020-01-01\tfilling\t?\t?\t" in ktrdr("fills", "AAPL").output
    assert requested == [("fills", {"symbol": "AAPL"})]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_fills_of_a_symbol_that_the_store_has_not_are_no_empty_list(ktrdr, filler, more):
    filler(fills=[[]])
    assert ktrdr("fills", "AAPL", *more).exit_code == 0
    done = ktrdr("fills", "aapl", *more)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the store has no series of 'aapl'\nnext: did you mean AAPL?" in done.output


def test_lines_to_be_pasted_stand_below_the_next_step(ktrdr, filler):
    lines = 'say so in instruments.toml:\n[CLF7]\nlocal_symbol = "CLF27"'
    filler(fill=UnknownContract("none such", code=200, hint=lines))
    done = ktrdr("fill", "CLF7", "1m", "--from", "2026-11-01")
    assert done.exit_code == 1
    assert (
        'next: say so in instruments.toml:\n      [CLF7]\n      local_symbol = "CLF27"\n'
    ) in done.output


def test_each_bar_of_a_day_is_shown(ktrdr, filler):
    start = 1795185000  # 2026-11-20 14:30
    bars = [[start + 60 * i, "no_trades" if i in (3, 4) else "present"] for i in range(10)]
    filler(day={"day": "2026-11-20", "state": "open", "bars": bars})
    done = ktrdr("gaps", "AAPL", "1m", "--day", "2026-11-20")
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if "2026-11-20 14:" in line]
    assert ["there" in rows[0], "without trades" in rows[1], "there" in rows[2]] == [True] * 3
    assert "14:33" in rows[1]
    assert "14:34" in rows[1]


@pytest.mark.parametrize(
    ("state", "words"),
    [("closed", "was closed"), ("before_listing", "first bar"), ("expired", "last trading day")],
)
def test_a_day_without_bars_says_why(ktrdr, filler, state, words):
    filler(day={"day": "2026-11-21", "state": state, "bars": []})
    assert words in ktrdr("gaps", "AAPL", "1m", "--day", "2026-11-21").output


def test_what_is_not_expected_is_remarked(ktrdr, filler):
    facts = {"from": "2026-10-21T00:00:00+00:00", "listed": "2026-11-02T14:30:00+00:00"}
    filler(coverage=[SERIES | facts | {"expires": None, "sessions_from": "ib"}])
    assert "listed on 2026-11-02" in ktrdr("gaps").output


def test_bars_of_others_that_ib_has_otherwise_are_counted(ktrdr, filler):
    whole = {"differ": 11, "compared": 5250, "total": 5250, "absent": 0, "is_over": True}
    of = {"5m": {"differ": 1}, "15m": whole, "1h": whole | {"compared": 4000, "absent": 3}}
    coverage = [SERIES | {"timeframe": name, "comparison": one} for name, one in of.items()]
    status = replace(FILLER, series_differing=2, bars_differing=1011, series_comparing=1)
    filler(coverage=coverage, status=status)
    output = ktrdr("gaps").output
    assert "1 bar differs from IB’s" in output
    assert "compared with IB’s bars: 5,250 of 5,250, 11 differ" in output
    assert "compared with IB’s bars: 4,000 of 5,250, 11 differ, and IB has none of 3" in output
    output = ktrdr("status").output
    assert "1,011 bars differ from IB’s, in 2 files of others: left as they are" in output
    assert "1 imported file is not wholly compared with IB’s bars yet" in output


def test_nothing_is_said_to_differ_or_not_of_bars_that_were_not_compared(ktrdr, filler):
    begun = {"differ": 0, "compared": 0, "total": 5250, "absent": 0, "is_over": False}
    of = {
        "5m": begun,
        "15m": begun | {"absent": 5250, "is_over": True},
        "1h": begun | {"differ": 2},
    }
    coverage = [SERIES | {"timeframe": name, "comparison": one} for name, one in of.items()]
    filler(coverage=coverage)
    output = ktrdr("gaps").output
    assert "not compared with IB’s bars yet: 5,250 imported bars" in output
    assert "not compared with IB’s bars: IB has none of 5,250 of 5,250" in output
    assert "yet: 5,250 imported bars; 2 bars differ from IB’s" in output
    assert "0 differ" not in output


def test_a_day_needs_a_series(ktrdr, filler):
    filler()
    done = ktrdr("gaps", "AAPL", "--day", "2026-11-20")
    assert done.exit_code == 2
    assert "--day needs a symbol and a timeframe" in done.output


def test_a_failure_is_shown_with_ibs_code(ktrdr, filler):
    filler(coverage=[SERIES | {"error": "no permissions", "error_code": 354, "state": "failed"}])
    assert "no permissions (IB's code 354)" in ktrdr("gaps").output


def test_a_failure_is_shown_with_what_to_do(ktrdr, filler):
    filler(coverage=[SERIES | {"error": "line 7", "hint": "ktrdr check", "state": "failed"}])
    assert "line 7 (next: ktrdr check)" in ktrdr("gaps").output


def test_why_nothing_is_known_of_a_series_is_shown_with_its_bars(ktrdr, filler, settings):
    (settings.data_dir / "AAPL_1m.csv").write_text(HEADER)
    unknown = {"expected": None, "error": "it is two series' file", "hint": "remove the link"}
    filler(coverage=[SERIES | unknown | {"state": "failed"}])
    output = ktrdr("show", "AAPL", "1m").stderr
    assert "not complete: it is two series' file – next step: remove the link" in output


ROWS = [f"2026-11-20 14:3{minute}:00+00:00,1,1,1,1,5\n" for minute in range(3)]


def test_check_tells_that_all_is_kept(ktrdr, settings):
    for name in ("AAPL_1m.csv", "MSFT_1m.csv"):
        (settings.data_dir / name).write_text(HEADER + "".join(ROWS))
    result = ktrdr("check")
    assert result.exit_code == 0
    assert result.output.startswith("2 files, 6 rows, ")
    assert result.output.endswith(": no problems found\n")


def test_check_reports_what_is_broken_and_fixes_what_it_can(ktrdr, settings):
    path = settings.data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + ROWS[1] + ROWS[0] + ROWS[2] + "[bold]")
    result = ktrdr("check")
    assert result.exit_code == 1
    for words in ("AAPL_1m.csv", "out of order", "sorted by time", "[bold]", "it is dropped"):
        assert words in result.output
    assert "2 can be fixed; run ktrdr check --fix" in result.output
    result = ktrdr("check", "--fix")
    assert result.exit_code == 0
    assert "done: it is dropped" in result.output
    assert "the old files are in " in result.output
    assert "2 fixed" in result.output
    assert path.read_text() == HEADER + "".join(ROWS)
    assert "no problems found" in ktrdr("check").output


def test_check_fails_while_something_stays_broken(ktrdr, settings):
    path = settings.data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + "".join(ROWS).replace(",5", ",five") * 9 + ROWS[2])
    result = ktrdr("check", "--fix")
    assert result.exit_code == 1
    assert "a person must decide" in result.output
    assert "2, 3, 4 and 24 more" in result.output


def test_check_can_check_one_series(ktrdr, settings):
    (settings.data_dir / "AAPL_1m.csv").write_text(HEADER)
    (settings.data_dir / "MSFT_1m.csv").write_text("nothing")
    (settings.data_dir / "prices.csv").write_text("no series")
    assert ktrdr("check", "AAPL").exit_code == 0
    assert ktrdr("check", "MSFT", "1m").exit_code == 1
    result = ktrdr("check", "MSFT", "1d")
    assert result.exit_code == 2
    assert "has no series MSFT_1d" in result.output
    assert "next: MSFT is there in 1m; to have it kept: ktrdr watch add MSFT 1d" in result.output
    assert "next: did you mean MSFT?" in ktrdr("check", "msft").output


def test_a_note_is_not_a_failure(ktrdr, settings):
    day = datetime.now(UTC).date()
    (settings.data_dir / "AAPL_1d.csv").write_text(f"{HEADER}{day} 00:00:00+00:00,1,1,1,1,5\n")
    result = ktrdr("check")
    assert result.exit_code == 0
    assert "may not have ended" in result.output


def test_an_answer_that_cannot_be_understood_is_one_line_and_a_next_step(ktrdr, filler):
    filler(coverage=[{key: value for key, value in SERIES.items() if key != "state"}])
    done = ktrdr("gaps")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "gap-filler gave an answer that cannot be read (series.0.state: " in done.stderr
    assert "next: .venv/bin/supervisorctl restart gap-filler" in done.stderr
