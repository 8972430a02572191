"""Texts for people: why bars are missing or not expected. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ktrdr.ipc.messages import ComparisonStatus

_WORDS = {
    "present": "there",
    "open": "to be fetched",
    "asked": "requested",
    "late": "not there yet, requested again later",
    "unproven": "missing from IB’s answer, not confirmed yet; requested again later",
    "no_trades": "without trades, verified",
    "too_old": "too old to be fetched unless requested",
    "failed": "failed, tried again later",
    "not_entitled": "not in the account’s market data",
    "unknown_contract": "of a contract unknown to IB",
    "other_contract": "not requested: the symbol is another contract now",
    "incomplete_row": "not requested: a row of the file lacks a value",
    "not_understood": "not requested: the rows of the file are not understood",
    "broken_file": "not requested: the file or its entry is broken",
    "not_due": "not due yet",
}
_DAYS = {
    "open": "a trading day",
    "closed": "the market was closed",
    "before_listing": "before IB’s first bar of this contract",
    "expired": "after the contract’s last trading day",
    "not_looked_at": "not requested from IB yet",
}
_SESSIONS = {
    "hours": "IB gives no past sessions: those of the coming week are used for every week",
    "rules": "IB gives no sessions: the usual ones of this kind of contract are used",
}


def because(reason: str) -> str:
    """The reason in words, to follow a number of bars; an unknown reason as it is."""
    return _WORDS.get(reason, reason.replace("_", " "))


def counts_by_reason(missing: Mapping[str, int]) -> list[str]:
    """How many bars or gaps there are for each reason, in words."""
    return [f"{count} {because(reason)}" for reason, count in missing.items()]


def noun(number: float, singular: str) -> str:
    """The noun as it follows a number: `gap` after 1, else `gaps`."""
    return singular if number == 1 else f"{singular}s"


def sentence(text: str) -> str:
    """With a full stop, and a capital unless it begins with a program's name."""
    is_name = "-" in text.partition(" ")[0]
    return f"{text if is_name else text[:1].upper() + text[1:]}".removesuffix(".") + "."


def day_of(state: str) -> str:
    """The state of a day in words; an unknown one as it is."""
    return _DAYS.get(state, state.replace("_", " "))


def remarks(
    now: datetime,
    looked_from: datetime | None,
    listed: datetime | None,
    expires: datetime | None,
    sessions_from: str | None,
    comparison: ComparisonStatus | None = None,
) -> list[str]:
    """Why a series has no earlier, later or more exact expectation, where that is not obvious.

    And how its bars compare with IB's, if others have written some of them.
    """
    found = []
    if listed is not None and looked_from is not None and listed > looked_from:
        found.append(f"listed on {listed:%Y-%m-%d}, nothing is expected before")
    if expires is not None and expires.date() < now.date():
        found.append(f"expired on {expires:%Y-%m-%d}, nothing is expected after")
    if sessions_from in _SESSIONS:
        found.append(f"{_SESSIONS[sessions_from]}, and holidays are not known")
    if comparison is not None and (comparison.total or comparison.differ):
        found.append(_compared(comparison))
    return found


def _compared(one: ComparisonStatus) -> str:
    if not one.total or not one.compared:
        known = [_none_compared(one)] if one.total else []
        return "; ".join([*known, *([differing(one.differ)] if one.differ else [])])
    found = f"compared with IB’s bars: {one.compared:,} of {one.total:,}, {one.differ:,} differ"
    return f"{found}, and IB has none of {one.absent:,}" if one.absent else found


def _none_compared(one: ComparisonStatus) -> str:
    if one.absent:
        return f"not compared with IB’s bars: IB has none of {one.absent:,} of {one.total:,}"
    return f"not compared with IB’s bars yet: {one.total:,} imported {noun(one.total, 'bar')}"


def differing(bars: int) -> str:
    """That so many bars of rows of others are not as IB has them."""
    return f"{bars:,} {noun(bars, 'bar')} {'differs' if bars == 1 else 'differ'} from IB’s"
