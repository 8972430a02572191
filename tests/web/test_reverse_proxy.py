"""ktrdr/web/reverse_proxy.py: through a real proxy, at its own path, and for whom it forwards."""

from __future__ import annotations

import http.client
import json
import re

import pytest
from pydantic import SecretStr

from ktrdr.web.reverse_proxy import below, prefix_of
from tests.ports import free_port
from tests.web.listening import listening
from tests.web.small_proxy import proxy

TOKEN = "k7Hq2pZx9Lm0vBn3"
NAS = "https://nas.lan/ktrdr"
SITES = (NAS, "http://ktrdr:8000", "https://bars.example.org")
SCAN = "/api/v1/system/gap-filler/force-scan"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CADDY = {"Host": "nas.lan", "X-Forwarded-Host": "nas.lan", "X-Forwarded-Proto": "https"}
CADDY |= {"X-Forwarded-For": "203.0.113.7"}


@pytest.fixture
def site(settings):
    """The settings of a page that a proxy on this machine forwards."""
    port = free_port()
    more = {"ktrdr_status_token": SecretStr(TOKEN), "ktrdr_status_url": NAS}
    return settings.model_copy(
        update={"ktrdr_status_port": port, "ktrdr_status_proxies": "127.0.0.1/32", **more}
    )


def call(port, method, path, **headers):
    """Status, headers and body of an answer, with the token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=BEARER | headers)
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def links(html):
    """All addresses of our own in a page."""
    found = set(re.findall(r'(?:href|src|action|data-\w+)="(/[^"]*)"', html))
    assert len(found) > 10
    return found


@pytest.mark.parametrize("stripped", ["", "/ktrdr"])
@pytest.mark.parametrize(
    "added",
    [
        CADDY | {"X-Forwarded-Prefix": "/ktrdr"},
        CADDY,
        {"Host": "nas.lan"},  # a proxy that passes only that
    ],
)
@pytest.mark.usefixtures("peers")
def test_a_page_with_a_path_of_its_own_works_as_a_whole(site, added, stripped):
    with listening(site), proxy(site.ktrdr_status_port, added, stripped) as port:
        status, _, page = call(port, "GET", "/ktrdr/")
        assert status == 200
        found = links(page)
        assert all(link.startswith("/ktrdr") for link in found)
        assert 'data-root="/ktrdr"' in page
        for link in found | {"/ktrdr/live/overview", "/ktrdr/healthz", "/ktrdr"}:
            if link != "/ktrdr/readyz":
                assert call(port, "GET", link.replace("&amp;", "&"))[0] == 200, link
        status, headers, _ = call(port, "POST", "/ktrdr/scan", Origin="https://nas.lan")
        assert (status, headers["Location"]) == (303, "/ktrdr/?notice=scan-requested")
        assert links(call(site.ktrdr_status_port, "GET", "/")[2]).isdisjoint(found)


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("data/series?symbol=BRK+B&timeframe=1d", "data/series/BRK%20B/1d"),
        ("data/fills?symbol=AAPL&timeframe=1m&from=2015-01-01", "data/fills/3"),
    ],
)
def test_what_was_made_is_below_the_path_of_the_page(site, path, place):
    with listening(site), proxy(site.ktrdr_status_port, CADDY, "/ktrdr") as port:
        _, headers, _ = call(port, "POST", f"/ktrdr/api/v1/{path}")

    assert headers["Location"] == f"/ktrdr/api/v1/{place}"


@pytest.mark.usefixtures("peers")
def test_a_proxy_that_says_nothing_but_keeps_the_path_is_understood(site):
    with listening(site), proxy(site.ktrdr_status_port, {"Host": "127.0.0.1"}) as port:
        status, _, page = call(port, "GET", "/ktrdr/")

    assert status == 200
    assert all(link.startswith("/ktrdr") for link in links(page))


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://nas.lan", 202),
        ("http://nas.lan", 403),
        ("https://nas.lan:8443", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
@pytest.mark.usefixtures("peers")
def test_buttons_work_from_its_https_origin_alone(site, origin, status):
    with listening(site), proxy(site.ktrdr_status_port, CADDY, "/ktrdr") as port:
        assert call(port, "POST", f"/ktrdr{SCAN}", Origin=origin)[0] == status


@pytest.mark.parametrize(
    ("proto", "origin", "status"),
    [
        ("https", "https://localhost:8443", 202),
        ("https", "http://localhost:8443", 403),
        ("http", "https://localhost:8443", 403),
    ],
)
@pytest.mark.usefixtures("peers")
def test_the_forwarded_scheme_counts_for_a_name_of_this_machine(site, proto, origin, status):
    added = {"Host": "localhost:8443", "X-Forwarded-Proto": proto, "X-Forwarded-For": "127.0.0.1"}
    with listening(site), proxy(site.ktrdr_status_port, added) as port:
        assert call(port, "POST", SCAN, Origin=origin)[0] == status


FROM_ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9"}
FORGED = {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https"}
FORGED |= {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Prefix": "/x", "Forwarded": "for=1.2.3.4"}


@pytest.mark.parametrize("proxies", [None, "192.0.2.1", "192.0.2.0/24,2001:db8::/64"])
@pytest.mark.usefixtures("peers")
def test_nobody_else_is_believed(new_client, proxies):
    client = new_client(ktrdr_status_proxies=proxies, ktrdr_status_token=SecretStr(TOKEN))

    page = client.get("/", headers=BEARER | FORGED, environ_overrides=FROM_ELSEWHERE)
    assert page.status_code == 200
    assert 'data-root=""' in page.text
    foreign = client.get(
        "/", headers=BEARER | FORGED | {"Host": "evil"}, environ_overrides=FROM_ELSEWHERE
    )
    assert foreign.status_code == 400
    own = {"Host": "localhost", "Origin": "https://localhost"}
    posted = client.post(SCAN, headers=BEARER | FORGED | own, environ_overrides=FROM_ELSEWHERE)
    assert posted.status_code == 403


def forwarded(client, **headers):
    values = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get("/api/v1/system/ib-status", headers=values)


@pytest.mark.usefixtures("peers")
def test_callers_are_those_that_the_proxy_forwards(new_client):
    client = new_client(ktrdr_status_proxies="127.0.0.1/32", ktrdr_status_callers="203.0.113.0/24")

    assert forwarded(client, X_Forwarded_For="203.0.113.7").status_code == 200
    assert forwarded(client, X_Forwarded_For="198.51.100.1, 203.0.113.7").status_code == 200
    refused = forwarded(client, X_Forwarded_For="203.0.113.7, 198.51.100.1")
    assert refused.status_code == 403
    assert refused.json["detail"] == "198.51.100.1 is not in KTRDR_STATUS_CALLERS"
    assert forwarded(client).status_code == 200  # this machine itself


@pytest.mark.parametrize(
    ("header", "value", "detail"),
    [
        ("X_Forwarded_Proto", "gopher", "X-Forwarded-Proto 'gopher': expected http or https"),
        ("X_Forwarded_Prefix", "//evil.example", "expected a path: /ktrdr"),
        ("X_Forwarded_Prefix", "/a/../b", "expected a path: /ktrdr"),
        ("X_Forwarded_Prefix", "/<script>", "expected a path: /ktrdr"),
        ("X_Forwarded_For", "unknown", "X-Forwarded-For 'unknown': expected an address"),
        ("X_Forwarded_Host", "evil.example", "Host 'evil.example' is not one of this page's"),
    ],
)
def test_what_a_proxy_may_not_say_is_refused(new_client, header, value, detail):
    client = new_client(ktrdr_status_proxies="127.0.0.1/32", ktrdr_status_token=SecretStr(TOKEN))

    answer = forwarded(client, **{header: value})
    assert answer.status_code == 400
    assert detail in answer.json["detail"]


def test_who_guesses_is_told_apart_from_the_others_of_the_same_proxy(new_client):
    client = new_client(ktrdr_status_proxies="127.0.0.1/32", ktrdr_status_token=SecretStr(TOKEN))
    for number in range(11):
        wrong = {"Authorization": f"Bearer wrong-{number}"}
        last = forwarded(client, X_Forwarded_For="203.0.113.7", **wrong).status_code
    other = forwarded(client, X_Forwarded_For="203.0.113.8", Authorization="Bearer wrong")

    assert (last, other.status_code) == (429, 401)


@pytest.mark.parametrize(
    ("path", "host", "prefix"),
    [
        ("/", "nas.lan", "/ktrdr"),
        ("/ktrdr/live/x", "NAS.lan:443", "/ktrdr"),
        ("/", "nas.lan:8443", ""),
        ("/ktrdr/", "127.0.0.1:8000", "/ktrdr"),
        ("/ktrdrs/", "127.0.0.1:8000", ""),
        ("/", "bars.example.org", ""),
        ("/", "ktrdr:8000", ""),
    ],
)
def test_the_path_of_its_own_is_found_by_host_or_path(path, host, prefix):
    assert prefix_of(path, host, SITES) == prefix


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        ("/ktrdr/live/x", "/ktrdr", "/live/x"),
        ("/ktrdr/", "/ktrdr", "/"),
        ("/ktrdr", "/ktrdr", "/"),
        ("/live/x", "/ktrdr", "/live/x"),
        ("/ktrdrs", "/ktrdr", "/ktrdrs"),
        ("/ktrdr", "", "/ktrdr"),
    ],
)
def test_a_path_is_the_same_whether_the_proxy_has_shortened_it_or_not(path, prefix, rest):
    assert below(path, prefix) == rest


def test_json_through_a_proxy_is_the_same(site):
    with listening(site), proxy(site.ktrdr_status_port, CADDY, "/ktrdr") as port:
        assert json.loads(call(port, "GET", "/ktrdr/healthz")[2]) == {"alive": True}
