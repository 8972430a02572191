"""What every client of the API sees of streams and of their faults: one suite, three clients.

As in `test_conformance.py`: a plan goes into a client's own environment, a report comes out. Each
gateway has one fault; the client has a stream of AAPL there, which meets it, and one of BTC, which
does not, so that nobody waits for something that never comes.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from ktrdr.sim.gateway.clock import Clock
from ktrdr.sim.gateway.server import SimulatedGateway
from tests.sim.streaming import until

CLIENTS = Path(__file__).parents[1] / "clients"
NOW = datetime(2026, 11, 23, 15, 30, 25, tzinfo=UTC)
SPEED, BAR_S, DAY_S = 16, 15, 86400
COUNT = 15
"""Updates of the witness: five quarters of a minute of the gateway's clock, two pairs of bars."""
WATCH = {
    "name": "watch",
    "ask": "watch",
    "contract": {"symbol": "AAPL", "secType": "STK", "exchange": "SMART", "currency": "USD"},
    "what": "TRADES",
    "size": "15 secs",
    "witness": {"symbol": "BTC", "secType": "CRYPTO", "exchange": "PAXOS", "currency": "USD"},
    "witness_what": "AGGTRADES",
    "count": COUNT,
}
FROM_THE_START = {
    "none": ("", {}),
    **{
        how: ("wrong_updates", {"how": how, "symbol": "AAPL"})
        for how in (
            *("repeated", "skipped", "backwards", "yesterday", "less_volume", "together"),
            *("revised", "unfinished"),
        )
    },
    "late": ("late_updates", {"seconds": 2, "symbol": "AAPL"}),
    "flood": ("update_flood", {"per_s": 5000, "symbol": "AAPL"}),
}
MEANWHILE = {  # and the code after which the client opens the other stream; 0: at once
    "silent": ("silent_streams", {"symbol": "AAPL"}, 0),
    "ended": ("ended_streams", {"code": 10182, "symbol": "AAPL"}, 10182),
    "farm": ("farm_broken", {"farm": "usfarm", "for_s": 0.3}, 2104),
    "history farm": ("farm_broken", {"streams": "refused", "for_s": 0.3}, 2106),
    "1101": ("connectivity_lost", {"back": 1101, "for_s": 0.3}, 1101),
    "session": ("competing_session", {"code": 10197, "for_s": 0}, 10197),
}


async def begin_later(gateway, fault, values):
    await until(lambda: gateway.summary()["updates"] >= 2)
    gateway.begin_fault(fault, **values)


async def converse(python, client):
    """What the client has seen of each gateway, by the gateway's name."""
    async with AsyncExitStack() as stack:
        plan, later = [], []
        for name in (*FROM_THE_START, *MEANWHILE):
            gateway = await stack.enter_async_context(SimulatedGateway(now=Clock(NOW, SPEED)))
            fault, values, after = (*FROM_THE_START.get(name, MEANWHILE.get(name)), 0)[:3]
            if name in MEANWHILE:
                later.append(asyncio.create_task(begin_later(gateway, fault, values)))
            elif fault:
                gateway.begin_fault(fault, **values)
            plan.append({"port": gateway.port, "questions": [WATCH | {"after": after}]})
        script = "ibapi_client.py" if client == "ibapi" else "ib_insync_client.py"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            python, CLIENTS / script, client, stdin=pipe, stdout=pipe, stderr=pipe
        )
        out, complaints = await process.communicate(json.dumps(plan).encode())
        assert process.returncode == 0, complaints.decode()
        reports = [one["answers"]["watch"]["result"] for one in json.loads(out)]
        return dict(zip((*FROM_THE_START, *MEANWHILE), reports, strict=True))


@pytest.fixture(scope="module", params=["ib_insync", "ib_async", "ibapi"])
def seen(request, python_with):
    return asyncio.run(converse(python_with(request.param), request.param))


def volumes(updates):
    """The volumes of each bar, form by form."""
    found = {}
    for bar in updates:
        found.setdefault(bar[0], []).append(bar[5])
    return list(found.values())


def shows_ascending_bars(report):
    """ib_insync and ib_async show no bar that is older than the last one; ibapi shows all."""
    times = [bar[0] for bar in report["shown"] or []]
    return times == sorted(times)


def test_a_sound_stream_grows_bar_by_bar(seen):
    report = seen["none"]
    updates = report["updates"]
    assert report["told"] == []
    assert report["first"][-1][0] <= updates[0][0]
    assert all(given == sorted(given) for given in volumes(updates))
    assert len(volumes(updates)) >= 3
    changes = [bar for before, bar in pairwise([report["first"][-1], *updates]) if bar != before]
    assert report["shown"] in (None, changes)


def test_updates_come_twice(seen):
    updates = seen["repeated"]["updates"]
    updates = updates[: len(updates) // 2 * 2]
    assert updates[::2] == updates[1::2]
    shown = seen["repeated"]["shown"]
    assert shown is None or all(one != other for one, other in pairwise(shown))


def test_a_bar_is_skipped(seen):
    numbers = {bar[0] // BAR_S for bar in seen["skipped"]["updates"]}
    assert numbers
    assert not [number for number in numbers if number % 3 == 1]


def test_bars_go_back_in_time(seen):
    times = [bar[0] for bar in seen["backwards"]["updates"]]
    assert any(other < one for one, other in pairwise(times))
    assert shows_ascending_bars(seen["backwards"])


def test_bars_of_yesterday_come(seen):
    times = [bar[0] for bar in seen["yesterday"]["updates"]]
    assert {one - other for one, other in pairwise(times)} >= {DAY_S}
    assert shows_ascending_bars(seen["yesterday"])


def test_a_volume_goes_down(seen):
    given = volumes(seen["less_volume"]["updates"])
    assert any(other < one for bar in given for one, other in pairwise(bar))


def test_bars_come_in_pairs_and_once(seen):
    updates = seen["together"]["updates"]
    assert len(updates) >= 2
    assert all(len(forms) == 1 for forms in volumes(updates))


def test_closes_are_not_what_history_says(seen):
    updates = seen["revised"]["updates"]
    assert updates
    assert all(bar[4] == bar[1] for bar in updates)


def test_last_forms_are_missing(seen):
    assert max(len(forms) for forms in volumes(seen["unfinished"]["updates"])) <= BAR_S / 5 - 1


def test_a_stream_is_late(seen):
    report = seen["late"]
    assert len(report["updates"]) < len(report["witness"])
    assert report["told"] == []


def test_a_flood_comes(seen):
    assert len(seen["flood"]["updates"]) > 500


@pytest.mark.parametrize("name", MEANWHILE)
def test_a_dead_stream_sends_nothing_and_another_one_works(seen, name):
    report = seen[name]
    assert len(report["witness"]) >= COUNT
    assert report["after"] == [] or name == "silent"
    assert report["updates"][-1][0] < report["witness"][-1][0]


def test_errors_that_come_with_the_end_of_a_stream(seen):
    told = {name: report["told"] for name, report in seen.items() if name in MEANWHILE}
    assert told == {
        "silent": [],
        "ended": [["stream", 10182]],
        "farm": [[-1, 2103], [-1, 2104]],
        "history farm": [[-1, 2105], ["stream", 10182], [-1, 2106]],
        "1101": [[-1, 1100], [-1, 1101]],
        "session": [["stream", 10197]],
    }
