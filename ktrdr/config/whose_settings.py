"""Whose settings a command goes by: those of the running group, or its own. Reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MATTERS = ("IB_HOST", "IB_PORT", "KTRDR_SIM_PORT", "KTRDR_DATA_DIR", "KTRDR_RUN_DIR")
"""What decides which bars are read, and whom a command talks with."""

_DATA_DIR, _RUN_DIR = "KTRDR_DATA_DIR", "KTRDR_RUN_DIR"


@dataclass(frozen=True)
class GivenSetting:
    """The value of a setting, as a command finds it."""

    value: str
    in_file: bool
    """It stands in `.env`; False: in the environment of that one command."""


@dataclass(frozen=True)
class Choice:
    """What a command goes by."""

    is_apart: bool = False
    """Its own settings: it has to do with another group."""
    data_dir: str = ""
    """It reads this store, and goes by the running group in all else; empty: in all."""
    note: str = ""
    """What is to be told where it does so."""
    refusal: str = ""
    """It must not do anything; one line, with both sides and what to do."""


def choose(
    group: Mapping[str, str],
    runs: str,
    here: Mapping[str, GivenSetting],
    *,
    reads_bars: bool = True,
) -> Choice:
    """Whose settings a command goes by that only reads.

    `group`: the settings of the running group; `runs`: the same in words (`runs live on data`);
    `here`: what the command itself is told; `reads_bars`: it reads a store, and does not only ask
    programs. It follows the group where it is told nothing else. In the environment of that one
    command another store may be chosen, or another run folder, with its store where bars are read;
    any other contradiction is refused.
    """
    other = _other(group, here)
    is_chosen = _DATA_DIR in here and not here[_DATA_DIR].in_file
    is_elsewhere = _RUN_DIR in other and not other[_RUN_DIR].in_file
    if is_elsewhere and (is_chosen or not reads_bars):
        return Choice(is_apart=True)
    if is_chosen:
        chosen = other.pop(_DATA_DIR, None)
        if not reads_bars and not other:
            return Choice()  # it asks the programs, whose store is another
        if chosen is not None and not other:
            note = f"reads {chosen.value} (KTRDR_DATA_DIR), while the group {runs}"
            return Choice(data_dir=chosen.value, note=note)
    return Choice(refusal=_refusal(runs, other)) if other else Choice()


def contradiction(group: Mapping[str, str], runs: str, here: Mapping[str, GivenSetting]) -> str:
    """Why a program must not run in the group's run folder; empty: it may."""
    other = _other(group, here)
    return _refusal(runs, other) if other else ""


def _other(group: Mapping[str, str], here: Mapping[str, GivenSetting]) -> dict[str, GivenSetting]:
    """What is said here and is otherwise in the group."""
    return {n: here[n] for n in MATTERS if n in here and here[n].value != group.get(n)}


def _refusal(runs: str, other: Mapping[str, GivenSetting]) -> str:
    shell = [f"{n}={given.value}" for n, given in other.items() if not given.in_file]
    file = [f"{n}={given.value}" for n, given in other.items() if given.in_file]
    sides = [f"this shell says {', '.join(shell)}"] if shell else []
    sides += [f".env says {', '.join(file)}"] if file else []
    step = "unset it to follow the group" if shell else "take it out of .env to follow the group"
    if list(other) == [_RUN_DIR] and shell:
        step += ", or say with KTRDR_DATA_DIR which store is meant"
    else:
        step += ", or start the group anew with it: ./scripts/up"
    return f"the group {runs}, but {' and '.join(sides)}: {step}"
