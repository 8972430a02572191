"""Which names of variables are ours, and what is said of one that is not. Reads nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

ENV_FILE = ".env"

IGNORE_ENV_FILE = "KTRDR_IGNORE_ENV_FILE"
"""Set by scripts/up for the programs of a group, which got all settings at its start."""

SIMULATOR = (
    "KTRDR_SIM_ACCOUNT",
    "KTRDR_SIM_BARS_PER_SECOND",
    "KTRDR_SIM_LATENCY_MS",
    "KTRDR_SIM_RECORD",
    "KTRDR_SIM_REPLAY",
    "KTRDR_SIM_SEED",
)
"""Options of `python -m ktrdr.sim`, which takes them from the environment alone."""

TESTS = ("KTRDR_TEST_COPY",)
"""Marks the processes of a test."""

SECRETS = ("KTRDR_STATUS_TOKEN",)
"""Settings whose values stand in no log, note, message or list of processes."""

NOT_YET = (
    "KTRDR_ALERTS",
    "KTRDR_DATABASE_URL",
    "KTRDR_LIVE_STREAMS",
)
"""Names of a later version."""


def unknown_in_environment(given: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """A line for each `KTRDR_…` that means nothing here. An empty value counts as none."""
    known = {*settings, *SIMULATOR, *TESTS, IGNORE_ENV_FILE}
    for name, value in given.items():
        if value and name.upper().startswith("KTRDR_") and name.upper() not in known:
            yield _line(name, "", settings)


def unknown_in_file(given: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """The same for `.env`, where an `IB_…` can be meant for us alone."""
    for name, value in given.items():
        ours = name.upper().startswith(("KTRDR_", "IB_"))
        if not value or not ours or name.upper() in settings:
            continue
        if name.upper() in SIMULATOR:
            yield f"{name} in {ENV_FILE}: expected in the environment, where the simulator reads it"
        else:
            yield _line(name, f" in {ENV_FILE}", settings)


def _line(name: str, where: str, settings: Collection[str]) -> str:
    """What is said of it; never its value, which may be secret: nobody knows what it means."""
    if name.upper() in NOT_YET:
        return f"{name}{where}: not supported by this version"
    near = get_close_matches(name.upper(), [*settings, *SIMULATOR, *NOT_YET], n=1)
    if not near:
        return f"{name}{where}: no such setting; .env.example has all of them"
    return f"{name}{where}: no such setting; did you mean {near[0]}?"
