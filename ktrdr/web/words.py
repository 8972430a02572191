"""Numbers, times and names as the page shows them. Reads no clock."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

NOTHING = "–"

_SPARSE = "\N{NARROW NO-BREAK SPACE}"
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def count(number: float | None) -> str:
    """`12345` as `12 345`, with thin spaces."""
    return NOTHING if number is None else f"{number:,.0f}".replace(",", _SPARSE)


def duration(seconds: float | None) -> str:
    """The two largest units that matter: `3 h 12 min`, `45 s`."""
    if seconds is None:
        return NOTHING
    left, parts = max(0, round(seconds)), list[str]()
    for length, unit in _UNITS:
        whole, left = divmod(left, length)
        if whole or parts:
            parts.append(f"{whole}{_SPARSE}{unit}" if whole else "")
    return " ".join(part for part in parts[:2] if part) or f"0{_SPARSE}s"


def relative(when: datetime, now: datetime) -> str:
    """`12 s ago`, `in 3 min`, `now`."""
    seconds = (when - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"


def absolute(when: datetime) -> str:
    """`2026-11-20 14:30:00 UTC`."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def moment(when: datetime | None, now: datetime, *, never: str = "never") -> Markup:
    """A `<time>` that shows the distance, and the date when pointed at."""
    if when is None:
        return Markup("<span>{}</span>").format(never)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        when.isoformat(), absolute(when), relative(when, now)
    )


def size(number: float | None) -> str:
    """Bytes in MiB."""
    return NOTHING if number is None else f"{count(number / 2**20)}{_SPARSE}MiB"


def percent(part: float, whole: float) -> str:
    """Rounded down, so that only the whole is 100 %."""
    if whole <= 0:
        return NOTHING
    tenths = min(1000, int(1000 * part / whole))
    return f"{tenths / 10:.1f}{_SPARSE}%" if tenths < 1000 else f"100{_SPARSE}%"


def spoken(name: str) -> str:
    """`no_trades` as `no trades`."""
    return name.replace("_", " ")
