"""Bound on the amplification by the recurrent product, after normalization."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from rnnnorm.nn.stack import RecurrentStack
from rnnnorm.norms import LayerNorm, Normalizer
from rnnnorm.norms.batch_statistics import BatchNormalizer
from rnnnorm.norms.group import GroupNorm
from rnnnorm.norms.mean_only import MeanOnlyBatchNorm
from rnnnorm.norms.rms import RMSNorm
from rnnnorm.probes.base import Measurement, Probe, finite_mean
from rnnnorm.probes.heat_maps import HeatMap
from rnnnorm.probes.layer_record import LayerRecord
from rnnnorm.probes.recording import directions, observe, record

BY_ROW = (LayerNorm, RMSNorm, GroupNorm)
EXACT = 3e7
"""Up to how many multiplications (matrices · H³) norms are computed exactly."""


def spectral_norms(W: Tensor, scale: Tensor | None = None, iterations: int = 50) -> Tensor:
    """‖diag(s_t) W‖₂ for W (F, H) and every row s_t of `scale` (k, F), or ‖W‖₂ without; (k,) or (1,).

    W (H,) stands for the matrix with this diagonal.

    Exactly by singular values where that is cheap, otherwise by `iterations` of the power method on W'D²W, all t at
    once, which approaches the norm from below. nan where a matrix is not finite.
    """
    W = W.detach().float() if W.dtype in (torch.float16, torch.bfloat16) else W.detach()
    W = W.diag() if W.dim() == 1 else W
    scale = W.new_ones(1, W.shape[0]) if scale is None else scale.detach().to(W)
    H, k = W.shape[1], scale.shape[0]
    if not bool(torch.isfinite(W).all() and torch.isfinite(scale).all()):
        return W.new_full((k,), torch.nan)
    if k * H**3 <= EXACT:
        exact: Tensor = torch.linalg.svdvals(scale.unsqueeze(2) * W)
        return exact[:, 0]
    # One start for all, drawn apart from the streams that training draws from.
    v = torch.randn(H, generator=torch.Generator().manual_seed(0)).to(W).expand(k, H)
    for _ in range(iterations):
        v = F.normalize(v, dim=1)
        v = (v @ W.T * scale.square()) @ W
    lengths: Tensor = torch.linalg.vector_norm(v, dim=1)
    return lengths.sqrt()


def row_deviations(normalizer: Normalizer, rows: Tensor) -> Tensor | None:
    """Divisors, with ε, of rows (n, F) in a normalizer by row: (n,), of groups the smallest; None for other ones."""
    if not isinstance(normalizer, BY_ROW):
        return None
    groups = rows.reshape(rows.shape[0], int(getattr(normalizer, "groups", 1)), -1)
    squares = groups.square().mean(2) if isinstance(normalizer, RMSNorm) else groups.var(2, correction=0)
    deviations: Tensor = (squares.amin(1) + normalizer.eps).sqrt()
    return deviations


@torch.no_grad()
def bound(network: RecurrentStack, suffix: str, states: LayerRecord) -> Tensor | None:
    """The bound at each step of one layer and direction, (T,); None for normalizers of other kinds.

    Args:
        network: the network.
        suffix: of the layer's weights, such as "_l0".
        states: its record.
    """
    norms, weights = network.norms(suffix), network.layer_weights(suffix)
    W, T = weights.W_hh, len(states.active)
    if norms.hidden is None and norms.joint is None:
        return spectral_norms(W).expand(T)
    if norms.hidden is not None and norms.joint is not None:
        return None
    joint = norms.joint is not None
    if joint and (norms.input is not None or norms.candidate is not None):
        return None
    normalizer = norms.joint if joint else norms.hidden
    assert normalizer is not None
    if isinstance(normalizer, BatchNormalizer):
        if isinstance(normalizer, MeanOnlyBatchNorm):
            return spectral_norms(W).expand(T)  # it shifts, and has no gain
        _, var = normalizer.stats.recall_steps(0, T if normalizer.per_step else 1)
        return spectral_norms(W, normalizer.gain / (var + normalizer.eps).sqrt()).expand(T)
    if not isinstance(normalizer, BY_ROW):
        return None
    before = [states.initial["h"], *states.states["h"][:-1]]
    rows = torch.cat([h[:B_t] for h, B_t in zip(before, states.active, strict=True)]).detach()
    rows = (rows * W if W.dim() == 1 else F.linear(rows, W)) + (F.linear(states.inputs, weights.W_ih) if joint else 0)
    deviations = row_deviations(normalizer, rows)
    assert deviations is not None
    smallest = torch.stack([part.amin() for part in deviations.split_with_sizes(states.active)])
    return normalizer.gain.abs().amax() * spectral_norms(W) / smallest


class SpectralBound(Probe):
    """A bound on ‖∂a_t/∂h_{t-1}‖₂, the factor by which the recurrent product can amplify gradients, against t.

        none, weights, means  ‖W_hh‖₂
        batch normalization   ‖diag(g/σ_t) W_hh‖₂,   σ_t² = running variance of step t, plus ε
        LN, RMSNorm, groups   max|g| ‖W_hh‖₂ / σ_t,  σ_t = the smallest deviation of an active row, with ε

    W_hh is the matrix of all gates, (G·H, H). In training, normalization also projects gradients, which makes them only
    smaller. For batch normalization it bounds evaluation with running averages; a training batch has its own σ. Where
    all rows agree, as at t = 0 without a given state, σ is √ε. The scale of W_hh cancels, so this bound is about
    its shape. Gates multiply by at most ¼ (σ') or 1 (tanh') more. Normalizers of other kinds at `hidden` or `joint`,
    and combinations of both, have no series.

    Scalars: `largest`, the bound averaged over steps, and `weight`, ‖W_hh‖₂ alone; both of the layer where it is
    largest. Series: `bound/l0`, ….

    Args:
        every: training batches from one measurement to the next; None as in `Probe`.

    Source: Hou et al., "Normalization Helps Training of Quantized LSTM", NeurIPS 2019, the propositions on the norm of
    the gradient, where g‖W‖/σ takes the place of ‖W‖ per gate.
    """

    name: ClassVar[str] = "spectral_bound"
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (
        HeatMap(
            "bound",
            "bound on the norm of ∂a(t)/∂h(t−1)",
            "log",
            "Far above 4, where a gate's slope of ¼ cannot make up for it, a step may multiply gradients, "
            "which then explode.",
            by_layer=False,
        ),
    )

    def watch(self, pl_module: L.LightningModule) -> AbstractContextManager[Any]:
        """Observe the states where deviations of rows must be known."""
        by_row = any(
            isinstance(normalizer, BY_ROW)
            for _, network, suffix in directions(pl_module)
            for normalizer in (network.norms(suffix).hidden, network.norms(suffix).joint)
        )
        return observe(pl_module) if by_row else record(pl_module, states=False)

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> Measurement:
        """Compute norms of the weights as they are after the training step."""
        found, weights = Measurement(), []
        for layer, network, suffix in directions(pl_module):
            if layer not in watched.layers:
                continue
            weights.append(float(spectral_norms(network.layer_weights(suffix).W_hh)))
            values = bound(network, suffix, watched.layers[layer])
            if values is not None:
                found.rows[f"bound/{layer}"] = values
        bounds = [finite_mean(row) for row in found.rows.values()]
        found.scalars = {"weight": max(weights, default=math.nan), "largest": max(bounds, default=math.nan)}
        return found
