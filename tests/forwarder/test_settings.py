"""ktrdr/forwarder/settings.py: the same words mean the same, with a .venv and without."""

from __future__ import annotations

import pytest
from dotenv import dotenv_values

from ktrdr.config.settings import Settings, load_settings
from ktrdr.errors import Misconfigured
from ktrdr.forwarder.settings import of_settings, of_variables, plain_env_file

pytestmark = pytest.mark.usefixtures("bare_environment")

WORDS = [
    {},
    {"IB_HOST": "gw.example"},
    {"IB_HOST": "::1", "IB_PORT": "4001"},
    {"IB_PORT": "7497"},
    {"KTRDR_SIM_PORT": "4555"},
    {"IB_HOST": "127.0.0.1", "KTRDR_SIM_PORT": "4555"},
    {"KTRDR_FORWARD_TARGET": "[::1]:4001", "KTRDR_FORWARD_PORT": "5003"},
    {"KTRDR_FORWARD_BIND": "0.0.0.0", "KTRDR_FORWARD_CALLERS": "10.0.0.0/24, 10.2.0.0/16"},
]


@pytest.mark.parametrize("words", WORDS, ids=str)
def test_without_a_venv_they_mean_what_they_mean_with_one(words, tmp_path):
    given = {name.lower(): value for name, value in words.items()}
    settings = Settings(**given, ktrdr_run_dir=tmp_path / "var/run", _env_file=None)
    assert of_variables(words, tmp_path) == of_settings(settings, is_alone=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KTRDR_FORWARD_PORT", "70000"),
        ("KTRDR_FORWARD_PORT", "four"),
        ("KTRDR_FORWARD_TARGET", "gw:0"),
        ("KTRDR_FORWARD_TARGET", "gw"),
        ("KTRDR_FORWARD_BIND", "::1"),
        ("KTRDR_FORWARD_CALLERS", "0.0.0.0/0"),
        ("IB_HOST", "x;y"),
        ("IB_PORT", "abc"),
    ],
)
def test_a_wrong_value_has_the_same_message(name, value, tmp_path):
    with pytest.raises(Misconfigured) as with_venv:
        load_settings(**{name.lower(): value}, _env_file=None)
    with pytest.raises(Misconfigured) as without:
        of_variables({name: value}, tmp_path)
    assert without.value.message.startswith(f"{name}={value}: expected ")
    assert without.value.message[:60] == with_venv.value.message[:60]


def test_it_does_not_connect_to_itself(tmp_path):
    with pytest.raises(Misconfigured, match="another port than that of the gateway"):
        of_variables({"KTRDR_FORWARD_TARGET": "localhost:4003"}, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "IB_PORT=4001",
        "export IB_PORT = 4001  # live",
        "IB_PORT='4001'",
        'IB_PORT="4001" # x',
        "ib_port=4001",
        "IB_PORT=1\nIB_PORT=4001",
        "#IB_PORT=1\nIB_PORT=4001\r",
        "OTHER=${X:-a b}\nIB_PORT=4001",
        "IB_PORT=",
    ],
)
def test_plain_lines_are_read_as_dotenv_reads_them(line, tmp_path):
    file = tmp_path / ".env"
    file.write_bytes(line.encode())
    expected = {k.upper(): v for k, v in dotenv_values(file).items() if v and k.upper() != "OTHER"}
    assert plain_env_file(file) == expected


@pytest.mark.parametrize("value", ["${GW}", '"${GW:-4001}"', "$(id)", "4001 4002", '"4001', "a\\b"])
def test_what_needs_more_is_refused_by_its_line(value, tmp_path):
    (tmp_path / ".env").write_text(f"# mine\nIB_PORT={value}\n")
    with pytest.raises(Misconfigured, match=r"\.env, line 2: IB_PORT cannot be read without"):
        of_variables({}, tmp_path)


def test_the_environment_wins(tmp_path):
    (tmp_path / ".env").write_text("IB_PORT=4001\n")
    assert of_variables({"IB_PORT": "7496"}, tmp_path).target == ("127.0.0.1", 7496)
    assert of_variables({"IB_PORT": ""}, tmp_path).target == ("127.0.0.1", 4001)
