import asyncio
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from ib_insync import IB, Stock

from ktrdr.sim.gateway.server import SimulatedGateway


@pytest.fixture
def environment(tmp_path):
    own = {k: v for k, v in os.environ.items() if not k.startswith(("KTRDR_", "SUPERVISOR_"))}
    return own | {"KTRDR_RUN_DIR": str(tmp_path / "run"), "COLUMNS": "100"}


@pytest.fixture
def sim(environment):
    def run(*args, **more):
        return subprocess.run(
            [sys.executable, "-m", "ktrdr.sim", *map(str, args)],
            env=environment | more, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    return run


def test_the_help_names_every_option(sim):
    result = sim("--help")
    assert result.returncode == 0
    for option in ("--host", "--port", "--seed", "--replay", "--export-to", "--starter-store",
                   "--account", "--latency-ms", "--bars-per-second", "--record", "--control",
                   "--start", "--speed", "--restart-at", "--sunday-log-out", "--login-after-s",
                   "--open-requests", "--messages-per-second", "--clients",
                   "--id-lingers-s"):  # fmt: skip
        assert option in result.stdout


def test_it_serves_until_sigterm_and_records_requests(environment, tmp_path):
    record = tmp_path / "record.jsonl"
    command = [sys.executable, "-m", "ktrdr.sim", "--port", "0", "--record", str(record)]
    own = environment | {"KTRDR_SIM_ACCOUNT": "SIMULATED", "KTRDR_SIM_LATENCY_MS": "1"}
    with subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = []
            while not (
                found := re.search(r"listens on 127\.0\.0\.1:(\d+), serves (.*)", "".join(lines))
            ):
                lines.append(process.stdout.readline())
                assert lines[-1]

            async def talk():
                client = IB()
                await client.connectAsync("127.0.0.1", int(found[1]), clientId=4)
                accounts = client.managedAccounts()
                await client.reqHistoricalDataAsync(
                    Stock("AAPL", "SMART", "USD"), "", "1 D", "1 day", "TRADES", True
                )
                client.disconnect()
                return accounts

            assert asyncio.run(talk()) == ["SIMULATED"]
            assert found[2] == "generated bars, seed 1"
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "client 4 connected" in rest
    assert "client 4 disconnected" in rest
    assert json.loads(rest[rest.index("{\n") : rest.rindex("}") + 1])["connects_by_id"] == {"4": 1}
    entries = [json.loads(text) for text in record.read_text().splitlines()]
    history = [e for e in entries if e["kind"] == "historical_data"]
    assert [(e["event"], e["symbol"]) for e in history] == [
        ("received", "AAPL"),
        ("answered", "AAPL"),
    ]


def test_a_port_in_use_is_one_line_and_exit_78(sim):
    async def main():
        async with SimulatedGateway() as gateway:
            return await asyncio.to_thread(sim, "--port", gateway.port)

    result = asyncio.run(main())
    assert result.returncode == 78
    (line,) = [text for text in result.stdout.splitlines() if "ERROR" in text]
    assert "in use" in line
    assert "Traceback" not in result.stdout + result.stderr


def test_a_real_gateways_port_as_a_setting_is_refused(sim):
    result = sim(KTRDR_SIM_PORT="4002")
    assert result.returncode == 78
    assert "KTRDR_SIM_PORT=4002" in result.stdout


def test_an_export_needs_a_replay(sim, tmp_path):
    assert sim("--export-to", tmp_path).returncode == 2


def test_it_exports_a_replay_and_ends(sim, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "XYZ_1d.csv").write_text(
        "timestamp,open,high,low,close,volume\n2020-01-03 00:00:00+00:00,1,2,0.5,1.50,7\n"
    )
    result = sim("--replay", source, "--export-to", tmp_path / "out")
    assert result.returncode == 0
    assert (
        (tmp_path / "out" / "XYZ_1d.csv")
        .read_text()
        .endswith(" 00:00:00+00:00,1.0,2.0,0.5,1.5,7\n")
    )


def test_it_writes_a_starter_store_once(sim, tmp_path):
    store = tmp_path / "store"
    first, second = sim("--starter-store", store), sim("--starter-store", store)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "60 series" in first.stdout
    assert "left as it is" in second.stdout
    assert len(list(store.glob("*.csv"))) == 60
