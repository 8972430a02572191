"""Requests for fills by people: recorded before they are acknowledged, and changed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ktrdr.completeness.fill import Fill, State, first_day
from ktrdr.errors import InvalidRequest, StoreUnwritable, UnknownFill
from ktrdr.gap_filler.fills import FillContext, Fills
from ktrdr.ipc.messages import FillAccepted, FillList, FillsCancelled, FillStatus
from ktrdr.ipc.query import timeframe_from_query
from ktrdr.market.instruments import Series, check_symbol
from ktrdr.market.sessions import utc_midnight
from ktrdr.store.instruments_file import INSTRUMENTS
from ktrdr.store.interface import BarStore
from ktrdr.times import iso, moment

_LIST_HINT = ".venv/bin/ktrdr fills lists all of them"


@dataclass(frozen=True)
class FillRequests:
    """The fill requests to one gap filler. For any thread."""

    fills: Fills
    store: BarStore
    check_owner: Callable[[], None]
    """WrongSource: the store belongs to the other source."""
    snapshot_now: Callable[[], FillContext]
    """What was last published, as of now."""
    note_changed_files: Callable[[Iterable[str]], None]
    request_scan: Callable[[], str]

    def request(self, series: Series, since: int, text: str = "") -> FillAccepted:
        """Fill one series from this day on, however old.

        `since`: UTC seconds; `text`: how that was written. InvalidRequest: the file does not exist,
        or the day is not valid. WrongSource, StoreUnwritable: the fill was not recorded.
        """
        now = self.snapshot_now().now
        day = first_day(text or str(iso(since)), since, now)
        self._refuse_unknown(series)
        try:
            others = [fill for fill in self.fills.listed() if fill.series == series]
            fill = self.fills.request(series, day, now)
        except StoreUnwritable:
            self.note_changed_files([INSTRUMENTS])  # so that a scan checks the ledger
            raise
        snapshot = self.snapshot_now()
        already = [
            self.fills.status(one, snapshot)
            for one in others
            if one.state is not State.CANCELLED and one.id != fill.id
        ]
        self.note_changed_files([series.file_name])
        status = vars(self.fills.status(fill, snapshot))
        since_setting = moment(_since(snapshot, series))
        return FillAccepted(
            **status, scan_id=self.request_scan(), already=already, setting_since=since_setting
        )

    def cancel(self, query: Mapping[str, str]) -> FillsCancelled:
        """Cancel the fill with this `id`, or the open ones of `symbol` and `timeframe`.

        Bars already fetched stay, and what other fills or `since` cover is still requested.
        UnknownFill: there is no such fill.
        """
        self.check_owner()
        listed = self.fills.listed()
        if "id" in query:
            chosen = [fill for fill in listed if str(fill.id) == query["id"]]
            what = f"fill {query['id']}"
        else:
            series = series_from_query(query)
            chosen = [f for f in listed if f.series == series and f.state.is_open]
            what = f"open fill of {series}"
        if not chosen:
            raise UnknownFill(f"there is no {what}", hint=_LIST_HINT)
        cancelled = self.fills.cancel({fill.id for fill in chosen}, self.snapshot_now().now)
        self.note_changed_files({fill.series.file_name for fill in cancelled})
        snapshot = self.snapshot_now()
        return FillsCancelled([self.fills.status(fill, snapshot) for fill in cancelled])

    def pause(self, query: Mapping[str, str]) -> FillStatus:
        """Request nothing more for the fill with this `id`, until it is resumed.

        What other fills, `since` and the last days cover is still requested. UnknownFill: there is
        no such fill. InvalidRequest: it is done or cancelled.
        """
        return self._changed(query, lambda id_: self.fills.pause(id_, self.snapshot_now()))

    def resume(self, query: Mapping[str, str]) -> FillStatus:
        """Go on with the paused fill with this `id`. Errors as `pause`."""
        return self._changed(query, self.fills.resume)

    def _changed(
        self, query: Mapping[str, str], change: Callable[[int], Fill | None]
    ) -> FillStatus:
        """The fill with this `id` after a change."""
        self.check_owner()
        text = query.get("id", "")
        is_number = text.isascii() and text.isdecimal() and len(text) < 16
        fill = change(int(text)) if is_number else None
        if fill is None:
            raise UnknownFill(f"there is no fill {text}", hint=_LIST_HINT)
        if not fill.state.is_open:
            raise InvalidRequest(
                f"fill {fill.id} is {fill.state.value}: it cannot be paused or resumed",
                hint="request it again" if fill.state is State.CANCELLED else "",
            )
        self.note_changed_files([fill.series.file_name])
        return self.fills.status(fill, self.snapshot_now())

    def listed(self, symbol: str | None) -> FillList:
        """All recorded fills, or those of one symbol, oldest first."""
        listed, snapshot = self.fills.listed(), self.snapshot_now()
        chosen = [fill for fill in listed if symbol in (None, fill.series.symbol)]
        return FillList([self.fills.status(fill, snapshot) for fill in chosen])

    def _refuse_unknown(self, series: Series) -> None:
        """Raise if the file does not exist, or the store belongs to the other source."""
        self.check_owner()
        if not is_there(self.store, series):
            names = {
                one.symbol for one in self.snapshot_now().series if one.symbol != series.symbol
            }
            alike = sorted(name for name in names if name.upper() == series.symbol.upper())
            meant = f"did you mean {' or '.join(alike)}? Else " if alike else ""
            words = f"{shlex.quote(series.symbol)} {series.timeframe.value}"
            raise InvalidRequest(
                f"{series.file_name} is not in the store",
                hint=f"{meant}keep it: .venv/bin/ktrdr watch add {words}",
            )


def is_there(store: BarStore, series: Series) -> bool:
    """The store has a file of the series, known to the last scan or not."""
    try:
        return store.key(series) is not None
    except OSError:  # a scan reports what is wrong with it
        return True


def series_from_query(query: Mapping[str, str]) -> Series:
    """The series of a query. InvalidRequest: not a symbol, or not a timeframe."""
    symbol, timeframe = query.get("symbol", ""), timeframe_from_query(query)
    try:
        return Series(check_symbol(symbol), timeframe)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _since(snapshot: FillContext, series: Series) -> int | None:
    """The day from which `instruments.toml` wants the series (UTC seconds)."""
    one = snapshot.series.get(series)
    since = one.instrument.since_for(series.timeframe) if one else None
    return utc_midnight(since) if since else None
