"""Each public form of bar files, written from known bars, gives back exactly these bars."""

import gzip
import zipfile
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ktrdr.importing.columns import Stamp, parse_chosen
from ktrdr.importing.series_names import series_to as series
from tests.importing.known_bars import (
    CRYPTO,
    DAYS,
    FIVES,
    HEADER,
    MINUTES,
    NEW_YORK,
    bar,
    imported,
    local,
    minutes,
    read,
    table,
    weekdays,
)

OLD_DAYS = [
    bar(datetime(day.year, day.month, day.day, tzinfo=UTC), number)
    for number, day in enumerate(weekdays("2001-09-03", 10))
]
M1, M5 = timedelta(minutes=1), timedelta(minutes=5)


def epoch(start, unit):
    return int(start.timestamp()) * unit


FORMS = {
    "of the store": (
        "AAPL_1m.csv",
        MINUTES,
        table(MINUTES, lambda t, o, h, lo, c, v: f"{t},{o},{h},{lo},{c},{v}", HEADER),
    ),
    "Yahoo's download": (
        "KO-1d.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d},{o},{h},{lo},{c},{c / 2},{v}",
            "Date,Open,High,Low,Close,Adj Close,Volume\n",
        ),
    ),
    "yfinance, three lines of header": (
        "anything.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d},{c},{h},{lo},{o},{v}",
            "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n",
        ),
    ),
    "yfinance, minutes with their offset": (
        "AAPL.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: (
                f"{t.astimezone(ZoneInfo('America/New_York')).isoformat(' ')},"
                f"{o},{h},{lo},{c},{v},0.0,0.0"
            ),
            "Datetime,Open,High,Low,Close,Volume,Dividends,Stock Splits\n",
        ),
    ),
    "yfinance, days at midnight in New York": (
        "AAPL_1d.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: (
                f"{t.replace(tzinfo=NEW_YORK).isoformat(' ')},{o},{h},{lo},{c},{v}"
            ),
            "Date,Open,High,Low,Close,Volume\n",
        ),
    ),
    "Alpha Vantage, newest first": (
        "AAPL-1min.csv",
        MINUTES,
        table(
            MINUTES[::-1], lambda t, o, h, lo, c, v: f"{local(t)},{o},{h},{lo},{c},{v}", HEADER,
            end="\r\n",
        ),
    ),
    "stooq, days": (
        "aapl.us.txt",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f"AAPL.US,D,{t:%Y%m%d},000000,{o},{h},{lo},{c},{v},0",
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n",
        ),
    ),
    "stooq, five minutes in Warsaw's time": (
        "aapl.us.txt",
        FIVES,
        table(
            FIVES,
            lambda t, o, h, lo, c, v: (
                f"AAPL.US,5,{local(t, '%Y%m%d,%H%M%S', ZoneInfo('Europe/Warsaw'))},"
                f"{o},{h},{lo},{c},{v},0"
            ),
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n",
        ),
    ),
    "Kibot and FirstRate, no header": (
        "AAPL_1min.txt",
        MINUTES,
        table(
            MINUTES, lambda t, o, h, lo, c, v: f"{local(t, '%m/%d/%Y,%H:%M')},{o},{h},{lo},{c},{v}"
        ),
    ),
    "NinjaTrader, named by the end": (
        "AAPL 1m.txt",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: f"{local(t + M1, '%Y%m%d %H%M%S')};{o};{h};{lo};{c};{v}",
        ),
    ),
    "MetaTrader 5, tabs": (
        "AAPL_M1_202610220930.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: (
                f"{local(t, '%Y.%m.%d%t%H:%M:%S', ZoneInfo('Europe/Athens'))}\t"
                f"{o:.2f}\t{h:.2f}\t{lo:.2f}\t{c:.2f}\t{v // 2}\t{v}\t3"
            ).replace("%t", "\t"),
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n",
        ),
    ),
    "ib_insync's util.df": (
        "AAPL_1m.csv",
        MINUTES,
        table(
            enumerate(MINUTES),
            lambda n, b: (
                f"{n},{local(b[0], '%Y-%m-%d %H:%M:%S%z')[:-2]}:00,"
                f"{b[1]},{b[2]},{b[3]},{b[4]},{float(b[5])},{b[1]},17"
            ),
            ",date,open,high,low,close,volume,average,barCount\n",
        ),
    ),
    "IB's own spelling of times": (
        "AAPL_1m.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: (
                f"{local(t, '%Y%m%d  %H:%M:%S')} US/Eastern,{o},{h},{lo},{c},{v}"
            ),
            "date,open,high,low,close,volume\n",
        ),
    ),
    "Alpaca, minutes": (
        "bars.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: f"AAPL,{t.isoformat(' ')},{o},{h},{lo},{c},{v},12,{o}",
            "symbol,timestamp,open,high,low,close,volume,trade_count,vwap\n",
        ),
    ),
    "Alpaca, days in UTC": (
        "bars.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: (
                f"AAPL,{t.replace(tzinfo=NEW_YORK).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
                f",{o},{h},{lo},{c},{v},12,{o}"
            ),
            "symbol,timestamp,open,high,low,close,volume,trade_count,vwap\n",
        ),
    ),
    "Databento, whole numbers": (
        "xnas.ohlcv-1m.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: ",".join(
                map(
                    str,
                    (
                        epoch(t, 10**9), 33, 2, 38,
                        *(round(p * 100) * 10**7 for p in (o, h, lo, c)), v, "AAPL",
                    ),
                )
            ),
            "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n",
        ),
    ),
    "quoted, German numbers": (
        "AAPL_1d.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: ";".join(
                f'"{cell}"'
                for cell in (
                    f"{t:%d.%m.%Y}",
                    *(f"{x:.2f}".replace(".", ",") for x in (o, h, lo, c)),
                    f"1.{v}",
                )
            ),
            '"Date";"Open";"High";"Low";"Close";"Volume"\n',
        ),
    ),
    "thousands in quotes": (
        "AAPL_1d.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f'"{t:%b %d, %Y}",${c},"1,{v}",${o},${h},${lo}',
            "Date,Close/Last,Volume,Open,High,Low\n",
        ),
    ),
    "abbreviated zones": (
        "AAPL_1m.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: (
                f"{local(t)} {t.astimezone(NEW_YORK).tzname()},{o},{h},{lo},{c},{v}"
            ),
            HEADER,
        ),
    ),
    "epoch seconds": (
        "AAPL_1m.csv",
        MINUTES,
        table(MINUTES, lambda t, o, h, lo, c, v: f"{epoch(t, 1)},{o},{h},{lo},{c},{v}", HEADER),
    ),
    "epoch microseconds": (
        "AAPL_1m.csv",
        MINUTES,
        table(MINUTES, lambda t, o, h, lo, c, v: f"{epoch(t, 10**6)},{o},{h},{lo},{c},{v}", HEADER),
    ),
    "twelve-hour clock": (
        "AAPL_1m.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: f"{local(t, '%m/%d/%Y %I:%M %p')},{o},{h},{lo},{c},{v}",
            "Time,Open,High,Low,Last,Volume\n",
        ),
    ),
    "date and time under one name": (
        "SPY_1m.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: f"{local(t, '%Y-%m-%d,%H:%M:%S')},{o},{h},{lo},{c},{v}",
            "Date,Open,High,Low,Close,Volume\n", end="\r\n",
        ),
    ),
    "days before September 2001 by epoch": (
        "IBM_1d.csv",
        OLD_DAYS,
        table(OLD_DAYS, lambda t, *p: ",".join(map(str, (epoch(t, 1), *p))), HEADER),
    ),
    "MetaTrader 5 by Python": (
        "AAPL_1d.csv",
        DAYS,
        table(
            enumerate(DAYS),
            lambda n, b: f"{n},{b[0]:%Y-%m-%d},{b[1]},{b[2]},{b[3]},{b[4]},9,3,{b[5]}",
            ",time,open,high,low,close,tick_volume,spread,real_volume\n",
        ),
    ),
    "dates without zeros, the year first": (
        "AAPL_1d.csv",
        DAYS,
        table(
            DAYS,
            lambda t, *bar: ",".join(map(str, (f"{t.year}/{t.month}/{t.day}", *bar))),
            "Date,Open,High,Low,Close,Volume\n",
        ),
    ),
    "volumes in thousands": (
        "AAPL_1d.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: f"{t:%Y-%m-%d},{o},{h},{lo},{c},{v / 1000}K",
            "Date,Open,High,Low,Close,Vol.\n",
        ),
    ),
    "a line before the header": (
        "AAPL_1m.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: f"{t:%Y-%m-%dT%H:%M:%S.000Z};{o};{h};{lo};{c};{v}",
            "sep=;\nTimestamp;Open;High;Low;Close;Volume\n",
        ),
    ),
}  # fmt: skip
THOUSAND = ("quoted, German numbers", "thousands in quotes")


@pytest.mark.parametrize("form", FORMS)
def test_a_form_gives_back_its_bars(tmp_path, form):
    name, bars, text = FORMS[form]
    path = tmp_path / name
    path.write_bytes(text.encode())
    found = imported(tmp_path / "store", path)
    assert found.error is None
    assert found.refused == []
    wanted = [(*one[:5], one[5] + 1000) for one in bars] if form in THOUSAND else bars
    assert read(tmp_path / "store" / found.series.file_name) == wanted
    assert path.read_bytes() == text.encode()


def test_binance_s_klines_need_only_their_series(tmp_path):
    def row(t, o, h, lo, c, v):
        ends = epoch(t, 1000) + 59_999
        return f"{epoch(t, 1000)},{o},{h},{lo},{c},{v},{ends},1.5,10,1.5,1.5,0"

    path = tmp_path / "BTCUSDT-1m-2026-11.csv"
    path.write_text(table(CRYPTO, row))
    store = tmp_path / "store"
    store.mkdir()
    (store / "instruments.toml").write_text('[BTC]\nsec_type = "CRYPTO"\n')
    found = imported(store, path, to=series("BTC_1m"))
    assert found.error is None
    assert read(store / "BTC_1m.csv") == CRYPTO


def test_forex_has_no_volume_and_its_zone_is_given(tmp_path):
    hours = [b for b in MINUTES if b[0].hour > 12]
    path = tmp_path / "DAT_ASCII_EURUSD_M1_2026.csv"
    path.write_text(
        table(
            hours,
            lambda t, *p: (
                f"{local(t, '%Y%m%d %H%M%S', ZoneInfo('Etc/GMT+5'))};{p[0]};{p[1]};{p[2]};{p[3]};0"
            ),
        )
    )
    refused = imported(tmp_path / "store", path)
    assert "fit several" in refused.error.message
    found = imported(tmp_path / "store", path, zone="Etc/GMT+5", stamp=Stamp.START)
    assert found.error is None
    assert read(tmp_path / "store/EURUSD_1m.csv") == [(*one[:5], -1) for one in hours]


PLAIN = FORMS["of the store"][2]


def zipped(path, text, more=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("anything.csv", text)
        if more:
            archive.writestr(more, "of macOS")


ENCODED = {
    "a byte order mark": (".csv", lambda path: path.write_text(PLAIN, "utf-8-sig")),
    "UTF-16": (".csv", lambda path: path.write_text(PLAIN, "utf-16")),
    "gzip": (".csv.gz", lambda path: path.write_bytes(gzip.compress(PLAIN.encode()))),
    "zip": (".csv.zip", lambda path: zipped(path, PLAIN)),
    "UTF-16 in gzip": (
        ".csv.gz", lambda path: path.write_bytes(gzip.compress(PLAIN.encode("utf-16")))
    ),
    "old Mac's line ends": (
        ".csv", lambda path: path.write_bytes(PLAIN.replace("\n", "\r").encode())
    ),
    "two kinds of line ends": (
        ".csv", lambda path: path.write_bytes(PLAIN.replace("\n", "\r", 20).encode())
    ),
    "zip by macOS": (".csv.zip", lambda path: zipped(path, PLAIN, "__MACOSX/._anything.csv")),
    "no last line end": (".csv", lambda path: path.write_text(PLAIN.rstrip("\n"))),
    "capitals": (".CSV", lambda path: path.write_text(PLAIN)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENCODED)
def test_encodings_and_compressions_are_read(tmp_path, kind):
    ending, write = ENCODED[kind]
    path = tmp_path / f"AAPL_1m{ending}"
    write(path)
    found = imported(tmp_path / "store", path)
    assert found.error is None
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES


def test_dates_and_clocks_without_zeros_may_be_of_one_length(tmp_path):
    def shown(start):
        there = start.astimezone(NEW_YORK)
        return f"{there.month}/{there.day}/{there.year} {there.hour}:{there.minute:02}"

    bars = [b for b in minutes(weekdays("2026-09-04", 7)) if len(shown(b[0])) == 14]
    path = tmp_path / "AAPL_1m.csv"
    path.write_text(table(bars, lambda t, *bar: ",".join(map(str, (shown(t), *bar))), HEADER))
    found = imported(tmp_path / "store", path, zone="America/New_York", stamp=Stamp.START)
    assert found.error is None
    assert read(tmp_path / "store/AAPL_1m.csv") == bars


def test_chosen_columns_keep_what_the_header_says(tmp_path):
    path = tmp_path / "bars.csv"
    path.write_text(FORMS["Databento, whole numbers"][2])
    chosen = parse_chosen("time=ts_event,open=open,high=high,low=low,close=close,volume=volume")
    found = imported(tmp_path / "store", path, to=series("AAPL_1m"), columns=chosen)
    assert found.error is None
    assert found.meaning.stamp_known == "column ts_event"
    assert found.read.symbols == {"AAPL"}
    assert read(tmp_path / "store/AAPL_1m.csv") == MINUTES


def test_a_damaged_archive_of_lzma_is_refused(tmp_path):
    path = tmp_path / "AAPL_1m.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("anything.csv", PLAIN)
    raw = bytearray(path.read_bytes())
    raw[200:2000] = b"\xff" * 1800
    path.write_bytes(raw)
    assert "cannot be decompressed" in imported(tmp_path / "store", path).error.message
