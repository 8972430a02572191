"""A store as a partitioned folder: what DuckDB, Polars and pandas read of it, and what it keeps."""

import csv
import errno
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest

from ktrdr.data.data_manager import DataManager
from ktrdr.data.dataset import export_dataset
from ktrdr.errors import (
    InvalidRequest,
    MalformedFile,
    StoreUnwritable,
    UnknownSeries,
    WrongSource,
)
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.market.instruments import Series, parse_series

HEADER = "timestamp,open,high,low,close,volume\n"
COLUMNS = HEADER.strip().split(",")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
HIVE = "hive_partitioning = true"
TYPED = "hive_types = {symbol: VARCHAR, timeframe: VARCHAR, year: INTEGER}"
NAMES = pa.schema([("symbol", pa.string()), ("timeframe", pa.string()), ("year", pa.int32())])


def text(first, step, count, *, volume=None):
    """Lines of CSV with prices that need all their digits; `volume`: of each bar."""
    begin = datetime.fromisoformat(f"{first}+00:00")
    rows = [
        f"{begin + n * step},{1 / (n + 3)},{n + 9.07},{0.1 + n / 7},{0.2 + n / 3},"
        f"{n * 100 if volume is None else volume}\n"
        for n in range(count)
    ]
    return HEADER + "".join(rows)


MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FILES = {
    "AAPL_1m": text("2025-12-31 23:55", MINUTE, 10),
    "AAPL_1d": text("2025-12-29 00:00", DAY, 6),
    "BRK B_1m": text("2026-03-02 14:30", MINUTE, 4),
    "EURUSD_1m": text("2023-12-31 23:59", 400 * DAY, 3, volume=-1),
}


@pytest.fixture
def put(data_dir):
    """Writes files of the store."""

    def put(files):
        for name, content in files.items():
            (data_dir / f"{name}.csv").write_text(content)
        return [series(name) for name in files]

    return put


@pytest.fixture
def store(put):
    return put(FILES)


@pytest.fixture
def manager(make_settings):
    return DataManager(make_settings())


@pytest.fixture
def folder(scratch):
    return scratch / "bars"


def series(name):
    return parse_series(f"{name}.csv")


def expected(files):
    """The bars of files with symbol, timeframe and year, by the csv module alone."""
    found = []
    for name, content in files.items():
        symbol, timeframe = name.rsplit("_", 1)
        for row in csv.DictReader(content.splitlines()):
            start = datetime.fromisoformat(row["timestamp"])
            values = (float(row[column]) for column in COLUMNS[1:])
            found.append((start, *values, symbol, timeframe, start.year))
    return sorted(found, key=lambda row: (*row[-3:-1], row[0]))


def in_duckdb(folder, how=HIVE, where="true"):
    query = (
        f"SELECT * FROM read_parquet('{folder}/**/*.parquet', {how}) WHERE {where} "
        "ORDER BY symbol, timeframe, timestamp"
    )
    with duckdb.connect() as connection:
        return connection.sql(query).fetchall()


def in_polars(folder, *conditions, pattern="/**/*.parquet", hive_schema=None):
    frame = pl.scan_parquet(f"{folder}{pattern}", hive_partitioning=True, hive_schema=hive_schema)
    frame = frame.filter(*conditions)
    return frame.sort("symbol", "timeframe", "timestamp").collect().rows()


def in_pandas(folder, **how):
    frame = pd.read_parquet(folder, **how)
    keys = [frame[name].astype(str) for name in ("symbol", "timeframe")]
    frame = frame.assign(symbol=keys[0], timeframe=keys[1])
    frame = frame.sort_values(["symbol", "timeframe", "timestamp"])
    return list(frame.itertuples(index=False, name=None))


READERS = {
    "duckdb": in_duckdb,
    "polars": in_polars,
    "polars, by the folder": lambda folder: in_polars(folder, pattern=""),
    "pandas": in_pandas,
}


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_has_exactly_the_bars_of_the_files(store, manager, folder, reader):
    found = export_dataset(manager, store, folder)
    assert READERS[reader](folder) == expected(FILES)
    assert sum(one.bars for one in found) == len(expected(FILES))


def test_each_reader_has_sensible_types(store, manager, folder):
    export_dataset(manager, store, folder)
    with duckdb.connect() as connection:
        read = connection.sql(f"SELECT * FROM read_parquet('{folder}/**/*.parquet', {HIVE})")
        types = dict(zip(read.columns, map(str, read.types), strict=True))
    numbers = dict.fromkeys(COLUMNS[1:], "DOUBLE")
    texts = {"symbol": "VARCHAR", "timeframe": "VARCHAR"}
    assert types == {"timestamp": "TIMESTAMP WITH TIME ZONE"} | numbers | texts | {"year": "BIGINT"}
    frame = pl.read_parquet(folder)
    assert dict(frame.schema) == {"timestamp": pl.Datetime("ms", "UTC")} | dict.fromkeys(
        COLUMNS[1:], pl.Float64
    ) | {"symbol": pl.String, "timeframe": pl.String, "year": pl.Int64}
    read = pd.read_parquet(folder)
    assert str(read["timestamp"].dtype) == "datetime64[ms, UTC]"
    assert {str(read[name].dtype) for name in COLUMNS[1:]} == {"float64"}
    assert {name: read[name].cat.categories.dtype.kind for name in NAMES.names} == {
        "symbol": "O",
        "timeframe": "O",
        "year": "i",
    }


@pytest.mark.parametrize(("symbol", "year"), [("AAPL", 2026), ("AAPL", 2025), ("BRK B", 2026)])
def test_each_reader_filters_by_symbol_and_year(store, manager, folder, symbol, year):
    export_dataset(manager, store, folder)
    wanted = [row for row in expected(FILES) if row[6] == symbol and row[8] == year]
    assert wanted
    assert in_duckdb(folder, where=f"symbol = '{symbol}' AND year = {year}") == wanted
    assert in_polars(folder, pl.col("symbol") == symbol, pl.col("year") == year) == wanted
    assert in_pandas(folder, filters=[("symbol", "==", symbol), ("year", "==", year)]) == wanted


@pytest.mark.parametrize("names", [["0700_1m", "600519_1m"], ["INF_1m"], ["TRUE_1m"], ["1.5_1m"]])
def test_symbols_like_numbers_are_read_with_types(put, manager, folder, names):
    files = {name: text("2026-03-02 14:30", MINUTE, 2) for name in names}
    export_dataset(manager, put(files), folder)
    wanted = expected(files)
    assert in_duckdb(folder, TYPED) == wanted
    schema = {"symbol": pl.String, "timeframe": pl.String, "year": pl.Int32}
    assert in_polars(folder, hive_schema=schema) == wanted
    types = pyarrow.dataset.partitioning(NAMES, flavor="hive")
    assert in_pandas(folder, partitioning=types) == wanted


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_files_lie_as_hive_has_them(store, manager, folder):
    export_dataset(manager, store, folder)
    assert files_in(folder) == {
        "symbol=AAPL/timeframe=1m/year=2025/bars.parquet",
        "symbol=AAPL/timeframe=1m/year=2026/bars.parquet",
        "symbol=AAPL/timeframe=1d/year=2025/bars.parquet",
        "symbol=AAPL/timeframe=1d/year=2026/bars.parquet",
        "symbol=BRK%20B/timeframe=1m/year=2026/bars.parquet",
        "symbol=EURUSD/timeframe=1m/year=2023/bars.parquet",
        "symbol=EURUSD/timeframe=1m/year=2025/bars.parquet",
        "symbol=EURUSD/timeframe=1m/year=2026/bars.parquet",
    }


def path_of(folder, name, year):
    symbol, timeframe = name.rsplit("_", 1)
    encoded = symbol.replace(" ", "%20")
    return folder / f"symbol={encoded}/timeframe={timeframe}/year={year}/bars.parquet"


def facts_of(folder, name, year):
    schema = pyarrow.parquet.read_schema(path_of(folder, name, year))
    return json.loads(schema.metadata[b"ktrdr"])


def test_all_files_have_the_same_columns_and_types(store, manager, folder):
    export_dataset(manager, store, folder)
    schemas = [pyarrow.parquet.read_schema(folder / path) for path in sorted(files_in(folder))]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert schemas[0].names == COLUMNS


def test_a_file_says_what_it_has_and_in_which_units(store, manager, folder, data_dir):
    (data_dir / ".ktrdr").mkdir(exist_ok=True)
    (data_dir / ".ktrdr" / "source").write_text("live\n")
    export_dataset(manager, store, folder)
    facts = facts_of(folder, "AAPL_1m", 2026)
    assert facts.pop("written_by").startswith("ktrdr ")
    assert facts["coverage"].pop("why").startswith("gap-filler is not running")
    assert facts == {
        "source": "live",
        "symbol": "AAPL",
        "timeframe": "1m",
        "coverage": {
            "complete": False,
            "first": "2026-01-01T00:00:00+00:00",
            "last": "2026-01-01T00:04:00+00:00",
            "start": "2026-01-01T00:00:00+00:00",
            "end": None,
        },
        "units": {
            "timezone": "UTC",
            "timestamp": "start of the bar",
            "prices": "currency of the contract",
            "currency": "USD",
            "volume": "shares",
            "no_volume": -1,
        },
    }
    assert facts_of(folder, "EURUSD_1m", 2025)["units"]["volume"] is None
    assert facts_of(folder, "AAPL_1d", 2025)["units"]["timestamp"] == "trading day, at 00:00"


def test_a_currency_is_that_of_the_contract_or_not_known(put, manager, folder, data_dir):
    (data_dir / "instruments.toml").write_text(
        '[SAP]\ncurrency = "EUR"\n[NESN]\ncon_id = 12345\n[BTC]\nsec_type = "CRYPTO"\n'
    )
    names = ("SAP_1m", "NESN_1m", "BTC_1m", "ESZ6_1m")
    files = {name: text("2026-03-02 14:30", MINUTE, 1) for name in names}
    export_dataset(manager, put(files), folder)
    units = [facts_of(folder, name, 2026)["units"] for name in names]
    assert [one["currency"] for one in units] == ["EUR", None, "USD", "USD"]
    assert [one["volume"] for one in units] == ["shares", "shares", "coins", "contracts"]


@pytest.fixture
def knowing(make_settings, data_dir):
    """A gap filler that knows AAPL's minutes: one of 2026 is missing."""
    status = (data_dir / "AAPL_1m.csv").stat()

    async def coverage(_query):
        absent = int(datetime(2026, 1, 1, 0, 3, tzinfo=UTC).timestamp())
        said = {
            "symbol": "AAPL",
            "timeframe": "1m",
            "file": "AAPL_1m.csv",
            "state": "waiting",
            "expected": 11,
            "first": "2025-12-31T23:55:00+00:00",
            "key": [status.st_size, status.st_mtime_ns, status.st_ino],
            "from": "2025-12-01T00:00:00+00:00",
            "until": datetime.now(UTC).isoformat(),
            "gaps": [[absent, absent, 1, "open"]],
        }
        return {"series": [said], "scan_time": "2026-11-20T10:00:00+00:00"}

    routes = {("GET", "/coverage"): coverage}
    with serving(LocalServer(make_settings().gap_filler_socket, routes)):
        yield


@pytest.mark.usefixtures("store", "knowing")
def test_each_year_says_of_itself_whether_it_is_complete(manager, folder):
    (found,) = export_dataset(manager, [series("AAPL_1m")], folder)
    first, second = (facts_of(folder, "AAPL_1m", year)["coverage"] for year in (2025, 2026))
    assert (first["complete"], first["why"]) == (True, "")
    assert (first["start"], first["end"]) == (None, "2026-01-01T00:00:00+00:00")
    assert (second["complete"], second["why"]) == (False, "up to 1 bars are missing")
    assert found.why == "2026: up to 1 bars are missing"


def test_pandas_has_what_is_so_of_all_files_as_attrs(store, manager, folder):
    export_dataset(manager, store, folder)
    assert pd.read_parquet(folder).attrs.keys() == {"source", "written_by"}


def test_an_interval_is_exported_exactly(store, manager, folder):
    interval = ("2025-12-31 23:58", "2026-01-01 00:02")
    export_dataset(manager, store, folder, *interval)
    begin, end = (datetime.fromisoformat(f"{one}+00:00") for one in interval)
    assert in_duckdb(folder) == [row for row in expected(FILES) if begin <= row[0] < end]
    coverage = facts_of(folder, "AAPL_1m", 2025)["coverage"]
    assert coverage["start"] == "2025-12-31T23:58:00+00:00"
    assert facts_of(folder, "AAPL_1m", 2026)["coverage"]["end"] == "2026-01-01T00:02:00+00:00"


class Recorder(DataManager):
    """Notes how many bars it gave at a time."""

    bounds_known: tuple[datetime, datetime] | None = None

    def bounds(self, symbol, timeframe):
        return self.bounds_known or super().bounds(symbol, timeframe)

    def load(self, *words, **options):
        frame = super().load(*words, **options)
        self.given = [*getattr(self, "given", []), len(frame)]
        return frame


def test_a_year_of_a_series_is_in_memory_at_a_time(store, make_settings, folder):
    recorder = Recorder(make_settings())
    export_dataset(recorder, store, folder)
    assert recorder.given == [5, 5, 3, 3, 4, 1, 0, 1, 1]


def test_bars_that_came_meanwhile_are_in_their_years_too(store, make_settings, folder):
    recorder = Recorder(make_settings())
    recorder.bounds_known = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC))
    export_dataset(recorder, store, folder)
    assert recorder.given == [10, 6, 4, 3]
    assert in_duckdb(folder) == expected(FILES)


@pytest.mark.parametrize(
    "interval", [("2030-01-01", None), (None, "2000-01-01"), ("2026-01-01", "2026-01-01")]
)
def test_an_interval_without_bars_writes_nothing(store, manager, folder, interval):
    found = export_dataset(manager, store, folder, *interval)
    assert [one.written for one in found] == [{}] * len(store)
    assert not folder.exists()


def test_an_empty_series_has_no_file(put, manager, folder):
    files = {"MSFT_1m": HEADER, "AAPL_1m": FILES["AAPL_1m"]}
    found = export_dataset(manager, put(files), folder)
    assert [one.bars for one in found] == [0, 10]
    assert not (folder / "symbol=MSFT").exists()


def test_a_second_export_replaces_its_years_and_leaves_all_others(store, put, manager, folder):
    export_dataset(manager, store, folder)
    others = {path: (folder / path).stat().st_ino for path in files_in(folder)}
    changed = {"AAPL_1m": text("2026-01-01 00:00", MINUTE, 7, volume=5)}
    (found,) = export_dataset(manager, put(changed), folder)
    assert (found.written, found.kept_years) == ({2026: 7}, [2025])
    kept = [row for row in expected(FILES) if row[6:] == ("AAPL", "1m", 2025)]
    others_bars = [row for row in expected(FILES) if row[6:8] != ("AAPL", "1m")]
    wanted = kept + expected(changed) + others_bars
    assert sorted(in_duckdb(folder)) == sorted(wanted)
    now = {path: (folder / path).stat().st_ino for path in files_in(folder)}
    replaced = {path for path in now if now[path] != others[path]}
    assert replaced == {"symbol=AAPL/timeframe=1m/year=2026/bars.parquet"}


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (("2026-01-01 00:02", None), "has bars before 2026-01-01T00:02:00"),
        ((None, "2026-01-01 00:04"), "has bars from 2026-01-01T00:04:00.* on"),
    ],
)
def test_a_year_is_not_replaced_by_a_part_of_it(store, manager, folder, interval, words):
    export_dataset(manager, store, folder)
    with pytest.raises(InvalidRequest, match=f"year=2026/bars.parquet {words}.* would be lost"):
        export_dataset(manager, [series("AAPL_1m")], folder, *interval)
    assert in_duckdb(folder) == expected(FILES)
    export_dataset(manager, [series("AAPL_1m")], folder, "2026-01-01")
    assert in_duckdb(folder) == expected(FILES)


STRANGE = {
    "notes.txt": "notes.txt",
    "symbol=AAPL": "symbol=AAPL",
    "symbol=AAPL/bars.parquet": "bars.parquet",
    "symbol=AAPL/timeframe=1m/part-0.parquet": "part-0.parquet",
    "symbol=AAPL/timeframe=1m/year=2026/part-0.parquet": "part-0.parquet",
    "symbol=AAPL/timeframe=1m/year=2026/bars.parquet": "bars.parquet",
    "symbol=ZZZ/timeframe=1m/year=2026/bars.parquet": "bars.parquet",
}


@pytest.mark.parametrize("place", STRANGE)
@pytest.mark.parametrize("is_parquet", [True, False])
def test_a_folder_with_files_of_others_is_left_as_it_is(store, manager, folder, place, is_parquet):
    path = folder / place
    path.parent.mkdir(parents=True)
    if is_parquet:
        pyarrow.parquet.write_table(pa.table({"open": [1.0]}), path)
    else:
        path.write_text("mine")
    before = path.read_bytes()
    with pytest.raises(InvalidRequest, match=re.escape(STRANGE[place])) as caught:
        export_dataset(manager, store, folder)
    assert "empty folder" in caught.value.hint
    assert files_in(folder) == {place}
    assert path.read_bytes() == before


def test_names_that_readers_leave_out_may_be_there(store, manager, folder):
    folder.mkdir()
    (folder / ".notes").write_text("mine")
    (folder / "_SUCCESS").touch()
    export_dataset(manager, store, folder)
    assert in_pandas(folder) == expected(FILES)


def test_live_and_simulated_bars_never_mix(store, manager, folder, data_dir):
    source = data_dir / ".ktrdr" / "source"
    source.parent.mkdir(exist_ok=True)
    source.write_text("simulated\n")
    export_dataset(manager, [series("AAPL_1m")], folder)
    before = files_in(folder)
    source.write_text("live\n")
    with pytest.raises(WrongSource, match="has simulated bars, and these are live"):
        export_dataset(manager, store, folder)
    assert files_in(folder) == before
    assert facts_of(folder, "AAPL_1m", 2026)["source"] == "simulated"


def test_a_series_that_cannot_be_read_does_not_hold_up_the_others(put, manager, folder):
    rows = "2026-03-02 14:30:00+00:00,1,1,1,1,1\n2026-03-02 14:31:00+00:00,x,1,1,1,1\n"
    files = {"BAD_1m": f"{HEADER}{rows}", "AAPL_1m": FILES["AAPL_1m"]}
    bad, good = export_dataset(manager, put(files), folder)
    assert isinstance(bad.error, MalformedFile)
    assert (good.error, good.bars) == (None, 10)
    assert in_duckdb(folder) == expected({"AAPL_1m": FILES["AAPL_1m"]})


@pytest.mark.usefixtures("store")
def test_an_unknown_series_is_named_before_anything_is_written(manager, folder):
    wanted = [series("AAPL_1m"), Series("AAPL", series("X_1h").timeframe)]
    with pytest.raises(UnknownSeries, match="AAPL_1h"):
        export_dataset(manager, wanted, folder)
    assert not folder.exists()


def test_a_folder_is_made_and_its_parents_are_not(store, manager, scratch):
    with pytest.raises(StoreUnwritable, match="nowhere/bars: there is no folder") as caught:
        export_dataset(manager, store, scratch / "nowhere" / "bars")
    assert caught.value.hint.startswith("make it first: mkdir -p")
    (scratch / "file").write_text("mine")
    with pytest.raises(InvalidRequest, match="file is no folder"):
        export_dataset(manager, store, scratch / "file")
    assert (scratch / "file").read_text() == "mine"


def full(_descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(
    store, put, manager, folder, monkeypatch, is_new
):
    if not is_new:
        export_dataset(manager, store, folder)
    before = files_in(folder)
    put({"AAPL_1m": text("2026-01-01 00:00", MINUTE, 7, volume=5)})
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreUnwritable, match=r"year=2026.bars\.parquet: No space") as caught:
            export_dataset(manager, [series("AAPL_1m")], folder)
    assert "free space on its disk; then try again" in caught.value.hint
    assert files_in(folder) == before
    if is_new:
        assert not list(folder.rglob("*"))
    else:
        assert in_duckdb(folder) == expected(FILES)


def test_what_a_killed_export_left_is_removed_by_the_next(store, manager, folder):
    export_dataset(manager, store, folder)
    left = path_of(folder, "AAPL_1m", 2026).with_name(".bars.parquet.99-1.ktrdr-new")
    left.write_bytes(b"half")
    assert in_duckdb(folder) == in_polars(folder) == in_pandas(folder) == expected(FILES)
    export_dataset(manager, store, folder)
    assert not left.exists()
    assert in_polars(folder, pattern="") == expected(FILES)


def test_ends_of_a_series_are_known_without_its_bars(store, put, manager):
    assert store
    put({"MSFT_1m": HEADER})
    first, last = manager.bounds("EURUSD", "1m")
    assert (first, last) == (
        datetime(2023, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2026, 3, 10, 23, 59, tzinfo=UTC),
    )
    assert manager.bounds("MSFT", "1m") is None
    with pytest.raises(UnknownSeries, match="NONE_1m"):
        manager.bounds("NONE", "1m")


def test_the_lines_of_the_page_run(store, manager, scratch, monkeypatch, capsys):
    export_dataset(manager, store, scratch / "bars")
    monkeypatch.chdir(scratch)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(block, names)
    wanted = [row for row in expected(FILES) if row[6:] == ("AAPL", "1m", 2026)]
    assert names["bars"].fetchall() == wanted
    assert names["frame"].sort("timestamp").collect().rows() == wanted
    assert list(names["minutes"].itertuples(index=False, name=None)) == wanted
    assert "False gap-filler is not running" in capsys.readouterr().out
