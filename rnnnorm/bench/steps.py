"""Steps that are timed: a training step, a forward pass, some steps of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Step(ABC):
    """A piece of work that can be repeated."""

    def prepare(self) -> None:  # noqa: B027  (most need nothing)
        """Make everything ready; not timed."""

    @abstractmethod
    def run(self) -> None:
        """Do it once; this is what is timed."""

    def reset(self) -> None:  # noqa: B027  (most have nothing to put back)
        """Put everything back; not timed."""


class TrainingStep(Step):
    """Forward and backward pass, in training mode; gradients reach the parameters and the input.

    Args:
        module: the contender.
        call: runs it and returns its output.
        leaf: the input that wants a gradient.
        weight: the gradient of the loss at the output.
    """

    def __init__(self, module: nn.Module, call: Callable[[], Tensor], leaf: Tensor, weight: Tensor) -> None:
        self.module, self.call, self.leaf, self.weight = module.train(), call, leaf, weight

    def run(self) -> None:
        """One step without the optimizer."""
        self.call().backward(self.weight)  # type: ignore[no-untyped-call]

    def reset(self) -> None:
        """No gradients, as after `optimizer.zero_grad()`."""
        self.module.zero_grad(set_to_none=True)
        self.leaf.grad = None


class ForwardStep(Step):
    """A forward pass without a graph, in evaluation mode.

    Args:
        module: the contender.
        call: runs it.
    """

    def __init__(self, module: nn.Module, call: Callable[[], Tensor]) -> None:
        module.train()
        with torch.no_grad():
            call()  # running statistics other than their initial values
        self.module, self.call = module.eval(), call

    def run(self) -> None:
        """One pass."""
        with torch.no_grad():
            self.call()


class StreamingStep(Step):
    """Single timesteps, each from the state that the last one left, without a graph, in evaluation mode.

    Args:
        module: the contender.
        advance: state and number of the step → next state; the first state is None.
        repeats: timesteps in a run.
    """

    def __init__(self, module: nn.Module, advance: Callable[[Any, int], Any], repeats: int) -> None:
        module.eval()
        self.advance, self.repeats = advance, repeats

    def run(self) -> None:
        """`repeats` timesteps."""
        state = None
        with torch.no_grad():
            for step in range(self.repeats):
                state = self.advance(state, step)
