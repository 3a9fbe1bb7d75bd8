"""The shape of the package: floors, no circles of imports, and how many files a forward pass goes through."""

from __future__ import annotations

import ast
import re
import runpy
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import torch

import rnnnorm

PACKAGE = Path(__file__).parents[1] / "rnnnorm"
FLOORS = [
    ["_version"],
    ["common"],
    ["packing"],
    ["norms"],
    ["equations"],
    ["scan"],
    ["nn"],
    ["bench"],
    ["data"],
    ["tasks"],
    ["probes"],
    ["report"],
    ["engine"],
    ["board"],
    ["compare"],
    ["studies"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def named(file: Path) -> set[tuple[str, ...]]:
    """What a file imports, type-checking imports included: modules, and names in them, by their full path."""
    relative = file.relative_to(PACKAGE.parent).with_suffix("").parts
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = relative[: len(relative) - node.level] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            found |= {(*module, alias.name) for alias in node.names}
    return {parts for parts in found if parts[0] == "rnnnorm" and len(parts) > 1}


def imported(file: Path) -> set[Path]:
    """The files that a file imports by name; `from ..norms import X` is the file norms/__init__.py."""
    found = set()
    for parts in named(file):
        candidates = [PACKAGE.parent.joinpath(*parts[:end]) for end in (len(parts), len(parts) - 1)]
        files = [f for c in candidates for f in (c.with_suffix(".py"), c / "__init__.py") if f.is_file()]
        found |= set(files[:1])
    return found - {file}


FILES = sorted(f for f in PACKAGE.rglob("*.py") if f != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below(file: Path) -> None:
    own = file.relative_to(PACKAGE).with_suffix("").parts[0]
    assert own in LEVEL, f"{own} has no floor yet: enter it in FLOORS"
    top = set(dir(__import__("rnnnorm"))) - set(LEVEL)  # names that rnnnorm/__init__.py re-exports
    for name in {parts[1] for parts in named(file)} - top - {own}:
        assert LEVEL[name] < LEVEL[own], f"{file.name} on floor {own!r} imports {name!r} from above"


def test_the_core_needs_no_lightning() -> None:
    """`rnnnorm.LSTM` in somebody's own model must not drag in the training framework."""
    for file in FILES:
        if LEVEL[file.relative_to(PACKAGE).with_suffix("").parts[0]] <= LEVEL["nn"]:
            assert "lightning" not in file.read_text(), file.name


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The files of one circle of a graph; none if there is no circle."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circle_of_imports() -> None:
    graph = {
        str(f.relative_to(PACKAGE)): {str(g.relative_to(PACKAGE)) for g in imported(f)} for f in PACKAGE.rglob("*.py")
    }
    found = circle(graph)
    assert not found, " → ".join(found)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_a_forward_pass_goes_through_few_files() -> None:
    root = PACKAGE.parent
    script = runpy.run_path(str(root / "scripts" / "visited_files.py"))
    lstm = rnnnorm.LSTM(3, 4, norm="bn-timestep", backend="reference")
    files, _ = script["visited"](lstm, torch.randn(5, 6, 3))
    assert len(files) <= 14, files
    said = re.search(r"goes through (\d+) files", (root / "CONTRIBUTING.md").read_text())
    assert said
    assert int(said[1]) == len(files)
