"""A small store with gaps, for a demonstration (`--starter-store`). Not a part of the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.market import contract_list
from ktrdr.sim.market.bar_files import write_rows
from ktrdr.sim.market.market import GeneratedMarket, Row, truth
from ktrdr.sim.market.sessions import DAY_S, HOUR_S

DAYS = 30
"""How many days back the bars begin."""

_INSTRUMENTS = '[BTC]\nsec_type = "CRYPTO"\n'

Keep = Callable[[int, int], bool]
"""(a bar's place in the file, seconds from its start to now) → whether it is written."""


@dataclass(frozen=True)
class Planned:
    """A file to write, and which of its bars."""

    symbol: str
    timeframe: Timeframe
    keep: Keep


def _none(place: int, age_s: int) -> bool:  # noqa: ARG001
    return False


def _single_bars_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return place % 97 != 31 and place % 411 != 200


def _hours_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return place % 500 not in range(120, 240)


def _days_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return not (9 * DAY_S < age_s < 13 * DAY_S or 20 * DAY_S < age_s < 22 * DAY_S)


def _tail_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return age_s > 6 * DAY_S


def _some_of_all(place: int, age_s: int) -> bool:
    return (
        _single_bars_missing(place, age_s)
        and _hours_missing(place, age_s)
        and not 15 * DAY_S < age_s < 17 * DAY_S
        and age_s > 2 * DAY_S + 3 * HOUR_S
    )


def planned(front_month: str) -> list[Planned]:
    """The files of a sample store; `front_month` is the current ES future."""
    return [
        Planned("AAPL", Timeframe.M1, _some_of_all),
        Planned("AAPL", Timeframe.H1, _days_missing),
        Planned("AAPL", Timeframe.D1, _tail_missing),
        Planned("MSFT", Timeframe.M1, _single_bars_missing),
        Planned("MSFT", Timeframe.M15, _none),
        Planned("SPY", Timeframe.M5, _hours_missing),
        Planned("SPY", Timeframe.H4, _tail_missing),
        Planned("NVDA", Timeframe.M30, _days_missing),
        Planned("NVDA", Timeframe.D1, _none),
        Planned("EURUSD", Timeframe.M1, _tail_missing),
        Planned("EURUSD", Timeframe.H1, _some_of_all),
        Planned("USDJPY", Timeframe.M5, _some_of_all),
        Planned(front_month, Timeframe.M15, _hours_missing),
        Planned("BTC", Timeframe.H1, _single_bars_missing),
    ]


def write_sample_store(folder: Path, seed: int, now: datetime) -> str:
    """Write the store; returns what to print. A folder with bar files is left as it is.

    The bars are exactly those that a gateway with this seed serves.
    """
    if folder.is_dir() and any(folder.glob("*.csv")):
        return f"{folder} has bar files already: left as it is"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instruments.toml").write_text(_INSTRUMENTS, encoding="utf-8")
    front = contract_list.front_future("ES", contract_list.today(now)).local_symbol
    files = planned(front)
    for plan in files:
        rows = sample_rows(plan, seed, now)
        write_rows(folder / Series(plan.symbol, plan.timeframe).file_name, rows)
    return f"{len(files)} series with gaps written to {folder}"


def sample_rows(plan: Planned, seed: int, now: datetime) -> Iterable[Row]:
    """The bars of a file: finished ones of the last 30 days, without its gaps."""
    now_s = int(now.timestamp())
    first_s = (now_s // DAY_S - DAYS) * DAY_S
    finished_s = now_s - 2 * DAY_S if plan.timeframe.is_daily else now_s - plan.timeframe.length_s
    known = truth(
        plan.symbol,
        plan.timeframe,
        first_s,
        finished_s,
        market=GeneratedMarket(seed),
        today=contract_list.today(now),
    )
    return [row for place, row in enumerate(known) if plan.keep(place, now_s - row.start)]
