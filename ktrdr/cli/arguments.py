"""Arguments and options that several commands have, and their completion from the store."""

from __future__ import annotations

from typing import Annotated

import typer

from ktrdr.cli.completion import complete_symbol, complete_timeframe

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Symbol = Annotated[
    str, typer.Argument(help="Such as AAPL or 'BRK B'.", autocompletion=complete_symbol)
]
OnlySymbol = Annotated[
    str | None,
    typer.Argument(help="Only this symbol.", show_default=False, autocompletion=complete_symbol),
]
TimeframeName = Annotated[
    str, typer.Argument(help="1m 5m 15m 30m 1h 4h 1d", autocompletion=complete_timeframe)
]
OnlyTimeframe = Annotated[
    str | None,
    typer.Argument(
        help="Only this timeframe.", show_default=False, autocompletion=complete_timeframe
    ),
]
Start = Annotated[str | None, typer.Option(help="From this date or time on (UTC).")]
End = Annotated[str | None, typer.Option(help="Before this date or time (UTC).")]
