"""Changes of instruments.toml by the gap filler: comments, order and the rest stay."""

import threading
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import Misconfigured, StoreUnwritable
from ktrdr.market.instruments import read_instruments
from ktrdr.store.instruments_edit import EntryChange, change_entry, with_change

DAY = date(2020, 1, 1)
OLD = """# mine
[MSFT]
extended_hours = true  # also at night

["BRK.B"]   # Berkshire
local_symbol = "BRK B"
since = 2010-01-01  # all of them
"""


def changed(text, **change):
    return with_change(text.encode(), EntryChange(**change)).decode()


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"since": {"1m": DAY}}, "", "[AAPL]\nsince = {1m = 2020-01-01}\n"),
        ({"watch": {"1m": False}}, "", "[AAPL]\nwatch = {1m = false}\n"),
        ({"watch": {"1m": True}}, "", ""),
        ({"watch": {"1m": True}}, "[AAPL]\nwatch = {1m = false}\n", ""),
        (
            {"watch": {"1m": True}},
            "[AAPL]\n# mine\nwatch = {1m = false}\n",
            "[AAPL]\n# mine\n",
        ),
        (
            {"watch": {"1m": True}},
            "[AAPL]\nwatch = false\n",
            '[AAPL]\nwatch = {"" = false, 1m = true}\n',
        ),
        ({"watch": {"1m": False}}, "[AAPL]\nwatch = false\n", "[AAPL]\nwatch = false\n"),
        ({"watch": {"1m": False}}, "AAPL = {}\n", "AAPL = {watch = {1m = false}}\n"),
        ({"since": {"1m": DAY}}, "[AAPL]\nsince = 2020-01-01\n", "[AAPL]\nsince = 2020-01-01\n"),
        (
            {"since": {"1m": DAY}},
            "[AAPL]\nsince = 2010-01-01  # long\n",
            '[AAPL]\nsince = {"" = 2010-01-01, 1m = 2020-01-01}  # long\n',
        ),
        (
            {"since": {"1m": None}},
            '[AAPL]\nsince = {"1d" = 2010-01-01, "1m" = 2020-01-01}\n',
            "[AAPL]\nsince = {1d = 2010-01-01}\n",
        ),
        (
            {"since": {"1m": DAY}},
            '[AAPL]\nsince = {"1d" = 2010-01-01} # long\n',
            "[AAPL]\nsince = {1d = 2010-01-01, 1m = 2020-01-01} # long\n",
        ),
        ({"since": {"1m": None}}, '[AAPL]\nsince = {"1m" = 2020-01-01}\n', ""),
        (
            {"since": {"1d": DAY}},
            "[AAPL.since]\n1m = 2015-01-01\n",
            "[AAPL.since]\n1m = 2015-01-01\n1d = 2020-01-01\n",
        ),
        (
            {"fields": {"primary_exchange": "NYSE"}, "dropped": ["con_id", "primary_exchange"]},
            '[AAPL]\nprimary_exchange = "NASDAQ" # there\ncon_id = 7\n',
            '[AAPL]\nprimary_exchange = "NYSE" # there\n',
        ),
    ],
)
def test_only_what_is_named_changes(change, before, after):
    assert changed(before, symbol="AAPL", **change) == after


def test_comments_order_and_other_entries_stay():
    after = changed(OLD, symbol="AAPL", since={"1m": DAY})
    assert after == OLD + "\n[AAPL]\nsince = {1m = 2020-01-01}\n"
    after = changed(OLD, symbol="BRK.B", watch={"1h": False})
    assert after == OLD + "watch = {1h = false}\n"
    assert changed(OLD, symbol="MSFT", fields={"exchange": "ISE"}) == OLD.replace(
        "at night\n", 'at night\nexchange = "ISE"\n'
    )


def test_line_ends_and_a_mark_at_the_beginning_stay():
    before = b"\xef\xbb\xbf[MSFT]\r\nsince = 2020-01-01\r\n"
    after = with_change(before, EntryChange("AAPL", watch={"1m": False}))
    assert after == before + b"\r\n[AAPL]\r\nwatch = {1m = false}\r\n"


SINCE = st.dictionaries(
    st.sampled_from(["", "1m", "1h", "1d"]), st.dates(date(1990, 1, 1), date(2026, 1, 1))
)
WATCH = st.dictionaries(st.sampled_from(["", "1m", "1h", "1d"]), st.booleans())


@given(since=SINCE, watch=WATCH, day=st.none() | st.just(DAY), is_watched=st.booleans())
def test_a_change_is_what_is_read_afterwards_and_others_keep_theirs(since, watch, day, is_watched):
    def table(values):
        return "{" + ", ".join(f'"{k}" = {str(v).lower()}' for k, v in values.items()) + "}"

    before = f"[AAPL]\nsince = {table(since)}\nwatch = {table(watch)}\n"
    after = changed(before, symbol="AAPL", since={"1m": day}, watch={"1m": is_watched})
    entry = read_instruments(after).get("AAPL", {})
    now_since, now_watch = entry.get("since", {}), entry.get("watch", {})
    assert now_since.get("1m", now_since.get("")) == (day or since.get(""))
    assert now_watch.get("1m", now_watch.get("", True)) == is_watched
    for other in ("1h", "1d"):
        assert now_since.get(other, now_since.get("")) == since.get(other, since.get(""))
        assert now_watch.get(other, now_watch.get("", True)) == watch.get(
            other, watch.get("", True)
        )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[AAPL]\nsince = \n", "at line 2"),
        ("[AAPL]\n[AAPL]\n", "line 2"),
        ("[AAPL]\ncolour = 1\n", r"\[AAPL\] colour"),
        ("[AAPL]\nwatch = 1\n", r"\[AAPL\] watch = 1: expected true or false"),
        ('[AAPL]\nwatch = { "2m" = false }\n', r"\[AAPL\] watch.2m: expected a timeframe"),
    ],
)
def test_a_file_that_is_wrong_is_refused_untouched(tmp_path, text, named):
    path = tmp_path / "instruments.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=named):
        change_entry(tmp_path, EntryChange("AAPL", since={"1m": DAY}))
    assert path.read_text() == text


def test_a_wrong_entry_of_another_symbol_is_no_obstacle_and_stays(tmp_path):
    path = tmp_path / "instruments.toml"
    path.write_text("[MSFT]\ncolour = 1\n")
    assert not change_entry(tmp_path, EntryChange("AAPL", watch={"1m": True}))
    assert change_entry(tmp_path, EntryChange("AAPL", watch={"1m": False}))
    assert path.read_text() == "[MSFT]\ncolour = 1\n\n[AAPL]\nwatch = {1m = false}\n"


def test_a_change_that_would_be_wrong_is_refused_untouched(tmp_path):
    (tmp_path / "instruments.toml").write_text(OLD)
    with pytest.raises(Misconfigured, match="sec_type"):
        change_entry(tmp_path, EntryChange("AAPL", fields={"sec_type": "STOCK"}))
    assert (tmp_path / "instruments.toml").read_text() == OLD


def test_the_file_is_made_and_changed_in_place(tmp_path):
    real = tmp_path / "kept.toml"
    path = tmp_path / "instruments.toml"
    path.symlink_to(real)
    real.write_text("# mine\n")
    real.chmod(0o640)
    assert change_entry(tmp_path, EntryChange("AAPL", since={"1m": DAY}))
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_text() == "# mine\n\n[AAPL]\nsince = {1m = 2020-01-01}\n"
    assert not change_entry(tmp_path, EntryChange("AAPL", since={"1m": DAY}))


def test_changes_at_once_are_all_made(tmp_path):
    symbols = [f"S{number}" for number in range(20)]
    threads = [
        threading.Thread(
            target=change_entry, args=(tmp_path, EntryChange(symbol, since={"1m": DAY}))
        )
        for symbol in symbols
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = (tmp_path / "instruments.toml").read_text()
    assert read_instruments(text).keys() == set(symbols)


class Editor:
    """Somebody who saves the file whenever it is about to be replaced."""

    def __init__(self, path, times):
        self.path, self.times, self.saved = path, times, 0

    def __call__(self, content, change):
        if self.saved < self.times:
            self.saved += 1
            self.path.write_text(f"# version {self.saved}\n")
        return with_change(content, change)


def test_what_an_editor_saves_meanwhile_is_not_lost(tmp_path):
    path = tmp_path / "instruments.toml"
    path.write_text("")
    editor = Editor(path, 2)
    assert change_entry(tmp_path, EntryChange("AAPL", since={"1m": DAY}), editor)
    assert path.read_text() == "# version 2\n\n[AAPL]\nsince = {1m = 2020-01-01}\n"


def test_a_file_that_changes_all_the_time_is_left_alone(tmp_path):
    path = tmp_path / "instruments.toml"
    path.write_text("")
    with pytest.raises(StoreUnwritable, match="by somebody else"):
        change_entry(tmp_path, EntryChange("AAPL", since={"1m": DAY}), Editor(path, 99))
    assert path.read_text() == "# version 5\n"
    assert [one.name for one in tmp_path.iterdir()] == ["instruments.toml"]
