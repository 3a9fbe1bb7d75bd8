"""Recurrent normalization propagation: constants computed beforehand instead of statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..common.ranges import POSITIVE, Range, between
from .base import Normalizer, WeightNormalizer, at_least_float32
from .fusible import Constant, Fusible
from .weight import RowLengths, reparametrize

_GAMMAS: Mapping[str, Range] = {
    **dict.fromkeys(("gamma_x", "gamma_h", "gamma_c"), POSITIVE),
    "correlation": between(0, 1),
}


def gaussian_moments(f: Callable[[Tensor], Tensor], mean: float, std: float) -> tuple[float, float]:
    """E[f(z)] and Var[f(z)] for z ~ N(mean, std²), by the trapezoidal rule, which is exact to rounding here."""
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    weight = torch.exp(-z * z / 2)
    weight = weight / weight.sum()
    y = f(mean + std * z)
    expectation = (weight * y).sum()
    return expectation.item(), (weight * (y - expectation) ** 2).sum().item()


def gate_deviation(gamma_x: float, gamma_h: float, correlation: float = 0.0) -> float:
    """Standard deviation of γ_x u + γ_h v, for u and v of mean 0 and variance 1."""
    return math.sqrt(gamma_x**2 + gamma_h**2 + 2 * correlation * gamma_x * gamma_h)


def cell_variance(gamma_x: float, gamma_h: float, correlation: float = 0.0, forget_bias: float = 0.0) -> float:
    """Limit of Var[c_t] (equation 8): Var[tanh g] · E[σ(i)²] / (1 - E[σ(f)²])."""
    std = gate_deviation(gamma_x, gamma_h, correlation)
    _, candidate = gaussian_moments(torch.tanh, 0.0, std)
    forgotten = 1 - _square(forget_bias, std)
    if not forgotten > 0:
        raise ValueError(f"forget_bias must be so small that the gate forgets something, got {forget_bias}")
    return candidate * _square(0.0, std) / forgotten


def output_variance(gamma_x: float, gamma_h: float, gamma_c: float, correlation: float = 0.0) -> float:
    """Var[h_t] before it is compensated (equation 12): Var[tanh(γ_c z)] · E[σ(o)²]."""
    _, squashed = gaussian_moments(torch.tanh, 0.0, gamma_c)
    return squashed * _square(0.0, gate_deviation(gamma_x, gamma_h, correlation))


def _square(mean: float, std: float) -> float:
    expectation, variance = gaussian_moments(torch.sigmoid, mean, std)
    return variance + expectation**2


class _UnitRows(RowLengths):
    """W = g · v / ‖v‖, where assigning a weight keeps its direction only: g starts at γ and v with unit rows."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.norm_except_dim(W, 2, 0)
        return torch.full_like(lengths, self.gamma), W / lengths


class NormPropInput(WeightNormalizer):
    """Normalization propagation at W_ih: W_ih = γ_x v / ‖v‖, unit rows times a learned γ_x (4H,).

    See `NormPropCell` for the whole method. It is weight normalization that starts at γ_x instead of at the length of
    each drawn row, and with v of unit rows, as the paper has them. The paper rescales v to unit rows throughout
    training; here v is not edited, its length may grow as with weight normalization, which changes the effective
    learning rate and not the model. A weight that is drawn, assigned or taken over from `torch.nn.LSTM` gives its
    directions only: the composed weight is another one than with other norms. With a single input feature only the sign
    of each weight is left. v is (outputs, inputs) = (4H, I), γ_x (4H,), both shared over time. One row is an ordinary
    case; nothing is stored.

    Args:
        gamma_x: initial γ_x; 2 for character-level Penn Treebank, 0.5 for DRAW.

    Raises:
        ValueError: gamma_x is not positive.

    Source: Laurent, Ballas and Vincent, "Recurrent Normalization Propagation", ICLR 2017 workshop track, equation 13.
    """

    name: ClassVar[str] = "normprop-input"
    ranges: ClassVar[Mapping[str, Range]] = _GAMMAS
    keeps_weights = False
    """The composed weight does not equal the one that was drawn or assigned: its rows have length γ."""
    summary: ClassVar[str] = "rows of W_ih of unit length, times γ_x"
    source: ClassVar[str] = "Laurent et al. 2017"

    def __init__(self, *, gamma_x: float = 2.0) -> None:
        self.gamma_x = gamma_x

    def register(self, module: nn.Module, weight: str) -> None:
        """Reparametrize `module.<weight>` as γ_x v / ‖v‖, row by row."""
        reparametrize(module, weight, _UnitRows(self.gamma_x))

    def forbids(self, place: str) -> str | None:
        """It is the part of the method that belongs to W_ih."""
        return None if place == "input" else "it belongs to W_ih; see normprop-hidden for W_hh"


class NormPropHidden(WeightNormalizer):
    """Normalization propagation at W_hh: W_hh = γ_h v / ‖v‖, unit rows times a learned γ_h (4H,).

    v is (outputs, inputs) = (4H, H); everything is shared over time.

    As `NormPropInput`, for the recurrent weights; see `NormPropCell` for the whole method. The ratio γ_h / γ_x decides
    whether gradients vanish (small) or the input is overheard (large). One row is an ordinary case; nothing is stored.

    Args:
        gamma_h: initial γ_h; 2 for character-level Penn Treebank, 0.5 for DRAW.

    Raises:
        ValueError: gamma_h is not positive.

    Source: Laurent, Ballas and Vincent, "Recurrent Normalization Propagation", ICLR 2017 workshop track, equation 13.
    """

    name: ClassVar[str] = "normprop-hidden"
    ranges: ClassVar[Mapping[str, Range]] = _GAMMAS
    keeps_weights = False
    """As for `NormPropInput`."""
    summary: ClassVar[str] = "rows of W_hh of unit length, times γ_h"
    source: ClassVar[str] = "Laurent et al. 2017"

    def __init__(self, *, gamma_h: float = 2.0) -> None:
        self.gamma_h = gamma_h

    def register(self, module: nn.Module, weight: str) -> None:
        """Reparametrize `module.<weight>` as γ_h v / ‖v‖, row by row."""
        reparametrize(module, weight, _UnitRows(self.gamma_h))

    def forbids(self, place: str) -> str | None:
        """It is the part of the method that belongs to W_hh."""
        return None if place == "hidden" else "it belongs to W_hh; see normprop-input for W_ih"


class NormPropCell(Normalizer):
    """Normalization propagation at the cell: y = γ_c ⊙ c_t / √Var[c], Var[c] a constant computed beforehand.

    The whole method (preset `normprop`), with unit-norm rows in W_ih and W_hh:

        a_t = γ_x W_ih/‖W_ih‖ x_t + γ_h W_hh/‖W_hh‖ h_{t-1} + b        c_t = σ(f) ⊙ c_{t-1} + σ(i) ⊙ tanh(g)
        h_t = σ(o) ⊙ tanh(γ_c c_t / √Var[c]) / √Var[h]

        Var[c] = Var[tanh g] E[σ(i)²] / (1 - E[σ(f)²])      Var[h] = Var[tanh(γ_c z)] E[σ(o)²],  z ~ N(0, 1)

    What is assumed: x_t and h_{t-1} are independent with independent features of mean 0 and variance 1 (so inputs must
    be normalized: the paper sends one-hot vectors through a fixed orthogonal matrix); i, f, g and c_{t-1} are
    independent; c has converged, so that early steps come out too small; b = 0. Moments are computed numerically from
    the *initial* γ and never again, as in the paper; γ_c (F,) is learned.

    Independence makes every pre-activation N(0, γ_x² + γ_h²), as in the paper's equation 22; but its equations 9 and 10
    have f((γ_x + γ_h) z), which is full correlation: `correlation=1` gives those as printed. Measured at initialization
    (H = 200, Gaussian inputs, b = 0), Var[h_t] settles at 1.03 with the first and at 0.85 with the second for γ = 2, 2,
    1; at 1.74 and 0.88 for 0.5, 0.5, 0.5, where gates hardly move and h_{t-1} tells much about c_{t-1}.

    With `init="orthogonal"` the forget gate starts at 1 instead of 0: `normprop:forget_bias=1` takes that into the
    constant (the paper's equations have no bias). With a projection, W_hh reads the projected h_t, whose variance is no
    longer 1. Nothing is estimated, so one row and one step are ordinary cases, training and evaluation the same
    function, everything shared over time, and nothing stored.

    Args:
        num_features: F = H.
        gamma_x: initial γ_x of the input weights.
        gamma_h: initial γ_h of the recurrent weights.
        gamma_c: initial γ_c; 1 for character-level Penn Treebank, 0.5 for DRAW.
        correlation: of W_ih x_t and W_hh h_{t-1} in the constants; 0: equation 22, 1: equations 9 and 10.
        forget_bias: mean of the forget gate's pre-activation that Var[c] supposes.

    Raises:
        ValueError: a gamma is not positive, or the correlation outside 0 to 1.

    Source: Laurent, Ballas and Vincent, "Recurrent Normalization Propagation", ICLR 2017 workshop track, eqs. 5-15.
    """

    name: ClassVar[str] = "normprop-cell"
    ranges: ClassVar[Mapping[str, Range]] = _GAMMAS
    cells = ("LSTM",)
    """The recurrent cells whose equations its constant is computed from."""
    summary: ClassVar[str] = "γ_c c / √Var[c], Var[c] computed from the initial γ"
    source: ClassVar[str] = "Laurent et al. 2017"
    lacks: ClassVar[tuple[str, ...]] = ("gain", "bias")

    def __init__(
        self,
        num_features: int,
        *,
        gamma_x: float = 2.0,
        gamma_h: float = 2.0,
        gamma_c: float = 1.0,
        correlation: float = 0.0,
        forget_bias: float = 0.0,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, gain=gamma_c, **kw)
        self.variance = cell_variance(gamma_x, gamma_h, correlation, forget_bias)

    def fusible(self) -> Fusible | None:
        """One constant."""
        return Constant(1 / math.sqrt(self.variance))

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Rescale c_t (B_t, F); `t` does not matter."""
        rows = at_least_float32(x)
        return (rows * (self.gain.to(rows.dtype) / math.sqrt(self.variance))).to(x.dtype)

    def forbids(self, place: str) -> str | None:
        """Its constant is the variance of the cell."""
        return None if place == "cell" else "its constant is the variance of the cell"

    def extra_repr(self) -> str:
        """Features, gain and the constant."""
        return f"{super().extra_repr()}, variance={self.variance:g}"


class NormPropOutput(Normalizer):
    """Normalization propagation at the output: h_t / √Var[h], Var[h] a constant computed beforehand.

    Var[h] = Var[tanh(γ_c z)] (Var[σ(o)] + E[σ(o)]²), z ~ N(0, 1), o ~ N(0, γ_x² + γ_h²): equation 12. See
    `NormPropCell` for the method and what it assumes. It makes |h_t| reach beyond 1, up to 1/√Var[h] (2.6 at the
    default γ). There is neither gain nor bias here, and nothing is stored; one row is an ordinary case.

    Args:
        num_features: F = H.
        gamma_x: initial γ_x of the input weights.
        gamma_h: initial γ_h of the recurrent weights.
        gamma_c: initial γ_c of the cell.
        correlation: as for the cell.

    Raises:
        ValueError: a gamma is not positive, or the correlation outside 0 to 1.

    Source: Laurent, Ballas and Vincent, "Recurrent Normalization Propagation", ICLR 2017 workshop track, equation 15.
    """

    name: ClassVar[str] = "normprop-output"
    ranges: ClassVar[Mapping[str, Range]] = _GAMMAS
    cells = ("LSTM",)
    """As for `NormPropCell`."""
    summary: ClassVar[str] = "h / √Var[h], Var[h] computed from the initial γ"
    source: ClassVar[str] = "Laurent et al. 2017"
    lacks: ClassVar[tuple[str, ...]] = ("gain", "bias")

    def __init__(
        self,
        num_features: int,
        *,
        gamma_x: float = 2.0,
        gamma_h: float = 2.0,
        gamma_c: float = 1.0,
        correlation: float = 0.0,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, **kw)
        self.register_parameter("gain", None)
        self.variance = output_variance(gamma_x, gamma_h, gamma_c, correlation)

    def reset_parameters(self) -> None:
        """No operation, since nothing is learned."""

    def fusible(self) -> Fusible | None:
        """One constant."""
        return Constant(1 / math.sqrt(self.variance))

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Rescale h_t (B_t, F); `t` does not matter."""
        return (at_least_float32(x) / math.sqrt(self.variance)).to(x.dtype)

    def forbids(self, place: str) -> str | None:
        """Its constant is the variance of the hidden state."""
        return None if place == "output" else "its constant is the variance of the hidden state"

    def extra_repr(self) -> str:
        """Features and the constant."""
        return f"{self.num_features}, variance={self.variance:g}"
