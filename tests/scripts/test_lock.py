"""What scripts/lock writes: requirements with hashes, and the bill of materials of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]


def test_the_bill_of_materials_has_what_the_lock_has():
    """It is written by scripts/lock, as installed with Python 3.12 on Linux."""
    lock = (PROJECT / "requirements.txt").read_text()
    here = {"python_full_version": "3.12.1", "sys_platform": "linux", "platform_system": "Linux"}
    requirements = [Requirement(line) for line in re.findall(r"^\w[^\\\n]*", lock, re.MULTILINE)]
    locked = {
        f"pkg:pypi/{canonicalize_name(one.name)}@{str(one.specifier).lstrip('=')}"
        for one in requirements
        if one.marker is None or one.marker.evaluate(here)
    }
    bill = json.loads((PROJECT / "docs/sbom.cdx.json").read_text())
    assert {component["purl"] for component in bill["components"]} == locked
    assert bill["metadata"]["component"]["name"] == "ktrdr"
    assert len(locked) > 40


def test_the_lock_names_a_hash_for_each_package_and_no_place_to_get_it_from():
    """As `pip install --require-hashes` and `pip-audit --require-hashes` want it."""
    for lock in [*PROJECT.glob("requirements*.txt"), *PROJECT.glob("tests/sim/clients/*.txt")]:
        text = lock.read_text()
        pinned = re.findall(
            r"^[\w.-]+==\S+ .*?\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE
        )
        others = re.sub(
            r"^( *#.*|[\w.-]+==.*|    --hash=sha256:[0-9a-f]{64}.*)\n", "", text, flags=re.MULTILINE
        )
        assert len(pinned) == len(re.findall(r"^\w", text, re.MULTILINE)) > 0, lock
        assert others.strip() == "", lock
