"""`ktrdr doctor`: the diagnosis of the group and its connection to IB."""

from __future__ import annotations

import sys
from dataclasses import replace

from rich.markup import escape

from ktrdr.cli.group import next_step, out, settings_of_group
from ktrdr.cli.status import check_group, print_concern, print_summary
from ktrdr.ib.diagnosis import diagnose
from ktrdr.ib.doctor import gather_facts


def doctor() -> None:
    """Diagnose the group and its connection to IB. Exit code 1 unless all is well."""
    from ktrdr.health.verdict import with_findings  # noqa: PLC0415  # psutil is needed here only

    with settings_of_group() as settings:
        facts = gather_facts(settings)
        found = check_group(settings)
        if facts.status and found.gap_filler.content is not None:
            with_series = replace(facts.status, refused=())  # each is listed with its series
            facts = replace(facts, status=with_series)
        findings = diagnose(facts)
        verdict = with_findings(found.verdict, findings)
        print_summary(verdict)
        for finding in findings:
            mark = "[red]✗[/]" if finding.is_trouble else "[green]✓[/]"
            out.print(f"{mark} {escape(finding.what)}", highlight=False)
            if finding.next_step:
                step = escape(next_step(finding.next_step, "  "))
                out.print(step, highlight=False, soft_wrap=True)  # whole lines, to be pasted
        for concern in found.verdict.concerns:
            is_shown = concern.about in ("connection", "clock") or "ib-connection" in concern.what
            if not is_shown or concern.what.startswith("this machine"):
                print_concern(concern)
        if verdict.health != "healthy":
            sys.exit(1)
