"""Active rows of each step, and the precision of statistics estimated from them."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from rnnnorm.probes.base import Measurement, Probe
from rnnnorm.probes.heat_maps import HeatMap


def error_of_mean(active: Tensor) -> Tensor:
    """Standard error of the mean of B_t rows in units of σ, 1/√B_t, (T,)."""
    return active.double().rsqrt()


def error_of_deviation(active: Tensor) -> Tensor:
    """Relative standard error of σ̂ from B_t rows, 1/√(2(B_t - 1)), (T,); inf for a single row.

    It is that of normal rows, to first order in 1/B_t; heavier tails have more.
    """
    return (2 * (active.double() - 1)).rsqrt()


class ActiveRows(Probe):
    """B_t, the sequences still running at step t, and the error with which batch moments of step t are known.

    Of B_t independent rows with standard deviation σ, the mean has the standard error σ/√B_t and, if they are normal,
    σ̂ the relative one 1/√(2(B_t - 1)). That is the noise which batch normalization by the batch's own moments adds at
    step t of a ragged batch, whatever the model does. All layers see the same B_t; of several networks, each has its
    own.

    Scalars: `rows_mean`, B_t averaged over steps, and `single`, the share of steps with one row, which have no
    variance; each after the name of its network where there are several. Series: `active`, `mean_error`,
    `deviation_error`, each with `/all`.

    Args:
        every: training batches from one measurement to the next; None as in `Probe`.
    """

    name: ClassVar[str] = "active_rows"
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (
        HeatMap(
            "active",
            "active rows at each timestep",
            look="Dark: few sequences last so long, and batch moments are those of few rows (1: no variance).",
            by_layer=False,
            names={"all": "sequences still running"},
        ),
    )

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> Measurement:
        """Count rows."""
        found = Measurement()
        for layer, states in watched.layers.items():
            prefix, _, own = layer.rpartition(".")
            if own != "l0":
                continue
            active = torch.tensor(states.active)
            where, tag = prefix or "all", f"{prefix}/" if prefix else ""
            found.rows[f"active/{where}"] = active
            found.rows[f"mean_error/{where}"] = error_of_mean(active)
            found.rows[f"deviation_error/{where}"] = error_of_deviation(active)
            found.scalars |= {
                f"{tag}rows_mean": float(active.double().mean()),
                f"{tag}single": float((active == 1).double().mean()),
            }
        return found
