"""The watch list: series are added, removed and changed at the gap filler's socket."""

import asyncio
import contextlib
import json
import threading

import pytest

from ktrdr.errors import (
    ContractConflict,
    InvalidRequest,
    Misconfigured,
    NotConnected,
    NotEntitled,
    PeerDown,
    PeerTimedOut,
    StoreGone,
    StoreUnwritable,
    TimedOut,
    UnknownSeries,
    WrongSource,
)
from ktrdr.gap_filler.routes import routes
from ktrdr.market.instruments import instrument_for
from tests.fake_connection import HEADER, coverage_of, utc
from tests.fake_connection import fill as run
from tests.store.test_probe import mounted, needs_root


@pytest.fixture
def filler(make_filler, put):
    put("AAPL_1d")
    filler = make_filler()
    run(filler)
    return filler


@pytest.fixture
def watched(group):
    """The gap filler of a group with the simulated gateway."""
    group.fill()
    return group.filler


def ask(filler, method, path, **query):
    """As somebody at its socket."""
    return asyncio.run(routes(filler)[method, path](query))


def add(filler, symbol, timeframe="1d", **more):
    return ask(filler, "POST", "/series", symbol=symbol, timeframe=timeframe, **more)


def remove(filler, symbol, timeframe="1d", **more):
    return ask(filler, "DELETE", "/series", symbol=symbol, timeframe=timeframe, **more)


def change(filler, symbol, timeframe="1d", **more):
    return ask(filler, "POST", "/series/settings", symbol=symbol, timeframe=timeframe, **more)


def states(filler):
    listed = ask(filler, "GET", "/series")["series"]
    return {f"{one['symbol']}_{one['timeframe']}": one["state"] for one in listed}


def toml(data_dir):
    path = data_dir / "instruments.toml"
    return path.read_text() if path.exists() else None


# Adding, with IB's word on the contract.


def test_a_series_that_is_added_is_made_and_filled(watched, group, data_dir):
    said = add(watched, "AAPL")
    assert (said["outcome"], said["file"]) == ("added", "AAPL_1d.csv")
    (contract,) = said["candidates"]
    assert contract["currency"] == "USD"
    assert contract["con_id"] > 0
    assert (data_dir / "AAPL_1d.csv").read_text() == HEADER
    group.fill()
    assert states(watched) == {"AAPL_1d": "complete"}
    assert toml(data_dir) is None


def test_an_ambiguous_symbol_makes_nothing_until_one_is_chosen(watched, group, data_dir):
    said = add(watched, "TWIN")
    assert (said["outcome"], toml(data_dir)) == ("ambiguous", None)
    assert not list(data_dir.glob("*.csv"))
    assert [one["exchange"] for one in said["candidates"]] == ["NASDAQ", "NYSE"]
    nyse = said["candidates"][1]
    assert nyse["toml"] == '[TWIN]\nprimary_exchange = "NYSE"'
    assert said["hint"]
    again = add(watched, "TWIN", con_id=str(nyse["con_id"]), since="2026-11-10")
    assert (again["outcome"], again["candidates"]) == ("added", [nyse])
    assert toml(data_dir) == ('[TWIN]\nprimary_exchange = "NYSE"\nsince = {1d = 2026-11-10}\n')
    group.fill()
    assert states(watched) == {"TWIN_1d": "complete"}
    assert (data_dir / "TWIN_1d.csv").read_text().splitlines()[1][:10] == "2026-11-10"


def test_the_contracts_of_a_symbol_are_requested_once_in_a_minute(watched, group):
    for timeframe in ("1d", "1h"):
        assert add(watched, "TWIN", timeframe)["outcome"] == "ambiguous"
        assert add(watched, "XYZQ", timeframe)["outcome"] == "unknown"
    requested = [
        one["symbol"]
        for one in group.gateway.record
        if (one["event"], one["kind"]) == ("received", "contract_details")
    ]
    assert requested.count("TWIN") == 1
    assert requested.count("XYZQ") == 2  # it is denied twice before that is believed


@pytest.mark.parametrize("symbol", ["XYZQ", "aapl"])
def test_an_unknown_symbol_makes_nothing(watched, group, data_dir, symbol):
    said = add(watched, symbol)
    assert (said["outcome"], said["candidates"]) == ("unknown", [])
    assert said["hint"]
    assert said["hint"].startswith("did you mean AAPL?") == (symbol == "aapl")
    assert [one.name for one in data_dir.iterdir() if one.suffix in (".csv", ".toml")] == []
    assert group.manager.status().refused == ()  # nobody keeps it


def test_a_symbol_without_permission_is_kept_and_says_so(watched, group):
    assert add(watched, "NOPERM")["outcome"] == "added"
    group.fill()
    assert states(watched) == {"NOPERM_1d": "failed"}


def refused(group):
    return [one.symbol for one in group.manager.status().refused]


def test_a_refused_contract_is_listed_until_no_series_of_it_is_kept(
    watched, group, data_dir, wait_for
):
    add(watched, "NOPERM")
    add(watched, "NOPERM", "1h")
    add(watched, "XYZQ", unchecked="true")
    group.fill()
    assert sorted(refused(group)) == ["NOPERM", "XYZQ"]
    (data_dir / "NOPERM_1d.csv").unlink()
    (data_dir / "XYZQ_1d.csv").unlink()
    watched.request_scan()
    group.fill()
    wait_for(lambda: refused(group) == ["NOPERM"])  # NOPERM_1h is kept
    remove(watched, "NOPERM", "1h")
    group.fill()
    wait_for(lambda: refused(group) == [])
    assert states(watched) == {"NOPERM_1h": "not_watched"}


def test_a_contract_that_is_refused_to_somebody_else_is_listed_no_longer(watched, group, wait_for):
    with pytest.raises(NotEntitled):
        group.manager.call(group.manager.head(instrument_for("NOPERM")))
    assert refused(group) == ["NOPERM"]
    watched.request_scan()
    group.fill()
    wait_for(lambda: refused(group) == [])


def test_the_candidates_are_shown_without_changing_anything(watched, data_dir):
    said = ask(watched, "GET", "/series/candidates", symbol="TWIN")
    assert [one["fields"] for one in said["candidates"]] == [
        {"primary_exchange": "NASDAQ"},
        {"primary_exchange": "NYSE"},
    ]
    (data_dir / "instruments.toml").write_text('[TWIN]\nprimary_exchange = "NYSE"\n')
    again = ask(watched, "GET", "/series/candidates", symbol="TWIN")
    assert again["candidates"] == said["candidates"]  # also those that were not chosen
    (one,) = ask(watched, "GET", "/series/candidates", symbol="AAPL")["candidates"]
    assert one["local_symbol"] == "AAPL"
    assert not list(data_dir.glob("*.csv"))


@pytest.mark.parametrize(
    ("symbol", "meant"), [("twin", "TWIN"), ("Twin", "TWIN"), ("AAPLX", "AAPL")]
)
def test_of_a_symbol_without_contracts_the_one_that_may_be_meant_is_named(
    watched, group, symbol, meant
):
    add(watched, "AAPL")
    group.fill()
    for said in (
        ask(watched, "GET", "/series/candidates", symbol=symbol),
        add(watched, symbol),
    ):
        assert said["candidates"] == []
        assert said["hint"].startswith(f"did you mean {meant}? ")
        assert said["hint"].count("did you mean") == 1
        assert "lse check the symbol" in said["hint"]


def test_another_contract_is_chosen_later(watched, data_dir):
    nasdaq, nyse = ask(watched, "GET", "/series/candidates", symbol="TWIN")["candidates"]
    add(watched, "TWIN", con_id=str(nyse["con_id"]))
    said = change(watched, "TWIN", con_id=str(nasdaq["con_id"]))
    assert said["candidates"] == [nasdaq]
    assert toml(data_dir) == '[TWIN]\nprimary_exchange = "NASDAQ"\n'
    with pytest.raises(InvalidRequest, match="con_id=7: expected one of those of TWIN"):
        change(watched, "TWIN", con_id="7")


def test_a_kept_series_keeps_its_contract_until_another_is_set(watched, group, data_dir):
    nasdaq, nyse = ask(watched, "GET", "/series/candidates", symbol="TWIN")["candidates"]
    add(watched, "TWIN", con_id=str(nyse["con_id"]))
    before = toml(data_dir)
    both = f"kept as the contract with con_id {nyse['con_id']}, and not {nasdaq['con_id']}"
    for timeframe in ("1d", "1h"):
        with pytest.raises(ContractConflict, match=both) as caught:
            add(watched, "TWIN", timeframe, con_id=str(nasdaq["con_id"]))
        assert f"ktrdr watch set TWIN {timeframe} --con-id" in caught.value.hint
    assert [one.name for one in data_dir.glob("*.csv")] == ["TWIN_1d.csv"]
    assert add(watched, "TWIN", con_id=str(nyse["con_id"]))["outcome"] == "watched_already"
    group.fill()
    assert add(watched, "TWIN", "1h", con_id=str(nyse["con_id"]))["outcome"] == "added"
    assert toml(data_dir) == before


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
@pytest.mark.parametrize("how", [{}, {"unchecked": "true"}, {"dry_run": "true"}])
def test_no_entry_is_needed_to_tell_another_contract(watched, group, data_dir, timeframe, how):
    add(watched, "AAPL")
    group.fill()
    (aapl,) = ask(watched, "GET", "/series/candidates", symbol="AAPL")["candidates"]
    with pytest.raises(ContractConflict, match=f"con_id {aapl['con_id']}, and not 7:"):
        add(watched, "AAPL", timeframe, con_id="7", **how)
    remove(watched, "AAPL")
    with pytest.raises(ContractConflict, match=f"con_id {aapl['con_id']}, and not 7:"):
        add(watched, "AAPL", con_id="7", **how)
    assert [one.name for one in data_dir.glob("*.csv")] == ["AAPL_1d.csv"]
    assert toml(data_dir) == "[AAPL]\nwatch = {1d = false}\n"


def test_a_file_whose_contract_is_ambiguous_takes_the_one_that_is_named(watched, data_dir, put):
    put("TWIN_1d")
    nyse = ask(watched, "GET", "/series/candidates", symbol="TWIN")["candidates"][1]
    said = add(watched, "TWIN", con_id=str(nyse["con_id"]))
    assert (said["outcome"], said["candidates"]) == ("changed", [nyse])
    assert toml(data_dir) == '[TWIN]\nprimary_exchange = "NYSE"\n'


@pytest.mark.parametrize(
    "down",
    [
        NotConnected("no connection to IB: refused", hint="start the gateway"),
        PeerDown("ib-connection is not running", hint="start it"),
    ],
)
def test_without_a_connection_nothing_is_made_unless_it_is_unchecked(
    filler, connection, data_dir, down
):
    connection.down = down
    with pytest.raises(type(down), match=f"MSFT was not added, .*: {down.message}") as caught:
        add(filler, "MSFT")
    assert caught.value.hint == f"{down.hint}; or add it unchecked"
    assert not (data_dir / "MSFT_1d.csv").exists()
    with pytest.raises(type(down), match="the contracts of MSFT cannot be requested"):
        ask(filler, "GET", "/series/candidates", symbol="MSFT")
    assert add(filler, "MSFT", unchecked="true", con_id="272093")["outcome"] == "added"
    assert (data_dir / "MSFT_1d.csv").exists()
    assert toml(data_dir) == "[MSFT]\ncon_id = 272093\n"


def test_a_late_answer_about_a_contract_restarts_nothing(filler, connection):
    late = "ib-connection did not answer within 12 s"
    connection.down = PeerTimedOut(late, hint="supervisorctl restart ib-connection")
    for act in (
        lambda: add(filler, "MSFT"),
        lambda: ask(filler, "GET", "/series/candidates", symbol="MSFT"),
    ):
        with pytest.raises(TimedOut, match="IB has named no contracts of MSFT within") as caught:
            act()
        assert caught.value.hint.startswith("try again in a minute")


def test_a_trial_says_what_would_be_and_changes_nothing(watched, data_dir):
    said = add(watched, "AAPL", since="2020", dry_run="true")
    assert (said["outcome"], said["is_trial"]) == ("added", True)
    assert add(watched, "TWIN", dry_run="true")["outcome"] == "ambiguous"
    assert not list(data_dir.glob("*.csv"))
    assert toml(data_dir) is None


# Adding what is there.


def test_a_file_that_is_there_stays_and_since_applies(filler, data_dir):
    text = (data_dir / "AAPL_1d.csv").read_text()
    said = add(filler, "AAPL", since="2026-11-10")
    assert said["outcome"] == "watched_already"
    assert said["since"] == "2026-11-10T00:00:00+00:00"
    assert (data_dir / "AAPL_1d.csv").read_text() == text
    assert toml(data_dir) == "[AAPL]\nsince = {1d = 2026-11-10}\n"
    run(filler)
    assert (data_dir / "AAPL_1d.csv").read_text().splitlines()[1][:10] == "2026-11-10"


def test_a_later_since_takes_nothing_away(filler, data_dir):
    add(filler, "AAPL", since="2026-11-01")
    assert add(filler, "AAPL", since="2026-11-10")["since"] == "2026-11-01T00:00:00+00:00"
    assert add(filler, "AAPL", since="2026-10-01")["since"] == "2026-10-01T00:00:00+00:00"
    assert change(filler, "AAPL", since="2026-11-10")["since"] == "2026-11-10T00:00:00+00:00"
    assert toml(data_dir) == "[AAPL]\nsince = {1d = 2026-11-10}\n"


def test_another_timeframe_of_a_kept_contract_needs_no_second_look(filler, data_dir):
    assert add(filler, "AAPL", "1h")["outcome"] == "added"  # this connection knows no candidates
    assert (data_dir / "AAPL_1h.csv").exists()


def test_requests_at_once_make_one_file_and_keep_each_day(filler, data_dir):
    outcomes = []

    def one(number):
        said = add(filler, "MSFT", "1d", unchecked="true", since=f"2026-10-{number + 1:02}")
        add(filler, f"S{number}", "1d", unchecked="true", since="2026-10-01")
        outcomes.append(said["outcome"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added"] + 7 * ["watched_already"]
    assert (data_dir / "MSFT_1d.csv").read_text() == HEADER
    assert all(f"[S{number}]" in toml(data_dir) for number in range(8))


# A store that cannot be written to.


@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_made_in_the_place_of_a_folder_that_has_gone(filler, data_dir, is_replaced):
    data_dir.rename(data_dir.with_name("away"))
    if is_replaced:  # as by the folder that its disk was mounted on
        data_dir.mkdir()
    named = {"symbol": "AAPL", "timeframe": "1d"}
    for act in (
        lambda: add(filler, "MSFT", unchecked="true"),
        lambda: add(filler, "AAPL", "1h"),
        lambda: remove(filler, "AAPL"),
        lambda: change(filler, "AAPL", since="2020"),
        lambda: ask(filler, "POST", "/fill", **named, **{"from": "2020-01-01"}),
    ):
        with pytest.raises(StoreGone, match=f"the folder {data_dir} has gone"):
            act()
    assert data_dir.exists() == is_replaced
    assert not is_replaced or list(data_dir.iterdir()) == []


@needs_root
def test_what_a_full_disk_refuses_a_person_is_to_be_requested_again(make_filler, put, data_dir):
    with mounted(data_dir, "size=512k"):
        put("AAPL_1d")
        filler = make_filler()
        run(filler)
        with contextlib.suppress(OSError), (data_dir / "other").open("wb", buffering=0) as other:
            while other.write(bytes(4096)):
                pass
        for act in (
            lambda: add(filler, "MSFT", unchecked="true"),
            lambda: remove(filler, "AAPL"),
            lambda: ask(
                filler, "POST", "/fill", symbol="AAPL", timeframe="1d", **{"from": "2020-01-01"}
            ),
        ):
            with pytest.raises(StoreUnwritable) as caught:
                act()
            assert caught.value.hint.endswith("then try again")
        assert [one.name for one in data_dir.glob("*.csv")] == ["AAPL_1d.csv"]


# Removing.


def test_a_series_that_is_removed_is_left_alone_with_its_file(filler, connection, clock, data_dir):
    text = (data_dir / "AAPL_1d.csv").read_text()
    said = remove(filler, "AAPL")
    assert (said["outcome"], toml(data_dir)) == ("removed", "[AAPL]\nwatch = {1d = false}\n")
    run(filler)
    clock.now += 3 * 86400
    connection.requested.clear()
    run(filler)
    assert connection.requested == []
    assert (data_dir / "AAPL_1d.csv").read_text() == text
    assert coverage_of(filler)["series"] == []
    assert (filler.status.series, filler.status.gaps_remaining) == (0, 0)
    assert states(filler) == {"AAPL_1d": "not_watched"}
    assert remove(filler, "AAPL")["outcome"] == "not_watched"


def test_a_removed_series_is_added_again(filler, clock, data_dir):
    remove(filler, "AAPL")
    run(filler)
    clock.now += 86400
    assert add(filler, "AAPL")["outcome"] == "watched_again"
    run(filler)
    assert states(filler) == {"AAPL_1d": "complete"}
    assert toml(data_dir) == ""
    assert (data_dir / "AAPL_1d.csv").read_text().splitlines()[-1][:10] == "2026-11-21"


def test_a_change_of_an_unwatched_file_is_not_looked_at(filler, put):
    remove(filler, "AAPL")
    run(filler)
    put("AAPL_1d", [utc("2026-11-18")])
    filler.note_changed_files(["AAPL_1d.csv"])
    run(filler)
    assert states(filler) == {"AAPL_1d": "not_watched"}


def test_a_fill_of_a_removed_series_waits_and_says_why(filler, connection):
    connection.connected = False
    ask(filler, "POST", "/fill", symbol="AAPL", timeframe="1d", **{"from": "2026-06-01"})
    remove(filler, "AAPL")
    connection.connected = True
    run(filler)
    (one,) = ask(filler, "GET", "/fills")["fills"]
    assert (one["state"], one["why"]) == ("waiting", "its series is not watched")
    assert "ktrdr watch add" in one["hint"]
    add(filler, "AAPL")
    run(filler)
    (one,) = ask(filler, "GET", "/fills")["fills"]
    assert one["state"] == "done"


def test_other_timeframes_of_the_symbol_are_kept(filler, put):
    put("AAPL_1h")
    filler.note_changed_files(["AAPL_1h.csv"])
    remove(filler, "AAPL")
    run(filler)
    assert states(filler) == {"AAPL_1h": "complete", "AAPL_1d": "not_watched"}


# What is refused.


def test_a_series_that_is_not_there_is_not_removed(filler):
    for act in (remove, change):
        with pytest.raises(UnknownSeries, match=r"AAPL_1h\.csv is not in the store") as caught:
            act(filler, "AAPL", "1h", since="2020")
        assert caught.value.hint == "did you mean AAPL_1d?"


@pytest.mark.parametrize(
    ("query", "named", "hint"),
    [
        ({"symbol": "../AAPL"}, "symbol '../AAPL'", ""),
        ({"symbol": "MSFT", "timeframe": "2m"}, "timeframe '2m'", "did you mean 1m?"),
        ({"symbol": "MSFT", "since": "2030"}, "since=2030", ""),
        ({"symbol": "MSFT", "since": "soon"}, "since=soon", ""),
        ({"symbol": "MSFT", "unchecked": "yes"}, "unchecked=yes", ""),
        ({"symbol": "MSFT", "unchecked": "true", "con_id": "x"}, "con_id=x", ""),
    ],
)
def test_a_wrong_request_makes_nothing(filler, data_dir, query, named, hint):
    with pytest.raises(InvalidRequest, match=named) as caught:
        add(filler, **query)
    assert hint in caught.value.hint
    assert [one.name for one in data_dir.glob("*.csv")] == ["AAPL_1d.csv"]


def test_an_invalid_instruments_file_refuses_with_its_line_and_stays(filler, data_dir):
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = \n")
    for act in (add, remove):
        with pytest.raises(Misconfigured, match="at line 2"):
            act(filler, "AAPL")
    with pytest.raises(Misconfigured, match="at line 2"):
        add(filler, "MSFT", unchecked="true", since="2020")
    assert toml(data_dir) == "[AAPL]\nsince = \n"
    assert not (data_dir / "MSFT_1d.csv").exists()


def test_a_store_of_the_other_source_is_left_alone(make_filler, data_dir):
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr/source").write_text("live\n")
    filler = make_filler()
    with pytest.raises(WrongSource):
        add(filler, "MSFT", unchecked="true")
    assert not list(data_dir.glob("*.csv"))


def test_nothing_to_change_is_said(filler):
    with pytest.raises(InvalidRequest, match="expected since or con_id"):
        change(filler, "AAPL")


def test_since_is_changed_and_taken_away(filler, data_dir):
    assert change(filler, "AAPL", since="2026-11-10")["outcome"] == "changed"
    assert toml(data_dir) == "[AAPL]\nsince = {1d = 2026-11-10}\n"
    said = change(filler, "AAPL", since="")
    assert (said["since"], toml(data_dir)) == (None, "")
    assert json.dumps(said)
