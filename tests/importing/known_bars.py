"""Known bars, and files of other programs written from them."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ktrdr.importing.importer import Importer, Wishes

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 11, 27, tzinfo=UTC).timestamp()
HEADER = "timestamp,open,high,low,close,volume\n"


def weekdays(first, count):
    day = date.fromisoformat(first)
    while count:
        if day.weekday() < 5:
            yield day
            count -= 1
        day += timedelta(1)


def price(number, digits=2):
    """A price that looks like one: it moves, and has all digits now and then."""
    return round(180 + (number * 7919 % 1000) / 100 + number % 7 / 10**digits, digits)


def bar(start, number, digits=2):
    first, close = price(number, digits), price(number + 1, digits)
    high = round(max(first, close) + (number % 5) / 100, digits)
    low = round(min(first, close) - (number % 3) / 100, digits)
    return (start, first, high, low, close, 100 + number % 900)


def minutes(days, length=1, first="09:30", count=None):
    """The bars of so many minutes in the regular hours of New York."""
    bars = []
    for day in days:
        opens = datetime.combine(day, time.fromisoformat(first), NEW_YORK)
        for step in range(count or 390 // length):
            start = opens.astimezone(UTC) + timedelta(minutes=step * length)
            bars.append(bar(start, len(bars)))
    return bars


MINUTES = minutes(weekdays("2026-10-22", 14))
"""Over the end of summer time, on 2026-11-01."""
FIVES = minutes(weekdays("2026-10-01", 25), length=5)
DAYS = [
    bar(datetime(day.year, day.month, day.day, tzinfo=UTC), number)
    for number, day in enumerate(weekdays("2026-10-01", 30))
]
FOREX = [
    (*bar(datetime(2026, 10, 4, 21, tzinfo=UTC) + timedelta(weeks=week, minutes=n), n, 5)[:5], -1)
    for week in range(4)
    for n in range(5 * 24 * 60)
]
"""Weeks from Sunday to Friday at 17:00 in New York, without a break."""
CRYPTO = [bar(datetime(2026, 11, 20, tzinfo=UTC) + timedelta(minutes=n), n) for n in range(300)]


def table(bars, row, head="", end="\n"):
    """A text with a line for each bar; `row` makes it of start, prices and volume."""
    return "".join(f"{line}{end}" for line in [*head.splitlines(), *(row(*one) for one in bars)])


def local(start, form="%Y-%m-%d %H:%M:%S", zone=NEW_YORK):
    return start.astimezone(zone).strftime(form)


def read(path):
    """The bars of a file of the store, parsed by nobody else."""
    lines = path.read_text().splitlines()
    assert lines[0] + "\n" == HEADER
    found = []
    for line in lines[1:]:
        start, *numbers = line.split(",")
        assert len(numbers) == 5
        found.append((datetime.fromisoformat(start), *map(float, numbers)))
    return found


def imported(folder, path, name=None, now=NOW, **wishes):
    """Import a file into the store in `folder`."""
    return Importer(folder, Wishes(**wishes), lambda: now).run(path, name or path.name)
