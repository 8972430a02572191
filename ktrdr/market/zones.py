"""Time zones: those of IB's names for them, and those of exchanges. Never defaults to UTC.

IB names zones as the gateway's Java or Windows does: `US/Eastern`, `EST (Eastern Standard Time)`,
`IST`, `W. Europe Standard Time`. If a name stands for several zones, the exchange decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ktrdr.errors import InvalidRequest


def find_zone(name: str) -> ZoneInfo:
    """The zone of this name. InvalidRequest: there is none."""
    found = _meant(name, "")
    if not found:
        raise InvalidRequest(f"time zone {name!r}: expected an IANA name")
    return ZoneInfo(found)


def zone_of(names: Iterable[str], exchange: str) -> str:
    """The IANA name of the first known one of IB's names, else the exchange's own zone.

    Empty: neither is known.
    """
    for name in names:
        if found := _meant(name, exchange):
            return found
    return EXCHANGE_ZONES.get(exchange.upper(), "")


def _meant(name: str, exchange: str) -> str:
    """The IANA name of the zone that IB's name stands for at an exchange; empty: unknown."""
    plain = name.split(" (", maxsplit=1)[0].strip()
    several = _SEVERAL.get(_without_season(plain), ())
    if several:
        there = EXCHANGE_ZONES.get(exchange.upper(), "")
        return there if there in several else several[0]
    try:
        return ZoneInfo(plain).key if plain else ""
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder
        return ""


def _without_season(name: str) -> str:
    """The name in lower case, with `standard time` for `daylight time` and `summer time`."""
    small = name.casefold()
    for season in ("daylight", "summer"):
        small = small.replace(f" {season} time", " standard time")
    return small


def _by_exchange(zones: dict[str, str]) -> dict[str, str]:
    return {exchange: zone for zone, names in zones.items() for exchange in names.split()}


# IB's names of exchanges (Contract Search) by the zone in which IB reports their hours.
EXCHANGE_ZONES = _by_exchange(
    {
        "America/New_York": "NYSE NASDAQ ISLAND ARCA AMEX BATS BYX EDGEA IEX PINK PSX BEX "
        "CHX DRCTEDGE LTSE MEMX PEARL IDEALPRO NYBOT NYMEX COMEX",
        "America/Chicago": "CME GLOBEX CBOT ECBOT CFE CBOE CBOE2",
        "America/Toronto": "TSE VENTURE CDE OMEGA CHIX_CA",
        "America/Mexico_City": "MEXI MEXDER",
        "America/Sao_Paulo": "B3 BOVESPA",
        "Europe/London": "LSE LSEETF LSEIOB1 ICEEU ICEEUSOFT IPE LMEOTC LME AIM",
        "Europe/Dublin": "ISED",
        "Europe/Lisbon": "BVL",
        "Europe/Berlin": "IBIS IBIS2 FWB FWB2 SWB SWB2 GETTEX GETTEX2 TGATE EUREX DTB",
        "Europe/Paris": "SBF MATIF MONEP",
        "Europe/Amsterdam": "AEB FTA",
        "Europe/Brussels": "ENEXT.BE BELFOX",
        "Europe/Zurich": "EBS VIRTX SWX SOFFEX",
        "Europe/Rome": "BVME BVME.ETF IDEM",
        "Europe/Madrid": "BM MEFFRV",
        "Europe/Vienna": "VSE",
        "Europe/Stockholm": "SFB OMS",
        "Europe/Copenhagen": "CPH",
        "Europe/Helsinki": "HEX",
        "Europe/Oslo": "OSE OMXNO",
        "Europe/Warsaw": "WSE",
        "Europe/Prague": "PRA",
        "Europe/Budapest": "BUX",
        "Europe/Tallinn": "N.TALLINN",
        "Europe/Riga": "N.RIGA",
        "Europe/Vilnius": "N.VILNIUS",
        "Europe/Moscow": "MOEX",
        "Asia/Jerusalem": "TASE",
        "Asia/Riyadh": "TADAWUL",
        "Asia/Kolkata": "NSE BSE",
        "Asia/Hong_Kong": "SEHK HKFE",
        "Asia/Shanghai": "SEHKNTL SEHKSZSE CHINEXT",
        "Asia/Taipei": "TWSE TAIFEX TPEX",
        "Asia/Tokyo": "TSEJ OSE.JPN CHIXJ JPNNEXT",
        "Asia/Seoul": "KSE KRX",
        "Asia/Singapore": "SGX",
        "Asia/Kuala_Lumpur": "BURSAMY",
        "Asia/Bangkok": "SET",
        "Australia/Sydney": "ASX SNFE CHIXAU",
        "Pacific/Auckland": "NZSE",
        "Africa/Johannesburg": "JSE",
    }
)
"""Exchange → IANA zone."""

_SEVERAL: dict[str, tuple[str, ...]] = {
    name: tuple(zones.split())
    for name, zones in {
        # Abbreviations; the first zone counts if the exchange is in none of them.
        "est": "America/New_York America/Toronto Australia/Sydney",
        "edt": "America/New_York America/Toronto Australia/Sydney",
        "et": "America/New_York America/Toronto",
        "cst": "America/Chicago America/Mexico_City Asia/Shanghai Asia/Taipei",
        "cdt": "America/Chicago America/Mexico_City",
        "ct": "America/Chicago",
        "pst": "America/Los_Angeles",
        "pdt": "America/Los_Angeles",
        "brt": "America/Sao_Paulo",
        "gmt": "Europe/London Europe/Dublin Europe/Lisbon",
        "bst": "Europe/London",
        "wet": "Europe/Lisbon",
        "west": "Europe/Lisbon",
        "ist": "Asia/Kolkata Asia/Jerusalem Europe/Dublin",
        "idt": "Asia/Jerusalem",
        "msk": "Europe/Moscow",
        "hkt": "Asia/Hong_Kong",
        "sgt": "Asia/Singapore",
        "myt": "Asia/Kuala_Lumpur",
        "jst": "Asia/Tokyo",
        "kst": "Asia/Seoul",
        "ctt": "Asia/Shanghai Asia/Taipei",
        "ict": "Asia/Bangkok",
        "aet": "Australia/Sydney",
        "aest": "Australia/Sydney",
        "aedt": "Australia/Sydney",
        "nzst": "Pacific/Auckland",
        "nzdt": "Pacific/Auckland",
        "sast": "Africa/Johannesburg",
        # Long names: of Java, and of Windows (CLDR, windowsZones).
        "eastern standard time": "America/New_York America/Toronto",
        "us eastern standard time": "America/Indianapolis",
        "central standard time": "America/Chicago America/Mexico_City",
        "mountain standard time": "America/Denver",
        "pacific standard time": "America/Los_Angeles",
        "e. south america standard time": "America/Sao_Paulo",
        "brasilia time": "America/Sao_Paulo",
        "brasilia standard time": "America/Sao_Paulo",
        "greenwich mean time": "Europe/London Europe/Dublin Europe/Lisbon",
        "gmt standard time": "Europe/London Europe/Dublin Europe/Lisbon",
        "british standard time": "Europe/London",
        "irish standard time": "Europe/Dublin",
        "western european time": "Europe/Lisbon",
        "western european standard time": "Europe/Lisbon",
        "fle standard time": "Europe/Helsinki Europe/Riga Europe/Tallinn Europe/Vilnius",
        "eastern european time": "Europe/Helsinki Europe/Riga Europe/Tallinn Europe/Vilnius",
        "eastern european standard time": "Europe/Helsinki Europe/Riga Europe/Tallinn "
        "Europe/Vilnius",
        "russian standard time": "Europe/Moscow",
        "moscow standard time": "Europe/Moscow",
        "israel standard time": "Asia/Jerusalem",
        "arab standard time": "Asia/Riyadh",
        "arabian standard time": "Asia/Riyadh",
        "india standard time": "Asia/Kolkata",
        "hong kong time": "Asia/Hong_Kong",
        "hong kong standard time": "Asia/Hong_Kong",
        "china standard time": "Asia/Shanghai Asia/Hong_Kong Asia/Taipei",
        "taipei standard time": "Asia/Taipei",
        "tokyo standard time": "Asia/Tokyo",
        "japan standard time": "Asia/Tokyo",
        "korea standard time": "Asia/Seoul",
        "korean standard time": "Asia/Seoul",
        "singapore standard time": "Asia/Singapore Asia/Kuala_Lumpur",
        "malaysia time": "Asia/Kuala_Lumpur",
        "se asia standard time": "Asia/Bangkok",
        "indochina time": "Asia/Bangkok",
        "aus eastern standard time": "Australia/Sydney",
        "australian eastern standard time": "Australia/Sydney",
        "new zealand standard time": "Pacific/Auckland",
        "south africa standard time": "Africa/Johannesburg",
    }.items()
}

# Central European time, under any of its names, is the zone of the exchange's country.
_CENTRAL = (
    "Europe/Berlin Europe/Paris Europe/Amsterdam Europe/Brussels Europe/Zurich Europe/Rome "
    "Europe/Madrid Europe/Vienna Europe/Stockholm Europe/Copenhagen Europe/Oslo Europe/Warsaw "
    "Europe/Prague Europe/Budapest"
)
_SEVERAL |= dict.fromkeys(
    (
        "met",
        "mest",
        "mez",
        "mesz",
        "cet",
        "cest",
        "central european time",
        "central european standard time",
        "middle europe time",
        "middle europe standard time",
        "central europe standard time",
        "w. europe standard time",
        "romance standard time",
    ),
    tuple(_CENTRAL.split()),
)
