"""What the catalogue says about parameters and stored values; docs/concepts.md and docs/presets.md say the same."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

import rnnnorm
from rnnnorm.compare.costs import TERMS, PresetCost, catalogue, count_parameters, count_stored, formula, markdown
from rnnnorm.norms.presets import CORE

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def entries() -> dict[str, PresetCost]:
    return {entry.name: entry for entry in catalogue()}


def evaluate(text: str, H: int, T: int) -> float:
    """The number that a formula stands for."""
    total = 0.0
    for part in text.split(" + "):
        number, name = re.fullmatch(r"([\d.]*)(.*)", part).groups()
        total += float(number or 1) * TERMS[name](H, T)
    return total


def test_all_presets_are_there(entries: dict[str, PresetCost]) -> None:
    assert list(entries) == list(rnnnorm.presets())
    assert all(e.source and e.description and e.statistics for e in entries.values())


@pytest.mark.parametrize(
    ("name", "parameters", "stored"),
    [
        ("none", "0", "0"),
        ("bn-vertical", "4H", "8H"),  # a gain; mean and variance, of 4H features
        ("bn-vertical-framewise", "4H", "8H·T"),
        ("bn-shared", "10H", "18H"),
        ("bn-timestep", "10H", "18H·T"),
        ("ln", "10H", "0"),
        ("wn", "8H", "0"),
    ],
)
def test_known_costs(entries: dict[str, PresetCost], name: str, parameters: str, stored: str) -> None:
    assert (entries[name].parameters, entries[name].stored) == (parameters, stored)


def test_formulas_hold_at_other_sizes(entries: dict[str, PresetCost]) -> None:
    for name, entry in entries.items():
        assert evaluate(entry.parameters, 32, 80) == count_parameters(name, 32, 80), name
        assert evaluate(entry.stored, 32, 80) == count_stored(name, 32, 80), name


def test_places(entries: dict[str, PresetCost]) -> None:
    assert entries["none"].places == "–"
    assert entries["bn-timestep"].places == "input bn, hidden bn, cell bn"
    assert entries["ln-carried"].places.endswith("(carried)")


def test_formula() -> None:
    assert formula(lambda H, T: 3 * H * T + H + 2) == "3H·T + H + 2"
    assert formula(lambda H, T: H * (T // 10)) == "0.1H·T"
    assert formula(lambda H, T: 2 * H * H + T) == "2H² + T"
    assert formula(lambda H, T: 1) == "1"
    with pytest.raises(ValueError, match="is no sum of"):
        formula(lambda H, T: H**3)


def test_counting_leaves_the_random_stream_alone() -> None:
    before = torch.get_rng_state()
    list(catalogue())
    assert torch.equal(torch.get_rng_state(), before)


class TestPages:
    script = runpy.run_path(str(ROOT / "scripts" / "write_presets.py"))

    @pytest.mark.parametrize("page", script["PAGES"], ids=lambda page: page.name)
    def test_the_table_is_that_of_the_catalogue(self, page: Path) -> None:
        text = page.read_text()
        assert self.script["replaced"](text, self.script["PAGES"][page]) == text, "run scripts/write_presets.py"

    def test_only_what_stands_between_the_marks_changes(self) -> None:
        begin, end = self.script["BEGIN"], self.script["END"]
        new = self.script["replaced"](f"before\n{begin}\nold\n{end}\nafter\n", CORE)
        assert new == f"before\n{begin}\n{markdown(CORE)}\n{end}\nafter\n"
        assert self.script["replaced"](new, CORE) == new

    @pytest.mark.parametrize(
        "text", ["nothing", "<!-- presets -->", "<!-- presets --> <!-- presets --> <!-- /presets -->"]
    )
    def test_marks_must_be_there_once(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected <!-- "):
            self.script["replaced"](text, CORE)

    @pytest.mark.parametrize("names", [CORE, tuple(rnnnorm.presets())], ids=["core", "all"])
    def test_one_row_per_preset_with_as_many_cells(self, names: tuple[str, ...]) -> None:
        head, _, *rows = markdown(names).splitlines()
        assert [row.split("`")[1] for row in rows] == list(names)
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {head.count("|")}
