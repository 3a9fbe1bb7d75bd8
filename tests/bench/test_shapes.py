"""Sizes, lengths, and the batch that all contenders are given."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pad_packed_sequence

from rnnnorm.bench.batch import Batch
from rnnnorm.bench.shapes import LENGTHS, SHAPES, SHORTEST, Shape, draw_lengths, parse_shape

CPU = torch.device("cpu")
MANY = Shape(200, 2000, 1, 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_is_read_as_it_is_written(shape: Shape) -> None:
    assert parse_shape(str(shape)) == shape


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,1,1,1", "1,-2,3,4", "1.5,2,3,4", "1 2 3 4"])
def test_what_is_no_shape_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="T,B,I,H, four whole numbers") as error:
        parse_shape(text)
    assert repr(text) in str(error.value)
    assert str(SHAPES[0]) in str(error.value)


def test_dense_batches_have_no_lengths() -> None:
    assert draw_lengths("dense", MANY) is None


@pytest.mark.parametrize("kind", LENGTHS[1:])
@pytest.mark.parametrize("shape", [MANY, Shape(10, 5, 1, 1), Shape(4, 5, 1, 1), Shape(1, 1, 1, 1)], ids=str)
def test_lengths_lie_between_the_shortest_and_all_steps(kind: str, shape: Shape) -> None:
    lengths = draw_lengths(kind, shape)
    assert lengths is not None
    assert lengths.dtype == torch.int64
    assert lengths.shape == (shape.B,)
    assert lengths[0] == shape.T
    assert lengths.max() == shape.T
    assert lengths.min() >= min(SHORTEST, shape.T)


@pytest.mark.parametrize("kind", LENGTHS[1:])
def test_lengths_depend_on_the_seed_alone(kind: str) -> None:
    first = draw_lengths(kind, MANY, seed=3)
    torch.randn(5)
    second, other = draw_lengths(kind, MANY, seed=3), draw_lengths(kind, MANY, seed=4)
    assert first is not None
    assert second is not None
    assert other is not None
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_uniform_lengths_are_uniform() -> None:
    lengths = draw_lengths("uniform", MANY)
    assert lengths is not None
    assert lengths.min() == SHORTEST
    assert lengths.double().mean() == pytest.approx((SHORTEST + MANY.T) / 2, rel=0.05)
    quarters = torch.histc(lengths.double(), bins=4, min=SHORTEST, max=MANY.T) / MANY.B
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.05)


def test_heavy_tailed_lengths_have_median_a_fifth_and_a_long_tail() -> None:
    lengths = draw_lengths("heavy-tailed", MANY)
    assert lengths is not None
    assert lengths.double().median() == pytest.approx(MANY.T / 5, rel=0.1)
    assert lengths.double().mean() > 1.2 * lengths.double().median()
    # above the median by two standard deviations of the logarithm: 2.3 % of a log-normal, cut off at T
    assert 0.01 < (lengths == MANY.T).double().mean() < 0.1


def test_unknown_lengths_are_refused_and_those_that_exist_listed() -> None:
    with pytest.raises(ValueError, match=r"unknown lengths 'nope'; there are: dense, uniform, heavy-tailed"):
        draw_lengths("nope", MANY)


@pytest.mark.parametrize("kind", LENGTHS)
def test_a_batch_holds_the_same_sequences_padded_and_packed(kind: str) -> None:
    shape = Shape(30, 6, 2, 3)
    batch = Batch(shape, kind, CPU)
    padded, lengths = pad_packed_sequence(batch.packed, total_length=shape.T)
    assert torch.equal(padded, batch.padded)
    weight, _ = pad_packed_sequence(batch.packed._replace(data=batch.packed_weight), total_length=shape.T)
    assert torch.equal(weight, batch.padded_weight)
    assert batch.padded.shape == (30, 6, 2)
    assert batch.padded_weight.shape == (30, 6, 3)
    assert sum(batch.batch_sizes) == int(lengths.sum()) == len(batch.packed.data)
    if batch.lengths is None:
        assert kind == "dense"
        assert lengths.tolist() == [30] * 6
    else:
        assert torch.equal(lengths, batch.lengths)
        assert int(lengths.sum()) < 30 * 6
    for b, length in enumerate(lengths.tolist()):
        assert (batch.padded[:length, b] != 0).all()
        assert (batch.padded[length:, b] == 0).all()
        assert (batch.padded_weight[length:, b] == 0).all()


def test_both_inputs_of_a_batch_want_gradients_of_their_own() -> None:
    batch = Batch(Shape(12, 3, 2, 2), "uniform", CPU)
    for leaf in (batch.padded, batch.packed.data):
        assert leaf.is_leaf
        assert leaf.requires_grad
    assert batch.padded.data_ptr() != batch.packed.data.data_ptr()


def test_a_batch_depends_on_the_seed_alone() -> None:
    shape = Shape(12, 3, 2, 2)
    first = Batch(shape, "uniform", CPU, seed=1)
    torch.randn(5)
    assert torch.equal(first.padded, Batch(shape, "uniform", CPU, seed=1).padded)
    assert not torch.equal(first.padded, Batch(shape, "uniform", CPU, seed=2).padded)
