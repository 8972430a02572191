"""Notices to every client about connectivity and data farms: codes and texts. Sends none."""

from __future__ import annotations

from ktrdr.errors import InvalidRequest
from ktrdr.sim.gateway.refusals import Refusal

_TEXTS = {
    1100: "Connectivity between IBKR and Trader Workstation has been lost.",
    1101: "Connectivity between IBKR and Trader Workstation has been restored - data lost. "
    "All data farms are connected: usfarm; ushmds; secdefil.",
    1102: "Connectivity between IBKR and Trader Workstation has been restored - data maintained. "
    "All data farms are connected: usfarm; ushmds; secdefil.",
    1300: "TWS socket port has been reset and this connection is being dropped.",
    2103: "Market data farm connection is broken:{}",
    2104: "Market data farm connection is OK:{}",
    2105: "HMDS data farm connection is broken:{}",
    2106: "HMDS data farm connection is OK:{}",
    2107: "HMDS data farm connection is inactive but should be available upon demand.:{}",
    2108: "Market data farm connection is inactive but should be available upon demand.:{}",
    2110: "Connectivity between Trader Workstation and server is broken. "
    "It will be restored automatically.",
    2119: "Market data farm is connecting:{}",
    2157: "Sec-def data farm connection is broken:{}",
    2158: "Sec-def data farm connection is OK:{}",
}
_HMDS, _SECDEF = (2105, 2106, 2107), (2157, 2158)


def notice(code: int, farm: str = "") -> Refusal:
    """The notice of this code (TWS API, "System Message Codes"). InvalidRequest: unknown code."""
    if code not in _TEXTS:
        raise InvalidRequest(f"no notice {code}", hint=f"there is: {', '.join(map(str, _TEXTS))}")
    usual = "ushmds" if code in _HMDS else "secdefil" if code in _SECDEF else "usfarm"
    return Refusal(code, _TEXTS[code].format(farm or usual))


def farm_broken(farm: str) -> Refusal:
    """A farm is broken: 2103, 2105 for historical data, 2157 for contract details."""
    return notice(_kind(farm), farm)


def farm_back(farm: str) -> Refusal:
    """A farm is back: 2104, 2106 for historical data, 2158 for contract details."""
    return notice(_kind(farm) + 1, farm)


def _kind(farm: str) -> int:
    if "hmds" in farm:
        return 2105
    return 2157 if "secdef" in farm else 2103
