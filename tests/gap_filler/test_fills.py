"""Fills of a gap filler: what a person asked for is kept until it is done or cancelled."""

import asyncio
import contextlib
import sqlite3
import time
from concurrent.futures import Executor, Future

import pytest

from ktrdr.errors import (
    InvalidRequest,
    NotConnected,
    PeerDown,
    RequestFailed,
    StoreUnwritable,
    UnknownContract,
    UnknownFill,
    WrongSource,
)
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.gap_filler.routes import routes
from ktrdr.ipc.messages import LastError
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import DAY, Inline, coverage_of, utc
from tests.fake_connection import fill as run

AAPL = parse_series("AAPL_1d.csv")


@pytest.fixture
def filler(make_filler, put):
    put("AAPL_1d")
    return make_filler()


def ask(filler, method, path, **query):
    """As somebody at its socket."""
    return asyncio.run(routes(filler)[method, path](query))


def fill(filler, since="2026-11-01", symbol="AAPL", timeframe="1d"):
    said = ask(filler, "POST", "/fill", symbol=symbol, timeframe=timeframe, **{"from": since})
    assert said.pop("accepted")
    return said


def fills(filler):
    return ask(filler, "GET", "/fills")["fills"]


def state(filler):
    (one,) = fills(filler)
    return one["state"]


def first_day(data_dir, name="AAPL_1d"):
    return (data_dir / f"{name}.csv").read_text().splitlines()[1][:10]


# Written down before it is acknowledged.


def test_a_fill_goes_on_after_a_kill_at_once_after_it_was_acknowledged(
    filler, make_filler, data_dir
):
    said = fill(filler)
    assert (said["id"], said["state"], said["from"]) == (1, "queued", "2026-11-01T00:00:00+00:00")
    assert said["scan_id"]
    again = make_filler()
    run(again)
    assert first_day(data_dir) == "2026-11-01"
    assert state(again) == "done"


def test_a_symbol_in_other_letters_is_suggested(filler):
    run(filler)
    with pytest.raises(InvalidRequest, match="not in the store") as caught:
        fill(filler, symbol="aapl")
    assert caught.value.hint.startswith("did you mean AAPL? Else keep it: ")


def test_a_locked_ledger_refuses_the_fill_and_pretends_nothing(filler, data_dir):
    run(filler)
    with contextlib.closing(sqlite3.connect(data_dir / ".ktrdr/ledger.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnwritable, match="locked"):
            fill(filler)
        other.rollback()
    assert fills(filler) == []
    fill(filler)
    run(filler)
    assert first_day(data_dir) == "2026-11-01"


def test_a_fill_of_a_store_of_another_source_is_refused_and_leaves_no_trace(filler, data_dir):
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr/source").write_text("live\n")
    with pytest.raises(WrongSource, match="holds live bars, and the gateway is simulated"):
        fill(filler)
    assert not (data_dir / ".ktrdr/ledger.sqlite").exists()


def test_a_fill_is_kept_after_somebody_has_deleted_the_ledger(filler, data_dir, wait_for):
    run(filler)
    (data_dir / ".ktrdr/ledger.sqlite").unlink()

    def is_kept():
        filler.step()
        with contextlib.suppress(StoreUnwritable):
            return fill(filler)

    wait_for(is_kept)
    run(filler)
    assert state(filler) == "done"
    assert first_day(data_dir) == "2026-11-01"


# Several of one series.


def test_a_later_fill_does_not_cancel_an_earlier_one(filler, connection, data_dir):
    connection.connected = False
    for since in ("2026-06-01", "2026-11-01"):
        fill(filler, since)
        filler.step()
    connection.connected = True
    run(filler)
    assert first_day(data_dir) == "2026-06-01"
    assert [one["state"] for one in fills(filler)] == ["done", "done"]


def test_the_answer_says_what_was_wanted_already(filler, data_dir):
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = 2026-07-01\n")
    filler.step()
    first = fill(filler, "2026-06-01")
    assert (first["already"], first["since"]) == ([], "2026-07-01T00:00:00+00:00")
    second = fill(filler, "2026-11-01")
    assert [(one["id"], one["from"][:10]) for one in second["already"]] == [
        (first["id"], "2026-06-01")
    ]


def test_a_fill_that_is_cancelled_gives_back_what_no_other_wants(filler, connection, data_dir):
    connection.connected = False
    ids = [fill(filler, since)["id"] for since in ("2026-06-01", "2026-11-01")]
    filler.step()
    said = ask(filler, "DELETE", "/fills", id=str(ids[0]))
    assert [one["state"] for one in said["cancelled"]] == ["cancelled"]
    connection.connected = True
    run(filler)
    assert first_day(data_dir) == "2026-11-01"
    assert [one["state"] for one in fills(filler)] == ["cancelled", "done"]


def test_a_fill_that_is_cancelled_does_not_take_away_what_since_wants(filler, connection, data_dir):
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = 2026-11-01\n")
    connection.connected = False
    fill(filler, "2026-06-01")
    filler.step()
    ask(filler, "DELETE", "/fills", symbol="AAPL", timeframe="1d")
    connection.connected = True
    run(filler)
    assert first_day(data_dir) == "2026-11-01"


def test_bars_that_were_fetched_stay_when_the_fill_is_cancelled(filler, data_dir):
    fill(filler, "2026-06-01")
    run(filler)
    text = (data_dir / "AAPL_1d.csv").read_text()
    ask(filler, "DELETE", "/fills", id="1")
    run(filler)
    assert (data_dir / "AAPL_1d.csv").read_text() == text
    (entry,) = coverage_of(filler)["series"]
    assert entry["state"] == "complete"


def test_a_fill_that_was_cancelled_takes_effect_without_a_scan(filler, connection, clock):
    connection.connected = False
    fill(filler, "2026-06-01")
    filler.step()
    scanned = filler.status.last_scan_time
    clock.now += 1
    ask(filler, "DELETE", "/fills", id="1")
    filler.step()
    connection.connected = True
    run(filler)
    assert min(start for _, _, start, _ in connection.requested) >= utc("2026-11-10")
    assert filler.status.last_scan_time == scanned


def test_what_is_not_there_cannot_be_cancelled(filler):
    with pytest.raises(UnknownFill, match="no fill 7") as refused:
        ask(filler, "DELETE", "/fills", id="7")
    assert "ktrdr fills" in refused.value.hint
    with pytest.raises(UnknownFill, match="no open fill of AAPL_1d"):
        ask(filler, "DELETE", "/fills", symbol="AAPL", timeframe="1d")


# What may be asked for.


@pytest.mark.parametrize("since", ["2026-11-21", "2030-01-01", "1969-12-31", "soon", ""])
def test_a_day_to_come_or_before_1970_or_none_is_refused(filler, since):
    with pytest.raises(InvalidRequest, match=f"from={since}: expected") as refused:
        fill(filler, since)
    assert "such as 2020-01-01" in refused.value.hint
    assert fills(filler) == []


@pytest.mark.parametrize("symbol", ["", "../AAPL", "A/B"])
def test_what_is_no_symbol_is_refused(filler, symbol):
    with pytest.raises(InvalidRequest, match="symbol"):
        fill(filler, symbol=symbol)


def test_a_file_that_was_made_just_now_is_filled_without_a_scan_before(filler, put, data_dir):
    run(filler)
    with pytest.raises(InvalidRequest, match=r"ORCL_1d\.csv is not in the store"):
        fill(filler, symbol="ORCL")
    put("ORCL_1d")
    fill(filler, symbol="ORCL")
    run(filler)
    assert first_day(data_dir, "ORCL_1d") == "2026-11-01"


# Where it stands.


def test_it_says_how_far_it_is(filler, connection):
    connection.absent = {utc(f"2026-11-{day}") for day in range(10, 18)}
    fill(filler)
    run(filler)
    (one,) = fills(filler)
    assert (one["expected"], one["present"], one["missing"]) == (20, 12, {"unproven": 8})
    assert one["state"] == "unproven"
    assert "not verified yet" in one["why"]


def test_it_waits_for_the_connection_and_says_what_to_do(filler, connection):
    connection.down = PeerDown("ib-connection is not running", hint="supervisorctl status")
    fill(filler)
    filler.step()
    (one,) = fills(filler)
    assert one["state"] == "waiting"
    assert (one["why"], one["hint"]) == ("ib-connection is not running", "supervisorctl status")
    connection.down = None
    run(filler)
    assert state(filler) == "done"


def test_it_waits_for_the_gateway_and_says_what_to_do(filler, connection):
    connection.last_error = LastError(502, "Connection refused", "start the gateway")
    connection.connected = False
    fill(filler)
    filler.step()
    (one,) = fills(filler)
    assert (one["why"], one["hint"]) == (
        "no data from IB: Connection refused",
        "start the gateway",
    )


class Unanswered(Executor):
    """Everything that it is told to do stays under way."""

    def submit(self, *_work, **_options):
        return Future()


def test_what_is_under_way_when_the_gateway_goes_waits_for_it_and_goes_on(
    make_settings, connection, clock, put
):
    """ib-connection keeps such requests for a while, and answers none of them."""
    connection.last_error = LastError(502, "Connection refused", "start the gateway")
    put("AAPL_1d")
    with contextlib.closing(GapFiller(make_settings(), connection, clock, Unanswered())) as filler:
        fill(filler)
        filler.step()
        assert (filler.status.state, filler.status.waits_for) == ("filling", "")
        for is_connected, state, why in (
            (False, "waiting", "no data from IB: Connection refused"),
            (True, "filling", ""),
        ):
            connection.connected = is_connected
            clock.now += 6
            filler.step()
            assert (filler.status.state, filler.status.waits_for) == (state, why)
            (one,) = fills(filler)
            assert (one["why"], one["hint"]) == (why, "start the gateway" if why else "")


class Slow(Inline):
    """Answers at once, until it is asked to keep requests for bars under way."""

    is_slow = False

    def submit(self, work, /, *args, **kwargs):
        is_kept = self.is_slow and "_bars" in repr(work)
        return Future() if is_kept else super().submit(work, *args, **kwargs)


def test_a_series_is_complete_while_requests_of_a_paused_fill_are_under_way(
    make_settings, connection, clock, put
):
    """Its state says the same as the verdict, which counts it among the complete ones."""
    put("AAPL_1d")
    slow = Slow()
    with contextlib.closing(GapFiller(make_settings(), connection, clock, slow)) as filler:
        run(filler)
        slow.is_slow = True
        fill(filler, since="2025-06-01")
        filler.step()
        assert [one["state"] for one in coverage_of(filler)["series"]] == ["filling"]
        ask(filler, "POST", "/fills/pause", id="1")
        filler.step()
        assert (filler.status.state, filler.status.current) == ("filling", ("AAPL_1d",))
        assert filler.status.series_current == 1
        assert [one["state"] for one in coverage_of(filler)["series"]] == ["complete"]


def test_a_contract_that_does_not_exist_is_accepted_and_says_so(filler, connection):
    error = UnknownContract("IB knows no AAPL", code=200, hint="see how IB spells it")
    connection.refusals["AAPL"] = error
    fill(filler)
    run(filler)
    (one,) = fills(filler)
    assert (one["state"], one["why"], one["hint"]) == ("failed", error.message, error.hint)
    connection.refusals.clear()
    filler.request_scan()
    run(filler)
    assert state(filler) == "done"


def test_an_error_of_before_it_was_requested_is_none_of_its_own(filler, connection):
    connection.bars_refusals["AAPL"] = RequestFailed("an old one", code=162)
    run(filler)
    assert coverage_of(filler)["series"][0]["error"] == "an old one"
    fill(filler)
    assert state(filler) == "queued"
    connection.bars_refusals["AAPL"] = RequestFailed("a new one", code=162)
    run(filler)
    assert "a new one; tried again at" in fills(filler)[0]["why"]


def test_a_lost_connection_in_the_middle_is_reported(filler, connection):
    fill(filler)
    connection.bars_refusals["AAPL"] = NotConnected("the connection broke")
    filler.step()
    run(filler)
    assert state(filler) == "waiting"


def test_a_file_that_goes_in_the_meantime_is_reported_and_the_fill_goes_on_when_it_is_back(
    filler, connection, put, data_dir
):
    connection.connected = False
    fill(filler)
    filler.step()
    (data_dir / "AAPL_1d.csv").unlink()
    filler.note_changed_files(["AAPL_1d.csv"])
    filler.step()
    (one,) = fills(filler)
    assert (one["state"], one["hint"]) == (
        "failed",
        "create it with the header line, or cancel the fill",
    )
    put("AAPL_1d")
    filler.note_changed_files(["AAPL_1d.csv"])
    connection.connected = True
    run(filler)
    assert state(filler) == "done"
    assert first_day(data_dir) == "2026-11-01"


def test_what_is_done_stays_so_and_is_kept_complete(filler, clock, data_dir):
    fill(filler)
    run(filler)
    clock.now += DAY
    path = data_dir / "AAPL_1d.csv"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows[:3] + rows[5:]))
    filler.request_scan()
    run(filler)
    (one,) = fills(filler)
    assert (one["state"], one["expected"], one["present"]) == ("done", 20, 20)
    assert len(path.read_text().splitlines()) == len(rows) + 1


def test_bars_that_come_due_later_are_not_waited_for(filler, connection, clock, put):
    put("AAPL_1m")
    run(filler)
    connection.connected = False
    fill(filler, "2026-11-19", timeframe="1m")
    clock.now += 20 * 3600
    filler.step()
    assert state(filler) == "done"


def test_nothing_is_done_while_clocks_are_apart(filler, connection):
    tells, off = connection.get, {"clock_offset_s": -3600.0}
    connection.get = lambda path, *more, **query: (
        off
        if path == "/clock"
        else tells(path, *more, **query) | (off if path == "/status" else {})
    )
    filler.step()
    fill(filler)
    run(filler)
    assert state(filler) == "waiting"


def test_the_status_counts_the_open_ones(filler, connection):
    connection.connected = False
    fill(filler)
    filler.step()
    assert filler.status.fills == {"waiting": 1}
    connection.connected = True
    run(filler)
    assert filler.status.fills == {}


def test_fills_of_one_symbol_can_be_requested(filler, put):
    put("MSFT_1d")
    fill(filler)
    fill(filler, symbol="MSFT")
    (one,) = ask(filler, "GET", "/fills", symbol="MSFT")["fills"]
    assert one["symbol"] == "MSFT"


class SlowStore(CsvStore):
    """Its disk takes its time."""

    def add(self, series, bars, **how):
        time.sleep(0.15)
        return super().add(series, bars, **how)


def test_what_is_requested_has_its_turn_while_many_answers_wait(
    make_settings, connection, clock, put
):
    """All answers are there at once, and two seconds are not enough to store them."""
    symbols = [f"S{number:02}" for number in range(20)]
    for symbol in symbols:
        put(f"{symbol}_1d")
    settings = make_settings(ktrdr_gap_batch_symbols=20, ktrdr_gap_max_age_days=3)
    store = SlowStore(settings.data_dir, indexed=True)
    with contextlib.closing(GapFiller(settings, connection, clock, Inline(), store)) as filler:
        while not connection.requested:
            filler.step()
        put("NEW_1d")
        filler.note_changed_files(["NEW_1d.csv"])
        for _ in range(2):
            assert filler.step()
        known = [one["symbol"] for one in coverage_of(filler)["series"]]
        assert "NEW" in known
        assert 0 < filler.status.bars_added < 20 * 4
        run(filler)
        assert filler.status.bars_added == 21 * 4


# Paused.


def pause(filler, number=1):
    return ask(filler, "POST", "/fills/pause", id=str(number))


def resume(filler, number=1):
    return ask(filler, "POST", "/fills/resume", id=str(number))


def test_a_paused_fill_requests_nothing_and_the_last_days_are_kept(
    filler, connection, clock, data_dir
):
    fill(filler, "2026-06-01")
    said = pause(filler)
    assert (said["state"], said["paused_at"]) == ("paused", "2026-11-20T15:00:00+00:00")
    run(filler)
    assert first_day(data_dir) == "2026-11-17"
    clock.now += DAY
    run(filler)
    assert (data_dir / "AAPL_1d.csv").read_text().splitlines()[-1][:10] == "2026-11-21"
    assert min(start for _, _, start, _ in connection.requested) >= utc("2026-11-16")
    assert state(filler) == "paused"
    assert filler.status.fills == {"paused": 1}
    assert filler.status.series_troubled == 0


def test_a_resumed_fill_goes_on(filler, data_dir):
    fill(filler, "2026-06-01")
    pause(filler)
    run(filler)
    said = resume(filler)
    assert (said["state"], said["paused_at"]) == ("queued", None)
    run(filler)
    assert first_day(data_dir) == "2026-06-01"
    assert state(filler) == "done"


def test_a_fill_stays_paused_after_a_restart(filler, make_filler, data_dir):
    fill(filler, "2026-06-01")
    pause(filler)
    again = make_filler()
    run(again)
    assert state(again) == "paused"
    assert first_day(data_dir) == "2026-11-17"


def test_a_paused_fill_keeps_the_counts_of_its_bars(filler, connection):
    connection.absent = {utc(f"2026-11-{day}") for day in range(10, 18)}
    fill(filler)
    run(filler)
    pause(filler)
    run(filler)
    (one,) = fills(filler)
    assert (one["state"], one["why"]) == ("paused", "")
    assert (one["expected"], one["present"], one["missing"]) == (20, 12, {"unproven": 8})


def test_a_fill_that_is_requested_again_is_not_paused_any_more(filler, data_dir):
    fill(filler, "2026-06-01")
    pause(filler)
    assert (fill(filler, "2026-06-01")["id"], state(filler)) == (1, "queued")
    run(filler)
    assert first_day(data_dir) == "2026-06-01"


def test_a_paused_fill_takes_nothing_away_from_another(filler, data_dir):
    fill(filler, "2026-06-01")
    fill(filler, "2026-11-01")
    pause(filler)
    run(filler)
    assert first_day(data_dir) == "2026-11-01"
    assert [one["state"] for one in fills(filler)] == ["paused", "done"]


def test_a_paused_fill_can_be_cancelled(filler):
    fill(filler)
    pause(filler)
    ask(filler, "DELETE", "/fills", id="1")
    assert state(filler) == "cancelled"


@pytest.mark.parametrize("number", ["7", "", "-1", "1.5", "²", "9" * 30])
def test_a_fill_that_is_not_there_cannot_be_paused(filler, number):
    fill(filler)
    for change in (pause, resume):
        with pytest.raises(UnknownFill, match="there is no fill"):
            change(filler, number)


def test_a_fill_that_is_done_or_cancelled_cannot_be_paused(filler):
    fill(filler)
    run(filler)
    with pytest.raises(InvalidRequest, match="fill 1 is done"):
        pause(filler)
    ask(filler, "DELETE", "/fills", id="1")
    with pytest.raises(InvalidRequest, match="fill 1 is cancelled") as refused:
        resume(filler)
    assert refused.value.hint == "request it again"


# What comes next.


def queue(filler):
    listed = ask(filler, "GET", "/fills")
    return [(one["symbol"], one["timeframe"], one["state"]) for one in listed["queue"]]


def test_the_queue_has_the_series_in_the_order_of_the_next_batches(
    make_filler, connection, put, clock
):
    for name in ("AAPL_1d", "IBM_1d", "MSFT_1d", "MSFT_1h", "SPY_1d"):
        put(name)
    filler = make_filler(ktrdr_gap_batch_symbols=1)
    connection.bars_refusals = {"IBM": RequestFailed("IB's 162")}
    run(filler)
    connection.connected = False
    clock.now += DAY
    filler.step()
    assert queue(filler) == [
        ("AAPL", "1d", "next"),
        ("IBM", "1d", "next"),
        ("MSFT", "1h", "next"),
        ("MSFT", "1d", "next"),
        ("SPY", "1d", "next"),
    ]
    put("ACME_1d")
    filler.note_changed_files(["ACME_1d.csv"])
    filler.step()
    assert queue(filler)[0] == ("ACME", "1d", "next")  # it has never had a turn
    connection.connected = True
    filler.step()
    assert "ACME" not in [symbol for symbol, _, _ in queue(filler)]
    assert queue(filler)[0] == ("AAPL", "1d", "next")
    listed = ask(filler, "GET", "/fills")
    waited = "it has waited since its last turn at 2026-11-20T15:00:00+00:00"
    assert listed["queue"][0]["why"] == f"its newest bars; {waited}"
    assert listed["queue"][0]["missing"] == 1
    assert "1 at a time" in listed["rule"]


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ({"2026-11-20"}, "its newest bars; "),
        ({"2026-11-10"}, "gaps of the last 40 days; "),
        ({"2026-09-10"}, "older history; "),
        ({"2026-09-10", "2026-11-10"}, "gaps of the last 40 days; "),
    ],
)
def test_the_queue_says_what_is_requested_first(make_filler, connection, put, missing, what):
    put("AAPL_1d")
    filler = make_filler(ktrdr_gap_max_age_days=90)
    run(filler)
    connection.connected = False
    days = range(utc("2026-08-22"), utc("2026-11-21"), DAY)
    put("AAPL_1d", [day for day in days if day not in {utc(one) for one in missing}])
    filler.note_changed_files(["AAPL_1d.csv"])
    filler.step()
    (one,) = ask(filler, "GET", "/fills")["queue"]
    assert one["missing"] == len(missing)
    assert one["why"].startswith(what)


def test_the_queue_says_when_a_refused_series_is_tried_again(filler, connection):
    connection.refusals = {"AAPL": RequestFailed("IB's 162")}
    run(filler)
    (one,) = ask(filler, "GET", "/fills")["queue"]
    assert (one["state"], one["why"]) == ("later", "tried again later: IB's 162")
    assert one["at"] == "2026-11-20T15:00:30+00:00"


def test_nothing_is_queued_when_nothing_is_missing(filler):
    assert queue(filler) == []
    run(filler)
    assert queue(filler) == []
