"""The picture of a benchmark."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from bench.made_records import MACHINE, SMALL, WIDE, record, table, whole_run
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from rnnnorm.bench.document import Benchmark
from rnnnorm.bench.figure import check_figure_path, draw
from rnnnorm.bench.records import OUR_CELL, PADDED, TORCH, Record
from rnnnorm.bench.shapes import Shape

SVG = "{http://www.w3.org/2000/svg}"


def words(path: Path) -> list[str]:
    """All texts of an SVG file, which fails to parse if it is none."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == SVG + "svg"
    return ["".join(element.itertext()).strip() for element in root.iter(SVG + "text")]


def test_the_svg_names_everything_that_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "bench.svg"
    draw(whole_run(("none", "ln", "bn-timestep")), path)
    found = words(path)
    for name in ("none", "ln", "bn-timestep"):
        assert found.count(name) == 6 + 3  # parts with two shapes each, and legends of growth
    assert found.count("bare products") == 4
    for title in (
        "Training step, dense",
        "Training step, uniform lengths, packed",
        "Training step, heavy-tailed, packed",
        "Forward pass, dense",
        "Peak memory of a training step",
        "One timestep of one sequence",
        "Training step as T grows (B=4, I=3, H=8)",
        "Training step as B grows (T=10, I=3, H=8)",
        "Training step as H grows (T=10, B=4, I=3)",
        "geometric mean",
        f"T,B,I,H = {SMALL}",
        f"T,B,I,H = {WIDE}",
    ):
        assert found.count(title) == 1, title
    assert any(MACHINE["cpu"] in text and "2 cores, 1 threads" in text for text in found)
    assert "Forward pass, uniform lengths" not in found  # nothing was measured there


@pytest.mark.parametrize("name", ["bench.png", "bench.PNG"])
def test_the_png_is_a_picture(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    draw(Benchmark("", MACHINE, table(record(0.8), record(1.6, shape=WIDE))), path)
    pixels = imread(path, format="png")
    height, width, _ = pixels.shape
    assert width > 1000
    assert height > 300
    for colour in ("#0072b2", "#e69f00"):  # one per shape
        assert np.isclose(pixels[..., :3], to_rgb(colour), atol=0.01).all(-1).sum() > 10, colour


def test_the_pdf_is_one(tmp_path: Path) -> None:
    path = tmp_path / "bench.pdf"
    draw(Benchmark("", MACHINE, table(record())), path)
    content = path.read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")


def test_the_same_numbers_give_the_same_svg(tmp_path: Path) -> None:
    first, second, other = (tmp_path / f"{k}.svg" for k in range(3))
    draw(Benchmark("", MACHINE, table(record())), first)
    draw(Benchmark("", MACHINE, table(record())), second)
    draw(Benchmark("", MACHINE, table(record(1.7))), other)
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()


@pytest.mark.parametrize(
    "records",
    [
        [record(3.0, shape=Shape(100, 64, 128, 256))],
        [record(0.01, part="memory", ms=None, rounds=1)],
        [record(part="streaming", shape=Shape(1, 1, 3, 8)), record(part="streaming", contender=OUR_CELL)],
        [record(part="growth"), record(part="growth", shape=SMALL._replace(T=77))],
        [record(shape=Shape(k, 1, 1, 1), norm="lrn:n=3") for k in range(1, 13)],
    ],
    ids=["dense", "memory", "streaming", "growth", "twelve shapes"],
)
def test_a_part_alone_can_be_drawn(records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "bench.svg"
    draw(Benchmark("", MACHINE, table(*records)), path)
    found = words(path)
    assert any(records[0].norm in text for text in found)
    assert "geometric mean" in found


@pytest.mark.parametrize("name", ["bench.jpg", "bench", "bench.svg.gz", "png"])
def test_other_suffixes_are_refused_and_those_that_exist_listed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for function in (check_figure_path, lambda p: draw(whole_run(), p)):
        with pytest.raises(ValueError, match=r"ends in \.png, \.svg, \.pdf") as error:
            function(path)
        assert repr(name) in str(error.value)
    assert not path.exists()


@pytest.mark.parametrize(
    "records",
    [[], [record(metric=PADDED)], [record(part="growth")], [record(part="growth", contender=TORCH)]],
    ids=["nothing", "no ratio", "growth of one shape", "growth of others"],
)
def test_nothing_to_show_is_an_error_and_leaves_no_file(records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "bench.png"
    with pytest.raises(ValueError, match="no ratio to draw"):
        draw(Benchmark("", MACHINE, table(*records)), path)
    assert not path.exists()
