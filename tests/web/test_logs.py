from __future__ import annotations

import os

import pytest

from ktrdr.web.logs import tail


@pytest.fixture
def log(tmp_path):
    return tmp_path / "gap-filler.log"


def test_it_tells_the_last_lines(log):
    log.write_text("".join(f"line {n}\n" for n in range(100)))

    assert tail(log, 3).lines == ("line 97", "line 98", "line 99")


def test_a_last_line_may_be_unfinished(log):
    log.write_text("whole\nhal")

    assert tail(log, 15).lines == ("whole", "hal")


def test_a_file_that_is_not_there_is_reported(log):
    found = tail(log, 15)

    assert found.lines == ()
    assert found.reason == "there is no such file yet"


def test_an_empty_file_is_reported(log):
    log.touch()

    assert tail(log, 15).reason == "it is empty"


def test_a_folder_in_its_place_is_reported(log):
    log.mkdir()

    assert "cannot be read" in tail(log, 15).reason


def test_bytes_that_are_no_utf8_are_marked(log):
    log.write_bytes(b"caf\xe9 \xff\xfe\nfine\n")

    assert tail(log, 15).lines == ("caf� ��", "fine")


def test_colours_and_controls_do_not_get_through(log):
    log.write_bytes(b"\x1b[31mred\x1b[0m\x07\x00 end\n")

    assert tail(log, 15).lines == ("red\\x07\\x00 end",)


def test_nor_do_signs_that_nobody_sees(log):
    log.write_text("a\u202eb\u200b\u2028c\x9b2J\n")

    assert tail(log, 15).lines == (r"a\u202eb\u200b\u2028c\x9b2J",)


@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_what_is_in_the_place_of_a_log_is_not_read(log, tmp_path, kind):
    (tmp_path / "secret").write_text("s3cret")
    if kind == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to("/dev/zero" if kind == "device" else tmp_path / "secret")

    found = tail(log, 15)
    assert found.lines == ()
    assert "cannot be read" in found.reason


def test_only_the_end_of_a_large_file_is_read(log):
    with log.open("wb") as file:
        file.truncate(3 * 2**30)  # sparse: reading it whole would take seconds and gigabytes
        file.seek(0, 2)
        file.write(b"\nlast but one\nlast\n")

    assert tail(log, 2).lines == ("last but one", "last")


def test_the_first_line_of_a_cut_is_left_out(log):
    log.write_text("x" * 70_000 + "\nshort\n")

    assert tail(log, 15).lines == ("short",)


def test_one_endless_line_is_shown_as_far_as_it_was_read(log):
    log.write_text("x" * 70_000)

    assert tail(log, 15).lines == ("x" * 65_536,)
