"""The exceptions of all programs, with the HTTP status of each, as one tree by what happens next.

`Retryable`      may work later: it is retried with growing delays.
`Permanent`      does not work until a person changes something.
`Misconfigured`  the program cannot work with its settings: it reports why in one line and stops.
"""

from __future__ import annotations

from typing import ClassVar


class KtrdrError(Exception):
    """Base of all errors of this project.

    `code` is IB's error code where IB gave one; `hint` is the next step for a person. Its `str`,
    and so a traceback, has message and hint; what shows the hint elsewhere shows `message`.
    """

    outcome: ClassVar[str] = "failed"
    """The name of this error in the local API and in the ledger."""
    http_status: ClassVar[int] = 500
    """The response of each of our servers: 4xx where the caller must change something, else 5xx."""

    def __init__(self, message: str, *, code: int | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} – next step: {self.hint}" if self.hint else self.message


class Retryable(KtrdrError):
    """It may work later."""

    http_status = 503


class Permanent(KtrdrError):
    """It will not work until a person changes something."""

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
    """IB reports too many requests in too short a time."""

    outcome = "paced"
    http_status = 429


class CompetingSession(Retryable):
    """The same user is logged in elsewhere, and IB gives the data to that session."""

    outcome = "competing_session"


class PeerDown(Retryable):
    """Another program of the group does not answer on its socket."""

    outcome = "peer_down"


class PeerTimedOut(PeerDown):
    """The program accepts the request but does not answer in time: only that request fails."""


class StoreUnwritable(Retryable):
    """The file system refused: full, read-only, locked. The old file is whole."""

    outcome = "store_unwritable"


class StoreGone(StoreUnwritable):
    """The store's folder is gone, or is another one: all facts about it are out of date."""


class NotEntitled(Permanent):
    """The account has no market data subscription or permission for this contract."""

    outcome = "not_entitled"
    http_status = 403


class UnknownContract(Permanent):
    """IB knows no such contract, or several."""

    outcome = "unknown_contract"
    http_status = 404


class AmbiguousContract(UnknownContract):
    """IB knows several contracts by this symbol, and none of them was chosen."""

    outcome = "ambiguous_contract"
    http_status = 409


class OtherContract(Permanent):
    """The symbol is now another contract than the one whose bars are stored."""

    outcome = "other_contract"


class ContractConflict(Permanent):
    """The symbol is kept as another contract than the one that was named."""

    outcome = "contract_conflict"
    http_status = 409


class UnknownSeries(Permanent):
    """The store has no file for this series."""

    outcome = "unknown_series"
    http_status = 404


class UnknownFill(Permanent):
    """The store has no fill with this number, or no open one of this series."""

    outcome = "unknown_fill"
    http_status = 404


class InvalidRequest(Permanent):
    """The request itself is wrong."""

    outcome = "invalid_request"


class ProgramRefused(Permanent):
    """supervisord does not do this to the program in the state that it is in."""

    outcome = "program_refused"
    http_status = 409


class MalformedFile(Permanent):
    """A bar file that does not have the documented format. It is left as it is."""

    outcome = "malformed_file"
    http_status = 422


class NotUnderstood(Permanent):
    """The rows of others in a bar file mean other times than they seem to.

    Nothing is written: IB's bars do not belong between them.
    """

    outcome = "not_understood"
    http_status = 422


class NotReleasable(Permanent):
    """ktrdr's rows cannot be told from those of others in a bar file, or there are no others."""

    outcome = "not_releasable"
    http_status = 409


class OtherUnit(Permanent):
    """IB reports a whole series in another unit than its file, which has foreign rows.

    Nothing is written: the file must not mix two units.
    """

    outcome = "other_unit"


class WrongSource(Misconfigured):
    """Simulated bars must not enter a live store, nor live ones a simulated store."""

    outcome = "wrong_source"
    http_status = 409


class AlreadyRunning(Misconfigured):
    """Another process has this run folder's lock."""

    outcome = "already_running"
