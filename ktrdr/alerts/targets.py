"""Where notifications go, through apprise. Their names here tell none of their secrets."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable

import apprise

from ktrdr.alerts.wording import Message
from ktrdr.config.alert_targets import scheme_of
from ktrdr.errors import Misconfigured

_ROUNDS = 100_000
_SECRET = 4
"""The shortest part of a URL that is left out of an error."""

_SEND_S = 60.0
_of_apprise = logging.getLogger("apprise")
_of_apprise.propagate = False  # its lines have parts of URLs
_of_apprise.addHandler(logging.NullHandler())


class Target:
    """One target: its name and fingerprint, and sending to it."""

    def __init__(self, number: int, url: str) -> None:
        """Misconfigured: apprise does not understand the URL."""
        self.name = f"target {number} ({scheme_of(url)})"
        made = hashlib.pbkdf2_hmac("sha256", url.encode(), b"ktrdr alerts", _ROUNDS)
        self.fingerprint = made.hex()[:16]
        self._secrets = {part for part in re.split(r"[/:@?&=,]+", url) if len(part) >= _SECRET}
        self._apprise = apprise.Apprise()
        try:
            is_understood = self._apprise.add(url)
        except (TypeError, ValueError):
            is_understood = False
        if not is_understood:
            raise Misconfigured(
                f"KTRDR_ALERTS, {self.name}: apprise does not understand it: expected a URL"
                " as in docs/alerts.md"
            )

    def send(self, message: Message) -> str:
        """Why the target did not take the message; empty: it did. Blocks while it is slow."""
        reasons: list[str] = []
        kind = apprise.NotifyType.SUCCESS if message.is_good else apprise.NotifyType.WARNING
        try:
            result = self._apprise.notify(
                body=message.body,
                title=message.title,
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,
                timeout=_SEND_S,
            )
            reasons += [str(entry.message) for entry in result.logs()]
            taken = bool(result)
        except Exception as error:  # noqa: BLE001  any of a hundred services' clients
            taken, reasons = False, [f"{type(error).__name__}: {error}"]
        if taken:
            return ""
        return self._without_secrets(reasons[0] if reasons else "it did not take the message")

    def _without_secrets(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "…")
        return text


def read_targets(urls: Iterable[str]) -> list[Target]:
    """The targets, in their order. Misconfigured: one of them is not understood."""
    return [Target(number, url) for number, url in enumerate(urls, start=1)]
