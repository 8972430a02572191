"""The targets of alerts as in the setting: URLs of apprise. What each means is apprise's to say."""

from __future__ import annotations

import re

TARGETS_RULE = (
    "URLs of apprise such as ntfy://ntfy.sh/topic, separated by spaces or commas (docs/alerts.md)"
)
_NEXT = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def split_targets(text: str) -> list[str]:
    """The URLs in a setting, which may have commas in them. ValueError has what was expected."""
    urls = [url.strip(" ,\t\r\n") for url in _NEXT.split(text.strip(" ,\t\r\n"))]
    if not all(map(_URL.fullmatch, urls)):
        raise ValueError(TARGETS_RULE)
    return urls


def scheme_of(url: str) -> str:
    """The part of a target that is no secret: `ntfy`."""
    return url.partition("://")[0].lower()
