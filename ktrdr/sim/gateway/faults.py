"""The faults of the gateway: names, parameters, and which are in force. Does not apply them.

A fault is begun and ended; a momentary one ends by itself. The server and its connections read
which faults are in force, and behave accordingly.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ktrdr.errors import InvalidRequest
from ktrdr.sim.market.bars import BAR_SIZES
from ktrdr.sim.market.contracts import Contract
from ktrdr.sim.market.sessions import DAY_S, MINUTE_S

Value = str | float | int
Values = Mapping[str, Value]

BAR_FIELDS = ("time", "open", "high", "low", "close", "volume", "average", "count")
"""The fields of a bar in a message, in order."""
HISTORY = ("historical_data", "schedule", "head_timestamp")
"""The kinds of requests that the historical data service answers."""
DATA = (*HISTORY, "contract_details")
KINDS = (
    *("data", "bars", *DATA, "current_time", "executions", "open_orders", "completed_orders"),
    *("positions", "account_updates", "account_updates_multi", "managed_accounts", "ids"),
)
"""The values of a fault's `kind`: the record's names, `data`, and `bars` for historical_data."""
HISTORY_FARM = "ushmds"
"""The data farm that serves all history."""
STREAMS_THEN = ("lost", "kept", "refused")
"""What becomes of streams when a data farm breaks."""
_ANY = "any"
_FARM = re.compile(r"[a-z0-9.]*(farm|hmds|secdef)[a-z0-9.]*")
_TIME_APART_S = 1.0
_SIZES = tuple(s.name for s in BAR_SIZES.values() if MINUTE_S < s.length_s < DAY_S)
_MAX = 1e9


@dataclass(frozen=True)
class Fault:
    """One way to fail. `values`: its parameters with their defaults."""

    name: str
    description: str
    values: Values = field(default_factory=dict)
    choices: tuple[Value, ...] = ()
    """The allowed values of its one parameter; empty: any."""
    among: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """The allowed values by parameter, where it has several."""
    is_momentary: bool = False
    least: float = 0
    """The minimum of its numbers."""

    def read(self, given: Values) -> dict[str, Value]:
        """Its parameters, with those given. InvalidRequest: an unknown one, or a wrong value."""
        read = dict(self.values)
        for name, value in given.items():
            if name not in self.values:
                known = ", ".join(self.values) or "none"
                raise InvalidRequest(f"{self.name}: no parameter {name!r}", hint=f"it has {known}")
            read[name] = self._read(name, value)
        return read

    def choices_of(self, name: str) -> tuple[Value, ...]:
        """The values that a parameter may have; empty: any."""
        return self.among.get(name, self.choices)

    def _read(self, name: str, text: Value) -> Value:
        kind = type(self.values[name])
        choices = self.choices_of(name)
        expected = " or ".join(map(str, choices)) or (
            "text" if kind is str else f"a number from {self.least:g} to {_MAX:g}"
        )
        if name == "farm" and not _FARM.fullmatch(str(text)):
            raise InvalidRequest(
                f"{self.name}: farm={text!r}, expected a data farm such as usfarm, ushmds, secdefil"
            )
        try:
            value: Value = kind(text)
        except (ValueError, OverflowError):
            value = math.nan
        is_sound = isinstance(value, str) or self.least <= value <= _MAX
        if name == "rate" and is_sound:
            expected, is_sound = "a share from 0 to 1", 0 <= float(value) <= 1
        if not is_sound or (choices and value not in choices):
            raise InvalidRequest(f"{self.name}: {name}={text!r}, expected {expected}")
        return value


_ALL = (
    Fault(
        "drop",
        "all connections are closed; `how`: fin or rst",
        {"how": "rst"},
        ("fin", "rst"),
        is_momentary=True,
    ),
    Fault("refuse", "new connections are refused; open ones stay"),
    Fault(
        "half_open",
        "open connections receive nothing, and their requests are ignored; new ones work",
    ),
    Fault("wedged", "new connections are accepted, and receive nothing"),
    Fault("too_early", "the next `count` connections receive nothing", {"count": 1}, least=1),
    Fault("untrusted", "the handshake is closed without an error, as for an untrusted address"),
    Fault("old_version", "the gateway offers only this protocol `version`", {"version": 140}),
    Fault("stall", "nothing is sent until the end of the fault; then everything is"),
    Fault("slow_drip", "data arrive slowly", {"bytes_per_s": 1000.0}, least=1),
    Fault("truncated", "the next message is cut off halfway, and its connection closed"),
    Fault(
        "garbage",
        "every client receives bytes that are not a message",
        {"bytes": 64},
        is_momentary=True,
    ),
    Fault(
        "connectivity_lost",
        "1100, and no request is answered; at the end 1102, or 1101 if `back` says so",
        {"back": 1102},
        (1101, 1102),
    ),
    Fault(
        "notice",
        "every client receives the notice of this `code`, such as 2103",
        {"code": 2103},
        is_momentary=True,
    ),
    Fault(
        "farm_broken",
        "the data farm `farm` breaks (2103, or 2105 for HMDS) and is OK at the end (2104, 2106); "
        "`told`: whether clients receive these notices; without ushmds all history is refused: "
        "162, HMDS server disconnect; `streams` are lost, kept, or refused with 10182",
        {"farm": HISTORY_FARM, "told": "yes", "streams": "lost"},
        among={"told": ("yes", "no", "begin"), "streams": STREAMS_THEN},
    ),
    Fault("restart", "as every night: connections are closed, and so is the port until the end"),
    Fault("logged_out", "as on Sunday: the same; ending this fault is the next log-in"),
    Fault(
        "competing_session",
        "history is refused with this `code`: 162 (another IP address) or 10197",
        {"code": 162},
        (162, 10197),
    ),
    Fault(
        "silent_streams",
        "streams stay open, and nothing comes in them, also after the end; `symbol`: only those of "
        "it",
        {"symbol": ""},
    ),
    Fault(
        "ended_streams",
        "streams get the error `code` (10182, 10225, 10197 or 162), and nothing after it; "
        "`symbol`: only those of it",
        {"code": 10182, "symbol": ""},
        among={"code": (10182, 10225, 10197, 162)},
        is_momentary=True,
    ),
    Fault(
        "wrong_updates",
        "streams send their bars wrongly, as `how` says; `symbol`: only those of it",
        {"how": "repeated", "symbol": ""},
        among={
            "how": (
                *("repeated", "skipped", "backwards", "yesterday", "less_volume", "together"),
                *("revised", "unfinished"),
            )
        },
    ),
    Fault(
        "late_updates",
        "what streams send is this many `seconds` late; `symbol`: only those of it",
        {"seconds": 5.0, "symbol": ""},
    ),
    Fault(
        "update_flood",
        "each stream sends the bar that is forming `per_s` times a second; `symbol`: only those "
        "of it",
        {"per_s": 10_000.0, "symbol": ""},
        least=1,
    ),
    Fault("false_200", "no contract is known (200), at this `rate`", {"rate": 1.0}),
    Fault(
        "false_no_data",
        "requests of this `kind` (the record's names, or data) get 162, no data, at this `rate`; "
        "`symbol`: only requests for it",
        {"kind": "historical_data", "rate": 1.0, "symbol": ""},
        among={"kind": KINDS},
    ),
    Fault(
        "cut_bars",
        "the `lost` end of the bars is missing from responses: this `share` of them",
        {"lost": "oldest", "share": 0.5, "rate": 1.0},
        among={"lost": ("oldest", "newest")},
    ),
    Fault(
        "cut_schedule",
        "`all` sessions are missing from SCHEDULE, or a third of them",
        {"lost": "all", "rate": 1.0},
        among={"lost": ("all", "oldest", "newest", "middle")},
    ),
    Fault(
        "odd_session",
        "the middle session of SCHEDULE closes at this `text`",
        {"text": "24:00:00", "rate": 1.0},
    ),
    Fault(
        "zone_name",
        "the time zone's name in `contract` details and in `schedule`; same: unchanged",
        {"contract": "", "schedule": "", "rate": 1.0},
    ),
    Fault(
        "refused",
        "requests of this `kind` (the record's names, or data) get the error `code` with `text`, "
        "in this `encoding`; `symbol`: only requests for it",
        {
            "kind": "schedule",
            "code": 162,
            "text": "Historical Market Data Service error message:refused",
            "encoding": "utf-8",
            "rate": 1.0,
            "symbol": "",
        },
        among={"encoding": ("utf-8", "gb18030", "cp1252"), "kind": KINDS},
    ),
    Fault(
        "other_grid",
        "intraday bars longer than this, or those of one `bar` size, begin `minutes` later",
        {"minutes": 30, "bar": _ANY, "rate": 1.0},
        among={"bar": (_ANY, *_SIZES)},
    ),
    Fault("late_head", "head timestamps are `days` too late", {"days": 10, "rate": 1.0}),
    Fault("kept_heads", "head-timestamp requests stay open after the response, until cancelled"),
    Fault(
        "odd_field",
        "one bar of each response has this `text` in a `field`",
        {"field": "open", "text": "?", "rate": 1.0},
        among={"field": BAR_FIELDS},
    ),
    Fault(
        "advisory_first",
        "this `code` arrives with a request's id, and then the response",
        {"code": 165, "rate": 1.0},
    ),
    Fault(
        "other_contract",
        "`symbol` means another contract, with another con_id; `prices`: other, or the same",
        {"symbol": "KO", "prices": "other"},
        among={"prices": ("other", "same")},
    ),
    Fault(
        "other_unit",
        "all prices, or all volumes as `of` says, are multiplied by this `factor`",
        {"of": "price", "factor": 0.01, "rate": 1.0},
        among={"of": ("price", "volume")},
    ),
    Fault(
        "unanswered",
        "requests of this `kind` (the record's names, bars, or data) are never answered; "
        "`symbol`: only requests for it",
        {"kind": "data", "symbol": ""},
        among={"kind": KINDS},
    ),
    Fault("time_once", "a request for the time within 1 s of another one is never answered"),
    Fault("late", "responses are this many `seconds` late", {"seconds": 5.0, "rate": 1.0}),
    Fault("doubled_bars", "every bar is sent twice"),
    Fault("unordered_bars", "bars are out of order, always in the same way for the same request"),
    Fault("missing_bars", "one bar in `every` is missing", {"every": 3}, least=1),
    Fault(
        "wrong_bars",
        "one bar in three is wrong, as `how` says; torn makes the whole response unreadable",
        {"how": "nan"},
        (
            *("nan", "inf", "unset", "text", "torn", "low", "half_minute", "night"),
            *("contradicting", "zero", "unset_volume"),
        ),
    ),
    Fault(
        "wrong_clock",
        "the gateway's clock is wrong by this many `seconds`",
        {"seconds": 3600.0},
        least=-_MAX,
    ),
    Fault("unanswered_executions", "requests for executions are never answered"),
    Fault(
        "read_only_api", "requests for open and completed orders get 321, and no end of the list"
    ),
)
FAULTS = {fault.name: fault for fault in _ALL}


class Faults:
    """The faults that are in force now."""

    def __init__(self, seed: int = 0) -> None:
        self._lots = random.Random(seed)  # noqa: S311  chance, no secret
        self._active: dict[str, dict[str, Value]] = {}
        self._begun: Counter[str] = Counter()
        self._time_requested_at = float("-inf")
        self._change = asyncio.Event()

    @property
    def active(self) -> dict[str, dict[str, Value]]:
        """Name → parameters of every fault in force."""
        return {name: dict(values) for name, values in self._active.items()}

    def begin(self, name: str, given: Values) -> dict[str, Value]:
        """Put a fault in force, or change its parameters; returns its current parameters.

        InvalidRequest: no such fault, or no such parameter.
        """
        fault = known(name)
        values = fault.read(given)
        self._begun[name] += 1
        if not fault.is_momentary:
            self._active[name] = values
            self.wake()
        return values

    def end(self, name: str) -> dict[str, Value] | None:
        """End a fault; returns its parameters, or None when it was not in force."""
        values = self._active.pop(known(name).name, None)
        self.wake()
        return values

    def has(self, name: str) -> bool:
        """Whether a fault is in force."""
        return name in self._active

    def number(self, name: str, parameter: str) -> float:
        """A parameter of a fault as a number; 0 when the fault is not in force."""
        return float(self._active.get(name, {}).get(parameter, 0))

    def text(self, name: str, parameter: str) -> str:
        """A parameter of a fault as text; empty when the fault is not in force."""
        return str(self._active.get(name, {}).get(parameter, ""))

    def take(self, name: str) -> bool:
        """Use up one of a fault's `count`; True: there was one left."""
        left = int(self.number(name, "count"))
        if left == 1:
            self.end(name)
        elif left:
            self._active[name]["count"] = left - 1
        return left > 0

    def strikes(self, name: str) -> bool:
        """Whether a fault in force occurs this time; one without a `rate` always does."""
        values = self._active.get(name)
        if values is None:
            return False
        rate = float(values.get("rate", 1.0))
        return rate >= 1 or self._lots.random() < rate

    def times(self, name: str) -> int:
        """How often a fault has begun."""
        return self._begun[name]

    def silences(self, kind: str, symbol: str = "") -> str:
        """The fault that keeps a request of this kind from being answered; empty: none.

        `symbol`: that of the request, if it is about a contract.
        """
        if self.has("connectivity_lost") and kind in DATA:
            return "connectivity_lost"
        if self.has("unanswered_executions") and kind == "executions":
            return "unanswered_executions"
        is_about = self.text("unanswered", "symbol") in ("", symbol)
        if is_about and kind in kinds_of(self.text("unanswered", "kind"), DATA):
            return "unanswered"
        return ""

    def pauses_streams(self, symbol: str) -> bool:
        """Whether a fault keeps the bars of streams of this symbol back, which never come."""
        farm = "" if "secdef" in (name := self.text("farm_broken", "farm")) else name
        return bool(farm) or bool(self.silences("historical_data", symbol))

    def time_is_requested(self, now_s: float) -> bool:
        """Note a request for the time; True: it is too soon after another one to be answered."""
        since_s, self._time_requested_at = now_s - self._time_requested_at, now_s
        return self.has("time_once") and since_s < _TIME_APART_S

    def shift_s(self, bar_size: str) -> int:
        """Seconds by which bars of this size begin later in the current response."""
        minutes = int(self.number("other_grid", "minutes"))
        is_meant = self.text("other_grid", "bar") in (_ANY, bar_size)
        is_longer = bar_size in _SIZES and BAR_SIZES[bar_size].length_s > MINUTE_S * minutes
        return MINUTE_S * minutes if is_meant and is_longer and self.strikes("other_grid") else 0

    def meant(self, contract: Contract) -> Contract:
        """The contract that a symbol means now: another one while `other_contract` is in force."""
        if self.text("other_contract", "symbol") != contract.symbol:
            return contract
        another = replace(contract, con_id_name=f"{contract.con_id_name} another")
        if self.text("other_contract", "prices") == "same":
            return another
        return replace(another, price_key=f"{contract.sec_type}:{contract.symbol} another")

    async def change(self) -> None:
        """Wait until a fault begins or ends."""
        await self._change.wait()

    def wake(self) -> None:
        """Wake all tasks that wait for a change."""
        self._change.set()
        self._change = asyncio.Event()


def kinds_of(kind: str, data: tuple[str, ...]) -> tuple[str, ...]:
    """The record's names of the requests of a fault's `kind`; `data`: the names for "data"."""
    return {"data": data, "bars": ("historical_data",)}.get(kind, (kind,))


def known(name: str) -> Fault:
    """The fault of this name. InvalidRequest: there is none."""
    if name not in FAULTS:
        raise InvalidRequest(f"no fault {name!r}", hint="there is: " + ", ".join(FAULTS))
    return FAULTS[name]
