"""The input layer: several columns of tokens, one-hot rows, features."""

from __future__ import annotations

import pytest
import torch

from rnnnorm.data.base import Spec
from rnnnorm.tasks.embedding import InputLayer

TWO = Spec("tagging", vocabularies=(5, 7))
ROWS = torch.tensor([[0, 6], [4, 0], [0, 0]])


def test_columns_are_summed() -> None:
    layer = InputLayer(TWO, 3)
    a, b = (e.weight for e in layer.embeddings)
    assert layer.output_size == 3
    torch.testing.assert_close(layer(ROWS), torch.stack([a[0] + b[6], a[4] + b[0], a[0] + b[0]]))


def test_columns_are_concatenated() -> None:
    layer = InputLayer(TWO, 3, "concatenate")
    a, b = (e.weight for e in layer.embeddings)
    assert layer.output_size == 6
    torch.testing.assert_close(layer(ROWS)[0], torch.cat([a[0], b[6]]))


def test_size_zero_is_one_hot() -> None:
    layer = InputLayer(Spec("tagging", vocabularies=(3,)), 0)
    assert layer.output_size == 3
    assert list(layer.parameters()) == []
    assert layer(torch.tensor([[2], [0]])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_features_pass_through() -> None:
    layer, rows = InputLayer(Spec("regression", num_features=4), 32), torch.randn(5, 4)
    assert layer.output_size == 4
    assert torch.equal(layer(rows), rows)


@pytest.mark.parametrize(
    ("spec", "size", "columns", "message"),
    [
        (Spec("tagging"), 3, "sum", r"got vocabularies=\(\) and num_features=0"),
        (Spec("tagging", (3,), 2), 3, "sum", r"got vocabularies=\(3,\) and num_features=2"),
        (TWO, 0, "sum", "one column of tokens, got 2"),
        (TWO, -1, "sum", "at least 0.*got -1"),
        (TWO, 3, "mean", "sum, concatenate, got 'mean'"),
    ],
    ids=["neither", "both", "one-hot of two", "negative", "columns"],
)
def test_bad_arguments_are_named(spec: Spec, size: int, columns: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputLayer(spec, size, columns)


def test_rows_of_another_width_are_named() -> None:
    with pytest.raises(ValueError, match=r"rows must be \(N, 2\), got shape \(3, 1\)"):
        InputLayer(TWO, 3)(ROWS[:, :1])
