import os
from datetime import UTC, datetime

import pandas as pd
import pytest

from ktrdr.completeness.gaps import Gap
from ktrdr.data.data_manager import DataManager
from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import contract_name, instrument_for
from ktrdr.market.sessions import Schedule, Session
from tests.fake_connection import DAY, line, price, utc

HEADER = "timestamp,open,high,low,close,volume\n"
MONDAY, FRIDAY = utc("2026-11-16"), utc("2026-11-20")
AAPL = contract_name(instrument_for("AAPL"))


@pytest.fixture
def manager(make_settings):
    return DataManager(make_settings())


@pytest.fixture
def path(data_dir):
    """Two trading days of 15:00 to 15:10 UTC, of which the second lacks three minutes."""
    starts = [MONDAY + 15 * 3600 + 60 * i for i in range(10)]
    starts += [MONDAY + DAY + 15 * 3600 + 60 * i for i in range(10) if i not in (2, 3, 7)]
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + "".join(line(price(start)) for start in starts))
    return path


@pytest.fixture
def ledger(data_dir):
    """It has ten minutes of sessions on each of four days, and a proven absence in the second."""
    days = range(MONDAY, FRIDAY, DAY)
    sessions = tuple(Session(day + 15 * 3600, day + 15 * 3600 + 600, day) for day in days)
    ledger = Ledger(data_dir / ".ktrdr" / "ledger.sqlite")
    now = int(datetime.now(UTC).timestamp())
    ledger.contracts.keep_schedule(AAPL, Schedule("UTC", MONDAY, FRIDAY, sessions), now)
    absent = MONDAY + DAY + 15 * 3600 + 7 * 60
    ledger.absences.record_absent(f"AAPL_1m {AAPL}", [Gap(absent, absent, 1)], now)
    ledger.close()


@pytest.fixture
def told(make_settings):
    """A gap filler that says this of the store."""

    def told(*said, scan_time="2026-11-20T10:00:00+00:00"):
        async def coverage(_query):
            return {"series": list(said), "scan_time": scan_time}

        routes = {("GET", "/coverage"): coverage}
        return serving(LocalServer(make_settings().gap_filler_socket, routes))

    return told


def said_of(symbol, timeframe, **given):
    names = {"symbol": symbol, "timeframe": timeframe, "file": f"{symbol}_{timeframe}.csv"}
    return names | {"state": "complete"} | given


def test_all_series_are_listed_with_what_they_lack(manager, told):
    known = {"expected": 10, "present": 6, "missing": {"failed": 1, "no_trades": 3}}
    times = {"first": "2026-11-16T15:00:00+00:00", "last": "2026-11-17T15:09:00+00:00"}
    refused = {"error": "no permission", "hint": "subscribe", "state": "failed"}
    absent = {"expected": 2, "present": 1, "missing": {"no_trades": 1}}
    with told(
        said_of("MSFT", "1d", **refused),
        said_of("AAPL", "1h", **absent),
        said_of("AAPL", "5m", **known, **times, state="waiting"),
    ):
        frame = manager.series()
    assert list(frame["symbol"]) == ["AAPL", "AAPL", "MSFT"]
    assert list(frame["timeframe"]) == ["5m", "1h", "1d"]
    assert list(frame["state"]) == ["waiting", "complete", "failed"]
    first, second, third = frame.to_dict("records")
    assert first["first"] == pd.Timestamp("2026-11-16 15:00", tz="UTC")
    assert (first["expected"], first["present"], first["missing"]) == (10, 6, 1)
    assert (first["complete"], first["why"]) == (False, "1 failed")
    assert (second["complete"], second["why"]) == (True, "")
    assert frame["complete"].isna().tolist() == [False, False, True]
    assert (third["why"], third["next_step"]) == ("no permission", "subscribe")
    assert frame["expected"].isna().tolist() == [False, False, True]
    assert frame.attrs == {
        "source": None,
        "by": "gap-filler",
        "why": "",
        "as_of": "2026-11-20T10:00:00+00:00",
    }


def test_without_the_gap_filler_the_files_are_listed(manager, path, data_dir):
    (data_dir / "MSFT_1d.csv").write_text(HEADER)
    (data_dir / "X_1m.csv").write_text("no header\n")
    frame = manager.series().set_index("symbol")
    assert frame["first"]["AAPL"] == pd.Timestamp("2026-11-16 15:00", tz="UTC")
    assert frame["last"]["AAPL"] == pd.Timestamp("2026-11-17 15:09", tz="UTC")
    assert frame["first"].isna().to_dict() == {"AAPL": False, "MSFT": True, "X": True}
    assert frame["state"].isna().to_dict() == {"AAPL": True, "MSFT": True, "X": False}
    assert "X_1m.csv" in frame["why"]["X"]
    for unknown in ("expected", "present", "missing", "complete"):
        assert frame[unknown].isna().all()
    assert frame.attrs["by"] == "folder"
    assert "gap-filler is not running" in frame.attrs["why"]
    assert path.exists()


def test_an_empty_store_has_no_series(manager, told):
    assert len(manager.series()) == 0
    with told(scan_time=None):
        frame = manager.series()
    assert (len(frame), frame.attrs["as_of"]) == (0, None)
    assert "first scan" in frame.attrs["why"]


@pytest.mark.usefixtures("path", "ledger")
def test_the_ledger_knows_what_days_lack_while_no_program_runs(manager):
    days = manager.coverage("AAPL", "1m")
    assert [f"{day:%Y-%m-%d}" for day in days.index] == [
        "2026-11-16",
        "2026-11-17",
        "2026-11-18",
        "2026-11-19",
    ]
    assert days["expected"].tolist() == [10] * 4
    assert days["present"].tolist() == [10, 7, 0, 0]
    assert days["missing"].tolist() == [0, 2, 10, 10]
    assert days["no_trades"].tolist() == [0, 1, 0, 0]
    assert days["failed"].sum() == 0
    assert (days.attrs["by"], days.attrs["until"]) == ("ledger", "2026-11-20T00:00:00+00:00")
    assert "gap-filler is not running" in days.attrs["why"]


@pytest.mark.usefixtures("path", "ledger")
def test_missing_intervals_end_with_their_last_bar(manager):
    gaps = manager.missing("AAPL", "1m", "2026-11-17", "2026-11-19")
    rows = [(f"{g.start:%d %H:%M}", f"{g.end:%d %H:%M}", g.bars) for g in gaps.itertuples()]
    assert rows == [("17 15:02", "17 15:04", 2), ("18 15:00", "18 15:10", 10)]
    assert str(gaps["start"].dtype) == "datetime64[s, UTC]"
    both = manager.missing("AAPL", "1m", "2026-11-17", "2026-11-18", absent=True)
    assert [(f"{g.start:%H:%M}", g.bars) for g in both.itertuples()] == [
        ("15:02", 2),
        ("15:07", 1),
    ]
    assert both["reason"].tolist()[1] == "no_trades"


@pytest.mark.usefixtures("path")
def test_the_gap_filler_knows_more_than_the_ledger(manager, told):
    gap = [MONDAY + DAY, MONDAY + DAY + 60, 2, "failed"]
    day = {"expected": 10, "present": 8, "missing": {"failed": 2}}
    said = said_of(
        "AAPL",
        "1m",
        expected=30,
        gaps=[gap],
        days=[{"date": f"2026-11-{n}"} | day for n in (16, 17, 18)],
        until="2026-11-19T00:00:00+00:00",
        **{"from": "2026-11-16T00:00:00+00:00"},
    )
    with told(said):
        days = manager.coverage("AAPL", "1m", "2026-11-16 12:00", "2026-11-18")
        gaps = manager.missing("AAPL", "1m")
    assert days["failed"].tolist() == [2, 2]
    assert (days.attrs["by"], days.attrs["why"]) == ("gap-filler", "")
    assert days.attrs["since"] == "2026-11-16T00:00:00+00:00"
    assert gaps["reason"].tolist() == ["failed"]


def test_what_nobody_knows_is_said(manager, path):
    days = manager.coverage("AAPL", "1m")
    assert (len(days), days.attrs["since"]) == (0, None)
    assert "no sessions of this contract" in days.attrs["why"]
    path.unlink()
    with pytest.raises(
        UnknownSeries, match=r"AAPL_1m\.csv – next step: to have it kept: ktrdr watch add AAPL 1m"
    ):
        manager.coverage("AAPL", "1m")
    with pytest.raises(InvalidRequest, match="2m"):
        manager.missing("AAPL", "2m")


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("start", "end", "complete"),
    [
        ("2026-11-16", "2026-11-17", True),
        ("2026-11-17 15:04", "2026-11-17 16:00", True),
        ("2026-11-17", "2026-11-18", False),
        ("2026-11-13", "2026-11-17", False),
    ],
)
def test_a_day_stays_complete_while_a_fill_changes_others(
    manager, told, path, start, end, complete
):
    said = said_of(
        "AAPL",
        "1m",
        expected=30,
        key=[1, 2, 3],
        until="2026-11-19T00:00:00+00:00",
        **{"from": "2026-11-01T00:00:00+00:00"},
    )
    with told(said):
        frame = manager.load("AAPL", "1m", start, end)
    assert frame.attrs["complete"] is complete
    assert frame.attrs["why"] == (
        "" if complete else "the gap filler has not assessed the file as it is now"
    )
    assert os.access(path, os.R_OK)


@pytest.mark.usefixtures("path", "ledger")
def test_a_day_stays_complete_while_a_fill_waits_for_older_sessions(manager, told):
    """Until these are there, the gap filler knows nothing of the whole series."""
    with told(said_of("AAPL", "1m", state="waiting")):
        monday = manager.load("AAPL", "1m", "2026-11-16", "2026-11-17")
        tuesday = manager.load("AAPL", "1m", "2026-11-17", "2026-11-18")
        open_end = manager.load("AAPL", "1m", "2026-11-16")
    with told(said_of("AAPL", "1m", error="another contract")):
        refused = manager.load("AAPL", "1m", "2026-11-16", "2026-11-17")
    complete = [frame.attrs["complete"] for frame in (monday, tuesday, open_end, refused)]
    assert complete == [True, False, False, False]
