"""The record of an import, as others may have left it."""

import json

import pytest

from ktrdr.market.instruments import parse_series
from ktrdr.store.import_record import import_record, record_path
from tests.fake_connection import utc

AAPL = parse_series("AAPL_1m.csv")
RECORD = {
    "series": "AAPL_1m",
    "first": "2026-10-22 10:00:00+00:00",
    "last": "2026-11-20 11:59:00+00:00",
}


@pytest.fixture
def read(tmp_path):
    """What is read of a record with this content."""

    def read(content):
        path = record_path(tmp_path, AAPL)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return import_record(tmp_path, AAPL)

    return read


def test_it_says_from_when_to_when(read):
    found = read(RECORD)
    assert (found.first, found.last) == (utc("2026-10-22 10:00"), utc("2026-11-20 11:59"))


def test_one_of_several_files_is_of_all_of_them(read):
    later = RECORD | {"first": "2026-11-21 10:00:00+00:00", "last": "2026-11-22 10:00:00+00:00"}
    found = read({"series": "AAPL_1m", "parts": [later, RECORD]})
    assert (found.first, found.last) == (utc("2026-10-22 10:00"), utc("2026-11-22 10:00"))


def test_one_of_another_series_is_none(read):
    assert read(RECORD | {"series": "MSFT_1m"}) is None
    assert read({"first": RECORD["first"], "last": RECORD["last"]}) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        "null",
        "[]",
        {"series": "AAPL_1m", "parts": []},
        RECORD | {"first": None},
        RECORD | {"last": 12},
        RECORD | {"first": "in October"},
        json.dumps(RECORD) + " " * 2**25,
    ],
    ids=range(9),
)
def test_what_is_no_record_is_none(read, content):
    assert read(content) is None
