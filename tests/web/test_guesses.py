from __future__ import annotations

import base64
import logging

import pytest
from pydantic import SecretStr

from ktrdr.web.guesses import Guesses

TOKEN = "k7=Hq+2/pZ:x9~Lm0"
MINUTE, HOUR = 60, 3600


def guess(guesses, address, count, now=0.0, prefix="guess"):
    for number in range(count):
        guesses.note(address, f"Bearer {prefix}-{number}", now)


def test_ten_a_minute_are_looked_at():
    guesses = Guesses()
    guess(guesses, "192.0.2.1", 9)
    assert guesses.wait_s("192.0.2.1", 1.0) == 0
    guess(guesses, "192.0.2.1", 1, now=20.0, prefix="tenth")
    assert guesses.wait_s("192.0.2.1", 21.0) == 39
    assert guesses.wait_s("192.0.2.2", 21.0) == 0
    assert guesses.wait_s("192.0.2.1", 60.0) == 0
    guess(guesses, "192.0.2.1", 9, now=61.0)
    assert guesses.wait_s("192.0.2.1", 62.0) == 0


def test_the_same_one_again_and_again_is_no_guessing():
    guesses = Guesses()
    for second in range(1000):
        guesses.note("192.0.2.1", "Bearer yesterdays-token", float(second))
        assert guesses.wait_s("192.0.2.1", float(second)) == 0


@pytest.mark.parametrize(
    "addresses",
    [
        [f"2001:db8::{number:x}" for number in range(1, 11)],
        ["::ffff:192.0.2.9", "192.0.2.9"] * 5,
        [f"10.{number // 250}.1.{number % 250}" for number in range(5000)],
    ],
)
def test_more_addresses_give_no_more_guesses(addresses):
    guesses = Guesses()
    for number, address in enumerate(addresses):
        guesses.note(address, f"Bearer guess-{number}", 0.0)
    assert guesses.wait_s(addresses[-1], 1.0) > 0


def test_after_an_hour_new_clients_are_counted_by_themselves_again():
    guesses = Guesses()
    for number in range(500):
        guesses.note(f"10.1.{number // 250}.{number % 250}", "Bearer guess", 0.0)
    guess(guesses, "192.0.2.1", 10, now=2.0 * HOUR)
    assert guesses.wait_s("192.0.2.1", 2.0 * HOUR) > 0
    assert guesses.wait_s("192.0.2.2", 2.0 * HOUR) == 0


def test_a_client_is_logged_once_an_hour(caplog):
    guesses = Guesses()
    for minute in range(60):
        guess(guesses, "192.0.2.1", 50, now=float(minute * MINUTE))
    first, many = (record.getMessage() for record in caplog.records)
    assert first == "192.0.2.1 sent a wrong KTRDR_STATUS_TOKEN"
    assert "192.0.2.1" in many
    caplog.clear()
    guess(guesses, "192.0.2.1", 1, now=float(HOUR))
    assert [record.getMessage() for record in caplog.records] == [first]


def test_the_log_is_not_flooded_however_many_clients_there_are(caplog):
    guesses = Guesses()
    for number in range(20_000):
        guesses.note(f"10.{number % 250}.{number // 250}.1", f"Bearer guess-{number}", number / 10)
    assert len(caplog.records) <= 250


def basic(user, password):
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def test_who_guesses_is_logged_and_has_to_wait_and_who_knows_it_is_answered(new_client, caplog):
    caplog.set_level(logging.DEBUG)
    client = new_client(ktrdr_status_token=SecretStr(TOKEN))
    answers = [
        client.get("/api/v1/system/ib-status", headers=basic(f"user-{TOKEN}", f"wrong-{number}"))
        for number in range(11)
    ]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= MINUTE
    assert "wrong tokens" in answers[-1].json["reason"]
    assert client.get("/nothing", headers=basic("me", TOKEN)).status_code == 404
    assert client.get("/").status_code == 401
    assert client.get("/livez").status_code in (200, 503)
    other = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}
    assert client.get("/nothing", headers=basic("me", TOKEN), **other).status_code == 404
    assert "127.0.0.1" in caplog.text
    assert TOKEN not in caplog.text
    assert "wrong-" not in caplog.text


def test_who_sends_no_token_does_not_guess(new_client, caplog):
    client = new_client(ktrdr_status_token=SecretStr(TOKEN))
    assert {client.get("/").status_code for _ in range(30)} == {401}
    assert not caplog.records
    assert client.get("/nothing", headers=basic("me", TOKEN)).status_code == 404
