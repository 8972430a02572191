"""Errors of a gateway that is unreachable, unresponsive or not a gateway, each with a hint."""

from __future__ import annotations

import os

from ktrdr.errors import ConnectionClosedEarly, GatewayUnresponsive, NotConnected


def cannot_connect(where: str, error: Exception) -> NotConnected:
    """The system reports an error; UnicodeError: the host is not a valid name."""
    return NotConnected(
        f"cannot connect to {where}: {_system_text(error)}",
        code=502,
        hint="is IB Gateway running and logged in, is its API enabled, is this its port?",
    )


def unreachable(where: str) -> NotConnected:
    """The connection is neither accepted nor refused."""
    return NotConnected(
        f"{where} does not answer",
        code=502,
        hint="is that machine up, does a firewall let this through, is the gateway stuck?",
    )


def unresponsive(where: str, held: int) -> GatewayUnresponsive:
    """The connection was accepted, and no answer came; `held`: bytes of an unfinished message."""
    half = f" beyond {held} bytes of a message" if held else ""
    return GatewayUnresponsive(
        f"{where} accepts connections but does not respond{half}",
        code=504,
        hint="restart the gateway, and log in if it waits for that",
    )


def closed(where: str) -> NotConnected:
    """The gateway closed the connection."""
    return NotConnected(f"{where} closed the connection")


def closed_before_greeting(where: str) -> ConnectionClosedEarly:
    """The port accepts connections and closes them without sending anything."""
    return ConnectionClosedEarly(
        f"{where} closed the connection during the handshake",
        hint="a forwarder without a gateway behind it, or an address that the "
        "gateway does not trust (API settings, Trusted IPs)",
    )


def no_gateway(where: str, words: str) -> NotConnected:
    """A program other than a gateway answers there."""
    return NotConnected(
        f"{where} is no IB Gateway: {words}",
        hint="is this the API's port? 4001 and 4002 are IB Gateway's, 7496 and 7497 TWS's",
    )


def too_old(where: str, version: int, oldest: int) -> NotConnected:
    """The gateway's protocol is older than any supported one."""
    return NotConnected(
        f"{where} speaks protocol {version}; at least {oldest} is needed",
        code=503,
        hint="install a current IB Gateway or TWS",
    )


def _system_text(error: Exception) -> str:
    """The system's error text, such as "Connection refused"."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(error)
