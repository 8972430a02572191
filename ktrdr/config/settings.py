"""The settings: read from the environment and `.env`, and checked at a program's start."""

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
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
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
    read_ipv4,
    read_site,
    read_subnets,
)
from ktrdr.config.alert_targets import split_targets
from ktrdr.config.callers import (
    CALLERS_RULE,
    PROXIES_RULE,
    Network,
    parse_callers,
    parse_proxies,
)
from ktrdr.config.names import (
    ENV_FILE,
    IGNORE_ENV_FILE,
    SECRETS,
    unknown_in_environment,
    unknown_in_file,
)
from ktrdr.config.quiet_hours import QUIET_RULE, QuietHours, parse_quiet_hours
from ktrdr.config.restart_times import RESTART_RULE, parse_restart
from ktrdr.errors import Misconfigured
from ktrdr.escapes import visible

_CHECKOUT = Path(__file__).resolve().parents[2]
ROOT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()
"""The project's root, from which relative paths in settings start, in whichever folder one is."""

REAL_GATEWAY_PORTS = (4001, 4002, 7496, 7497)
"""The default ports of IB Gateway and TWS, live and paper."""

SOCKET_PATH_MAX = 103 if sys.platform == "darwin" else 107
"""Bytes in the path of a Unix socket (`sun_path` less its closing zero)."""

_LONGEST_SOCKET = "ib-connection.sock"

_Port = Annotated[int, Field(ge=1, le=65535, description="a port from 1 to 65535")]


def _read_as(read: Callable[[str], str], expected: str) -> AfterValidator:
    """Replaces a text by what `read` returns. Its ValueError becomes what was `expected`."""

    def check(text: str) -> str:
        try:
            return read(text)
        except ValueError:
            raise ValueError(expected) from None

    return AfterValidator(check)


def _host_and_port(text: str) -> str:
    return as_host_and_port(*read_host_and_port(text))


def _subnets(text: str) -> str:
    return ",".join(map(str, read_subnets(text)))


def _sites(text: str) -> str:
    return ",".join(read_site(url.strip()) for url in text.split(","))


def _proxies(text: str) -> str:
    return ",".join(map(str, parse_proxies(text)))


def _callers(text: str) -> str:
    parse_callers(text)
    return text


def _restart(text: str) -> str:
    parse_restart(text, UTC)
    return text


def _quiet_hours(text: str) -> str:
    parse_quiet_hours(text)
    return text


_Host = Annotated[str, _read_as(read_host, "a host name or address, without a port")]
_Address = Annotated[str, _read_as(read_ipv4, "an IPv4 address of this machine")]
_Target = Annotated[str, _read_as(_host_and_port, "HOST:PORT, with a port from 1 to 65535")]
_Subnets = Annotated[str, _read_as(_subnets, "subnets such as 172.18.0.0/16, separated by commas")]
_Callers = Annotated[str, _read_as(_callers, CALLERS_RULE)]
_Proxies = Annotated[str, _read_as(_proxies, PROXIES_RULE)]
_RestartTime = Annotated[str, _read_as(_restart, RESTART_RULE)]
_QuietTime = Annotated[str, _read_as(_quiet_hours, QUIET_RULE)]
_Urls = Annotated[
    str,
    _read_as(
        _sites,
        "URLs such as https://ktrdr.example.org or https://example.org/ktrdr, separated by commas,"
        " without a query, user or password",
    ),
]


def _delays(value: object) -> object:
    """`5,10,30` as numbers. ValueError has what was expected."""
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
"""A variable that a shell would expand; in `.env` only `${NAME}` is expanded."""


class _Environment(EnvSettingsSource):
    """The environment, where a name in capitals has precedence over the same in small letters.

    Compose may set both, from an `.env` file and by itself; pydantic would use whichever is last.
    """

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        capitals = {name.lower(): value for name, value in os.environ.items() if name.isupper()}
        others = {name: value for name, value in self.env_vars.items() if name not in capitals}
        self.env_vars = others | {name: value for name, value in capitals.items() if value}


class Settings(BaseSettings):
    """All settings, under the names of their environment variables.

    A field's description is what its error message says was expected.
    """

    model_config = SettingsConfigDict(
        env_file=ROOT / ENV_FILE,
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
    )

    ib_host: _Host | None = None
    ib_port: _Port = 4002
    ib_client_id: Annotated[int, Field(ge=1, le=50, description="a client id from 1 to 50")] = 1
    ktrdr_sim_port: _Port = 4102
    ktrdr_data_dir: Path | None = None
    ktrdr_run_dir: Path = Path("var/run")
    ktrdr_status_host: _Host = "127.0.0.1"
    ktrdr_status_port: _Port = 8000
    ktrdr_status_callers: _Callers | None = None
    ktrdr_status_url: _Urls | None = None
    ktrdr_status_proxies: _Proxies | None = None
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
    ktrdr_ib_restart_at: _RestartTime | None = None
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
    ktrdr_live_streams: Annotated[
        int, Field(ge=0, le=40, description="a whole number from 0 to 40")
    ] = 30
    ktrdr_alerts: SecretStr | None = None
    ktrdr_alerts_grace_s: Annotated[
        float, Field(ge=0, le=86400, description="seconds from 0 to 86400")
    ] = 300
    ktrdr_alerts_quiet: _QuietTime | None = None
    ktrdr_forward_port: _Port = 4003
    ktrdr_forward_bind: _Address | None = None
    ktrdr_forward_callers: _Subnets | None = None
    ktrdr_forward_target: _Target | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  replaced by _Environment
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in order of precedence."""
        return init_settings, _Environment(settings_cls), dotenv_settings

    @field_validator("ktrdr_sim_port")
    @classmethod
    def _is_no_real_gateways_port(cls, port: int) -> int:
        if port in REAL_GATEWAY_PORTS:
            raise ValueError("a port that no real gateway uses, so none of 4001 4002 7496 7497")
        return port

    @field_validator("ktrdr_status_token")
    @classmethod
    def _is_hard_to_guess(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError(
                "16 or more letters, digits and signs of ASCII without a space, as from"
                " openssl rand -hex 16"
            )
        return token

    @field_validator("ktrdr_alerts")
    @classmethod
    def _are_urls(cls, targets: SecretStr | None) -> SecretStr | None:
        if targets is not None:
            split_targets(targets.get_secret_value())
        return targets

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
        """True if no real gateway is set."""
        return self.ib_host is None

    @property
    def source(self) -> str:
        """The source of bars: `live` or `simulated`."""
        return "simulated" if self.is_simulated else "live"

    @property
    def gateway_host(self) -> str:
        """The host to connect to: that of the gateway that is set, or of the simulated one."""
        return self.ib_host or "127.0.0.1"

    @property
    def gateway_port(self) -> int:
        """The port of `gateway_host`."""
        return self.ktrdr_sim_port if self.is_simulated else self.ib_port

    @property
    def gateway(self) -> str:
        """The gateway as `HOST:PORT`."""
        return as_host_and_port(self.gateway_host, self.gateway_port)

    @property
    def forward_target(self) -> tuple[str, int] | None:
        """Host and port of KTRDR_FORWARD_TARGET; None: not set."""
        text = self.ktrdr_forward_target
        return None if text is None else read_host_and_port(text)

    @property
    def forward_callers(self) -> tuple[ipaddress.IPv4Network, ...]:
        """The subnets of KTRDR_FORWARD_CALLERS; none if it is not set."""
        text = self.ktrdr_forward_callers
        return () if text is None else read_subnets(text)

    @property
    def status_urls(self) -> tuple[str, ...]:
        """The page's URLs elsewhere: `https://example.org/ktrdr`, without a slash at the end."""
        return tuple(self.ktrdr_status_url.split(",")) if self.ktrdr_status_url else ()

    @property
    def status_proxies(self) -> tuple[Network, ...]:
        """The proxies that are believed whom they forward; none: nobody is."""
        text = self.ktrdr_status_proxies
        return parse_proxies(text) if text else ()

    @property
    def status_token(self) -> str:
        """The token that the page requires; empty: none."""
        return self.ktrdr_status_token.get_secret_value() if self.ktrdr_status_token else ""

    @property
    def alert_targets(self) -> tuple[str, ...]:
        """The URLs of apprise that alerts go to; none: nobody is notified."""
        given = self.ktrdr_alerts
        return tuple(split_targets(given.get_secret_value())) if given else ()

    @property
    def quiet_hours(self) -> QuietHours | None:
        """The hours in which only what is critical is notified of."""
        text = self.ktrdr_alerts_quiet
        return None if text is None else parse_quiet_hours(text)

    @property
    def alerts_record(self) -> Path:
        """What was notified of, and what is still to be sent; kept with the store."""
        return self.data_dir / ".ktrdr" / f"alerts-{self.source}.json"

    @property
    def data_dir(self) -> Path:
        """The folder of the CSV files; simulated bars have one of their own."""
        if self.ktrdr_data_dir is not None:
            return self.ktrdr_data_dir
        return ROOT / ("data/simulated" if self.is_simulated else "data")

    @property
    def is_live_folder(self) -> bool:
        """True if `data_dir` is the default folder of live bars."""
        return self.data_dir.resolve() == (ROOT / "data").resolve()

    @property
    def presumed_source(self) -> str | None:
        """`simulated` for the default folder of simulated bars; None for any other."""
        is_simulators = self.data_dir.resolve() == (ROOT / "data/simulated").resolve()
        return "simulated" if is_simulators else None

    @property
    def run_dir(self) -> Path:
        """The folder of sockets, pid files and locks."""
        return ROOT / self.ktrdr_run_dir

    @property
    def connection_socket(self) -> Path:
        """The socket of ib-connection."""
        return self.run_dir / _LONGEST_SOCKET

    @property
    def connection_history(self) -> Path:
        """The history of the connection to this source."""
        return self.data_dir / ".ktrdr" / f"connection-{self.source}.sqlite"

    @property
    def gap_filler_socket(self) -> Path:
        """The socket of gap-filler."""
        return self.run_dir / "gap-filler.sock"

    @property
    def sim_socket(self) -> Path:
        """The socket of gateway-sim's controls."""
        return self.run_dir / "gateway-sim.sock"


class _OfValues(Settings):
    """Settings from the given values alone."""

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
"""All settings, as names of environment variables."""


def load_settings(**given: Any) -> Settings:
    """Settings from `given`, the environment and `.env`, in this order of precedence.

    Misconfigured lists each wrong value, with variable, value and what was expected, and each
    unknown name, with the nearest known one.
    """
    file = None if os.environ.get(IGNORE_ENV_FILE) else ROOT / ENV_FILE
    file = given.setdefault("_env_file", file)
    wrong = [*unknown_in_environment(os.environ, NAMES)]
    wrong += unknown_in_file(read_env_file(file), NAMES) if file else []
    return _checked(lambda: Settings(**given), wrong)


def settings_of(values: Mapping[str, str]) -> Settings:
    """Settings from texts by their names, without environment and `.env`.

    The inverse of `as_environment`. Misconfigured as `load_settings`.
    """
    known: dict[str, Any] = {k.lower(): v for k, v in values.items() if k.upper() in NAMES}
    return _checked(lambda: _OfValues(**known), [])


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings that have a value as variables for the programs, secrets included."""
    values = settings.model_dump()
    return {name.upper(): _as_written(value) for name, value in values.items() if value is not None}


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be written down and shown."""
    return {name: value for name, value in variables.items() if name not in SECRETS}


def read_env_file(path: Path) -> dict[str, str]:
    """The variables in `.env` by name in capitals, without empty ones; none if there is no file.

    Misconfigured: it cannot be read, or has a line that is not NAME=VALUE.
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
    """The settings. Misconfigured: something was `wrong` before, or is now."""
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
    """The message on one wrong value, in one line."""
    name = str(error["loc"][0])
    rule = error.get("ctx", {}).get("error")
    expected = str(rule) if rule else Settings.model_fields[name].description or error["msg"]
    value = without_password(_as_written(error["input"]))
    shown = name.upper() if name.upper() in SECRETS else f"{name.upper()}={value}"
    return f"{shown}: expected {re.sub(chr(10), ' ', expected)}"


def without_password(text: str) -> str:
    """The text as it may be shown: `http://…@host` for `http://user:password@host`.

    Of several URLs all before the last host is left out, as a password may contain anything.
    """
    secret, at, place = text.rpartition("@")
    scheme = _SCHEME.match(secret)
    return f"{scheme[0] if scheme else ''}…@{place}" if at else text


def _as_written(value: object) -> str:
    """The value as it is written in the environment."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
