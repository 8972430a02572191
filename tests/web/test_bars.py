from __future__ import annotations

import io

import pandas as pd
import pytest

HEADER = "timestamp,open,high,low,close,volume\n"
ROWS = (
    "2026-11-20 14:30:00+00:00,228.06,228.21,227.98,228.15,41200\n"
    "2026-11-20 14:31:00+00:00,228.15,228.3,228.1,228.123456789,39811\n"
    "2026-11-20 14:32:00+00:00,228.12,228.12,228.0,228.05,1500\n"
)


@pytest.fixture
def store(settings):
    settings.data_dir.mkdir()
    (settings.data_dir / "AAPL_1m.csv").write_text(HEADER + ROWS)
    return settings.data_dir


@pytest.mark.usefixtures("store")
def test_bars_come_in_the_stores_own_words(client):
    answer = client.get("/api/v1/data/AAPL/1m?format=csv")

    assert answer.status_code == 200
    assert answer.content_type.startswith("text/csv")
    assert answer.text == HEADER + ROWS


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
    settings.data_dir.mkdir()
    times = pd.date_range("2026-01-01", periods=45_001, freq="min", tz="UTC")
    lines = [f"{when},1.1,1.3,1.0,1.2,-1\n" for when in times]
    (settings.data_dir / "EURUSD_1m.csv").write_text(HEADER + "".join(lines))

    response = client.get("/api/v1/data/EURUSD/1m")
    as_json = client.get("/api/v1/data/EURUSD/1m?format=json").json

    assert response.text == HEADER + "".join(lines)
    assert len(as_json["bars"]) == as_json["count"] == 45_001
    assert pd.read_csv(io.StringIO(response.text))["volume"].unique().tolist() == [-1]


def test_parts_of_a_coin_stay_parts(client, settings):
    settings.data_dir.mkdir()
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
