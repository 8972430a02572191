"""The owner of a store, live or simulated: whether this gateway's bars may be written to it."""

from __future__ import annotations

from dataclasses import dataclass

from ktrdr.errors import WrongSource
from ktrdr.store.interface import BarStore


@dataclass(frozen=True)
class Ownership:
    """The owner of one store. `is_live_folder`: it is where live bars belong by default."""

    store: BarStore
    is_live_folder: bool

    def is_foreign(self, source: str) -> bool:
        """The store belongs to the other source, and nothing may be written into it."""
        return self.store.source() not in (None, source)

    def check(self, source: str) -> None:
        """WrongSource says why the store may not be written to with this gateway's bars."""
        owner = self.store.source()
        if owner is None and source == "simulated" and self.is_live_folder:
            raise WrongSource(
                f"{self.store.folder} is where live bars belong, and the gateway is simulated",
                hint="unset KTRDR_DATA_DIR, or set it to another folder; then ./scripts/up",
            )
        if owner is not None and owner != source:
            self.store.claim(source)  # raises
