from datetime import UTC, datetime, timedelta

from ktrdr.errors import NotEntitled, UnknownContract
from ktrdr.ib.refused_contracts import RefusedContracts

NOW = datetime(2026, 11, 18, 15, tzinfo=UTC)
UNKNOWN = UnknownContract("no security definition", code=200)


def symbols(refused: RefusedContracts, now: datetime = NOW) -> list[str]:
    return [one.symbol for one in refused.lately(now)]


def test_it_tells_since_when_and_what_was_said_last():
    refused = RefusedContracts()
    refused.note("KO", UNKNOWN, NOW)
    refused.note("KO", NotEntitled("no permissions", code=354), NOW + timedelta(hours=6))
    (received,) = refused.lately(NOW + timedelta(hours=6))
    assert (received.since, received.code, received.outcome) == (NOW, 354, NotEntitled.outcome)


def test_what_is_answered_is_refused_no_more():
    refused = RefusedContracts()
    refused.note("KO", UNKNOWN, NOW)
    refused.note("PEP", UNKNOWN, NOW)
    refused.note_answer("KO", has_bars=False)
    assert symbols(refused) == ["PEP"]


def test_what_the_account_may_not_have_is_refused_until_bars_come():
    refused = RefusedContracts()
    refused.note("KO", NotEntitled("no permissions", code=354), NOW)
    refused.note_answer("KO", has_bars=False)  # its details, or its sessions
    assert symbols(refused) == ["KO"]
    refused.note_answer("KO", has_bars=True)
    assert symbols(refused) == []


def test_what_nobody_keeps_is_withdrawn():
    refused = RefusedContracts()
    refused.note("KO", NotEntitled("no permissions", code=354), NOW)
    refused.withdraw("KO")
    assert symbols(refused) == []


def test_what_nobody_asks_for_any_more_is_told_no_more():
    refused = RefusedContracts()
    refused.note("KO", UNKNOWN, NOW)
    refused.note("PEP", UNKNOWN, NOW + timedelta(hours=1))
    assert symbols(refused, NOW + timedelta(hours=7, minutes=30)) == ["PEP"]


def test_of_many_the_last_two_hundred_are_kept():
    refused = RefusedContracts()
    for number in range(250):
        refused.note(f"S{number}", UNKNOWN, NOW)
    assert symbols(refused) == [f"S{number}" for number in range(50, 250)]
