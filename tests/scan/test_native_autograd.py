"""The compiled scan inside autograd: graphs used twice, derivatives of derivatives, checkpoints, memory."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from scan.native_cases import (
    COVERED,
    LENGTHS,
    Poison,
    assert_near,
    build,
    data,
    distance,
    needs_library,
    run,
    states,
    twin,
)
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import rnnnorm
from rnnnorm.scan.native.run import BUFFERS

pytestmark = needs_library
RAGGED = torch.tensor(LENGTHS["ragged"])


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    Poison(monkeypatch)


def total(lstm: rnnnorm.LSTM, x: Tensor, hx: tuple[Tensor, ...]) -> Tensor:
    """A number that depends on all outputs, nonlinearly."""
    output, (h_n, c_n) = lstm(x, hx, lengths=RAGGED)
    return output.square().sum() + (h_n * 0.7).sin().sum() + c_n.pow(3).mean()


def leaves(lstm: rnnnorm.LSTM, x: Tensor, hx: tuple[Tensor, ...]) -> list[Tensor]:
    return [x, *hx, *lstm.parameters()]


def batch(lstm: rnnnorm.LSTM) -> tuple[Tensor, tuple[Tensor, ...]]:
    return data(LENGTHS["ragged"]).requires_grad_(), tuple(s.requires_grad_() for s in states(lstm, 10))


@pytest.mark.parametrize("norm", COVERED)
def test_a_graph_can_be_used_twice(norm: str) -> None:
    lstm = build(norm)
    x, hx = batch(lstm)
    expected, loss = total(twin(lstm), x, hx), total(lstm, x, hx)
    first = torch.autograd.grad(loss, leaves(lstm, x, hx), retain_graph=True)
    total(lstm, x.detach() * 3, hx).backward()  # another graph meanwhile
    second = torch.autograd.grad(loss, leaves(lstm, x, hx))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    reference = torch.autograd.grad(expected, (x, *hx))
    assert all(distance(a, b) < 1e-10 for a, b in zip(first, reference, strict=False))
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("norm", COVERED)
def test_second_derivatives(norm: str, training: bool) -> None:
    """First derivatives with a graph of their own, and derivatives of their length; statistics are counted once."""
    ours = build(norm).train(training)
    other = twin(ours)
    x, hx = batch(ours)
    found = []
    for lstm in (other, ours):
        inputs = leaves(lstm, x, hx)
        first = torch.autograd.grad(total(lstm, x, hx), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        found.append([*(g.detach() for g in first), *second])
    for k, (expected, actual) in enumerate(zip(*found, strict=True)):
        assert distance(actual, expected) < 1e-9, k
    assert_near(dict(ours.named_buffers()), dict(other.named_buffers()), 1e-12)


@pytest.mark.parametrize("norm", ["none", "wn", "ln", "bn-timestep", "bn-vertical"])
def test_states_and_inputs_that_depend_on_each_other(norm: str) -> None:
    """As in a decoder that reads what it wrote: each path counts once, also in derivatives with a graph."""
    found = []
    ours = build(norm)
    start = states(ours, 10)[0].requires_grad_()
    for lstm in (twin(ours), ours):
        x = start[..., :5].tanh().expand(7, -1, -1)
        loss = total(lstm, x, (start, start.sin()))
        (first,) = torch.autograd.grad(loss, start, create_graph=True)
        found.append([first.detach(), *torch.autograd.grad(first.square().sum(), start)])
    for expected, actual in zip(*found, strict=True):
        assert distance(actual, expected) < 1e-9


@pytest.mark.parametrize("norm", ["none", "ln", "ln-sum", "bn-timestep", "bn-vertical", "bn-star"])
@pytest.mark.parametrize("order", [1, 2])
def test_parameters_from_outside(norm: str, order: int) -> None:
    """`functional_call`, as in meta-learning: derivatives are by, and at, the parameters of the call."""
    found = []
    ours = build(norm)
    x = data((4,) * 9)
    values = {name: 1.3 * p.detach() for name, p in ours.named_parameters()}
    for lstm in (twin(ours), ours):
        parameters = {name: value.clone().requires_grad_() for name, value in values.items()}
        output, _ = functional_call(lstm, parameters, (x,))
        inputs = list(parameters.values())
        gradients = torch.autograd.grad(output.square().sum(), inputs, create_graph=order == 2, allow_unused=True)
        if order == 2:
            assert all(g is not None for g in gradients), "a parameter of the call was not seen"
            gradients += torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
        found.append([g.detach() for g in gradients])
    for expected, actual in zip(*found, strict=True):
        assert distance(actual, expected) < 1e-9


def _evaluate(lstm: rnnnorm.LSTM) -> None:
    lstm.eval()


def _train_on(lstm: rnnnorm.LSTM) -> None:
    lstm(5 * data(LENGTHS["dense"]) + 3)


@pytest.mark.parametrize("event", [_evaluate, _train_on], ids=["mode", "another-batch"])
@pytest.mark.parametrize("norm", ["bn-vertical", "bn-vertical-framewise", "bn-shared", "bn-timestep", "bn-joint"])
def test_what_happens_before_a_differentiable_backward_pass(norm: str, event: Callable[[rnnnorm.LSTM], None]) -> None:
    """The derivative is that of what was computed: neither a later mode nor later statistics matter."""
    found = []
    ours = build(norm)
    x, hx = batch(ours)
    for lstm in (twin(ours), ours):
        torch.manual_seed(1)
        loss = total(lstm, x, hx)
        event(lstm)
        found.append(torch.autograd.grad(loss, (x, *hx), create_graph=True))
    for expected, actual in zip(*found, strict=True):
        assert distance(actual.detach(), expected.detach()) < 1e-9


def test_a_source_that_ended_before_a_differentiable_backward_pass() -> None:
    found = []
    ours = build("bn-timestep").eval()
    x, hx = batch(ours)
    for lstm in (twin(ours), ours):
        with rnnnorm.statistics(lstm, "batch"):
            loss = total(lstm, x, hx)
        found.append(torch.autograd.grad(loss, (x, *hx), create_graph=True))
    for expected, actual in zip(*found, strict=True):
        assert distance(actual.detach(), expected.detach()) < 1e-9


@pytest.mark.parametrize("norm", COVERED)
def test_checkpointing_counts_a_batch_once(norm: str) -> None:
    plain = build(norm, num_layers=2, max_steps=6)
    checkpointed = twin(plain, "native")
    x, hx = batch(plain)
    found = []
    for lstm in (plain, checkpointed):
        arguments = (lstm, x, hx)
        loss = total(*arguments) if lstm is plain else checkpoint(total, *arguments, use_reentrant=False)
        found.append(torch.autograd.grad(loss, leaves(lstm, x, hx)))
    for expected, actual in zip(*found, strict=True):
        assert distance(actual, expected) < 1e-12
    assert_near(dict(checkpointed.named_buffers()), dict(plain.named_buffers()), 1e-15)


@pytest.mark.parametrize("norm", ["none", "ln", "ln-carried", "gn", "bn-timestep", "bn-star"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_without_gradients(mode: Callable[[], torch.no_grad], norm: str, training: bool) -> None:
    """The same values and statistics, though the rows of only two steps are kept, and nothing afterwards."""
    recording = build(norm, num_layers=2).train(training)
    lstm, reference = twin(recording, "native"), twin(recording)
    x, hx = data(LENGTHS["ragged"]), states(lstm, 10)
    kept = run(recording, x, hx, LENGTHS["ragged"])
    lent = BUFFERS.lent
    with mode():
        actual = run(lstm, x, hx, LENGTHS["ragged"])
        assert_near(actual, run(reference, x, hx, LENGTHS["ragged"]))
    assert lstm.ran == "native"
    assert_near(actual, {name: kept[name] for name in actual}, 1e-12)
    assert BUFFERS.lent == lent


def test_memory_of_long_sequences_without_gradients() -> None:
    """It does not grow with the number of steps."""
    lstm = build("ln", 40)
    lent = []
    borrow = BUFFERS.borrow
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(BUFFERS, "borrow", lambda count: lent.append(count) or borrow(count))
        for steps in (4, 400):
            lent.append(0)
            lstm(data((steps,) * 9))
    short, long = sum(lent[: len(lent) // 2]), sum(lent[len(lent) // 2 :])
    assert long < short + 64 * 400  # some bytes per step, where rows take thousands


def test_memory_comes_back_with_the_graph() -> None:
    gc.collect()
    before = BUFFERS.lent
    result = build("ln", 40)(data((50,) * 9))
    assert BUFFERS.lent > before
    del result
    assert BUFFERS.lent == before


def test_memory_comes_back_after_backward() -> None:
    """As torch's own: what is kept for backward is freed by it, even if somebody still holds the loss."""
    gc.collect()
    before = BUFFERS.lent
    loss = build("ln", 40)(data((50,) * 9))[0].square().sum()
    assert BUFFERS.lent > before
    loss.backward()
    assert BUFFERS.lent == before


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "norms_l0.hidden.gain", "norms_l0.cell.bias"])
def test_changed_parameters_are_noticed(name: str) -> None:
    """An optimizer's step between forward and backward would give the gradient of something else."""
    lstm = build("ln")
    loss = lstm(data((4, 4, 4)))[0].sum()
    with torch.no_grad():
        lstm.get_parameter(name).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("norm", ["ln", "bn-timestep"])
def test_truncated_backpropagation(norm: str) -> None:
    """Two pieces of a sequence, with the state carried over: gradients flow through it, or end where it is detached."""
    found = []
    ours = build(norm, max_steps=3)
    x = data((8,) * 9)
    for lstm in (twin(ours), ours):
        first, state = lstm(x[:4])
        joined, _ = lstm(x[4:], state)
        cut, _ = lstm(x[4:], tuple(s.detach() for s in state))
        loss = first.square().sum() + joined.square().sum() + cut.sum()
        found.append(torch.autograd.grad(loss, list(lstm.parameters())))
    for expected, actual in zip(*found, strict=True):
        assert distance(actual, expected) < 1e-10
