"""docs/grafana and docs/metrics.md: they name the metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

DOCS = Path(__file__).resolve().parents[2] / "docs"
RULES = DOCS / "grafana/alerts.yml"
DASHBOARD = json.loads((DOCS / "grafana/ktrdr.json").read_text())
NAME = re.compile(r"\bktrdr_[a-z0-9_]+")


@pytest.fixture
def scraped(client, peers, connected, filling):
    """The samples of a scrape in which every number is known: labels by name."""
    peers.connection = replace(
        connected, requests_at_once=6, clock_offset_s=0.1, no_data_since=connected.last_answer_time
    )
    peers.gap_filler = replace(
        filling, disk_free_bytes=1, disk_total_bytes=2, newest_bar_time=filling.as_of
    )
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    return {sample.name: sample.labels for family in families for sample in family.samples}


def expressions():
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return [rule["expr"] for rule in rules] + [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
    ]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_queried_exists(scraped, expression):
    names = set(NAME.findall(re.sub(r"\{[^}]*\}", "", expression)))
    assert names or expression.startswith("up{")
    assert names <= scraped.keys()
    for name, labels in re.findall(r"\b(ktrdr_\w+)\{([^}]*)\}", expression):
        used = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", labels)) - {"instance", "job"}
        assert used <= scraped[name].keys()


def test_each_rule_has_what_prometheus_requires():
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Ktrdr\w+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is part of Prometheus")
def test_promtool_accepts_the_rules():
    checked = subprocess.run(
        ["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_panels_do_not_overlap_and_take_their_data_from_the_chosen_source():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken
        assert max(columns) < 24
        taken |= cells
        assert all(one["datasource"]["uid"] == "${datasource}" for one in panel["targets"])
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_page_on_metrics_has_all_of_them(scraped):
    named = set(re.findall(r"`(ktrdr_[a-z0-9_]+)", (DOCS / "metrics.md").read_text()))
    forwarding = {name for name in named if name.startswith("ktrdr_forward_")}

    assert named - forwarding == set(scraped)
    assert len(forwarding) == 6
