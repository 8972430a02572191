"""`ktrdr init`: finds the gateway, tests the connection, and writes both into `.env`."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ktrdr.addresses import read_host, read_port
from ktrdr.cli.arguments import AsJson
from ktrdr.cli.doctor import show_finding
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.gateways import Gateway, find_gateways, likely
from ktrdr.cli.output import note, show_json, show_line, show_next
from ktrdr.config.env_edit import with_values
from ktrdr.config.names import ENV_FILE
from ktrdr.config.settings import ROOT, read_env_file
from ktrdr.errors import InvalidRequest, Misconfigured
from ktrdr.run_folder import replace_file

_FORWARD_PORT = 4003
_HEADING = "# Settings of ktrdr; .env.example has all of them.\n"

Values = dict[str, str | None]


def init(
    *,
    host: Annotated[
        str | None, typer.Option(help="The machine of IB Gateway or TWS.", show_default=False)
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(help="Its port; else the one that answers, paper first.", show_default=False),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="The simulated gateway: IB_HOST is commented out.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace other values that stand there without asking.")
    ] = False,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Write it also if the gateway does not answer.")
    ] = False,
    file: Annotated[Path, typer.Option(help="The file to write.", show_default=".env")] = ROOT
    / ENV_FILE,
    as_json: AsJson = False,
) -> None:
    """Choose the gateway: find it, test the connection, and write it into `.env`.

    It asks for what the options leave open, if there is a terminal. Everything else in `.env` stays
    as it is, and nothing is replaced without asking. The test is one handshake, as of `ktrdr
    doctor`; whether somebody is logged in shows once the group runs.

    Example: ktrdr init

    Example: ktrdr init --host 127.0.0.1 --port 4002 --yes
    """
    asks = sys.stdin.isatty() and not as_json
    if simulated and (host or port):
        raise InvalidRequest("--simulated: expected without --host and --port")
    if simulated:
        values: Values = {"IB_HOST": None, "IB_PORT": None}
        _write(file, values, asks=asks, yes=yes)
        _report(file, values, None, as_json=as_json)
        return
    gateway = _chosen(file, host, port, asks=asks, is_shown=not as_json)
    if not gateway.answers and not _is_wanted_all_the_same(asks=asks, unchecked=unchecked):
        if as_json:
            show_json(_as_json(file, gateway, is_written=False))
        else:
            note("nothing was written; --unchecked writes it all the same")
        sys.exit(ExitCode.NOT_GREEN)
    values = {"IB_HOST": gateway.host, "IB_PORT": f"{gateway.port}"}
    _write(file, values, asks=asks, yes=yes)
    _report(file, values, gateway, as_json=as_json)


def _chosen(
    file: Path, host: str | None, port: str | None, *, asks: bool, is_shown: bool
) -> Gateway:
    """The gateway that is meant, tried. InvalidRequest: it is not named, and none can be asked."""
    given = read_env_file(file)
    if host is None and not asks:
        raise InvalidRequest(
            "nobody can be asked here: name the gateway", hint="ktrdr init --host 127.0.0.1"
        )
    if host is None:
        host = typer.prompt("Host of IB Gateway or TWS", default=given.get("IB_HOST", "127.0.0.1"))
    host, wanted = _host(host), _port(port) if port else None
    found = find_gateways(host, (wanted,) if wanted else (), _FORWARD_PORT)
    if is_shown:
        _show_found(found, wanted)
    if wanted is None:
        wanted = likely(found)
        if asks:
            wanted = _port(typer.prompt("Port", default=f"{wanted}"))
    chosen = next((one for one in found if one.port == wanted), None)
    chosen = chosen or find_gateways(host, (wanted,), _FORWARD_PORT)[0]
    if is_shown:
        show_line(f"{chosen.host}, port {chosen.port}: {chosen.kind}")
        for finding in chosen.findings:
            show_finding(finding)
    return chosen


def _show_found(found: list[Gateway], wanted: int | None) -> None:
    """The ports at which something listens."""
    listed = [one for one in found if not one.is_silent and one.port != wanted]
    for one in listed:
        word = "answers" if one.answers else "listens, but cannot be used"
        show_line(f"port {one.port} {word} ({one.kind})")
    if not listed and wanted is None:
        show_line(f"nothing listens at the usual ports of {found[0].host}")


def _host(text: str) -> str:
    try:
        return read_host(text)
    except ValueError:
        raise InvalidRequest(f"host {text!r}: expected a name or an address") from None


def _port(text: str) -> int:
    try:
        return read_port(text)
    except ValueError:
        raise InvalidRequest(f"port {text!r}: expected a whole number from 1 to 65535") from None


def _is_wanted_all_the_same(*, asks: bool, unchecked: bool) -> bool:
    return unchecked or (asks and typer.confirm("Write it all the same?", default=False))


def _write(file: Path, values: Values, *, asks: bool, yes: bool) -> None:
    """Write the values into the file. InvalidRequest: others stand there, and nobody agreed."""
    given = read_env_file(file)
    other = {n: given[n] for n, value in values.items() if n in given and given[n] != value}
    if other and not yes:
        stands = ", ".join(f"{name}={value}" for name, value in other.items())
        if not asks:
            raise InvalidRequest(f"{file} has {stands}", hint="--yes replaces it")
        if not typer.confirm(f"{file} has {stands}. Replace it?", default=False):
            note("nothing was written")
            sys.exit(ExitCode.NOT_GREEN)
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        text = _HEADING
    changed = with_values(text, values)
    if changed not in (text, _HEADING):
        _replace(file.resolve(), changed)


def _replace(file: Path, text: str) -> None:
    """Replace a file in one step; its mode stays, and a new one is for its owner alone."""
    fresh = file.with_name(f"{file.name}.new")
    try:
        replace_file(fresh, text)
        with contextlib.suppress(FileNotFoundError):
            fresh.chmod(stat.S_IMODE(file.stat().st_mode))
        fresh.replace(file)
    except OSError as error:
        raise Misconfigured(f"{file} cannot be written: {error.strerror}") from error


def _report(file: Path, values: Values, gateway: Gateway | None, *, as_json: bool) -> None:
    for name in values:
        if os.environ.get(name):
            note(f"{name} is set in this shell too, which wins over {file.name}")
    if as_json:
        show_json(_as_json(file, gateway, is_written=True))
        return
    written = ", ".join(f"{name}={value}" for name, value in values.items() if value)
    show_line(f"{written or 'the simulated gateway'}: written into {shlex.quote(f'{file}')}")
    show_next("ktrdr up starts the group with it, or restarts it")


def _as_json(file: Path, gateway: Gateway | None, *, is_written: bool) -> dict[str, object]:
    about: dict[str, object] = {"simulated": gateway is None}
    if gateway is not None:
        about |= {"host": gateway.host, "port": gateway.port, "kind": gateway.kind}
        about |= {"answers": gateway.answers, "findings": [asdict(one) for one in gateway.findings]}
    return about | {"file": f"{file}", "written": is_written}
