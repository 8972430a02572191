from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pandas as pd
import pyarrow.parquet
import pytest

from tests.played_peers import SERIES

HEADER = "timestamp,open,high,low,close,volume\n"
ROWS = (
    "2026-11-20 14:30:00+00:00,228.06,228.21,227.98,228.15,41200\n"
    "2026-11-20 14:31:00+00:00,228.15,228.3,228.1,228.123456789,39811\n"
    "2026-11-20 14:32:00+00:00,228.12,228.12,228.0,228.05,1500\n"
)


@pytest.fixture
def store(settings):
    (settings.data_dir / "AAPL_1m.csv").write_text(HEADER + ROWS)
    return settings.data_dir


@pytest.mark.usefixtures("store")
def test_bars_come_in_the_stores_own_words(client):
    answer = client.get("/api/v1/data/AAPL/1m?format=csv")

    assert answer.status_code == 200
    assert answer.content_type.startswith("text/csv")
    assert answer.text == HEADER + ROWS


@pytest.mark.parametrize("limit", ["", "&limit=2"])
def test_rows_that_lack_a_value_are_left_out(client, store, limit):
    first, second, third = ROWS.splitlines(keepends=True)
    lacking = "2026-11-20 14:31:00+00:00,1,1,nan,1,5\n"
    text = HEADER + first + lacking + third + second.replace("14:31", "14:33")
    (store / "AAPL_1m.csv").write_text(text)
    times = ["2026-11-20T14:30:00+00:00", "2026-11-20T14:32:00+00:00", "2026-11-20T14:33:00+00:00"]
    times = times[:2] if limit else times

    as_csv = client.get(f"/api/v1/data/AAPL/1m?format=csv{limit}").text
    as_json = client.get(f"/api/v1/data/AAPL/1m?format=json{limit}").json
    as_parquet = client.get(f"/api/v1/data/AAPL/1m?format=parquet{limit}").data

    assert [line[:25].replace(" ", "T") for line in as_csv.splitlines()[1:]] == times
    assert [bar[0] for bar in as_json["bars"]] == times
    assert as_json["count"] == len(times)
    found = pyarrow.parquet.read_table(io.BytesIO(as_parquet)).to_pandas()
    assert [moment.isoformat() for moment in found["timestamp"]] == times
    assert not found.isna().to_numpy().any()


@pytest.mark.parametrize("source", ["simulated", "live", None])
def test_a_csv_says_whose_bars_it_has(client, store, source):
    if source is not None:
        (store / ".ktrdr").mkdir()
        (store / ".ktrdr" / "source").write_text(source)

    answer = client.get("/api/v1/data/AAPL/1m?format=csv")

    assert answer.headers.get("X-Source") == source


@pytest.mark.usefixtures("store")
def test_bars_come_as_json_too(client):
    response = client.get("/api/v1/data/AAPL/1m?format=json").json

    assert (response["symbol"], response["timeframe"], response["count"]) == ("AAPL", "1m", 3)
    assert response["complete"] is False
    assert "gap-filler" in response["why"]
    assert response["columns"] == ["timestamp", "open", "high", "low", "close", "volume"]
    assert response["bars"][1] == [
        "2026-11-20T14:31:00+00:00", 228.15, 228.3, 228.1, 228.123456789, 39811
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("span", "minutes"),
    [
        ("start=2026-11-20T14:31:00Z", ["31", "32"]),
        ("start=2026-11-20T14:31:00%2B00:00&end=2026-11-20T14:32:00%2B00:00", ["31"]),
        ("end=2026-11-20T14:31:00+00:00", ["30"]),
        ("start=2026-11-20 14:32", ["32"]),
        ("start=2026-11-21", []),
        ("start=&end=", ["30", "31", "32"]),
    ],
)
@pytest.mark.usefixtures("store")
def test_only_what_starts_in_the_span_comes(client, span, minutes):
    rows = client.get(f"/api/v1/data/AAPL/1m?{span}").text.splitlines()[1:]
    response = client.get(f"/api/v1/data/AAPL/1m?{span}&format=json").json

    assert [row[14:16] for row in rows] == minutes
    assert [row[0][14:16] for row in response["bars"]] == minutes


def test_many_bars_come_whole(client, settings):
    times = pd.date_range("2026-01-01", periods=45_001, freq="min", tz="UTC")
    lines = [f"{when},1.1,1.3,1.0,1.2,-1\n" for when in times]
    (settings.data_dir / "EURUSD_1m.csv").write_text(HEADER + "".join(lines))

    response = client.get("/api/v1/data/EURUSD/1m")
    as_json = client.get("/api/v1/data/EURUSD/1m?format=json").json

    assert response.text == HEADER + "".join(lines)
    assert len(as_json["bars"]) == as_json["count"] == 45_001
    assert pd.read_csv(io.StringIO(response.text))["volume"].unique().tolist() == [-1]


def test_parts_of_a_coin_stay_parts(client, settings):
    row = "2026-11-20 14:30:00+00:00,1.0,1.0,1.0,1.0,0.25\n"
    (settings.data_dir / "BTC_1m.csv").write_text(HEADER + row)

    assert client.get("/api/v1/data/BTC/1m").text == HEADER + row


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("path", "code", "word"),
    [
        ("MSFT/1m", 404, "MSFT_1m.csv"),
        ("AAPL/2m", 400, "2m"),
        ("AAPL/1m?start=soon", 400, "soon"),
        ("AAPL/1m?start=2026-11-21&end=2026-11-20", 400, "2026-11-21"),
        ("AAPL/1m?format=xml", 400, "xml"),
        ("..%5cetc/1m", 400, "etc"),
        ("..%2f..%2fetc%2fpasswd/1m", 404, ""),
        ("%00/1m", 400, ""),
        (f"{'A' * 3000}/1m", 400, "A"),
    ],
)
def test_a_question_that_cannot_be_is_refused_by_name(client, path, code, word):
    answer = client.get(f"/api/v1/data/{path}")

    assert answer.status_code == code
    assert word in answer.json["reason"]


def test_a_broken_file_is_reported(client, store):
    (store / "AAPL_1m.csv").write_text("what is this\n")

    answer = client.get("/api/v1/data/AAPL/1m")

    assert answer.status_code == 422
    assert "AAPL_1m.csv" in answer.json["reason"]


# Formats.


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/csv", "text/csv"),
        ("application/json", "application/json"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/json;q=0.4, text/csv;q=0.5", "text/csv"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/csv"),
        ("*/*", "text/csv"),
        (None, "text/csv"),
    ],
)
def test_accept_chooses_the_format(client, accept, media_type):
    answer = client.get("/api/v1/data/AAPL/1m", headers={"Accept": accept} if accept else {})

    assert (answer.status_code, answer.mimetype) == (200, media_type)
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.usefixtures("store")
def test_the_parameter_goes_before_accept(client):
    answer = client.get("/api/v1/data/AAPL/1m?format=json", headers={"Accept": "text/csv"})

    assert answer.mimetype == "application/json"


@pytest.mark.usefixtures("store")
def test_a_media_type_that_there_is_not_is_refused_with_those_that_there_are(client):
    answer = client.get("/api/v1/data/AAPL/1m", headers={"Accept": "application/xml"})

    assert (answer.status_code, answer.json["outcome"]) == (406, "not_acceptable")
    assert answer.json["detail"] == (
        "Accept 'application/xml': expected one of "
        "text/csv, application/json, application/vnd.apache.parquet"
    )


@pytest.mark.usefixtures("store")
def test_json_is_compact(client):
    text = client.get("/api/v1/data/AAPL/1m?format=json").text

    assert '"bars":[["2026-11-20T14:30:00+00:00",228.06,228.21,227.98,228.15,41200],[' in text
    assert text.endswith('"count":3}\n')
    assert '": ' not in text
    assert ", " not in text.partition('"columns"')[2]


@pytest.mark.usefixtures("store")
def test_parquet_has_the_same_bars_and_says_whose_they_are(client):
    answer = client.get("/api/v1/data/AAPL/1m?format=parquet&start=2026-11-20T14:31")
    table = pyarrow.parquet.read_table(io.BytesIO(answer.data))

    assert table.column_names == ["timestamp", "open", "high", "low", "close", "volume"]
    assert table.column("timestamp").to_pylist() == [
        datetime(2026, 11, 20, 14, 31, tzinfo=UTC),
        datetime(2026, 11, 20, 14, 32, tzinfo=UTC),
    ]
    assert table.column("close").to_pylist() == [228.123456789, 228.05]
    assert table.column("volume").to_pylist() == [39811.0, 1500.0]
    about = json.loads(table.schema.metadata[b"ktrdr"])
    assert (about["symbol"], about["timeframe"], about["complete"]) == ("AAPL", "1m", False)
    assert "filename=AAPL_1m.parquet" in answer.headers["Content-Disposition"]


def test_parquet_of_nothing_can_be_read_too(client, store):
    (store / "AAPL_1m.csv").write_text(HEADER)
    answer = client.get("/api/v1/data/AAPL/1m?format=parquet")

    assert pyarrow.parquet.read_table(io.BytesIO(answer.data)).num_rows == 0


OTHERS_FILES = {
    "other columns": "volume,timestamp,open,high,low,close,note\n"
    "41200,2026-11-20 14:30:00+00:00,228.06,228.21,227.98,228.15,x\n",
    "Windows' line ends": HEADER.replace("\n", "\r\n")
    + "2026-11-20 14:30:00+00:00,228.06,228.21,227.98,228.15,41200\r\n",
    "another spelling of the time": HEADER
    + "2026-11-20T14:30:00Z,228.06,228.21,227.98,228.15,41200\n",
    "another zone": HEADER + "2026-11-20 15:30:00+01:00,228.06,228.21,227.98,228.15,41200\n",
    "seconds since 1970": HEADER + "1795185000,228.06,228.21,227.98,228.15,41200\n",
}


@pytest.mark.parametrize("text", OTHERS_FILES.values(), ids=OTHERS_FILES)
def test_files_of_others_come_in_the_stores_own_words(client, store, text):
    (store / "AAPL_1m.csv").write_bytes(text.encode())

    as_csv = client.get("/api/v1/data/AAPL/1m").text
    as_json = client.get("/api/v1/data/AAPL/1m?format=json").json

    assert as_csv == HEADER + ROWS.partition("\n")[0] + "\n"
    assert as_json["bars"] == [["2026-11-20T14:30:00+00:00", 228.06, 228.21, 227.98, 228.15, 41200]]
    assert as_json["count"] == 1


@pytest.mark.parametrize(
    ("spelled", "value"), [(".5", 0.5), ("5.", 5), ("007", 7), ("+5", 5), ("5e-1", 0.5)]
)
def test_numbers_that_json_spells_otherwise_are_the_same_numbers(client, store, spelled, value):
    row = f"2026-11-20 14:30:00+00:00,{spelled},9,0,{spelled},1\n"
    (store / "AAPL_1m.csv").write_text(HEADER + row)

    (bar,) = client.get("/api/v1/data/AAPL/1m?format=json").json["bars"]

    assert bar == ["2026-11-20T14:30:00+00:00", value, 9, 0, value, 1]


def test_a_torn_last_line_is_no_row(client, store):
    with (store / "AAPL_1m.csv").open("a") as file:
        file.write("2026-11-20 14:33:00+00:00,228")

    assert client.get("/api/v1/data/AAPL/1m").text == HEADER + ROWS
    assert client.get("/api/v1/data/AAPL/1m?format=json").json["count"] == 3


def test_a_row_that_is_wrong_in_the_middle_is_named_before_anything_is_sent(client, store):
    (store / "AAPL_1m.csv").write_text(HEADER + ROWS.replace("228.3,", "oops,"))

    for chosen in ("csv", "json", "parquet"):
        answer = client.get(f"/api/v1/data/AAPL/1m?format={chosen}")
        assert (answer.status_code, answer.json["outcome"]) == (422, "malformed_file")
        assert "AAPL_1m.csv line 3" in answer.json["detail"]


# Pages.


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("chosen", ["csv", "json"])
def test_a_limit_leads_from_page_to_page(client, chosen):
    url, pages = f"/api/v1/data/AAPL/1m?format={chosen}&limit=2&end=2027-01-01", []
    while url:
        answer = client.get(url)
        link = answer.headers.get("Link", "")
        url = link.partition(">")[0].removeprefix("<")
        assert not link or link.endswith('>; rel="next"')
        if chosen == "json":
            assert answer.json["next"] == (url or None)
            pages.append([row[0][14:16] for row in answer.json["bars"]])
        else:
            pages.append([row[14:16] for row in answer.text.splitlines()[1:]])

    assert pages == [["30", "31"], ["32"]]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("limit", [3, 4, 1000])
def test_a_limit_that_is_not_reached_leads_nowhere(client, limit):
    answer = client.get(f"/api/v1/data/AAPL/1m?limit={limit}")

    assert answer.text == HEADER + ROWS
    assert "Link" not in answer.headers


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("limit", ["0", "-1", "many", "10000001"])
def test_a_limit_that_cannot_be_is_refused(client, limit):
    answer = client.get(f"/api/v1/data/AAPL/1m?limit={limit}")

    assert answer.status_code == 400
    assert f"limit='{limit}': expected a whole number from 1 to 10000000" in answer.json["detail"]


def test_pages_of_a_long_series_fit_together(client, settings):
    times = pd.date_range("2026-01-01", periods=5_000, freq="min", tz="UTC")
    lines = [f"{when},1.1,1.3,1.0,1.2,-1\n" for when in times]
    (settings.data_dir / "EURUSD_1m.csv").write_text(HEADER + "".join(lines))

    first = client.get("/api/v1/data/EURUSD/1m?limit=3500")
    url = first.headers["Link"].partition(">")[0].removeprefix("<")

    assert first.text == HEADER + "".join(lines[:3500])
    assert client.get(url).text == HEADER + "".join(lines[3500:])


# What is known of them.


@pytest.mark.usefixtures("store")
def test_incomplete_bars_say_why(client, peers):
    gap = [1795185180, 1795186740, 27, "open"]  # 14:33 to 14:59
    entry = SERIES | {"from": "2026-11-20T14:30:00+00:00", "until": "2026-11-20T21:00:00+00:00"}
    peers.coverage = {"series": [entry | {"gaps": [gap]}]}

    day = client.get("/api/v1/data/AAPL/1m?start=2026-11-20T14:30&end=2026-11-20T15:00")

    assert day.headers["X-Complete"] == "false"
    assert day.headers["X-Complete-Why"] == "up to 27 bars are missing"


def test_complete_bars_say_so_and_a_page_is_judged_by_itself(client, store, peers):
    status = (store / "AAPL_1m.csv").stat()
    key = [status.st_size, status.st_mtime_ns, status.st_ino]
    gap = [1795185120, 1795185120, 1, "open"]  # 14:32 would be missing
    entry = SERIES | {"from": "2026-11-20T14:30:00+00:00", "until": "2026-11-20T21:00:00+00:00"}
    peers.coverage = {"series": [entry | {"gaps": [gap], "key": key}]}
    span = "start=2026-11-20T14:30&end=2026-11-20T14:33"

    page = client.get(f"/api/v1/data/AAPL/1m?{span}&limit=2")
    assert page.headers["X-Complete"] == "true"
    assert "X-Complete-Why" not in page.headers
    assert client.get(f"/api/v1/data/AAPL/1m?{span}").headers["X-Complete"] == "false"


@pytest.mark.usefixtures("store")
def test_who_has_the_bars_is_told_so(client, store):
    answer = client.get("/api/v1/data/AAPL/1m")
    tag = {"If-None-Match": answer.headers["ETag"]}

    again = client.get("/api/v1/data/AAPL/1m", headers=tag)
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/api/v1/data/AAPL/1m?format=json", headers=tag).status_code == 200

    with (store / "AAPL_1m.csv").open("a") as file:
        file.write("2026-11-20 14:33:00+00:00,1,1,1,1,1\n")
    assert client.get("/api/v1/data/AAPL/1m", headers=tag).status_code == 200


def test_a_large_series_is_not_read_before_it_is_sent(client, settings):
    row = "2026-01-01 00:00:00+00:00,1.1,1.3,1.0,1.2,-1\n"
    times = pd.date_range("2026-01-01", periods=20_000, freq="min", tz="UTC")
    path = settings.data_dir / "EURUSD_1m.csv"
    path.write_text(HEADER + "".join(f"{when}{row[25:]}" for when in times))

    answer = client.get("/api/v1/data/EURUSD/1m", buffered=False)
    parts = answer.iter_encoded()
    first = next(parts) + next(parts)
    assert first.startswith(f"{HEADER}{row}".encode())
    assert len(first) < 70_000
    assert len(first) + sum(map(len, parts)) == path.stat().st_size
    answer.close()


def test_of_a_store_that_is_not_mounted_the_folder_is_named(client, store):
    store.rename(store.with_name("away"))
    answer = client.get("/api/v1/data/AAPL/1m")
    assert answer.json["hint"].endswith(f"first mount its disk: there is no folder {store}")
