"""What was notified of and what is still to be sent, in one small file that outlives restarts."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ktrdr.alerts.incidents import Incident
from ktrdr.alerts.wording import Message
from ktrdr.errors import Misconfigured
from ktrdr.run_folder import replace_file


@dataclass(frozen=True)
class Outgoing:
    """A message that one target has not taken yet."""

    target: str
    """The target's fingerprint."""
    message: Message
    time: datetime
    """When it was written (UTC)."""


@dataclass(frozen=True)
class Sent:
    """A message that a target has taken."""

    time: datetime
    target: str
    """Its name, which is no secret."""
    title: str


@dataclass(frozen=True)
class Record:
    """Everything that must not be forgotten."""

    incidents: tuple[Incident, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    sent: tuple[Sent, ...] = ()
    """The newest ones, oldest first."""


_RECORD = TypeAdapter(Record)


def read_record(path: Path) -> Record:
    """The record; an empty one if there is none. Misconfigured: it cannot be read."""
    try:
        return _RECORD.validate_json(path.read_bytes())
    except FileNotFoundError:
        return Record()
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no record of alerts"
        raise Misconfigured(f"{path} cannot be read: {why}") from error


def write_record(path: Path, record: Record) -> None:
    """Replace the record, whole. OSError or Misconfigured: it cannot be written."""
    path.parent.mkdir(exist_ok=True)  # never the store itself, whose disk may not be mounted
    fresh = path.with_suffix(".new")
    replace_file(fresh, json.dumps(_RECORD.dump_python(record, mode="json"), indent=1))
    fresh.replace(path)


def put_aside(path: Path) -> None:
    """Keep a record that cannot be read under another name."""
    with contextlib.suppress(OSError):
        os.replace(path, path.with_suffix(".broken"))  # noqa: PTH105  as its name says
