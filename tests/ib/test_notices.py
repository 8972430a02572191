import pytest

from ktrdr.errors import NotConnected, RequestFailed
from ktrdr.ib.farms import Farms
from ktrdr.ib.notices import HistoryNews, Meaning, meaning
from ktrdr.ib.states import Event

HMDS_BROKEN = "HMDS data farm connection is broken:ushmds"
HMDS_OK = "HMDS data farm connection is OK:ushmds"
QUOTES_BROKEN = "Market data farm connection is broken:usfarm"
QUOTES_OK = "Market data farm connection is OK:usfarm"


def received(*notices: tuple[int, str]) -> Meaning:
    """The meaning of the last of them, a minute apart."""
    farms = Farms()
    return [meaning(farms, *notice, now) for now, notice in enumerate(notices)][-1]


@pytest.mark.parametrize("code", [1100, 2110])
def test_the_loss_of_ibs_servers_is_an_error_of_no_connection(code):
    found = received((code, "Connectivity between IBKR and TWS has been lost."))
    assert found.events == (Event.UPSTREAM_LOST,)
    assert isinstance(found.error, NotConnected)
    assert found.error.code == code


def test_servers_that_are_back_have_all_farms_back_that_they_name():
    lost_farm = (2105, HMDS_BROKEN)
    back = (1102, "restored - data maintained. All data farms are connected: ushmds; usfarm.")
    found = received(lost_farm, back)
    assert found.events == (Event.UPSTREAM_BACK, Event.FARM_BACK)
    assert found.history is HistoryNews.BACK


def test_servers_that_are_back_without_a_farm_leave_it_broken():
    back = (1101, "restored - data lost. The following farms are not connected: ushmds.")
    found = received((2105, HMDS_BROKEN), back)
    assert found.events == (Event.UPSTREAM_BACK,)
    assert found.history is HistoryNews.PERHAPS_BACK


def test_a_farm_of_history_that_breaks_is_to_be_probed():
    found = received((2105, HMDS_BROKEN))
    assert found.events == (Event.FARM_BROKEN,)
    assert found.history is HistoryNews.BROKEN
    assert isinstance(found.error, RequestFailed)


def test_a_farm_of_quotes_that_breaks_says_nothing_of_history():
    found = received((2103, QUOTES_BROKEN))
    assert found.events == (Event.FARM_BROKEN,)
    assert found.history is None


def test_a_farm_of_quotes_that_is_back_is_none_that_data_come_from():
    found = received((2103, QUOTES_BROKEN), (2104, QUOTES_OK))
    assert found.events == (Event.FARM_BACK,)
    assert not found.is_data_farm_back


def test_one_farm_that_is_back_is_not_the_last_while_another_is_broken():
    found = received((2103, QUOTES_BROKEN), (2105, HMDS_BROKEN), (2106, HMDS_OK))
    assert found.events == ()
    assert found.is_data_farm_back
    assert found.history is HistoryNews.BACK


def test_a_farm_of_history_that_is_named_as_connected_is_back_though_nobody_knew_it_broken():
    """A break of which no notice tells ends with one that does."""
    found = received((2106, HMDS_OK))
    assert found.events == ()
    assert found.history is HistoryNews.BACK


def test_what_is_about_a_request_is_no_notice():
    assert received((162, "Historical Market Data Service error message")) == Meaning()
