"""`ktrdr logs`, on files that are written, rotated and emptied while they are read."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.cli.log_files import LogFile

FILLER = """\
2026-11-20T14:30:01.000Z INFO    ktrdr.gap_filler: scanned
2026-11-20T14:30:03.000Z ERROR   ktrdr.gap_filler: AAPL_1m failed
Traceback (most recent call last):
  ValueError: oops
2026-11-20T14:30:05.000Z WARNING ktrdr.gap_filler: MSFT_1m is late
"""
CONNECTION = "2026-11-20T14:30:02.000Z INFO    ktrdr.ib: connected \x1b[31mred\x1b[0m\x07\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gap-filler.log").write_text(FILLER)
    (tmp_path / "ib-connection.log").write_text(CONNECTION)
    return tmp_path


@pytest.fixture
def logs(folder):
    return lambda *words: CliRunner().invoke(app, ["logs", *words, "--folder", str(folder)])


def test_the_last_lines_of_a_program_are_shown(logs):
    result = logs("gap-filler", "--lines", "2")
    assert (result.exit_code, result.output.splitlines()) == (0, FILLER.splitlines()[-2:])


def test_without_a_name_all_logs_are_shown_by_time_and_nothing_is_obeyed(logs):
    lines = logs().output.splitlines()
    assert [line.split()[0] for line in lines] == ["gap-filler", "ib-connection"] + 4 * [
        "gap-filler"
    ]
    assert lines[1].endswith(r"connected red\x07")


def test_a_level_has_the_traceback_with_its_line(logs):
    lines = logs("gap-filler", "--level", "error").output.splitlines()
    assert lines == FILLER.splitlines()[1:4]
    warnings = logs("gap-filler", "--level", "warning").output.splitlines()
    assert warnings == FILLER.splitlines()[1:]


def test_a_pattern_chooses_lines(logs):
    assert logs("--grep", "AAPL|MSFT").output.count("\n") == 2
    assert logs("--grep", "nothing").stderr.startswith("port-forward: there is no such file yet")


def test_json_is_what_the_status_api_gives(logs, folder):
    found = json.loads(logs("gap-filler", "--lines", "1", "--json").stdout)
    assert found == {
        "file": f"{folder}/gap-filler.log",
        "lines": [FILLER.splitlines()[-1]],
        "reason": None,
    }
    every = json.loads(logs("--json").stdout)
    assert len(every["gap-filler"]["lines"]) == 5
    assert every["alerts"]["reason"] == "there is no such file yet"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gap-filer",), "did you mean gap-filler?"),
        (("--level", "warn"), "did you mean warning?"),
        (("--grep", "("), "--grep '(': "),
    ],
)
def test_wrong_words_are_named(logs, words, said):
    result = logs(*words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_new_lines_are_followed_also_in_the_next_file(folder):
    path = folder / "gap-filler.log"
    command = [sys.executable, "-m", "ktrdr.cli", "logs", "gap-filler", "-f", "-n", "1"]
    with subprocess.Popen(
        [*command, "--folder", str(folder)], stdout=subprocess.PIPE, text=True
    ) as run:
        end = threading.Timer(30, run.kill)  # the lines end then, and the test fails
        end.start()
        assert run.stdout.readline() == FILLER.splitlines(keepends=True)[-1]
        with path.open("a") as log:
            log.write("one\n")
            log.flush()
            assert run.stdout.readline() == "one\n"
        path.rename(folder / "gap-filler.log.1")
        path.write_text("two\n")
        assert run.stdout.readline() == "two\n"
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
        end.cancel()


def test_each_line_is_read_once_and_whole(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntw")
    file = LogFile(path)
    assert file.last_lines() == [b"one"]
    with path.open("ab") as log:
        log.write(b"o\nthree\n")
    assert [*file.new_lines()] == [b"two", b"three"]
    os.truncate(path, 0)
    with path.open("ab") as log:
        log.write(b"4\n")
    assert [*file.new_lines()] == [b"4"]
    path.unlink()
    assert [*file.new_lines()] == []
    path.write_bytes(b"five\n")
    assert [*file.new_lines()] == [b"five"]
    file.close()


def test_a_file_that_comes_later_is_read_from_its_beginning(tmp_path):
    file = LogFile(tmp_path / "a.log")
    assert file.last_lines() == []
    (tmp_path / "a.log").write_bytes(b"one\n")
    assert [*file.new_lines()] == [b"one"]
    file.close()
