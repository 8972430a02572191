"""ktrdr/web/page_access.py: whom the page is for, and its description."""

import pytest

from ktrdr.errors import Misconfigured
from ktrdr.web.page_access import page_callers, page_is_for

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
    ],
)
def test_it_is_described_whom_it_is_for(make_settings, given, words):
    settings = make_settings(**given)
    page_callers(settings)
    assert page_is_for(settings) == words


def test_its_own_networks_are_named(make_settings):
    settings = make_settings(ktrdr_status_host="0.0.0.0", ktrdr_status_callers="own-networks")
    assert "the networks that it is in (" in page_is_for(settings)
