"""`ktrdr watch`: adds series to those that are kept complete, removes and lists them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson, Symbol, TimeframeName
from ktrdr.cli.completion import complete_series_word
from ktrdr.cli.contract import show_candidates
from ktrdr.cli.exit_codes import ExitCode, code_of
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_error, show_json, show_line, show_next, show_rows
from ktrdr.errors import InvalidRequest, KtrdrError, Permanent
from ktrdr.health.peers import Peers
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import Json
from ktrdr.ipc.series_messages import SeriesChange
from ktrdr.market.instruments import Series
from ktrdr.market.series_words import SeriesWanted, series_of_words, timeframe_of_word

watch = typer.Typer(
    help="The series that are kept complete.\n\nExample: ktrdr watch list",
    no_args_is_help=True,
    add_completion=False,
)

ConId = Annotated[int | None, typer.Option(help="The contract, by its number in `ktrdr contract`.")]
_Unchecked = Annotated[
    bool, typer.Option("--unchecked", help="Do not request the contract from IB first.")
]
_TRIALS = {
    "added": "would be added",
    "changed": "would be changed",
    "watched_again": "would be kept again",
}
"""What a trial says that changes something otherwise, by its outcome."""
_WORDS = "Symbols and timeframes, such as AAPL MSFT 'BRK B' 1m 1h."


@watch.command()
def add(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"{_WORDS[:-1]} since 2020.",
            show_default=False,
            autocompletion=complete_series_word,
        ),
    ] = None,
    *,
    from_file: Annotated[
        Path | None,
        typer.Option(help="One entry a line, with # comments; the words apply to each line."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be.")] = False,
    unchecked: _Unchecked = False,
    con_id: ConId = None,
    as_json: AsJson = False,
) -> None:
    """Keep series: each symbol in each timeframe.

    The contract is confirmed with IB before a file is made; where IB knows several, they are shown
    and nothing is made. A file that is there stays as it is. Exit code 1 if any was refused.

    Example: ktrdr watch add AAPL MSFT 'BRK B' 1m 1h since 2020

    Example: ktrdr watch add 1d --from-file universe.txt
    """
    peers = Peers(settings_of_group())
    wanted = _wanted(words or [], from_file)
    if con_id is not None and len({series.symbol for series in wanted}) > 1:
        raise InvalidRequest("--con-id is for one symbol", hint="add the others without it")
    more = {"con_id": str(con_id)} if con_id is not None else {}
    more |= {"unchecked": "true"} if unchecked else {}
    more |= {"dry_run": "true"} if dry_run else {}
    changes = _Changes(as_json=as_json)
    for series, since in wanted.items():
        of_series = {"since": since.isoformat()} if since else {}
        changes.make(peers.add_series, series, of_series | more)
    changes.end()


@watch.command()
def remove(
    words: Annotated[list[str], typer.Argument(help=_WORDS, autocompletion=complete_series_word)],
    *,
    as_json: AsJson = False,
) -> None:
    """Do not keep series any more; their files stay.

    `ktrdr watch add` undoes it. Exit code 2 if one of them is not there.

    Example: ktrdr watch remove AAPL 1m
    """
    peers = Peers(settings_of_group())
    wanted = _read(_text_of(words))
    if wanted.since is not None:
        raise InvalidRequest("since: nothing that remove needs", hint="leave it out")
    changes = _Changes(as_json=as_json)
    for series in wanted.series:
        changes.make(
            lambda query: peers.remove_series(query["symbol"], query["timeframe"]), series, {}
        )
    changes.end()


@watch.command("set")
def change(
    symbol: Symbol,
    timeframe: TimeframeName,
    *,
    since: Annotated[
        str | None,
        typer.Option(help="History from this day on; with '' only that of the last days."),
    ] = None,
    con_id: ConId = None,
    as_json: AsJson = False,
) -> None:
    """Change since when a series is kept, or which contract it is, in instruments.toml.

    Bars that are there stay. A contract holds for all timeframes of its symbol.

    Example: ktrdr watch set AAPL 1m --since 2015-01-01
    """
    given = {"since": since, "con_id": None if con_id is None else str(con_id)}
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise typer.BadParameter("expected --since or --con-id")
    series = Series(symbol, timeframe_of_word(timeframe))
    changes = _Changes(as_json=as_json)
    changes.make(Peers(settings_of_group()).change_series, series, wanted)
    changes.end()


@watch.command("list")
def list_all(*, as_json: AsJson = False) -> None:
    """List all files of the store, kept or not, and from which day on history is wanted.

    Example: ktrdr watch list
    """
    peers = Peers(settings_of_group())
    listed = peers.watch_list()
    if as_json:
        show_json(to_json(listed))
        return
    rows = [
        (
            f"{one.symbol}_{one.timeframe}",
            one.state.replace("_", " "),
            f"{one.since.date()}" if one.since else "",
        )
        for one in listed.series
    ]
    show_rows(("series", "state", "since"), rows)


class _Changes:
    """The changes of a command, one series after the other, as they are shown."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._listed: list[Json] = []
        self._code = ExitCode.GREEN
        self._shown: set[str] = set()
        """Symbols whose candidates were shown."""

    def make(
        self,
        change: Callable[[Mapping[str, str]], SeriesChange],
        series: Series,
        more: Mapping[str, str],
    ) -> None:
        """Make one and show what became of it; one that is refused does not stop the others."""
        query: dict[str, str] = {
            "symbol": series.symbol,
            "timeframe": series.timeframe.value,
            **more,
        }
        try:
            made = change(query)
        except Permanent as error:
            self._code = max(self._code, code_of(error))
            self._listed.append(query | {"outcome": error.outcome, "message": error.message})
            if not self._as_json:
                show_error(error, str(series))
            return
        except KtrdrError:  # the others would fail as well
            if self._as_json:
                show_json({"series": self._listed})
            raise
        self._code = max(self._code, ExitCode.NOT_GREEN if made.is_refused else ExitCode.GREEN)
        self._listed.append(to_json(made))
        if not self._as_json:
            self._show(made)

    def _show(self, made: SeriesChange) -> None:
        """Show a change; the candidates of a symbol only once."""
        is_kept = not made.is_refused and made.outcome not in ("removed", "not_watched")
        since = f", from {made.since.date()} on" if is_kept and made.since else ""
        trial = " (only shown: nothing was changed)" if is_kept and made.is_trial else ""
        words = _TRIALS.get(made.outcome) if made.is_trial else None
        message = f"{made.symbol}_{made.timeframe} {words}" if words else made.message
        show_line(f"{message}{since}{trial}")
        if not made.is_refused or made.symbol in self._shown:
            return
        self._shown.add(made.symbol)
        if made.candidates:
            show_candidates(made.candidates)
            command = f"ktrdr watch add {shlex.quote(made.symbol)} {made.timeframe}"
            show_next(f"choose one: {command} --con-id {made.candidates[0].con_id}")
        else:
            show_next(made.hint)

    def end(self) -> None:
        """End the command; its exit code says whether any was refused."""
        if self._as_json:
            show_json({"series": self._listed})
        sys.exit(self._code)


def _wanted(words: Sequence[str], from_file: Path | None) -> dict[Series, date | None]:
    """Series → the day from which history is wanted. InvalidRequest names the line, or the word."""
    text = _text_of(words)
    if from_file is None:
        return _by_series([_read(text)])
    return _by_series(_read_lines(from_file, text))


def _read_lines(path: Path, more: str) -> Iterator[SeriesWanted]:
    """The entries of a file; the words of the command apply to each of them."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--from-file {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if entry:
            try:
                yield _read(f"{entry} {more}")
            except InvalidRequest as error:
                where = f"{path}, line {number}: {error.message}"
                raise InvalidRequest(where, hint=error.hint) from None


def _by_series(entries: Iterable[SeriesWanted]) -> dict[Series, date | None]:
    """Of a series that is named several times the earliest day counts."""
    found: dict[Series, date | None] = {}
    for wanted in entries:
        for series in wanted.series:
            days = [day for day in (found.get(series), wanted.since) if day is not None]
            found[series] = min(days, default=None)
    return found


def _read(text: str) -> SeriesWanted:
    return series_of_words(text, datetime.now(UTC).date())


def _text_of(words: Sequence[str]) -> str:
    """The words as one text; one of several that has a space inside is a symbol as it stands."""
    if len(words) == 1:
        return words[0]
    return " ".join(f'"{word}"' if " " in word else word for word in words)
