"""Files in the form of public sources give back their bars, or say what to type until they do."""

import gzip
import io
import zipfile
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ktrdr.importing.columns import Stamp, parse_chosen
from ktrdr.importing.series_names import series_to
from tests.importing.known_bars import (
    CRYPTO,
    DAYS,
    FOREX,
    MINUTES,
    NEW_YORK,
    bar,
    imported,
    local,
    read,
    table,
)

ONE_DAY = MINUTES[:390]
COIN_DAYS = [bar(datetime(2026, 10, 1, tzinfo=UTC) + timedelta(days=n), n) for n in range(30)]
EURUSD = FOREX[:3000]


def row(*cells):
    return ",".join(map(str, cells))


def seconds(start):
    return int(start.timestamp())


def in_zip(name, text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    return file.getvalue()


POLYGON = table(
    ONE_DAY,
    lambda t, o, h, lo, c, v: row("AAPL", v, o, c, h, lo, seconds(t) * 10**9, 12),
    "ticker,volume,open,close,high,low,window_start,transactions\n",
)
LEAN = table(
    DAYS, lambda t, *b: row(f"{t:%Y%m%d} 00:00", *(f"{p * 10000:.0f}" for p in b[:4]), b[4])
)
TAKEN = {
    "Polygon's flat files": ("2026-10-22.csv.gz", ONE_DAY, gzip.compress(POLYGON.encode()), {}),
    "Polygon's aggregates": (
        "AAPL_1m.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: row(v, o, o, c, h, lo, seconds(t) * 1000, 3),
            "v,vw,o,c,h,l,t,n\n",
        ),
        {},
    ),
    "Tiingo": (
        "AAPL.csv",
        DAYS,
        table(
            DAYS,
            lambda t, o, h, lo, c, v: row(f"{t:%Y-%m-%d}", c, h, lo, o, v, c / 2, h / 2, lo / 2, v),
            "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjVolume\n",
        ),
        {},
    ),
    "EODHD, minutes": (
        "AAPL.US.csv",
        MINUTES,
        table(
            MINUTES,
            lambda t, *b: row(seconds(t), 0, f"{t:%Y-%m-%d %H:%M:%S}", *b),
            "Timestamp,Gmtoffset,Datetime,Open,High,Low,Close,Volume\n",
        ),
        {},
    ),
    "Investing.com": (
        "AAPL Historical Data.csv",
        DAYS,
        table(
            DAYS[::-1],
            lambda t, o, h, lo, c, v: (
                f'"{t:%m/%d/%Y}","{c}","{o}","{h}","{lo}","{v / 1000:.3f}K","-0.50%"'
            ),
            '"Date","Price","Open","High","Low","Vol.","Change %"\n',
        ),
        {"to": series_to("AAPL_1d")},
    ),
    "Nasdaq": (
        "HistoricalData_1700000000000.csv",
        DAYS,
        table(
            DAYS[::-1],
            lambda t, o, h, lo, c, v: f"{t:%m/%d/%Y},${c:.2f},{v},${o:.2f},${h:.2f},${lo:.2f}",
            "Date,Close/Last,Volume,Open,High,Low\n",
        ),
        {"to": series_to("AAPL_1d")},
    ),
    "Sierra Chart": (
        "AAPL.txt",
        MINUTES,
        table(
            MINUTES,
            lambda t, o, h, lo, c, v: (
                f"{t.year}/{t.month}/{t.day}, {t:%H:%M:%S}.000000, {o}, {h}, {lo}, {c}, {v}, 5, 2"
            ),
            "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume\n",
        ),
        {},
    ),
    "TradingView": (
        "BATS_AAPL, 1.csv",
        MINUTES,
        table(
            MINUTES, lambda t, *b: row(seconds(t), *b, 12.5),
            "time,open,high,low,close,Volume,Volume MA\n",
        ),
        {"to": series_to("AAPL_1m")},
    ),
    "TradingView, days by their open": (
        "AAPL_1d.csv",
        DAYS,
        table(
            DAYS,
            lambda t, *b: row(seconds(t.replace(hour=9, minute=30, tzinfo=NEW_YORK)), *b),
            "time,open,high,low,close,Volume\n",
        ),
        {},
    ),
    "Dukascopy": (
        "EURUSD_Candlestick_1_M_BID_04.10.2026-06.10.2026.csv",
        EURUSD,
        table(
            EURUSD,
            lambda t, o, h, lo, c, _: (
                f"{local(t, '%d.%m.%Y %H:%M:%S.000 GMT%z', ZoneInfo('Europe/Berlin'))},"
                f"{o},{h},{lo},{c},12.5"
            ),
            "Local time,Open,High,Low,Close,Volume\n",
        ),
        {"to": series_to("EURUSD_1m"), "stamp": Stamp.START, "columns": {"dates": "day-first"}},
    ),
    "FirstRate Data": (
        "AAPL_full_1min_adjsplit.txt",
        MINUTES,
        table(
            MINUTES, lambda t, *b: row(local(t), *b), "timestamp,open,high,low,close,volume\n"
        ),
        {"to": series_to("AAPL_1m")},
    ),
    "Kraken": (
        "XBTUSD_1.csv",
        CRYPTO,
        table(CRYPTO, lambda t, *b: row(seconds(t), *b, 7)),
        {
            "to": series_to("BTC_1m"),
            "stamp": Stamp.START,
            "columns": parse_chosen("time=1,open=2,high=3,low=4,close=5,volume=6"),
        },
    ),
    "Coinbase": (
        "BTC-USD-1d.csv",
        COIN_DAYS,
        table(COIN_DAYS[::-1], lambda t, o, h, lo, c, v: row(seconds(t), lo, h, o, c, v)),
        {"columns": parse_chosen("time=1,low=2,high=3,open=4,close=5,volume=6")},
    ),
    "CryptoDataDownload": (
        "Bitstamp_BTCUSD_d.csv",
        COIN_DAYS,
        table(
            COIN_DAYS[::-1],
            lambda t, o, h, lo, c, v: row(seconds(t), f"{t}"[:19], "BTC/USD", o, h, lo, c, v, 9),
            "https://www.CryptoDataDownload.com\n"
            "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD\n",
        ),
        {"to": series_to("BTC_1d"), "columns": parse_chosen("volume=Volume BTC")},
    ),
}  # fmt: skip


def run(tmp_path, name, content, **wishes):
    store, path = tmp_path / "store", tmp_path / name
    store.mkdir()
    (store / "instruments.toml").write_text('[BTC]\nsec_type = "CRYPTO"\n')
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return imported(store, path, **wishes)


@pytest.mark.parametrize("form", TAKEN)
def test_a_public_form_gives_back_its_bars(tmp_path, form):
    name, bars, content, wishes = TAKEN[form]
    found = run(tmp_path, name, content, **wishes)
    assert (found.error, found.refused) == (None, [])
    assert read(tmp_path / "store" / found.series.file_name) == bars


REFUSED = {
    "Coinbase": (
        "BTC-USD-1d.csv", TAKEN["Coinbase"][2],
        "lines cannot be read", "--columns time=1,low=2,high=3,open=4,close=5,volume=6",
    ),
    "CryptoDataDownload": (
        "BTC_1d.csv", TAKEN["CryptoDataDownload"][2],
        "no column of volumes", "--columns 'volume=Volume BTC'",
    ),
    "CryptoDataDownload, hours of long ago": (
        "BTC_1h.csv",
        table(
            CRYPTO, lambda t, *b: row(f"{t:%Y-%m-%d %I-%p}", "BTCUSD", *b),
            "Date,Symbol,Open,High,Low,Close,Volume BTC\n",
        ),
        "no line has a time that is understood, such as the one with '2026-11-20 12-AM'",
        "write times as",
    ),
    "Investing.com without volumes": (
        "AAPL_1d.csv",
        table(
            DAYS,
            lambda t, o, h, lo, c, _: f'"{t:%m/%d/%Y}","{c}","{o}","{h}","{lo}","","-0.50%"',
            '"Date","Price","Open","High","Low","Vol.","Change %"\n',
        ),
        "30 of 30 lines", "--columns volume=none",
    ),
    "LEAN, days": ("aapl.zip", in_zip("aapl.csv", LEAN), "LEAN's times 10,000", "divide them"),
    "LEAN, minutes": (
        "20261022_trade.zip",
        in_zip(
            "20261022_aapl_minute_trade.csv",
            table(ONE_DAY, lambda t, *_: row(t.minute * 60_000, 180000, 181000, 179000, 180000, 9)),
        ),
        "no line has a time that is understood", "write times as",
    ),
    "Polygon, all symbols of a day": (
        "2026-10-22.csv", POLYGON + POLYGON.partition("\n")[2].replace("AAPL", "MSFT"),
        "several symbols: AAPL, MSFT", "a file of its own",
    ),
    "a column of times of another name": (
        "AAPL_1m.csv",
        table(MINUTES, lambda t, *b: row(local(t), *b), "Time (EST),open,high,low,close,volume\n"),
        "no column time", "--columns 'time=Time (EST)'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_a_public_form_is_refused_with_what_to_type(tmp_path, form):
    name, content, what, hint = REFUSED[form]
    found = run(tmp_path, name, content)
    assert what in found.error.message
    assert hint in found.error.hint
    assert not list((tmp_path / "store").glob("*.csv"))
