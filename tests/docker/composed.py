"""A copy of docker/, and compose's own program to read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from tests.docker.dockerfile import PROJECT

OF_THE_HOST = """
IB_HOST=127.0.0.1
IB_PORT=4002
IB_CLIENT_ID=7
KTRDR_STATUS_HOST=127.0.0.1
KTRDR_STATUS_PORT=9000
KTRDR_STATUS_CALLERS=192.168.1.0/24
KTRDR_STATUS_URL=https://bars.example.org
KTRDR_DATA_DIR=$HOME/bars
KTRDR_RUN_DIR=/run/user/1000/ktrdr
KTRDR_SIM_PORT=4302
KTRDR_FORWARD_BIND=172.17.0.1
export KTRDR_GAP_MAX_AGE_DAYS=60 # two months
PUID=
"""
"""Settings that are right on the host, and wrong in a container."""


class Compose:
    """A copy of docker/ in a project of its own, with compose to read it."""

    def __init__(self, program, root):
        self._program, self.root, self.folder = program, root, root / "docker"
        shutil.copytree(PROJECT / "docker", self.folder)
        shutil.copy(PROJECT / "requirements.txt", root)
        for name in (".env", "ib-gateway.env", "tws_password"):
            (self.folder / name).unlink(missing_ok=True)

    def run(self, *words, folder=None, **env):
        """Exit code, output and errors of a command of compose's."""
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        done = subprocess.run(
            [self._program, *words], cwd=folder or self.folder, env=clean | env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def services(self, profile="", folder=None, **env):
        """The services of a profile, as compose would start them."""
        words = ["--profile", profile] if profile else []
        words += ["--file", str(self.folder / "docker-compose.yml")] if folder else []
        code, out, errors = self.run(*words, "config", "--format", "json", folder=folder, **env)
        assert (code, errors) == (0, "")
        return json.loads(out)["services"]
