"""Whether a symbol still means what it meant; prices are in dollars."""

import random

import pytest

from ktrdr.completeness.identity import (
    Identity,
    KnownContract,
    Likeness,
    is_another,
    likeness,
    settled,
)
from ktrdr.market.bars import Bar

KO = Identity(1, "NYSE", "USD", "KO", "COCA-COLA CO")
SPLIT = KO._replace(con_id=2)


def bars(closes, first=0):
    return [Bar(first + 60 * n, c, c, c, c, 100) for n, c in enumerate(closes)]


def walk(start, count=300, seed=1):
    """Closes of a stock, in whole cents."""
    chance, price, closes = random.Random(seed), start, []
    for _ in range(count):
        price *= 1 + chance.gauss(0, 0.0004)
        closes.append(round(price, 2))
    return closes


def received(closes):
    return {bar.start: bar for bar in bars(closes)}


def test_another_id_or_currency_is_another_contract_and_another_exchange_is_none():
    assert is_another(KO, SPLIT)
    assert is_another(KO, KO._replace(currency="EUR"))
    assert not is_another(KO, KO._replace(exchange="NASDAQ", name="THE COCA-COLA CO"))


def test_what_was_never_known_is_what_is_reported():
    assert settled(None, KO, has_bars=True) == KnownContract(KO)


def test_another_contract_is_a_question_where_bars_are_stored():
    assert settled(KnownContract(KO), SPLIT, has_bars=True) == KnownContract(KO, SPLIT)
    assert settled(KnownContract(KO), SPLIT, has_bars=False) == KnownContract(SPLIT)


def test_it_is_confirmed_when_the_old_one_is_received_again():
    assert settled(KnownContract(KO, SPLIT), KO, has_bars=True) == KnownContract(KO)


def test_a_move_to_another_exchange_is_remembered():
    moved = KO._replace(exchange="NASDAQ")
    assert settled(KnownContract(KO), moved, has_bars=True) == KnownContract(moved)


def test_the_same_bars_are_the_same():
    closes = walk(54.88)
    assert likeness(bars(closes), received(closes)) is Likeness.SAME


def test_a_few_that_were_revised_do_not_matter():
    closes = walk(54.88)
    now = [c * 1.1 if n % 20 == 0 else c for n, c in enumerate(closes)]
    assert likeness(bars(closes), received(now)) is Likeness.SAME


@pytest.mark.parametrize("ratio", [0.25, 4.0, 2 / 3, 0.1, 10.0, 100.0])
def test_bars_after_a_split_are_in_its_ratio(ratio):
    closes = walk(54.88)
    now = [round(c * ratio, 2) for c in closes]
    assert likeness(bars(closes), received(now)) is Likeness.RATIO


@pytest.mark.parametrize("other", [18.45, 54.0, 110.0, 2.0])
def test_bars_of_another_company_are_others(other):
    assert likeness(bars(walk(54.88)), received(walk(other, seed=2))) is Likeness.OTHER


def test_a_contract_without_bars_at_those_times_is_another():
    closes = walk(54.88)
    assert likeness(bars(closes), {}) is Likeness.OTHER
    assert likeness(bars(closes), received([18.45, 18.46])) is Likeness.OTHER


def test_a_single_bar_that_matches_is_the_same():
    assert likeness(bars([54.88]), received([54.88])) is Likeness.SAME


def test_prices_of_too_few_ticks_cannot_be_distinguished():
    closes = walk(54.88)
    assert likeness(bars(closes), received([round(c / 100, 2) for c in closes])) is Likeness.OTHER
    assert likeness(bars(closes), received([round(c / 100, 4) for c in closes])) is Likeness.RATIO


def test_few_bars_in_one_ratio_are_a_split_only_if_that_is_a_simple_one():
    closes = walk(54.88, count=9)
    for ratio, is_split in ((0.25, True), (10, True), (0.974, False), (1.03, False), (0.7, False)):
        now = received([round(c * ratio, 4) for c in closes])
        assert likeness(bars(closes), now) is (Likeness.RATIO if is_split else Likeness.OTHER)


def test_two_flat_stocks_are_distinguished_in_enough_bars():
    flat, other = walk(62.8, seed=3), walk(61.2, seed=4)
    assert likeness(bars(flat), received(other)) is Likeness.OTHER
