"""The pages about Python and about IB's errors say what is so."""

import re
from pathlib import Path

import pytest

from ktrdr.ib import connect_errors, error_codes
from tests.fake_connection import line, price, utc

DOCS = Path(__file__).resolve().parents[2] / "docs"
HEADER = "timestamp,open,high,low,close,volume\n"
CODES = [*range(1, 1000), *range(10000, 11000)]


@pytest.mark.parametrize("page", ["python.md", "notebook.md"])
def test_the_lines_of_a_page_run(page, make_settings, data_dir, monkeypatch, capsys):
    for symbol in ("AAPL", "MSFT"):
        rows = (line(price(utc("2026-11-18 10:00") + 60 * i)) for i in range(120))
        (data_dir / f"{symbol}_1m.csv").write_text(HEADER + "".join(rows))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(data_dir))
    monkeypatch.setenv("KTRDR_RUN_DIR", str(make_settings().run_dir))
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(names["bars"]) == 120
    if page == "python.md":
        assert capsys.readouterr().out.count("MSFT 2026-11-18") == 120
        assert names["frame"].shape == (240, 7)


def rows_of(page):
    lines = (DOCS / page).read_text().splitlines()
    return [line for line in lines if line.startswith("| ")]


@pytest.mark.parametrize("code", [c for c in CODES if error_codes.translate(c, "", "").hint])
def test_each_code_with_a_next_step_is_in_the_table(code):
    hint = error_codes.translate(code, "", "").hint
    row = [one for one in rows_of("troubleshooting.md") if re.search(rf"\b{code}\b", one)]
    assert len(row) == 1
    assert hint in row[0]


@pytest.mark.parametrize(
    "text",
    [
        "pacing violation",
        "no market data permissions",
        "different ip address",
        "hmds server disconnect",
        "hmds connection attempt failed",
    ],
)
def test_each_meaning_of_162_is_in_the_table(text):
    hint = error_codes.translate(162, text, "").hint
    rows = [one for one in rows_of("troubleshooting.md") if one.startswith("| 162")]
    (row,) = [one for one in rows if text in one.lower()]
    assert hint
    assert hint in row


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (connect_errors.cannot_connect("H", OSError("refused")), "cannot connect to"),
        (connect_errors.unreachable("H"), "does not answer"),
        (connect_errors.unresponsive("H", 0), "accepts connections but does not respond"),
        (connect_errors.closed_before_greeting("H"), "closed the connection during the handshake"),
        (connect_errors.no_gateway("H", "HTTP"), "is no IB Gateway"),
        (connect_errors.too_old("H", 1, 2), "speaks protocol"),
    ],
)
def test_each_way_not_to_reach_a_gateway_is_in_the_table(error, words):
    assert words in error.message
    (row,) = [one for one in rows_of("troubleshooting.md") if words in one]
    assert row.endswith(f"| {error.hint} |")
