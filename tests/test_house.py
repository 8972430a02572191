"""The house rules that no linter knows: rooms, files and classes that one can hold in the head."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "ktrdr"
FILES = sorted(ROOT.rglob("*.py"))
MOST_LINES, MOST_ATTRIBUTES = 300, 12
LARGEST_ROOM = 0.25


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def classes(path: Path) -> list[ast.ClassDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def attributes(node: ast.ClassDef) -> set[str]:
    """What its methods set on `self`, and the fields of a dataclass that can change."""
    return {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    } | (fields(node) if is_mutable_dataclass(node) else set())


def is_mutable_dataclass(node: ast.ClassDef) -> bool:
    made_by = [ast.unparse(one) for one in node.decorator_list]
    return any(one.startswith("dataclass") and "frozen=True" not in one for one in made_by)


def fields(node: ast.ClassDef) -> set[str]:
    return {
        one.target.id
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_class_is_too_large_to_be_held_in_the_head(path):
    large = {
        node.name: (lines, len(attributes(node)))
        for node in classes(path)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES
        or len(attributes(node)) > MOST_ATTRIBUTES
    }
    assert not large


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_says_what_it_is_in_its_first_line(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    first = docstring.splitlines()[0]
    assert first[0].isupper() or first[0] == "`"
    assert first.endswith(".")


def test_no_room_is_larger_than_a_quarter_of_the_house():
    lines = Counter()
    for path in FILES:
        lines[path.relative_to(ROOT).parts[0]] += len(path.read_text(encoding="utf-8").splitlines())
    room, most = lines.most_common(1)[0]
    assert most <= LARGEST_ROOM * lines.total(), room


def test_what_the_architecture_names_is_there():
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)+\w+)(?:\.py)?`", text))
    assert len(named) > 30
    assert not {name for name in named if not (ROOT / f"{name}.py").is_file()}


def test_the_architecture_has_a_line_for_each_room():
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in FILES} - {".", "sim"}
    assert not {room for room in rooms if f"`{room}/`" not in text}
