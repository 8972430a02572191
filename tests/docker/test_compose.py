"""docker/docker-compose.yml as compose reads it: each profile, whatever the .env files say."""

from __future__ import annotations

import json

import pytest

from ktrdr.config.settings import NAMES, settings_of
from ktrdr.web.page_access import page_callers
from tests.docker.composed import OF_THE_HOST

INSIDE = {
    "KTRDR_STATUS_HOST": "0.0.0.0",
    "KTRDR_STATUS_PORT": "8000",
    "KTRDR_STATUS_CALLERS": "own-networks",
    "KTRDR_STATUS_URL": "http://ktrdr:8000",
    "KTRDR_RUN_DIR": "/app/var/run",
}
GATEWAYS = {
    "": ("ktrdr", "host.docker.internal", "4003", "/app/data", "data"),
    "simulated": ("ktrdr-simulated", "", None, "/app/data/simulated", "simulated"),
    "gateway": ("ktrdr-gateway", "ib-gateway", "4004", "/app/data", "data"),
}
"""Profile: the service, its IB_HOST, IB_PORT and KTRDR_DATA_DIR, and its volume."""


@pytest.mark.parametrize("profile", GATEWAYS)
def test_each_profile_has_one_group_and_its_gateway(with_gateway, profile):
    name, host, port, data_dir, volume = GATEWAYS[profile]
    services = with_gateway.services(profile)
    assert set(services) == {name} | ({"ib-gateway"} if profile == "gateway" else set())
    env = services[name]["environment"]
    assert INSIDE.items() <= env.items()
    assert (env["IB_HOST"], env.get("IB_PORT"), env["KTRDR_DATA_DIR"]) == (host, port, data_dir)
    assert [(v["source"], v["target"]) for v in services[name]["volumes"]] == [
        (volume, "/app/data")
    ]


@pytest.mark.parametrize("profile", GATEWAYS)
def test_what_it_says_to_the_programs_is_right_to_them(with_gateway, profile):
    env = with_gateway.services(profile)[GATEWAYS[profile][0]]["environment"]
    ours = {n: v for n, v in env.items() if n.startswith(("KTRDR_", "IB_")) and v}
    assert set(ours) <= set(NAMES)
    settings = settings_of(ours)
    assert settings.source == ("simulated" if profile == "simulated" else "live")
    assert page_callers(settings).with_own


@pytest.mark.parametrize("profile", GATEWAYS)
@pytest.mark.parametrize("from_the_root", [False, True])
@pytest.mark.parametrize("place", ["", "docker"])
def test_a_hosts_settings_do_not_break_the_container(with_gateway, profile, from_the_root, place):
    (with_gateway.root / place / ".env").write_text(OF_THE_HOST)
    name, host, port, data_dir, _ = GATEWAYS[profile]
    folder = with_gateway.root if from_the_root else None
    service = with_gateway.services(profile, folder)[name]
    env = service["environment"]
    for setting in ("KTRDR_STATUS_HOST", "KTRDR_STATUS_PORT", "KTRDR_RUN_DIR"):
        assert env[setting] == INSIDE[setting]
    assert env["KTRDR_STATUS_CALLERS"].startswith("own-networks")
    assert env["KTRDR_STATUS_URL"].startswith("http://ktrdr:8000")
    assert (env["IB_HOST"], env["KTRDR_DATA_DIR"]) == (host, data_dir)
    assert env["IB_PORT"] == (port or "4002")
    assert (env["IB_CLIENT_ID"], env["KTRDR_GAP_MAX_AGE_DAYS"]) == ("7", "60")
    assert service["user"] == "1000:1000"
    (port,) = service["ports"]
    assert (port["host_ip"], port["target"]) == ("127.0.0.1", 8000)
    settings_of({n: v for n, v in env.items() if n.startswith(("KTRDR_", "IB_")) and v})


def test_settings_beside_it_are_its_own(compose):
    (compose.root / ".env").write_text("KTRDR_GAP_MAX_AGE_DAYS=60\nKTRDR_STATUS_PORT=9000\n")
    (compose.folder / ".env").write_text(
        "KTRDR_GAP_MAX_AGE_DAYS=90\nKTRDR_STATUS_PORT=8001\nPUID=1001\nPGID=1002\n"
        "KTRDR_STATUS_CALLERS=192.168.1.0/24\nKTRDR_STATUS_URL=https://bars.example.org\n"
    )
    service = compose.services()["ktrdr"]
    env = service["environment"]
    assert (service["user"], service["ports"][0]["published"]) == ("1001:1002", "8001")
    assert env["KTRDR_GAP_MAX_AGE_DAYS"] == "90"
    assert env["KTRDR_STATUS_CALLERS"] == "own-networks,192.168.1.0/24"
    assert env["KTRDR_STATUS_URL"] == "http://ktrdr:8000,https://bars.example.org"


@pytest.mark.parametrize("profile", GATEWAYS)
def test_it_may_do_little_and_keeps_little(with_gateway, profile):
    service = with_gateway.services(profile)[GATEWAYS[profile][0]]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {one.partition(":")[0] for one in service["tmpfs"]} == {"/tmp", "/app/var"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert (service["restart"], service["stop_grace_period"]) == ("unless-stopped", "1m0s")
    assert service["healthcheck"]["test"][-1] == "/app/docker/healthcheck.py"


def test_only_the_page_is_published_and_to_this_machine_alone(with_gateway):
    services = with_gateway.services("*")
    assert not services["ib-gateway"].get("ports")
    published = [p for s in services.values() for p in s.get("ports", [])]
    assert {(p["host_ip"], p["target"]) for p in published} == {("127.0.0.1", 8000)}
    neighbours = [name for name, it in services.items() if "gateway" in it["networks"]]
    assert sorted(neighbours) == ["ib-gateway", "ktrdr-gateway"]


def test_a_name_for_prometheus_is_the_same_in_each_profile(with_gateway):
    for name, service in with_gateway.services("*").items():
        if name.startswith("ktrdr-"):
            assert service["networks"]["ktrdr"]["aliases"] == ["ktrdr"]


def test_the_gateway_is_paper_and_read_only_until_it_is_told_twice(with_gateway):
    services = with_gateway.services("gateway")
    gateway = services["ib-gateway"]["environment"]
    assert (gateway["TRADING_MODE"], gateway["READ_ONLY_API"]) == ("paper", "yes")
    assert services["ktrdr-gateway"]["environment"]["IB_PORT"] == "4004"  # 4003 would be live
    live = with_gateway.services("gateway", TRADING_MODE="live", GATEWAY_PORT="4003")
    assert live["ib-gateway"]["environment"]["TRADING_MODE"] == "live"
    assert live["ktrdr-gateway"]["environment"]["IB_PORT"] == "4003"


def test_the_password_is_in_no_environment(with_gateway):
    (with_gateway.root / ".env").write_text("KTRDR_GAP_MAX_AGE_DAYS=9\n")
    services = with_gateway.services("gateway")
    gateway = services["ib-gateway"]
    assert gateway["environment"]["TWS_PASSWORD_FILE"] == "/run/secrets/tws_password"
    assert gateway["secrets"] == [{"source": "tws_password", "target": "/run/secrets/tws_password"}]
    assert "secret\n" not in json.dumps(services)
    assert "TWS_USERID" not in services["ktrdr-gateway"]["environment"]
    assert gateway["restart"] == "on-failure:5"  # IB locks the account else


def test_a_missing_user_is_one_line_that_names_the_file(compose):
    for command in ("config", "up"):
        code, _, errors = compose.run("--profile", "gateway", command)
        assert code != 0
        (line,) = errors.strip().splitlines()
        assert f"env file {compose.folder}/ib-gateway.env not found" in line
    assert set(compose.services()) == {"ktrdr"}  # who has no such gateway needs no such file


@pytest.mark.parametrize(
    ("env", "said"),
    [({"KTRDR_STATUS_PORT": "abc"}, "abc"), ({"KTRDR_STATUS_PORT": "99999"}, "99999")],
)
def test_a_wrong_port_is_named(compose, env, said):
    code, _, errors = compose.run("config", **env)
    assert code != 0
    assert said in errors


def test_an_env_file_with_a_line_that_is_none_is_named(compose):
    (compose.root / ".env").write_text("IB_CLIENT_ID=7\nthis is none\n")
    code, _, errors = compose.run("config")
    assert code != 0
    assert f"{compose.root}/.env" in errors
    assert "line 2" in errors


def test_two_groups_at_once_share_nothing(with_gateway):
    (with_gateway.folder / "live.env").write_text("TWS_USERID=other\n")
    received = {"GATEWAY_ENV": "live.env", "GATEWAY_PASSWORD": "tws_password-live"}
    volumes, users, passwords = set(), [], []
    for name, env in (("live", received), ("paper", {})):
        words = ["--project-name", name, "--profile", "gateway", "config", "--format", "json"]
        said = json.loads(with_gateway.run(*words, **env)[1])
        volumes |= {volume["name"] for volume in said["volumes"].values()}
        users.append(said["services"]["ib-gateway"]["environment"]["TWS_USERID"])
        passwords.append(said["secrets"]["tws_password"]["file"].rpartition("/")[2])
        assert not any("container_name" in service for service in said["services"].values())
    assert volumes == {"live_data", "paper_data"}
    assert (users, passwords) == (["other", "me"], ["tws_password-live", "tws_password"])
