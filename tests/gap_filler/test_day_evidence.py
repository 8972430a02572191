"""The proof for each absence of a day, as the gap filler's socket gives it."""

import asyncio
import contextlib
import sqlite3

import pytest

from ktrdr.errors import InvalidRequest, RequestFailed
from ktrdr.gap_filler.routes import routes
from tests.fake_connection import DAY, fill, utc

FRIDAY = utc("2026-11-20 10:00")


def evidence(filler, **query):
    wanted = {"symbol": "AAPL", "timeframe": "1m", "day": "2026-11-20"} | query
    return asyncio.run(routes(filler)["GET", "/requests"](wanted))


def seconds(text):
    return utc(text.removesuffix("+00:00"))


def test_what_was_missing_once_is_unproven_and_says_since_when(put, make_filler, connection, clock):
    connection.absent = {FRIDAY + 60 * n for n in range(100, 110)}
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)

    found = evidence(filler)

    (request,) = found["requests"]
    assert [("AAPL", "1m", seconds(request["start"]), seconds(request["end"]))] == (
        connection.requested
    )
    assert (request["outcome"], request["code"], request["bars"]) == ("bars", None, 4 * 120 - 10)
    assert seconds(request["requested_at"]) == clock.now
    (absence,) = found["absences"]
    assert (absence["reason"], absence["bars"], absence["times"]) == ("unproven", 10, 1)
    assert absence["first"] == "2026-11-20T11:40:00+00:00"
    assert absence["last"] == "2026-11-20T11:49:00+00:00"
    assert seconds(absence["since"]) == clock.now
    assert seconds(absence["again_at"]) > clock.now


def test_a_proven_absence_is_of_the_request_that_has_proven_it(put, make_filler, connection, clock):
    connection.absent = {FRIDAY + 60 * n for n in range(100, 110)}
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    clock.now += 3600
    filler.request_scan()
    fill(filler)

    found = evidence(filler)

    assert [one["absent"] for one in found["requests"]] == [10, 0]
    assert seconds(found["requests"][0]["requested_at"]) == clock.now
    (absence,) = found["absences"]
    assert (absence["reason"], absence["bars"], absence["times"]) == ("no_trades", 10, None)
    assert seconds(absence["since"]) == clock.now


def test_a_day_has_the_requests_that_touched_it_and_no_others(put, make_filler, connection):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))  # of Friday
    filler.request_scan()
    fill(filler)

    def touching(day):
        return sum(start < day + 7200 and end > day for _, _, start, end in connection.requested)

    assert len(connection.requested) == 2
    assert len(evidence(filler)["requests"]) == touching(FRIDAY) == 2
    tuesday = evidence(filler, day="2026-11-17")["requests"]
    assert len(tuesday) == touching(FRIDAY - 3 * DAY) == 1
    assert evidence(filler, day="2026-11-14")["requests"] == []


def test_a_refused_request_has_ibs_code(put, make_filler, connection):
    put("AAPL_1m", [FRIDAY])
    filler = make_filler()
    connection.bars_refusals["AAPL"] = RequestFailed("who knows", code=162)
    fill(filler)

    outcomes = {(one["outcome"], one["code"]) for one in evidence(filler)["requests"]}
    assert outcomes == {("failed", 162)}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"symbol": "NONE"}, "have not been assessed yet"),
        ({"timeframe": "2m"}, "timeframe '2m'"),
        ({"day": "yesterday"}, "day=yesterday"),
    ],
)
def test_a_wrong_query_is_named(put, make_filler, query, message):
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)

    with pytest.raises(InvalidRequest, match=message):
        evidence(filler, **query)


def test_a_ledger_that_cannot_be_read_is_not_taken_for_an_empty_one(put, make_filler, data_dir):
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    filler.close()
    (ledger,) = data_dir.rglob("*.sqlite*")
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as database:
        database.execute("DROP TABLE doubts")

    with pytest.raises(RequestFailed, match="cannot be read now"):
        evidence(filler)
