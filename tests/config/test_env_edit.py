"""Changes of an `.env` file's text, judged by the library that reads it."""

import io

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.config.env_edit import with_values

FILE = """\
# my settings

IB_HOST=old  # the box upstairs
KTRDR_ALERTS="ntfy://a
b"
export IB_PORT = '4001'
"""


def read(text):
    return dotenv_values(stream=io.StringIO(text.removeprefix("\ufeff")))


def test_a_variable_keeps_its_place_and_its_comment():
    assert with_values(FILE, {"IB_HOST": "new", "IB_PORT": "4002"}) == (
        FILE.replace("IB_HOST=old", "IB_HOST=new").replace("'4001'", "4002")
    )


def test_others_are_added_at_the_end():
    assert with_values("A=1", {"IB_HOST": "h", "IB_PORT": "1"}) == "A=1\nIB_HOST=h\nIB_PORT=1\n"
    assert with_values("", {"IB_HOST": "h"}) == "IB_HOST=h\n"
    assert with_values("IB_HOST=\nA=1\n", {"IB_HOST": "h"}) == "IB_HOST=h\nA=1\n"
    assert with_values("A=1\r\nIB_HOST=x\r\n", {"IB_HOST": "h", "B": "2"}) == (
        "A=1\r\nIB_HOST=h\r\nB=2\r\n"
    )


def test_a_variable_is_commented_out():
    assert with_values(FILE, {"IB_HOST": None}) == FILE.replace("IB_HOST=", "#IB_HOST=")
    assert with_values("A=1\n", {"IB_HOST": None}) == "A=1\n"
    assert "KTRDR_ALERTS" not in read(with_values(FILE, {"KTRDR_ALERTS": None}))


@pytest.mark.parametrize("text", ["ib_host=x\n", "\ufeffIB_HOST=x\n", "IB_HOST=a\nIB_HOST=b\n"])
def test_the_name_is_found_however_it_stands(text):
    changed = with_values(text, {"IB_HOST": "h"})
    assert changed.count("=") == text.count("=")
    assert set(read(changed).values()) == {"h"}
    assert changed.startswith("\ufeff") is text.startswith("\ufeff")


LINE = st.one_of(
    st.sampled_from(
        ["", "# a comment", "IB_HOST=x", "IB_HOST=", "A='1 # 2'", 'B="x\ny"', "  C=3  # c", "D"]
    ),
    st.text(st.characters(codec="ascii", exclude_characters="\r"), max_size=12),
)


@given(st.lists(LINE), st.sampled_from(["\n", "\r\n"]))
def test_no_other_variable_is_changed(lines, end):
    text = end.join(lines)
    before, after = read(text), read(with_values(text, {"IB_HOST": "h"}))
    others = {name: value for name, value in before.items() if name.upper() != "IB_HOST"}
    assert {n: v for n, v in after.items() if n.upper() != "IB_HOST"} == others
    assert {v for n, v in after.items() if n.upper() == "IB_HOST"} == {"h"}
