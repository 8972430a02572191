from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

import ktrdr.web

STATIC = Path(ktrdr.web.__file__).parent / "static"
VENDOR = STATIC / "vendor"


@pytest.mark.usefixtures("peers")
def test_every_file_that_a_page_names_is_served_and_kept_for_ever(client):
    html = client.get("/").text
    named = re.findall(r'(?:src|href|data-icon)="(/static/[^"]*)"', html)

    assert len(named) >= 5
    for url in named:
        got = client.get(url.replace("&amp;", "&"))
        assert got.status_code == 200
        assert got.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_a_file_of_another_version_is_asked_for_again(client):
    for url in ("/static/page.css", "/static/page.css?v=0123456789abcdef"):
        assert client.get(url).headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("icons/good.svg", "image/svg+xml"),
        ("vendor/htmx-4.0.1.min.js", "text/javascript"),
    ],
)
def test_a_file_is_served_as_it_is_and_compressed(client, name, kind):
    plain = client.get(f"/static/{name}")
    packed = client.get(f"/static/{name}", headers={"Accept-Encoding": "gzip"})

    assert plain.content_type.startswith(kind)
    assert plain.data == (STATIC / name).read_bytes()
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert plain.headers["ETag"] != packed.headers["ETag"]
    tag = {"If-None-Match": plain.headers["ETag"]}
    assert client.get(f"/static/{name}", headers=tag).status_code == 304


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "../__init__.py", "%2e%2e/__init__.py", "icons"]
)
def test_nothing_else_is_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_files_of_others_are_unchanged_and_have_their_licence():
    sums = dict(
        reversed(line.split("  ")) for line in (VENDOR / "SHA256SUMS").read_text().splitlines()
    )
    files = {path.name: path for path in VENDOR.iterdir() if path.name != "SHA256SUMS"}

    assert {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in files.items()} == sums
    for name in files:
        library = re.match(r"[a-z-]+-[0-9.]+[0-9]", name)[0]
        assert f"{library}.LICENSE" in files


def test_each_block_of_the_style_is_closed():
    style = re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", (STATIC / "page.css").read_text(), flags=re.DOTALL)
    depth = 0
    for mark in re.findall("[{}]", style):
        depth += 1 if mark == "{" else -1
        assert 0 <= depth <= 2
    assert depth == 0


def test_the_icons_of_the_verdict_differ_by_shape_and_not_by_colour_alone():
    shapes = [
        re.sub(r"#[0-9a-f]{3,6}", "", path.read_text()) for path in (STATIC / "icons").iterdir()
    ]
    assert len(set(shapes)) == len(shapes) == 5
