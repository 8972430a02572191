"""Conversions of UTC seconds to datetimes and to text. Reads no clock."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(time_s: float | None) -> datetime | None:
    """UTC seconds as a datetime; None stays None."""
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC)


def utc(time_s: float) -> datetime:
    """UTC seconds as a datetime."""
    return datetime.fromtimestamp(time_s, UTC)


def iso(time_s: float | None) -> str | None:
    """UTC seconds as ISO 8601, without fractions; None stays None."""
    return None if time_s is None else datetime.fromtimestamp(int(time_s), UTC).isoformat()
