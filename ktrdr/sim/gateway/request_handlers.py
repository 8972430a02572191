"""The handlers of requests: a request in, its response messages out. No sockets, no waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ktrdr.sim.gateway import answers, history, refusals
from ktrdr.sim.gateway.live_updates import Subscription
from ktrdr.sim.gateway.refusals import Refusal
from ktrdr.sim.gateway.wire import Request
from ktrdr.sim.market import contract_list
from ktrdr.sim.market.contracts import Contract
from ktrdr.sim.market.market import Market

SCHEDULE_SINCE = 165
"""The first protocol version with historical schedules."""


@dataclass(frozen=True)
class Reply:
    """The response to the client, and its data for the record."""

    message: bytes
    bars: int = 0
    """The number of bars, which adds to the latency."""
    error_code: int | None = None
    until_s: int = 0
    """The time to which it has the bars (UTC seconds), for bars that are kept up to date."""


class RequestHandlers:
    """The handlers of one gateway, with its market, its account and its clock."""

    def __init__(
        self,
        market: Market,
        account: str,
        now: Callable[[], datetime],
        meant: Callable[[Contract], Contract] = lambda contract: contract,
    ) -> None:
        """`meant`: from the usual contract of a symbol to the one that it means now."""
        self._meant = meant
        self.market = market
        self.account = account
        self.now = now
        self._answers: dict[str, Callable[[Request, int], Reply]] = {
            "historical_data": self._historical_data,
            "schedule": self._schedule,
            "contract_details": self._contract_details,
            "head_timestamp": self._head_timestamp,
            "current_time": lambda *_: Reply(answers.current_time(self.now())),
            "positions": lambda *_: Reply(answers.positions_end()),
            "open_orders": lambda *_: Reply(answers.open_orders_end()),
            "completed_orders": lambda *_: Reply(answers.completed_orders_end()),
            "executions": lambda r, _: Reply(answers.executions_end(r.request_id)),
            "account_updates": self._account_updates,
            "account_updates_multi": self._account_updates_multi,
            "managed_accounts": lambda *_: Reply(answers.managed_accounts(self.account)),
            "ids": lambda *_: Reply(answers.next_valid_id()),
            "place_order": self._refuse_order,
            "cancel_order": self._refuse_order,
            "auto_open_orders": _nothing,
            "cancel_positions": _nothing,
            "cancel_account_updates_multi": _nothing,
            "cancel_head_timestamp": _nothing,
        }

    def reply(self, request: Request, version: int, shift_s: int = 0) -> Reply | None:
        """The response in protocol `version`; None: the message is not supported here.

        `shift_s`: seconds by which longer intraday bars begin later than usual.
        """
        if request.kind not in self._answers:
            return None
        try:
            if shift_s and request.kind == "historical_data":
                return self._historical_data(request, version, shift_s)
            return self._answers[request.kind](request, version)
        except Refusal as refused:
            return refuse(request, version, refused)

    def subscription(self, request: Request, version: int) -> Subscription:
        """What a history request keeps up to date. Refusals as for the request."""
        contract = self._the_contract(request)
        return Subscription(contract, history.check(contract, request), request, version)

    def _historical_data(self, request: Request, version: int, shift_s: int = 0) -> Reply:
        contract = self._the_contract(request)
        now_s = int(self.now().timestamp())
        end = history.parse_end(request.end, now_s)
        found = history.find_bars(self.market, contract, request, end.time_s, now_s, shift_s)
        message = answers.historical_data(
            version,
            request.request_id,
            found.bars,
            (found.start_s, found.end_s),
            request.format_date,
            daily=found.size.is_daily,
        )
        return Reply(
            _zone_warning(end, request, version) + message,
            bars=len(found.bars),
            until_s=found.end_s,
        )

    def _schedule(self, request: Request, version: int) -> Reply:
        if version < SCHEDULE_SINCE:
            raise refusals.invalid(f"SCHEDULE is served from protocol {SCHEDULE_SINCE} on")
        contract = self._the_contract(request)
        end = history.parse_end(request.end, int(self.now().timestamp()))
        found = history.find_sessions(self.market, contract, request, end.time_s)
        message = answers.schedule(request.request_id, found)
        return Reply(_zone_warning(end, request, version) + message)

    def _contract_details(self, request: Request, version: int) -> Reply:
        found = self._contracts(request)
        if not found:
            raise refusals.unknown_contract()
        details = [
            answers.contract_details(version, request.request_id, one, self.now()) for one in found
        ]
        return Reply(b"".join([*details, answers.contract_details_end(request.request_id)]))

    def _head_timestamp(self, request: Request, version: int) -> Reply:  # noqa: ARG002
        contract = self._the_contract(request)
        if not contract.is_entitled:
            raise refusals.not_permitted(contract.primary_exchange, contract.sec_type)
        if contract.sec_type == "CRYPTO" and request.what_to_show == "TRADES":
            raise refusals.wants_aggregated_trades()
        head_s = self.market.head_s(contract, regular=request.use_rth)
        if head_s is None or request.what_to_show not in contract.what_to_show:
            raise refusals.historical(f"No head time stamp for {contract.local_symbol}")
        return Reply(answers.head_timestamp(request.request_id, head_s, request.format_date))

    def _account_updates(self, request: Request, version: int) -> Reply:  # noqa: ARG002
        if not request.subscribe:
            return _NOTHING
        return Reply(answers.account_updates(self.account, self.now()))

    def _account_updates_multi(self, request: Request, version: int) -> Reply:  # noqa: ARG002
        return Reply(answers.account_updates_multi(request.request_id, self.account))

    def _refuse_order(self, request: Request, version: int) -> Reply:  # noqa: ARG002
        raise refusals.read_only()

    def _contracts(self, request: Request) -> list[Contract]:
        today = contract_list.today(self.now())
        found = self.market.find(request.query, today) if request.query else []
        return [self._meant(contract) for contract in found]

    def _the_contract(self, request: Request) -> Contract:
        """The one requested contract. Refusal 200: there is none, or there are several."""
        found = self._contracts(request)
        if not found:
            raise refusals.unknown_contract()
        if len(found) > 1:
            raise refusals.ambiguous(found[0].symbol)
        return found[0]


def refuse(request: Request, version: int, refused: Refusal) -> Reply:
    """The response with an error message for a request."""
    message = answers.refusal(version, request.request_id, refused)
    return Reply(message, error_code=refused.code)


_NOTHING = Reply(b"")


def _nothing(request: Request, version: int) -> Reply:  # noqa: ARG001
    return _NOTHING


def _zone_warning(end: history.End, request: Request, version: int) -> bytes:
    if not end.without_zone:
        return b""
    return answers.refusal(version, request.request_id, refusals.zone_missing())
