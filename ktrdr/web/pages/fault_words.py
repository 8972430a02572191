"""What each fault of the simulated gateway is called, and what ktrdr says and does about it.

Each sentence was seen in a running group, with the fault's default parameters. docs/simulator.md
has the same table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FaultWords:
    """A fault in plain words."""

    title: str
    group: str
    """One of GROUPS."""
    says: str
    """What ktrdr says while it is in force; code in backquotes."""
    does: str
    """What ktrdr does about it, and when all is well again."""


_CONNECTION = "Connection"
_OUTAGES = "Outages at IB"
_LIES = "Lies about contracts and sessions"
_BARS = "Wrong bars"
_REQUESTS = "Requests that fail"
_STREAMS = "Live bars"
_CLOCK = "Clock"
OTHERS = "Others"

GROUPS = (_CONNECTION, _OUTAGES, _LIES, _BARS, _STREAMS, _REQUESTS, _CLOCK, OTHERS)
"""The groups of faults, in the order of the page."""

_WHILE_OPEN = "Nothing as long as the open connection lasts."
_WITH_DROP = f"{_WHILE_OPEN} When that is closed as well (`drop`):"
_SECONDS_LATER = "Nothing: the newest bars come a few seconds later."

FAULT_WORDS = {
    "drop": FaultWords(
        "Close all connections",
        _CONNECTION,
        "“not connected (connecting)” for less than a second.",
        "It connects again at once, and requests again what was open.",
    ),
    "refuse": FaultWords(
        "Refuse new connections",
        _CONNECTION,
        f"{_WITH_DROP} at once “cannot connect to …: Connection refused”, and "
        "to start the gateway.",
        "It tries again after 5, 10, 30 s and so on, and is connected seconds after the end.",
    ),
    "half_open": FaultWords(
        "Open connections go silent",
        _CONNECTION,
        "Within 30 s “the gateway has answered nothing for 30 s”, for a second.",
        "It closes the silent connection and opens another one, which works.",
    ),
    "wedged": FaultWords(
        "New connections stay silent",
        _CONNECTION,
        f"{_WITH_DROP} within 16 s “accepts connections but does not respond”, and to restart the "
        "gateway.",
        "It tries again, for 15 s each time, and is connected seconds after the end.",
    ),
    "too_early": FaultWords(
        "The next connection is too early",
        _CONNECTION,
        f"{_WITH_DROP} within 16 s “accepts connections but does not respond”.",
        "The next attempt, 5 s later, is answered.",
    ),
    "untrusted": FaultWords(
        "Our address is not trusted",
        _CONNECTION,
        f"{_WITH_DROP} within a second “closed the connection during the handshake”, and to "
        "look at the gateway's Trusted IPs.",
        "It tries again after 5, 10, 30 s and so on, and is connected at the first try after the "
        "end.",
    ),
    "old_version": FaultWords(
        "An outdated gateway",
        _CONNECTION,
        f"{_WITH_DROP} within a second “speaks protocol 140; at least 157 is needed”, and to "
        "install a current gateway.",
        "It tries again after 5, 10, 30 s and so on, and is connected at the first try after the "
        "end.",
    ),
    "stall": FaultWords(
        "Everything is held back",
        _CONNECTION,
        "Within 30 s “the gateway has answered nothing for 30 s”; 15 s later “accepts connections "
        "but does not respond”, and to restart the gateway.",
        "It closes the connection and tries again; it is connected seconds after the end.",
    ),
    "slow_drip": FaultWords(
        "A very slow line",
        _CONNECTION,
        "No error: what is being filled takes longer.",
        "It waits, as long as something arrives: a slow answer is no dead connection.",
    ),
    "truncated": FaultWords(
        "A message breaks off",
        _CONNECTION,
        "“not connected” as soon as the next message is due, within seconds.",
        "Nothing of the torn message is used. It connects again after the end, and requests again.",
    ),
    "garbage": FaultWords(
        "Bytes that are no message",
        _CONNECTION,
        "“not connected” for less than a second, or nothing that one could see.",
        "It drops that connection and opens another one.",
    ),
    "restart": FaultWords(
        "The nightly restart",
        _CONNECTION,
        "Within a second “cannot connect to …: Connection refused”, and to start the gateway.",
        "It tries again, and is connected seconds after the end. A restart at the hour that it has "
        "learnt is announced and no alarm.",
    ),
    "logged_out": FaultWords(
        "Logged out until somebody logs in",
        _CONNECTION,
        "Within a second “cannot connect to …: Connection refused”, and to log in.",
        "It tries again, and is connected seconds after the log-in, which is the fault's end.",
    ),
    "connectivity_lost": FaultWords(
        "The gateway loses IB's servers",
        _OUTAGES,
        "Within a second “connected, but no data come … (upstream lost)”; series that lack bars "
        "are "
        "“waiting”.",
        "Nothing is requested until the gateway has IB's servers again; then what was open is.",
    ),
    "notice": FaultWords(
        "One notice of IB's",
        _OUTAGES,
        "With 2103, within a second “data farms of IB's are broken: usfarm”, until IB says that it "
        "is back (2104).",
        "It goes on filling: history comes from another farm.",
    ),
    "farm_broken": FaultWords(
        "A data farm breaks",
        _OUTAGES,
        "Within a second “IB's history farm ushmds is broken”, and series that lack bars are "
        "“waiting”.",
        "A refused request counts as failed, never as “no data”; it is repeated after the end.",
    ),
    "competing_session": FaultWords(
        "Somebody else uses the log-in",
        _OUTAGES,
        "At the next request “connected, but no data come … (competing session)”, with IB's words.",
        "It tries one small request now and then, and goes on within half a minute after the end.",
    ),
    "false_200": FaultWords(
        "No contract is known",
        _LIES,
        "For a series added meanwhile: “IB knows no contract at present, not even AMZN, so that "
        "nothing is known of …”; it is “to be tried again”.",
        "A contract that is known to be good is requested too: as that is denied as well, it "
        "is not believed. From the third one on, a request or a probe tests it twice a minute, and "
        "all are requested again within half a minute after the end.",
    ),
    "false_no_data": FaultWords(
        "“No data” for everything",
        _LIES,
        "What is being filled becomes “waiting for proof that bars are absent”.",
        "One “no data” proves nothing. The same bars are requested again after 5 and 35 minutes, "
        "beside a control that must be answered.",
    ),
    "cut_schedule": FaultWords(
        "Sessions are missing",
        _LIES,
        "A series added meanwhile is “waiting for proof that bars are absent”.",
        "Days on which a stock usually trades stay expected; the sessions are requested again "
        "after "
        "5 and 30 minutes.",
    ),
    "odd_session": FaultWords(
        "A session that closes at an odd time",
        _LIES,
        "A series added meanwhile is “waiting for proof that bars are absent”.",
        "A session that cannot be read is replaced by its weekday's usual one. The sessions are "
        "requested again, minutes later.",
    ),
    "zone_name": FaultWords(
        "A time zone's unknown name",
        _LIES,
        "With `contract` Mars/Phobos: nothing.",
        "A zone that it does not know is not used; the other answers have one that it does.",
    ),
    "late_head": FaultWords(
        "A late first bar",
        _LIES,
        "Nothing: a series that is wanted for the last years begins after either day.",
        "A first bar that is said to be late is never believed against bars that are stored, and "
        "requested again the next day.",
    ),
    "other_contract": FaultWords(
        "A symbol becomes another contract",
        _LIES,
        "If the symbol has bars in the store, at its next request it needs you: “IB revised all "
        "prices times 1.08”, with what to do.",
        "The bars are compared before anything is written, and nothing is added in other prices. "
        "It is compared again after 1, 5 and 30 minutes.",
    ),
    "cut_bars": FaultWords(
        "Half of the bars are missing",
        _BARS,
        "What is being filled is “waiting” for some seconds, and is completed all the same.",
        "It requests again what is missing at an end of an answer.",
    ),
    "missing_bars": FaultWords(
        "Every third bar is missing",
        _BARS,
        "What is being filled becomes “waiting for proof that bars are absent”.",
        "The bars that came are stored; the others are requested again at another time before they "
        "are believed absent.",
    ),
    "doubled_bars": FaultWords(
        "Each bar comes twice", _BARS, "Nothing.", "Equal bars are stored once."
    ),
    "unordered_bars": FaultWords(
        "Bars out of order", _BARS, "Nothing.", "Bars are sorted before they are stored."
    ),
    "wrong_bars": FaultWords(
        "Impossible bars",
        _BARS,
        "What is being filled stays incomplete and “waiting”.",
        "Impossible bars are not stored, the sound ones are. The answer proves nothing about the "
        "others: they are requested again minutes later.",
    ),
    "odd_field": FaultWords(
        "A field that is no number",
        _BARS,
        "What is being filled stays incomplete and “waiting”.",
        "The bar is not stored, and the answer proves nothing about what it lacks: it is "
        "requested again minutes later.",
    ),
    "other_unit": FaultWords(
        "Prices in another unit",
        _BARS,
        "A series with bars needs you at its next request: “IB revised all prices times 0.01 (a "
        "change of unit?)”. One without bars is filled as IB says.",
        "A file never mixes two units: nothing is added to it. It is compared again after 1, 5 "
        "and 30 minutes.",
    ),
    "other_grid": FaultWords(
        "Bars begin at other minutes",
        _BARS,
        "A series of larger bars, such as 1h, stays incomplete and “waiting”.",
        "Bars at other minutes than expected are believed when they come again, minutes later.",
    ),
    "refused": FaultWords(
        "An error for one kind of request",
        _REQUESTS,
        "With the default, a series added meanwhile is “waiting for proof that bars are absent”.",
        "A refusal of the sessions is no statement about them: the usual ones are expected, and "
        "it asks again minutes later.",
    ),
    "silent_streams": FaultWords(
        "Streams go silent",
        _STREAMS,
        _SECONDS_LATER,
        "A bar that has not come from its stream 4 s after its end is requested, as any "
        "other; after two in a row the stream is opened anew.",
    ),
    "ended_streams": FaultWords(
        "Streams end with an error",
        _STREAMS,
        "Nothing.",
        "A stream that ends is opened again, and what it missed is requested.",
    ),
    "wrong_updates": FaultWords(
        "Streams send wrong bars",
        _STREAMS,
        "Nothing.",
        "What cannot be right is named in ib-connection's log, not stored, and requested "
        "instead. What a stream sent is compared with IB's settled bars every 30 bars, and "
        "corrected.",
    ),
    "late_updates": FaultWords(
        "Streams are late",
        _STREAMS,
        _SECONDS_LATER,
        "Bars that are not there 4 s after their end are requested.",
    ),
    "update_flood": FaultWords(
        "Streams send far too much",
        _STREAMS,
        "Nothing.",
        "Only the last form of a bar counts.",
    ),
    "unanswered": FaultWords(
        "Requests for data get no answer",
        _REQUESTS,
        "Within half a minute of a request “no data come”; up to 15 s later “the gateway gives the "
        "time, but answers no request for data” (history down).",
        "It gives such a request up after 30 s, connects again, and goes on within 40 s after "
        "the end.",
    ),
    "time_once": FaultWords(
        "Requests for the time are ignored",
        _REQUESTS,
        "Nothing.",
        "Any real answer counts as a sign of life, not only that one.",
    ),
    "late": FaultWords(
        "Late answers",
        _REQUESTS,
        "What is being filled takes longer; within half a minute “the gateway's clock and this "
        "machine's are 5 s apart”, for the time comes late too.",
        "It waits for the answers. The clocks agree again some 15 s after the end.",
    ),
    "kept_heads": FaultWords(
        "Answered requests stay open",
        _REQUESTS,
        "Nothing.",
        "A head-timestamp request is cancelled once it is answered.",
    ),
    "advisory_first": FaultWords(
        "A warning before the answer",
        _REQUESTS,
        "Nothing.",
        "It tells an advice from an error, and waits for the answer.",
    ),
    "unanswered_executions": FaultWords(
        "No answer about executions",
        _REQUESTS,
        f"{_WHILE_OPEN} A new connection works as well.",
        "It only reads bars, and does not depend on what a client's library requests besides.",
    ),
    "read_only_api": FaultWords(
        "A read-only API",
        _REQUESTS,
        f"{_WHILE_OPEN} A new connection works as well.",
        "It only reads, and needs no more.",
    ),
    "wrong_clock": FaultWords(
        "A wrong clock",
        _CLOCK,
        "Within 20 s “the gateway's clock and this machine's are 3600 s apart”, and to set both by "
        "the network's time.",
        "The clock that is behind decides which bars are finished, and nothing is proven absent "
        "until they agree.",
    ),
}
"""By the fault's name."""
