"""The exception tree: what went wrong, and so what happens next. Nothing is handled here.

`Retryable`      ask again later, with growing delays.
`Permanent`      asking again does not help until somebody changes something.
`Misconfigured`  the program cannot work like this: it says why in one line and stops.
"""

from __future__ import annotations

from typing import ClassVar


class KtrdrError(Exception):
    """Base of all errors of this project.

    `code` is IB's error code where IB gave one; `hint` is the next step for a person.
    """

    outcome: ClassVar[str] = "failed"
    """The name of this error in the local API and in the ledger."""
    http_status: ClassVar[int] = 500
    """What each of our servers answers: 4xx where it is the caller's turn, 5xx where it is ours."""

    def __init__(self, message: str, *, code: int | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint


class Retryable(KtrdrError):
    """It may work later."""

    http_status = 503


class Permanent(KtrdrError):
    """It will not work until somebody changes something."""

    http_status = 400


class Misconfigured(KtrdrError):
    """The program cannot do its work with these settings."""

    outcome = "misconfigured"


class RequestFailed(Retryable):
    """IB answered with an unknown error: a failure, never "no data"."""


class NotConnected(Retryable):
    """There is no connection to IB, or it broke before the answer came."""

    outcome = "not_connected"


class IdInUse(NotConnected):
    """Another client has this client id (IB's 326)."""

    outcome = "id_in_use"


class GatewayUnresponsive(NotConnected):
    """The gateway accepts the connection but does not respond: restarting it helps."""


class ConnectionClosedEarly(NotConnected):
    """The connection was closed during the handshake."""


class TimedOut(Retryable):
    """No answer within the time that a request of this size may take."""

    outcome = "timed_out"


class PacingViolation(Retryable):
    """IB says that too much was requested in too short a time."""

    outcome = "paced"
    http_status = 429


class CompetingSession(Retryable):
    """The same user is logged in elsewhere, and IB gives the data to that session."""

    outcome = "competing_session"


class PeerDown(Retryable):
    """Another program of the group does not answer on its socket."""

    outcome = "peer_down"


class PeerTimedOut(PeerDown):
    """It accepts the request and does not answer in time: only that request fails."""


class StoreUnwritable(Retryable):
    """The file system refused: full, read-only, locked. The old file is whole."""

    outcome = "store_unwritable"


class StoreGone(StoreUnwritable):
    """Its folder is gone, or is another one: what was known of it is out of date."""


class NotEntitled(Permanent):
    """The account has no market data subscription or permission for this contract."""

    outcome = "not_entitled"
    http_status = 403


class UnknownContract(Permanent):
    """IB knows no such contract, or several."""

    outcome = "unknown_contract"
    http_status = 404


class OtherContract(Permanent):
    """The symbol has become another contract, whose bars are not those that are stored."""

    outcome = "other_contract"


class UnknownSeries(Permanent):
    """The store has no file for this series."""

    outcome = "unknown_series"
    http_status = 404


class UnknownFill(Permanent):
    """The store has no fill of this number, or none of this series that is open."""

    outcome = "unknown_fill"
    http_status = 404


class InvalidRequest(Permanent):
    """The request itself is wrong."""

    outcome = "invalid_request"


class MalformedFile(Permanent):
    """A bar file that cannot be read as the contract says. It is left as it is."""

    outcome = "malformed_file"
    http_status = 422


class OtherUnit(Permanent):
    """IB reports a whole series in another unit than its file, which has foreign rows.

    Nothing is written, so that the file is not half in one unit and half in the other.
    """

    outcome = "other_unit"


class WrongSource(Misconfigured):
    """Simulated bars must not enter a live store, nor live ones a simulated store."""

    outcome = "wrong_source"
    http_status = 409


class AlreadyRunning(Misconfigured):
    """Another process has this run folder's lock."""

    outcome = "already_running"
