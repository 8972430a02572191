"""A contract's sessions as JSON, and back; apart from the other messages, for they need numpy."""

from __future__ import annotations

from pydantic import ValidationError

from ktrdr import errors
from ktrdr.ipc.codec import adapter, first_problem
from ktrdr.ipc.messages import Json
from ktrdr.market.sessions import Schedule


def schedule_to_json(schedule: Schedule) -> Json:
    """The sessions in the answer of `GET /sessions`, without the days that IB denies."""
    encoded: Json = adapter(Schedule).dump_python(schedule, mode="json", exclude={"denied"})
    return encoded


def schedule_from_json(received: Json) -> Schedule:
    """The inverse of `schedule_to_json`. InvalidRequest: it has another form."""
    try:
        schedule = adapter(Schedule).validate_python(received)
    except ValidationError as error:
        why = first_problem(error)
        raise errors.InvalidRequest(f"sessions that cannot be read: {why}") from error
    if not schedule.is_sound:
        raise errors.InvalidRequest("sessions that overlap, or of a time zone that is not known")
    return schedule
