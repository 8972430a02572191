"""ktrdr/sim/gateway/update_damage.py and other faults of what streams send, as a client meets them.

ib_insync shows no bar that is older than its last one, and none twice: what comes over the wire is
looked at, too.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ktrdr.sim.gateway.faults import FAULTS
from ktrdr.sim.gateway.update_damage import WRONG_UPDATES
from ktrdr.sim.market.market import truth
from tests.sim.streaming import AAPL, BTC, subscribed, until

MINUTE = int(datetime(2026, 11, 23, 15, 30, tzinfo=UTC).timestamp())
TRUTH = truth("AAPL", "1m", MINUTE, MINUTE + 900)
DAY_S = 86400


@pytest.fixture
def wrong(watched):
    """`wrong(how, seconds)`: forms of AAPL, mark by mark; ib_insync's list; bars of history."""

    def run(how, seconds):
        async def work(seen, gateway):
            marks = []
            with gateway.wrong_updates(how, "AAPL"):
                for _ in range(seconds // 5):
                    known = len(seen.forms.of(seen.aapl))
                    await seen.pass_s(5)
                    marks.append(seen.forms.of(seen.aapl)[known:])
            await seen.client.reqContractDetailsAsync(AAPL)
            settled = await seen.client.reqHistoricalDataAsync(
                AAPL, "", "600 S", "1 min", "TRADES", True, 2
            )
            return marks, list(seen.aapl), list(settled)

        return watched(work)

    return run


def forms_of(marks):
    return [form for mark in marks for form in mark]


def last_forms(forms):
    """The last form of each bar but the newest: what a client takes for finished."""
    last = {form[0]: form[:6] for form in forms}
    return [form for start, form in last.items() if start < max(last)]


def test_the_list_of_them_is_complete():
    assert set(WRONG_UPDATES) == set(FAULTS["wrong_updates"].choices_of("how"))


def test_every_update_comes_twice(wrong):
    forms = forms_of(wrong("repeated", 70)[0])
    assert forms[::2] == forms[1::2]
    assert last_forms(forms) == TRUTH[:1]


def test_one_bar_of_three_never_comes(wrong):
    marks, shown, _ = wrong("skipped", 240)
    starts = sorted({form[0] for form in forms_of(marks)})
    every = range(MINUTE, MINUTE + 300, 60)
    missing = [bar for bar in every if bar // 60 % 3 == 1]
    assert starts == [bar for bar in every if bar not in missing]
    assert missing
    assert not {bar.date.timestamp() for bar in shown} & set(missing)


def test_after_each_update_comes_an_older_bar(wrong):
    marks, shown, _ = wrong("backwards", 100)
    times = [form[0] - MINUTE for form in forms_of(marks)]
    assert [one for one, other in pairwise(times) if other < one]
    assert set(times) == {0, 60, 120}
    assert [bar.date for bar in shown] == sorted(bar.date for bar in shown)


def test_after_each_update_comes_a_bar_of_yesterday(wrong):
    forms = forms_of(wrong("yesterday", 70)[0])
    assert [form[0] for form in forms[1::2]] == [form[0] - DAY_S for form in forms[::2]]
    assert [form[1:] for form in forms[1::2]] == [form[1:] for form in forms[::2]]


def test_the_volume_goes_down_and_its_last_form_is_too_small(wrong):
    forms = forms_of(wrong("less_volume", 70)[0])
    first = [form[5] for form in forms if form[0] == MINUTE]
    assert [one for one, other in pairwise(first) if other < one]
    ((*prices, volume),) = last_forms(forms)
    assert tuple(prices) == TRUTH[0][:5]
    assert volume == TRUTH[0].volume // 2


def test_two_bars_come_at_once_and_finished(wrong):
    marks, *_ = wrong("together", 250)
    bursts = [[form[:6] for form in mark] for mark in marks if mark]
    assert {len(burst) for burst in bursts[1:]} == {2}
    rows = [form for burst in bursts for form in burst]
    assert rows == TRUTH[: len(rows)]
    assert len(rows) >= 4


def test_history_has_another_close_and_volume_than_the_stream(wrong):
    marks, _, settled = wrong("revised", 70)
    (said,) = last_forms(forms_of(marks))
    (known,) = [bar for bar in settled if bar.date.timestamp() == MINUTE]
    assert said[:4] == (MINUTE, known.open, known.high, known.low)
    assert said[4] != known.close == TRUTH[0].close
    assert said[5] == TRUTH[0].volume * 9 // 10


def test_the_last_form_of_a_bar_never_comes(wrong):
    marks, shown, _ = wrong("unfinished", 70)
    (said,) = last_forms(forms_of(marks))
    assert said[5] < TRUTH[0].volume
    assert [bar.volume for bar in shown if bar.date.timestamp() == MINUTE] == [said[5]]


def test_all_is_right_again_after_the_end(watched):
    async def work(seen, gateway):
        with gateway.wrong_updates("revised"):
            await seen.pass_s(10)
        await seen.pass_s(30)
        return seen.forms.of(seen.aapl)

    assert last_forms(watched(work)) == TRUTH[:1]


def test_late_updates_come_late_and_in_their_order(watched):
    async def work(seen, gateway):
        with gateway.late_updates(2, "AAPL"):
            await seen.pass_s(20)
            soon = seen.forms.of(seen.aapl)
        await seen.pass_s(5)
        await seen.forms.after(4, seen.aapl)
        return soon, seen.forms.of(seen.aapl)

    soon, at_last = watched(work)
    assert soon == []
    assert len(at_last) == 5
    assert [form[5] for form in at_last] == sorted(form[5] for form in at_last)


def test_a_flood_is_read_and_ends_with_the_bar_as_it_is(watched):
    async def work(seen, gateway):
        shown = []
        seen.aapl.updateEvent += lambda bars, _: shown.append(bars[-1].close)
        await seen.pass_s(35)
        with gateway.update_flood(10_000, "AAPL"):
            await until(lambda: len(seen.forms.seen) > 3000)
            assert await seen.client.reqContractDetailsAsync(AAPL)
        await seen.pass_s(10)
        return shown, seen.forms.of(seen.aapl), seen.forms.of(seen.btc)

    shown, forms, others = watched(work)
    assert len(shown) > 2000
    assert len(others) < 100
    assert last_forms(forms) == TRUTH[:1]


def test_a_flood_waits_for_a_client_that_reads_nothing(watched):
    async def work(seen, gateway):
        await seen.pass_s(5)
        transport = seen.client.client.conn.transport
        transport.pause_reading()
        with gateway.update_flood(1_000_000):
            for _ in range(30):
                await seen.step(5)
            sent = gateway.summary()["updates"]
        transport.resume_reading()
        return sent

    assert 50_000 < watched(work) < 500_000


@pytest.mark.parametrize("size", ["5 secs", "1 day"])
def test_bars_of_other_sizes_can_be_wrong_too(with_clock, size):
    async def work(client, gateway, clock):
        with gateway.wrong_updates("yesterday"):
            bars = await subscribed(client, BTC, size, "AGGTRADES", duration="1800 S")
            last = bars[-1]
            clock.now += timedelta(seconds=10)
            await until(lambda: bars[-1] != last)
        return gateway.summary()["updates"]

    assert with_clock(work) >= 2
