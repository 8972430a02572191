"""IB's data farms as the gateway's notices tell of them: which are broken, since when, how often.

A broken farm costs no connection: farms break and come back by themselves, several times a
night. Codes: TWS API, "System Message Codes".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_BROKEN = {2103: "market data", 2105: "history", 2157: "contract details"}
_BACK = {
    2104: "market data",
    2106: "history",
    2107: "history",  # idle, which is normal
    2108: "market data",  # the same
    2158: "contract details",
}
_MOST = 100
"""Farms that are kept: IB has a few dozen, and a broken gateway may say anything."""
HISTORY_OK = (2106, 2107)
_UNSURE_S = 600.0
"""A farm that nobody has named as back, and for which nothing was refused for so long, is back."""
_NAME = re.compile(r"(?::|demand\.)\s*([A-Za-z0-9_.]+)\s*$")
_LISTS = re.compile(
    r"(all )?(?:data |following )?farms are (not )?connected(?:: *([\w.]+(?:; *[\w.]+)*))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Farm:
    """One farm. Times are UTC seconds."""

    name: str
    serves: str
    """`market data`, `history` or `contract details`."""
    is_up: bool
    since: float
    breaks: int = 0
    """Since the program started."""
    last_break_s: float | None = None
    """How long the last one lasted; None: none has ended."""

    @property
    def serves_data(self) -> bool:
        """Bars or contracts come from it; streaming quotes are nothing to us."""
        return self.serves != "market data"


class Farms:
    """Every farm that a notice has named. One thread changes it; any may read."""

    def __init__(self) -> None:
        self._farms: dict[str, Farm] = {}
        self._refused: dict[str, float] = {}
        """Whose history was refused for a broken farm, and when last."""

    def __repr__(self) -> str:
        return f"Farms({', '.join(farm.name for farm in self.broken) or 'all well'})"

    @property
    def all(self) -> tuple[Farm, ...]:
        """In the order of their names."""
        return tuple(self._farms[name] for name in sorted(self._farms))

    @property
    def broken(self) -> tuple[Farm, ...]:
        """Those that are."""
        return tuple(farm for farm in self.all if not farm.is_up)

    @property
    def broken_history(self) -> tuple[str, ...]:
        """The names of those that history comes from."""
        return tuple(farm.name for farm in self.broken if farm.serves == "history")

    def take(self, code: int, text: str, now: float) -> Farm | None:
        """Learn from a notice; the farm when it has just broken or come back, else None."""
        found = _NAME.search(text)
        if found is None or (code not in _BROKEN and code not in _BACK):
            return None
        serves = _BROKEN.get(code) or _BACK[code]
        return self._turn(found[1].rstrip("."), serves, now, is_up=code in _BACK)

    def restored(self, text: str, now: float) -> bool:
        """Learn from 1101 or 1102, which names the farms that are connected, and that are not.

        True: one that history comes from is named as connected, or all are.
        """
        has_history = False
        for is_all, is_not, names in _LISTS.findall(text):
            if is_all and not is_not:
                self.forget(now)
            for part in names.split(";"):
                if name := part.strip(" ."):
                    self._turn(name, _serves(name), now, is_up=not is_not)
                    has_history |= not is_not and _serves(name) == "history"
            has_history |= bool(is_all and not is_not)
        return has_history

    def refused(self, what: str, now: float) -> None:
        """The history of this contract was refused because of a broken farm."""
        self._refused = {w: at for w, at in self._refused.items() if now - at < _UNSURE_S}
        self._refused[what] = now

    def answered(self, what: str, now: float) -> bool:
        """The history of this contract was answered; True: so a broken farm is up again.

        Which farm serves a contract nobody tells. One that is answered after a refusal is served
        by a farm that was broken; unless others are still refused, what was broken is up.
        """
        was_refused = self._refused.pop(what, None) is not None
        if any(now - at < _UNSURE_S for at in self._refused.values()):
            return False
        found = [
            farm
            for farm in self.broken
            if farm.serves == "history" and (was_refused or now - farm.since >= _UNSURE_S)
        ]
        for farm in found:
            self._turn(farm.name, farm.serves, now, is_up=True)
        return bool(found)

    def forget(self, now: float) -> None:
        """The connection is gone: nobody tells any more what is broken."""
        self._refused = {}
        for farm in self.broken:
            self._turn(farm.name, farm.serves, now, is_up=True)

    def _turn(self, name: str, serves: str, now: float, *, is_up: bool) -> Farm | None:
        key = name.lower()  # another version of the gateway may spell it otherwise
        known = self._farms.get(key)
        if known is None and len(self._farms) >= _MOST:
            return None
        if known is None:
            known = Farm(name, serves, is_up, now, breaks=int(not is_up))
            self._farms = {**self._farms, key: known}
            return None if is_up else known
        if known.is_up == is_up:
            return None
        if is_up:
            changed = replace(known, is_up=True, since=now, last_break_s=now - known.since)
        else:
            changed = replace(known, is_up=False, since=now, breaks=known.breaks + 1)
        self._farms = {**self._farms, key: changed}
        return changed


def _serves(name: str) -> str:
    """What a farm of this name is for, as far as the name tells."""
    if "hmds" in name.lower():
        return "history"
    return "contract details" if "secdef" in name.lower() else "market data"
