"""What is said beforehand is what is requested and written then, and saying it changes nothing."""

from pathlib import Path

import pytest

from ktrdr.errors import MalformedFile, NotUnderstood, WrongSource
from ktrdr.gap_filler.dry_run import DryRun
from ktrdr.sqlite_file import reading
from tests.fake_connection import HEADER, fill, line, price, utc
from tests.gap_filler.test_gap_filler import starts_in

DAY = utc("2026-11-19 10:00")


@pytest.fixture
def dry_run(make_settings, clock, data_dir):
    """The plan for each series by its name; nothing in the folder may change for that."""

    def dry_run(**given):
        settings = make_settings(**{"ktrdr_gap_max_age_days": 3, **given})
        before = content(data_dir)
        planned = DryRun(settings, clock).planned(lambda _series: True)
        assert content(data_dir) == before
        return {str(one.series): one for one in planned}

    return dry_run


def content(folder: Path):
    """Every file with its content; of the ledger all rows, as the reader of a log may touch it."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = {path: text for path, text in files.items() if "sqlite" not in path.name}
    for path in folder.rglob("*.sqlite"):
        with reading(path) as database:
            found[path] = "\n".join(database.iterdump())
    return found


def requested_of(connection, symbol):
    return sorted(one[2:] for one in connection.requested if one[0] == symbol)


def test_the_requests_are_those_that_are_sent_then_and_the_bars_those_that_come(
    dry_run, make_filler, put, connection, clock
):
    files = {
        "AAPL_1m": put("AAPL_1m", range(DAY, DAY + 1800, 60)),
        "MSFT_1h": put("MSFT_1h"),
        "KO_1d": put("KO_1d", [utc("2026-11-17")]),
    }
    filler = make_filler()
    fill(filler)
    for path in files.values():
        rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join(rows[: len(rows) // 2]))
    clock.now += 86400
    planned = dry_run()
    before = {name: starts_in(path) for name, path in files.items()}
    connection.requested.clear()
    filler.request_scan()
    fill(filler)
    for name, path in files.items():
        spans = sorted((one.start, one.end) for one in planned[name].requests)
        assert spans == requested_of(connection, name.partition("_")[0])
        new = set(starts_in(path)) - set(before[name])
        last = max(before[name], default=0)
        assert planned[name].appended == sum(start > last for start in new) > 0
        assert planned[name].inserted == sum(start < last for start in new)
        assert planned[name].error is None


def test_bars_between_rows_are_told_from_those_behind_them(dry_run, make_filler, put):
    path = put("AAPL_1m")
    fill(make_filler())
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows[:101] + rows[103:-4]))
    (one,) = dry_run().values()
    assert (one.inserted, one.appended, one.is_owned) == (2, 4, False)


def test_requests_that_wait_for_a_comparison_count_too(dry_run, put):
    put("AAPL_1m", range(DAY + 5 * 3600, DAY + 6 * 3600, 60))
    (one,) = dry_run(ktrdr_gap_max_age_days=60).values()
    assert len(one.requests) > 2
    assert min(request.start for request in one.requests) == utc("2026-09-21 13:30")


def test_a_complete_series_needs_nothing(dry_run, make_filler, put):
    put("AAPL_1m")
    fill(make_filler())
    (one,) = dry_run().values()
    assert (one.requests, one.bars, one.wants_sessions, one.is_owned) == ((), 0, False, True)


def test_before_the_first_start_the_usual_sessions_count(dry_run, put, data_dir):
    put("AAPL_1h")
    put("SIE_1h")
    (data_dir / "instruments.toml").write_text('[SIE]\ncurrency = "EUR"\nexchange = "IBIS"\n')
    planned = dry_run()
    aapl = planned["AAPL_1h"]
    assert aapl.by_usual_sessions
    assert aapl.wants_sessions
    assert aapl.appended == 3 * 7  # Tuesday to Thursday, from 09:30 to 16:00 in New York
    assert len(aapl.requests) == 1
    sie = planned["SIE_1h"]
    assert (sie.wants_sessions, sie.requests, sie.bars) == (True, (), 0)


def test_sessions_of_a_contract_are_requested_once_for_all_of_its_series(dry_run, put):
    put("AAPL_1h")
    put("AAPL_1m")
    planned = dry_run()
    assert [one.wants_sessions for one in planned.values()] == [True, False]
    assert all(one.by_usual_sessions for one in planned.values())


def test_what_cannot_be_filled_is_named_with_the_reason(dry_run, make_filler, put, data_dir):
    put("AAPL_1m")
    (data_dir / "BAD_1m.csv").write_text("what is this\n")
    minutes = range(DAY + 9 * 3600, DAY + 11 * 3600, 60)  # a session by Tokyo's clock
    local = "".join(line(price(start)).replace("+00:00", "") for start in minutes)
    (data_dir / "LOCAL_1m.csv").write_text(HEADER + local)
    (data_dir / "LOOP_1m.csv").symlink_to("LOOP_1m.csv")
    fill(make_filler())
    (data_dir / "AAPL_1m.csv").write_text(HEADER)
    planned = dry_run()
    assert isinstance(planned["BAD_1m"].error, MalformedFile)
    assert isinstance(planned["LOCAL_1m"].error, NotUnderstood)
    assert "as Asia/Tokyo 120 of 120" in planned["LOCAL_1m"].error.message
    assert isinstance(planned["LOOP_1m"].error, MalformedFile)
    assert planned["AAPL_1m"].bars > 0
    assert not any(one.requests for one in planned.values() if one.error)


def test_what_is_not_kept_is_not_planned(dry_run, put, data_dir):
    put("AAPL_1m")
    put("AAPL_1h")
    (data_dir / "instruments.toml").write_text('[AAPL]\nwatch = { "1m" = false }\n')
    assert list(dry_run()) == ["AAPL_1h"]


def test_a_store_of_the_other_source_is_refused(dry_run, make_filler, put):
    put("AAPL_1m")
    fill(make_filler())
    with pytest.raises(WrongSource):
        dry_run(ib_host="127.0.0.1")
