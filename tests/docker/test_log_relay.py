"""docker/log_relay.py: whole lines, each with its program's name, and nothing lost."""

from __future__ import annotations

import importlib.util
import os
import threading
from types import SimpleNamespace

import pytest
from supervisor.loggers import Logger, LogRecord

from tests.docker.dockerfile import PROJECT


@pytest.fixture(scope="module")
def log_relay():
    spec = importlib.util.spec_from_file_location("log_relay", PROJECT / "docker/log_relay.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def written():
    return []


@pytest.fixture
def say(log_relay, written):
    relay = log_relay.Relay(written.append)

    def of(name, data):
        process = SimpleNamespace(config=SimpleNamespace(name=name))
        relay.take(SimpleNamespace(process=process, data=data))

    return of


def text(written):
    return b"".join(written).decode()


def test_pieces_of_two_programs_become_whole_lines(say, written):
    say("gap-filler", b"one\ntw")
    say("ib-connection", b"other\n")
    say("gap-filler", b"o\n")
    assert text(written).splitlines() == [
        "gap-filler    one",
        "ib-connection other",
        "gap-filler    two",
    ]


def test_a_line_without_an_end_does_not_grow_for_ever(say, written):
    for _ in range(300):
        say("gap-filler", b"x" * 1000)
    lines = text(written).splitlines()
    assert {len(line) for line in lines} == {64 * 1024 + len("gap-filler    ")}
    say("gap-filler", b"\n")
    assert text(written).count("x") == 300_000


def test_letters_of_any_kind_pass(say, written):
    say("status-app", "träge\n".encode())
    say("status-app", b"\xff\xfe\n")
    assert b"".join(written) == "status-app    träge\n".encode() + b"status-app    \xff\xfe\n"


def test_supervisords_lines_look_like_the_programs(log_relay, written):
    log_relay.OwnLines(written.append).emit(LogRecord(20, "spawned: 'x' with pid %(pid)s", pid=9))
    name, time, level, who, rest = text(written).split(None, 4)
    assert (name, level, who, rest) == (
        "supervisord", "INFO", "supervisord:", "spawned: 'x' with pid 9\n",
    )  # fmt: skip
    assert len(time) == len("2026-11-28T05:46:01.537Z")


def test_the_word_about_a_socket_without_password_is_left_out(log_relay, written):
    lines = log_relay.OwnLines(written.append)
    lines.emit(
        LogRecord(50, "Server 'unix_http_server' running without any HTTP authentication checking")
    )
    assert written == []
    lines.emit(LogRecord(50, "Supervisor is running as root."))
    assert "running as root" in text(written)


def test_supervisord_can_end_with_it(log_relay, written):
    logger = Logger(handlers=[log_relay.OwnLines(written.append)])
    logger.close()


def test_all_is_written_however_slowly_it_is_read(log_relay):
    reads, writes = os.pipe()
    data = b"x" * 1_000_000
    writer = threading.Thread(target=log_relay.write_all, args=(data, writes))
    writer.start()
    with os.fdopen(reads, "rb") as pipe:
        assert len(pipe.read(len(data))) == len(data)
    writer.join(10)
    os.close(writes)


def test_an_output_that_nobody_reads_stops_nothing(log_relay):
    reads, writes = os.pipe()
    os.close(reads)
    log_relay.write_all(b"x", writes)
    os.close(writes)
