"""Residual stacks: each layer adds to what it read."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..common.settings import Settings

RESIDUALS = ("none", "plain", "skipinit", "fixup")


class Skip(Settings):
    """h^l = h^{l-1} + α_l · Layer_l(h^{l-1}) + β_l, on all packed rows (N, F) of one layer.

    - "plain": α = 1, nothing is learned (He et al. 2016; in stacks of LSTMs, Wu et al. 2016).
    - "skipinit": α is a learned scalar, 0 at the start, so that every stack starts as the identity (De & Smith 2020).
    - "fixup": α and β are learned scalars, 1 and 0 at the start, and the weights of the branch start small
      (Zhang et al. 2019); see `fixup_scale`.

    Args:
        residual: one of the above.
        scale: initial α, where it is learned.
        device: where parameters live.
        dtype: their type.
    """

    def __init__(
        self, residual: str, scale: float, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.residual, self.initial_scale = residual, scale
        empty: dict[str, Any] = {"size": (), "device": device, "dtype": dtype}
        self.scale = nn.Parameter(torch.empty(**empty)) if residual != "plain" else None
        self.shift = nn.Parameter(torch.empty(**empty)) if residual == "fixup" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set α and β to their initial values."""
        if self.scale is not None:
            nn.init.constant_(self.scale, self.initial_scale)
        if self.shift is not None:
            nn.init.zeros_(self.shift)

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Add what the layer made of x to x."""
        if self.scale is not None:
            branch = branch * self.scale
        return x + (branch if self.shift is None else branch + self.shift)

    def extra_repr(self) -> str:
        """Kind and initial α."""
        return f"{self.residual}" + ("" if self.scale is None else f", scale={self.initial_scale:g}")


def skipping_layers(input_size: int, output_size: int, num_layers: int) -> list[int]:
    """The layers that can add to what they read, since their input and output sizes agree.

    All layers but the first read what another one wrote; the first one has no skip if its sizes differ.

    Raises:
        ValueError: no layer remains.
    """
    layers = list(range(0 if input_size == output_size else 1, num_layers))
    if not layers:
        raise ValueError(
            f"a residual layer needs input and output of one size, but the only layer turns {input_size} features "
            f"into {output_size}: add layers, or let the sizes agree"
        )
    return layers


def initial_scale(residual: str, scale: float | str | None, depth: int) -> float:
    """The initial α of `depth` layers with a skip; "depth" stands for 1/√depth.

    Raises:
        ValueError: not a number, or given where α is not learned.
    """
    if scale is None:
        return 0.0 if residual == "skipinit" else 1.0
    if residual not in ("skipinit", "fixup"):
        raise ValueError(f'residual_scale={scale!r} needs residual="skipinit" or "fixup", got residual={residual!r}')
    if scale == "depth":
        return 1 / math.sqrt(depth)
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not math.isfinite(scale):
        raise ValueError(f'residual_scale must be a number or "depth" (1/√depth), got {scale!r}')
    return float(scale)


def fixup_scale(depth: int) -> float:
    """The factor L^(-1/(2m-2)) of the branch's first weight under "fixup", for L branches of m = 2 products: L^(-1/2).

    A recurrent layer's branch is one product W_ih x and, with a projection, a last product W_hr h. As in the paper W_hr
    then starts at 0 and W_ih is scaled. Without a projection there is no last weight to start at 0: W_ih alone is
    scaled, so each of L branches adds a variance of order 1/L. W_hh is left alone: it works along time, not depth.
    Under a normalizer of W_ih x the factor has no effect; the method is meant for stacks without one.
    """
    return 1 / math.sqrt(depth)
