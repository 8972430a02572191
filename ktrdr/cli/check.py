"""`ktrdr check`: what is broken in the store, and what was fixed."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

from ktrdr.check.defects import Finding, FindingState
from ktrdr.check.series import Checked
from ktrdr.check.store import StoreCheck
from ktrdr.cli.arguments import AsJson, OnlySymbol, OnlyTimeframe
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.nearest import checked_timeframe
from ktrdr.cli.output import is_terminal, show_json, show_line, show_rows
from ktrdr.cli.stored_names import nearest_named

_COLUMNS = ("file", "line", "what is broken", "how it is fixed")


def check(
    symbol: OnlySymbol = None,
    timeframe: OnlyTimeframe = None,
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Fix what can be fixed without loss; keep the old file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read the whole store and report what is broken. Exit code 1 if something stays broken.

    It needs none of the programs, and may run while they do.

    Example: ktrdr check AAPL 1m

    Example: ktrdr check --fix
    """
    timeframe = checked_timeframe(timeframe)
    settings = settings_of_group(reads_bars=True)
    began = time.monotonic()
    store = StoreCheck(settings.data_dir)
    with nearest_named(settings.data_dir, symbol, timeframe):
        listed = store.series(symbol, timeframe)
    checked = [] if symbol or timeframe else store.check_rest(fix=fix)
    with _progress() as show_progress:
        for number, series in enumerate(listed, 1):
            show_progress(f"{number} of {len(listed)}: {series.file_name}")
            checked.append(store.check(series, fix=fix))
    taken_s = time.monotonic() - began
    if as_json:
        show_json(_as_json(checked, len(listed), taken_s))
    else:
        _show(checked, len(listed), taken_s)
    if any(finding.is_broken for one in checked for finding in one.findings):
        sys.exit(ExitCode.NOT_GREEN)


def _show(checked: Sequence[Checked], files: int, taken_s: float) -> None:
    findings = [finding for one in checked for finding in one.findings]
    if findings:
        show_rows(_COLUMNS, [_row(finding) for finding in findings])
    for folder in sorted({one.kept.parent for one in checked if one.kept}):
        show_line(f"the old files are in {folder}")
    rows = sum(one.rows for one in checked)
    show_line(f"{files:,} files, {rows:,} rows, {taken_s:.1f} s: {_verdict(findings)}")


def _row(finding: Finding) -> tuple[str, ...]:
    lines = ", ".join(map(str, finding.lines))
    more = finding.count - len(finding.lines)
    if lines and more > 0:
        lines += f" and {more:,} more"
    fix = f"done: {finding.fix}" if finding.state is FindingState.FIXED else finding.fix
    return finding.where, lines, finding.what, fix


def _as_json(checked: Sequence[Checked], files: int, taken_s: float) -> dict[str, Any]:
    return {
        "files": files,
        "rows": sum(one.rows for one in checked),
        "seconds": round(taken_s, 3),
        "findings": [
            {
                "file": finding.where,
                "lines": [*finding.lines],
                "count": finding.count,
                "what": finding.what,
                "fix": finding.fix,
                "state": finding.state.name.lower(),
                "files": dict(finding.files),
            }
            for one in checked
            for finding in one.findings
        ],
        "old_files": sorted(f"{one.kept}" for one in checked if one.kept),
    }


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show in a terminal which file is read."""
    if not is_terminal():
        yield lambda _text: None
        return
    from rich.markup import escape  # noqa: PLC0415  # only a terminal needs it

    from ktrdr.cli.terminal import Terminal  # noqa: PLC0415  # as above

    with Terminal().status("") as shown:
        yield lambda text: shown.update(escape(text))


def _verdict(findings: list[Finding]) -> str:
    """How much is broken, and what to do about it."""
    counts = Counter(finding.state for finding in findings)
    if not counts.keys() - {FindingState.NOTE}:
        return "no problems found"
    parts = [f"{counts[state]} {state.value}" for state in FindingState if counts[state]]
    next_step = "; run ktrdr check --fix" if counts[FindingState.FIXABLE] else ""
    return "; ".join(parts) + next_step
