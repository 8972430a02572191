"""ktrdr/web/validators.py: tags, 304, compression; HEAD and OPTIONS."""

from __future__ import annotations

import gzip
import json
import os

import pytest

ROWS = "".join(
    f"2026-11-20 {14 + n // 60}:{n % 60:02}:00+00:00,228.06,228.21,227.98,228.15,{41200 + n}\n"
    for n in range(300)
)
HEADER = "timestamp,open,high,low,close,volume\n"
CSV = "/api/v1/data/AAPL/1m?format=csv"
STATUS = "/api/v1/system/ib-status"
GZIP = {"Accept-Encoding": "gzip"}
PATHS = ["/", STATUS, "/api/v1/data/coverage", "/api/v1/data/coverage/grid", CSV]


@pytest.fixture
def bars(settings):
    path = settings.data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + ROWS)
    return path


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("peers", "bars")
def test_who_has_it_is_told_so_in_a_few_bytes(client, path):
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    other = client.get(path, headers={"If-None-Match": '"other"'})

    assert (again.status_code, again.data) == (304, b"")
    assert (again.headers["ETag"], again.headers["Cache-Control"]) == (
        first.headers["ETag"],
        "no-cache",
    )
    assert len(str(again.headers)) < 250
    assert (other.status_code, other.data) == (200, first.data)


@pytest.mark.parametrize("path", [*PATHS, "/metrics"])
@pytest.mark.usefixtures("peers", "bars")
def test_who_has_it_is_told_what_it_varies_by(client, path):
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": "*"})

    assert again.status_code == 304
    assert set(again.headers["Vary"].split(", ")) == set(first.headers["Vary"].split(", "))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("peers", "bars")
def test_it_is_compressed_for_those_who_can_read_that(client, path):
    plain, packed = client.get(path), client.get(path, headers=GZIP)
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert "Content-Encoding" not in plain.headers
    is_packed = packed.headers.get("Content-Encoding") == "gzip"
    assert is_packed or len(plain.data) < 500
    assert (gzip.decompress(packed.data) if is_packed else packed.data) == plain.data


@pytest.mark.usefixtures("peers")
def test_metrics_are_compressed(client):
    packed = client.get("/metrics", headers=GZIP)

    assert packed.headers["Content-Encoding"] == "gzip"
    assert {"Accept", "Accept-Encoding"} == set(packed.headers["Vary"].split(", "))
    assert b"# TYPE ktrdr_ready gauge" in gzip.decompress(packed.data)
    assert len(packed.data) < len(client.get("/metrics").data) / 3


@pytest.mark.usefixtures("bars")
def test_a_csv_has_one_tag_compressed_or_not(client):
    plain, packed = client.get(CSV), client.get(CSV, headers=GZIP)

    assert plain.headers["ETag"].startswith("W/")
    assert packed.headers["ETag"] == plain.headers["ETag"]
    for one in (plain, packed):
        again = client.get(CSV, headers={"If-None-Match": one.headers["ETag"]} | GZIP)
        assert (again.status_code, again.headers["ETag"]) == (304, one.headers["ETag"])


def changed_rows(path):
    path.write_text(HEADER + ROWS.replace("228.15", "228.16"))


def changed_time(path):
    os.utime(path, ns=(1, 1))


def changed_file(path):
    state = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.rename(path)


def changed_source(path):
    (path.parent / ".ktrdr").mkdir()
    (path.parent / ".ktrdr" / "source").write_text("live")


@pytest.mark.parametrize("change", [changed_rows, changed_time, changed_file, changed_source])
def test_a_csv_that_may_have_changed_has_another_tag(client, bars, change):
    tag = client.get(CSV).headers["ETag"]
    assert client.get(CSV).headers["ETag"] == tag
    change(bars)

    assert client.get(CSV, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.usefixtures("bars")
def test_each_span_and_format_has_a_tag_of_its_own(client):
    paths = [CSV, f"{CSV}&start=2026-11-20T14:01:00Z", "/api/v1/data/AAPL/1m?format=json"]

    assert len({client.get(path).headers["ETag"] for path in paths}) == 3


def test_an_error_has_no_tag_and_is_not_kept(client):
    answer = client.get(CSV)

    assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store")
    assert "ETag" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("peers", "bars")
def test_head_says_what_get_would(client, path):
    got, head = client.get(path), client.head(path)

    assert (head.status_code, head.data) == (200, b"")
    assert head.content_type == got.content_type
    assert head.headers["Content-Security-Policy"] == got.headers["Content-Security-Policy"]


def test_head_of_broken_bars_fails_as_get_does(client, bars):
    bars.write_bytes(b"\xff no bars \xff")
    assert (client.head(CSV).status_code, client.get(CSV).status_code) == (422, 422)


@pytest.mark.usefixtures("bars")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/data/MSFT/1m", 404),
        ("/api/v1/data/AAPL/9m", 400),
        ("/api/v1/data/a!b/1m", 400),
        ("/api/v1/data/AAPL/1m?format=xml", 400),
    ],
)
def test_head_of_bars_fails_as_get_does(client, path, status):
    assert (client.head(path).status_code, client.get(path).status_code) == (status, status)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (STATUS, {"GET", "HEAD", "OPTIONS"}),
        (CSV, {"GET", "HEAD", "OPTIONS"}),
        ("/", {"GET", "HEAD", "OPTIONS"}),
        ("/metrics", {"GET", "HEAD", "OPTIONS"}),
        ("/api/v1/data/fills", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/api/v1/data/fills/3", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("/api/v1/system/gap-filler/force-scan", {"POST", "OPTIONS"}),
    ],
)
def test_options_says_what_is_possible_and_nothing_else(client, peers, path, methods):
    answer = client.options(path)

    assert (answer.status_code, answer.data) == (204, b"")
    assert set(answer.headers["Allow"].split(", ")) == methods
    assert "Content-Type" not in answer.headers
    assert peers.requested == []


def test_what_is_nowhere_has_no_options(client):
    assert client.options("/api/v1/nothing").status_code == 404


@pytest.mark.usefixtures("peers")
def test_json_is_as_it_was(client):
    packed = client.get(STATUS, headers=GZIP)

    assert json.loads(gzip.decompress(packed.data)) == client.get(STATUS).json
