"""The site: built strictly, every page in it, and the tutorial run as it stands."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import rnnnorm
import rnnnorm.data
import rnnnorm.probes
from rnnnorm.cli import main

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
SMALL = ["--seeds", "1", "--trainer.max_epochs", "1", "--model.hidden_size", "4", "--trainer.accelerator", "cpu"]
HOOK = runpy.run_path(str(ROOT / "scripts" / "site_pages.py"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages = {page.replace("README.html", "index.html") for page in pages}
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    pages |= {f"notebooks/{path.stem}.html" for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    assert pages | {"contributing.html", "changelog.html", "security.html"} <= built


def test_figures_of_notebooks_are_files_beside_their_pages(site: Path) -> None:
    page = (site / "notebooks" / "watch-a-gradient-explode.html").read_text()
    names = re.findall(r'<img alt="[^"]+" src="([^"]+)"', page)
    assert len(names) == 2
    for name in names:
        assert (site / "notebooks" / name).read_bytes().startswith(b"\x89PNG")


def test_the_reference_shows_docstrings(site: Path) -> None:
    networks = (site / "api" / "networks.html").read_text()
    assert "initial_state_noise" in networks
    assert "padding never enters a statistic" in networks


@pytest.mark.parametrize(
    ("page", "module"),
    [("data", rnnnorm.data), ("probes", rnnnorm.probes), ("networks", rnnnorm), ("normalizers", rnnnorm)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reference_names_what_there_is(page: str, module: object) -> None:
    named = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api" / f"{page}.md").read_text(), re.MULTILINE)
    assert named
    for name in named:
        prefix, _, attribute = name.rpartition(".")
        assert hasattr(sys.modules[prefix], attribute), name


def test_all_public_names_of_the_package_are_in_the_reference() -> None:
    pages = "".join((ROOT / "docs" / "api" / f"{page}.md").read_text() for page in ("networks", "normalizers"))
    assert {name for name in rnnnorm.__all__ if f"::: rnnnorm.{name}\n" not in pages + "\n"} == {"__version__"}


def test_links_to_files_at_the_root_lead_to_their_pages() -> None:
    assert HOOK["to_root_files"]("[a](../CONTRIBUTING.md#b)", 0) == "[a](contributing.md#b)"
    assert HOOK["to_root_files"]("[a](../../SECURITY.md)", 1) == "[a](../security.md)"
    assert HOOK["as_in_docs"]("[a](docs/data.md), [b](CHANGELOG.md)") == "[a](data.md), [b](changelog.md)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("words:\n- one\n- two", "words:\n\n- one\n- two"),
        ("- one\n  more\n- two", "- one\n  more\n- two"),
        ("```\nwords\n- one\n```", "```\nwords\n- one\n```"),
    ],
)
def test_lists_begin_after_a_blank_line(text: str, expected: str) -> None:
    assert HOOK["with_lists"](text) == expected


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, script = re.search(r"<!-- file: (\S+) -->\n```python\n(.*?)```", TUTORIAL, re.DOTALL).groups()
    (tmp_path / name).write_text(script)
    subprocess.run([sys.executable, name], cwd=tmp_path, check=True)
    first, second = re.findall(r"<!-- run -->\n```bash\nrnnnorm (.*?)\n```", TUTORIAL.replace("\\\n", " "), re.DOTALL)
    assert main([*shlex.split(first), *SMALL, "--norms", "none"]) == 0
    assert (tmp_path / "runs" / "brackets" / "report.html").is_file()
    tuned = [*SMALL, "--norms", "none", "--tune-trials", "1"]
    assert main([*shlex.split(second), *tuned]) == 0
    assert (tmp_path / "runs" / "brackets-tuned" / "report.html").is_file()
