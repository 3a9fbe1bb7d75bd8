"""Tables and panels to take along: LaTeX, CSV, SVG and PDF beside the page of one comparison."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from report.fake_runs import write_comparison

from rnnnorm.report import build
from rnnnorm.report.grid import Grid
from rnnnorm.report.latex import booktabs, latex


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bn_x:gain=1.0", r"bn\_x:gain=1.0"),
        (r"a\b{c}$&%#~^", r"a\textbackslash{}b\{c\}\$\&\%\#\textasciitilde{}\textasciicircum{}"),
        ("0.5 ± 0.1 −2 – ×3", r"0.5 $\pm$ 0.1 $-$2 -- $\times$3"),
        ("a---b", "a-{}-{}-b"),
        ("0.9⁺ ↑", r"0.9$^{+}$ $\uparrow$"),
        ("[x] *", "{[}x] {*}"),
        ("< 0.0001|", "$<$ 0.0001$|$"),
    ],
)
def test_latex(text: str, expected: str) -> None:
    assert latex(text) == expected


def test_booktabs() -> None:
    grid = Grid(
        ["norm", "names (accuracy ↑)"], [["ln_a", "0.5 & 1"], ["none", "–"]], frozenset({(0, 1)}), ["50 % of it"]
    )
    assert booktabs(grid).splitlines() == [
        "% needs the package booktabs",
        "% 50 % of it",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"norm & names \\",
        r" & (accuracy $\uparrow$) \\",
        r"\midrule",
        r"ln\_a & \textbf{0.5 \& 1} \\",
        r"none & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_tables_and_panels_of_one_comparison(tmp_path: Path) -> None:
    norms = ["none", "ln:gain=0.5", "bn-timestep"]
    write_comparison(tmp_path, norms)
    build(tmp_path, formats=["pdf"])
    for name in ("summary", "differences"):
        text = (tmp_path / f"{name}.tex").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1
        assert len(lines) == 4
        assert "ln:gain=0.5" in text
    with (tmp_path / "summary.csv").open() as file:
        found = {row["norm"]: row for row in csv.DictReader(file)}
    assert set(found) == set(norms)
    assert found["none"]["finished"] == "3"
    assert float(found["none"]["population_mean"]) > 0.5
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    panels = ["overview", "scores", "differences", "train-none", "train-ln,gain=0.5", "train-bn-timestep",
              "curve-val-loss", "curve-val-accuracy",
              "buckets-length", "buckets-step", "modes-none", "modes-ln,gain=0.5", "modes-bn-timestep"]  # fmt: skip
    assert figures == {f"{panel}.{kind}" for panel in panels for kind in ("svg", "pdf")}
    links = set(re.findall(r'<a href="(.*?)"', (tmp_path / "report.html").read_text(encoding="utf-8")))
    assert {unquote(link) for link in links} == {f"figures/{name}" for name in figures}
    before = {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    times = {path: path.stat().st_mtime_ns for path in before}
    assert all(content.startswith(b"%PDF") == (path.suffix == ".pdf") for path, content in before.items())
    assert not any(b"#0101" in content or b"#0303" in content for content in before.values())
    build(tmp_path)  # PDF files of other runs than the page would lie there
    assert all(path.stat().st_mtime_ns > time for path, time in times.items())
    assert [path.name for path, content in before.items() if path.read_bytes() != content] == []


def test_panels_are_written_as_svg_and_linked_where_they_are_shown(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "ln"], seeds=1)
    page = build(tmp_path).read_text(encoding="utf-8")
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg"}
    for label, name in (("Training loss of ln by", "train-ln"), ("validation accuracy against", "curve-val-accuracy")):
        _, found, rest = page.partition(f'aria-label="{label}')
        assert found
        links = f'<p class="files"><a href="figures/{name}.svg">SVG</a></p>'
        assert rest.partition("</svg>")[2].startswith(links)
    with pytest.raises(ValueError, match="figures as png: expected svg or pdf"):
        build(tmp_path, formats=["svg", "png"])
