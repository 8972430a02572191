"""What an endpoint does not know is refused by name: a typing error is no filter."""

from __future__ import annotations

import pytest

from ktrdr.config.settings import load_settings
from ktrdr.web import create_app

COVERAGE = "/api/v1/data/coverage"
FILLS = "/api/v1/data/fills"
FILL = {"symbol": "AAPL", "timeframe": "1m", "from": "2015-01-01"}

PLACES = {
    "<name>": "gap-filler",
    "<outcome>": "unknown_series",
    "<int:number>": "3",
    "<symbol>/<timeframe>": "AAPL/1m",
}


def endpoints():
    return [*_endpoints()]


def _endpoints():
    """Method and path of everything below /api/v1."""
    app = create_app(load_settings(_env_file=None))
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1"):
            path = rule.rule
            for part, value in PLACES.items():
                path = path.replace(part, value)
            for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
                yield pytest.param(method, path, id=f"{method} {path}")


@pytest.fixture
def store(settings):
    row = "2026-11-20 14:30:00+00:00,1.0,1.0,1.0,1.0,1\n"
    text = f"timestamp,open,high,low,close,volume\n{row}"
    (settings.data_dir / "AAPL_1m.csv").write_text(text)


@pytest.mark.parametrize(("method", "path"), endpoints())
@pytest.mark.usefixtures("store")
def test_no_endpoint_swallows_an_unknown_parameter(client, peers, method, path):
    answer = client.open(path, method=method, query_string={"foo": "1"})

    assert answer.status_code == 400
    assert "parameter 'foo'" in answer.json["detail"]
    assert peers.requested == []


@pytest.mark.parametrize(("method", "path"), endpoints())
@pytest.mark.usefixtures("store")
def test_no_endpoint_swallows_an_unknown_key_of_a_body(client, peers, method, path):
    answer = client.open(path, method=method, json={"foo": "1"})

    assert answer.status_code == 400
    assert "key 'foo'" in answer.json["detail"]
    assert peers.requested == []


def test_the_nearest_right_name_and_all_of_them_are_given(client, peers):
    problem = client.get(f"{COVERAGE}?timefrane=1m").json

    assert problem["type"] == "/api/v1/problems/invalid_request"
    assert problem["detail"] == "unknown parameter 'timefrane': expected symbol, timeframe"
    assert problem["hint"] == "did you mean timeframe?"
    assert peers.requested == []


def test_a_name_like_none_has_no_nearest_one(client):
    problem = client.get("/api/v1/system/ib-status?days=30").json

    assert problem["detail"] == "unknown parameter 'days': expected none"
    assert problem["hint"] is None


def test_a_key_that_is_almost_right_is_corrected(client):
    problem = client.post(FILLS, json=FILL | {"form": "2015-01-01"}).json

    assert problem["detail"] == "unknown key 'form': expected symbol, timeframe, from"
    assert problem["hint"] == "did you mean from?"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        (
            f"{COVERAGE}?timeframe=9m",
            "timeframe='9m': expected one of 1m, 5m, 15m, 30m, 1h, 4h, 1d",
        ),
        (f"{COVERAGE}?symbol=a/b", "symbol 'a/b': expected letters, digits"),
        (f"{COVERAGE}?symbol=AAPL&symbol=MSFT", "parameter 'symbol' is there more than once"),
        (f"{COVERAGE}?timeframe=", "timeframe='': expected one of 1m, 5m"),
        ("/api/v1/system/ib-history?days=7", "days='7': expected one of 1, 30"),
        ("/api/v1/system/ib-history?days=1_0", "days='1_0': expected one of 1, 30"),
        (
            "/api/v1/system/logs/gap-filler?lines=2000",
            "lines='2000': expected a whole number from 1 to 1000",
        ),
        (
            "/api/v1/data/AAPL/1m?end=soon",
            "end='soon': expected a date or time such as 2026-11-20 or 2026-11-20T14:30:00+00:00",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(client, path, detail):
    answer = client.get(path)

    assert answer.status_code == 400
    assert answer.json["detail"].startswith(detail)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"timeframe": "9m"}, "timeframe='9m': expected one of 1m"),
        ({"symbol": "a/b"}, "symbol 'a/b': expected letters"),
        ({"from": "soon"}, "from='soon': expected a day such as 2026-11-20"),
    ],
)
def test_a_wrong_value_in_a_body_is_named_too(client, peers, change, detail):
    answer = client.post(FILLS, json=FILL | change)

    assert answer.status_code == 400
    assert answer.json["detail"].startswith(detail)
    assert peers.requested == []


def test_values_in_two_places_are_refused(client, peers):
    answer = client.post(FILLS, json=FILL, query_string={"symbol": "MSFT"})

    assert answer.status_code == 400
    assert "'symbol' is in the query, and there is a body" in answer.json["detail"]
    assert peers.requested == []
