"""The forwarder's settings: those of the group, or its few variables read without a .venv.

Without a .venv there is no pydantic and no dotenv: then its variables are read from the environment
and from plain lines of `.env`, and a line for one of them that is more than NAME=VALUE is refused.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ktrdr.addresses import (
    as_host_and_port,
    read_host,
    read_host_and_port,
    read_ipv4,
    read_port,
    read_subnets,
)
from ktrdr.errors import Misconfigured

if TYPE_CHECKING:
    from ktrdr.config.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LOCAL = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})  # noqa: S104 - compared, not bound

_NAMES = (
    "IB_HOST",
    "IB_PORT",
    "KTRDR_FORWARD_BIND",
    "KTRDR_FORWARD_CALLERS",
    "KTRDR_FORWARD_PORT",
    "KTRDR_FORWARD_TARGET",
    "KTRDR_RUN_DIR",
    "KTRDR_SIM_PORT",
)
_LINE = re.compile(
    r"""\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"""
    r"""(?:'([^'\\]*)'|"([^"\\$]*)"|([^\s#"'$\\]*))\s*(?:\#.*)?"""
)
_OURS = re.compile(rf"\s*(?:export\s+)?({'|'.join(_NAMES)})\b", re.IGNORECASE)
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class ForwardSettings:
    """Checked settings. `bind` None: where to listen follows from the interfaces."""

    port: int
    bind: str | None
    callers: tuple[IPv4Network, ...]
    target: tuple[str, int]
    run_dir: Path

    def __post_init__(self) -> None:
        """Misconfigured: the forwarder would connect to itself."""
        host, port = self.target
        if port == self.port and host in LOCAL:
            raise Misconfigured(
                f"KTRDR_FORWARD_PORT={port}: expected another port than that of the gateway,"
                f" which is {as_host_and_port(host, port)}"
            )

    @property
    def gateway(self) -> str:
        """The target as `HOST:PORT`."""
        return as_host_and_port(*self.target)


def of_settings(settings: Settings, *, is_alone: bool = False) -> ForwardSettings:
    """From the settings of the group.

    `is_alone`: the forwarder runs outside of a group. Then a real gateway on this machine is meant,
    unless the simulator or a target is set.
    """
    target = settings.forward_target or (settings.gateway_host, settings.gateway_port)
    is_by_default = settings.model_fields_set.isdisjoint({"ktrdr_sim_port", "ktrdr_forward_target"})
    if is_alone and settings.is_simulated and is_by_default:
        target = settings.gateway_host, settings.ib_port
    return ForwardSettings(
        settings.ktrdr_forward_port,
        settings.ktrdr_forward_bind,
        settings.forward_callers,
        target,
        settings.run_dir,
    )


def of_variables(environment: Mapping[str, str], root: Path = ROOT) -> ForwardSettings:
    """From the environment and `.env` alone, without a .venv.

    Misconfigured as `ktrdr.config.settings.load_settings`.
    """
    values = plain_env_file(root / ".env")
    values.update({name: environment[name] for name in _NAMES if environment.get(name)})

    def read(name: str, reader: Callable[[str], _Read], default: _Read, expected: str) -> _Read:
        if name not in values:
            return default
        try:
            return reader(values[name])
        except ValueError:
            raise Misconfigured(f"{name}={values[name]}: expected {expected}") from None

    a_port = "a port from 1 to 65535"
    host = read("IB_HOST", read_host, "127.0.0.1", "a host name or address, without a port")
    ib_port = read("IB_PORT", read_port, 4002, a_port)
    sim_port = read("KTRDR_SIM_PORT", read_port, 0, a_port)
    port = sim_port if sim_port and "IB_HOST" not in values else ib_port
    return ForwardSettings(
        read("KTRDR_FORWARD_PORT", read_port, 4003, a_port),
        read("KTRDR_FORWARD_BIND", read_ipv4, None, "an IPv4 address of this machine"),
        read("KTRDR_FORWARD_CALLERS", read_subnets, (), "subnets such as 172.18.0.0/16"),
        read("KTRDR_FORWARD_TARGET", read_host_and_port, (host, port), f"HOST:PORT, with {a_port}"),
        root / Path(values.get("KTRDR_RUN_DIR", "var/run")).expanduser(),
    )


def plain_env_file(path: Path) -> dict[str, str]:
    """The forwarder's variables in `.env`, by name in capitals; none if there is no such file.

    Misconfigured: a line with one of them is more than NAME=VALUE, in quotes or not.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not (ours := _OURS.match(line)):
            continue
        if not (match := _LINE.fullmatch(line)):
            raise Misconfigured(
                f"{path}, line {number}: {ours[1]} cannot be read without a .venv, because it is"
                " more than NAME=VALUE; ./scripts/up makes a .venv"
            )
        if value := match[2] or match[3] or match[4]:
            found[match[1].upper()] = value
    return found


def is_supervised() -> bool:
    """True for a program of a group, all of which have the same settings."""
    return "SUPERVISOR_ENABLED" in os.environ


def load() -> ForwardSettings:
    """The settings of this run: the group's if there is a .venv, else as `of_variables`."""
    try:
        from ktrdr.config.running_group import settings_to_run_with  # noqa: PLC0415  not without a .venv
    except ImportError:
        if is_supervised():
            raise
        return of_variables(os.environ)
    return of_settings(settings_to_run_with(), is_alone=not is_supervised())


def is_linux() -> bool:
    """Elsewhere containers run in a virtual machine, which connects to 127.0.0.1."""
    return sys.platform == "linux"
