"""Numbers, times and names as the page shows them. Reads no clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from markupsafe import Markup

from ktrdr.escapes import visible_lines
from ktrdr.ipc.wording import noun
from ktrdr.market.timeframes import Timeframe

NOTHING = "–"

_COMMAND = re.compile(
    r"((?:\.venv/bin|\./scripts)/[^;,–\n]*?[^;,–\s.])"
    r"(?=[;,–\n)]|\.?\s*$|\. | (?:adds|checks|lists|names|restarts|says|shows|starts|tells)\b)"
)
"""A command of ours within a sentence: up to what follows it, or what is said of it."""
_AMOUNT = re.compile(r"(\d) (s|min|h)\b")
_SPARSE = "\N{NARROW NO-BREAK SPACE}"
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def count(number: float | None) -> str:
    """`12345` as `12 345`, with thin spaces."""
    return NOTHING if number is None else f"{number:,.0f}".replace(",", _SPARSE)


def counted(number: float, singular: str) -> str:
    """`1 gap`, `12 345 gaps`."""
    return f"{count(number)} {noun(number, singular)}"


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


def absolute(when: datetime) -> str:
    """`2026-11-20 14:30:00 UTC`."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def minute(when: datetime, zone: str | None = None) -> Markup:
    """A `<time>` such as `2026-11-20 14:30 UTC`: the start of a bar, never a distance.

    `zone`: the exchange's, in which it can be shown.
    """
    shown = f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return _time(when, shown, Markup(" data-minute"), zone)


def bar_start(when: datetime, timeframe: str, zone: str | None = None) -> Markup:
    """The start of a bar as by `minute`; of a daily bar its trading day, which no zone changes."""
    is_daily = timeframe == Timeframe.D1.value
    return Markup("{}").format(when.date().isoformat()) if is_daily else minute(when, zone)


def moment(when: datetime | None, *, never: str = "never", zone: str | None = None) -> Markup:
    """A `<time>` in UTC; with JavaScript it shows the distance, and the time when pointed at.

    `zone`: as for `minute`.
    """
    if when is None:
        return Markup("<span>{}</span>").format(never)
    return _time(when, absolute(when), Markup(), zone)


def due(when: datetime | None, *, never: str, then: str = "due", zone: str | None = None) -> Markup:
    """A `<time>` to come, as by `moment`; with JavaScript it shows `then` once it has come."""
    if when is None:
        return moment(None, never=never)
    return _time(when, absolute(when), Markup(' data-due="{}"').format(then), zone)


def clock(when: datetime) -> Markup:
    """A `<time>` that shows the day and the time of day, never the distance."""
    return _time(when, f"{when.astimezone(UTC):%a %d %b, %H:%M} UTC", Markup(" data-clock"), None)


def _time(when: datetime, shown: str, kind: Markup, zone: str | None) -> Markup:
    in_zone = Markup(' data-zone="{}"').format(zone) if zone else Markup()
    return Markup('<time datetime="{}"{}{}>{}</time>').format(
        when.isoformat(), kind, in_zone, shown
    )


def command(step: str) -> Markup:
    """A next step with its commands, and the lines that belong into a file, marked to be copied.

    Invisible characters are escaped.
    """
    sentence, begin, lines = visible_lines(step).partition("\n[")
    code = Markup('<code class="copy">{}</code>')
    shown = [
        code.format(part) if n % 2 else part for n, part in enumerate(_COMMAND.split(sentence))
    ]
    block = Markup('<code class="copy block">{}</code>').format(f"[{lines}") if begin else Markup()
    return Markup("").join([*shown, block])


def price(number: float) -> str:
    """A price or a volume as it is in the file, without a needless `.0`."""
    return f"{number:.0f}" if number % 1 == 0 else repr(number)


def marked(text: str) -> Markup:
    """A text with what stands in backquotes as code, and each time on one line."""
    code = Markup("<code>{}</code>")
    parts = _AMOUNT.sub(rf"\1{_SPARSE}\2", visible_lines(text)).split("`")
    return Markup("").join(code.format(part) if n % 2 else part for n, part in enumerate(parts))


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
