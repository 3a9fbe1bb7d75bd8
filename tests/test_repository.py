"""Files beside the package: citation, workflows, templates of issues, the development container."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import rnnnorm

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict), path
    return found


def test_the_citation_names_this_version_and_licence() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors", "version"} <= citation.keys()
    assert citation["version"] == rnnnorm.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_jobs_with_a_machine_and_steps(path: Path) -> None:
    workflow = read(path)
    assert True in workflow  # `on` is a truth value in YAML 1.1
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["runs-on"], name
        assert all(("uses" in step) != ("run" in step) for step in job["steps"]), name
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= workflow["jobs"].keys()


def test_what_is_tested_is_what_is_promised() -> None:
    """Interpreters and versions of torch: those of pyproject.toml."""
    matrix = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    named = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+", c)}
    assert set(matrix["python"]) == named
    assert PROJECT["requires-python"] == f">={min(named, key=lambda v: int(v.split('.')[1]))}"
    oldest, beyond = re.fullmatch(r"torch>=2\.(\d+),<2\.(\d+)", PROJECT["dependencies"][0]).groups()
    tested = {int(version.split(".")[1]) for version in [*matrix["torch"], *(i["torch"] for i in matrix["include"])]}
    assert (min(tested), max(tested)) == (int(oldest), int(beyond) - 1)


@pytest.mark.parametrize("name", ["bug", "finding", "normalizer"])
def test_a_template_asks_for_what_is_needed(name: str) -> None:
    template = read(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
    fields = [field for field in template["body"] if field["type"] != "markdown"]
    assert template["name"]
    assert template["description"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_the_container_installs_extras_that_exist() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    extras = re.search(r"\[([\w,]+)\]", container["postCreateCommand"])[1].split(",")
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
