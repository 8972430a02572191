from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr

SCAN = "/api/v1/system/gap-filler/force-scan"
FILLS = "/api/v1/data/fills"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"]
)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::"])
def test_this_machines_names_are_answered(new_client, bound, host):
    client = new_client(ktrdr_status_host=bound)

    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example:8000",
        "0.0.0.0",
        "",
        "[::]",
        "[",
        "localhost:80@evil",
        "evil@localhost",
        "[::1]evil",
        "[::1]:80:90",
        "localhost:80:90",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:http",
        "localhost/",
        "::1",
        "127.0.0.1.",
        "127.1",
    ],
)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/system/ib-status", "/static/page.css"])
def test_a_foreign_host_is_refused(new_client, path, bound, host):
    client = new_client(ktrdr_status_host=bound)

    with client.get(path, headers={"Host": host}) as answer:
        assert answer.status_code == 400


@pytest.mark.parametrize("host", ["192.168.1.9:8000", "[::2]"])
def test_an_address_is_answered_where_it_listens_on_all_of_them(new_client, host):
    for bound, status in (("0.0.0.0", 200), ("::", 200), ("127.0.0.1", 400)):
        client = new_client(ktrdr_status_host=bound)
        assert client.get("/healthz", headers={"Host": host}).status_code == status


def test_the_address_that_it_is_bound_to_is_answered(new_client):
    client = new_client(ktrdr_status_host="192.168.1.9")

    assert client.get("/healthz", headers={"Host": "192.168.1.9:8000"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "192.168.1.8:8000"}).status_code == 400


@pytest.mark.parametrize(
    ("bound", "host"),
    [
        ("fe80::1%eth0", "[fe80::1]:8000"),
        ("2001:DB8:0::9", "[2001:db8::9]"),
        ("Box.Lan", "box.lan"),
    ],
)
def test_what_it_is_bound_to_is_answered_however_it_is_spelled(new_client, bound, host):
    client = new_client(ktrdr_status_host=bound)

    assert client.get("/healthz", headers={"Host": host}).status_code == 200


PROXY = "https://ktrdr.example.org"
URLS = f"{PROXY},http://ktrdr:8000,http://[2001:db8::9]:9000"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("ktrdr.example.org", 200),
        ("KTRDR.example.org:443", 200),
        ("ktrdr:8000", 200),
        ("[2001:db8::9]:9000", 200),
        ("localhost", 200),
        ("example.org", 400),
        ("ktrdr.example.org@evil", 400),
    ],
)
def test_it_is_answered_under_the_names_of_its_own_addresses(new_client, host, status):
    client = new_client(ktrdr_status_url=URLS)

    assert client.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("ktrdr.example.org", PROXY, 202),
        ("ktrdr.example.org", "HTTPS://ktrdr.Example.org", 202),
        ("127.0.0.1:8000", PROXY, 202),  # a proxy that passes its own Host on
        ("ktrdr:8000", "http://ktrdr:8000", 202),
        ("ktrdr:8000", "http://ktrdr:9000", 403),
        ("localhost:8000", "http://localhost:8000", 202),
        ("ktrdr.example.org", "http://ktrdr.example.org", 403),
        ("ktrdr.example.org", "https://evil.example", 403),
        ("ktrdr.example.org", "null", 403),
    ],
)
@pytest.mark.usefixtures("peers")
def test_posts_come_from_its_own_addresses_alone(new_client, host, origin, status):
    client = new_client(ktrdr_status_url=URLS)

    answer = client.post(SCAN, headers={"Host": host, "Origin": origin})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "https://localhost:8000"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    ],
)
@pytest.mark.parametrize(
    "path", [SCAN, "/scan", FILLS, "/fills/cancel", "/fills/pause", "/connection/reconnect"]
)
def test_another_sites_post_is_refused(client, peers, path, headers):
    answer = client.post(path, headers={"Host": "localhost:8000", **headers})

    assert answer.status_code == 403
    assert peers.requested == []


def test_another_site_cancels_nothing(client, peers):
    answer = client.delete(f"{FILLS}/3", headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert peers.requested == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://LOCALHOST:8000"},
    ],
)
@pytest.mark.usefixtures("peers")
def test_our_own_posts_and_curl_are_answered(client, headers):
    assert client.post(SCAN, headers={"Host": "localhost:8000", **headers}).status_code == 202


TOKEN = "k7=Hq+2/pZ:x9~Lm0"


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bearer  {TOKEN} "},
        basic("anybody", TOKEN),
        basic("", TOKEN),
    ],
)
@pytest.mark.parametrize(
    "path", ["/metrics", "/", "/live/overview", "/static/page.css", "/api/v1/nothing"]
)
@pytest.mark.usefixtures("peers")
def test_whoever_sends_the_token_is_answered(new_client, path, headers):
    client = new_client(ktrdr_status_token=SecretStr(TOKEN))

    with client.get(path, headers=headers) as answer:
        assert answer.status_code == (404 if path.endswith("nothing") else 200)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Digest {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Basic \xff"},
        {"Authorization": "Basic ="},
        basic(TOKEN, ""),
        basic(TOKEN, "x"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/live/overview", "/metrics", "/readyz", "/static/page.css", "/nothing"]
)
def test_whoever_does_not_learns_that_there_is_one_and_nothing_else(new_client, path, headers):
    client = new_client(ktrdr_status_token=SecretStr(TOKEN))

    answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="ktrdr"'
    assert len(answer.data) < 300
    assert TOKEN not in answer.text


def test_nobody_writes_without_the_token(new_client, peers):
    client = new_client(ktrdr_status_token=SecretStr(TOKEN))
    assert client.post(SCAN).status_code == 401
    assert client.delete(f"{FILLS}/3").status_code == 401
    assert peers.requested == []
    foreign = {"Origin": "http://evil.example", **basic("x", TOKEN)}  # as a browser adds it
    assert client.post(SCAN, headers=foreign).status_code == 403
    assert client.post(SCAN, headers=basic("x", TOKEN)).status_code == 202


def test_a_probe_needs_no_token_and_a_foreign_host_no_question(new_client):
    client = new_client(ktrdr_status_token=SecretStr(TOKEN))
    assert client.get("/healthz").status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_errors_under_api_are_json(client):
    foreign = client.get("/api/v1/system/ib-status", headers={"Host": "evil.example"})

    assert "evil.example" in foreign.json["reason"]
    assert client.get("/api/v1/nothing").json["outcome"] == "not_found"


@pytest.mark.parametrize("path", ["/", "/api/v1/system/ib-status", "/static/page.js", "/nothing"])
def test_a_browser_may_load_nothing_from_elsewhere(client, path):
    with client.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
