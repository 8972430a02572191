import pytest

from ktrdr.completeness.revisions import Revision, compare
from ktrdr.market.bars import Bar

VOLUMES = [1000, 41_217, 903, 12_050, 77, 2501, 333, 60_001, 8, 1204]
STORED = [
    Bar(60 * i, 100.0 + i, 101.0 + i, 99.0 + i, 100.5 + i, VOLUMES[i % 10] + 7 * i)
    for i in range(20)
]


def received(change=lambda bar: bar, stored=STORED):
    return {bar.start: change(bar) for bar in stored}


def times(price=1.0, volume=1.0):
    """Every bar in another unit, rounded as IB does it."""
    return lambda bar: Bar(
        bar.start, *(round(number * price, 2) for number in bar[1:5]), round(bar.volume * volume)
    )


def volumes(numbers):
    return [Bar(60 * i, 10.0, 10.0, 10.0, 10.0, number) for i, number in enumerate(numbers)]


def test_what_matches_is_no_revision():
    assert compare(STORED, received()) is None
    assert compare(STORED, {}) is None
    assert compare([], received()) is None


def test_a_revised_bar_is_named_as_it_is_now():
    now = received()
    now[60] = STORED[1]._replace(volume=1200)
    drift = compare(STORED, now)
    assert drift.changed == (now[60],)
    assert not drift.is_whole()
    assert drift.unclear_at is None
    assert drift.words == "IB revised 1 of 20 bars"


@pytest.mark.parametrize("factor", [0.25, 2 / 3, 0.1, 10, 0.01, 100])
def test_one_factor_of_all_prices_is_found(factor):
    drift = compare(STORED, received(times(price=factor)))
    assert drift.is_whole()
    assert drift.price == pytest.approx(factor, rel=1e-3)
    assert drift.volume is None
    assert len(drift.changed) == 20


@pytest.mark.parametrize("factor", [100, 0.01, 4, 0.25, 1.5, 1000])
def test_one_factor_of_all_volumes_is_found_though_small_ones_are_rounded(factor):
    drift = compare(STORED, received(times(volume=factor)))
    assert drift.is_whole()
    assert drift.volume == pytest.approx(factor, rel=1e-2)
    assert drift.price is None


@pytest.mark.parametrize("factor", [4, 100])
def test_volumes_that_were_cut_off_and_are_received_in_full_have_one_factor(factor):
    """As after lots of 100 have become shares."""
    whole = [731, 4190, 1288, 25_377, 412, 903, 666, 1999, 10_055, 8731, 840]
    drift = compare(
        volumes([number // factor for number in whole]), received(stored=volumes(whole))
    )
    assert drift.volume == pytest.approx(factor, rel=1e-2)


def test_prices_and_volumes_may_have_a_factor_each():
    drift = compare(STORED, received(times(price=0.25, volume=4)))
    assert (drift.price, drift.volume) == (
        pytest.approx(0.25, rel=1e-3),
        pytest.approx(4, rel=1e-2),
    )


def test_prices_of_few_digits_have_a_factor_too():
    stored = [Bar(60 * i, *[0.0123 + i / 10_000] * 4, 5) for i in range(12)]
    drift = compare(stored, received(times(price=10), stored))
    assert drift.price == pytest.approx(10, rel=0.05)


def test_one_bar_in_ten_may_have_been_revised_as_well():
    now = received(times(volume=100))
    now[0] = now[0]._replace(volume=4711)
    now[60] = now[60]._replace(close=99.9)
    assert compare(STORED, now).volume == pytest.approx(100, rel=1e-2)
    now[120] = now[120]._replace(volume=4711)
    now[180] = now[180]._replace(volume=4711)
    assert not compare(STORED, now).is_whole()


def test_volumes_that_were_revised_each_in_their_way_have_no_factor():
    assert not compare(STORED, received(lambda bar: bar._replace(volume=4711))).is_whole()
    more = received(lambda bar: bar._replace(volume=round(bar.volume * (1 + bar.start / 9000)) + 1))
    assert not compare(STORED, more).is_whole()


def test_small_volumes_that_were_revised_by_a_little_have_no_factor():
    stored = volumes([1, 2, 3, 2, 1, 4, 2, 3, 5, 1, 2, 2])
    assert not compare(
        stored, received(lambda b: b._replace(volume=b.volume + 1), stored)
    ).is_whole()


def test_where_there_is_no_volume_none_has_a_factor():
    stored = volumes([-1] * 12)
    assert not compare(stored, received(lambda b: b._replace(volume=500), stored)).is_whole()
    assert not compare(
        stored, received(lambda b: b._replace(close=10.5, high=10.5), stored)
    ).is_whole()


def test_a_ratio_of_two_bars_is_none():
    assert not compare(STORED[:2], received(times(price=0.25))).is_whole()


def test_prices_that_moved_each_in_their_way_are_no_split():
    drift = compare(
        STORED, received(lambda bar: bar._replace(close=bar.close * (1 + bar.start / 900)))
    )
    assert not drift.is_whole()
    assert not drift.is_whole(is_adjusted=True), "the first is as it was"


def test_what_is_adjusted_moves_as_a_whole_when_all_of_many_have_moved():
    less = received(lambda bar: bar._replace(**{k: getattr(bar, k) - 10 for k in bar._fields[1:5]}))
    assert compare(STORED, less).is_whole(is_adjusted=True)
    assert not compare(STORED, less).is_whole()
    assert not compare(STORED[:9], less).is_whole(is_adjusted=True)
    assert not compare(STORED, less | received(stored=STORED[:1])).is_whole(is_adjusted=True)


def test_nearly_the_same_prices_are_another_unit_only_if_all_of_many_have_the_factor():
    drift = compare(STORED, received(times(price=0.99)))
    assert drift.price == pytest.approx(0.99, rel=1e-3)
    assert not compare(STORED[:9], received(times(price=0.99))).is_whole()
    assert not compare(STORED, received() | received(times(price=0.99), STORED[:15])).is_whole()
    assert not compare(STORED, received(lambda bar: bar._replace(close=bar.close + 0.1))).is_whole()


def test_all_of_a_few_bars_are_unclear():
    assert compare(STORED[:5], received(times(price=0.25))).unclear_at == 0
    assert compare(STORED[:5], received(times(volume=100))).unclear_at == 0
    assert compare(STORED[:1], received(lambda bar: bar._replace(volume=4711))).unclear_at == 0
    assert compare(STORED, received(times(price=0.25))).unclear_at is None
    one = received() | received(lambda bar: bar._replace(volume=4711), STORED[:1])
    assert compare(STORED[:5], one).unclear_at is None


def test_a_bar_without_trades_says_nothing_of_the_unit_of_volumes():
    stored = volumes([120, 0, 340, 0, 90])
    assert compare(stored, received(times(volume=100), stored)).unclear_at == 0
    dearer = received(lambda b: Bar(b.start, *[20.0] * 4, b.volume), stored)
    assert compare(stored, dearer | received(stored=stored[1:2])).unclear_at is None


def test_all_bars_on_one_side_of_what_was_requested_are_unclear():
    one = received() | received(lambda bar: bar._replace(volume=4711), STORED[15:16])
    six = [*STORED[:5], STORED[15]]
    assert compare(six, one).unclear_at is None
    assert compare(six, one, (60 * 5, 60 * 15)).unclear_at == 60 * 15
    assert compare([*six, STORED[16]], one, (60 * 5, 60 * 15)).unclear_at is None
    first = received() | received(times(volume=100), STORED[:2])
    assert compare(six, first, (60 * 2, 60 * 15)).unclear_at == 0


def test_a_factor_of_the_volumes_of_a_few_bars_is_unclear_where_others_are_as_they_were():
    drift = compare(STORED, received() | received(times(volume=100), STORED[:5]))
    assert drift.unclear_at == 0
    assert drift.is_whole()


@pytest.mark.parametrize(
    ("price", "volume", "words"),
    [
        (None, None, "IB revised 20 of 20 bars"),
        (0.25, None, "IB revised all prices by a split ratio (4:1, 20 of 20 bars)"),
        (0.25003, None, "IB revised all prices by a split ratio (4:1, 20 of 20 bars)"),
        (2 / 3, None, "IB revised all prices by a split ratio (3:2, 20 of 20 bars)"),
        (0.1, None, "IB revised all prices by a split ratio (10:1, 20 of 20 bars)"),
        (10, None, "IB revised all prices by a split ratio (1:10, 20 of 20 bars)"),
        (0.02, None, "IB revised all prices by a split ratio (50:1, 20 of 20 bars)"),
        (100, None, "IB revised all prices times 100 (a change of unit?), 20 of 20 bars"),
        (99.99, None, "IB revised all prices times 100 (a change of unit?), 20 of 20 bars"),
        (0.01, None, "IB revised all prices times 0.01 (a change of unit?), 20 of 20 bars"),
        (0.00001, None, "IB revised all prices times 1e-05 (a change of unit?), 20 of 20 bars"),
        (0.995, None, "IB revised all prices times 0.995, 20 of 20 bars"),
        (0.9091, None, "IB revised all prices times 0.91, 20 of 20 bars"),
        (None, 100, "IB revised all volumes times 100 (a change of unit?), 20 of 20 bars"),
        (None, 0.0100004, "IB revised all volumes times 0.01 (a change of unit?), 20 of 20 bars"),
        (None, 1.5, "IB revised all volumes times 1.5, 20 of 20 bars"),
        (0.25, 4, "IB revised all prices and volumes by a split ratio (4:1, 20 of 20 bars)"),
        (
            100,
            0.01,
            "IB revised all prices and volumes by a split ratio (1:100, 20 of 20 bars)",
        ),
        (
            0.25,
            10,
            "IB revised all prices times 0.25 and all volumes times 10, 20 of 20 bars",
        ),
    ],
)
def test_it_is_said_in_words_that_people_use(price, volume, words):
    assert Revision(20, tuple(STORED), price, volume).words == words
