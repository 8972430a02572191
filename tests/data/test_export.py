import json
import subprocess
import sys

import pandas as pd
import pyarrow.feather
import pyarrow.parquet
import pytest

from ktrdr.data.data_manager import DataManager
from ktrdr.data.export import export_bars
from ktrdr.errors import InvalidRequest, StoreUnwritable, UnknownSeries
from tests.fake_connection import line, price, utc

HEADER = "timestamp,open,high,low,close,volume\n"
FIRST = utc("2026-11-18 10:00")
READERS = {".parquet": pyarrow.parquet.read_table, ".feather": pyarrow.feather.read_table}


@pytest.fixture
def manager(make_settings, data_dir):
    for symbol, first in (("AAPL", FIRST), ("MSFT", FIRST + 60)):
        rows = "".join(line(price(first + 60 * i)) for i in range(3))
        (data_dir / f"{symbol}_1m.csv").write_text(HEADER + rows)
    return DataManager(make_settings())


@pytest.mark.parametrize("ending", READERS)
def test_other_programs_read_what_is_exported(manager, scratch, ending):
    path = scratch / f"bars{ending}"
    export_bars(manager, ["MSFT", "AAPL"], "1m", path, end="2026-11-18 10:03")
    found = READERS[ending](path).to_pylist()
    expected = [("MSFT", FIRST + 60), ("MSFT", FIRST + 120)]
    expected += [("AAPL", FIRST + 60 * i) for i in range(3)]
    names = ("open", "high", "low", "close", "volume")
    assert found == [
        {"symbol": symbol, "timestamp": pd.Timestamp(start, unit="s", tz="UTC")}
        | dict(zip(names, price(start)[1:], strict=True))
        for symbol, start in expected
    ]


@pytest.mark.parametrize("ending", READERS)
def test_the_file_says_whose_bars_it_has_and_whether_that_is_all(
    manager, data_dir, scratch, ending
):
    (data_dir / ".ktrdr").mkdir(exist_ok=True)
    (data_dir / ".ktrdr" / "source").write_text("simulated\n")
    path = scratch / f"bars{ending}"
    export_bars(manager, ["MSFT", "AAPL"], "1m", path)
    facts = json.loads(READERS[ending](path).schema.metadata[b"ktrdr"])
    assert facts.pop("why").startswith("MSFT: gap-filler is not running")
    assert facts.pop("written_by").startswith("ktrdr ")
    assert facts == {
        "source": "simulated",
        "complete": False,
        "symbols": ["MSFT", "AAPL"],
        "timeframe": "1m",
    }
    read = pd.read_parquet if ending == ".parquet" else pd.read_feather
    assert (read(path).attrs["source"], read(path).attrs["complete"]) == ("simulated", False)


def test_what_cannot_be_exported_leaves_the_file_as_it_was(manager, scratch):
    path = scratch / "bars.parquet"
    path.write_text("old")
    with pytest.raises(UnknownSeries, match="NONE_1m"):
        export_bars(manager, ["AAPL", "NONE"], "1m", path)
    with pytest.raises(InvalidRequest, match=r"bars\.xlsx: expected a name that ends in .parquet"):
        export_bars(manager, ["AAPL"], "1m", scratch / "bars.xlsx")
    with pytest.raises(StoreUnwritable, match=r"nowhere.bars\.feather: No such file"):
        export_bars(manager, ["AAPL"], "1m", scratch / "nowhere" / "bars.feather")
    assert path.read_text() == "old"


def test_the_command_line_says_what_was_written_and_whether_that_is_all(manager, data_dir, scratch):
    path = scratch / "bars.feather"
    command = [sys.executable, "-m", "ktrdr.cli", "export", "AAPL", "--timeframe", "1m"]
    done = subprocess.run(
        [*command, "--to", path],
        env={"KTRDR_DATA_DIR": str(data_dir), "KTRDR_RUN_DIR": str(scratch / "run")},
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
    )
    assert done.returncode == 0
    assert done.stdout.split() == ["3", "bars", "in", str(path)]
    assert done.stderr.startswith("AAPL is not complete: ")
    assert manager is not None
