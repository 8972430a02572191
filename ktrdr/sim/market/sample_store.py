"""A store with gaps, for a demonstration (`--starter-store`). Not a part of the gateway.

It is large enough to watch while it is filled, for about a minute: 60 series over two years.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.market import contract_list
from ktrdr.sim.market.bar_files import write_rows
from ktrdr.sim.market.market import GeneratedMarket, Row, truth
from ktrdr.sim.market.sessions import DAY_S, HOUR_S

DAYS = 730
"""How many days back the bars begin: two years."""
_RECENT_DAYS = 60
"""The same for some series of small bars, which would take up much space."""
_DAY, _WEEK = DAY_S, 7 * DAY_S
_COINS = ("BTC", "ETH")

Keep = Callable[[int, int], bool]
"""(a bar's place in the file, seconds from its start to now) → whether it is written."""


@dataclass(frozen=True)
class Planned:
    """A file to write, from how many days ago on it is wanted, and which of its bars it has."""

    symbol: str
    timeframe: Timeframe
    keep: Keep | None = None
    """None: no bar at all."""
    days: int = DAYS

    @property
    def series(self) -> Series:
        """Its name as a series."""
        return Series(self.symbol, self.timeframe)


def _single_bars_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return place % 97 != 31 and place % 411 != 200


def _weeks_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return age_s // _WEEK % 9 not in (4, 5)


def _days_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return age_s // _DAY % 31 not in (11, 12, 13, 25)


def _middle_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return not 130 * _DAY < age_s < 290 * _DAY


def _tail_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return age_s > 75 * _DAY


def _head_missing(place: int, age_s: int) -> bool:  # noqa: ARG001
    return age_s < 240 * _DAY


def _some_of_all(place: int, age_s: int) -> bool:
    return (
        _single_bars_missing(place, age_s)
        and _days_missing(place, age_s)
        and not 100 * _DAY < age_s < 180 * _DAY
        and age_s > 2 * _DAY + 3 * HOUR_S
    )


def planned(es: str, nq: str) -> list[Planned]:
    """The files of a sample store; `es` and `nq` are the current futures of these roots."""
    return [
        *_with_bars(),
        *(Planned(symbol, Timeframe.M1, days=_RECENT_DAYS) for symbol in ("MSFT", "NVDA", "SPY")),
        *_without(Timeframe.M1, "AAPL"),
        *_without(Timeframe.M5, "AAPL", "NVDA", "TSLA", "QQQ"),
        *_without(Timeframe.M15, "AMZN", "META", "GOOG", "XOM", "SPY", "EURUSD", "BTC", es),
        *_without(Timeframe.M30, "NVDA", "JPM"),
        *_without(Timeframe.H1, "AMZN", "TSLA", "META", "JPM", "IWM", "QQQ"),
        *_without(Timeframe.H1, "EURUSD", "GBPUSD", "USDJPY", "BTC", "ETH", es, nq),
        *_without(Timeframe.H4, "AAPL", "TSLA", "QQQ", "BTC"),
        *_without(Timeframe.D1, "AMZN", "GOOG", "META", "GLD", "QQQ", "TSLA", "XOM"),
        *_without(Timeframe.D1, "EURUSD", "USDJPY", "ETH"),
    ]


def _without(timeframe: Timeframe, *symbols: str) -> list[Planned]:
    return [Planned(symbol, timeframe) for symbol in symbols]


def _with_bars() -> list[Planned]:
    return [
        Planned("SPY", Timeframe.M5, _head_missing),
        Planned("MSFT", Timeframe.M15, _weeks_missing),
        Planned("AAPL", Timeframe.H1, _some_of_all),
        Planned("MSFT", Timeframe.H1, _single_bars_missing),
        Planned("NVDA", Timeframe.H1, _middle_missing),
        Planned("SPY", Timeframe.H1, _days_missing),
        Planned("GLD", Timeframe.H1, _middle_missing),
        Planned("XOM", Timeframe.H1, _weeks_missing),
        Planned("GOOG", Timeframe.H1, _tail_missing),
        Planned("SPY", Timeframe.H4, _weeks_missing),
        Planned("AAPL", Timeframe.D1, _tail_missing),
        Planned("MSFT", Timeframe.D1, _middle_missing),
        Planned("NVDA", Timeframe.D1, _weeks_missing),
        Planned("SPY", Timeframe.D1, _days_missing),
        Planned("JPM", Timeframe.D1, _single_bars_missing),
    ]


def write_sample_store(folder: Path, seed: int, now: datetime) -> str:
    """Write the store; returns what to print. A folder with bar files is left as it is.

    The bars are exactly those that a gateway with this seed serves.
    """
    if folder.is_dir() and any(folder.glob("*.csv")):
        return f"{folder} has bar files already: left as it is"
    folder.mkdir(parents=True, exist_ok=True)
    today = contract_list.today(now)
    files = planned(
        *(contract_list.front_future(root, today).local_symbol for root in ("ES", "NQ"))
    )
    (folder / "instruments.toml").write_text(instruments(files, today), encoding="utf-8")
    for plan in files:
        write_rows(folder / plan.series.file_name, sample_rows(plan, seed, now))
    return f"{len(files)} series with gaps written to {folder}"


def instruments(files: Iterable[Planned], today: date) -> str:
    """The text of `instruments.toml`: from when on each series is wanted."""
    since: dict[str, dict[str, date]] = {}
    for plan in files:
        days = since.setdefault(plan.symbol, {})
        days[plan.timeframe.value] = today - timedelta(days=plan.days)
    return "\n".join(_table(symbol, since[symbol]) for symbol in sorted(since))


def _table(symbol: str, days: Mapping[str, date]) -> str:
    kind = 'sec_type = "CRYPTO"\n' if symbol in _COINS else ""
    since = ", ".join(f'"{timeframe}" = {day}' for timeframe, day in days.items())
    return f"[{symbol}]\n{kind}since = {{ {since} }}\n"


def sample_rows(plan: Planned, seed: int, now: datetime) -> Iterable[Row]:
    """The bars of a file: finished ones from its first day on, without its gaps."""
    if plan.keep is None:
        return []
    now_s = int(now.timestamp())
    first_s = (now_s // DAY_S - plan.days) * DAY_S
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
