"""What ktrdr wrote into a file of others is taken out again, and gives back the file as it was."""

import contextlib
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.ledger.file import LEDGER
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.sqlite_file import StateFile
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.release import own_rows, release
from ktrdr.store.source import ledger_path
from ktrdr.store.written_rows import WrittenRows
from tests.fake_connection import line, utc
from tests.store.children import in_a_child
from tests.store.test_store_sequences import KILLED, die_at

HEADER = "timestamp,open,high,low,close,volume\n"
AAPL = Series("AAPL", Timeframe.M1)
FIRST = utc("2026-11-20 14:30")
LONG_AGO_NS = 10**18
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def bar(slot, price=228.06):
    return Bar(FIRST + 60 * slot, price, price, price, price, 7)


def theirs(slot):
    return line(bar(slot, 100.5))


OPENED = []
"""Stores and ledgers that a test has opened."""


@pytest.fixture(autouse=True)
def _all_closed():
    yield
    while OPENED:
        OPENED.pop().close()


class Shared:
    """A store with a file that others began."""

    def __init__(self, folder, text):
        self.store = CsvStore(folder, indexed=True)
        OPENED.append(self.store)
        self.path = self.store.path(AAPL)
        self.write(text)

    def write(self, text):
        """As the owner of the file, some time ago."""
        self.path.write_bytes(text.encode())
        self.rest()

    def append(self, text):
        with self.path.open("ab") as file:
            file.write(text.encode())
        self.rest()

    def rest(self):
        """Nobody has written to it for a while."""
        os.utime(self.path, ns=(LONG_AGO_NS, LONG_AGO_NS))

    def add(self, *slots):
        return self.store.add(AAPL, [bar(slot) for slot in slots], is_foreign=True)

    def release(self):
        return release(self.store, AAPL, "20261130T120000Z")

    @property
    def text(self):
        return self.path.read_bytes().decode()

    @property
    def ranges(self):
        """The slots of the first and the last row, and how many rows, of each range of ours."""
        with BarFile(self.path, Timeframe.M1) as file:
            own = own_rows(file, self.record)
        return [((o.first - FIRST) // 60, (o.last - FIRST) // 60, o.rows) for o in own.ranges]

    @property
    def record(self):
        state = StateFile(ledger_path(self.store.folder), LEDGER)
        OPENED.append(state)
        return WrittenRows(AAPL, state.database)


@pytest.fixture
def shared(tmp_path):
    with contextlib.ExitStack() as closing:

        def shared(text):
            found = Shared(tmp_path, text)
            closing.callback(found.store.close)
            return found

        yield shared


WHOLE = HEADER + theirs(10) + theirs(11)
OTHER_COLUMNS = (
    "note,timestamp,open,high,low,close,volume\r\n"
    "mine,2026-11-20T14:40:00Z,1,2,0.5,1,3\r\n"
    "mine,2026-11-20T14:41:00Z,1,2,0.5,1,3"
)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE.removesuffix("\n"),
        WHOLE.replace("\n", "\r\n"),
        WHOLE.replace("\n", "\r\n").removesuffix("\r\n"),
        WHOLE.replace("\n", "\r\n").removesuffix("\n"),
        WHOLE + "2026-11-20 14:4",
        OTHER_COLUMNS,
        "\ufeff" + WHOLE,
        HEADER.removesuffix("\n"),
    ],
    ids=[
        "whole",
        "no line end",
        "CRLF",
        "CRLF, no line end",
        "CR",
        "half a row",
        "form",
        "BOM",
        "header",
    ],
)
@pytest.mark.parametrize(
    "slots", [[(12, 13)], [(1,), (2, 3), (20,)], [(14,), (13,), (9,)]], ids=str
)
def test_the_file_is_as_it_was_to_the_last_byte(shared, text, slots):
    file = shared(text)
    for some in slots:
        assert file.add(*some) == len(some)
        file.rest()
    with_ours = file.text
    released = file.release()
    assert file.text == text
    assert released.is_as_before
    assert released.taken.rows == sum(map(len, slots))
    assert released.kept.read_bytes().decode() == with_ours
    assert file.release() is None


def test_ranges_are_rows_that_follow_each_other(shared):
    file = shared(WHOLE)
    file.add(1, 2, 5)
    file.add(12, 13)
    file.add(3)
    assert file.ranges == [(1, 5, 4), (12, 13, 2)]


def test_rows_that_others_added_since_are_kept(shared):
    file = shared(WHOLE)
    file.add(12)
    file.append(theirs(13))
    file.add(14)
    released = file.release()
    assert file.text == WHOLE + theirs(13)
    assert not released.is_as_before
    assert released.taken.rows == 2


def test_the_line_end_stays_that_a_row_of_others_needs(shared):
    file = shared(WHOLE.removesuffix("\n"))
    file.add(12)
    file.append(theirs(13))
    assert not file.release().is_as_before
    assert file.text == WHOLE + theirs(13)


def test_rows_that_others_changed_since_stay_and_are_named(shared):
    file = shared(WHOLE)
    file.add(12, 13, 14)
    changed = line(bar(13)).replace("228.06", "228.07", 1)
    file.write(file.text.replace(line(bar(13)), changed))
    released = file.release()
    assert file.text == WHOLE + changed
    assert released.taken.edited == [bar(13).start]
    assert released.taken.rows == 2
    assert not released.is_as_before


def test_a_row_that_others_wrote_anew_in_another_spelling_stays(shared):
    file = shared(WHOLE)
    file.add(12)
    file.write(file.text.replace("\n", "\r\n"))
    assert file.release().taken.edited == [bar(12).start]
    assert file.text == (WHOLE + line(bar(12))).replace("\n", "\r\n")


def test_a_file_from_a_backup_of_before_is_as_it_was(shared):
    file = shared(WHOLE)
    file.add(12)
    file.write(WHOLE)
    released = file.release()
    assert (file.text, released.is_as_before, released.kept) == (WHOLE, True, None)


def test_a_file_from_a_backup_with_ours_is_released_all_the_same(shared, tmp_path):
    file = shared(WHOLE)
    file.add(12)
    shutil.copy(file.path, tmp_path / "backup")
    file.add(13)
    file.path.unlink()
    shutil.copy(tmp_path / "backup", file.path)
    file.rest()
    assert file.release().is_as_before
    assert file.text == WHOLE


def test_a_file_that_its_owner_replaced_loses_nothing(shared):
    file = shared(WHOLE)
    file.add(12)
    other = HEADER + theirs(11) + theirs(12) + theirs(13)
    file.write(other)
    file.add(14)
    assert not file.release().is_as_before
    assert file.text == other


def test_a_row_that_a_recorder_wrote_too_is_the_recorder_s(shared):
    file = shared(WHOLE)
    with file.path.open("a") as recorder:
        file.rest()
        file.add(1)
        file.add(12)
        recorder.write(line(bar(12)) + theirs(13))
        recorder.flush()
        file.add(2)
        assert file.ranges == [(1, 2, 2)]
        file.release()
    assert file.text == WHOLE + line(bar(12)) + theirs(13)


def test_what_a_recorder_writes_during_and_after_a_release_is_kept(shared):
    file = shared(WHOLE)
    with file.path.open("a") as recorder:
        file.rest()
        file.add(1)
        recorder.write(theirs(12))
        recorder.flush()
        file.release()
        assert file.text == WHOLE + theirs(12)
        recorder.write(theirs(13))
        recorder.flush()
        file.store.scan()
        assert file.text == WHOLE + theirs(12) + theirs(13)


def test_a_row_that_was_removed_and_came_back_otherwise_is_ktrdr_s(shared):
    file = shared(WHOLE)
    file.add(12, 13)
    file.write(file.text.replace(line(bar(12)), ""))
    file.store.add(AAPL, [bar(12, 230.5)], is_foreign=True)
    assert file.ranges == [(12, 13, 2)]
    assert file.release().is_as_before
    assert file.text == WHOLE


def test_a_row_that_comes_just_before_the_first_of_ktrdr_s_belongs_to_the_file(shared, monkeypatch):
    file = shared(WHOLE)
    write = os.write

    def late(descriptor, text):
        """Another program appends in the moment before ktrdr does."""
        if bytes(text) == line(bar(13)).encode():
            monkeypatch.setattr(os, "write", write)
            file.append(theirs(12))
        return write(descriptor, text)

    monkeypatch.setattr(os, "write", late)
    assert file.add(13) == 1
    assert file.release().is_as_before
    assert file.text == WHOLE + theirs(12)


def test_rows_that_were_never_written_are_not_taken_from_others(shared):
    file = shared(WHOLE)
    file.path.chmod(0o444)
    with contextlib.suppress(StoreUnwritable):  # root may write it
        file.add(12)
    file.path.chmod(0o644)
    file.store.remove_unfinished(AAPL)
    file.release()
    assert file.text == WHOLE


def test_a_file_of_bars_that_were_there_already_is_not_recorded(shared):
    file = shared(HEADER + line(bar(10)))
    assert file.add(10) == 0
    assert file.record.before() is None


def test_a_store_without_others_records_nothing(shared):
    file = shared(HEADER)
    file.store.add(AAPL, [bar(1)])
    file.store.add(AAPL, [bar(2)])
    assert file.record.before() is None
    assert file.release() is None


def test_a_broken_file_is_left_as_it_is(shared):
    file = shared(WHOLE)
    file.add(12)
    broken = file.text + "what is this\n" + theirs(13)
    file.write(broken)
    with pytest.raises(MalformedFile):
        file.release()
    assert file.text == broken
    assert file.record.before() is not None


def test_half_a_row_that_is_being_written_is_waited_for(shared):
    file = shared(WHOLE)
    file.add(12)
    with file.path.open("a") as recorder:
        recorder.write("2026-11-20 14:4")
        recorder.flush()
        with pytest.raises(StoreUnwritable, match="is writing its last line"):
            file.release()
        assert file.text == WHOLE + line(bar(12)) + "2026-11-20 14:4"


def test_whenever_it_is_killed_the_file_is_whole_and_a_release_can_be_repeated(shared, tmp_path):
    torn, codes = WHOLE.removesuffix("\n"), set()
    file = shared(torn)
    for call in range(1, 200):
        shutil.rmtree(tmp_path / ".ktrdr" / "replaced", ignore_errors=True)
        file.write(torn)
        file.add(2, 12)
        with_ours = file.text
        file.store.close()
        codes.add(in_a_child(partial(killed_in_release, file.store.folder, call)))
        assert file.text in (with_ours, torn)
        file.rest()
        again = file.release()
        assert again is None or again.is_as_before
        assert file.text == torn
        if 0 in codes:
            break
    assert codes == {0, KILLED}


def killed_in_release(folder, call):
    die_at(call, 0.5)
    release(CsvStore(folder, indexed=True), AAPL, "x")


def test_a_link_stays_a_link(shared, tmp_path):
    file = shared(WHOLE)
    target = tmp_path / "elsewhere" / "prices.txt"
    target.parent.mkdir()
    file.path.rename(target)
    file.path.symlink_to(target)
    file.add(12)
    assert file.release().is_as_before
    assert file.path.is_symlink()
    assert target.read_bytes().decode() == WHOLE


def test_it_survives_the_index_and_not_the_ledger(shared):
    file = shared(WHOLE)
    file.add(12)
    file.store.close()
    state = StateFile(ledger_path(file.store.folder), LEDGER)
    OPENED.append(state)
    with state.database() as database:
        database.execute("DELETE FROM file_index")
    assert file.ranges == [(12, 12, 1)]
    state.close()
    shutil.rmtree(file.store.folder / ".ktrdr")
    file.store.scan()
    assert file.release() is None


def test_a_ledger_that_is_put_aside_gives_it_to_the_next_one(shared):
    file = shared(WHOLE)
    file.add(12)
    file.store.close()
    state = StateFile(ledger_path(file.store.folder), LEDGER)
    OPENED.append(state)
    state.database().execute("PRAGMA user_version = 99")
    state.close()
    assert file.ranges == [(12, 12, 1)]
    state.close()
    assert file.release().is_as_before
    assert file.text == WHOLE


def test_daily_bars_and_those_of_odd_hours_are_told_apart(tmp_path):
    for timeframe, starts in (
        (Timeframe.D1, ["2020-01-02 00:00", "2026-11-20 00:00"]),
        (Timeframe.H1, ["2026-11-20 14:00", "2026-11-20 14:30"]),
    ):
        series = Series("AAPL", timeframe)
        bars = [bar(0)._replace(start=utc(start)) for start in starts]
        text = HEADER + line(bars[0]._replace(start=bars[0].start - 86400 * 7))
        with contextlib.closing(CsvStore(tmp_path, indexed=True)) as store:
            store.path(series).write_text(text)
            store.add(series, bars, is_foreign=True)
            with BarFile(store.path(series), timeframe) as file:
                state = StateFile(ledger_path(tmp_path), LEDGER)
                OPENED.append(state)
                own = own_rows(file, WrittenRows(series, state.database))
            assert [(one.first, one.last) for one in own.ranges] == [(bars[0].start, bars[1].start)]
            assert release(store, series, "x").is_as_before


SLOTS = st.integers(0, 40)


class OwnerAndKtrdr(RuleBasedStateMachine):
    """The model is what the owner has written, as lines in order, and how the last one ends."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ktrdr-", dir=IN_MEMORY))
        self.file = Shared(self.folder, HEADER)
        self.owned = {}
        self.end = "\n"
        self.last = 0

    def teardown(self):
        self.file.store.close()
        shutil.rmtree(self.folder)

    def their_text(self):
        text = HEADER + "".join(self.owned[slot] for slot in sorted(self.owned))
        return text if self.end else text.removesuffix("\n")

    def slots(self):
        lines = self.file.text.splitlines()[1:]
        return {(utc(text[:16]) - FIRST) // 60 for text in lines}

    @initialize(slots=st.sets(SLOTS, min_size=1), end=st.sampled_from(["\n", ""]))
    def begin(self, slots, end):
        self.owned, self.end = {slot: theirs(slot) for slot in slots}, end
        if end or len(slots) == 1:  # a header and half a row have no row
            self.end = "\n"
        self.file.write(self.their_text())

    @rule(slots=st.sets(SLOTS, min_size=1, max_size=8))
    def ktrdr_adds(self, slots):
        self.file.add(*sorted(slots))
        self.file.rest()

    @rule(
        slots=st.sets(SLOTS, min_size=1, max_size=8),
        call=st.integers(1, 40),
        share=st.floats(0, 1),
    )
    def ktrdr_is_killed_while_it_adds(self, slots, call, share):
        self.file.store.close()
        in_a_child(lambda: self.killed(slots, call, share))
        self.file.store.clear_leftovers()
        self.file.rest()

    def killed(self, slots, call, share):
        bars = [bar(slot) for slot in slots]
        die_at(call, share)
        CsvStore(self.folder, indexed=True).add(AAPL, bars, is_foreign=True)

    @rule(ahead=st.integers(1, 3))
    def the_owner_appends(self, ahead):
        slot = max(self.slots()) + ahead
        if not self.end and not self.file.text.endswith("\n"):
            self.file.append("\n")
        self.end = "\n"
        self.owned[slot] = theirs(slot)
        self.file.append(theirs(slot))

    @rule(data=st.data())
    def the_owner_changes_a_row_of_ktrdr(self, data):
        ours = sorted(self.slots() - self.owned.keys())
        if not ours:
            return
        slot = data.draw(st.sampled_from(ours))
        changed = line(bar(slot, 99.25))
        before = self.file.text
        self.owned[slot] = changed
        is_last = slot == max(self.slots())
        if not self.end and is_last:
            self.end = "\n"
        self.file.write(before.replace(line(bar(slot)), changed))

    @rule()
    def ktrdr_starts_anew(self):
        self.file.store.close()

    @precondition(lambda self: self.owned)
    @rule()
    def the_file_is_released(self):
        self.file.release()
        self.file.rest()
        got, wanted = self.file.text, self.their_text()
        if not self.end and got != wanted:  # others have come since: its line end is needed
            assert got.removesuffix("\n") == wanted
            self.end = "\n"
        else:
            assert got == wanted


def test_whatever_is_done_before_the_owner_gets_back_what_the_owner_wrote():
    run_state_machine_as_test(
        OwnerAndKtrdr,
        settings=settings(
            max_examples=60,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
