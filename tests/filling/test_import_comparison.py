"""Imported series, compared with what the simulated gateway has: as a whole, once, and last."""

import pytest

from ktrdr.errors import RequestFailed
from ktrdr.gap_filler.revision_list import RevisionQuery, revisions_of
from ktrdr.importing.importer import Importer, Wishes
from ktrdr.importing.meaning import Stamp
from ktrdr.market.instruments import parse_series
from ktrdr.store.source import ledger_path
from tests.fake_connection import DAY, HEADER, coverage_of, fill, line, price, utc
from tests.simulated_group import NOW

EVER = RevisionQuery((0, 2**40), 1000, None)
SINCE = utc("2026-07-01")


def bring_in(folder, source, name, bars, now=NOW):
    """Import these bars as a series of the store."""
    path = source / f"{name}.csv"
    path.write_text(HEADER + "".join(map(line, bars)))
    series = parse_series(path.name)
    found = Importer(folder, Wishes(to=series), lambda: now).run(path, path.name)
    assert found.error is None
    return folder / path.name


def compared(filler, name="AAPL_5m"):
    """How the series compares with IB's bars, as `GET /coverage` has it."""
    known = {f"{one['symbol']}_{one['timeframe']}": one for one in coverage_of(filler)["series"]}
    return known[name]["comparison"]


def left(folder, name):
    """What is on record, as the list of revisions has it, oldest bar first."""
    found = revisions_of(ledger_path(folder), parse_series(f"{name}.csv"), EVER).revisions
    return sorted(found, key=lambda one: one.timestamp)


def requests_of(group, symbol="AAPL"):
    """How many requests for its bars there were; the heartbeat is for another."""
    return len([one for one in group.requested() if one["symbol"] == symbol])


def wrong(bars, numbers):
    """The bars with the highs of some 2 % too high."""
    made = list(bars)
    for number in numbers:
        made[number] = made[number]._replace(high=round(made[number].high * 1.02, 2))
    return made


def test_exactly_the_wrong_bars_are_listed_and_all_are_compared_in_few_requests(group, tmp_path):
    right = group.truth("AAPL", "5m", SINCE, NOW)
    numbers = range(7, len(right), len(right) // 11 + 1)
    theirs = wrong(right, numbers)
    path = bring_in(group.folder, tmp_path, "AAPL_5m", theirs)
    before = path.read_text()
    group.fill()
    assert compared(group.filler) == {
        "differ": 11,
        "total": len(right),
        "compared": len(right),
        "absent": 0,
        "is_over": True,
    }
    found = left(group.folder, "AAPL_5m")
    assert [int(one.timestamp.timestamp()) for one in found] == [right[n].start for n in numbers]
    assert [one.old.high for one in found] == [theirs[n].high for n in numbers]
    assert [one.new.high for one in found] == [right[n].high for n in numbers]
    assert all(one.is_left for one in found)
    assert path.read_text() == before
    assert requests_of(group) == 2, "twenty weeks, and eleven in a request"
    (problem,) = group.problems()
    assert problem.startswith(f"compared with IB's bars: {len(right)} of {len(right)}, 11 differ")
    group.scan()
    group.now += DAY
    group.fill()
    assert requests_of(group) <= 2 + 2, "the new day and the daily sample"
    assert compared(group.filler)["differ"] == 11


def test_missing_bars_of_other_series_come_first(group, tmp_path):
    bring_in(group.folder, tmp_path, "AAPL_5m", group.truth("AAPL", "5m", SINCE, NOW))
    group.watch("MSFT_15m")
    group.watch("NVDA_1h")
    group.fill()
    symbols = [one["symbol"] for one in group.requested()]
    assert {"MSFT", "NVDA"} <= set(symbols)
    assert set(symbols[symbols.index("AAPL") :]) == {"AAPL"}
    assert compared(group.filler)["is_over"]


def test_after_a_restart_it_goes_on_where_it_was(group, tmp_path):
    right = group.truth("AAPL", "5m", SINCE, NOW)
    bring_in(group.folder, tmp_path, "AAPL_5m", wrong(right, [5, 7_000]))
    for _ in range(500):
        if 0 < (so_far := (compared_or_none(group) or {}).get("compared", 0)) < len(right):
            break
        group.filler.step()
    assert not compared(group.filler)["is_over"]
    requested = requests_of(group)
    group.end_filler()
    group.start_filler()
    group.fill()
    known = compared(group.filler)
    assert (known["compared"], known["differ"], known["is_over"]) == (len(right), 2, True)
    assert so_far < len(right)
    assert (requested, requests_of(group)) == (1, 2)


def compared_or_none(group):
    known = coverage_of(group.filler)["series"]
    return known[0]["comparison"] if known else None


def test_the_bars_before_a_split_are_one_line(group, tmp_path):
    group.now = utc("2026-11-27 22:00")  # SPLT splits four for one on the Monday after
    before = group.truth("SPLT", "5m", utc("2026-10-01"), group.now)
    group.now = utc("2026-12-03 22:00")
    after = group.truth("SPLT", "5m", utc("2026-11-30"), group.now)
    bring_in(group.folder, tmp_path, "SPLT_5m", [*before, *after], group.now)
    group.fill()
    known = compared(group.filler, "SPLT_5m")
    assert (known["compared"], known["differ"]) == (len(before) + len(after), len(before))
    (one,) = left(group.folder, "SPLT_5m")
    assert (one.bars, int(one.timestamp.timestamp())) == (len(before), before[0].start)
    assert int(one.last.timestamp()) == before[-1].start
    assert one.why == "IB has all prices times 0.25 (a split, 4:1?), and all volumes times 4"
    assert requests_of(group, "SPLT") == 1, "64 days, and 77.5 in a request"


def test_a_difference_goes_when_its_owner_mends_the_row(group, tmp_path):
    right = group.truth("AAPL", "1h", SINCE, NOW)
    theirs = wrong(right, [3, 30])
    path = bring_in(group.folder, tmp_path, "AAPL_1h", theirs)
    group.fill()
    requested = requests_of(group)
    path.write_text(path.read_text().replace(line(theirs[3]), line(right[3])))
    group.scan()
    (one,) = left(group.folder, "AAPL_1h")
    assert int(one.timestamp.timestamp()) == right[30].start
    assert compared(group.filler, "AAPL_1h")["differ"] == 1
    assert requests_of(group) == requested


# Against a stand-in for the connection, whose market is open from 10:00 to 12:00 UTC.

DAYS = [utc("2026-11-20") - DAY * n for n in range(29, -1, -1)]
STARTS = [day + 36000 + 60 * n for day in DAYS for n in range(120)]


@pytest.fixture
def imported(data_dir, tmp_path):
    """Imports these bars, by default thirty whole days of two hours each."""

    def imported(bars=None):
        bars = list(map(price, STARTS)) if bars is None else bars
        return put_in(data_dir, tmp_path, bars)

    return imported


def put_in(folder, source, bars):
    path = source / "AAPL_1m.csv"
    path.write_text(HEADER + "".join(map(line, bars)))
    wishes = Wishes(zone="UTC", stamp=Stamp.START)
    found = Importer(folder, wishes, lambda: NOW).run(path, path.name)
    assert found.error is None
    return folder / path.name


def otherwise(start):
    return price(start)._replace(high=price(start).low + 0.3)


def test_bars_that_ktrdr_has_filled_between_are_neither_counted_nor_requested(
    imported, make_filler, connection
):
    hole = STARTS[120 * 27 + 10 : 120 * 28 + 50]
    imported([price(start) for start in STARTS if start not in hole])
    connection.revised = {hole[5]: otherwise(hole[5]), STARTS[7]: otherwise(STARTS[7])}
    filler = make_filler()
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["total"], known["compared"]) == (3600 - len(hole), 3600 - len(hole))
    assert known["differ"] == 1


def test_each_is_requested_at_the_lowest_priority_once_the_gaps_are_filled(
    imported, make_filler, connection
):
    imported([price(start) for start in STARTS[:-5]])
    fill(make_filler())
    assert connection.requested[0][2:] == (STARTS[-5], STARTS[-1] + 60)
    assert connection.priorities[0] == "tail"
    assert set(connection.priorities[1:]) == {"backfill"}
    ends = [end for _, _, _, end in connection.requested[1:]]
    assert ends[0] == STARTS[-6] + 60
    assert ends == sorted(ends, reverse=True)
    assert len(ends) == 2, "thirty days: 12.5 in the first request, and more after a quick answer"


def test_days_that_ib_does_not_have_any_more_end_it_a_day_later(
    imported, make_filler, connection, clock, data_dir
):
    imported()
    connection.heads = {"AAPL": DAYS[20] + 36000}
    filler = make_filler()
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["total"], known["is_over"]) == (1200, 3600, False)
    requested = len(connection.requested)
    clock.now += 3600
    fill(filler)
    assert len(connection.requested) == requested
    clock.now += DAY
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["absent"], known["is_over"]) == (1200, 2400, True)
    assert left(data_dir, "AAPL_1m") == []
    requested = len([one for one in connection.requested if one[3] < DAYS[20]])
    clock.now += 2 * DAY
    fill(filler)
    assert len([one for one in connection.requested if one[3] < DAYS[10]]) <= requested + 2


def test_bars_before_a_hole_of_ib_are_compared_too(imported, make_filler, connection, clock):
    imported()
    connection.absent = set(STARTS[120 * 5 : 120 * 24])
    connection.revised = {STARTS[100]: otherwise(STARTS[100])}
    filler = make_filler()
    fill(filler)
    clock.now += DAY + 60
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["absent"], known["is_over"]) == (11 * 120, 19 * 120, True)
    assert known["differ"] == 1


def test_bars_before_the_first_one_of_ib_cost_one_request_more(
    imported, make_filler, connection, clock, put
):
    imported()
    put("AAPL_1d")  # it shows when IB's bars begin
    connection.heads = {"AAPL": DAYS[25]}
    filler = make_filler(ktrdr_gap_max_age_days=20)
    fill(filler)
    clock.now += DAY
    fill(filler)
    assert connection.heads_asked
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["absent"], known["is_over"]) == (5 * 120, 25 * 120, True)
    before = [one for one in connection.requested if one[1] == "1m" and one[3] <= DAYS[25]]
    assert len([one for one in before if one[3] - one[2] > 3600]) == 2, "but for the sample"


def test_bars_that_ib_lacked_at_a_time_to_come_are_not_requested_on_and_on(
    imported, make_filler, connection, clock
):
    imported()
    connection.silent = True
    filler = make_filler()
    fill(filler)
    requested = len(connection.requested)
    clock.now -= 3600
    fill(make_filler())
    assert len(connection.requested) == requested + 1
    assert not compared(filler, "AAPL_1m")["is_over"]


def test_bars_on_another_grid_are_given_up_only_a_day_later(
    data_dir, tmp_path, make_filler, connection, clock
):
    path = tmp_path / "AAPL_1h.csv"
    hours = [day + at for day in DAYS for at in (36000, 39600)]
    path.write_text(HEADER + "".join(line(price(start)) for start in hours))
    wishes = Wishes(zone="UTC", stamp=Stamp.START)
    assert Importer(data_dir, wishes, lambda: NOW).run(path, path.name).error is None
    connection.factor = lambda bar: bar._replace(start=bar.start + 1800)
    filler = make_filler()
    fill(filler)
    known = compared(filler, "AAPL_1h")
    assert (known["compared"], known["absent"], known["is_over"]) == (0, 0, False)
    connection.factor = lambda bar: bar
    clock.now += DAY
    fill(filler)
    known = compared(filler, "AAPL_1h")
    assert (known["compared"], known["absent"], known["is_over"]) == (60, 0, True)


def test_answers_that_are_cut_off_are_requested_on(imported, make_filler, connection):
    imported()
    connection.most = 500
    connection.revised = {STARTS[100]: otherwise(STARTS[100])}
    filler = make_filler()
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["absent"], known["differ"]) == (3600, 0, 1)
    assert len(connection.requested) == 8


def test_a_few_bars_that_ib_does_not_have_are_counted_and_cost_no_request(
    imported, make_filler, connection
):
    imported()
    connection.absent = {STARTS[0], STARTS[1], STARTS[777]}
    filler = make_filler()
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["absent"], known["is_over"]) == (3597, 3, True)
    assert len(connection.requested) == 2


def test_a_request_that_fails_is_made_again_and_the_series_is_complete_all_the_same(
    imported, make_filler, connection, clock
):
    imported()
    connection.refused_from = {STARTS[0]: RequestFailed("it is too much")}
    filler = make_filler()
    fill(filler)
    (one,) = coverage_of(filler)["series"]
    assert (one["state"], one["error"]) == ("complete", None)
    assert one["comparison"]["compared"] < 3600
    assert [problem.message for problem in filler.status.recent_errors] == ["it is too much"]
    connection.refused_from = {}
    clock.now += 3601
    fill(filler)
    assert compared(filler, "AAPL_1m")["is_over"]


def test_requests_that_fail_on_and_on_become_rare(imported, make_filler, connection, clock):
    imported()
    connection.bars_refusals = {"AAPL": RequestFailed("not of this contract")}
    clock.now -= 2 * DAY  # the file has all bars that become due meanwhile
    filler = make_filler()
    fill(filler)
    tries = []
    for hour in range(1, 21):
        clock.now += 3600
        requested = len(connection.requested)
        fill(filler)
        if len(connection.requested) > requested:
            tries.append(hour)
    assert tries == [1, 3, 7, 15]


def test_while_only_that_is_left_nothing_is_being_filled(imported, make_filler, connection):
    imported()
    filler = make_filler()
    states = []
    connection.after = lambda: states.append((filler.status.state, filler.status.current))
    fill(filler)
    assert len(states) == 2
    assert {current for _, current in states} == {()}
    assert filler.status.state == "idle"


def test_a_thousand_are_listed_and_all_are_counted(imported, make_filler, connection, data_dir):
    imported()
    odd = STARTS[::2]
    connection.revised = {start: otherwise(start) for start in odd}
    filler = make_filler()
    fill(filler)
    assert len(left(data_dir, "AAPL_1m")) == 1000
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["differ"]) == (3600, 1800)


def test_bars_for_which_there_is_no_room_are_counted_once_and_never_reported_again(
    imported, make_filler, connection, clock
):
    imported()
    connection.revised = {start: otherwise(start) for start in STARTS}
    filler = make_filler()
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["differ"]) == (3600, 3600)
    for _ in range(3):
        clock.now += DAY + 60
        fill(filler)
    assert compared(filler, "AAPL_1m")["differ"] == 3600
    assert [problem.message for problem in filler.status.recent_errors] == [
        "compared with IB's bars: 3600 of 3600, 3600 differ; the file is left as it is"
    ]


def test_bars_that_were_only_counted_are_compared_anew_once_listed_ones_are_mended(
    imported, make_filler, connection, data_dir
):
    path = imported()
    connection.revised = {start: otherwise(start) for start in STARTS}
    filler = make_filler()
    fill(filler)
    path.write_text(HEADER + "".join(line(otherwise(start)) for start in STARTS))
    for _ in range(2):  # the second finds what the first has read
        filler.request_scan()
        fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["differ"], known["is_over"]) == (3600, 0, True)
    assert left(data_dir, "AAPL_1m") == []


def test_volumes_that_another_source_counts_otherwise_are_one_line(
    imported, make_filler, connection, data_dir
):
    imported()
    connection.factor = lambda bar: bar._replace(volume=bar.volume + 1 + bar.start // 60 % 31)
    filler = make_filler()
    fill(filler)
    (one,) = left(data_dir, "AAPL_1m")
    assert (one.bars, one.why) == (3600, "the volumes differ, and no prices")


def test_a_series_that_is_imported_again_is_compared_anew(
    imported, make_filler, connection, tmp_path, data_dir
):
    path = imported()
    connection.revised = {STARTS[100]: otherwise(STARTS[100])}
    filler = make_filler()
    fill(filler)
    assert compared(filler, "AAPL_1m")["differ"] == 1
    path.rename(tmp_path / "old.csv")
    filler.request_scan()
    fill(filler)
    imported([price(start) for start in STARTS[120:]])
    filler.request_scan()
    fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["total"], known["compared"], known["differ"]) == (3480, 3480, 0)
    assert left(data_dir, "AAPL_1m") == []


def test_a_file_of_others_that_was_not_imported_is_not_compared_as_a_whole(
    put, make_filler, connection
):
    put("AAPL_1m", STARTS)
    filler = make_filler()
    fill(filler)
    assert compared(filler, "AAPL_1m")["total"] == 0
    assert connection.requested == []


def test_what_the_sample_of_a_day_finds_again_is_not_reported_again(
    imported, make_filler, connection, clock
):
    imported()
    connection.factor = lambda bar: quarter(bar) if bar.start < STARTS[-1300] else bar
    filler = make_filler()
    fill(filler)
    before = [problem.message for problem in filler.status.recent_errors]
    assert before == [
        "compared with IB's bars: 3600 of 3600, 2300 differ; the file is left as it is"
    ]
    for _ in range(4):
        clock.now += DAY + 60
        fill(filler)
    assert [problem.message for problem in filler.status.recent_errors] == before
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def quarter(bar):
    """As IB has it after a split of four for one, but for its volume."""
    return bar._replace(**{k: getattr(bar, k) / 4 for k in ("open", "high", "low", "close")})


def test_bars_of_one_factor_that_agree_by_now_have_all_compared_anew_a_day_later(
    imported, make_filler, connection, clock, data_dir
):
    imported()
    connection.factor = lambda bar: quarter(bar) if bar.start < STARTS[-1300] else bar
    filler = make_filler()
    fill(filler)
    (one,) = left(data_dir, "AAPL_1m")
    assert one.bars == 3600 - 1300
    connection.factor = lambda bar: bar
    for _ in range(4):
        clock.now += DAY + 60
        fill(filler)
    known = compared(filler, "AAPL_1m")
    assert (known["compared"], known["differ"], known["is_over"]) == (3600, 0, True)
    assert left(data_dir, "AAPL_1m") == []
