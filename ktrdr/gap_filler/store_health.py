"""Store health: whether a store can be written to now, and if not, why. Writes no bars."""

from __future__ import annotations

import logging

from ktrdr.errors import KtrdrError, StoreGone
from ktrdr.gap_filler.ownership import Ownership
from ktrdr.ipc.messages import StoreTrouble
from ktrdr.sqlite_file import DatabaseError
from ktrdr.store.interface import BarStore
from ktrdr.store.probe import Room, StoreProbe, explained

log = logging.getLogger("gap-filler")


class StoreHealth:
    """The health of one store. For the stepping thread, but for `check_owner`."""

    def __init__(self, store: BarStore, *, is_live_folder: bool) -> None:
        """`is_live_folder`: as that of `Ownership`."""
        self.ownership = Ownership(store, is_live_folder)
        self._store = store
        self._folder = store.folder
        self._probe = StoreProbe(store.folder)
        self.trouble: StoreTrouble | None = None
        """The current problem; None: none is known."""

    @property
    def room(self) -> Room | None:
        """How much room the disk had when last checked."""
        return self._probe.seen_room

    @property
    def may_refuse(self) -> bool:
        """The store has refused a write lately, or may refuse the next one."""
        return self._probe.may_refuse or self.trouble is not None

    def check_owner(self, source: str) -> None:
        """StoreGone, WrongSource: nothing of this gateway may be written there. For any thread.

        What is made while the store's disk is not mounted would be in its place.
        """
        self._probe.check_present()
        self.ownership.check(source)

    def claim(self, source: str) -> None:
        """Make the store one of this source, and know its folder again. WrongSource as the store's.

        StoreUnwritable: as `check_folder`.
        """
        self._store.claim(source)
        self._probe.check_folder()

    def check_folder(self) -> None:
        """StoreUnwritable: its folder is missing, or is not the same as before."""
        self._probe.check_folder()

    def check(self) -> None:
        """StoreUnwritable: nothing can be written there now."""
        self._probe.check()

    def refused(self, error: KtrdrError | OSError | DatabaseError) -> None:
        """Note that the store has refused a write."""
        self._probe.refused(error)

    def fails(self, error: KtrdrError | OSError | DatabaseError) -> KtrdrError:
        """Note that nothing can be stored because of this; returns the error for a person."""
        self._probe.refused(error)
        known = explained(error, self._folder)
        is_gone = isinstance(known, StoreGone)
        self.trouble = StoreTrouble(known.message, known.hint, is_gone=is_gone)
        return known

    def mistaken(self, error: KtrdrError) -> None:
        """Note that nothing is stored because of a bug in ktrdr."""
        self.trouble = StoreTrouble(error.message, error.hint)

    def is_well(self) -> None:
        """Note that the store has accepted all writes."""
        if self.trouble is not None:
            self.trouble = None
            log.info("the store can be written to again")
