"""The real docker/Dockerfile, read: its instructions, and what its COPY may take."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


class Image:
    """What the instructions say of the container; `steps` are those that make its files."""

    def __init__(self, text: str) -> None:
        self.base = self.user = self.workdir = ""
        self.env = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.labels: dict[str, str] = {}
        self.volumes: list[str] = []
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.healthcheck: list[str] = []
        self.steps: list[tuple[str, str, str, dict[str, str]]] = []
        """COPY or RUN, its words, the working folder and the environment as they are by then."""
        for word, rest in _instructions(text):
            self._take(word, rest)

    def _take(self, word: str, rest: str) -> None:
        if word in {"RUN", "COPY"}:
            assert not self.user, "what is made after USER would be another user's"
            self.steps.append((word, rest, self.workdir, dict(self.env)))
        elif word == "ENV":
            self.env |= _pairs(rest, self.env)
        elif word == "LABEL":
            self.labels |= _pairs(rest, self.env)
        elif word == "HEALTHCHECK":
            self.healthcheck = json.loads(rest.partition(" CMD ")[2])
        elif word == "ENTRYPOINT":
            self.entrypoint = json.loads(rest)
        elif word == "CMD":
            self.command = json.loads(rest)
        elif word == "VOLUME":
            self.volumes.append(rest)
        elif word in {"FROM", "WORKDIR", "USER"}:
            setattr(self, {"FROM": "base"}.get(word, word.lower()), rest)
        else:
            assert word in {"EXPOSE", "STOPSIGNAL", "ARG"}, f"{word} is not understood here"


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in whole.splitlines() if line.strip()]


def _pairs(rest: str, env: dict[str, str]) -> dict[str, str]:
    pairs = dict(word.split("=", 1) for word in shlex.split(rest))
    return {k: re.sub(r"\$(\w+)", lambda m: env.get(m[1], ""), v) for k, v in pairs.items()}


def context_files() -> list[Path]:
    """What the builder gets of the project, as paths within it."""
    tops = [
        path for path in PROJECT.iterdir() if is_in_context(f"{path.name}/x/y") or path.is_file()
    ]
    tops += [PROJECT / "docker"]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*"))]
    inside = {file.relative_to(PROJECT) for file in files if file.is_file()}
    return sorted(file for file in inside if is_in_context(file.as_posix()))


def is_in_context(path: str) -> bool:
    """Whether .dockerignore lets it in: the last rule that fits it, or a folder of it, decides."""
    taken = True
    for line in (PROJECT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and _pattern(line.lstrip("!")).fullmatch(path):
            taken = line.startswith("!")
    return taken


def _pattern(glob: str) -> re.Pattern[str]:
    inside = re.escape(glob).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return re.compile(f"{inside}(/.*)?")
