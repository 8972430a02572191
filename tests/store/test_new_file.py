"""New files of series: whole at once, and never over one that is there."""

import pytest

from ktrdr.errors import MalformedFile
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.new_file import write_new_series

SERIES = parse_series("AAPL_1m.csv")
OTHER = b"of somebody else"


@pytest.fixture
def store(tmp_path):
    return CsvStore(tmp_path)


def names(folder):
    return {path.name for path in folder.iterdir()} - {".ktrdr"}


def test_the_file_has_its_name_only_when_it_is_whole(store):
    def pieces():
        yield b"begin"
        assert "AAPL_1m.csv" not in names(store.folder)
        yield b" and end"

    write_new_series(store, SERIES, pieces())
    assert store.path(SERIES).read_bytes() == b"begin and end"
    assert names(store.folder) == {"AAPL_1m.csv"}


def test_a_file_that_came_meanwhile_stays(store):
    def pieces():
        yield b"ours"
        store.path(SERIES).write_bytes(OTHER)

    with pytest.raises(MalformedFile, match="is there already"):
        write_new_series(store, SERIES, pieces())
    assert store.path(SERIES).read_bytes() == OTHER
    assert names(store.folder) == {"AAPL_1m.csv"}


@pytest.mark.parametrize("make", ["symlink_to", "mkdir"])
def test_nothing_is_written_through_what_has_the_name(store, tmp_path, make):
    path = store.path(SERIES)
    path.mkdir() if make == "mkdir" else path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MalformedFile, match="is there already"):
        write_new_series(store, SERIES, [b"ours"])
    assert names(store.folder) == {"AAPL_1m.csv"}


def test_an_error_on_the_way_leaves_nothing(store):
    def pieces():
        yield b"begin"
        raise MalformedFile("it is not understood", hint="look at it")

    with pytest.raises(MalformedFile, match="not understood"):
        write_new_series(store, SERIES, pieces())
    assert names(store.folder) == set()
