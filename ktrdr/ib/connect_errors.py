"""Errors of a gateway that is not reached, says nothing, or is none: in words, with what helps."""

from __future__ import annotations

import os

from ktrdr.errors import ConnectionClosedEarly, GatewayUnresponsive, NotConnected


def cannot_connect(where: str, error: Exception) -> NotConnected:
    """The system refuses the connection; UnicodeError: a host that can be no name."""
    return NotConnected(
        f"cannot connect to {where}: {_system_text(error)}",
        code=502,
        hint="is IB Gateway running and logged in, is its API enabled, is this its port?",
    )


def unreachable(where: str) -> NotConnected:
    """Nobody takes the connection, and nobody refuses it."""
    return NotConnected(
        f"{where} does not answer",
        code=502,
        hint="is that machine up, does a firewall let this through, is the gateway stuck?",
    )


def unresponsive(where: str, held: int) -> GatewayUnresponsive:
    """The connection was taken, and nothing said; `held`: bytes of an unfinished message."""
    half = f", after {held} bytes of a message" if held else ""
    return GatewayUnresponsive(
        f"{where} accepts connections and says nothing{half}",
        code=504,
        hint="restart the gateway, and log in if it waits for that",
    )


def closed(where: str) -> NotConnected:
    """The gateway has closed the connection."""
    return NotConnected(f"{where} closed the connection")


def closed_before_greeting(where: str) -> ConnectionClosedEarly:
    """Whoever listens there takes connections, and closes them without a word."""
    return ConnectionClosedEarly(
        f"{where} closed the connection before its greeting",
        hint="a forwarder without a gateway behind it, or an address that the "
        "gateway does not trust (API settings, Trusted IPs)",
    )


def no_gateway(where: str, words: str) -> NotConnected:
    """Something else answers there."""
    return NotConnected(
        f"{where} is no IB Gateway: {words}",
        hint="is this the API's port? 4001 and 4002 are IB Gateway's, 7496 and 7497 TWS's",
    )


def too_old(where: str, version: int, oldest: int) -> NotConnected:
    """Its protocol is none that is understood here."""
    return NotConnected(
        f"{where} speaks protocol {version}; {oldest} is the oldest of use",
        code=503,
        hint="install a current IB Gateway or TWS",
    )


def _system_text(error: Exception) -> str:
    """The system's own words, such as "Connection refused"."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(error)
