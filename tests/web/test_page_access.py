"""ktrdr/web/page_access.py: whom the page is for, and its description."""

import pytest

from ktrdr.config.callers import may_connect
from ktrdr.errors import Misconfigured
from ktrdr.web.page_access import connecting, page_callers, page_is_for

TOKEN = "k7Hq2pZx9Lm0vBn3"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "192.168.1.9", "fe80::1%eth0", "box.lan"])
def test_where_others_can_connect_a_setting_must_name_them(make_settings, host):
    with pytest.raises(Misconfigured) as raised:
        page_callers(make_settings(ktrdr_status_host=host))
    message = str(raised.value)
    assert message.startswith(f"KTRDR_STATUS_HOST={host}: expected 127.0.0.1; ")
    assert "KTRDR_STATUS_CALLERS" in message
    assert "KTRDR_STATUS_TOKEN" in message
    assert "\n" not in message


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_proxy_forwards_others_so_a_setting_must_name_them(make_settings, host):
    given = {"ktrdr_status_host": host, "ktrdr_status_proxies": "127.0.0.1"}
    with pytest.raises(Misconfigured) as raised:
        page_callers(make_settings(**given))
    message = str(raised.value)
    assert message.startswith("KTRDR_STATUS_PROXIES=127.0.0.1/32: expected a setting that says")
    assert "KTRDR_STATUS_CALLERS" in message
    assert "KTRDR_STATUS_TOKEN" in message
    page_callers(make_settings(**given, ktrdr_status_token=TOKEN))
    page_callers(make_settings(**given, ktrdr_status_callers="10.0.0.0/8"))


def test_a_proxy_may_connect_and_its_clients_may_not(make_settings):
    settings = make_settings(
        ktrdr_status_host="0.0.0.0",
        ktrdr_status_callers="10.0.0.0/8",
        ktrdr_status_proxies="172.18.0.2",
    )
    callers = page_callers(settings)
    assert not may_connect(callers, "172.18.0.2", "172.18.0.1", [])
    assert may_connect(connecting(callers, settings.status_proxies), "172.18.0.2", "172.18.0.1", [])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "this machine alone"),
        (
            {"ktrdr_status_host": "::1", "ktrdr_status_token": TOKEN},
            "this machine alone, with the token",
        ),
        (
            {"ktrdr_status_host": "0.0.0.0", "ktrdr_status_callers": "10.0.0.0/8, fd00::/8"},
            "this machine, 10.0.0.0/8, fd00::/8",
        ),
        (
            {"ktrdr_status_host": "0.0.0.0", "ktrdr_status_token": TOKEN},
            "everybody who reaches 0.0.0.0, with the token",
        ),
        (
            {
                "ktrdr_status_host": "192.168.1.9",
                "ktrdr_status_callers": "192.168.1.0/24",
                "ktrdr_status_token": TOKEN,
            },
            "this machine, 192.168.1.0/24, with the token",
        ),
        (
            {"ktrdr_status_proxies": "127.0.0.1,::1", "ktrdr_status_token": TOKEN},
            "this machine, and whom the proxy at 127.0.0.1/32,::1/128 forwards, with the token",
        ),
    ],
)
def test_it_is_described_whom_it_is_for(make_settings, given, words):
    settings = make_settings(**given)
    page_callers(settings)
    assert page_is_for(settings) == words


def test_its_own_networks_are_named(make_settings):
    settings = make_settings(ktrdr_status_host="0.0.0.0", ktrdr_status_callers="own-networks")
    assert "the networks that it is in (" in page_is_for(settings)
