"""scripts/pictures.py: what it takes pictures of is there, and what is too large is refused."""

import runpy
import stat
from pathlib import Path

import pytest

from ktrdr.web import create_app

SCRIPT = Path(__file__).parents[2] / "scripts/pictures.py"

FAKE_BROWSER = """#!/bin/sh
for argument; do case $argument in --screenshot=*) file=${argument#--screenshot=} ;; esac; done
head -c SIZE /dev/zero > "$file"
"""


@pytest.fixture
def pictures():
    return runpy.run_path(str(SCRIPT))


def test_each_picture_is_of_a_page_and_has_a_name_of_its_own(pictures, make_settings):
    urls = create_app(make_settings()).url_map.bind("localhost")
    assert all(urls.test(one.path) for one in pictures["PICTURES"])
    names = [one.name for one in pictures["PICTURES"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("size", "is_taken"), [("200000", True), ("200001", False)])
def test_a_picture_has_at_most_200_kb(pictures, tmp_path, capsys, size, is_taken):
    browser = tmp_path / "browser"
    browser.write_text(FAKE_BROWSER.replace("SIZE", size))
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    path = tmp_path / "pictures/one.png"
    path.parent.mkdir()

    pictures["take"](str(browser), "http://127.0.0.1:1", pictures["Picture"]("/", "one"), path)

    assert bool(pictures["too_large"](path.parent)) is not is_taken
    assert f"one.png: {size} bytes" in capsys.readouterr().out
