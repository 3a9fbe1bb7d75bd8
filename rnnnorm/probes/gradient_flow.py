"""Gradients of the loss with respect to the states, against the timestep."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar

import lightning as L

from rnnnorm.probes.base import Measurement, Probe
from rnnnorm.probes.heat_maps import HeatMap
from rnnnorm.probes.recording import growth, observe


class GradientFlow(Probe):
    """‖∂L/∂h_t‖ and ‖∂L/∂c_t‖ against t, per layer and direction, and the factor by which they grow per step back.

    L is the loss of the training step; the norms are those of the total derivative over all B_t active rows, before
    gradient clipping. Loss scaling of mixed precision and the division of `accumulate_grad_batches` are undone. The
    gradients that reach a layer's outputs are sent back through a repetition of its run on the eager reference. In the
    reverse direction t counts from each sequence's end.

    Scalars per layer and state, such as `l0/h`: `growth/…`, the factor (above 1: explodes, below 1: vanishes; see
    `rnnnorm.probes.growth`), over all steps up to the last one with a gradient; `first/…`, the norm at t = 0; `last/…`,
    that of the last such step. Series: `gradient/l0/h`, ….

    Args:
        every: training batches from one measurement to the next.

    Source: Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio, ICML 2013.
    """

    name: ClassVar[str] = "gradient_flow"
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (HeatMap("gradient", "norm of the gradient", "log"),)

    def watch(self, pl_module: L.LightningModule) -> AbstractContextManager[Any]:
        """Observe the states and their gradients."""
        return observe(pl_module, gradients=True)

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> Measurement:
        """Read the norms off the states."""
        found = Measurement()
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        if pl_module.automatic_optimization:
            scale /= trainer.accumulate_grad_batches
        for layer, states in watched.layers.items():
            for state, norms in states.gradient_norms().items():
                norms = norms.cpu() / scale
                name = f"{layer}/{state}"
                found.rows[f"gradient/{name}"] = norms
                reached = norms.nonzero()
                stop = int(reached[-1]) + 1 if len(reached) else 0
                if stop >= 2:
                    found.scalars[f"growth/{name}"] = growth(norms, 0, stop)
                    found.scalars[f"first/{name}"] = float(norms[0])
                    found.scalars[f"last/{name}"] = float(norms[stop - 1])
        return found
