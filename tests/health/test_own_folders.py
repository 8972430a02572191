"""The programs' own folders, on a disk of their own that is full."""

import contextlib

import pytest

from ktrdr.health.own_folders import full_folders
from tests.store.test_probe import mounted, needs_root


@pytest.fixture
def folders(tmp_path):
    for name in ("store", "run", "log"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_where_there_is_room_or_no_folder_none_is_full(folders):
    assert full_folders([folders / "run", folders / "none"], folders / "store") == ()


@needs_root
@pytest.mark.parametrize("options", ["size=256k", "size=1m,nr_inodes=20"])
def test_a_full_disk_is_named_once_and_never_that_of_the_store(folders, options):
    with mounted(folders / "run", options):
        (folders / "run/log").mkdir()
        with contextlib.suppress(OSError):
            for number in range(100):
                (folders / f"run/{number}").write_bytes(bytes(16_384))
        full = folders / "run"
        assert full_folders([full, full / "log", folders / "log"], folders / "store") == (full,)
        assert full_folders([full / "log"], full) == ()
