"""Gradients of the loss with respect to the states, against the timestep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import lightning as L
import torch

from rnnnorm.probes.base import Measurement, Probe
from rnnnorm.probes.heat_maps import HeatMap, last_reaching
from rnnnorm.probes.recording import growth, observe
from rnnnorm.probes.table import Table

EXPLODED = 100.0
"""How many times as large as what enters a layer the gradient at a step must be to have exploded."""


class GradientFlow(Probe):
    """‖∂L/∂h_t‖ and ‖∂L/∂c_t‖ against t, per layer and direction, and the factor by which they grow per step back.

    L is the loss of the training step; the norms are those of the total derivative over all B_t active rows, before
    gradient clipping. Loss scaling of mixed precision and the division of `accumulate_grad_batches` are undone. The
    gradients that reach a layer's outputs are sent back through a repetition of its run on the eager reference. In the
    reverse direction t counts from each sequence's end.

    A gradient has exploded at step t where ‖∂L/∂h_t‖ (or ‖∂L/∂c_t‖) is at least 100 times as large as all gradients
    together that enter the layer from outside its recurrence (from the loss, or the layer above). The ratio is the
    series `amplification/l0/h`, …; the picture marks, in red, the last such t of each measurement: it exploded from
    there back to 0.

    Scalars: `largest`, the largest norm at any step of any layer; `amplification`, the largest ratio; `exploded_at`,
    the last t with an explosion, where there is one; and per layer `growth/l0/h`, … the factor (above 1: explodes,
    below 1: vanishes; see `rnnnorm.probes.growth`) over all steps up to the last one with a gradient. Series:
    `gradient/l0/h`, ….

    Args:
        every: training batches from one measurement to the next; None as in `Probe`.

    Source: Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio, ICML 2013.
    """

    name: ClassVar[str] = "gradient_flow"
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (
        HeatMap(
            "gradient",
            "norm of the gradient at each timestep",
            "log",
            "Brighter towards t = 0: explodes (red: 100 times what enters). Darker: vanishes. "
            "Gray: no sequence so long.",
            names={"h": "gradient of h", "c": "gradient of c"},
            threshold=("amplification", EXPLODED),
        ),
    )

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
                name = f"{layer}/{state}"
                found.rows[f"gradient/{name}"] = norms.cpu() / scale
                found.rows[f"amplification/{name}"] = norms.cpu() / (states.entering or math.nan)
                reached = norms.nonzero()
                stop = int(reached[-1]) + 1 if len(reached) else 0
                if stop >= 2 and state == "h":
                    found.scalars[f"growth/{name}"] = growth(norms.cpu(), 0, stop)
        for series, tag in (("gradient", "largest"), ("amplification", "amplification")):
            rows = [row for name, row in found.rows.items() if name.startswith(series + "/")]
            found.scalars[tag] = max((float(row.nan_to_num(nan=-1).max()) for row in rows), default=math.nan)
        exploded = [
            last_reaching(row.numpy(), EXPLODED) for name, row in found.rows.items() if "amplification/" in name
        ]
        found.scalars["exploded_at"] = max((t for t in exploded if math.isfinite(t)), default=math.nan)
        return found

    def shows(self, heat_map: HeatMap, panels: Mapping[str, Table]) -> str:
        """How fast h's gradient grows or falls in the newest column."""
        table = panels["h"]
        norms = torch.from_numpy(table.array()[-1]).double()
        norms = norms[: int(norms.nan_to_num().nonzero().max()) + 1] if bool(norms.nan_to_num().any()) else norms[:0]
        factor = growth(norms, 0, len(norms)) if len(norms) >= 2 else math.nan
        if not (math.isfinite(factor) and factor > 0):
            return ""
        steps = math.log(10) / abs(math.log(factor)) if factor != 1 else math.inf
        word = "grows" if factor > 1 else "falls"
        if steps > 10 * len(norms):
            return f"Step {table.steps[-1]:,}: that of h stays as large all the way back."
        return f"Step {table.steps[-1]:,}: that of h {word} 10-fold every {steps:.2g} steps back."
