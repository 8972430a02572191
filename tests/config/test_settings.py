from datetime import datetime
from pathlib import Path

import pytest

from ktrdr.config.settings import (
    ROOT,
    Settings,
    as_environment,
    load_settings,
    read_env_file,
    settings_of,
    without_secrets,
)
from ktrdr.errors import Misconfigured


@pytest.fixture
def bare(bare_environment):  # noqa: ARG001
    """Settings from what a test puts into the environment."""
    return lambda: load_settings(_env_file=None)


def test_the_defaults_are_those_of_the_contract(bare):
    found = bare()
    assert (found.gateway_host, found.gateway_port, found.ib_client_id) == ("127.0.0.1", 4102, 1)
    assert found.source == "simulated"
    assert found.data_dir == ROOT / "data/simulated"
    assert found.run_dir == ROOT / "var/run"
    assert found.ktrdr_ib_retry_delays_s == (5, 10, 30, 60, 120, 300)
    assert (found.ktrdr_gap_check_interval_s, found.ktrdr_gap_max_age_days) == (300, 30)
    assert (found.ktrdr_gap_batch_symbols, found.ktrdr_forward_port) == (5, 4003)


def test_a_host_makes_it_live_with_a_store_of_its_own(bare, monkeypatch):
    monkeypatch.setenv("IB_HOST", "gateway.local")
    found = bare()
    assert (found.gateway_host, found.gateway_port, found.source) == ("gateway.local", 4002, "live")
    assert found.data_dir == ROOT / "data"


def test_an_empty_variable_is_an_unset_one(bare, monkeypatch):
    monkeypatch.setenv("IB_HOST", "")
    assert bare().is_simulated


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("in_small_letters", "capitals", "host"),
    [("theirs", "ours", "ours"), ("theirs", "", None), ("theirs", None, "theirs")],
)
def test_capitals_win_whichever_comes_last(
    bare, monkeypatch, in_small_letters, capitals, host, order
):
    given = [("ib_host", in_small_letters), ("IB_HOST", capitals)][::order]
    for name, value in given:
        if value is not None:
            monkeypatch.setenv(name, value)
    assert bare().ib_host == host


@pytest.mark.usefixtures("bare_environment")
def test_the_environment_wins_over_the_file(monkeypatch, scratch):
    (scratch / ".env").write_text("IB_PORT=4001\nIB_CLIENT_ID=7\n")
    monkeypatch.setenv("IB_PORT", "7497")
    found = load_settings(_env_file=scratch / ".env")
    assert (found.ib_port, found.ib_client_id) == (7497, 7)


def test_delays_are_numbers_with_commas(bare, monkeypatch):
    monkeypatch.setenv("KTRDR_IB_RETRY_DELAYS_S", "0.5, 1,20")
    assert bare().ktrdr_ib_retry_delays_s == (0.5, 1, 20)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("IB_PORT", "http", "a port from 1 to 65535"),
        ("IB_PORT", "70000", "a port from 1 to 65535"),
        ("IB_HOST", "http://x", "a host name"),
        ("IB_HOST", "gateway:4002", "a host name or address, without a port"),
        ("IB_HOST", "[::1]:4002", "a host name or address, without a port"),
        ("IB_HOST", "[gateway]", "a host name or address"),
        ("IB_HOST", "1::2::3", "a host name or address"),
        ("IB_HOST", "::1%a,fork", "a host name or address"),
        ("KTRDR_STATUS_HOST", "[::", "a host name or address"),
        ("KTRDR_FORWARD_TARGET", "[::1]", "HOST:PORT"),
        ("KTRDR_FORWARD_TARGET", "[::1]:0", "HOST:PORT"),
        ("IB_CLIENT_ID", "0", "from 1 to 50"),
        ("IB_CLIENT_ID", "51", "from 1 to 50"),
        ("KTRDR_SIM_PORT", "4002", "no real gateway"),
        ("KTRDR_IB_RETRY_DELAYS_S", "5,-1", "above 0"),
        ("KTRDR_IB_HEARTBEAT_S", "0", "from 1 to 3600"),
        ("KTRDR_GAP_CHECK_INTERVAL_S", "soon", "seconds"),
        ("KTRDR_GAP_MAX_AGE_DAYS", "0", "whole days"),
        ("KTRDR_GAP_BATCH_SYMBOLS", "1.5", "a whole number"),
        ("KTRDR_FORWARD_TARGET", "nowhere", "HOST:PORT"),
        ("KTRDR_RUN_DIR", "x" * 120, "at most"),
        ("KTRDR_RUN_DIR", "a\nb", "without a line end"),
        ("KTRDR_RUN_DIR", "f\udcfcr", "whole path is UTF-8"),
        ("KTRDR_DATA_DIR", "f\udcfcr", "whole path is UTF-8"),
    ],
)
def test_a_value_that_cannot_be_right_is_one_line(bare, monkeypatch, name, value, expected):
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as raised:
        bare()
    line = str(raised.value)
    assert line.startswith(f"{name}=")
    assert expected in line
    assert "\n" not in line


def test_a_relative_folder_is_counted_from_the_root(bare, monkeypatch):
    monkeypatch.setenv("KTRDR_DATA_DIR", "elsewhere")
    monkeypatch.chdir(Path("/"))
    assert bare().data_dir == ROOT / "elsewhere"


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff:10.0.0.5", "::ffff:10.0.0.5"),
        ("10.0.0.5", "10.0.0.5"),
        ("host.docker.internal", "host.docker.internal"),
    ],
)
def test_a_host_is_a_name_or_an_address_of_either_kind(bare, monkeypatch, given, host):
    monkeypatch.setenv("IB_HOST", given)
    monkeypatch.setenv("KTRDR_STATUS_HOST", given)
    monkeypatch.setenv("KTRDR_FORWARD_TARGET", f"{given}:4001")
    found = bare()
    assert (found.gateway_host, found.ktrdr_status_host) == (host, host)
    assert found.forward_target == (host, 4001)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://ktrdr.example.org", ("https://ktrdr.example.org",)),
        (
            "HTTPS://Ktrdr.example.org:443/ , http://ktrdr:8000/",
            ("https://ktrdr.example.org", "http://ktrdr:8000"),
        ),
        ("http://[2001:DB8::9]:80", ("http://[2001:db8::9]",)),
        ("http://192.168.1.9:8000", ("http://192.168.1.9:8000",)),
        ("HTTPS://Nas.lan:443/ktrdr/", ("https://nas.lan/ktrdr",)),
        ("https://nas.lan/Data/my-ktrdr_2", ("https://nas.lan/Data/my-ktrdr_2",)),
    ],
)
def test_the_pages_own_addresses_are_kept_as_browsers_name_them(bare, monkeypatch, given, found):
    assert bare().status_urls == ()
    monkeypatch.setenv("KTRDR_STATUS_URL", given)
    assert bare().status_urls == found


@pytest.mark.parametrize(
    "given",
    [
        "ktrdr.example.org",
        "ftp://ktrdr.example.org",
        "https://",
        "https://ktrdr.example.org//status",
        "https://ktrdr.example.org/../status",
        "https://ktrdr.example.org/a b",
        "https://ktrdr.example.org/%61",
        "https://ktrdr.example.org?x",
        "https://a:pw@ktrdr.example.org",
        "https://a b",
        "https://a,",
        "http://a:0",
        "http://a:65536",
        "http://a:b",
        "http://::1",
        "http://[::1",
        "http://a\\b",
    ],
)
def test_what_is_no_address_of_a_page_is_refused(bare, monkeypatch, given):
    monkeypatch.setenv("KTRDR_STATUS_URL", given)
    with pytest.raises(Misconfigured, match=r"KTRDR_STATUS_URL=.*: expected URLs such as https://"):
        bare()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IB_HOST", "me:s3cret@gw"),
        ("IB_HOST", "http://me:s3cret@gw:4002"),
        ("KTRDR_STATUS_HOST", "me:s3/cret@x@gw"),
        ("KTRDR_FORWARD_TARGET", "me:s3cret@gw"),
        ("KTRDR_STATUS_URL", "https://a,https://me:s3cret@gw"),
        ("KTRDR_STATUS_URL", "https://me:s3cret@a,https://me:other@gw"),
        ("KTRDR_STATUS_URL", "me:s3cret@a,https://me:other@gw"),
        ("KTRDR_STATUS_URL", "https://me:s3cret://@gw"),
        ("KTRDR_IB_RETRY_DELAYS_S", "me:s3cret@gw"),
    ],
)
def test_a_password_in_a_wrong_value_is_not_shown(bare, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=rf"{name}=.*@gw(:4002)?: expected") as raised:
        bare()
    assert "me:" not in str(raised.value)
    assert "cret" not in str(raised.value)


def test_a_line_of_the_file_that_cannot_be_read_is_not_quoted(from_file, scratch):
    with pytest.raises(Misconfigured) as raised:
        from_file("KTRDR_ALERTS s3cret\n")
    assert "s3cret" not in str(raised.value)
    (scratch / ".env").write_bytes(b"KTRDR_ALERTS=s3cret\xff\n")
    with pytest.raises(Misconfigured, match="cannot be read") as raised:
        load_settings(_env_file=scratch / ".env")
    assert "s3cret" not in str(raised.value)


def test_callers_are_subnets(bare, monkeypatch):
    monkeypatch.setenv("KTRDR_STATUS_CALLERS", "192.168.1.5/24")
    with pytest.raises(Misconfigured) as raised:
        bare()
    assert str(raised.value) == (
        "KTRDR_STATUS_CALLERS=192.168.1.5/24: expected subnets such as 192.168.1.0/24, separated by"
        " commas, or own-networks"
    )


TOKEN = "k7Hq2pZx9Lm0=/+:"


def test_a_token_is_for_the_programs_alone(bare, monkeypatch):
    assert bare().status_token == ""
    monkeypatch.setenv("KTRDR_STATUS_TOKEN", TOKEN)
    settings = bare()
    assert settings.status_token == TOKEN
    assert settings_of(as_environment(settings)).status_token == TOKEN
    assert "KTRDR_STATUS_TOKEN" not in without_secrets(as_environment(settings))
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("token", ["s3cret", TOKEN[:-1], f"{TOKEN} x", f"{TOKEN}\n", f"{TOKEN}ä"])
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(bare, monkeypatch, token):
    monkeypatch.setenv("KTRDR_STATUS_TOKEN", token)
    with pytest.raises(Misconfigured, match=r"^KTRDR_STATUS_TOKEN: expected 16 or more") as raised:
        bare()
    assert token not in str(raised.value)


def test_an_address_of_the_newer_kind_has_brackets_before_its_port(bare, monkeypatch):
    assert bare().gateway == "127.0.0.1:4102"
    monkeypatch.setenv("IB_HOST", "::1")
    assert bare().gateway == "[::1]:4002"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "KTRDR_GAP_MAX_AGE_DAY",
            "5",
            "KTRDR_GAP_MAX_AGE_DAY: no such setting; did you mean KTRDR_GAP_MAX_AGE_DAYS?",
        ),
        (
            "KTRDR_GAP_CHECK_INTERVAL",
            "5",
            "KTRDR_GAP_CHECK_INTERVAL: no such setting; did you mean KTRDR_GAP_CHECK_INTERVAL_S?",
        ),
        (
            "ktrdr_datadir",
            "/x",
            "ktrdr_datadir: no such setting; did you mean KTRDR_DATA_DIR?",
        ),
        (
            "KTRDR_SIM_SEEDS",
            "1",
            "KTRDR_SIM_SEEDS: no such setting; did you mean KTRDR_SIM_SEED?",
        ),
        ("KTRDR_ZZZZZ", "1", "KTRDR_ZZZZZ: no such setting; .env.example has all of them"),
        ("KTRDR_DATABASE_URL", "pg://me:pw@x", "KTRDR_DATABASE_URL: not supported by this version"),
        (
            "KTRDR_STATUS_HOTS",
            "s3cret",
            "KTRDR_STATUS_HOTS: no such setting; did you mean KTRDR_STATUS_HOST?",
        ),
        (
            "KTRDR_STATUS_TOKE",
            "s3cret",
            "KTRDR_STATUS_TOKE: no such setting; did you mean KTRDR_STATUS_TOKEN?",
        ),
    ],
)
def test_a_name_that_is_none_of_ours_is_one_line(bare, monkeypatch, name, value, line):
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as raised:
        bare()
    assert str(raised.value) == line


@pytest.mark.parametrize(
    "name", ["KTRDR_SIM_ACCOUNT", "KTRDR_SIM_LATENCY_MS", "KTRDR_TEST_COPY", "IB_GATEWAY_VERSION"]
)
def test_names_of_the_simulator_and_of_others_are_let_be(bare, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    bare()


def test_an_unknown_name_without_a_value_is_none(bare, monkeypatch):
    monkeypatch.setenv("KTRDR_GAP_MAX_AGE_DAY", "")
    bare()


@pytest.fixture
def from_file(bare_environment, scratch):  # noqa: ARG001
    """Settings from what a test writes into an env file."""

    def load(text):
        (scratch / ".env").write_bytes(text.encode())
        return load_settings(_env_file=scratch / ".env")

    return load


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "IB_HOTS=127.0.0.1",
            ["IB_HOTS in .env: no such setting; did you mean IB_HOST?"],
        ),
        (
            "KTRDR_DATADIR=/x\nKTRDR_DATABASE_URL=x",
            [
                "KTRDR_DATADIR in .env: no such setting; did you mean KTRDR_DATA_DIR?",
                "KTRDR_DATABASE_URL in .env: not supported by this version",
            ],
        ),
        (
            "KTRDR_SIM_SEED=7",
            ["KTRDR_SIM_SEED in .env: expected in the environment, where the simulator reads it"],
        ),
        (
            "IB_PORTS=1\nIB_PORT=x",
            [
                "IB_PORTS in .env: no such setting; did you mean IB_PORT?",
                "IB_PORT=x: expected a port from 1 to 65535",
            ],
        ),
    ],
)
def test_in_the_file_names_of_ib_must_be_ours_too(from_file, text, lines):
    with pytest.raises(Misconfigured) as raised:
        from_file(text)
    assert str(raised.value).split("; ") == [part for line in lines for part in line.split("; ")]


def test_a_line_without_a_value_is_named(from_file):
    with pytest.raises(Misconfigured, match=r"\.env, line 2: expected NAME=VALUE"):
        from_file("IB_PORT=4001\nKTRDR_GAP_MAX_AGE_DAYS 5\n")


@pytest.mark.parametrize("line", ["IB_HOST", "export IB_HOST", "  ktrdr_data_dir  # where"])
def test_one_of_our_names_without_a_value_in_the_file_is_named(from_file, line):
    with pytest.raises(Misconfigured, match=r"\.env, line 2: expected NAME=VALUE"):
        from_file(f"# one\n{line}\n")


@pytest.mark.parametrize("value", ["${GW-4001}", "${GW:=4001}", "a${1X}", "${}", "${GW"])
def test_what_a_shell_alone_would_expand_is_not_left_out_in_silence(from_file, value):
    with pytest.raises(Misconfigured, match=r"line 1: expected \$\{NAME\} or \$\{NAME:-default\}"):
        from_file(f"IB_PORT={value}\n")


def test_lines_of_other_programs_are_let_be(from_file):
    assert from_file("COMPOSE_FILE=${A-b}\nPASSED_ON\nIB_PORT=${GW:-4001}\n").ib_port == 4001


def test_a_variable_that_is_not_expanded_is_no_folder(from_file):
    with pytest.raises(Misconfigured, match=r"KTRDR_DATA_DIR=\$HOME/bars: .* write \$\{HOME\}"):
        from_file("KTRDR_DATA_DIR=$HOME/bars\n")
    assert from_file("KTRDR_DATA_DIR=a/$b\n").data_dir.name == "$b"


def test_a_byte_order_mark_does_not_hide_the_first_name(from_file):
    assert from_file("\ufeffIB_HOST=gw\n").ib_host == "gw"


def test_a_value_may_name_another_variable(from_file, monkeypatch):
    monkeypatch.setenv("GW", "14777")
    assert from_file("IB_PORT=${GW}\n").ib_port == 14777


def test_a_line_end_within_a_value_makes_no_second_line(bare, monkeypatch):
    monkeypatch.setenv("IB_PORT", "1\n2")
    with pytest.raises(Misconfigured, match=r"^IB_PORT=1\\n2: expected a port from 1 to 65535$"):
        bare()


def test_every_name_of_the_example_is_a_setting(scratch):
    text = (ROOT / ".env.example").read_text()
    (scratch / ".env").write_text(text.replace("\n#KTRDR", "\nKTRDR").replace("\n#IB", "\nIB"))
    named = read_env_file(scratch / ".env")
    assert set(named) == {name.upper() for name in Settings.model_fields}
    load_settings(_env_file=scratch / ".env")


@pytest.mark.usefixtures("bare_environment")
def test_settings_come_back_from_their_environment(monkeypatch):
    given = {
        "IB_HOST": "::1",
        "KTRDR_DATA_DIR": "/some where/data",
        "KTRDR_IB_RETRY_DELAYS_S": "0.5,1,20",
        "KTRDR_FORWARD_TARGET": "[::1]:4001",
        "KTRDR_IB_RESTART_AT": "23:45",
    }
    made = settings_of(given)
    assert made.gateway == "[::1]:4002"
    for name, value in as_environment(made).items():
        monkeypatch.setenv(name, value)
    assert load_settings(_env_file=None).model_dump() == made.model_dump()


@pytest.mark.usefixtures("bare_environment")
def test_settings_of_values_heed_no_environment(monkeypatch):
    monkeypatch.setenv("IB_HOST", "gw")
    assert settings_of({"IB_PORT": "4001"}).is_simulated


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"ktrdr_alerts": "me:s3cret"}, "KTRDR_ALERTS: expected URLs of apprise such as ntfy://"),
        ({"ktrdr_alerts": "ntfy://a b s3cret"}, "KTRDR_ALERTS: expected URLs of apprise"),
        ({"ktrdr_alerts_quiet": "22:00"}, "KTRDR_ALERTS_QUIET=22:00: expected HH:MM-HH:MM on"),
        ({"ktrdr_alerts_quiet": "7:00-25:00"}, "KTRDR_ALERTS_QUIET=7:00-25:00: expected HH:MM"),
        ({"ktrdr_alerts_quiet": "7:00-7:00"}, "KTRDR_ALERTS_QUIET=7:00-7:00: expected HH:MM"),
        ({"ktrdr_alerts_grace_s": "-1"}, "KTRDR_ALERTS_GRACE_S=-1: expected seconds from 0 to"),
    ],
)
def test_wrong_settings_of_alerts_are_named_without_their_secrets(given, line):
    with pytest.raises(Misconfigured) as raised:
        load_settings(_env_file=None, **given)
    assert str(raised.value).startswith(line)
    assert "s3cret" not in str(raised.value)


def test_targets_are_separated_by_spaces_or_commas_and_may_have_commas():
    text = "ntfy://ntfy.sh/a, mailto://u:p@x.de?to=a@b.c,d@e.f json://127.0.0.1:1/x,"
    given = load_settings(_env_file=None, ktrdr_alerts=text)

    assert given.alert_targets == (
        "ntfy://ntfy.sh/a",
        "mailto://u:p@x.de?to=a@b.c,d@e.f",
        "json://127.0.0.1:1/x",
    )
    assert load_settings(_env_file=None).alert_targets == ()


@pytest.mark.parametrize(
    ("hours", "clock", "is_quiet"),
    [
        ("22:00-07:00", "23:30", True),
        ("22:00-07:00", "06:59", True),
        ("22:00-07:00", "07:00", False),
        ("22:00-07:00", "21:59", False),
        ("12:00-13:30", "12:00", True),
        ("12:00-13:30", "13:30", False),
    ],
)
def test_quiet_hours_go_over_midnight(hours, clock, is_quiet):
    quiet = load_settings(_env_file=None, ktrdr_alerts_quiet=hours).quiet_hours

    assert quiet.contains(datetime.fromisoformat(f"2026-11-20T{clock}")) == is_quiet
