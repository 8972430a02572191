"""Starts, waits for and stops the supervised group, for scripts/up and scripts/down.

It is not part of the group, and no program of the group imports it. A process belongs to the group
if its environment names this checkout's supervisor socket: supervisord sets it for its programs,
and they pass it on to their children, orphans included.
"""
# ruff: noqa: INP001, T201 - a script beside the others, which prints for a person

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast
from xml.parsers.expat import ExpatError

import psutil

from ktrdr.config.names import ENV_FILE, IGNORE_ENV_FILE
from ktrdr.config.running_group import FOLDER as RUN
from ktrdr.config.running_group import (
    fingerprints,
    forget_note,
    read_note,
    settings_here,
    write_note,
)
from ktrdr.config.settings import (
    REAL_GATEWAY_PORTS,
    SOCKET_PATH_MAX,
    Settings,
    as_environment,
    load_settings,
    read_env_file,
    without_secrets,
)
from ktrdr.errors import KtrdrError, Misconfigured, Retryable, WrongSource
from ktrdr.escapes import visible, visible_lines
from ktrdr.forwarder.listeners import current_plan
from ktrdr.forwarder.places import Plan
from ktrdr.forwarder.port_holder import holder_of, listening_ports
from ktrdr.forwarder.settings import of_settings
from ktrdr.health.programs import NAMES
from ktrdr.health.supervisor import UnixTransport
from ktrdr.process import EXIT_MISCONFIGURED
from ktrdr.run_folder import (
    in_the_way,
    make_way,
    other_than_ours,
    prepare_run_folder,
    read_pid,
)
from ktrdr.store.csv_store import CsvStore
from ktrdr.web.page_access import is_not_here, local_host, page_callers, page_is_for, page_url

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "etc/supervisord.conf"
LOGS = ROOT / "var/log"
SOCKET = RUN / "supervisor.sock"
SIMULATOR = "gateway-sim"
ALERTS = "alerts"

SUPERVISORD_S = 15  # from its start until supervisord answers
READY_S = 60
STOP_S = 30  # each program has 10 s, and supervisord asks them one after another
POLL_S = 0.25
ADVICE = "make room, or repair what it names; then run ./scripts/up again"


def start() -> int:
    """Start the group, or restart it if settings or code have changed."""
    settings = load_settings()
    _check_paths()
    wanted = without_secrets(as_environment(settings)) | fingerprints(settings)
    others = _further_inputs()
    _check_alerts(settings)
    page_callers(settings)  # refuses a page that others reach and that names no callers
    _check_ports(settings)
    _make_folders(settings)
    supervisord = _supervisord()
    if supervisord is not None:
        changed = _differences(_started_with(), wanted | others)
        if changed:
            print(f"Changed since the group was started: {', '.join(changed)}. Restarting it.")
            _stop_all()
            supervisord = None
    elif any(_members()):
        print("Stopping what is left of a group whose supervisord was killed ...")
        _stop_all()
    if settings.is_simulated:
        _mention_real_gateways()
    if supervisord is None:
        _start_supervisord(settings, others)
    _start_programs(settings)
    _explain_one_time_gateway(settings)
    return 0


def wait() -> int:
    """Wait until the status page reports that all is ready; 1 if it does not in time."""
    settings = load_settings()
    page = page_url(settings)
    print("Waiting until everything is ready ...", flush=True)
    deadline = time.monotonic() + READY_S
    printed: list[str] = []
    while (reasons := _reasons(settings)) and time.monotonic() < deadline:
        if reasons != printed:
            causes = reasons if not settings.is_simulated else map(_without_step, reasons)
            print(f"  not yet: {visible('; '.join(causes))}", flush=True)
            printed = reasons
        time.sleep(POLL_S)
    if reasons:
        _explain_not_ready(page, reasons)
        return 1
    print(f"\nReady. The status page: {page}")
    print(f"It is for {page_is_for(settings)}.")
    if settings.is_simulated:
        print(
            "The gateway is SIMULATED: its prices are invented, for trying things out.\n"
            f"Its bars go to {_shown(settings.data_dir)}.\n"
            "With a real IB Gateway or TWS, for instance: IB_HOST=127.0.0.1 IB_PORT=4002"
            " ./scripts/up\n(or write both into .env, see .env.example)"
        )
    else:
        print(
            f"The gateway is LIVE: {settings.gateway}. Its bars are in {_shown(settings.data_dir)}."
        )
    print("To see the programs: .venv/bin/supervisorctl status; to stop them: ./scripts/down")
    return 0


def _without_step(reason: str) -> str:
    """A reason without its next step: a simulated gateway is ready in some seconds by itself."""
    return reason.partition(" – next step: ")[0]


def _explain_one_time_gateway(settings: Settings) -> None:
    """If the gateway was named for this start alone: how long that lasts."""
    here = settings_here(settings)
    once = [n for n in ("IB_HOST", "IB_PORT") if n in here and not here[n].in_file]
    file = read_env_file(ROOT / ENV_FILE)
    lines = [f"{name}={here[name].value}" for name in once if file.get(name) != here[name].value]
    if lines:
        print(
            "ktrdr and DataManager() go by this group as long as it runs. For the next start, write"
            f" into .env: {' '.join(lines)}"
        )


def stop() -> int:
    """Stop the group, and make sure that no process of it is left."""
    if _supervisord() is None and not any(_members()):
        print("Nothing was running.")
        return 0
    print("Stopping the group ...", flush=True)
    _stop_all()
    print("Stopped. Nothing of it is left running.")
    return 0


# --- before the start ---------------------------------------------------------------------------


def _check_paths() -> None:
    """The sockets' paths fit: supervisord binds `SOCKET.PID`, then renames it."""
    longest = f"{SOCKET}.{2**22}"
    if (length := len(os.fsencode(longest))) > SOCKET_PATH_MAX:
        raise Misconfigured(
            f"the path of this folder is {length - SOCKET_PATH_MAX} bytes too long for the sockets"
            f" in it ({ROOT})",
            hint="move it to a shorter path",
        )
    if bad := re.search(r'["\\%\n]', str(ROOT)):
        raise Misconfigured(
            f"supervisor cannot take a path with {bad.group()!r} in it ({ROOT})",
            hint="rename the folder",
        )


def _check_alerts(settings: Settings) -> None:
    """Each target of alerts is one that apprise understands."""
    if settings.alert_targets:
        from ktrdr.alerts.targets import read_targets  # noqa: PLC0415 - most groups have none

        read_targets(settings.alert_targets)


def _check_ports(settings: Settings) -> None:
    """Every port that the group needs is free, or the group's own."""
    status = ("KTRDR_STATUS_HOST", settings.ktrdr_status_host)
    wanted = [("KTRDR_STATUS_PORT", status, settings.ktrdr_status_port)]
    for place in _forward_plan(settings).places[:1]:  # others are listened on as they appear
        forward = ("KTRDR_FORWARD_BIND", place.address)
        wanted.append(("KTRDR_FORWARD_PORT", forward, settings.ktrdr_forward_port))
    if settings.is_simulated:
        here = ("", settings.gateway_host)
        wanted.append(("KTRDR_SIM_PORT", here, settings.ktrdr_sim_port))
    ports = [port for _, _, port in wanted]
    if len(set(ports)) < len(ports):
        given = ", ".join(f"{name}={port}" for name, _, port in wanted)
        raise Misconfigured(f"{given}: expected ports that differ from each other")
    ours = {port for member in _members() for port in listening_ports(member)}
    taken = [
        f"{name}={port}: {why}"
        for name, host, port in wanted
        if port not in ours and (why := _why_not_free(*host, port))
    ]
    if taken:
        raise Retryable(
            "\n".join(taken),
            hint="stop that program, or choose another port in the environment or in .env",
        )


def _forward_plan(settings: Settings) -> Plan:
    """Where port-forward will listen; Misconfigured: nowhere with these settings."""
    plan = current_plan(of_settings(settings))
    for complaint in plan.complaints:
        print(f"{complaint}: containers cannot connect until it is one.")
    return plan


def _why_not_free(name: str, host: str, port: int) -> str:
    """Why the group cannot listen there; empty: it can.

    `name`: the setting of the host. Misconfigured: the host is no address of this machine.
    """
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _none_of_ours(name, host, error) from error
    errors = [_why_not_at(*place) for place in places]
    here = [error for error in errors if error is None or not is_not_here(error)]
    if not here and errors[0]:
        raise _none_of_ours(name, host, errors[0])
    error = next(filter(None, here), None)
    if error and error.errno == errno.EADDRINUSE:
        return f"the port is taken by {holder_of(port)}"
    return f"cannot listen on {host} there ({error.strerror})" if error else ""


def _why_not_at(
    family: int, kind: int, _protocol: int, _name: str, address: tuple[Any, ...]
) -> OSError | None:
    try:
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # as waitress does: IPv4 is separate
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error
    return None


def _none_of_ours(name: str, host: str, error: OSError) -> Misconfigured:
    return Misconfigured(f"{name}={host}: expected an address of this machine ({error.strerror})")


def _mention_real_gateways() -> None:
    """Point out gateways on this machine: whoever runs one probably wants it used."""
    for port in REAL_GATEWAY_PORTS:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            print(
                f"Something listens on 127.0.0.1:{port}, probably an IB Gateway or TWS."
                f" To use it: IB_HOST=127.0.0.1 IB_PORT={port} ./scripts/up"
            )


def _make_folders(settings: Settings) -> None:
    """Make the folders that no program makes, and a starter store for the simulator."""
    for name, folder in (("var/log", LOGS), ("KTRDR_DATA_DIR", settings.data_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"{name}={folder}: {error.strerror}") from error
    _close_copied_folder()
    prepare_run_folder(RUN, "var/run")
    prepare_run_folder(settings.run_dir)
    _expect_plain_logs()
    if settings.is_simulated:
        _make_starter_store(settings)


def _make_starter_store(settings: Settings) -> None:
    """Series with gaps for the simulator, if there are none or their making was interrupted.

    They are completed in a folder beside the store, and only then moved into it.
    """
    fresh = settings.data_dir / ".starter-store"
    if any(settings.data_dir.glob("*.csv")) and not fresh.exists():
        return
    _claim(settings)
    print(f"Making a starter store in {_shown(settings.data_dir)} ...", flush=True)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    command = [sys.executable, "-m", "ktrdr.sim", "--starter-store", str(fresh)]
    made = subprocess.run(  # noqa: S603 - our own program, which logs to its standard output
        command, cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if made.returncode:
        why = (made.stdout.strip() or f"exit code {made.returncode}").splitlines()[-1].strip()
        where = _shown(settings.data_dir)
        raise Retryable(f"no starter store can be made in {where}: {why}", hint=ADVICE)
    for file in sorted(fresh.iterdir()):
        if not (settings.data_dir / file.name).exists():
            file.rename(settings.data_dir / file.name)
    shutil.rmtree(fresh)


def _close_copied_folder() -> None:
    """Set the mode of the project's own var/run, which a copied checkout may have with another.

    A linked folder, or one with other things in it, is not the project's own.
    """
    is_own = (
        RUN.is_dir() and RUN.resolve() == ROOT / "var/run" and RUN.stat().st_uid == os.geteuid()
    )
    if is_own and not other_than_ours(RUN):
        RUN.chmod(0o700)


def _expect_plain_logs() -> None:
    """Misconfigured: a log's path is no plain file, or not writable.

    supervisord opens logs by name: it would follow a link, and block forever on a pipe.
    """
    for path in (LOGS / f"{name}.log" for name in ("supervisord", *NAMES)):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise in_the_way(path)
        if not os.access(path if path.exists() else LOGS, os.W_OK):
            hint = f"sudo chown -R {os.geteuid()}:{os.getegid()} {LOGS}"
            raise Misconfigured(f"{path}: this user may not write to it", hint=hint)


def _claim(settings: Settings) -> None:
    """Mark an empty store as one of simulated bars, before it has any.

    WrongSource: it is the folder for live bars.
    """
    if settings.is_live_folder:
        raise WrongSource(
            f"{_shown(settings.data_dir)} is where live bars belong, and the gateway is simulated",
            hint="unset KTRDR_DATA_DIR, or set it to another folder",
        )
    CsvStore(settings.data_dir).claim(settings.source)


# --- supervisord --------------------------------------------------------------------------------


def _start_supervisord(settings: Settings, others: dict[str, str]) -> None:
    """Start supervisord as a daemon, with the autostarting programs."""
    print("Starting the group ...", flush=True)
    make_way(RUN / "supervisord.pid")  # it would write through a link
    command = [sys.executable, str(ROOT / ".venv/bin/supervisord"), "-c", str(CONF)]
    environment = _environment(settings)
    subprocess.run(command, cwd=ROOT, env=environment, check=True)  # noqa: S603 - our own set-up
    if not _until(lambda: _call("getPID") is not None, SUPERVISORD_S):
        raise Retryable(
            f"supervisord does not answer after {SUPERVISORD_S} s",
            hint=f"see {_shown(LOGS / 'supervisord.log')}",
        )
    write_note(RUN, cast("int", _call("getPID")), settings, **others)


def _environment(settings: Settings) -> dict[str, str]:
    """The environment of supervisord and its programs: today's settings, until supervisord ends.

    A program restarted alone has the same settings as the others, whatever `.env` says by then.
    """
    ours = as_environment(settings) | {IGNORE_ENV_FILE: "1"}
    fields = {name.upper() for name in Settings.model_fields}
    return {name: v for name, v in os.environ.items() if name.upper() not in fields} | ours


def _start_programs(settings: Settings) -> None:
    """Start the programs that should run and do not.

    The simulator only without a real gateway, alerts only with targets.
    """
    unwanted = {SIMULATOR} if not settings.is_simulated else set()
    unwanted |= {ALERTS} if not settings.alert_targets else set()
    for program in _programs():
        name, state = program["name"], program["statename"]
        if name in unwanted:
            if state in {"STARTING", "RUNNING", "BACKOFF"}:
                _call("stopProcess", name)
        elif state not in {"STARTING", "RUNNING", "STOPPING"}:
            if state == "BACKOFF":  # its next try may be far off
                _call("stopProcess", name)
            if state != "STOPPED":
                print(f"Starting {name}, which was {state} ...")
            _call("startProcess", name, False)


def _programs() -> list[dict[str, Any]]:
    """The state of each program, from supervisord."""
    return cast("list[dict[str, Any]]", _call("getAllProcessInfo") or [])


def _call(method: str, *arguments: object) -> Any:
    """The result of a call to supervisord; None: it does not answer, or refuses."""
    if not SOCKET.exists():
        return None
    transport = UnixTransport(SOCKET, timeout_s=None)
    proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport)
    try:
        return getattr(proxy.supervisor, method)(*arguments)
    except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError):
        return None
    finally:
        transport.close()


def _supervisord() -> psutil.Process | None:
    """The supervisord of this checkout, even if it hangs; None: there is none."""
    pid = _call("getPID")
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        if pid is not None:
            return psutil.Process(cast("int", pid))
        process = psutil.Process(read_pid(RUN / "supervisord.pid"))
        command = process.cmdline()  # the file may be old, and its pid reused
        if any("supervisord" in part for part in command) and str(CONF) in command:
            return process
    return None


def _members() -> Iterator[psutil.Process]:
    """Every process that supervisord started and their descendants, except this one."""
    url = f"unix://{SOCKET}"
    here = os.getpid()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != here and process.environ().get("SUPERVISOR_SERVER_URL") == url:
                yield process


def _stop_all() -> None:
    """Stop all programs at once; kill what has not ended in time."""
    supervisord = _supervisord()
    _call("stopAllProcesses", False)
    if _call("shutdown") is None and supervisord is not None:
        _signal([supervisord], "terminate")
    if supervisord is None:
        _signal(_members(), "terminate")

    def gone() -> bool:
        return not any(_members()) and (supervisord is None or not _is_alive(supervisord))

    if not _until(gone, STOP_S):
        print(f"Something does not stop within {STOP_S} s: killing it.")
        _signal([supervisord] if supervisord else [], "kill")
        _signal(_members(), "kill")
        if not _until(gone, 5):
            left = ", ".join(str(process.pid) for process in _members())
            raise Retryable(f"these processes could not be killed: {left}")
    forget_note(RUN)


def _signal(processes: Iterable[psutil.Process], what: str) -> None:
    """Signal each one, if its pid is still the same process (psutil sees to that)."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, what)()


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition becomes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


# --- up to date ---------------------------------------------------------------------------------


def _further_inputs() -> dict[str, str]:
    """What a group depends on besides its settings, as text that can be compared."""
    digest = hashlib.sha256()
    files = [CONF, ROOT / "requirements.txt", ROOT / "scripts/ib_port_forward.sh"]
    files += sorted(f for f in (ROOT / "ktrdr").rglob("*") if f.suffix != ".pyc" and f.is_file())
    for file in files:
        digest.update(file.read_bytes())
    forwarder = "socat" if shutil.which("socat") else "our own"
    return {"the code": digest.hexdigest(), "the forwarder": forwarder}


def _started_with() -> dict[str, str]:
    """What the running group was started with; empty: it was not started by this script."""
    with contextlib.suppress(KtrdrError, OSError, KeyError, TypeError):
        noted = read_note(RUN)
        if noted is not None:
            return cast("dict[str, str]", noted["settings"] | noted["further"])
    return {}


def _differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The names of what has changed."""
    if not before:
        return ["unknown, as something else started it"]
    return [name for name in now | before if before.get(name) != now.get(name)]


# --- ready --------------------------------------------------------------------------------------


def _reasons(settings: Settings) -> list[str]:
    """Why the group is not ready yet; empty when it is."""
    connection = http.client.HTTPConnection(
        local_host(settings), settings.ktrdr_status_port, timeout=5
    )
    try:
        token = settings.status_token
        connection.request(
            "GET", "/readyz", headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == http.HTTPStatus.OK:
            return []
        reasons = json.loads(body)["reasons"]
        return [str(reason) for reason in reasons] or [f"/readyz answers {answer.status}"]
    except (ValueError, KeyError, TypeError):
        return [f"/readyz answers {answer.status} without reasons"]
    except (OSError, http.client.HTTPException):
        return ["the status page does not answer"]
    finally:
        connection.close()


def _explain_not_ready(page: str, reasons: list[str]) -> None:
    """What is wrong, and where to look."""
    print(f"\nNot ready after {READY_S} s, but left running. The reasons:", file=sys.stderr)
    for reason in reasons:
        print(f"  - {visible(reason)}", file=sys.stderr)
    programs = _programs()
    for program in programs:
        name, state = program["name"], program["statename"]
        if state not in {"RUNNING", "STARTING"} and name not in {SIMULATOR, ALERTS}:
            log = _shown(LOGS / f"{name}.log")
            print(f"  - {name} is {state} ({program['description']}): see {log}", file=sys.stderr)
    if not programs:
        log = _shown(LOGS / "supervisord.log")
        print(f"  - supervisord does not answer: see {log}", file=sys.stderr)
    print(f"The status page: {page}   The logs: {_shown(LOGS)}/*.log", file=sys.stderr)


def _shown(path: Path) -> str:
    """The path, relative to the root if it lies below it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main(arguments: list[str]) -> int:
    """`start`, `wait` or `stop`."""
    actions = {"start": start, "wait": wait, "stop": stop}
    if len(arguments) != 1 or arguments[0] not in actions:
        print("usage: group.py start|wait|stop (scripts/up and scripts/down do it)")
        return 2
    try:
        return actions[arguments[0]]()
    except KtrdrError as error:
        text = f"{error.message}{f' ({error.hint})' if error.hint else ''}"
        print(visible_lines(text), file=sys.stderr)
        return EXIT_MISCONFIGURED if isinstance(error, Misconfigured) else 1
    except OSError as error:  # of the operating system, such as a full disk
        print(f"The group cannot be started or stopped: {error} ({ADVICE})", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{error.cmd[1:3]} failed with exit code {error.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What was started runs on: ./scripts/down stops it.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
