"""What is timed does what it says, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import buffers
from torch import Tensor, nn

from rnnnorm.bench.batch import Batch
from rnnnorm.bench.contenders import make_step, our_lstm
from rnnnorm.bench.shapes import Shape
from rnnnorm.bench.steps import ForwardStep, StreamingStep, TrainingStep

CPU = torch.device("cpu")
SHAPE = Shape(6, 3, 2, 4)


def test_a_training_step_gives_gradients_and_its_reset_takes_them_away() -> None:
    batch, module = Batch(SHAPE, "dense", CPU), our_lstm(SHAPE, "ln", "auto", CPU).eval()
    step = make_step(module, batch, "padded", training=True)
    assert isinstance(step, TrainingStep)
    assert module.training
    runs = []
    for _ in range(2):
        step.run()
        assert batch.padded.grad is not None
        runs.append([batch.padded.grad.clone(), *(p.grad for p in module.parameters())])
        step.reset()
        assert batch.padded.grad is None
        assert all(p.grad is None for p in module.parameters())
    for first, second in zip(*runs, strict=True):
        assert first is not None
        assert second is not None
        torch.testing.assert_close(first, second)  # without the reset the second would be twice the first


def test_the_gradients_are_those_of_the_weighted_sum_of_outputs() -> None:
    batch, module = Batch(SHAPE, "dense", CPU), our_lstm(SHAPE, "ln", "auto", CPU)
    (expected,) = torch.autograd.grad((module(batch.padded)[0] * batch.padded_weight).sum(), batch.padded)
    make_step(module, batch, "padded", training=True).run()
    assert batch.padded.grad is not None
    torch.testing.assert_close(batch.padded.grad, expected)


def test_a_forward_step_evaluates_with_statistics_that_have_moved_and_stay() -> None:
    batch, module = Batch(SHAPE, "dense", CPU), our_lstm(SHAPE, "bn-timestep", "auto", CPU)
    initial = buffers(module)
    step = make_step(module, batch, "padded", training=False)
    assert isinstance(step, ForwardStep)
    assert not module.training
    moved = buffers(module)
    assert not torch.equal(moved["norms_l0.hidden.stats.running_var"], initial["norms_l0.hidden.stats.running_var"])
    step.run()
    step.reset()
    for name, buffer in buffers(module).items():
        assert torch.equal(buffer, moved[name]), name
    assert batch.padded.grad is None


@pytest.mark.parametrize("form", ["padded", "packed", "lengths"])
def test_a_forward_step_builds_no_graph(form: str) -> None:
    batch, module = Batch(Shape(12, 3, 2, 4), "uniform", CPU), our_lstm(Shape(12, 3, 2, 4), "ln", "auto", CPU)
    step = make_step(module, batch, form, training=False)
    assert isinstance(step, ForwardStep)
    seen: list[bool] = []
    inner = step.call

    def call() -> Tensor:
        output = inner()
        seen.append(output.requires_grad)
        return output

    step.call = call
    step.run()
    assert seen == [False]
    assert inner().requires_grad  # the same call would, were it not for the step


def test_a_stream_hands_each_state_to_the_next_step_and_begins_anew_in_every_run() -> None:
    module, calls = nn.Linear(1, 1), []

    def advance(state: Any, number: int) -> Any:
        assert not torch.is_grad_enabled()
        calls.append((state, number))
        return number if state is None else state + 10

    step = StreamingStep(module, advance, repeats=4)
    assert not module.training
    for _ in range(2):
        calls.clear()
        step.run()
        step.reset()
        assert calls == [(None, 0), (0, 1), (10, 2), (20, 3)]
