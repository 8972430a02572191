"""The errors that are sent instead of responses: IB's codes and texts. Sends none."""

from __future__ import annotations


class Refusal(Exception):
    """An error message to the client instead of a response.

    `code` and `text` are IB's (TWS API, "Message Codes"). Where IB's wording for a case is not
    known, the code is right and the text describes the case.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def unknown_contract() -> Refusal:
    """200: no contract, or more than one, matches the request."""
    return Refusal(200, "No security definition has been found for the request")


def ambiguous(symbol: str) -> Refusal:
    """200: more than one contract matches, and a request for data needs exactly one."""
    return Refusal(
        200,
        f"The contract description specified for {symbol} is ambiguous; "
        "you must specify the multiplier or currency.",
    )


def not_permitted(exchange: str, sec_type: str) -> Refusal:
    """162: history requires a subscription that the account does not have."""
    return historical(f"No market data permissions for {exchange} {sec_type}")


def end_of_continuous() -> Refusal:
    """10339: the history of a continuous future ends now, so the request must not set an end."""
    return Refusal(
        10339, "Setting end date/time for continuous future security type is not allowed."
    )


def no_data(local_symbol: str, exchange: str, what_to_show: str) -> Refusal:
    """162 with the text that means "there are no such bars"."""
    spellings = {"AGGTRADES": "AggTrades", "BID_ASK": "BidAsk", "ADJUSTED_LAST": "AdjustedLast"}
    what = spellings.get(what_to_show, what_to_show.title())
    return historical(f"HMDS query returned no data: {local_symbol}@{exchange} {what}")


def historical(text: str) -> Refusal:
    """162: IB's one code for all messages of the historical data service."""
    return Refusal(162, f"Historical Market Data Service error message:{text}")


def invalid(cause: str) -> Refusal:
    """321: the request itself is wrong."""
    return Refusal(321, f"Error validating request.-'sim' : cause - {cause}")


def no_farm() -> Refusal:
    """162 while the history farm is broken."""
    return historical("HMDS server disconnect occurred.  Attempting reconnection...")


def bad_end() -> Refusal:
    """10314: an end date that IB cannot read."""
    return Refusal(
        10314,
        "End Date/Time: The date, time, or time-zone entered is invalid. The correct format is "
        "yyyymmdd hh:mm:ss xx/xxxx where yyyymmdd and xx/xxxx are optional. "
        "E.g.: 20031126 15:59:00 US/Eastern Note that there is a space between the date and "
        "time, and between the time and time-zone. If no date is specified, current date is "
        "assumed. If no time-zone is specified, local time-zone is assumed(deprecated). You can "
        "also provide yyyymmddd-hh:mm:ss time is in UTC. Note that there is a dash between the "
        "date and time in UTC notation.",
    )


def zone_missing() -> Refusal:
    """2174, a warning: an end date without a zone; the response follows."""
    return Refusal(
        2174,
        "Warning: You submitted request with date-time attributes without explicit time zone. "
        "Please switch to use yyyymmdd-hh:mm:ss in UTC or use instrument time zone, like "
        "US/Eastern. Implied time zone functionality will be removed in the next API release",
    )


def wants_aggregated_trades() -> Refusal:
    """10299: crypto has AGGTRADES only."""
    return Refusal(10299, "Expected what to show is AGGTRADES, please use that instead of TRADES.")


def id_in_use() -> Refusal:
    """326: another connection has this client id; then the gateway closes the connection."""
    return Refusal(
        326, "Unable to connect as the client id is already in use. Retry with a unique client id."
    )


def duplicate_request(request_id: int) -> Refusal:
    """322: this request id is still being answered."""
    return Refusal(
        322, f"Error processing request.-'sim' : cause - Duplicate ticker id {request_id}"
    )


def cancelled(request_id: int) -> Refusal:
    """162: the client cancelled its request."""
    return historical(f"API historical data query cancelled: {request_id}")


def nothing_to_cancel(request_id: int) -> Refusal:
    """366: no history request with this id is open."""
    return Refusal(366, f"No historical data query found for ticker id:{request_id}")


def unreadable() -> Refusal:
    """320: the fields cannot be parsed."""
    return Refusal(320, "Error reading request: a field could not be read")


def read_only() -> Refusal:
    """321: the response to every order while "Read-Only API" is on."""
    return invalid("The API interface is currently in Read-Only mode.")


def pacing() -> Refusal:
    """162: too many requests for small bars, or an identical one too soon."""
    return historical("Historical data request pacing violation")


def too_many_open(limit: int) -> Refusal:
    """322: `limit` history requests are already open."""
    return Refusal(
        322,
        "Error processing request.-'sim' : cause - "
        f"Only {limit} simultaneous API historical data requests allowed.",
    )


def too_many_messages(limit: int, times: int) -> Refusal:
    """100: more messages in a second than IB allows; `times`: how often recently."""
    return Refusal(100, f"Max rate of messages per second has been exceeded:max={limit} ({times})")


def other_session() -> Refusal:
    """162: the same user has logged in elsewhere."""
    return historical("Trading TWS session is connected from a different IP address")


def no_live_updates() -> Refusal:
    """10182: a stream has ended, or could not begin, since its data farm is away.

    Its text is IB's (erdewit/ib_insync 670; nautechsystems/nautilus_trader 4412).
    """
    return Refusal(10182, "Failed to request live updates (disconnected).")


def bust() -> Refusal:
    """10225: IB has ended a stream of real-time bars, since trades were busted."""
    return Refusal(
        10225,
        "Bust event occurred, current subscription is deactivated. "
        "Please resubscribe real-time bars immediately.",
    )


def competing_session() -> Refusal:
    """10197: the same, with the code of market data."""
    return Refusal(10197, "No market data during competing live session")
