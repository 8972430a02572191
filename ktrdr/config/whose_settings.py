"""The choice between the running group's settings and a command's own. Reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MATTERS = ("IB_HOST", "IB_PORT", "KTRDR_SIM_PORT", "KTRDR_DATA_DIR", "KTRDR_RUN_DIR")
"""The settings that decide which bars are read, and which programs a command connects to."""

_DATA_DIR, _RUN_DIR = "KTRDR_DATA_DIR", "KTRDR_RUN_DIR"


@dataclass(frozen=True)
class GivenSetting:
    """The value of a setting that a command is given."""

    value: str
    in_file: bool
    """It is from `.env`; False: from the environment of this one command."""


@dataclass(frozen=True)
class Choice:
    """Which settings a command uses."""

    is_apart: bool = False
    """Its own settings, because it is about another group."""
    data_dir: str = ""
    """It reads this store, and otherwise uses the group's settings; empty: only the group's."""
    note: str = ""
    """What to tell the user where it does so."""
    refusal: str = ""
    """Why it must not run: one line with both sides and what to do; empty: it may."""


def choose(
    group: Mapping[str, str],
    runs: str,
    here: Mapping[str, GivenSetting],
    *,
    reads_bars: bool = True,
) -> Choice:
    """Choose the settings of a command that only reads.

    `group`: the running group's settings; `runs`: the same in words (`runs live on data`); `here`:
    the command's own settings; `reads_bars`: it reads a store, and not only the programs' answers.
    Without own settings it uses the group's. Its environment, not `.env`, may choose another store,
    or another run folder, with a store if it reads bars. Any other contradiction is refused.
    """
    other = _other(group, here)
    is_chosen = _DATA_DIR in here and not here[_DATA_DIR].in_file
    is_elsewhere = _RUN_DIR in other and not other[_RUN_DIR].in_file
    if is_elsewhere and (is_chosen or not reads_bars):
        return Choice(is_apart=True)
    if is_chosen:
        chosen = other.pop(_DATA_DIR, None)
        if not reads_bars and not other:
            return Choice()  # it only connects to the programs, which have their own store
        if chosen is not None and not other:
            note = f"reads {chosen.value} (KTRDR_DATA_DIR), while the group {runs}"
            return Choice(data_dir=chosen.value, note=note)
    return Choice(refusal=_refusal(runs, other)) if other else Choice()


def contradiction(group: Mapping[str, str], runs: str, here: Mapping[str, GivenSetting]) -> str:
    """Why a program must not run in the group's run folder; empty: it may."""
    other = _other(group, here)
    return _refusal(runs, other) if other else ""


def _other(group: Mapping[str, str], here: Mapping[str, GivenSetting]) -> dict[str, GivenSetting]:
    """The settings given here that the group has with other values."""
    return {n: here[n] for n in MATTERS if n in here and here[n].value != group.get(n)}


def _refusal(runs: str, other: Mapping[str, GivenSetting]) -> str:
    shell = [f"{n}={given.value}" for n, given in other.items() if not given.in_file]
    file = [f"{n}={given.value}" for n, given in other.items() if given.in_file]
    sides = [f"this shell sets {', '.join(shell)}"] if shell else []
    sides += [f".env sets {', '.join(file)}"] if file else []
    step = "unset it to follow the group" if shell else "take it out of .env to follow the group"
    if list(other) == [_RUN_DIR] and shell:
        step += ", or name the store with KTRDR_DATA_DIR"
    else:
        step += ", or restart the group with it: ./scripts/up"
    return f"the group {runs}, but {' and '.join(sides)}: {step}"
