"""Lower floors never import upper ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

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
    ["compare"],
    ["studies"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports(file: Path) -> set[str]:
    """Top-level parts of the package that a file imports at run time; type-checking imports do not count."""
    relative = file.relative_to(PACKAGE.parent).with_suffix("").parts
    tree = ast.parse(file.read_text())
    typing = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = relative[: len(relative) - node.level] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            found |= {(*module, alias.name) for alias in node.names}
    return {parts[1] for parts in found if parts[0] == "rnnnorm" and len(parts) > 1}


FILES = sorted(f for f in PACKAGE.rglob("*.py") if f != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below(file: Path) -> None:
    own = file.relative_to(PACKAGE).with_suffix("").parts[0]
    assert own in LEVEL, f"{own} has no floor yet: enter it in FLOORS"
    top = set(dir(__import__("rnnnorm"))) - set(LEVEL)  # names that rnnnorm/__init__.py re-exports
    for name in imports(file) - top - {own}:
        assert LEVEL[name] < LEVEL[own], f"{file.name} on floor {own!r} imports {name!r} from above"


def test_the_core_needs_no_lightning() -> None:
    """`rnnnorm.LSTM` in somebody's own model must not drag in the training framework."""
    for file in FILES:
        if LEVEL[file.relative_to(PACKAGE).with_suffix("").parts[0]] <= LEVEL["nn"]:
            assert "lightning" not in file.read_text(), file.name
