from pathlib import Path

import pytest

from ktrdr.config import ROOT, load_settings
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
