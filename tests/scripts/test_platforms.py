"""What `scripts/drill platforms` needs before it begins; the drill itself takes half an hour."""

from __future__ import annotations

import pytest


@pytest.fixture
def drill(copy):
    """Runs it as the user with this number, where nothing but tools is installed."""
    path = copy.path_with_tools_only()
    tools = copy.folder / "tools"

    def run(uid):
        (tools / "id").unlink()
        (tools / "id").write_text(f"#!/bin/sh\necho {uid}\n")
        (tools / "id").chmod(0o755)
        return copy.run(copy.folder / "scripts/drill", "platforms", PATH=path)

    run.tools = tools
    return run


def test_somebody_else_than_root_is_told_to_be_root(drill):
    assert drill(1000) == (
        1,
        "scripts/drill platforms needs root, to make roots: sudo ./scripts/drill platforms\n",
    )


def test_without_debootstrap_it_says_what_installs_it(drill):
    (drill.tools / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    (drill.tools / "apt-get").chmod(0o755)
    code, output = drill(0)
    assert code == 1
    assert output == "scripts/drill platforms needs debootstrap: apt-get install debootstrap\n"
