"""Settings: read from the environment and `.env`, checked once at a program's start."""

from __future__ import annotations

import io
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ktrdr.addresses import (
    as_host_and_port,
    read_host,
    read_host_and_port,
    read_origin,
    read_subnets,
)
from ktrdr.config.callers import parse_callers
from ktrdr.config.names import (
    ENV_FILE,
    IGNORE_ENV_FILE,
    SECRETS,
    unknown_in_environment,
    unknown_in_file,
)
from ktrdr.config.restart_times import RESTART_RULE, parse_restart
from ktrdr.errors import Misconfigured
from ktrdr.escapes import visible

_CHECKOUT = Path(__file__).resolve().parents[2]
ROOT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()
"""The project's root: relative paths in settings are counted from here, whoever runs what."""

REAL_GATEWAY_PORTS = (4001, 4002, 7496, 7497)
"""Where IB Gateway and TWS listen by default, live and paper."""

SOCKET_PATH_MAX = 103 if sys.platform == "darwin" else 107
"""Bytes in the path of a Unix socket (`sun_path` less its closing zero)."""

_LONGEST_SOCKET = "ib-connection.sock"

_Port = Annotated[int, Field(ge=1, le=65535, description="a port from 1 to 65535")]


def _delays(value: object) -> object:
    """`5,10,30` as numbers; ValueError says what was expected."""
    if not isinstance(value, str):
        return value
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise ValueError("seconds above 0, separated by commas, such as 5,10,30") from None


_TOKEN = re.compile(r"[!-~]{16,}")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_PLACE = re.compile(r"\$\{[^}]*\}?")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}")
_BARE_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*(/|$)")
"""What a shell would expand; in `.env` only `${NAME}` is."""


class _Environment(EnvSettingsSource):
    """The environment, where a name in capitals wins over the same one in small letters.

    An `.env` file may have those, and compose the others, also an empty one; pydantic goes by which
    comes last.
    """

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        capitals = {name.lower(): value for name, value in os.environ.items() if name.isupper()}
        others = {name: value for name, value in self.env_vars.items() if name not in capitals}
        self.env_vars = others | {name: value for name, value in capitals.items() if value}


class Settings(BaseSettings):
    """What a program may be told, under the names of the environment variables.

    Each field's description is what its error message says was expected.
    """

    model_config = SettingsConfigDict(
        env_file=ROOT / ENV_FILE,
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
    )

    ib_host: str | None = None
    ib_port: _Port = 4002
    ib_client_id: Annotated[int, Field(ge=1, le=50, description="a client id from 1 to 50")] = 1
    ktrdr_sim_port: _Port = 4102
    ktrdr_data_dir: Path | None = None
    ktrdr_run_dir: Path = Path("var/run")
    ktrdr_status_host: str = "127.0.0.1"
    ktrdr_status_port: _Port = 8000
    ktrdr_status_callers: str | None = None
    ktrdr_status_url: str | None = None
    ktrdr_status_token: SecretStr | None = None
    ktrdr_ib_retry_delays_s: Annotated[
        tuple[Annotated[float, Field(gt=0, le=86400)], ...],
        NoDecode,
        BeforeValidator(_delays),
        Field(min_length=1, description="seconds above 0, separated by commas, such as 5,10,30"),
    ] = (5, 10, 30, 60, 120, 300)
    ktrdr_ib_heartbeat_s: Annotated[
        float, Field(ge=1, le=3600, description="seconds from 1 to 3600")
    ] = 15
    ktrdr_ib_restart_at: Annotated[str | None, Field(description=RESTART_RULE)] = None
    ktrdr_ib_log_out: Annotated[
        Literal["sunday", "never"] | None, Field(description="sunday or never")
    ] = None
    ktrdr_gap_check_interval_s: Annotated[
        float, Field(ge=1, le=86400, description="seconds from 1 to 86400")
    ] = 300
    ktrdr_gap_max_age_days: Annotated[
        int, Field(ge=1, le=3650, description="whole days from 1 to 3650")
    ] = 30
    ktrdr_gap_batch_symbols: Annotated[
        int, Field(ge=1, le=1000, description="a whole number from 1 to 1000")
    ] = 5
    ktrdr_forward_port: _Port = 4003
    ktrdr_forward_bind: str | None = None
    ktrdr_forward_callers: str | None = None
    ktrdr_forward_target: str | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  one of our own in its place
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is read, the first first."""
        return init_settings, _Environment(settings_cls), dotenv_settings

    @field_validator("ktrdr_sim_port")
    @classmethod
    def _is_no_real_gateways_port(cls, port: int) -> int:
        if port in REAL_GATEWAY_PORTS:
            raise ValueError("a port that no real gateway uses, so none of 4001 4002 7496 7497")
        return port

    @field_validator("ktrdr_ib_restart_at")
    @classmethod
    def _is_a_time_of_day(cls, text: str | None) -> str | None:
        if text is not None:
            parse_restart(text, UTC)
        return text

    @field_validator("ib_host", "ktrdr_status_host")
    @classmethod
    def _is_a_host(cls, text: str | None) -> str | None:
        try:
            return None if text is None else read_host(text)
        except ValueError:
            raise ValueError("a host name or address, without a port") from None

    @field_validator("ktrdr_status_callers")
    @classmethod
    def _are_subnets(cls, text: str | None) -> str | None:
        if text is not None:
            parse_callers(text)
        return text

    @field_validator("ktrdr_status_url")
    @classmethod
    def _has_only_origins(cls, text: str | None) -> str | None:
        try:
            return (
                None if text is None else ",".join(read_origin(u.strip()) for u in text.split(","))
            )
        except ValueError:
            raise ValueError(
                "URLs such as https://ktrdr.example.org, separated by commas, without a path, user"
                " or password"
            ) from None

    @field_validator("ktrdr_status_token")
    @classmethod
    def _is_hard_to_guess(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError(
                "16 or more letters, digits and signs of ASCII without a space, as from"
                " openssl rand -hex 16"
            )
        return token

    @field_validator("ktrdr_forward_target")
    @classmethod
    def _has_a_port(cls, text: str | None) -> str | None:
        try:
            return None if text is None else as_host_and_port(*read_host_and_port(text))
        except ValueError:
            raise ValueError("HOST:PORT, with a port from 1 to 65535") from None

    @field_validator("ktrdr_forward_bind")
    @classmethod
    def _is_an_ipv4_address(cls, text: str | None) -> str | None:
        try:
            return None if text is None else str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError("an IPv4 address of this machine") from None

    @field_validator("ktrdr_forward_callers")
    @classmethod
    def _are_subnets_of_callers(cls, text: str | None) -> str | None:
        try:
            return None if text is None else ",".join(map(str, read_subnets(text)))
        except ValueError:
            raise ValueError("subnets such as 172.18.0.0/16, separated by commas") from None

    @field_validator("ktrdr_run_dir", "ktrdr_data_dir")
    @classmethod
    def _count_from_the_root(cls, path: Path | None) -> Path | None:
        if path is not None and set(str(path)) & {"\n", "\r"}:
            raise ValueError("a folder without a line end in its name")
        if path is not None and (name := _BARE_VARIABLE.match(str(path))):
            bare = name[0].strip("$/")
            raise ValueError(f"a folder; of a variable in .env, write ${{{bare}}}")
        try:
            folder = None if path is None else ROOT / path.expanduser()
            str(folder).encode()  # JSON between the programs, log and page have text alone
        except RuntimeError:
            raise ValueError("a folder; there is no such user") from None
        except UnicodeEncodeError:
            raise ValueError("a folder whose whole path is UTF-8") from None
        return folder

    @field_validator("ktrdr_run_dir")
    @classmethod
    def _leaves_room_for_a_socket(cls, folder: Path) -> Path:
        room = SOCKET_PATH_MAX - len(_LONGEST_SOCKET) - 1
        if len(os.fsencode(ROOT / folder)) > room:
            raise ValueError(f"a folder whose whole path has at most {room} bytes, for its sockets")
        return folder

    @property
    def is_simulated(self) -> bool:
        """True while no real gateway is configured."""
        return self.ib_host is None

    @property
    def source(self) -> str:
        """`live` or `simulated`: what the store's bars come from."""
        return "simulated" if self.is_simulated else "live"

    @property
    def gateway_host(self) -> str:
        """Where the connection goes: the configured gateway, or the simulated one."""
        return self.ib_host or "127.0.0.1"

    @property
    def gateway_port(self) -> int:
        """The port of `gateway_host`."""
        return self.ktrdr_sim_port if self.is_simulated else self.ib_port

    @property
    def gateway(self) -> str:
        """Both as one text."""
        return as_host_and_port(self.gateway_host, self.gateway_port)

    @property
    def forward_target(self) -> tuple[str, int] | None:
        """Host and port of KTRDR_FORWARD_TARGET; None: it is not given."""
        text = self.ktrdr_forward_target
        return None if text is None else read_host_and_port(text)

    @property
    def forward_callers(self) -> tuple[ipaddress.IPv4Network, ...]:
        """The subnets of KTRDR_FORWARD_CALLERS; none where it is not given."""
        text = self.ktrdr_forward_callers
        return () if text is None else read_subnets(text)

    @property
    def status_urls(self) -> tuple[str, ...]:
        """What the page is called elsewhere: `https://ktrdr.example.org`, without a closing `/`."""
        return tuple(self.ktrdr_status_url.split(",")) if self.ktrdr_status_url else ()

    @property
    def status_token(self) -> str:
        """What a caller of the page must know; empty: nothing."""
        return self.ktrdr_status_token.get_secret_value() if self.ktrdr_status_token else ""

    @property
    def data_dir(self) -> Path:
        """The folder with the CSV files; one of its own for simulated bars."""
        if self.ktrdr_data_dir is not None:
            return self.ktrdr_data_dir
        return ROOT / ("data/simulated" if self.is_simulated else "data")

    @property
    def is_live_folder(self) -> bool:
        """True when `data_dir` is the one that live bars go to by default."""
        return self.data_dir.resolve() == (ROOT / "data").resolve()

    @property
    def presumed_source(self) -> str | None:
        """`simulated` for the folder of simulated bars; None: its place says nothing."""
        is_simulators = self.data_dir.resolve() == (ROOT / "data/simulated").resolve()
        return "simulated" if is_simulators else None

    @property
    def run_dir(self) -> Path:
        """The folder with sockets, pid files and locks."""
        return ROOT / self.ktrdr_run_dir

    @property
    def connection_socket(self) -> Path:
        """The local API of ib-connection."""
        return self.run_dir / _LONGEST_SOCKET

    @property
    def connection_history(self) -> Path:
        """What states the connection to this gateway was in."""
        return self.data_dir / ".ktrdr" / f"connection-{self.source}.sqlite"

    @property
    def gap_filler_socket(self) -> Path:
        """The local API of gap-filler."""
        return self.run_dir / "gap-filler.sock"

    @property
    def sim_socket(self) -> Path:
        """The controls of gateway-sim."""
        return self.run_dir / "gateway-sim.sock"


class _OfValues(Settings):
    """Settings of nothing but what they are made of."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


NAMES = tuple(name.upper() for name in Settings.model_fields)
"""Every setting, as a variable of the environment."""


def load_settings(**given: Any) -> Settings:
    """Settings from `given`, the environment and `.env`, in this order.

    Misconfigured has one line for each wrong value: the variable, the value, what was expected;
    and for each name that looks like one of ours and is none, with the nearest that is.
    """
    file = None if os.environ.get(IGNORE_ENV_FILE) else ROOT / ENV_FILE
    file = given.setdefault("_env_file", file)
    wrong = [*unknown_in_environment(os.environ, NAMES)]
    wrong += unknown_in_file(read_env_file(file), NAMES) if file else []
    return _checked(lambda: Settings(**given), wrong)


def settings_of(values: Mapping[str, str]) -> Settings:
    """Settings of these texts by their names, whatever environment and `.env` say.

    The inverse of `as_environment`. Misconfigured as `load_settings`.
    """
    known: dict[str, Any] = {k.lower(): v for k, v in values.items() if k.upper() in NAMES}
    return _checked(lambda: _OfValues(**known), [])


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as variables, each that has a value: for the programs, secrets included."""
    values = settings.model_dump()
    return {name.upper(): _as_written(value) for name, value in values.items() if value is not None}


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that may be noted and told."""
    return {name: value for name, value in variables.items() if name not in SECRETS}


def read_env_file(path: Path) -> dict[str, str]:
    """What `.env` says, by name in capitals; nothing where it is not there, or says it empty.

    Misconfigured: it cannot be read, or has a line that is no NAME=VALUE.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from None
    for binding in parse_stream(io.StringIO(text)):
        ours = (binding.key or "").upper().startswith(("KTRDR_", "IB_"))
        line = f"{path}, line {binding.original.line}"
        if binding.error or (ours and binding.value is None):
            raise Misconfigured(f"{line}: expected NAME=VALUE or a comment (#)")
        if ours and not all(map(_VARIABLE.fullmatch, _PLACE.findall(binding.value or ""))):
            raise Misconfigured(f"{line}: expected ${{NAME}} or ${{NAME:-default}}")
    values = dotenv_values(stream=io.StringIO(text))
    return {name.upper(): value for name, value in values.items() if value}


def _checked(make: Callable[[], Settings], wrong: list[str]) -> Settings:
    """The settings; Misconfigured: something is wrong already, or is found out now."""
    try:
        settings = make()
    except ValidationError as error:
        wrong += [_explain(e) for e in error.errors()]
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{ROOT / ENV_FILE} cannot be read: {error}") from None
    if wrong:
        raise Misconfigured(visible("; ".join(wrong)))
    return settings


def _explain(error: Mapping[str, Any]) -> str:
    """One line for one wrong value."""
    name = str(error["loc"][0])
    rule = error.get("ctx", {}).get("error")
    expected = str(rule) if rule else Settings.model_fields[name].description or error["msg"]
    value = without_password(_as_written(error["input"]))
    shown = name.upper() if name.upper() in SECRETS else f"{name.upper()}={value}"
    return f"{shown}: expected {re.sub(chr(10), ' ', expected)}"


def without_password(text: str) -> str:
    """The text as it may be shown: `http://…@host` for `http://user:password@host`.

    Of several, all that stands before the last one's host is left out: in a password anything may.
    """
    secret, at, place = text.rpartition("@")
    scheme = _SCHEME.match(secret)
    return f"{scheme[0] if scheme else ''}…@{place}" if at else text


def _as_written(value: object) -> str:
    """The value as somebody wrote it into the environment."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
