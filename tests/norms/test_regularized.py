"""Regularized batch normalization, and auxiliary losses of normalizers."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any, cast

import pytest
import torch
from support import INPUT, LENGTHS, assert_same, padded
from tasks.tiny import batches_of, model_of, trainer_of
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import rnnnorm
from rnnnorm.norms.regularized import RegularizedBatchNorm

F, DOUBLE = 3, torch.float64


def by_hand(x: Tensor, mean: Tensor, var: Tensor, relative: bool) -> Tensor:
    """λ_μ = 2 and λ_σ = 3, over the rows of one step."""
    own_mean, own_var = x.mean(0), x.var(0)
    if not relative:
        return (2 * (own_mean - mean) ** 2 + 3 * (own_var - var).abs()).mean()
    s = (var + 1e-5).sqrt()
    return (2 * ((own_mean - mean) / s) ** 2 + 3 * (1 - (own_var + 1e-5).sqrt() / s) ** 2).mean()


@pytest.mark.parametrize("relative", [False, True])
def test_the_penalty_is_that_of_the_averages_before_they_move(relative: bool) -> None:
    """Over two steps of 5 and 3 rows, each row weighing alike; a first batch finds nothing stored and has none."""
    options = {"statistics": "timestep", "penalty_mean": 2.0, "penalty_var": 3.0, "relative": relative}
    norm = RegularizedBatchNorm(F, dtype=DOUBLE, **cast(Any, options))
    first = norm.sequence(torch.randn(8, F, dtype=DOUBLE, requires_grad=True), [5, 3])
    assert rnnnorm.auxiliary_loss(norm) == 0
    before = norm.stats.running_mean[:2].clone(), norm.stats.running_var[:2].clone()
    x = torch.randn(8, F, dtype=DOUBLE, requires_grad=True)
    y = norm.sequence(x, [5, 3])
    steps = [by_hand(part, *(b[t] for b in before), relative) for t, part in enumerate(x.split([5, 3]))]
    expected = (5 * steps[0] + 3 * steps[1]) / 8
    loss = rnnnorm.auxiliary_loss(norm)
    assert_same(loss, expected, "penalty", 1e-12)
    (grad,) = torch.autograd.grad(loss, x)
    (expected_grad,) = torch.autograd.grad(expected, x)
    assert_same(grad, expected_grad, "gradient", 1e-10)
    assert len(y) == len(first)


def test_apart_from_the_penalty_it_is_batch_normalization() -> None:
    torch.manual_seed(0)
    ours = rnnnorm.LSTM(INPUT, 5, norm="rbn", dtype=DOUBLE)
    theirs = rnnnorm.LSTM(INPUT, 5, norm="bn-timestep", dtype=DOUBLE, backend="reference")
    theirs.load_state_dict(ours.state_dict())
    for _ in range(2):
        x = padded(dtype=DOUBLE)
        assert torch.equal(ours(x, lengths=LENGTHS)[0], theirs(x, lengths=LENGTHS)[0])
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert ours.ran == "reference"


def test_an_auxiliary_loss_lives_as_long_as_its_graph() -> None:
    """Taken once; gone with the outputs; none in evaluation, without gradients, or without such a normalizer."""
    lstm, x = rnnnorm.LSTM(INPUT, 5, norm="rbn"), torch.randn(3, 6, INPUT)
    lstm(x)
    output = lstm(x)[0]
    assert rnnnorm.auxiliary_loss(lstm) > 0
    assert rnnnorm.auxiliary_loss(lstm) == 0
    output = lstm(x)[0]
    del output
    gc.collect()
    assert rnnnorm.auxiliary_loss(lstm) == 0
    with torch.no_grad():
        output = lstm(x)[0]
    assert rnnnorm.auxiliary_loss(lstm) == 0
    output = lstm.eval()(x)[0]
    assert output.requires_grad
    assert rnnnorm.auxiliary_loss(nn.Sequential(lstm)) == 0
    assert rnnnorm.auxiliary_loss(nn.Linear(2, 2)).shape == rnnnorm.auxiliary_loss(nn.Identity()).shape == ()


def test_two_forward_passes_are_averaged() -> None:
    lstm, batches = rnnnorm.LSTM(INPUT, 5, norm="rbn", dtype=DOUBLE), torch.randn(3, 3, 6, INPUT, dtype=DOUBLE)
    lstm(batches[0])
    one, two = copy.deepcopy(lstm), lstm
    kept = [one(batches[1])[0]]
    singly = [rnnnorm.auxiliary_loss(one)]
    kept.append(one(batches[2])[0])
    singly.append(rnnnorm.auxiliary_loss(one))
    kept += [two(batches[1])[0], two(batches[2])[0]]
    assert_same(rnnnorm.auxiliary_loss(two), sum(singly) / 2, "mean", 1e-12)


def test_copies_start_without_a_loss() -> None:
    lstm = rnnnorm.LSTM(INPUT, 5, norm="rbn")
    lstm(torch.randn(3, 6, INPUT))
    output = lstm(torch.randn(3, 6, INPUT))[0]
    for twin in (copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))):
        assert rnnnorm.auxiliary_loss(twin) == 0
    assert rnnnorm.auxiliary_loss(lstm) > 0
    assert len(output) == 3


def test_activation_checkpointing() -> None:
    nets = [rnnnorm.LSTM(INPUT, 5, norm="rbn", dtype=DOUBLE)]
    nets[0](torch.randn(3, 6, INPUT, dtype=DOUBLE))
    nets.append(copy.deepcopy(nets[0]))
    x = torch.randn(3, 6, INPUT, dtype=DOUBLE)
    for net, call in zip(nets, (lambda n: n(x), lambda n: checkpoint(n, x, use_reentrant=False)), strict=True):
        (call(net)[0].square().mean() + rnnnorm.auxiliary_loss(net)).backward()
        assert rnnnorm.auxiliary_loss(net) == 0
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert_same(p.grad, q.grad, "gradient", 1e-10)


def test_rows_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synchronized moments are penalized, too; pooling them is left out, as with one process."""
    monkeypatch.setattr("rnnnorm.norms.synchronized.processes", lambda: 2)
    pool = "rnnnorm.norms.synchronized.pool_moments"
    monkeypatch.setattr(pool, lambda mean, var, sizes: (mean, var, torch.tensor(sizes)))
    alone, together = (RegularizedBatchNorm(F, statistics="timestep", sync=s, dtype=DOUBLE) for s in (False, True))
    losses = []
    for norm in (alone, together):
        torch.manual_seed(0)
        for _ in range(2):
            y = norm.sequence(torch.randn(9, F, dtype=DOUBLE, requires_grad=True), [5, 3, 1])
            losses.append(rnnnorm.auxiliary_loss(norm))
        assert len(y) == 9
    assert losses[1] > 0
    assert_same(losses[3], losses[1], "penalty", 1e-12)


def test_a_compiled_network_trains_outside_of_the_graph() -> None:
    lstm, x = rnnnorm.LSTM(INPUT, 5, norm="rbn"), torch.randn(3, 6, INPUT)
    plain = copy.deepcopy(lstm)
    compiled = torch.compile(lstm, backend="aot_eager")
    for _ in range(2):
        loss, expected = compiled(x)[0].sum(), plain(x)[0].sum()
        pair = rnnnorm.auxiliary_loss(lstm), rnnnorm.auxiliary_loss(plain)
    assert pair[0] > 0
    assert_same(pair[0], pair[1], "penalty", 1e-6)
    assert_same(loss, expected, "loss", 1e-6)


def test_tasks_add_it() -> None:
    """A large penalty is what a task learns from; it is logged beside the loss."""
    weights = {}
    for weight in (0.0, 1000.0):
        torch.manual_seed(0)
        model = model_of("tagging", norm=f"rbn:penalty_mean={weight}")
        trainer = trainer_of(max_epochs=1)
        trainer.fit(model, batches_of("tagging"))
        weights[weight] = model.recurrent.weight_hh_l0.detach()
        assert "train/auxiliary_loss" in trainer.logged_metrics
    assert not torch.allclose(weights[0.0], weights[1000.0])
    trainer = trainer_of(max_epochs=1)
    trainer.fit(model_of("tagging", norm="bn-timestep"), batches_of("tagging"))
    assert "train/auxiliary_loss" not in trainer.logged_metrics


@pytest.mark.parametrize("option", ["penalty_mean", "penalty_var"])
def test_a_negative_penalty_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be a number of at least 0, got -1"):
        RegularizedBatchNorm(F, **cast(Any, {option: -1.0}))


@pytest.mark.parametrize("option", ["ghost=2", "frozen=true"])
def test_options_it_does_not_have(option: str) -> None:
    with pytest.raises(ValueError, match=f"norm 'rbn' has no option '{option.partition('=')[0]}'"):
        rnnnorm.LSTM(2, 3, norm=f"rbn:{option}")
