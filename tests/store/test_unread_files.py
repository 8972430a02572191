"""Files in a store that are not read: one line for each kind, and what to do with them."""

import os
import time

import pytest

from ktrdr.market.file_names import Kind
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.interface import Scan
from ktrdr.store.subfolders import Subfolders

LONG_AGO = 10**18


@pytest.fixture
def put(tmp_path):
    """Makes empty files, with their folders."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


@pytest.fixture
def unread(tmp_path):
    """What is not read, by kind."""
    finder = Subfolders(tmp_path)
    return lambda: {one.kind: one for one in finder.unread(CsvStore(tmp_path).scan())}


SINGLE = {
    "AAPL-1d.csv": (
        "a file is not read: 'AAPL-1d.csv' is no series: expected SYMBOL_TIMEFRAME.csv",
        "rename 'AAPL-1d.csv' to AAPL_1d.csv; or move it away",
    ),
    "prices.csv": (
        "a file is not read: 'prices.csv' is no series: expected SYMBOL_TIMEFRAME.csv",
        "give 'prices.csv' the name of a series, such as AAPL_1m.csv; or move it away",
    ),
    "AAPL_2m.csv": (
        (
            "a file is not read: 'AAPL_2m.csv' is no series: timeframe '2m': expected one of "
            "1m 5m 15m 30m 1h 4h 1d"
        ),
        "give 'AAPL_2m.csv' the name of a series, such as AAPL_1m.csv; or move it away",
    ),
    "BTC-USD-1d.csv": (
        "a file is not read: 'BTC-USD-1d.csv' is no series: expected SYMBOL_TIMEFRAME.csv",
        (
            "rename 'BTC-USD-1d.csv' to BTC_1d.csv; say in instruments.toml: "
            '[BTC] sec_type = "CRYPTO"; or move it away'
        ),
    ),
    "MSFT_1d.CSV": (
        "a file is not read: 'MSFT_1d.CSV': its name ends in capitals",
        "rename 'MSFT_1d.CSV' to MSFT_1d.csv; or move it away",
    ),
    "IBM_1d.csv.gz": (
        "a file is not read: 'IBM_1d.csv.gz': it is compressed",
        (
            "decompress 'IBM_1d.csv.gz' to IBM_1d.csv; or bring it in with `ktrdr import`, "
            "or move it away"
        ),
    ),
    "KO_1d.txt": (
        "a file is not read: 'KO_1d.txt': its name does not end in .csv",
        (
            "if its columns are separated by commas, rename 'KO_1d.txt' to KO_1d.csv; "
            "or bring it in with `ktrdr import`, or move it away"
        ),
    ),
    "x.parquet": (
        "a file is not read: 'x.parquet': it has another format than CSV",
        (
            "write the bars of 'x.parquet' as CSV to the name of a series, such as AAPL_1m.csv; "
            "or move it away"
        ),
    ),
    "NFLX/1d.csv": (
        "a file is not read: 'NFLX/1d.csv': it is in a subfolder",
        (
            "move 'NFLX/1d.csv' to NFLX_1d.csv; or bring it in with `ktrdr import --recursive`, "
            "or give the subfolder a name that begins with a dot"
        ),
    ),
}


@pytest.mark.parametrize("name", list(SINGLE))
def test_what_is_said_of_a_file(name, put, unread):
    put("KO_1h.csv", name)
    (one,) = unread().values()
    assert (one.count, one.message, one.hint) == (1, *SINGLE[name])


def test_of_many_files_of_a_kind_the_number_an_example_and_the_first_are_told(put, unread):
    put(*(f"S{number:02}-1m.csv" for number in range(15)))
    (one,) = unread().values()
    assert one.message == (
        "15 files are not read: their names are not those of series, such as 'S00-1m.csv'"
    )
    assert one.hint == (
        "rename 'S00-1m.csv' to S00_1m.csv, 'S01-1m.csv' to S01_1m.csv, 'S02-1m.csv' to "
        "S02_1m.csv; give the other 12 the name of a series, such as AAPL_1m.csv; "
        "or move them away"
    )
    assert one.hint_naming(10).count(" to S") == 10
    assert [file.name for file in one.examples] == [f"S{n:02}-1m.csv" for n in range(10)]


def test_a_name_that_another_file_has_is_not_proposed_without_saying_so(put, unread):
    put("AMZN_1d.csv", "AMZN_1d (1).csv", "stocks/AMZN_1d.csv", "AAPL-1d.csv", "AAPL.1d.csv")
    found = unread()
    assert found[Kind.NAME].hint == (
        "rename 'AAPL-1d.csv' to AAPL_1d.csv; of 'AAPL-1d.csv' and 'AAPL.1d.csv' keep one, as "
        "AAPL_1d.csv; AMZN_1d.csv is there already: of it and 'AMZN_1d (1).csv' keep one; "
        "or move them away"
    )
    assert "AMZN_1d.csv is there already" in found[Kind.SUBFOLDER].hint


def test_one_that_is_blocked_has_its_name_all_the_same(put, unread, tmp_path):
    (tmp_path / "AMZN_1d.csv").symlink_to("nowhere")
    put("AMZN-1d.csv")
    assert "AMZN_1d.csv is there already" in unread()[Kind.NAME].hint


def test_names_that_are_not_certain_are_listed_behind_the_others(put, unread):
    put("AAPL.csv", "AAPL-1h.csv", "ES=F_1d.csv", "prices.csv", "quotes.csv", "zz.csv")
    assert unread()[Kind.NAME].hint == (
        "rename 'AAPL-1h.csv' to AAPL_1h.csv; give 'AAPL.csv', 'ES=F_1d.csv', 'prices.csv' and "
        "2 more the name of a series, such as AAPL_1m.csv; or move them away"
    )


def test_our_own_files_and_hidden_ones_are_not_mentioned(put, unread):
    put("instruments.toml", ".AAPL_1m.csv.x.ktrdr-new", "AAPL_1m.csv", ".old/IBM_1m.csv")
    put(".ktrdr/replaced/AAPL_1m.2026.csv", "README.md", "._AAPL_1m.csv", ".hidden-1d.csv")
    assert unread() == {}


# Subfolders.


def test_files_are_counted_to_a_depth_of_three(put, unread):
    put("a/IBM_1m.csv", "a/notes.txt", "a/b/IBM_1h.CSV", "a/b/c/IBM_1d.csv", "a/b/c/d/KO_1d.csv")
    put("a/.hidden/KO_1h.csv", "a/.KO_1m.csv", "@eaDir/KO_1m.csv", "__MACOSX/KO_1m.csv")
    (one,) = unread().values()
    assert (one.kind, one.count, one.is_limited) == (Kind.SUBFOLDER, 3, False)
    assert [file.name for file in one.examples] == [
        "a/IBM_1m.csv",
        "a/b/IBM_1h.CSV",
        "a/b/c/IBM_1d.csv",
    ]


def test_another_store_in_a_subfolder_is_left_out(put, unread):
    put("simulated/AAPL_1m.csv", "simulated/more/AAPL_1m.csv", "simulated/.ktrdr/source")
    assert unread() == {}


def test_links_are_not_followed(put, unread, tmp_path):
    put("a/IBM_1m.csv")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to("a")
    assert unread()[Kind.SUBFOLDER].count == 1


def test_a_folder_with_very_many_files_is_not_read_to_its_end(put, unread):
    put(*(f"a/S{number}_1m.csv" for number in range(5_200)))
    one = unread()[Kind.SUBFOLDER]
    assert (one.count, one.is_limited) == (5_000, True)
    assert one.message.startswith("at least 5,000 files are not read: they are in subfolders")


def test_of_very_many_folders_only_some_are_read(put, unread):
    put(*(f"f{number:03}/IBM_1m.csv" for number in range(70)))
    one = unread()[Kind.SUBFOLDER]
    assert (one.count, one.is_limited) == (64, True)


def test_a_folder_is_listed_again_only_once_it_has_changed(put, unread, tmp_path):
    """A listing is seen to be an old one by a file that came without a new time of the folder."""
    folder = tmp_path / "a"
    put("a/IBM_1m.csv")
    os.utime(folder, ns=(LONG_AGO, LONG_AGO))
    assert unread()[Kind.SUBFOLDER].count == 1
    put("a/IBM_1h.csv")
    os.utime(folder, ns=(LONG_AGO, LONG_AGO))
    assert unread()[Kind.SUBFOLDER].count == 1
    os.utime(folder, ns=(LONG_AGO + 1, LONG_AGO + 1))
    assert unread()[Kind.SUBFOLDER].count == 2


def test_a_folder_that_has_just_changed_is_listed_again(put, unread, tmp_path):
    """A file may come within the same tick of the file system's clock."""
    now = time.time_ns()
    for count, name in enumerate(["a/IBM_1m.csv", "a/IBM_1h.csv"], 1):
        put(name)
        os.utime(tmp_path / "a", ns=(now, now))
        assert unread()[Kind.SUBFOLDER].count == count


def test_a_folder_that_is_gone_or_may_not_be_read_has_no_files(put, tmp_path):
    put("a/IBM_1m.csv")
    finder = Subfolders(tmp_path)
    assert finder.unread(Scan({}, [], [], folders=["gone"])) == ()
    assert finder.unread(Scan({}, [], [], folders=["a"]))[0].count == 1
