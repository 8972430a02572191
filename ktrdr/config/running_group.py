"""The running group of this checkout: the settings it was started with, for commands to use.

`scripts/up` notes them beside supervisord's socket. A command without settings of its own uses
them, so that `IB_HOST=… ./scripts/up` in one shell and `ktrdr show` in another mean the same bars.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktrdr.config.names import ENV_FILE, IGNORE_ENV_FILE, SECRETS
from ktrdr.config.settings import (
    ROOT,
    Settings,
    as_environment,
    load_settings,
    read_env_file,
    settings_of,
    without_secrets,
)
from ktrdr.config.whose_settings import MATTERS, GivenSetting, choose, contradiction
from ktrdr.errors import Misconfigured
from ktrdr.run_folder import in_the_way, read_own, read_pid, replace_file
from ktrdr.unix_socket import listens

FOLDER = ROOT / "var/run"
"""The folder of supervisord's socket and pid file, whatever KTRDR_RUN_DIR is."""

_NOTE = "settings.json"
_ROUNDS = 100_000


@dataclass(frozen=True)
class RunningGroup:
    """The settings that the running group was started with."""

    settings: Settings
    given: tuple[str, ...]
    """The settings given at its start, as `IB_HOST=127.0.0.1` or `IB_HOST=127.0.0.1 in .env`."""
    secrets: tuple[tuple[str, str], ...] = ()
    """Name and fingerprint of each of its secrets, which `settings` does not contain."""

    @property
    def values(self) -> dict[str, str]:
        """Its settings by name, the folders also where they are defaults."""
        folders = {
            "KTRDR_DATA_DIR": str(self.settings.data_dir),
            "KTRDR_RUN_DIR": str(self.settings.run_dir),
        }
        return as_environment(self.settings) | folders

    @property
    def words(self) -> str:
        """The same as a clause, to follow “the group”."""
        names = [n for n in MATTERS if n != "KTRDR_SIM_PORT" or self.settings.is_simulated]
        wanted = [one for one in self.given if one.startswith(tuple(names))]
        how = f"started with {', '.join(wanted)}" if wanted else "started without IB_HOST"
        return f"runs {self.settings.source} on {self.settings.data_dir} ({how})"


def running_group(folder: Path = FOLDER) -> RunningGroup | None:
    """The group whose supervisord runs in a folder; None: none does, or it has no note.

    PermissionError: this user may not read the folder. Misconfigured: the note cannot be read.
    """
    noted = read_note(folder)
    if noted is None:
        return None
    try:
        secrets = tuple((n, noted["further"][n]) for n in SECRETS if n in noted["further"])
        return RunningGroup(settings_of(noted["settings"]), tuple(noted["given"]), secrets)
    except (KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder / _NOTE) from error


def read_note(folder: Path = FOLDER) -> dict[str, Any] | None:
    """The note of the supervisord that runs in a folder. Returns None and raises as above."""
    try:
        pid = read_pid(folder / "supervisord.pid")
    except PermissionError:
        raise
    except (OSError, ValueError):
        return None
    if not listens(folder / "supervisor.sock"):
        return None
    try:
        noted = json.loads(read_own(folder / _NOTE))
        is_its_own = noted["supervisord"] == pid
    except FileNotFoundError:
        return None  # started by hand, or just being started by scripts/up
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(folder / _NOTE) from error
    return noted if is_its_own else None


def write_note(folder: Path, supervisord: int, settings: Settings, **further: str) -> None:
    """Write the note on a group in one step; `further` is kept for `scripts/up`.

    It contains no secrets, because people show it to others when something goes wrong.
    """
    here = {n: one for n, one in settings_here(settings).items() if n not in SECRETS}
    given = [f"{n}={one.value}{' in .env' if one.in_file else ''}" for n, one in here.items()]
    noted = {
        "supervisord": supervisord,
        "settings": without_secrets(as_environment(settings)),
        "given": given,
        "further": further | fingerprints(settings),
    }
    fresh = folder / f"{_NOTE}.new"
    replace_file(fresh, json.dumps(noted, indent=1))
    try:
        fresh.replace(folder / _NOTE)
    except IsADirectoryError as error:
        raise in_the_way(folder / _NOTE) from error


def fingerprints(settings: Settings) -> dict[str, str]:
    """Hashes by which this checkout's secrets can be compared but not found out."""
    values = as_environment(settings)
    return {name: _fingerprint(values[name]) for name in SECRETS if name in values}


def _fingerprint(secret: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), os.fsencode(ROOT), _ROUNDS).hex()


def forget_note(folder: Path = FOLDER) -> None:
    """Remove the note of a group that has ended."""
    (folder / _NOTE).unlink(missing_ok=True)


def settings_here(settings: Settings) -> dict[str, GivenSetting]:
    """The settings that this process's environment and `.env` give, with their values."""
    environment = {name.upper() for name, value in os.environ.items() if value}
    values = as_environment(settings)
    names = [name.upper() for name in settings.model_fields_set]
    return {n: GivenSetting(values[n], n not in environment) for n in sorted(names) if n in values}


def settings_to_read_with(
    folder: Path = FOLDER, *, reads_bars: bool = True
) -> tuple[Settings, str]:
    """The settings of a command that only reads, and a note for its user, or an empty text.

    They are the running group's, or its own if no group runs or another one is meant; `reads_bars`:
    as in `choose`. Misconfigured: both contradict each other; or as `load_settings`.
    """
    own = load_settings()
    here = settings_here(own)
    try:
        group = running_group(folder)
    except PermissionError as error:
        if reads_bars and not here.keys() & {"IB_HOST", "KTRDR_DATA_DIR"}:
            raise Misconfigured(
                f"this user may not check whether a group runs here ({error.filename}): name"
                " the store with KTRDR_DATA_DIR"
            ) from error
        group = None
    if group is None:
        return own, ""
    choice = choose(group.values, group.words, here, reads_bars=reads_bars)
    if choice.refusal:
        raise Misconfigured(choice.refusal)
    if choice.is_apart:
        return own, ""
    if choice.data_dir:
        return settings_of(group.values | {"KTRDR_DATA_DIR": choice.data_dir}), choice.note
    return group.settings, ""


def settings_to_run_with(folder: Path = FOLDER) -> Settings:
    """The settings of a program: its own, or the running group's if it belongs to that.

    A program started by hand in the group's run folder does. Misconfigured: its own settings
    contradict the group's; or as `load_settings`.
    """
    own = load_settings()
    if os.environ.get(IGNORE_ENV_FILE):
        return own
    try:
        group = running_group(folder)
    except PermissionError:
        return own
    if group is None or group.settings.run_dir != own.run_dir:
        return own
    why = contradiction(group.values, group.words, settings_here(own))
    if why:
        raise Misconfigured(why)
    return _with_secrets(group, own)


def _with_secrets(group: RunningGroup, own: Settings) -> Settings:
    """The group's settings with the secrets, which only this process's own settings have.

    Misconfigured: those differ from the group's.
    """
    if fingerprints(own) != dict(group.secrets):
        raise Misconfigured(
            f"the group's {' and '.join(SECRETS)} differs from what is set here: set it as"
            " it was at the group's start, or restart the group with it: ./scripts/up"
        )
    known = as_environment(own)
    secrets = {name: known[name] for name in SECRETS if name in known}
    return settings_of(as_environment(group.settings) | secrets)


def pending_changes(settings: Settings) -> str:
    """The lines of `.env` that differ from a group's settings; empty: none."""
    try:
        in_file = read_env_file(ROOT / ENV_FILE)
        wanted = as_environment(settings_of(in_file))
    except Misconfigured as error:
        return error.message
    return ", ".join(_changed(wanted, in_file, as_environment(settings)))


def _changed(
    wanted: Mapping[str, str], in_file: Mapping[str, str], running: Mapping[str, str]
) -> list[str]:
    changed = [n for n in in_file if n in wanted and wanted[n] != running.get(n)]
    return [n if n in SECRETS else f"{n}={wanted[n]}" for n in changed]


def _unreadable(path: Path) -> Misconfigured:
    return Misconfigured(f"{path} cannot be read: ./scripts/up restarts the group, and writes it")
