"""What may mean several things is refused with what to type, and nothing is written."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ktrdr.importing.columns import Stamp, parse_chosen
from ktrdr.importing.importer import Importer, Wishes
from ktrdr.importing.series_names import series_to
from tests.importing.known_bars import (
    DAYS,
    FIVES,
    FOREX,
    HEADER,
    MINUTES,
    NOW,
    imported,
    local,
    minutes,
    read,
    table,
    weekdays,
)

M1 = timedelta(minutes=1)


def utc_rows(bars):
    return table(bars, lambda t, o, h, lo, c, v: f"{t},{o},{h},{lo},{c},{v}", HEADER)


def naive(bars, zone="America/New_York", form="%Y-%m-%d %H:%M:%S"):
    zone = ZoneInfo(zone)
    return table(
        bars, lambda t, o, h, lo, c, v: f"{local(t, form, zone)},{o},{h},{lo},{c},{v}", HEADER
    )


HOURS = [b for b in MINUTES if b[0].astimezone(ZoneInfo("America/New_York")).minute == 30]
AROUND = table(
    [(b[0] - timedelta(hours=h), *b[1:]) for b in MINUTES[:3000] for h in (9, 0)],
    lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d %H:%M:%S},{o},{h},{lo},{c},{v}", HEADER,
)  # fmt: skip

ROUND = [(MINUTES[0][0] + n * M1, *MINUTES[n][1:]) for n in range(5000)]

TEN = list(weekdays("2026-10-05", 10))
OVER_SUMMER = list(weekdays("2026-10-22", 14))
"""Its end is among them: the distances of 45 minutes and of an hour more have 15 in common."""
OCTOBER = minutes(TEN[:5])


def fx_evenings(*days):
    return HEADER + "".join(f"2026-11-{day} 22:00:00,1.1,1.2,1.0,1.1,0\n" for day in days)


REFUSED = {
    "no zone, last half hours by a clock of Athens": (
        "AAPL_1m.csv", naive([b for b in MINUTES if local(b[0])[11:] >= "15:30"], "Europe/Athens"),
        "no zone", "--zone NAME",
    ),
    "no zone, few rows": ("AAPL_1m.csv", naive(MINUTES[:15]), "no zone", "--zone"),
    "no zone, and a break in the day": ("AAPL_1m.csv", AROUND, "no row is near", "--zone"),
    "no zone, day and night": ("AAPL_1m.csv", naive(ROUND), "in none", "--zone NAME"),
    "epochs of a local clock": (
        "AAPL_1m.csv",
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: (
                f"{int(t.timestamp()) + 7 * 3600},{o},{h},{lo},{c},{v}"
            ),
            HEADER,
        ),
        "lie in the contract's sessions", "--zone",
    ),
    "epochs of a forex broker's clock": (
        "EURUSD_1m.csv",
        table(
            FOREX,
            lambda t, *p: f"{int(t.timestamp()) + 3 * 3600},{p[0]},{p[1]},{p[2]},{p[3]},1",
            HEADER,
        ),
        "in the middle of weekends", "another clock",
    ),
    "a volume behind a date, and no header": (
        "AAPL_1d.csv",
        table(DAYS, lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d},{v},{o},{h},{lo},{c}"),
        "30 of 30 lines", "not its highest price",
    ),
    "minutes called five": ("AAPL_5m.csv", utc_rows(MINUTES), "1 minute apart", "--to AAPL_1m"),
    "five minutes called one": ("AAPL_1m.csv", utc_rows(FIVES), "5 minutes apart", "AAPL_5m"),
    "hours from half past": ("AAPL_1h.csv", utc_rows(HOURS), "begin at 09:30, 10:30", "IB's"),
    "New York's clock marked as UTC": (
        "AAPL_1m.csv", naive(OCTOBER, form="%Y-%m-%dT%H:%M:%SZ"), "in America/New_York: 1,950 of",
        "offsets=ignored",
    ),
    "New York's clock as epochs": (
        "AAPL_5m.csv",
        table(
            FIVES,
            lambda t, *p: f"{int(t.timestamp()) - 4 * 3600},{','.join(map(str, p))}", HEADER,
        ),
        "the same clock in America/New_York: 1,9", "zone is right: --zone UTC",
    ),
    "EST in summer": (
        "INTC_1m.csv", naive(OCTOBER, form="%Y-%m-%d %H:%M:%S EST"), "1,655 of 1,950 rows lie",
        "offsets=ignored",
    ),
    "half hours called hours": (
        "AAPL_1h.csv", utc_rows(minutes(TEN, 30)), "30 minutes apart", "AAPL_30m"
    ),
    "five minutes, and then one": (
        "AAPL_1m.csv", utc_rows([*minutes(TEN, 5), *MINUTES]), "5 minutes apart", "each length"
    ),
    "hours, and then minutes": (
        "EURUSD_1m.csv", utc_rows([*FOREX[:7000:60], *FOREX[7000:]]), "1 hour apart", "each length"
    ),
    "weeks, and then days": (
        "AAPL_1d.csv",
        utc_rows([(b[0] - timedelta(weeks=7), *b[1:]) for b in DAYS[::5]] + DAYS),
        "from 2026-08-13 on some rows are 7 days apart", "each length",
    ),
    "months, and then days": (
        "AAPL_1d.csv",
        utc_rows([(DAYS[0][0].replace(month=m), *DAYS[m][1:]) for m in (4, 5, 6, 7, 8, 9)] + DAYS),
        "from 2026-04-01 on some rows are 30 days apart", "each length",
    ),
    "195 minutes called four hours": (
        "AAPL_4h.csv", utc_rows(minutes(TEN, 195)), "begin at 12:45", "leave the file out"
    ),
    "195 minutes without a length in the name": (
        "AAPL.csv", utc_rows(minutes(TEN, 195)), "195 minutes apart", "leave the file out"
    ),
    "two hours called four": (
        "EURUSD_4h.csv", utc_rows(FOREX[: 5 * 1440 : 120]), "2 hours apart", "leave the file out"
    ),
    "three hours called four": (
        "AAPL_4h.csv", utc_rows(minutes(TEN, 180, count=3)), "3 hours apart", "leave the file out"
    ),
    "90 minutes called an hour": (
        "EURUSD_1h.csv", utc_rows(FOREX[: 5 * 1440 : 90]), "90 minutes apart", "leave the file out"
    ),
    "45 minutes called 15": (
        "AAPL_15m.csv", utc_rows(minutes(OVER_SUMMER, 45, count=9)), "45 minutes apart", "leave"
    ),
    "weeks": ("AAPL_1d.csv", utc_rows(DAYS[::5]), "7 days apart", "1d"),
    "no series": ("prices.csv", utc_rows(MINUTES), "which series it is", "--to AAPL_1m"),
    "two symbols": (
        "bars.csv",
        table(
            enumerate(DAYS),
            lambda n, b: f"{'AM'[n % 2]}APL,{b[0]:%Y-%m-%d},{b[1]},{b[2]},{b[3]},{b[4]},{b[5]}",
            "symbol,date,open,high,low,close,volume\n",
        ),
        "several symbols", "a file of its own",
    ),
    "another symbol inside": (
        "MSFT_1d.csv",
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f"AAPL,{t:%Y-%m-%d},{o},{h},{lo},{c},{v}",
            "symbol,date,open,high,low,close,volume\n",
        ),
        "rows are of AAPL", "--to",
    ),
    "day or month": (
        "AAPL_1d.csv",
        table(
            DAYS[:6],
            lambda t, o, h, lo, c, v: f"{t:%m/%d/%Y},{o},{h},{lo},{c},{v}",
            "Date,Open,High,Low,Close,Volume\n",
        ),
        "day first, or the month", "dates=day-first",
    ),
    "thousands or decimals": (
        "AAPL_1d.csv",
        table(
            DAYS,
            lambda t, *_: f'{t:%Y-%m-%d};"1,234";"1,236";"1,230";"1,233";5',
            "Date;Open;High;Low;Close;Volume\n",
        ),
        "the decimal sign", "decimal=comma",
    ),
    "no volume of a stock": (
        "AAPL_1d.csv",
        table(DAYS, lambda t, *p: f"{t:%Y-%m-%d},{p[0]},{p[1]},{p[2]},{p[3]}", "Date,O,H,L,C\n"),
        "no column of volumes", "volume=none",
    ),
    "no prices": (
        "EURUSD.csv", table(DAYS, lambda t, *_: f"{t},1.1", "DATETIME,PRICE\n"), "four prices", "?"
    ),
    "five unnamed numbers behind a time": (
        "AAPL_1d.csv",
        table(DAYS, lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d},{o},{h},{lo},{c},{c},{v}"),
        "no header", "--columns time=1",
    ),
    "a coin without its entry": (
        "BTC-USD-1d.csv", utc_rows(DAYS), "BTC is a stock", 'sec_type = "CRYPTO"'
    ),
    "decimal commas between commas": (
        "AAPL_1d.csv",
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d},{o},{h},{lo},{c},{v}".replace(".", ","),
            "Date,Open,High,Low,Close,Volume\n",
        ),
        "the header has 6 columns", "if its numbers have decimal commas, write ';'",
    ),
    "a web page": ("AAPL_1d.csv", "<!DOCTYPE html><html></html>", "web page", "download"),
    "Parquet": ("AAPL_1d.parquet", "PAR1\0\0", "Parquet", "write its table as CSV"),
    "a header alone": (
        "AAPL_1d.csv", "Date;Open;High;Low;Close;Volume\r\n\r\n", "a header, and no rows", "leave"
    ),
    "bzip2": ("AAPL_1d.csv.bz2", "BZh91AY\0", "compressed (bzip2)", "decompress it"),
    "nothing": ("AAPL_1d.csv", "", "empty", "leave it out"),
    "a broken archive": ("AAPL_1d.csv.gz", "\x1f\x8bbroken", "decompressed", "again"),
    "times with and without a zone": (
        "AAPL_1m.csv",
        utc_rows(MINUTES[:100]) + naive(MINUTES[100:200]).partition("\n")[2],
        "100 of 200 times have an offset", "alike",
    ),
    "a third of the lines broken": (
        "AAPL_1m.csv",
        utc_rows(MINUTES[:200]) + "2026-11-02,null,null,null,null,null\n" * 100,
        "cannot be read", "line 202: no number: 'null'",
    ),
    "two symbols by name": (
        "AAL_1d.csv",
        table(
            enumerate(DAYS),
            lambda n, b: f"{b[0]:%Y-%m-%d},{b[1]},{b[2]},{b[3]},{b[4]},{b[5]},{'MA'[n > 9]}APL",
            "date,open,high,low,close,volume,Name\n",
        ),
        "several symbols: AAPL, MAPL", "a file of its own",
    ),
    "two symbols as index": (
        "NYA_1d.csv",
        table(
            enumerate(DAYS),
            lambda n, b: f"{'NI'[n > 9]}YA,{b[0]:%Y-%m-%d},{b[1]},{b[2]},{b[3]},{b[4]},{b[5]}",
            "Index,Date,Open,High,Low,Close,Volume\n",
        ),
        "several symbols: IYA, NYA", "a file of its own",
    ),
    "another symbol of Reuters inside": (
        "TSLA_1d.csv",
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f"MSFT.O,{t:%Y-%m-%d},{o},{h},{lo},{c},{v}",
            "symbol,date,open,high,low,close,volume\n",
        ),
        "rows are of MSFT.O", "--to TSLA_",
    ),
    "a comma after many whole prices": (
        "AAPL_1d.csv",
        table(
            enumerate(DAYS * 4),
            lambda n, b: f"{b[0]:%Y-%m-%d};" + ";".join(["2100" if n < 95 else "150,125"] * 4)
            + ";5",
            "Date;Open;High;Low;Close;Volume\n",
        ),
        "the decimal sign", "decimal=comma",
    ),
    "points that may be thousands": (
        "AAPL_1d.csv",
        table(
            DAYS, lambda t, *_: f"{t:%d.%m.%Y};2.815;2.830;2.800;2.820;1.234",
            "Date;Open;High;Low;Close;Volume\n",
        ),
        "the decimal sign", "decimal=comma",
    ),
    "days of LEAN": (
        "AAPL_1d.csv",
        table(
            DAYS,
            lambda t, *p: f"{t:%Y%m%d} 00:00," + ",".join(f"{x * 10000:.0f}" for x in p[:4]) + ",7",
        ),
        "LEAN", "divide them",
    ),
    "years of two digits": (
        "AAPL_1d.csv",
        table(DAYS, lambda t, o, h, lo, c, v: f"{t:%m/%d/%y},{o},{h},{lo},{c},{v}", HEADER),
        "'10/01/26' has two digits", "four digits",
    ),
    "clocks without a zero": (
        "AAPL_1m.csv",
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: f"{local(t, '%Y-%m-%d')},930,{o},{h},{lo},{c},{v}",
            "Date,Time,Open,High,Low,Close,Volume\n",
        ),
        "'930' in its column of clocks", "09:30",
    ),
    "dates with midnight beside clocks": (
        "AAPL_1m.csv",
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: (
                f"{local(t, '%Y-%m-%d 00:00:00,%H:%M')},{o},{h},{lo},{c},{v}"
            ),
            "Date,Time,Open,High,Low,Close,Volume\n",
        ),
        "its dates have the clock 00:00", "remove",
    ),
    "six numbers behind a time": (
        "BTC_1d.csv",
        table(DAYS, lambda t, o, h, lo, c, v: f"{t.timestamp():.0f},{o},{h},{lo},{c},{v},9"),
        "no header", "volume=",
    ),
    "a last line with a day": (
        "AAPL_1d.csv",
        table(DAYS[:6], lambda t, *p: f"{t:%m/%d/%Y},{p[0]},{p[1]},{p[2]},{p[3]},7", HEADER)
        + "30/11/2026,downloaded\n",
        "day first, or the month", "dates=day-first",
    ),
    "evenings before the days of a week": (
        "EURUSD_1d.csv",
        table(
            DAYS[3:7],
            lambda t, o, h, lo, c, v: f"{t - timedelta(hours=20 + 6)},{o},{h},{lo},{c},{v}"
            .replace("+00:00", ""),
            HEADER,
        ),
        "days are of a weekend", "the evening before",
    ),
    "evenings, and no Friday or Sunday": (
        "EURUSD_1d.csv", fx_evenings("16", "17", "18", "19"), "may be those before", "in a copy"
    ),
    "two days of ends under the store's header": (
        "AAPL_1m.csv", utc_rows([(b[0] + M1, *b[1:]) for b in OCTOBER[:780]]),
        "no row is at the open", "--stamp end",
    ),
    "a year in a folder that may be a symbol": (
        "amzn/2026_1day.csv", utc_rows(DAYS), "neither its name", "--to"
    ),
    "days on Sundays": (
        "AAPL_1d.csv",
        utc_rows([(b[0] - timedelta(days=1), *b[1:]) for b in DAYS]),
        "6 of 30 days are of a weekend", "the evening before",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_with_what_to_do(tmp_path, kind):
    name, text, what, hint = REFUSED[kind]
    path = tmp_path / name.rpartition("/")[2]
    path.write_bytes(text.encode("latin-1" if name.endswith("gz") else "utf-8"))
    found = imported(tmp_path / "store", path, name)
    assert found.error is not None
    assert what in found.error.message
    assert hint in found.error.hint
    assert found.error.hint
    assert list((tmp_path / "store").glob("*.csv")) == []


def test_zone_and_stamp_of_a_person_settle_it(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(naive(MINUTES[:15], "Europe/Berlin"))
    found = imported(tmp_path / "store", path, zone="Europe/Berlin", stamp=Stamp.START)
    assert found.error is None
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES[:15]


def test_a_stamp_that_the_sessions_contradict_is_refused(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(utc_rows(MINUTES))
    found = imported(tmp_path / "store", path, stamp=Stamp.END)
    assert "by the sessions its times are the starts of bars" in found.error.message


def test_winter_time_all_year_is_told_from_new_york(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(naive(MINUTES, "Etc/GMT+5"))
    found = imported(tmp_path / "store", path)
    assert found.error is None
    assert found.meaning.zone == "Etc/GMT+5"
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES


def test_chosen_columns_and_orders_settle_it(tmp_path):
    path = tmp_path / "AAPL_1d.csv"
    rows = table(DAYS[:6], lambda t, o, h, lo, c, v: f"{t:%d/%m/%Y},{o},{h},{lo},{c},{c},{v}")
    path.write_text(rows)
    chosen = parse_chosen("time=1,open=2,high=3,low=4,close=5,volume=7,dates=day-first")
    found = imported(tmp_path / "store", path, columns=chosen)
    assert found.error is None
    assert read(tmp_path / "store/AAPL_1d.csv") == DAYS[:6]


def test_the_ends_of_weeks_show_the_zone_of_a_market_that_is_open_day_and_night(tmp_path):
    path = tmp_path / "EURUSD_1m.csv"
    path.write_text(naive(FOREX, "Europe/Athens"))
    found = imported(tmp_path / "store", path, stamp=Stamp.START)
    assert found.error is None
    assert found.meaning.zone == "Europe/Athens"
    assert read(tmp_path / "store/EURUSD_1m.csv") == FOREX


@pytest.mark.parametrize("shift", [0, 1])
def test_extended_hours_show_zone_and_stamp(tmp_path, shift):
    bars = minutes(weekdays("2026-10-20", 12), first="04:00", count=960)
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(naive([(b[0] + shift * M1, *b[1:]) for b in bars]))
    found = imported(tmp_path / "store", path)
    assert found.error is None
    assert found.meaning.stamp == (Stamp.END if shift else Stamp.START)
    assert read(tmp_path / "store/AAPL_1m.csv") == bars


@pytest.mark.parametrize("length", [1, 30])
def test_extended_hours_in_utc_are_taken_as_they_are(tmp_path, length):
    bars = minutes(TEN, length, first="04:00", count=960 // length)
    path = tmp_path / f"AAPL_{length}m.csv"
    path.write_text(utc_rows(bars))
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store" / path.name) == bars


@pytest.mark.parametrize("hour", [0, 16])
def test_days_of_coins_begin_at_midnight_in_utc(tmp_path, hour):
    path, store = tmp_path / "BTC_1d.csv", tmp_path / "store"
    days = [(DAYS[0][0] + timedelta(days=n), *bar[1:]) for n, bar in enumerate(DAYS)]
    path.write_text(utc_rows([(b[0] + timedelta(hours=hour), *b[1:]) for b in days]))
    store.mkdir()
    (store / "instruments.toml").write_text('[BTC]\nsec_type = "CRYPTO"\n')
    found = imported(store, path)
    if hour:
        assert "do not begin at 00:00 UTC" in found.error.message
    else:
        assert read(store / "BTC_1d.csv") == days


def test_a_year_in_the_folder_of_a_symbol_is_no_symbol(tmp_path):
    path = tmp_path / "2026_1day.csv"
    path.write_text(utc_rows(DAYS))
    assert imported(tmp_path / "store", path, "AMZN/2026_1day.csv").error is None
    assert read(tmp_path / "store/AMZN_1d.csv") == DAYS


LONG_BARS = {
    "AAPL_1h.csv": [b for b in minutes(TEN, 30) if b[0].minute == 0 or b[0].hour == 13],
    "AAPL_4h.csv": [b for b in minutes(TEN, 30) if f"{b[0]:%H:%M}" in ("13:30", "16:00")],
    "EURUSD_1h.csv": FOREX[::60],
    "EURUSD_4h.csv": [b for b in FOREX if not (b[0].hour * 60 + b[0].minute - 60) % 240],
}


@pytest.mark.parametrize("name", LONG_BARS)
def test_long_bars_of_which_some_are_cut_are_taken(tmp_path, name):
    path = tmp_path / name
    path.write_text(utc_rows(LONG_BARS[name]))
    assert imported(tmp_path / "store", path).error is None
    assert read(tmp_path / "store" / name) == LONG_BARS[name]


# Lines.


def test_refused_lines_are_named_and_the_others_imported(tmp_path):
    lines = utc_rows(MINUTES).splitlines()
    lines[5] = lines[5].replace(",", ",,", 1).rpartition(",")[0]
    lines[7] = lines[7].split(",")[0] + ",nan,nan,nan,nan,nan"
    time, first, _high, *rest = lines[9].split(",")
    lines[9] = ",".join([time, first, "1", *rest])
    lines.insert(12, "")
    lines.append("end of file")
    path = tmp_path / "AAPL_1m.csv"
    path.write_text("\n".join(lines))
    found = imported(tmp_path / "store", path)
    assert found.error is None
    assert [(one.line, one.why) for one in found.refused] == [
        (6, "open is empty"),
        (8, "no number: 'nan'"),
        (10, "its high is not its highest price"),
        (len(lines), "1 cells, expected 6"),
    ]
    assert read(tmp_path / "store/AAPL_1m.csv") == [
        b for n, b in enumerate(MINUTES, 1) if n not in (5, 7, 9)
    ]


def test_equal_doubles_are_merged_and_contradicting_ones_refused(tmp_path):
    other = (*MINUTES[3][:5], 7)
    bars = [*MINUTES[:3], MINUTES[1], MINUTES[3], other, *MINUTES[4:]]
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(utc_rows(bars))
    found = imported(tmp_path / "store", path)
    assert found.error is None
    assert found.tally.doubles == 1
    assert [one.line for one in found.refused] == [6, 7]
    assert read(tmp_path / "store/AAPL_1m.csv") == [*MINUTES[:3], *MINUTES[4:]]


def test_a_bar_that_is_not_over_is_refused(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(utc_rows(MINUTES))
    now = MINUTES[-1][0].timestamp() + 59
    found = imported(tmp_path / "store", path, now=now)
    assert [one.why for one in found.refused] == ["its bar is not over yet"]
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES[:-1]


def test_a_day_that_is_not_over_is_refused(tmp_path):
    path = tmp_path / "AAPL_1d.csv"
    path.write_text(utc_rows(DAYS))
    now = DAYS[-1][0].timestamp() + 21 * 3600
    assert [one.why for one in imported(tmp_path / "store", path, now=now).refused] == [
        "its day is not over yet"
    ]


@pytest.mark.parametrize("there", ["both hours", "the second"])
def test_the_hour_that_comes_twice_is_refused_by_line(tmp_path, there):
    midnight = datetime(2026, 11, 1, 4, tzinfo=UTC)  # summer time ends two hours later
    bars = [(midnight + n * M1, *MINUTES[n][1:]) for n in range(2880)]
    double = bars[60:180]
    if there == "the second":
        del bars[60:120]
    path, store = tmp_path / "BTC_1m.csv", tmp_path / "store"
    path.write_text(naive(bars))
    store.mkdir()
    (store / "instruments.toml").write_text('[BTC]\nsec_type = "CRYPTO"\n')
    found = imported(store, path, zone="America/New_York", stamp=Stamp.START)
    assert found.error is None
    assert {one.why for one in found.refused} == {"this hour came twice in America/New_York"}
    assert len(found.refused) == len(set(bars) & set(double))
    assert read(store / "BTC_1m.csv") == [bar for bar in bars if bar not in double]


def test_a_time_that_there_never_was_shows_another_zone(tmp_path):
    first = MINUTES[0][0].replace(year=2026, month=3, day=8, hour=1, minute=0, tzinfo=UTC)
    bars = [(first + n * M1, *MINUTES[n][1:]) for n in range(300)]
    path = tmp_path / "BTC_1m.csv"
    path.write_text(naive(bars, "UTC"))
    store = tmp_path / "store"
    store.mkdir()
    (store / "instruments.toml").write_text('[BTC]\nsec_type = "CRYPTO"\n')
    found = imported(store, path, zone="America/New_York", stamp=Stamp.START)
    assert "there was no such time in America/New_York" in found.error.message
    assert not (store / "BTC_1m.csv").exists()


@pytest.mark.parametrize("lost", ["2026-09-30,,,,,", "2026-02-30,1,1,1,1,1", "null,null,null"])
def test_lines_between_the_header_and_the_first_row_are_refused_and_not_lost(tmp_path, lost):
    path = tmp_path / "PEP_1d.csv"
    path.write_text(utc_rows(DAYS).replace("\n", f"\n{lost}\n", 1))
    chosen = parse_chosen("time=1,open=2,high=3,low=4,close=5,volume=6")
    for number, columns in enumerate(({}, chosen)):
        found = imported(tmp_path / f"store{number}", path, columns=columns)
        assert found.error is None
        assert [(one.line, one.text) for one in found.refused] == [(2, lost)]
        assert found.tally.bars == len(DAYS)


# The store.


def test_a_refused_file_does_not_keep_another_one_out(tmp_path):
    bad, good = tmp_path / "HON-1d.csv", tmp_path / "HON_1d.csv"
    bad.write_text(utc_rows([(b[0] - timedelta(days=1), *b[1:]) for b in DAYS]))
    good.write_text(utc_rows(DAYS))
    importer = Importer(tmp_path / "store", Wishes(), lambda: NOW)
    assert importer.run(bad, bad.name).error is not None
    assert importer.run(good, good.name).error is None
    assert read(tmp_path / "store/HON_1d.csv") == DAYS


def test_a_series_that_is_there_is_never_touched(tmp_path):
    path, store = tmp_path / "AAPL_1m.csv", tmp_path / "store"
    path.write_text(utc_rows(MINUTES))
    store.mkdir()
    (store / "AAPL_1m.csv").write_text(HEADER)
    found = imported(store, path)
    assert "is there already" in found.error.message
    assert "move" in found.error.hint
    assert (store / "AAPL_1m.csv").read_text() == HEADER
    found = imported(store, path, to=series_to("MSFT_1m"))
    assert found.error is None
    assert read(store / "MSFT_1m.csv") == MINUTES


def test_a_dry_run_writes_nothing(tmp_path):
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(utc_rows(MINUTES))
    found = imported(tmp_path / "store", path, is_dry=True)
    assert (found.error, found.tally.bars, found.is_written) == (None, len(MINUTES), False)
    assert not (tmp_path / "store").exists()


def test_two_files_of_one_series_are_not_mixed(tmp_path):
    store = tmp_path / "store"
    for name in ("AAPL_1m.csv", "AAPL-1min.csv"):
        (tmp_path / name).write_text(utc_rows(MINUTES))
    assert imported(store, tmp_path / "AAPL_1m.csv").error is None
    assert imported(store, tmp_path / "AAPL-1min.csv").error is not None
    assert NOW
