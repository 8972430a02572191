import pytest

from ktrdr.ib.farms import Farms

HMDS_BROKEN = "HMDS data farm connection is broken:ushmds"
HMDS_OK = "HMDS data farm connection is OK:ushmds"


def test_a_farm_breaks_and_comes_back_and_the_length_is_kept():
    farms = Farms()
    farms.take(2106, HMDS_OK, 100)
    broken = farms.take(2105, HMDS_BROKEN, 200)
    assert (broken.name, broken.serves, broken.is_up, broken.breaks) == (
        "ushmds",
        "history",
        False,
        1,
    )
    assert farms.broken == (broken,)
    back = farms.take(2106, HMDS_OK, 262)
    assert (back.is_up, back.last_break_s, back.since, back.breaks) == (True, 62, 262, 1)
    assert farms.broken == ()


def test_only_a_change_is_news():
    farms = Farms()
    assert farms.take(2106, HMDS_OK, 100) is None
    assert farms.take(2105, HMDS_BROKEN, 101) is not None
    assert farms.take(2105, HMDS_BROKEN, 102) is None
    assert farms.take(2106, HMDS_OK, 103) is not None
    assert farms.take(2106, HMDS_OK, 104) is None


@pytest.mark.parametrize(
    ("code", "text", "name", "serves"),
    [
        (2103, "Market data farm connection is broken:usfarm.nj", "usfarm.nj", "market data"),
        (2103, "Market data farm connection is broken:usfarm", "usfarm", "market data"),
        (2157, "Sec-def data farm connection is broken:secdefil", "secdefil", "contract details"),
    ],
)
def test_each_kind_of_farm_is_known(code, text, name, serves):
    farm = Farms().take(code, text, 1)
    assert (farm.name, farm.serves) == (name, serves)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            2107,
            "HMDS data farm connection is inactive but should be available upon demand.ushmds",
        ),
        (
            2107,
            "HMDS data farm connection is inactive but should be available upon demand.:ushmds",
        ),
    ],
)
def test_an_idle_farm_is_well(code, text):
    farms = Farms()
    farms.take(2105, HMDS_BROKEN, 1)
    assert farms.take(code, text, 5).is_up
    assert farms.broken == ()


def test_other_notices_say_nothing_of_farms():
    farms = Farms()
    assert farms.take(2119, "Market data farm is connecting:usfarm", 1) is None
    assert farms.take(2105, "a text in another language", 1) is None
    assert farms.all == ()


def test_what_is_not_connected_when_the_servers_are_back_is_broken():
    farms = Farms()
    farms.restored(
        "Connectivity between IB and Trader Workstation has been restored - data maintained. "
        "The following farms are connected: cashfarm; secdefil. "
        "The following farms are not connected: cashhmds.",
        10,
    )
    assert [(farm.name, farm.serves) for farm in farms.broken] == [("cashhmds", "history")]


def test_farms_with_dots_in_their_names_are_known_by_them():
    farms = Farms()
    farms.restored("The following farms are not connected: ushmds.nj; secdefil.", 10)
    assert [farm.name for farm in farms.broken] == ["secdefil", "ushmds.nj"]
    farms.take(2106, "HMDS data farm connection is OK:ushmds.nj", 20)
    farms.take(2158, "Sec-def data farm connection is OK:secdefil", 20)
    assert farms.broken == ()


def test_without_a_connection_nothing_is_known_to_be_broken():
    farms = Farms()
    farms.take(2105, HMDS_BROKEN, 1)
    farms.forget(31)
    assert farms.broken == ()
    assert farms.all[0].last_break_s == 30


def test_a_gateway_that_invents_farms_does_not_fill_the_memory():
    farms = Farms()
    for number in range(1000):
        farms.take(2105, f"HMDS data farm connection is broken:farm{number}", 1)
    assert len(farms.all) == 100


RESTORED = "Connectivity between IB and Trader Workstation has been restored - data maintained. "


def test_all_farms_are_up_when_all_are_named_as_connected():
    farms = Farms()
    farms.take(2105, HMDS_BROKEN, 1)
    farms.take(2103, "Market data farm connection is broken:eufarm", 1)
    assert farms.restored(f"{RESTORED}All data farms are connected: usfarm; ushmds; secdefil.", 9)
    assert farms.broken == ()


def test_a_farm_that_is_named_as_connected_is_up_and_the_others_stay_as_they_are():
    farms = Farms()
    farms.take(2105, HMDS_BROKEN, 1)
    farms.take(2105, "HMDS data farm connection is broken:euhmds", 1)
    text = "The following farms are connected: usfarm; ushmds. "
    assert farms.restored(f"{RESTORED}{text}The following farms are not connected: cashfarm.", 9)
    assert [farm.name for farm in farms.broken] == ["cashfarm", "euhmds"]


def test_that_no_farm_of_history_is_named_says_nothing_of_history():
    assert not Farms().restored(f"{RESTORED}The following farms are connected: usfarm.", 1)
    assert not Farms().restored(f"{RESTORED}The following farms are not connected: ushmds.", 1)


def test_a_farm_is_up_when_what_it_refused_is_answered():
    farms = Farms()
    farms.take(2105, HMDS_BROKEN, 1)
    farms.refused("AAPL", 2)
    assert not farms.answered("BMW", 3)  # that may be another farm's
    assert farms.broken_history == ("ushmds",)
    assert farms.answered("AAPL", 4)
    assert farms.broken == ()


def test_a_farm_is_not_up_while_others_are_refused():
    farms = Farms()
    farms.take(2105, HMDS_BROKEN, 1)
    farms.refused("AAPL", 2)
    farms.refused("BMW", 2)
    assert not farms.answered("AAPL", 4)
    assert farms.answered("BMW", 5)


def test_a_break_of_which_nobody_feels_anything_for_ten_minutes_is_over():
    farms = Farms()
    farms.take(2105, HMDS_BROKEN, 100)
    assert not farms.answered("AAPL", 699)
    assert farms.answered("AAPL", 700)


def test_no_answer_of_history_brings_a_farm_of_market_data_back():
    farms = Farms()
    farms.take(2103, "Market data farm connection is broken:usfarm", 1)
    farms.refused("AAPL", 2)
    assert not farms.answered("AAPL", 1000)
    assert [farm.name for farm in farms.broken] == ["usfarm"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (2106, "HMDS data farm connection is OK:USHMDS"),
        (2106, "HMDS data farm connection is OK:ushmds."),
        (2107, "HMDS data farm connection is inactive but should be available upon demand.UsHmds"),
        (
            1102,
            "restored - data maintained. The following farms are connected: USHMDS",
        ),
    ],
)
def test_a_farm_is_the_same_in_other_letters(code, text):
    farms = Farms()
    farms.take(2105, "HMDS data farm connection is broken:ushmds", 0)
    if code == 1102:
        assert farms.restored(text, 5)
    else:
        farms.take(code, text, 5)
    assert [(farm.name, farm.is_up) for farm in farms.all] == [("ushmds", True)]
