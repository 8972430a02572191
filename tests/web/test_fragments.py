from __future__ import annotations

import gzip
import threading

import pytest
from flask import Flask

from ktrdr.web.fragments import Fragment, Fragments


@pytest.fixture
def app():
    return Flask(__name__)


def answer(app, fragment, **headers):
    with app.test_request_context(headers=headers):
        return fragment.response()


def test_who_has_the_newest_is_told_so_in_a_few_bytes(app):
    fragment = Fragment.of("<p>hello</p>" * 100)

    first = answer(app, fragment)
    again = answer(app, fragment, **{"If-None-Match": first.headers["ETag"]})

    assert (first.status_code, first.data) == (200, b"<p>hello</p>" * 100)
    assert (again.status_code, again.data) == (304, b"")
    assert len(str(again.headers)) < 200


def test_who_has_another_one_gets_the_newest(app):
    old, new = Fragment.of("<p>1</p>"), Fragment.of("<p>2</p>")

    got = answer(app, new, **{"If-None-Match": f'W/"{old.tag}"'})

    assert (got.status_code, got.data) == (200, b"<p>2</p>")


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_it_is_compressed_for_those_who_can_read_that(app, accepted, is_compressed):
    html = "<p>hello</p>" * 100

    got = answer(app, Fragment.of(html), **{"Accept-Encoding": accepted})

    assert got.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
    assert (gzip.decompress(got.data) if is_compressed else got.data) == html.encode()
    assert got.headers["Vary"] == "Accept-Encoding"


def test_one_rendering_serves_all_who_ask_at_once():
    begun, go_on = threading.Event(), threading.Event()
    rendered = []

    def render(key):
        rendered.append(key)
        begun.set()
        assert go_on.wait(10)
        return f"<p>{key}</p>"

    fragments = Fragments(render)
    got = []
    readers = [threading.Thread(target=lambda: got.append(fragments.get("a"))) for _ in range(20)]
    for reader in readers:
        reader.start()
    assert begun.wait(10)
    go_on.set()
    for reader in readers:
        reader.join()

    assert rendered == ["a"]
    assert {fragment.html for fragment in got} == {"<p>a</p>"}


def test_each_key_has_its_own_and_those_that_nobody_uses_are_dropped():
    rendered = []

    def render(key):
        rendered.append(key)
        return str(key)

    fragments = Fragments(render)
    for key in range(1000):
        assert fragments.get(key).html == str(key)
    fragments.get(999)
    fragments.get(0)

    assert rendered == [*range(1000), 0]


def test_an_error_is_not_kept():
    answers = iter([ValueError("no"), "<p>yes</p>"])

    def render(_key):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    fragments = Fragments(render)
    with pytest.raises(ValueError, match="no"):
        fragments.get("a")
    assert fragments.get("a").html == "<p>yes</p>"
