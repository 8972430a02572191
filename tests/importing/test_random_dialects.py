"""Files in random dialects from known bars: import gives exactly these bars back, or refuses."""

import random
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.importing.known_bars import DAYS, FIVES, MINUTES, imported, read

ZONES = ("UTC", "America/New_York", "Etc/GMT+5", "Asia/Kolkata", "Europe/Athens", "Asia/Tokyo")
NAIVE = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y%m%d %H%M%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p",
    "%Y.%m.%d,%H:%M", "%m/%d/%Y,%H:%M:%S", "%Y%m%d%H%M%S", "%d-%b-%Y %H:%M", "%b %d, %Y %H:%M:%S",
)  # fmt: skip
WITH_OFFSET = ("%Y-%m-%d %H:%M:%S%z", "%Y%m%dT%H%M%S%z")
EPOCHS = (1, 10**3, 10**6, 10**9)
DAILY = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%b %d, %Y", "%d-%b-%Y")
TITLES = {
    "time": ("timestamp", "Date", "datetime", "<DATE>", "Time"),
    "open": ("open", "Open", "<OPEN>", "o"),
    "high": ("high", "High", "<HIGH>", "h"),
    "low": ("low", "Low", "<LOW>", "l"),
    "close": ("close", "Close", "<CLOSE>", "Last"),
    "volume": ("volume", "Volume", "<VOL>", "v"),
    "more": ("vwap", "Adj Close", "barCount"),
}
ORDERS = ("oldest first", "newest first", "shuffled", "some twice")


class Dialect(NamedTuple):
    """How a file is written."""

    separator: str
    decimal: str
    has_quotes: bool
    has_thousands: bool
    line_end: str
    encoding: str
    columns: tuple[str, ...]
    titles: tuple[str, ...] | None
    time: str | int
    zone: str
    shift_s: int
    order: str
    digits: int


@st.composite
def dialects(draw, *, is_daily=False):
    columns = ["time", "open", "high", "low", "close", "volume"]
    has_header = draw(st.booleans())
    if has_header:
        columns = draw(st.permutations([*columns, *draw(st.sampled_from([[], ["more"]]))]))
    times = DAILY if is_daily else draw(st.sampled_from([NAIVE, WITH_OFFSET, EPOCHS]))
    return Dialect(
        draw(st.sampled_from(",;\t|")),
        draw(st.sampled_from(".,")),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from(["\n", "\r\n"])),
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])),
        tuple(columns),
        tuple(draw(st.sampled_from(TITLES[name])) for name in columns) if has_header else None,
        draw(st.sampled_from(times)),
        draw(st.sampled_from(ZONES)),
        draw(st.sampled_from([0, 0, 1])),
        draw(st.sampled_from(ORDERS)),
        draw(st.sampled_from([2, 5])),
    )


def number(value, dialect, form):
    text = format(value, f",{form}" if dialect.has_thousands else form)
    if dialect.decimal == ",":
        text = text.translate({ord(","): ".", ord("."): ","})
    return text


def written(bars, dialect, length):
    """The bars as a text of this dialect."""
    lines = []
    if dialect.titles is not None:
        lines.append(dialect.separator.join(dialect.titles))
    for start, *prices, volume in bars:
        moment = start + dialect.shift_s * length
        if isinstance(dialect.time, int):
            time = str(int(moment.timestamp()) * dialect.time)
        else:
            time = moment.astimezone(ZoneInfo(dialect.zone)).strftime(dialect.time)
        time = time.replace(",", dialect.separator) if "%Y.%m" in str(dialect.time) else time
        cells = dict(zip(("open", "high", "low", "close"), prices, strict=True))
        cells = {name: number(p, dialect, f".{dialect.digits}f") for name, p in cells.items()}
        cells |= {"time": time, "volume": number(volume, dialect, "d"), "more": "17"}
        row = [cells[name] for name in dialect.columns]
        if dialect.has_quotes:
            row = [f'"{cell}"' for cell in row]
        lines.append(dialect.separator.join(row))
    return "".join(line + dialect.line_end for line in lines)


def arranged(bars, order):
    if order == "newest first":
        return bars[::-1]
    if order == "shuffled":
        return random.Random(1).sample(bars, len(bars))
    return [one for bar in bars for one in [bar] * (2 if bar[5] % 50 == 0 else 1)]


def check(name, bars, dialect, length):
    text = written(arranged(bars, dialect.order), dialect, length)
    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder) / name, Path(folder) / "store"
        path.write_bytes(text.encode(dialect.encoding))
        found = imported(store, path)
        if found.error is None:
            event("imported")
            assert read(store / name) == bars
            assert found.refused == []
        else:
            event(f"refused: {found.error.message.partition(':')[2][:30]}")
            assert found.error.hint
            assert not (store / name).exists()
        assert path.read_bytes() == text.encode(dialect.encoding)


MINUTE = timedelta(minutes=1)


@settings(max_examples=40, deadline=None)
@given(dialects(), st.sampled_from([0, 7, 3]))
def test_five_minutes_come_back_or_are_refused(dialect, missing):
    bars = [bar for n, bar in enumerate(FIVES) if not missing or n % missing != 1]
    check("AAPL_5m.csv", bars, dialect, 5 * MINUTE)


@settings(max_examples=10, deadline=None)
@given(dialects())
def test_minutes_come_back_or_are_refused(dialect):
    check("AAPL_1m.csv", MINUTES, dialect, MINUTE)


@settings(max_examples=40, deadline=None)
@given(dialects(is_daily=True), st.integers(1, 30))
def test_days_come_back_or_are_refused(dialect, count):
    days = DAYS[:count]
    check("AAPL_1d.csv", days, dialect._replace(zone="UTC", shift_s=0), timedelta(days=1))
