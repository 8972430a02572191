"""The commands of `ktrdr`, on the running group and the store.

They start and stop nothing themselves; `ktrdr ctl` hands over to supervisorctl.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, urlencode

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TimeRemainingColumn,
)
from rich.table import Table

from ktrdr.check.defects import Finding, FindingState
from ktrdr.cli.fill_progress import counts_by_reason, follow, request_fill
from ktrdr.cli.supervisorctl import become_supervisorctl
from ktrdr.cli.terminal import Terminal
from ktrdr.config.running_group import settings_to_read_with
from ktrdr.config.settings import Settings
from ktrdr.errors import InvalidRequest, KtrdrError, UnknownSeries
from ktrdr.escapes import visible
from ktrdr.ib.diagnosis import diagnose
from ktrdr.ib.doctor import gather_facts
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import (
    ConnectionStatus,
    FillAccepted,
    FillList,
    FillsCancelled,
    FillStatus,
    GapFillerStatus,
    Json,
    ScanAccepted,
    SeriesStatus,
    StoreCoverage,
)
from ktrdr.ipc.query import expect_text
from ktrdr.ipc.wording import because, day_of, remarks
from ktrdr.market.timeframes import Timeframe

if TYPE_CHECKING:
    from ktrdr.health.system import Snapshot
    from ktrdr.health.verdict import Concern, Verdict

app = typer.Typer(
    help="Keeps a folder of OHLCV CSV files complete from Interactive Brokers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
sim = typer.Typer(
    help="The simulated gateway: what it does, and how it fails.", no_args_is_help=True
)
app.add_typer(sim, name="sim")
_out = Terminal()
_err = Terminal(stderr=True, soft_wrap=True)


@contextlib.contextmanager
def _explained(*, reads_bars: bool = False) -> Iterator[Settings]:
    """The settings of a command, the running group's by default; errors as in `_errors_shown`."""
    with _errors_shown():
        settings, note = settings_to_read_with(reads_bars=reads_bars)
        if note:
            _err.print(f"ktrdr: {note}", markup=False, highlight=False)
        yield settings


@contextlib.contextmanager
def _errors_shown() -> Iterator[None]:
    """A KtrdrError ends the command with its message, the next step, and exit code 1."""
    try:
        yield
    except KtrdrError as error:
        _err.print(f"ktrdr: {error.message}", markup=False, highlight=False)
        if error.hint:
            _err.print(_next(error.hint), markup=False, highlight=False)
        sys.exit(1)


def _next(hint: str, margin: str = "") -> str:
    """The next step; its further lines, which are to be pasted, are indented below the first."""
    return f"{margin}next: " + hint.replace("\n", f"\n{margin}      ")


def _warn_if_simulated(source: str | None) -> None:
    """Say on standard error that simulated prices are no market prices."""
    if source == "simulated":
        _err.print("SIMULATED: these prices are invented", markup=False, highlight=False)


def _peers(settings: Settings) -> tuple[LocalClient, LocalClient]:
    return (
        LocalClient(settings.connection_socket, "ib-connection"),
        LocalClient(settings.gap_filler_socket, "gap-filler"),
    )


@app.command()
def status() -> None:
    """Show the group's health and what needs you. Exit code 1 unless all is well."""
    with _explained() as settings:
        found = _check_group(settings)
        _print_summary(found.verdict)
        for concern in found.verdict.concerns:
            _print_concern(concern)
        _out.print(_group_table(found))
        if found.verdict.health != "healthy":
            sys.exit(1)


def _check_group(settings: Settings) -> Snapshot:
    from ktrdr.health.supervisor import find_supervisor  # noqa: PLC0415  # psutil is needed here only
    from ktrdr.health.system import System  # noqa: PLC0415  # as above

    return System(settings, find_supervisor(settings.run_dir)).snapshot()


def _print_summary(verdict: Verdict) -> None:
    color = {"healthy": "green", "degraded": "yellow"}.get(verdict.health, "red")
    _out.print(f"[{color}]{verdict.health}[/] {escape(verdict.summary)}", highlight=False)


def _print_concern(concern: Concern) -> None:
    """Print a concern with its consequence and the next step."""
    mark = "[red]✗[/]" if concern.next_step else "[yellow]…[/]"
    _out.print(f"{mark} {escape(concern.claim)}", highlight=False, soft_wrap=True)
    if concern.consequence:
        _out.print(escape(f"  {concern.consequence}"), highlight=False, soft_wrap=True)
    if concern.next_step:  # whole lines, to be pasted
        _out.print(escape(_next(concern.next_step, "  ")), highlight=False, soft_wrap=True)


def _group_table(found: Snapshot) -> Table:
    table = Table("program", "state", show_header=False)
    connection, filler = found.connection, found.gap_filler
    lines = {
        "ib-connection": _connection_lines(connection.content) if connection.content else [],
        "gap-filler": _filler_lines(filler.content) if filler.content else [],
    }
    reasons = {"ib-connection": connection.reason, "gap-filler": filler.reason}
    for name, shown in lines.items():
        table.add_row(name, escape("\n".join(shown or [f"down: {reasons[name]}"])))
    return table


def _connection_lines(status: ConnectionStatus) -> list[str]:
    gateway = "SIMULATED gateway" if status.gateway == "simulated" else "live gateway"
    state = status.state.replace("_", " ")
    lines = [f"{state}: {gateway} at {status.host}:{status.port}"]
    if status.expected:
        lines.append(status.expected)
    if status.no_data_since and not status.expected:
        lines.append(f"no data since {status.no_data_since:%Y-%m-%d %H:%M:%S} UTC")
    lines += [f"data farm {farm.name} is broken" for farm in status.farms if not farm.up]
    if status.reminder:
        lines.append(status.reminder)
    return lines


def _filler_lines(status: GapFillerStatus) -> list[str]:
    lines = [f"{status.state}{f': {status.reason}' if status.reason else ''}"]
    lines.append(
        f"{status.series_current} of {status.series} series complete, in {status.data_dir}"
    )
    lines.append(f"{status.gaps_remaining} gaps to close, {status.gaps_failed} of them failed")
    if status.waits_for and status.waits_for != status.reason:
        lines.append(f"waits for {status.waits_for}")
    elif status.eta_words:
        lines.append(f"done in {status.eta_words}")
    stay = status.unfillable.items()
    lines += [f"{count} gaps remain: {because(reason)}" for reason, count in stay]
    if status.counted_since:
        since = f"{status.counted_since:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(
            f"since {since}: {status.bars_added} bars added, {status.gaps_filled} gaps filled"
        )
    return lines


@app.command()
def doctor() -> None:
    """Diagnose the group and its connection to IB. Exit code 1 unless all is well."""
    from ktrdr.health.verdict import with_findings  # noqa: PLC0415  # psutil is needed here only

    with _explained() as settings:
        facts = gather_facts(settings)
        found = _check_group(settings)
        if facts.status and found.gap_filler.content is not None:
            with_series = replace(facts.status, refused=())  # each is listed with its series
            facts = replace(facts, status=with_series)
        findings = diagnose(facts)
        verdict = with_findings(found.verdict, findings)
        _print_summary(verdict)
        for finding in findings:
            mark = "[red]✗[/]" if finding.is_trouble else "[green]✓[/]"
            _out.print(f"{mark} {escape(finding.what)}", highlight=False)
            if finding.next_step:
                step = escape(_next(finding.next_step, "  "))
                _out.print(step, highlight=False, soft_wrap=True)  # whole lines, to be pasted
        for concern in found.verdict.concerns:
            is_shown = concern.about in ("connection", "clock") or "ib-connection" in concern.what
            if not is_shown or concern.what.startswith("this machine"):
                _print_concern(concern)
        if verdict.health != "healthy":
            sys.exit(1)


@app.command()
def scan() -> None:
    """Look for gaps now, also in series that were given up."""
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        _out.print(
            f"scan {gap_filler.request(ScanAccepted, 'POST', '/scan').scan_id} has been requested"
        )


@app.command()
def gaps(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Argument(help="Only this timeframe.")] = None,
    *,
    day: Annotated[
        str | None, typer.Option(help="Each bar of this trading day, such as 2026-11-20.")
    ] = None,
) -> None:
    """Show each series: bars expected, bars there, and why the others are not."""
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        _warn_if_simulated(gap_filler.get("/status").get("source"))
        if day is not None:
            if symbol is None or timeframe is None:
                raise InvalidRequest("--day needs a symbol and a timeframe")
            coverage = gap_filler.get("/coverage", symbol=symbol, timeframe=timeframe, day=day)
            _out.print(_day_table(coverage) if coverage["bars"] else _day_title(coverage))
            return
        kept = gap_filler.request(StoreCoverage, "GET", "/coverage", days="0").series
        _out.print(_series_table(_chosen(kept, symbol, timeframe)))


def _chosen(
    kept: list[SeriesStatus], symbol: str | None, timeframe: str | None
) -> list[SeriesStatus]:
    """The series with this symbol and timeframe. UnknownSeries, InvalidRequest: there are none."""
    if timeframe is not None:
        try:
            timeframe = Timeframe.parse(timeframe).value
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
    of_symbol = [one for one in kept if symbol in (None, one.symbol)]
    if symbol is not None and not of_symbol:
        near = {one.symbol.upper(): one.symbol for one in kept}
        meant = difflib.get_close_matches(symbol.upper(), near, 1)
        raise UnknownSeries(
            f"the gap filler has no series of {symbol!r}",
            hint=f"did you mean {near[meant[0]]}?" if meant else "ktrdr gaps shows all series",
        )
    chosen = [one for one in of_symbol if timeframe in (None, one.timeframe)]
    if of_symbol and not chosen:
        known = ", ".join(one.timeframe for one in of_symbol)
        raise UnknownSeries(
            f"the gap filler has {symbol} in {known}, and not in {timeframe}",
            hint=f"create {symbol}_{timeframe}.csv with the header line to have it filled",
        )
    return chosen


def _series_table(listed: list[SeriesStatus]) -> Table:
    table = Table("series", "state", "expected", "present", "missing", "last bar")
    for one in listed:
        missing = counts_by_reason(one.missing)
        if one.error:
            code = f" (IB's code {one.error_code})" if one.error_code else ""
            missing.insert(0, f"{one.error}{code}{f' (next: {one.hint})' if one.hint else ''}")
        table.add_row(
            f"{one.symbol}_{one.timeframe}",
            one.state,
            *("?" if count is None else str(count) for count in (one.expected, one.present)),
            escape("; ".join([*missing, *_remarks_on(one)])),
            one.last.isoformat() if one.last else "",
        )
    return table


def _remarks_on(one: SeriesStatus) -> list[str]:
    now = datetime.now(UTC)
    return remarks(now, one.looked_from, one.listed, one.expires, one.sessions_from)


def _day_title(coverage: Json) -> str:
    return f"{coverage['day']}: {day_of(coverage['state'])}"


def _day_table(coverage: Json) -> Table:
    """The bars of a day; consecutive ones of the same state are one row."""
    table = Table("from", "to", "bars", "what is known", title=_day_title(coverage))
    for status, group in groupby(coverage["bars"], key=lambda bar: bar[1]):
        starts = [start for start, _ in group]
        first, last = (datetime.fromtimestamp(t, UTC) for t in (starts[0], starts[-1]))
        table.add_row(f"{first:%Y-%m-%d %H:%M}", f"{last:%H:%M}", str(len(starts)), because(status))
    return table


@app.command()
def fill(
    symbol: Annotated[str, typer.Argument(help="With --cancel also a number from `ktrdr fills`.")],
    timeframe: Annotated[
        str | None, typer.Argument(help="1m 5m 15m 30m 1h 4h 1d", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="History from this day on, however old.")
    ] = None,
    *,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the fill; the bars fetched so far stay.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Show the progress until it is done.")] = True,
) -> None:
    """Fill a series from a day on, however old. It goes on when this command is ended.

    It is kept, also over restarts, until it is done or cancelled: `ktrdr fill --cancel AAPL 1m`, or
    by its number, `ktrdr fill --cancel 3`. `ktrdr fills` lists all fills.
    """
    if cancel == bool(start):
        raise typer.BadParameter("expected either --from DAY or --cancel")
    if timeframe is None and not (cancel and symbol.isdecimal()):
        raise typer.BadParameter("expected a timeframe after the symbol, such as 1m")
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        if cancel:
            chosen = {"symbol": symbol, "timeframe": timeframe} if timeframe else {"id": symbol}
            response = gap_filler.request(FillsCancelled, "DELETE", "/fills", 5.0, **chosen)
            for one in response.cancelled:
                _out.print(f"{_title(one)} is cancelled; what was fetched stays", highlight=False)
            return
        requested = {"symbol": symbol, "timeframe": str(timeframe), "from": str(start)}
        accepted = request_fill(gap_filler, requested, _out)
        for line in _fill_lines(accepted):
            _out.print(line, highlight=False)
        _warn_if_simulated(gap_filler.get("/status").get("source"))
        if wait:
            follow(gap_filler, accepted, _out)


def _title(fill: FillStatus) -> str:
    return f"fill {fill.id}, {fill.symbol}_{fill.timeframe} from {fill.since.date()} on,"


def _fill_lines(accepted: FillAccepted) -> list[str]:
    """What was requested now, and what had been requested before."""
    lines = [f"{_title(accepted)} begins with the newest bars"]
    setting = accepted.setting_since
    since = f"since = {setting.date()} in instruments.toml" if setting else ""
    known = [f"fill {one.id} from {one.since.date()} on" for one in accepted.already]
    wanted = ", ".join([*known, since] if since else known)
    return [*lines, f"already requested, and kept: {wanted}"] if wanted else lines


@app.command()
def fills(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
) -> None:
    """List the fills requested with `ktrdr fill`: the progress of each, and what it waits for.

    If standard output is not a terminal: a line each, with tabs between the columns.
    """
    with _explained() as settings:
        _, gap_filler = _peers(settings)
        chosen = {"symbol": symbol} if symbol else {}
        listed = gap_filler.request(FillList, "GET", "/fills", 5.0, **chosen).fills
        columns = ("fill", "series", "from", "state", "present", "expected", "what is known")
        rows = [_fill_row(one) for one in listed]
        if not _out.is_terminal:
            for row in (columns, *rows):
                typer.echo("\t".join(map(visible, row)))
            return
        table = Table(*columns)
        for row in rows:
            table.add_row(*map(escape, row))
        _out.print(table if rows else "no fills requested")


def _fill_row(fill: FillStatus) -> tuple[str, ...]:
    counts = ("?" if count is None else str(count) for count in (fill.present, fill.expected))
    known = "; ".join([*filter(None, [fill.why]), *counts_by_reason(fill.missing)])
    if fill.hint:
        known += f"; next: {' '.join(fill.hint.split())}"
    series = f"{fill.symbol}_{fill.timeframe}"
    return str(fill.id), series, f"{fill.since.date()}", fill.state, *counts, known


@app.command()
def show(
    symbol: str,
    timeframe: Annotated[str, typer.Argument(help="1m 5m 15m 30m 1h 4h 1d")],
    start: Annotated[str | None, typer.Option(help="From this date or time on (UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Before this date or time (UTC).")] = None,
    *,
    fetch: Annotated[bool, typer.Option(help="Request bars that the store lacks from IB.")] = False,
) -> None:
    """Print the bars of a series as CSV, and on standard error if some are missing."""
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415  # pandas is needed here only

    with _explained(reads_bars=True) as settings, _requests_shown(shown=fetch) as progress:
        frame = DataManager(settings).load(
            symbol, timeframe, start, end, fetch=fetch, progress=progress
        )
        _warn_if_simulated(frame.attrs["source"])
        volumes = frame["volume"]
        if (volumes % 1 == 0).all():  # as in the store
            frame["volume"] = volumes.astype("int64")
        frame.to_csv(sys.stdout)
        if not frame.attrs["complete"]:
            _err.print(f"not complete: {frame.attrs['why']}", markup=False, highlight=False)


@contextlib.contextmanager
def _requests_shown(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how many requests IB has answered."""
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not shown) as progress:
        task = progress.add_task("requests to IB", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@app.command()
def export(
    symbols: Annotated[list[str], typer.Argument(help="One or more.")],
    *,
    timeframe: Annotated[str, typer.Option(help="1m 5m 15m 30m 1h 4h 1d")],
    to: Annotated[Path, typer.Option(help="A file that ends in .parquet or .feather.")],
    start: Annotated[str | None, typer.Option(help="From this date or time on (UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Before this date or time (UTC).")] = None,
) -> None:
    """Write bars into a Parquet or Feather file: symbol, timestamp and the values of each."""
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415  # pandas is needed here only
    from ktrdr.data.export import export_bars  # noqa: PLC0415  # as above

    with _explained(reads_bars=True) as settings:
        frames = export_bars(DataManager(settings), symbols, timeframe, to, start, end)
        count = sum(len(frame) for frame in frames.values())
        _out.print(f"{count:,} bars in {to}", markup=False, highlight=False)
        _warn_if_simulated(next(iter(frames.values())).attrs["source"])
        for symbol, frame in frames.items():
            if not frame.attrs["complete"]:
                why = f"{symbol} is not complete: {frame.attrs['why']}"
                _err.print(why, markup=False, highlight=False)


@app.command()
def check(
    symbol: Annotated[str | None, typer.Argument(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Argument(help="Only this timeframe.")] = None,
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Fix what can be fixed without loss; keep the old file.")
    ] = False,
) -> None:
    """Read the whole store and report what is broken. Exit code 1 if something stays broken.

    It needs none of the programs, and may run while they do.
    """
    from ktrdr.check.store import StoreCheck  # noqa: PLC0415  # the store, for this alone

    with _explained(reads_bars=True) as settings:
        began = time.monotonic()
        store = StoreCheck(settings.data_dir)
        listed = store.series(symbol, timeframe)
        checked = [] if symbol or timeframe else store.check_rest(fix=fix)
        with _out.status("") as progress:
            for number, series in enumerate(listed, 1):
                progress.update(f"{number} of {len(listed)}: {escape(series.file_name)}")
                checked.append(store.check(series, fix=fix))
        findings = [finding for one in checked for finding in one.findings]
        if findings:
            _out.print(_findings_table(findings))
        for folder in sorted({one.kept.parent for one in checked if one.kept}):
            _out.print(f"the old files are in {folder}", markup=False, highlight=False)
        rows, taken_s = sum(one.rows for one in checked), time.monotonic() - began
        _out.print(f"{len(listed):,} files, {rows:,} rows, {taken_s:.1f} s: {_verdict(findings)}")
        if any(finding.is_broken for finding in findings):
            sys.exit(1)


def _findings_table(findings: list[Finding]) -> Table:
    table = Table("file", "line", "what is broken", "how it is fixed")
    for finding in findings:
        lines = ", ".join(map(str, finding.lines))
        more = finding.count - len(finding.lines)
        if lines and more > 0:
            lines += f" and {more:,} more"
        fix = f"done: {finding.fix}" if finding.state is FindingState.FIXED else finding.fix
        table.add_row(*map(escape, (finding.where, lines, finding.what, fix)))
    return table


def _verdict(findings: list[Finding]) -> str:
    """How much is broken, and what to do about it."""
    counts = Counter(finding.state for finding in findings)
    if not counts.keys() - {FindingState.NOTE}:
        return "no problems found"
    parts = [f"{counts[state]} {state.value}" for state in FindingState if counts[state]]
    next_step = "; run ktrdr check --fix" if counts[FindingState.FIXABLE] else ""
    return "; ".join(parts) + next_step


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="",
)
def ctl(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORDS",
            help="status, start, stop, restart, tail -f, …; without any: a prompt.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Control the programs: supervisorctl for this group, from any folder.

    Commands and exit codes are supervisorctl's, such as `ktrdr ctl status`, `ktrdr ctl restart
    gap-filler`, `ktrdr ctl tail -f ib-connection`; `ktrdr ctl help` lists all commands.
    """
    with _errors_shown():
        become_supervisorctl(words or [])


def _simulator(settings: Settings) -> LocalClient:
    return LocalClient(settings.sim_socket, "gateway-sim")


@sim.command("status")
def sim_status() -> None:
    """Show where it listens, its clock, its clients and its faults."""
    with _explained() as settings:
        _out.print_json(data=_simulator(settings).get("/status"), ensure_ascii=True)


@sim.command("summary")
def sim_summary() -> None:
    """Show how many requests it has received."""
    with _explained() as settings:
        _out.print_json(data=_simulator(settings).get("/record/summary"), ensure_ascii=True)


@sim.command("faults")
def sim_faults() -> None:
    """List all faults with their parameters."""
    with _explained() as settings:
        table = Table("fault", "what it does", "parameters")
        for name, fault in _simulator(settings).get("/faults").items():
            values = " ".join(f"{key}={value}" for key, value in fault["values"].items())
            table.add_row(name, fault["says"], values)
        _out.print(table)


@sim.command("fault")
def sim_fault(
    name: Annotated[str, typer.Argument(help="One of `ktrdr sim faults`.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="Parameters; for_s=SECONDS ends it after that time.")
    ] = None,
    *,
    end: Annotated[bool, typer.Option("--end", help="End it; logged_out: log in.")] = False,
) -> None:
    """Break the simulated gateway, such as `ktrdr sim fault late seconds=3 for_s=60`."""
    with _explained() as settings:
        given = [value.partition("=")[::2] for value in values or []]
        expect_text({"fault": name, **dict(given)})
        path = f"/fault/{quote(name, safe='')}"
        if end:
            status = _simulator(settings).delete(path)
        else:
            status = _simulator(settings).post(f"{path}?{urlencode(given)}")
        _out.print_json(data=status["faults"], ensure_ascii=True)
