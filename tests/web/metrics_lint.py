"""The rules by which metrics are named and exposed, as promtool and Prometheus' docs have them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

UNITS = {"seconds", "bytes", "ratio", "celsius", "meters", "joules", "grams", "volts", "amperes"}
NO_BASE_UNITS = {
    "seconds": "ms milliseconds us microseconds ns nanoseconds minutes hours days weeks",
    "bytes": "bits kb kib mb mib gb gib kilobytes megabytes gigabytes",
    "ratio": "percent percents percentage",
}
TYPES = ("gauge", "counter", "histogram", "summary", "stateset")
RESERVED = ("_count", "_sum", "_bucket")


def problems(text: str) -> list[str]:
    """What is against the rules in a scrape, a line each."""
    helped = set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    typed = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    twice = [f"{name}: TYPE twice" for name in set(typed) if typed.count(name) > 1]
    counters = re.findall(r"^# TYPE (\S+) counter", text, re.MULTILINE)
    short = [f"{n}: a counter's name ends in _total" for n in counters if n[-6:] != "_total"]
    found = list(text_string_to_metric_families(text))
    return (
        twice + short + [f"{of.name}: {one}" for of in found for one in _of(of, helped, set(typed))]
    )


def _of(family: Metric, helped: set[str], typed: set[str]) -> Iterator[str]:
    name = family.name
    names = {name, f"{name}_total"}
    if not names & typed:
        yield "no TYPE"
    if not names & helped:
        yield "no HELP"
    if family.type != "counter" and name.endswith("_total"):
        yield "only a counter's name ends in _total"
    if name.endswith(RESERVED) and family.type not in ("histogram", "summary"):
        yield "its end is reserved for histograms"
    yield from _of_words(name)
    yield from _of_samples(family)


def _of_words(name: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or "__" in name:
        yield "expected small letters, digits and single underlines"
    words = name.split("_")
    for base, others in NO_BASE_UNITS.items():
        yield from (f"{word} is no base unit: {base}" for word in words if word in others.split())
    for unit in UNITS & set(words[:-1]):
        yield f"the unit {unit} stands at the end"
    if set(words) & set(TYPES):
        yield "its type is in its name"


def _of_samples(family: Metric) -> Iterator[str]:
    labels = {tuple(sorted(sample.labels)) for sample in family.samples}
    if len(labels) > 1:
        yield "samples differ in their labels"
    for label in {label for one in labels for label in one}:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", label) or label.startswith("__"):
            yield f"the label {label}: expected small letters, digits and underlines"
    keys = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
    if len(keys) != len(set(keys)):
        yield "the same sample twice"
