"""`ktrdr doctor`: the diagnosis of the group and its connection to IB."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.group import settings_of_group
from ktrdr.cli.output import show_json, show_line, show_next
from ktrdr.cli.status import check_group, code_of_group, show_concern, show_verdict
from ktrdr.health.system_json import system_json
from ktrdr.health.verdict import Concern, with_findings
from ktrdr.ib.diagnosis import Finding, diagnose
from ktrdr.ib.doctor import gather_facts


def doctor(*, as_json: AsJson = False) -> None:
    """Diagnose the group and its connection to IB. Exit code 1 unless all is well.

    It looks at port, gateway, log-in, permissions, clock and store. Exit code 3 if ib-connection or
    gap-filler does not answer.

    Example: ktrdr doctor
    """
    settings = settings_of_group()
    facts = gather_facts(settings)
    found = check_group(settings)
    services = found.services.items()
    alone = {name: one.next_step for name, one in services if not one.program.is_supervised}
    facts = replace(facts, steps={name: step for name, step in alone.items() if step})
    if facts.status and found.gap_filler.content is not None:
        with_series = replace(facts.status, refused=())  # each is listed with its series
        facts = replace(facts, status=with_series)
    findings = diagnose(facts)
    verdict = with_findings(found.verdict, findings)
    if as_json:
        show_json(system_json(found, verdict) | {"findings": list(map(asdict, findings))})
    else:
        show_verdict(verdict)
        for finding in findings:
            show_finding(finding)
        for concern in found.verdict.concerns:
            if not _is_in_findings(concern):
                show_concern(concern)
    sys.exit(code_of_group(found, verdict))


def show_finding(finding: Finding) -> None:
    """Print a finding and its next step."""
    show_line(finding.what, *(("✗", "red") if finding.is_trouble else ("✓", "green")))
    show_next(finding.next_step, "  ")


def _is_in_findings(concern: Concern) -> bool:
    """What the doctor finds by itself, and says in more detail."""
    is_of_connection = concern.about in ("connection", "clock") or "ib-connection" in concern.what
    return is_of_connection and not concern.what.startswith("this machine")
