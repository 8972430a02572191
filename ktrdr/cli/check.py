"""`ktrdr check`: what is broken in the store, and what was fixed."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ktrdr.check.defects import Finding, FindingState
from ktrdr.cli.group import out, settings_of_group


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

    with settings_of_group(reads_bars=True) as settings:
        began = time.monotonic()
        store = StoreCheck(settings.data_dir)
        listed = store.series(symbol, timeframe)
        checked = [] if symbol or timeframe else store.check_rest(fix=fix)
        with out.status("") as progress:
            for number, series in enumerate(listed, 1):
                progress.update(f"{number} of {len(listed)}: {escape(series.file_name)}")
                checked.append(store.check(series, fix=fix))
        findings = [finding for one in checked for finding in one.findings]
        if findings:
            out.print(_findings_table(findings))
        for folder in sorted({one.kept.parent for one in checked if one.kept}):
            out.print(f"the old files are in {folder}", markup=False, highlight=False)
        rows, taken_s = sum(one.rows for one in checked), time.monotonic() - began
        out.print(f"{len(listed):,} files, {rows:,} rows, {taken_s:.1f} s: {_verdict(findings)}")
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
