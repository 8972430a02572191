from __future__ import annotations

import os

import pytest

from ktrdr.errors import InvalidRequest
from ktrdr.web.logs import chosen, levelled, read_on, tail


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


# Followed: what was added since.


def test_the_end_comes_first_and_then_what_was_added(log):
    log.write_text("one\ntwo\n")
    first = read_on(log, "")
    assert first.lines == ("one", "two")
    assert read_on(log, first.cursor).lines == ()
    with log.open("a") as file:
        file.write("three\nfo")
    second = read_on(log, first.cursor)
    assert (second.lines, second.is_new_file) == (("three",), False)
    with log.open("a") as file:
        file.write("ur\n")
    assert read_on(log, second.cursor).lines == ("four",)


def test_the_rest_of_a_file_that_was_put_aside_is_not_lost(log):
    log.write_text("one\n")
    cursor = read_on(log, "").cursor
    with log.open("a") as file:
        file.write("two\n")
    log.rename(log.with_name(f"{log.name}.1"))
    log.write_text("three\n")
    rest = read_on(log, cursor)
    assert (rest.lines, rest.is_new_file) == (("two",), False)
    new = read_on(log, rest.cursor)
    assert (new.lines, new.is_new_file) == (("three",), True)
    assert read_on(log, new.cursor).lines == ()


def test_a_file_that_was_emptied_is_read_from_its_begin(log):
    log.write_text("one\ntwo\n")
    cursor = read_on(log, "").cursor
    log.write_text("x\n")
    found = read_on(log, cursor)
    assert (found.lines, found.is_new_file) == (("x",), True)


def test_a_large_part_comes_in_pieces_without_loss(log):
    log.write_text("")
    cursor = read_on(log, "").cursor
    lines = [f"line {n:06}" for n in range(20_000)]
    log.write_text("".join(f"{line}\n" for line in lines))
    found = []
    while (chunk := read_on(log, cursor)).lines:
        assert len(chunk.lines) < 6000
        found += chunk.lines
        cursor = chunk.cursor
    assert found == lines


def test_an_endless_line_comes_in_pieces(log):
    log.write_text("")
    cursor = read_on(log, "").cursor
    log.write_text("x" * 100_000)
    first = read_on(log, cursor)
    assert [len(line) for line in first.lines] == [65_536]
    assert read_on(log, first.cursor).lines == ()  # the rest may go on


@pytest.mark.parametrize("cursor", ["x", "1:2:3", "-1:5", "1:" + "9" * 16, "1:٣"])
def test_a_cursor_that_is_none_is_refused(log, cursor):
    with pytest.raises(InvalidRequest, match="expected the cursor of an earlier answer"):
        read_on(log, cursor)


def test_without_a_file_there_are_no_lines_and_a_reason(log):
    assert read_on(log, "").reason == "there is no such file yet"
    assert read_on(log, "1:2").reason == "there is no such file yet"


def line(level, text):
    return f"2026-11-28T13:03:45.509Z {level:<7} gap-filler: {text}"


LINES = [
    line("INFO", "scan"),
    line("ERROR", "it failed"),
    "    Traceback, of the error",
    line("WARNING", "a Farm is down"),
    line("DEBUG", "nothing"),
]


def test_a_line_without_a_level_belongs_to_the_one_before():
    levels = [one.level for one in levelled(["first", *LINES])]
    assert levels == ["INFO", "INFO", "ERROR", "ERROR", "WARNING", "DEBUG"]


@pytest.mark.parametrize(
    ("least", "text", "places"),
    [
        ("", "", [0, 1, 2, 3, 4]),
        ("INFO", "", [0, 1, 2, 3]),
        ("WARNING", "", [1, 2, 3]),
        ("CRITICAL", "", []),
        ("NONSENSE", "", [0, 1, 2, 3, 4]),
        ("", "farm IS", [3]),
        ("WARNING", "scan", []),
        ("", ".*", []),
    ],
)
def test_lines_are_chosen_by_level_and_text(least, text, places):
    found = [one.text for one in chosen(levelled(LINES), least, text)]
    assert found == [LINES[place] for place in places]


# The page.

PAGE = "/programs/gap-filler/log"


@pytest.fixture
def written(log_dir):
    (log_dir / "gap-filler.log").write_text("".join(f"{one}\n" for one in LINES))
    return log_dir / "gap-filler.log"


def shown(client, query=""):
    html = client.get(PAGE + query).text
    return html.partition('id="log-lines"')[2].partition(">")[2].partition("</pre>")[0]


@pytest.mark.usefixtures("written")
def test_the_page_chooses_without_scripts(client):
    assert shown(client).splitlines() == LINES
    assert shown(client, "?level=WARNING&q=farm").splitlines() == [LINES[3]]
    assert shown(client, "?q=%3Cb%3E") == "No line matches."
    html = client.get(f"{PAGE}?level=ERROR&q=a%22b").text
    assert '<option value="ERROR" selected>' in html
    assert 'value="a&#34;b"' in html


def test_the_page_of_a_log_that_is_not_there_says_so(client):
    assert shown(client) == "No lines: there is no such file yet."


@pytest.mark.parametrize("path", ["", "/lines", "/download"])
def test_there_is_no_log_of_what_is_no_program(client, path):
    assert client.get(f"/programs/..%2Fsecret/log{path}").status_code == 404
    assert client.get(f"/programs/nobody/log{path}").status_code == 404


def test_lines_are_followed_by_their_cursor(client, written):
    first = client.get(f"{PAGE}/lines").json
    assert first["lines"][1] == ["ERROR", LINES[1]]
    with written.open("a") as file:
        file.write(line("INFO", "more") + "\n")
    added = client.get(f"{PAGE}/lines?after={first['cursor']}").json
    assert added["lines"] == [["INFO", line("INFO", "more")]]
    assert (added["is_new_file"], added["reason"]) == (False, None)
    assert client.get(f"{PAGE}/lines?after=x").status_code == 400


def test_the_whole_file_is_downloaded(client, written):
    written.write_bytes(content := b"\x1b[31m\xff" + b"x" * 200_000)
    answer = client.get(f"{PAGE}/download")
    assert answer.data == content
    assert answer.headers["Content-Disposition"] == "attachment; filename=gap-filler.log"
    assert answer.mimetype == "text/plain"
    written.unlink()
    assert client.get(f"{PAGE}/download").status_code == 404
    written.symlink_to("/etc/hostname")
    assert client.get(f"{PAGE}/download").status_code == 404
