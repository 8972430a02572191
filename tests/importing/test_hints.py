"""What each refusal proposes to type leads on: to an import, or to another refusal."""

import re
import shlex

import pytest

from ktrdr.importing.columns import Stamp, parse_chosen
from ktrdr.importing.series_names import series_to
from tests.importing.known_bars import (
    CRYPTO,
    DAYS,
    HEADER,
    MINUTES,
    imported,
    local,
    minutes,
    table,
    weekdays,
)
from tests.importing.test_refusals import REFUSED

_OPTION = re.compile(r"--(to|zone|stamp|columns) ('[^']*'|\S+)")
_WITHOUT = re.compile(r"leave --(zone|stamp) out")
_ENTRY = re.compile(r"\[(\w+)\] (sec_type = \"\w+\")")
AFTER = minutes(weekdays("2026-10-05", 10), first="16:00", count=240)
BEFORE = minutes(weekdays("2026-10-05", 10), first="04:00", count=330)
HALVES = minutes(weekdays("2026-09-01", 10), 30)
HOURS = [b for b in HALVES if b[0].minute == 0 or local(b[0])[11:16] == "09:30"]


def rows(bars, time=str, head=HEADER):
    return table(bars, lambda t, *b: ",".join(map(str, (time(t), *b))), head)


def est(start):
    return f"{local(start)} EST"


MORE = {
    "hours marked EST": ("AAPL_1h.csv", rows(HOURS, est)),
    "minutes marked EST": ("AAPL_1m.csv", rows(minutes(weekdays("2026-10-05", 10)), est)),
    "minutes marked EST, and the exchange's zone": (
        "AAPL_1m.csv",
        rows(minutes(weekdays("2026-10-05", 10)), est),
        {"zone": "America/New_York"},
    ),
    "after the sessions": ("AAPL_1m.csv", rows(AFTER, local)),
    "after the sessions, in UTC": ("AAPL_1m.csv", rows(AFTER)),
    "before the sessions": ("AAPL_1m.csv", rows(BEFORE, local)),
    "other dates": ("AAPL_2023.csv", rows(DAYS)),
    "last moments": (
        "AAPL_1m.csv",
        rows(MINUTES, lambda t: int(t.timestamp()) * 1000 + 59_999),
        {"stamp": "start"},
    ),
    "a zone in the name of a column": (
        "AAPL_1m.csv", rows(MINUTES, local, "Time (EST),open,high,low,close,volume\n")
    ),
    "klines": ("BTCUSDT-1m-2026-11.csv", rows(CRYPTO, head=f"open_{HEADER}")),
    "a folder": ("US/2026.csv", rows(DAYS)),
    "Kraken": (
        "BTC-USD-1m.csv",
        table(CRYPTO, lambda t, *b: ",".join(map(str, (int(t.timestamp()), *b, 7)))),
    ),
    "Coinbase": (
        "BTC-USD-1m.csv",
        table(CRYPTO, lambda t, o, h, lo, c, v: f"{int(t.timestamp())},{lo},{h},{o},{c},{v}"),
    ),
    "CryptoDataDownload": (
        "BTC-USD-1m.csv",
        rows(
            CRYPTO,
            lambda t: f"{t:%Y-%m-%d %H:%M:%S},BTC/USD",
            "https://www.CryptoDataDownload.com\ndate,symbol,open,high,low,close,Volume BTC\n",
        ),
    ),
    "a zone that the times do not say": ("AAPL_1m.csv", rows(MINUTES), {"zone": "Asia/Tokyo"}),
    "ends that are starts": ("AAPL_1m.csv", rows(MINUTES), {"stamp": "end"}),
    "starts by a column that are ends": (
        "AAPL_1m.csv",
        rows([(b[0] + (MINUTES[1][0] - MINUTES[0][0]), *b[1:]) for b in MINUTES],
             head="open_time,open,high,low,close,volume\n"),
    ),
    "volumes that are empty": (
        "AAPL_1d.csv", rows([(*b[:5], "") for b in DAYS], lambda t: f"{t:%Y-%m-%d}")
    ),
}  # fmt: skip


def proposed(hint):
    """The sets of options in a hint; those side by side are one."""
    found, end = [], None
    hint = _WITHOUT.sub("", hint)
    for match in _OPTION.finditer(hint):
        value = shlex.split(match[2].rstrip(",;."))[0] if match[2][:1] != "'" else match[2][1:-1]
        if "NAME" in value or "…" in value:
            continue
        if end is None or hint[end : match.start()] != " " or hint[end - 1] in ",;":
            found.append({})
        found[-1][match[1]] = value
        end = match.end()
    return found


def run(folder, name, text, options, entries):
    """The error of an import with these options, as a person types them; None: none."""
    store, path = folder / "store", folder / name.rpartition("/")[2]
    folder.mkdir()
    store.mkdir()
    (store / "instruments.toml").write_text("".join(f"[{s}]\n{e}\n" for s, e in entries))
    path.write_bytes(text.encode("latin-1" if name.endswith("gz") else "utf-8"))
    wishes = dict(options)
    if "to" in wishes:
        wishes["to"] = series_to(wishes["to"])
    if "stamp" in wishes:
        wishes["stamp"] = Stamp(wishes["stamp"])
    wishes["columns"] = parse_chosen(wishes.get("columns", ""))
    return imported(store, path, name, **wishes).error


@pytest.mark.parametrize("kind", [*REFUSED, *MORE])
def test_what_a_hint_names_leads_on(tmp_path, kind):
    name, text, *given = REFUSED[kind][:2] if kind in REFUSED else MORE[kind]
    waiting = [(given[0] if given else {}, (), ())]
    runs, is_imported = 0, False
    while waiting:
        options, entries, before = waiting.pop()
        runs += 1
        error = run(tmp_path / str(runs), name, text, options, entries)
        if error is None:
            is_imported = True
            continue
        assert error.message not in before, f"{options} leads back"
        assert runs < 40
        so_far = (*before, error.message)
        for one in proposed(error.hint):
            columns = ",".join(filter(None, (options.get("columns"), one.get("columns"))))
            merged = options | one | ({"columns": columns} if columns else {})
            waiting.append((merged, entries, so_far))
        waiting += [(options, (*entries, one), so_far) for one in _ENTRY.findall(error.hint)]
        for wrong in _WITHOUT.findall(error.hint):
            less = {option: value for option, value in options.items() if option != wrong}
            waiting.append((less, entries, so_far))
    assert kind in REFUSED or is_imported
