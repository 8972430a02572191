"""ktrdr/sim/gateway/fault_contexts.py: each fault under the names that docs/simulator.md has."""

import re
from pathlib import Path

import pytest

from ktrdr.errors import InvalidRequest
from ktrdr.sim.gateway.fault_contexts import FaultContexts
from ktrdr.sim.gateway.faults import known

PAGE = (Path(__file__).parents[3] / "docs/simulator.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \|.*\| `(\w+)\(\)` \|$", re.MULTILINE)
DOCUMENTED = ROW.findall(PAGE)
AT_ONCE = ("drop", "ended_streams", "garbage", "notice")


class Noted(FaultContexts):
    """Notes what begins and ends, with the parameters that it has then."""

    def __init__(self):
        self.begun, self.in_force = [], {}

    def begin_fault(self, name, /, **values):
        self.begun.append((name, known(name).read(values)))
        self.in_force[name] = values

    def end_fault(self, name):
        return self.in_force.pop(name, None) is not None

    def summary(self):
        return {}


@pytest.fixture
def gateway():
    return Noted()


def test_the_page_names_them():
    assert len(DOCUMENTED) > 20
    assert ("restart", "restarting") in DOCUMENTED


@pytest.mark.parametrize(("fault", "as_in_tests"), DOCUMENTED)
def test_each_lasts_as_long_as_its_block_or_begins_where_it_is_called(gateway, fault, as_in_tests):
    context = getattr(gateway, as_in_tests)()
    assert list(gateway.in_force) == ([fault] if fault in AT_ONCE else [])
    with context:
        assert list(gateway.in_force) == [fault]
    if fault not in AT_ONCE:
        assert gateway.in_force == {}


def test_a_fault_ends_where_its_block_fails(gateway):
    with pytest.raises(ZeroDivisionError), gateway.stalled():
        raise ZeroDivisionError
    assert gateway.in_force == {}


def test_parameters_are_given_in_their_order_or_by_name(gateway):
    with (
        gateway.unanswered("bars", "MSFT"),
        gateway.farm_broken(told="no"),
        gateway.outdated(140),
    ):
        pass
    gateway.drop("fin")
    assert gateway.begun == [
        ("unanswered", {"kind": "bars", "symbol": "MSFT"}),
        ("farm_broken", {"farm": "ushmds", "told": "no", "streams": "lost"}),
        ("old_version", {"version": 140}),
        ("drop", {"how": "fin"}),
    ]


def test_what_is_no_parameter_is_refused(gateway):
    with pytest.raises(TypeError, match="at most kind, symbol"):
        gateway.unanswered("bars", "MSFT", 3)
    with pytest.raises(InvalidRequest, match="no parameter 'day'"), gateway.late(day=3):
        pass


def test_what_is_no_fault_is_no_attribute(gateway):
    with pytest.raises(AttributeError, match="no fault 'half_opened'"):
        gateway.half_opened()
    assert not hasattr(gateway, "port")


def test_all_of_them_are_listed(gateway):
    assert {"half_open", "restarting", "cut_bars", "fault"} <= set(dir(gateway))
