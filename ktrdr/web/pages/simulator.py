"""The page that breaks the simulated gateway: its faults at a click. Only where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktrdr.errors import InvalidRequest
from ktrdr.health.simulator import Fault, FaultBoard, Simulator
from ktrdr.health.system import Snapshot
from ktrdr.web.pages.fault_words import FAULT_WORDS, GROUPS, OTHERS, FaultWords
from ktrdr.web.pages.page import Page, Site, Values

DURATIONS = {"30": "30 s", "120": "2 min", "": "until it is ended"}
"""How long a fault lasts: `for_s` of the gateway, and in words."""
VALUE = "value."
"""The beginning of a form field's name that is a parameter of the fault."""
NOTICES = {"faults-ended": "All faults are ended.", "fault-ended": "The fault is ended."} | {
    f"fault-begun-{name}": f"{words.title}: begun. {words.says}"
    for name, words in FAULT_WORDS.items()
}
"""What is shown after a form was sent, by the name that is in the address."""


@dataclass(frozen=True)
class Shown:
    """A fault as the page shows it."""

    name: str
    fault: Fault
    words: FaultWords


def groups(board: FaultBoard) -> dict[str, list[Shown]]:
    """The faults by their group, in the order of GROUPS; one without words of ours comes last."""
    found: dict[str, list[Shown]] = {group: [] for group in GROUPS}
    for name, fault in board.known.items():
        words = words_for(name)
        found[words.group].append(Shown(name, fault, words))
    return {group: shown for group, shown in found.items() if shown}


def words_for(name: str) -> FaultWords:
    """The words for a fault; its bare name for one that a newer gateway has."""
    return FAULT_WORDS.get(name) or FaultWords(name.replace("_", " "), OTHERS, "", "")


def carry_out(simulator: Simulator, form: Mapping[str, str]) -> str:
    """Do what a form of the page asks for; returns the name of the notice to show.

    InvalidRequest: it asks for what there is not. PeerDown: the gateway does not answer.
    """
    action, name = form.get("action", ""), form.get("fault", "")
    if action == "end-all":
        simulator.end_all()
        return "faults-ended"
    if action == "end":
        simulator.end(name)
        return "fault-ended"
    if action != "begin":
        raise InvalidRequest(f"action={action!r}, expected begin, end or end-all")
    values = {key.removeprefix(VALUE): v for key, v in form.items() if key.startswith(VALUE)}
    simulator.begin(name, values, form.get("for_s", ""))
    return f"fault-begun-{name}"


def _view(site: Site, _snapshot: Snapshot, _: Values) -> dict[str, Any]:
    answer = site.simulator.board()
    board = answer.content
    return {
        "board": answer,
        "groups": groups(board) if board else {},
        "in_force": board.in_force if board else None,
        "durations": DURATIONS,
        "value_prefix": VALUE,
        "words_for": words_for,
    }


SIMULATOR = Page("simulator", "/simulator", "Break something", _view, is_for_simulated_alone=True)
