"""docker/Dockerfile and docker/entrypoint, as far as can be seen without running them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.docker.dockerfile import PROJECT, Image, context_files, is_in_context

DOCKERFILE = PROJECT / "docker/Dockerfile"


@pytest.fixture(scope="module")
def image():
    return Image(DOCKERFILE.read_text())


def test_hadolint_has_nothing_to_say(hadolint):
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_shellcheck_has_nothing_to_say():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", "--shell=sh", PROJECT / "docker/entrypoint"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_not_root_and_says_what_it_is(image):
    assert image.user.partition(":")[0] not in {"", "0", "root"}
    said = {name.removeprefix("org.opencontainers.image.") for name in image.labels}
    assert {"title", "description", "version", "revision", "documentation"} <= said


def test_its_health_is_not_the_gateways(image):
    assert image.healthcheck[0].startswith("/")  # whatever PATH an .env file has
    assert "/livez" in (PROJECT / "docker/healthcheck.py").read_text()


def test_what_the_programs_need_gets_into_the_image():
    assert all(map(is_in_context, ["docker/entrypoint", "ktrdr/web/static/page.css", "README.md"]))
    assert {file.parts[0] for file in context_files()} >= {"docker", "etc", "ktrdr", "scripts"}


@pytest.mark.parametrize(
    "path",
    [".env", "docker/.env", "docker/ib-gateway.env", "docker/tws_password", "data/AAPL_1m.csv",
     "var/log/gap-filler.log", "tests/conftest.py", "docs/docker.md", ".git/config",
     ".venv/bin/python",
     "ktrdr/__pycache__/cli.cpython-311.pyc", "docker/docker-compose.override.yml"],
)  # fmt: skip
def test_no_secret_data_or_test_gets_into_the_image(path):
    assert not is_in_context(path)
