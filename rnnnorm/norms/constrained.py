"""Constraints on weight matrices: standardized rows, a bounded spectral norm, orthogonal blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..common.ranges import POSITIVE, Range
from .base import WeightNormalizer, at_least_float32
from .weight import reparametrize

SQUARINGS = 12
"""Squarings of a Gram matrix: its eigenvalues are raised to the power of 4096, and one that is 1 % smaller is gone."""

NEWTON_STEPS = 30
"""Steps of Newton's iteration for an inverse: enough for condition numbers of 10,000."""


class WeightStandardization(WeightNormalizer):
    """Weight standardization: W = g · (v - μ) / ‖v - μ‖, μ the mean of a row of v (outputs, inputs), one g per row.

    Rows of mean 0, divided by their standard deviation. Qiao et al. leave the length of the rows, √inputs, to the
    normalizer of the activations that follows; here nothing need follow, so that a length g is learned, which begins as
    that of the centred row. A row of one weight, as in W_ih where there is one feature, has no deviation: it is not
    centred. It does not look at activations, so there are no statistics and no dependence on time or batch; nothing is
    stored, and one row is an ordinary case.

    Source: after Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019.
    """

    name: ClassVar[str] = "ws"
    summary: ClassVar[str] = "each weight row by its mean and standard deviation, times a learned length"
    source: ClassVar[str] = "after Qiao et al. 2019"
    keeps_weights = False
    keeps_directions = False

    def register(self, module: nn.Module, weight: str) -> None:
        """Reparametrize `module.<weight>` by centred rows."""
        reparametrize(module, weight, _CentredRows())


class _CentredRows(nn.Module):
    """W = g · (v - μ) / ‖v - μ‖."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Compose g (outputs, 1) and v (outputs, inputs)."""
        v = _centred(v)
        return v * (g * torch.rsqrt(v.square().sum(1, keepdim=True)))

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Take a weight apart: g = ‖W - μ‖, v = W."""
        return torch.linalg.vector_norm(_centred(W), dim=1, keepdim=True), W


def _centred(v: Tensor) -> Tensor:
    return v if v.shape[1] == 1 else v - v.mean(1, keepdim=True)


class SpectralNorm(WeightNormalizer):
    """Spectral normalization: W = s · V / σ(V), σ the largest singular value of the whole matrix V (outputs, inputs).

    The step h → W_hh h then stretches no vector by more than s. σ is that of the weights at hand: the Gram matrix is
    squared 12 times, which is exact but for rounding, can be differentiated twice, and makes training and evaluation
    the same function; the usual power iteration keeps a vector that lags behind. It does not look at activations, so
    there are no statistics and no dependence on time or batch; nothing is stored, and one row is an ordinary case. A
    matrix of zeros has no direction: it gives NaN.

    Args:
        scale: s, a constant, 1 as in the paper.

    Raises:
        ValueError: scale is not positive.

    Source: Miyato, Kataoka, Koyama and Yoshida, "Spectral Normalization for Generative Adversarial Networks", ICLR 2018
    (abstract; the method as in torch.nn.utils.parametrizations.spectral_norm).
    """

    name: ClassVar[str] = "sn"
    summary: ClassVar[str] = "the weight matrix by its largest singular value"
    source: ClassVar[str] = "Miyato et al. 2018"
    ranges: ClassVar[Mapping[str, Range]] = {"scale": POSITIVE}
    keeps_weights = False

    def __init__(self, *, scale: float = 1.0) -> None:
        self.scale = scale

    def register(self, module: nn.Module, weight: str) -> None:
        """Reparametrize `module.<weight>` by its spectral norm."""
        parametrize.register_parametrization(module, weight, _UnitNorm(self.scale), unsafe=True)


class _UnitNorm(nn.Module):
    """W = s · V / σ(V)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, V: Tensor) -> Tensor:
        """Divide V (outputs, inputs) by its largest singular value."""
        return V * (self.scale / spectral_norm(at_least_float32(V))).to(V.dtype)

    def right_inverse(self, W: Tensor) -> Tensor:
        """Take W for V."""
        return W


def spectral_norm(V: Tensor) -> Tensor:
    """Largest singular value of a matrix, differentiable as often as wanted.

    With G the smaller Gram matrix of V, P = G^4096 / tr(G^4096) projects onto the eigenvectors of its largest
    eigenvalue, and σ² = tr(P G). Singular values that are nearly the same count by the same weight, which changes σ by
    less than their difference.
    """
    gram = V @ V.t() if V.shape[0] < V.shape[1] else V.t() @ V
    power = gram
    for _ in range(SQUARINGS):
        power = power / power.diagonal().sum()
        power = power @ power
    return (power * gram).sum().div(power.diagonal().sum()).sqrt()


class Orthogonal(WeightNormalizer):
    """Orthogonal weights: each block of H rows of W (outputs, inputs), a gate's, is orthogonal, or as its shape lets.

        W_k = C(A_k) B_k for H ≥ inputs (orthonormal columns), B_k C(A_k) otherwise (orthonormal rows)
        C(A) = (I + A)⁻¹ (I - A), A = L - Lᵀ, L the strictly lower triangle of the learned matrix, 0 at the start

    B_k is the orthogonal matrix nearest to the block that was drawn or assigned, and is stored beside the parameters.
    Singular values of all blocks are 1, at the start and after each step. It does not look at activations, so there are
    no statistics and no dependence on time or batch, and one row is an ordinary case.

    Source: after Helfrich, Willmott and Ye, "Orthogonal Recurrent Neural Networks with Scaled Cayley Transform", ICML
    2018 (abstract), and Vorontsov et al., "On orthogonality and learning recurrent networks with long term
    dependencies", ICML 2017 (abstract).
    """

    name: ClassVar[str] = "orthogonal"
    summary: ClassVar[str] = "each gate's block of the weight matrix is orthogonal (Cayley transform)"
    source: ClassVar[str] = "after Helfrich et al. 2018"
    keeps_weights = False
    keeps_directions = False

    def register(self, module: nn.Module, weight: str) -> None:
        """Reparametrize `module.<weight>` by rotations of its blocks."""
        W = getattr(module, weight)
        size: Any = module.hidden_size
        parametrize.register_parametrization(module, weight, _Rotations(W, int(size)), unsafe=True)


class _Rotations(nn.Module):
    """Blocks of orthogonal matrices, each rotated by a Cayley transform."""

    base: Tensor

    def __init__(self, W: Tensor, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("base", torch.empty_like(W, requires_grad=False))

    def forward(self, L: Tensor) -> Tensor:
        """W (outputs, inputs) from the learned matrices (outputs / H, n, n), n = max(H, inputs)."""
        lower = at_least_float32(L).tril(-1)
        A, one = lower - lower.transpose(-2, -1), torch.eye(L.shape[-1], dtype=lower.dtype, device=L.device)
        C = _inverse(one + A) @ (one - A) if torch.onnx.is_in_onnx_export() else torch.linalg.solve(one + A, one - A)
        C = C.to(L.dtype)
        B = self.base.view(-1, self.size, self.base.shape[1])
        W: Tensor = C @ B if B.shape[1] >= B.shape[2] else B @ C
        return W.reshape(self.base.shape)

    @torch.no_grad()
    def right_inverse(self, W: Tensor) -> Tensor:
        """Keep the nearest orthogonal blocks of W, from which the rotations, none at first, start."""
        blocks = W.view(-1, self.size, W.shape[1])
        if W.is_meta:
            nearest = W
        else:
            U, _, Vh = torch.linalg.svd(at_least_float32(blocks), False)
            nearest = (U @ Vh).reshape(W.shape).to(W.dtype)
        self.base.copy_(nearest)
        n = max(blocks.shape[1:])
        return torch.zeros(len(blocks), n, n, dtype=W.dtype, device=W.device)


def _inverse(M: Tensor) -> Tensor:
    """Inverse of matrices by products alone, since ONNX has no operator for it: Newton's iteration (Schulz, 1933).

    Each step squares the error I - X M, which begins below 1 - 1/κ² for a condition number of κ.
    """
    X = M.transpose(-2, -1) / (M.abs().sum(-1).amax(-1) * M.abs().sum(-2).amax(-1))[:, None, None]
    for _ in range(NEWTON_STEPS):
        X = 2 * X - X @ M @ X
    return X
