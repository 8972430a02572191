"""The names of our variables, and the messages on unknown ones. Reads no environment."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

ENV_FILE = ".env"

IGNORE_ENV_FILE = "KTRDR_IGNORE_ENV_FILE"
"""Set by scripts/up for the programs of a group, which have all settings in the environment."""

SIMULATOR = (
    "KTRDR_SIM_ACCOUNT",
    "KTRDR_SIM_BARS_PER_SECOND",
    "KTRDR_SIM_LATENCY_MS",
    "KTRDR_SIM_RECORD",
    "KTRDR_SIM_REPLAY",
    "KTRDR_SIM_SEED",
)
"""Options of `python -m ktrdr.sim`, which reads them from the environment only."""

TESTS = ("KTRDR_TEST_COPY",)
"""Variables that mark the processes of a test."""

SECRETS = ("KTRDR_ALERTS", "KTRDR_STATUS_TOKEN")
"""Settings whose values never appear in a log, note, message or process list."""

NOT_YET = (
    "KTRDR_DATABASE_URL",
    "KTRDR_LIVE_STREAMS",
)
"""Names reserved for a later version."""


def unknown_in_environment(given: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """A line for each `KTRDR_…` variable that is not known. Empty ones are ignored."""
    known = {*settings, *SIMULATOR, *TESTS, IGNORE_ENV_FILE}
    for name, value in given.items():
        if value and name.upper().startswith("KTRDR_") and name.upper() not in known:
            yield _line(name, "", settings)


def unknown_in_file(given: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """The same for `.env`, where `IB_…` variables must be known, too."""
    for name, value in given.items():
        ours = name.upper().startswith(("KTRDR_", "IB_"))
        if not value or not ours or name.upper() in settings:
            continue
        if name.upper() in SIMULATOR:
            yield f"{name} in {ENV_FILE}: expected in the environment, where the simulator reads it"
        else:
            yield _line(name, f" in {ENV_FILE}", settings)


def _line(name: str, where: str, settings: Collection[str]) -> str:
    """The message on an unknown name, without its value, which may be a secret."""
    if name.upper() in NOT_YET:
        return f"{name}{where}: not supported by this version"
    near = get_close_matches(name.upper(), [*settings, *SIMULATOR, *NOT_YET], n=1)
    if not near:
        return f"{name}{where}: no such setting; .env.example has all of them"
    return f"{name}{where}: no such setting; did you mean {near[0]}?"
