"""Repetition of a layer's run, apart from the training: it can be inspected without any effect on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rnnnorm.equations import drawn_again
from rnnnorm.nn.stack import RecurrentStack
from rnnnorm.norms.synchronized import agreement
from rnnnorm.probes.layer_record import LayerRecord

Listen = Callable[[nn.Module, bool], AbstractContextManager[Any]]


class Repetition:
    """One layer and direction as it is about to run, with all that the run depends on.

    The network is copied, without hooks, and so are the random streams: the copy draws what the network draws, and
    moves its own statistics. The gradients that reach the run's results are noted on their way, as they are.

    Args:
        network: the network.
        rows: as in `RecurrentStack.run_direction`, and so the others.
        batch_sizes: (T,).
        states: initial states.
        suffix: such as "_l0".
        quiet: without what is random.
    """

    def __init__(
        self,
        network: RecurrentStack,
        rows: Tensor,
        batch_sizes: Tensor,
        states: tuple[Tensor, ...],
        suffix: str,
        quiet: bool,
    ) -> None:
        self._network, self._suffix, self._quiet = _copy(network), suffix, quiet
        self._rows, self._batch_sizes = rows.detach(), batch_sizes
        self._states = tuple(state.detach() for state in states)
        device = rows.device
        self._cuda = [device] if device.type == "cuda" else []
        self._drawn_again = drawn_again()
        self._streams = torch.get_rng_state(), [torch.cuda.get_rng_state(each) for each in self._cuda]
        enabled, dtype = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        self._autocast = torch.autocast(device.type, dtype, enabled=enabled)
        self._gradients: dict[int, Tensor] = {}
        self._record: LayerRecord | None = None
        self.gates = self.gradients = False
        """Whether a listener wants the pre-activations, and the gradients of the states."""
        self.differentiable = False
        """Whether the run was one that gradients can come back through."""

    def follow(self, results: tuple[Tensor, ...]) -> None:
        """Note the gradients that will reach the results of the run, summed over all backward passes."""
        for k, result in enumerate(results):
            if result.requires_grad:
                self.differentiable = True
                result.register_hook(partial(self._note, k))  # type: ignore[no-untyped-call]

    def _note(self, k: int, gradient: Tensor | None) -> None:
        if gradient is not None:  # nothing reached this one
            before, new = self._gradients.get(k), gradient.detach()
            self._gradients[k] = new if before is None else before + new

    def run(self, listen: Listen) -> LayerRecord:
        """Run again, on the eager reference, once for all who ask.

        Processes whose normalizers are synchronized must do so together.

        Args:
            listen: `rnnnorm.probes.record`.
        """
        if self._record is None:
            self._record = self._run(listen)
        return self._record

    def _run(self, listen: Listen) -> LayerRecord:
        gradients = self.gradients and self.differentiable
        states = tuple(state.clone().requires_grad_(gradients) for state in self._states)
        graph: AbstractContextManager[Any] = torch.enable_grad() if gradients else torch.no_grad()
        with torch.random.fork_rng(self._cuda), self._drawn_again(), graph:
            torch.set_rng_state(self._streams[0])
            for device, stream in zip(self._cuda, self._streams[1], strict=True):
                torch.cuda.set_rng_state(stream, device)
            together = agreement(self._network.modules(), self._batch_sizes, self._rows.device)
            with listen(self._network, self.gates) as recording, together, self._autocast:
                output, last = self._network.run_direction(
                    self._rows, self._batch_sizes, states, self._suffix, self._quiet
                )
            self._back((output, *last))
        found: LayerRecord = recording.layers[self._suffix.removeprefix("_")]
        norms = [float(torch.linalg.vector_norm(g.double())) for g in self._gradients.values()]
        found.entering = math.hypot(*norms)
        return found

    def _back(self, results: tuple[Tensor, ...]) -> None:
        """Give the results the gradients that reached those of the run, as far as there are any."""
        pairs = [(results[k], gradient) for k, gradient in self._gradients.items() if results[k].requires_grad]
        if pairs:
            torch.autograd.backward([r for r, _ in pairs], [g.to(r.dtype) for r, g in pairs])


def _copy(network: RecurrentStack) -> RecurrentStack:
    """Copy of a network with the same values, without gradients and hooks."""
    instead: dict[int, Any] = {}
    for module in network.modules():
        for name, value in vars(module).items():
            # A weight that is computed anew in each step is part of a graph, and cannot be copied with it.
            if isinstance(value, Tensor) and not value.is_leaf:
                instead[id(value)] = value.detach().clone()
            elif name.endswith("_hooks"):  # they may hold anything, such as the model around the network
                instead[id(value)] = type(value)()
    return deepcopy(network, instead).requires_grad_(False)
