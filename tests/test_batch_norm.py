"""Ragged batch normalization by itself, beside torch's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from support import LENGTHS, assert_same, padded, valid
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import rnnnorm
from rnnnorm import RaggedBatchNorm

F = 4
DOUBLE = torch.float64
SCOPES = ("sequence", "shared", "timestep")


def packed(x: Tensor) -> PackedSequence:
    return pack_padded_sequence(x, LENGTHS, enforce_sorted=False)


def trained(statistics: str, **options: Any) -> RaggedBatchNorm:
    norm = RaggedBatchNorm(F, statistics=statistics, dtype=DOUBLE, max_steps=7, **options)
    with torch.no_grad():
        norm.norm.gain.uniform_(0.5, 1.5)
        if norm.norm.bias is not None:
            norm.norm.bias.normal_()
    for _ in range(3):
        norm(padded(features=F, dtype=DOUBLE) * 2 + 1, lengths=LENGTHS)
    return norm


@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_sequence_is_torchs_on_the_rows(momentum: float) -> None:
    theirs = nn.BatchNorm1d(F, momentum=momentum).double()
    ours = RaggedBatchNorm.from_torch(theirs)
    for _ in range(4):
        x = packed(padded(features=F, dtype=DOUBLE) + 2)
        assert_same(ours(x).data, theirs(x.data), "training", 1e-12)
    assert_same(ours.norm.stats.running_mean[0], theirs.running_mean, "mean", 1e-12)
    assert_same(ours.norm.stats.running_var[0], theirs.running_var, "variance", 1e-12)
    ours.eval(), theirs.eval()
    assert_same(ours(x).data, theirs(x.data), "evaluation", 1e-12)


def test_from_a_trained_module() -> None:
    theirs = nn.BatchNorm1d(F, eps=1e-3).double()
    with torch.no_grad():
        theirs.weight.uniform_(), theirs.bias.normal_()
    for _ in range(3):
        theirs(torch.randn(9, F, dtype=DOUBLE) * 3 + 1)
    x = packed(padded(features=F, dtype=DOUBLE))
    for statistics in SCOPES:
        ours = RaggedBatchNorm.from_torch(theirs.eval(), statistics=statistics)
        assert not ours.training
        assert_same(ours(x).data, theirs(x.data), statistics, 1e-12)
    with pytest.raises(TypeError, match=r"expected a torch.nn.BatchNorm1d, got LayerNorm"):
        RaggedBatchNorm.from_torch(nn.LayerNorm(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="track_running_stats=False"):
        RaggedBatchNorm.from_torch(nn.BatchNorm1d(3, track_running_stats=False))


def test_debiased_averages_go_on_from_those_of_torch() -> None:
    theirs = nn.BatchNorm1d(F).double()
    for _ in range(200):
        theirs(torch.randn(50, F, dtype=DOUBLE) * 3 + 1)
    ours = RaggedBatchNorm.from_torch(theirs, debias=True)
    x = packed(padded(features=F, dtype=DOUBLE))
    ours(x), theirs(x.data)
    assert_same(ours.norm.stats.running_mean[0], theirs.running_mean, "mean", 1e-6)
    with pytest.raises(ValueError, match="need the number of rows"):
        RaggedBatchNorm.from_torch(theirs, by_rows=True)
    with pytest.raises(ValueError, match="momentum=None need the number of rows"):
        RaggedBatchNorm.from_torch(nn.BatchNorm1d(F, momentum=None))


@pytest.mark.parametrize("statistics", SCOPES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_what_stands_in_the_padding_is_never_read(statistics: str, training: bool) -> None:
    norm = trained(statistics).train(training)
    x, inside = padded(features=F, dtype=DOUBLE), valid().unsqueeze(-1)
    results = []
    for poison in (0.0, 1e30, torch.nan):
        own = copy.deepcopy(norm)
        leaf = torch.where(inside, x, poison).requires_grad_()
        y = own(leaf, lengths=LENGTHS)
        (y * torch.linspace(-1, 1, F)).square().sum().backward()
        assert not y[~valid()].any()
        assert not leaf.grad[~valid()].any()
        results.append((y, leaf.grad, *own.buffers(), *(p.grad for p in own.parameters())))
    for other in results[1:]:
        for k, (a, b) in enumerate(zip(other, results[0], strict=True)):
            assert torch.equal(a, b), k


@pytest.mark.parametrize("statistics", SCOPES)
def test_forms_of_a_batch(statistics: str) -> None:
    x = padded(features=F, dtype=DOUBLE)
    norm = trained(statistics)
    first, second, third = (copy.deepcopy(norm) for _ in range(3))
    third.batch_first = True
    y = norm(packed(x))
    expected = pad_packed_sequence(y)[0]
    assert torch.equal(first(x, lengths=LENGTHS), expected)
    assert torch.equal(third(x.transpose(0, 1), lengths=LENGTHS), expected.transpose(0, 1))
    dense = torch.randn(5, 3, F, dtype=DOUBLE)
    whole = second(dense)
    assert whole.shape == dense.shape
    if statistics == "sequence":
        axes: tuple[int, ...] = (0, 1)
        z = (dense - dense.mean(axes)) / (dense.var(axes, correction=0) + 1e-5).sqrt()
    else:
        z = (dense - dense.mean(1, keepdim=True)) / (dense.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert_same(whole, z * norm.norm.gain + norm.norm.bias, "dense", 1e-10)
    assert second.eval()(dense[:, 0]).shape == (5, F)


@pytest.mark.parametrize("statistics", SCOPES)
def test_gradients(statistics: str) -> None:
    norm = trained(statistics)
    x = padded(features=F, dtype=DOUBLE).requires_grad_()
    assert gradcheck(lambda x: norm(x, lengths=LENGTHS), x)


def test_population_statistics_in_a_deep_model() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(RaggedBatchNorm(F, statistics=s, dtype=DOUBLE) for s in SCOPES)
            self.layers = nn.ModuleList(nn.Linear(F, F, dtype=DOUBLE) for _ in SCOPES)

        def forward(self, x: PackedSequence) -> PackedSequence:
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = norm(PackedSequence(layer(x.data).tanh(), *x[1:]))
            return x

    model = Deep()
    sequences = [torch.randn(n, F, dtype=DOUBLE) for n in (9, 4, 6, 6, 2, 8, 9, 3)]

    def batch(part: list[Tensor]) -> PackedSequence:
        return nn.utils.rnn.pack_sequence(part, enforce_sorted=False)

    rnnnorm.recalibrate(model, [batch(sequences)])
    expected = {name: b.clone() for name, b in model.state_dict().items() if "population" in name}
    assert len(expected) == 9
    rnnnorm.recalibrate(model, [batch(sequences[:3]), batch(sequences[3:5]), batch(sequences[5:])])
    for name, value in expected.items():
        assert_same(model.state_dict()[name].double(), value.double(), name, 1e-12)
    model.eval()
    x = batch(sequences)
    with rnnnorm.statistics(model, "population"):
        stored = model(x).data
    with rnnnorm.statistics(model, "batch"):
        own = model(x).data
    assert (stored - own).abs().mean() < 0.5 * own.std()


def test_copies_pickles_and_state_dicts() -> None:
    norm = trained("timestep").eval()
    x = packed(padded(features=F, dtype=DOUBLE))
    fresh = RaggedBatchNorm(F, statistics="timestep", dtype=DOUBLE, max_steps=7).eval()
    fresh.load_state_dict(norm.state_dict())
    for other in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm)), fresh):
        assert torch.equal(other(x).data, norm(x).data)
    norm.reset_parameters()
    assert torch.equal(norm.norm.gain, torch.ones(F, dtype=DOUBLE))
    assert not norm.norm.stats.num_rows.any()


def test_without_gain_and_bias() -> None:
    norm = RaggedBatchNorm(F, affine=False)
    assert not [p for p in norm.parameters() if p.requires_grad]
    assert norm.norm.bias is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_features": 0}, "num_features must be an integer of at least 1, got 0"),
        ({"num_features": 3, "eps": 0.0}, "eps must be a positive number, got 0.0"),
        ({"num_features": 3, "statistics": "step"}, "sequence, shared, timestep, got 'step'"),
        ({"num_features": 3, "momentum": 2.0}, r"momentum must be a number in \(0, 1\] or None, got 2.0"),
    ],
    ids=str,
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RaggedBatchNorm(**options)


def test_wrong_shapes() -> None:
    norm = RaggedBatchNorm(F)
    with pytest.raises(ValueError, match=r"F = 4, got shape \(3, 2, 5\)"):
        norm(torch.randn(3, 2, 5))
    with pytest.raises(ValueError, match="lengths are given, but a PackedSequence carries its own"):
        norm(packed(padded(features=F)), lengths=LENGTHS)  # type: ignore[call-overload]


def test_it_shows_what_it_is() -> None:
    assert "statistics=timestep" in repr(RaggedBatchNorm(F, statistics="timestep", batch_first=True))
