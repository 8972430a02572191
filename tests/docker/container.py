"""Builds and runs the image without Docker: the real Dockerfile's steps, in a root tree of its own.

As root, in namespaces: a container here has its own processes, mounts and network, no capabilities
and no new privileges, a root that cannot be written to, and tmpfs and a volume where compose has
them. Its Python is a 3.12 of this machine; its system this machine's /usr, read-only, or a Debian.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.docker.dockerfile import PROJECT, Image, context_files

_PATIENCE_S = 20
CACHE = PROJECT / ".venv-clients/docker"
DOCKERS_CAPABILITIES = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,sys_chroot"
_NOT_IN_IMAGES = shutil.ignore_patterns("test", "tests", "__pycache__", "*.a", "idlelib", "*.pem")
_PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/wheels",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}
_NAMESPACES = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]


def python_312() -> Path | None:
    """A Python 3.12 whose installation can be taken along."""
    for command in (["pyenv", "prefix", "3.12"], ["pyenv", "root"]):
        with contextlib.suppress(OSError):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            folder = Path(done.stdout.strip())
            for prefix in (folder, *sorted(folder.glob("versions/3.12.*"), reverse=True)):
                if (prefix / "bin/python3.12").is_file() and prefix.is_absolute():
                    return prefix
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.check_output(["uv", "python", "find", "3.12"], text=True).strip()
        prefix = Path(found).resolve().parents[1]
        return (
            prefix
            if (prefix / "lib/python3.12/os.py").exists() and prefix != Path("/usr")
            else None
        )
    return None


def needs_containers() -> Path:
    """That Python; skips, and says so, where no container can be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("the image's steps need root, and Linux's namespaces")
    made = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no namespaces can be made here: {made.stderr.decode().strip()}")
    python = python_312()
    if python is None:
        pytest.skip("the image's Python, 3.12, is not on this machine")
    return python


class Tree:
    """A root tree in which the Dockerfile's steps have run."""

    def __init__(self, folder: Path, python: Path, debian: Path | None = None) -> None:
        self.folder = folder
        self.image = Image((PROJECT / "docker/Dockerfile").read_text())
        self._python = python
        self._system = [] if debian else ["/usr"]
        if debian:
            subprocess.run(["cp", "-a", f"{debian}/.", folder], check=True)
        else:
            self._make_system()
        self._take_python_along()
        self.wheels = _wheels(python)
        self.base_bytes = self.size()
        for step in self.image.steps:
            self._run_step(*step)

    def _make_system(self) -> None:
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if (link := Path("/", name)).is_symlink():
                (self.folder / name).symlink_to(link.readlink())
        for name in ("usr", "etc", "proc", "dev", "sys", "tmp", "root", "run", "var/lib", "local"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "tmp").chmod(0o1777)
        (self.folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (self.folder / "etc/group").write_text("root:x:0:\n")
        (self.folder / "etc/ld.so.conf").write_text("/usr/local/lib\n/lib/x86_64-linux-gnu\n")
        for name in ("login.defs", "nsswitch.conf", "localtime"):
            with contextlib.suppress(OSError):
                shutil.copy(Path("/etc", name), self.folder / "etc" / name)

    def _take_python_along(self) -> None:
        """To /usr/local, as python:3.12-slim has it: without tests, and without .pyc files."""
        self.local = self.folder / ("usr/local" if not self._system else "local")
        for name in ("bin", "lib"):
            shutil.copytree(
                self._python / name, self.local / name, symlinks=True, ignore=_NOT_IN_IMAGES,
                dirs_exist_ok=True,
            )  # fmt: skip
        shutil.rmtree(self.local / "lib/python3.12/config-3.12-x86_64-linux-gnu", True)
        for script in (self.local / "bin").iterdir():  # they name the old place
            if script.is_file() and script.read_bytes()[:3] == b"#!/":
                script.unlink()
        self.chroot("ldconfig")

    def size(self) -> int:
        """Bytes of what is in the tree itself, hard links once."""
        done = subprocess.check_output(["du", "-sx", "--block-size=1", self.folder], text=True)
        return int(done.split()[0])

    def mounts(self) -> str:
        """Shell commands, within a mount namespace of its own, that complete the tree."""
        lines = ["set -e", f"cd '{self.folder}'", "mount --bind . ."]
        lines += [f"cd '{self.folder}'"]
        if self._system:
            lines += ["mount --bind /usr usr", "mount -o remount,bind,ro usr"]
            lines += ["mount --bind local usr/local"]
        lines += ["mount -t proc proc proc", "mount -t tmpfs -o mode=755 dev dev"]
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            lines += [f"touch dev/{name}", f"mount --bind /dev/{name} dev/{name}"]
        lines += ["ln -s /proc/self/fd dev/fd"]
        return "\n".join(lines)

    def chroot(self, command: str, workdir: str = "/", env: dict[str, str] | None = None) -> None:
        """Run a shell command in the tree, as root, as the builder does."""
        words = " ".join(f"{k}='{v}'" for k, v in (env or {"PATH": "/usr/sbin:/sbin"}).items())
        inner = f"cd {workdir} && {command}"
        script = f"{self.mounts()}\nmkdir -p wheels\n"
        if env:
            script += f"mount --bind '{self.wheels}' wheels\n"
        script += f'exec chroot . env -i {words} HOME=/root /bin/sh -c "$0"'
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, inner],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def _run_step(self, word: str, rest: str, workdir: str, env: dict[str, str]) -> None:
        (self.folder / workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
        if word == "RUN":
            self.chroot(rest, workdir, env | _PIP)
            return
        *sources, target = rest.split()
        for source in sources:
            taken = [f for f in context_files() if f.is_relative_to(source)]
            assert taken, f"COPY {rest}: .dockerignore lets nothing of it in"
            for file in taken:
                to = self.folder / workdir.lstrip("/") / target
                to = to / file.name if target.endswith("/") else to / file.relative_to(source)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / file, to)


def _wheels(python: Path) -> Path:
    """The image's packages, downloaded once for each requirements.txt, as the hashes say."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "wheels.lock"):
        return _downloaded(python, CACHE / "wheels", (PROJECT / "requirements.txt").read_text())


def _downloaded(python: Path, folder: Path, wanted: str) -> Path:
    made_of = folder / "made-of.txt"
    if not (made_of.exists() and made_of.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        done = subprocess.run(
            [python / "bin/python3.12", "-m", "pip", "download", "--quiet", "--require-hashes",
             "--disable-pip-version-check", "--dest", folder,
             "--requirement", PROJECT / "requirements.txt"],
            capture_output=True, text=True, check=False, env=_without_venv(),
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"the image's packages cannot be had: {done.stderr.strip()[-300:]}")
        made_of.write_text(wanted)
    return folder


def _without_venv() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}


class Container:
    """One that runs. `user` as docker's --user; `volume`: a folder that becomes /app/data."""

    def __init__(self, tree, volume, user, env=None, *, capabilities="", output):
        self.tree, self.volume = tree, volume
        self.env = tree.image.env | {"HOME": "/"} | (env or {})
        uid, _, gid = user.partition(":")
        hosts = volume.with_name(f"{volume.name}.hosts")
        hosts.write_text("127.0.0.1 localhost\n127.0.0.1 host.docker.internal ib-gateway\n")
        caps = "-all" + "".join(f",+{one}" for one in capabilities.split(",") if one)
        self._become = ["/usr/bin/setpriv", "--reuid", uid, "--regid", gid or uid, "--clear-groups",
                        "--inh-caps=-all", f"--bounding-set={caps}", "--no-new-privs"]  # fmt: skip
        script = f"""{tree.mounts()}
ip link set lo up
mkdir -p app/data
mount --bind '{volume}' app/data
touch etc/hosts
mount --bind '{hosts}' etc/hosts
mount -o remount,bind,ro .
mount -t tmpfs -o mode=1777,size=64m tmp tmp
mount -t tmpfs -o mode=1777,size=64m var app/var
cd app
exec chroot .. env -i "$@" """
        script = script.replace("exec chroot ..", f"exec chroot '{tree.folder}'")
        command = [*self._env_words(), *self._become, "/usr/bin/env", "-C", "/app",
                   *tree.image.entrypoint, *tree.image.command]  # fmt: skip
        self._output = output.open("wb")
        self.output = output
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            ["unshare", *_NAMESPACES, "sh", "-c", script, "container", *command],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _env_words(self):
        return [f"{name}={value}" for name, value in self.env.items()]

    @property
    def logs(self):
        """What `docker logs` would show."""
        return self.output.read_text(errors="replace")

    @property
    def pid(self):
        """This machine's number of the container's process 1."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (children := psutil.Process(self._process.pid).children()):
            assert self._process.poll() is None, self.logs
            assert time.monotonic() < deadline, "it has no process 1"
            time.sleep(0.02)
        return children[0].pid

    def execute(self, *command, user=None):
        """As `docker exec`: exit code and output."""
        become = self._become if user is None else ["/usr/bin/setpriv", "--reuid", user]
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--ipc", "--uts",
             "--root", "env", "-i", "-C", "/app", *self._env_words(), *become, *command],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def neighbours(self, *command, **env):
        """A program of this machine's in the container's network. Who starts it ends it."""
        return subprocess.Popen(
            ["nsenter", "--target", str(self.pid), "--net", *map(str, command)],
            env=os.environ | {k: str(v) for k, v in env.items()}, cwd=PROJECT,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def get(self, path):
        """The code and body of an answer of the page."""
        code = ("import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000);"
                "c.request('GET', sys.argv[1]); a = c.getresponse();"
                "sys.stdout.write(f'{a.status} {a.read().decode()}')")  # fmt: skip
        failed, said = self.execute("/app/.venv/bin/python", "-c", code, path)
        if failed:
            return 0, said
        status, _, body = said.partition(" ")
        return int(status), body

    def json(self, path):
        return json.loads(self.get(path)[1])

    def until_healthy(self, timeout_s=60):
        """Seconds from the start until the image's own health check says so."""
        while True:
            assert self._process.poll() is None, f"it has ended:\n{self.logs[-3000:]}"
            with contextlib.suppress(psutil.Error, IndexError):
                if self.execute(*self.tree.image.healthcheck)[0] == 0:
                    return time.monotonic() - self.started
            waited = time.monotonic() - self.started
            assert waited < timeout_s, f"not healthy after {waited:.0f} s:\n{self.logs[-3000:]}"
            time.sleep(0.2)

    def stop(self):
        """As `docker stop`: the exit code, and the seconds that it took."""
        began = time.monotonic()
        with contextlib.suppress(psutil.Error, IndexError):
            psutil.Process(self.pid).terminate()
        code = self._process.wait(60)
        return code, time.monotonic() - began

    def kill(self):
        if self._process.poll() is None:
            with contextlib.suppress(psutil.Error, IndexError):
                psutil.Process(self.pid).kill()
            self._process.kill()
        self._process.wait(20)
        self._output.close()


@contextlib.contextmanager
def scratch_folder():
    """For root trees: on a disk, with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="ktrdr-image-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
