"""IB's data farms according to the gateway's notices: which are broken, since when, how often.

A broken farm does not end the connection: farms break and come back by themselves, several times
a night. Codes: TWS API, "System Message Codes".
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
"""Maximum number of farms kept: IB has a few dozen, and a broken gateway may name any number."""
HISTORY_OK = (2106, 2107)
_UNSURE_S = 600.0
"""Seconds without a refusal after which a farm counts as back though no notice says so."""
_NAME = re.compile(r"(?::|demand\.)\s*([A-Za-z0-9_.]+)\s*$")
_LISTS = re.compile(
    r"(all )?(?:data |following )?farms are (not )?connected(?:: *([\w.]+(?:; *[\w.]+)*))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Farm:
    """One data farm. Times are UTC seconds."""

    name: str
    serves: str
    """`market data`, `history` or `contract details`."""
    is_up: bool
    since: float
    breaks: int = 0
    """Number of breaks since the program started."""
    last_break_s: float | None = None
    """Seconds that the last break lasted; None: none has ended."""

    @property
    def serves_data(self) -> bool:
        """Whether bars or contracts come from it; streaming quotes are not used here."""
        return self.serves != "market data"


class Farms:
    """Every farm that a notice has named. One thread changes it; any may read."""

    def __init__(self) -> None:
        self._farms: dict[str, Farm] = {}
        self._refused: dict[str, float] = {}
        """Contracts whose history was refused for a broken farm, and when last (UTC seconds)."""

    def __repr__(self) -> str:
        return f"Farms({', '.join(farm.name for farm in self.broken) or 'all well'})"

    @property
    def all(self) -> tuple[Farm, ...]:
        """All known farms, by name."""
        return tuple(self._farms[name] for name in sorted(self._farms))

    @property
    def broken(self) -> tuple[Farm, ...]:
        """The broken farms, by name."""
        return tuple(farm for farm in self.all if not farm.is_up)

    @property
    def broken_history(self) -> tuple[str, ...]:
        """The names of the broken farms that serve history."""
        return tuple(farm.name for farm in self.broken if farm.serves == "history")

    def take(self, code: int, text: str, now: float) -> Farm | None:
        """Process a notice; the farm when it has just broken or come back, else None."""
        found = _NAME.search(text)
        if found is None or (code not in _BROKEN and code not in _BACK):
            return None
        serves = _BROKEN.get(code) or _BACK[code]
        return self._turn(found[1].rstrip("."), serves, now, is_up=code in _BACK)

    def restored(self, text: str, now: float) -> bool:
        """Process 1101 or 1102, which lists the farms that are connected and those that are not.

        True: a history farm is listed as connected, or all farms are.
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
        """Note that the history of contract `what` was refused because of a broken farm."""
        self._refused = {w: at for w, at in self._refused.items() if now - at < _UNSURE_S}
        self._refused[what] = now

    def answered(self, what: str, now: float) -> bool:
        """Note that a history request for `what` was answered; True: so a broken farm is up again.

        IB does not report which farm serves a contract. An answer after a refusal comes from a
        farm that was broken; unless others are still refused, all broken ones count as up.
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
        """The connection is gone: no notices come any more, so no farm counts as broken."""
        self._refused = {}
        for farm in self.broken:
            self._turn(farm.name, farm.serves, now, is_up=True)

    def _turn(self, name: str, serves: str, now: float, *, is_up: bool) -> Farm | None:
        key = name.lower()  # other gateway versions may spell it differently
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
    """The kind of data that a farm serves, judging by its name."""
    if "hmds" in name.lower():
        return "history"
    return "contract details" if "secdef" in name.lower() else "market data"
