"""`ktrdr contract`: the contracts that a symbol may stand for at IB."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.completion import complete_symbol
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_json, show_line, show_next, show_rows
from ktrdr.health.peers import Peers
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.series_messages import CandidateContract

_COLUMNS = ("con_id", "local symbol", "exchange", "currency", "expiry", "name", "chosen by")


def contract(
    symbol: Annotated[
        str,
        typer.Argument(
            help="As in file names, such as AAPL, 'BRK B', ESZ6.", autocompletion=complete_symbol
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Show which contracts a symbol may stand for.

    They are shown as a table and as lines for instruments.toml. Exit code 1 if IB knows none.

    Example: ktrdr contract TWIN
    """
    found = Peers(settings_of_group()).candidates(symbol)
    if as_json:
        show_json(to_json(found))
    elif found.candidates:
        show_candidates(found.candidates)
        show_toml(found.candidates)
    else:
        show_line(found.message)
        show_next(found.hint)
    if not found.candidates:
        sys.exit(ExitCode.NOT_GREEN)


def show_candidates(candidates: Sequence[CandidateContract]) -> None:
    """Show contracts as a table."""
    show_rows(_COLUMNS, [_row(one) for one in candidates])


def show_toml(candidates: Sequence[CandidateContract]) -> None:
    """Show the lines for instruments.toml that choose one of several contracts."""
    if any(one.toml for one in candidates):
        show_line("\nto choose one, put its two lines into instruments.toml:")
    for one in candidates:
        if one.toml:
            show_line(f"\n# {one.local_symbol}: {one.exchange}, {one.currency}, {one.name}")
            show_line(one.toml)


def _row(one: CandidateContract) -> tuple[str, ...]:
    chosen = ", ".join(f"{name} = {value}" for name, value in one.fields.items())
    of_contract = (one.local_symbol, one.exchange, one.currency, one.expiry, one.name)
    return (str(one.con_id), *of_contract, chosen or "the symbol alone")
