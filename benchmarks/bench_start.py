"""How long commands of `ktrdr` take to start, beside bare Python and the libraries that they need.

Milliseconds of wall time and of CPU, the least of several runs, with nothing running. Python keeps
the compiled modules, as it does for whoever types a command. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

LIBRARIES = "import typer, typer._adapters, pydantic_settings"
COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "verdict": [],
    "status": ["status"],
    "gaps": ["gaps"],
    "watch_list": ["watch", "list"],
    "fills": ["fills"],
    "coverage": ["coverage"],
    "logs": ["logs"],
    "config": ["config"],
    "show": ["show", "AAPL", "1m"],
}


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU milliseconds of one run."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return 1000 * (time.perf_counter() - began), 1000 * (used.ru_utime + used.ru_stime)


def least(command: list[str], environment: dict[str, str], runs: int) -> dict[str, float]:
    """The least wall and CPU time of several runs."""
    walls, cpus = zip(*(run(command, environment) for _ in range(runs)), strict=True)
    return {"ms": round(min(walls), 1), "cpu_ms": round(min(cpus), 1)}


def measure(runs: int) -> dict[str, dict[str, float]]:
    """Each command, and the two yardsticks."""
    yardsticks = {"python": "pass", "libraries": LIBRARIES}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "KTRDR_RUN_DIR": f"{folder}/run",
            "KTRDR_DATA_DIR": folder,
            "PYTHONDONTWRITEBYTECODE": "",
        }
        found = {
            name: least([sys.executable, "-c", code], environment, runs)
            for name, code in yardsticks.items()
        }
        for name, words in COMMANDS.items():
            command = [sys.executable, "-m", "ktrdr.cli", *words]
            found[name] = least(command, environment, runs)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    print(json.dumps(measure(parser.parse_args().runs)))
