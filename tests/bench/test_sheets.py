"""Tables for the terminal and for a page."""

from __future__ import annotations

import io

import pytest
from bench.made_records import SMALL, WIDE, record, table, whole_run
from rich.console import Console

from rnnnorm.bench import GOALS
from rnnnorm.bench.records import EAGER, OUR_CELL, PEAK, RATIO, REFERENCE, SCRIPT, SCRIPTED, TORCH
from rnnnorm.bench.sheets import Sheet, headline, sheets, summary_sheet


def shown(sheet: Sheet) -> str:
    """As a terminal of plenty of columns shows it."""
    console = Console(file=io.StringIO(), width=250, color_system=None)
    console.print(sheet.rich())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


@pytest.fixture(scope="module")
def all_sheets() -> list[Sheet]:
    return list(sheets(whole_run().records))


def test_there_is_one_table_per_part_kind_of_lengths_and_metric_and_the_summary_last(all_sheets: list[Sheet]) -> None:
    records = whole_run().records
    kinds = records[["part", "lengths", "metric"]].drop_duplicates()
    assert len(all_sheets) == len(kinds) + 1
    titles = [sheet.title for sheet in all_sheets]
    assert len(set(titles)) == len(titles)
    assert titles[-1].startswith("Summary")
    for words in ("dense", "uniform lengths", "heavy-tailed lengths", "memory", "timestep", "grow", "Forward pass"):
        assert any(words in title for title in titles), words


def test_rows_are_as_long_as_the_head_in_every_form(all_sheets: list[Sheet]) -> None:
    for sheet in all_sheets:
        head, rule, *body = rows(sheet.markdown())
        assert head == [name.strip() for name in sheet.head]
        assert rule == ["---"] + ["---:"] * (len(head) - 1)
        assert [tuple(row) for row in body] == list(sheet.rows)
        assert {len(row) for row in body} == {len(head)}
        text = shown(sheet)
        assert sheet.title in text
        for cell in (cell for row in sheet.rows for cell in row):
            assert cell in text


def test_a_row_has_its_shapes_and_their_geometric_mean() -> None:
    numbers = table(record(0.5), record(2.0, shape=WIDE), record(1.0, contender=TORCH, norm="", backend=""))
    sheet = next(sheets(numbers))
    assert sheet.head == (RATIO, f"T,B,I,H = {SMALL}", f"T,B,I,H = {WIDE}", "geometric mean")
    ours, torchs = sheet.rows
    assert ours == ("ln (native)", "0.50 (0.45–0.55), 2.5 ms", "2.00 (1.80–2.20), 2.5 ms", "1.00")
    assert torchs == (TORCH, "1.00 (0.90–1.10), 2.5 ms", "–", "–")  # a mean over other shapes would mislead


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "ln (native)"),
        ({"norm": "none", "backend": "reference"}, "none (reference)"),
        ({"contender": REFERENCE, "backend": "reference"}, "ln, eager reference"),
        ({"contender": SCRIPTED, "norm": "ln"}, SCRIPTED),
        ({"contender": TORCH, "norm": ""}, TORCH),
        ({"contender": OUR_CELL, "backend": "step"}, "ln, rnnnorm.LSTMCell"),
    ],
    ids=["ours", "none", "eager", "script", "torch", "cell"],
)
def test_rows_are_named_by_contender_and_norm(fields: dict[str, str], name: str) -> None:
    assert next(sheets(table(record(**fields)))).rows[0][0] == name


@pytest.mark.parametrize(
    ("fields", "cell"),
    [
        ({"part": "streaming", "ms": 0.012}, "1.25 (1.12–1.38), 12 µs"),
        ({"part": "memory", "ms": None, "rounds": 1}, "1.25"),
        ({"part": "memory", "ms": None, "rounds": 1, "metric": PEAK}, "1.2"),
        ({"metric": SCRIPT}, "1.25 (1.12–1.38)"),
        ({"metric": EAGER}, "1.25 (1.12–1.38)"),
        ({"ms": 1234.5}, "1.25 (1.12–1.38), 1.23e+03 ms"),
    ],
    ids=["streaming", "memory", "peak", "script", "eager", "slow"],
)
def test_a_cell_tells_what_is_known(fields: dict[str, object], cell: str) -> None:
    assert next(sheets(table(record(1.25, **fields)))).rows[0][1] == cell


def test_the_summary_marks_the_goals_that_are_missed() -> None:
    numbers = table(record(0.5), record(1.2, norm="wn"), record(3.0, norm="ln", metric=SCRIPT))
    sheet = summary_sheet(numbers)
    assert sheet.head == ("", "goal", "ln", "wn")
    answers = {row[0]: row[1:] for row in sheet.rows}
    dense, worst, script = (goal.name for goal in GOALS if goal.part == "dense")
    assert answers == {
        dense: ("≤ 1", "0.50", "1.20 ✗"),
        worst: ("≤ 1.3", "0.50", "1.20"),
        script: ("≥ 2.5", "3.00", "–"),
    }


def test_without_an_answer_there_is_no_summary() -> None:
    assert [sheet.title for sheet in sheets(table(record(part="growth")))] == [
        f"Training step as T, B, H grow: {RATIO}"
    ]
    assert list(sheets(table())) == []
    assert [s.title for s in sheets(table(record(contender=TORCH, norm="")))] == [
        f"Training step (forward + backward), dense: {RATIO}"
    ]


def test_brackets_in_a_table_are_no_markup() -> None:
    sheet = Sheet("title", ("[bold]norm", "x"), (("[red]ln[/red]", "[1]"),))
    text = shown(sheet)
    assert "[bold]norm" in text
    assert "[red]ln[/red]" in text
    assert "[1]" in text


def test_a_headline_names_whoever_is_not_ours() -> None:
    assert headline(record(0.5)) == f"{RATIO} 0.50 (0.45–0.55), 2.5 ms"
    assert headline(record(0.5, contender=TORCH, norm="")).endswith(f", {TORCH}")
