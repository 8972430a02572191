"""`ktrdr config`: the settings that are in force, and where each is from. Secrets are hidden."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.exit_codes import code_of
from ktrdr.cli.output import note, show_error, show_json, show_rows
from ktrdr.config.names import SECRETS
from ktrdr.config.running_group import (
    RunningGroup,
    pending_changes,
    running_group,
    settings_here,
    settings_to_read_with,
)
from ktrdr.config.settings import (
    NAMES,
    Settings,
    as_environment,
    load_settings,
    without_password,
)
from ktrdr.errors import Misconfigured

_HIDDEN = "set, and hidden"


@dataclass(frozen=True)
class InForce:
    """A setting as it is in force."""

    value: str | None
    """None: it is not set."""
    source: str
    """`environment`, `.env`, `default`, or `running group`, with where that has it from."""


def config(
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that are no defaults.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the settings that are in force, and where each is from. Secrets are hidden.

    They are those of the running group, with what was given at its start; if none runs, those of
    the environment, `.env` and the defaults.

    Example: ktrdr config --changed
    """
    own = load_settings()
    group, refusal = _group_in_force()
    found = in_force_in_group(group) if group else in_force_here(own)
    if changed:
        found = {name: one for name, one in found.items() if one.source != "default"}
    pending = pending_changes(group.settings) if group else ""
    if as_json:
        settings = {name: asdict(one) for name, one in found.items()}
        show_json({"group_runs": group is not None, "settings": settings, "pending": pending})
    else:
        rows = [(name, one.value or "", one.source) for name, one in found.items()]
        show_rows(("setting", "value", "from"), rows)
    if pending:
        note(f".env has changed since the group's start: {pending}; ./scripts/up takes it over")
    if refusal:
        show_error(refusal)
        sys.exit(code_of(refusal))


def _group_in_force() -> tuple[RunningGroup | None, Misconfigured | None]:
    """The group whose settings commands use; and why they refuse, if they do."""
    try:
        group = running_group()
    except PermissionError:
        return None, None
    if group is None:
        return None, None
    try:
        settings, _ = settings_to_read_with(reads_bars=False)
    except Misconfigured as error:
        return group, error
    return (group if settings.run_dir == group.settings.run_dir else None), None


def in_force_here(settings: Settings) -> dict[str, InForce]:
    """The settings of this process, by name."""
    given = settings_here(settings)
    sources = {name: ".env" if one.in_file else "environment" for name, one in given.items()}
    return _in_force(settings, sources)


def in_force_in_group(group: RunningGroup) -> dict[str, InForce]:
    """The settings of a running group, by name; of its secrets only that they are set."""
    sources = {}
    for text in group.given:
        name, _, value = text.partition("=")
        where = ".env" if value.endswith(" in .env") else "environment"
        sources[name] = f"running group, from its {where}"
    found = _in_force(group.settings, sources)
    secrets = {name: InForce(_HIDDEN, "running group") for name, _ in group.secrets}
    return {name: secrets.get(name, one) for name, one in found.items()}


def _in_force(settings: Settings, sources: Mapping[str, str]) -> dict[str, InForce]:
    values = as_environment(settings) | {
        "KTRDR_DATA_DIR": f"{settings.data_dir}",
        "KTRDR_RUN_DIR": f"{settings.run_dir}",
    }
    return {
        name: InForce(_shown(name, values.get(name)), sources.get(name, "default"))
        for name in NAMES
    }


def _shown(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    return _HIDDEN if name in SECRETS else without_password(value)
