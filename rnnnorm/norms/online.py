"""Online Normalization: statistics over single samples, and a backward pass that is controlled instead of derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import POSITIVE, Range, at_least, between, one_of
from ..common.transforms import by_plain_operators
from .base import Normalizer, at_least_float32, in_backward
from .buffers import FirstPass, State
from .rms import block_rms_norm
from .statistics import StoredStatistics

GUARDS = ("scaling", "clamp", "none")


class OnlineNorm(Normalizer):
    """Online Normalization: y = S(g ⊙ (x - μ) / √(σ² + ε) + b), with μ and σ² of the samples before x.

    Forward, in training, each sample x moves one exponential average over all samples and timesteps, with α =
    `alpha_forward`:

        σ² ← α σ² + α (1 - α) (x - μ)²        μ ← α μ + (1 - α) x

    Backward, the gradient is not the derivative, which would need the samples behind μ and σ²: a control process keeps
    it orthogonal to y and to 1, in the average over samples (α = `alpha_backward`, γ the gradient that arrives at the
    normalized y, s = √(σ² + ε)):

        γ' = γ - (1 - α) v y        v ← v + γ' y        δ = γ' / s - (1 - α) u        u ← u + δ

    S guards against statistics that lag behind: "scaling" divides by √(mean of squares + ε) over the features of a row
    (`torch.nn.functional.rms_norm`), in `groups` groups; "clamp" cuts off at ±`clamp`.

    The recursion over samples depends on their order, but the order of a batch means nothing: so the n rows of a step
    are taken as one set. All are normalized by the statistics before the step, which then move by αⁿ instead of α,

        σ² ← αⁿ σ² + (1 - αⁿ) σ_n² + αⁿ (1 - αⁿ) (μ_n - μ)²        μ ← αⁿ μ + (1 - αⁿ) μ_n

    with the rows' own μ_n and (biased) σ_n², and u, v by (1 - αⁿ) / (1 - α) times the rows' mean; the authors' code
    treats the pixels of an image in this way. For n = 1 it is the recursion above, exactly. One row is thus the
    ordinary case, in training, too. Shapes: x, y (B_t, F).

    Everything is shared over time. Evaluation uses μ and σ² as they are (or population or batch moments, by
    `rnnnorm.statistics`) and has an ordinary gradient. Stored values: 4F (μ, σ², u, v), and outside the state dict what
    the last training batch read at each step, for activation checkpointing.

    Args:
        num_features: F.
        alpha_forward: α of the forward pass, 8191/8192 as in the authors' word-level PTB runs.
        alpha_backward: α of the control process, 31/32, likewise.
        guard: "scaling" (the authors' choice for LSTMs), "clamp" or "none".
        groups: parts of the features that are scaled separately; 4 for an LSTM's gates, as the authors have a
            normalizer per gate.
        clamp: limit of guard="clamp"; 5 as in the authors' code.
        eps: ε, 1e-5.
        gain: initial g, 1.
        bias: learn b; inside S. (The bias of the gates stands outside.)

    Raises:
        ValueError: an argument outside its range; groups that do not divide F.

    Source: Chiley et al., "Online Normalization for Training Neural Networks", NeurIPS 2019, and their released code.
    """

    name: ClassVar[str] = "online"
    per_gate = True
    summary: ClassVar[str] = "each feature by exponential averages over all samples seen; controlled backward pass"
    source: ClassVar[str] = "Chiley et al. 2019"
    ranges: ClassVar[Mapping[str, Range]] = {
        "alpha_forward": between(0, 1, "()"),
        "alpha_backward": between(0, 1, "()"),
        "guard": one_of(*GUARDS),
        "groups": at_least(1),
        "clamp": POSITIVE,
    }
    exact_gradient: ClassVar[bool] = False
    learns_backward: ClassVar[bool] = True
    evaluates_by = "running"

    def __init__(
        self,
        num_features: int,
        *,
        alpha_forward: float = 8191 / 8192,
        alpha_backward: float = 31 / 32,
        guard: str = "scaling",
        groups: int = 1,
        clamp: float = 5.0,
        eps: float = 1e-5,
        gain: float = 1.0,
        bias: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, gain=gain, bias=bias, **kw)
        if num_features > 1 and num_features % groups:
            raise ValueError(f"groups must divide the {num_features} features, got {groups}")
        self.alpha_forward, self.alpha_backward, self.guard = alpha_forward, alpha_backward, guard
        self.groups, self.clamp, self.eps = groups, clamp, eps
        self.stats = StoredStatistics(num_features, None, **kw)
        self.control = State({"u": (num_features,), "v": (num_features,)}, **kw)
        self.first_pass = FirstPass()

    def reset_parameters(self) -> None:
        """Set gain and bias to their initial values, and the control process to rest."""
        super().reset_parameters()
        if hasattr(self, "control"):
            self.control.reset()

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize rows x (B_t, F) of step `t`; in training, move the averages."""
        rows, stats = at_least_float32(x), self.stats
        if stats.accumulator is not None:
            stats.accumulator.add(0, rows)
        if self.training:
            mean, var = (moment.to(rows.dtype) for moment in self.first_pass(t, lambda: stats.recall(0)))
            y = _controlled(rows, mean, (var + self.eps).sqrt(), self)
            if not in_backward():
                self._move(rows.detach())
        elif stats.source == "batch" and rows.shape[0] > 1:
            y = F.batch_norm(rows, None, None, None, None, True, 0.0, self.eps)
        else:
            mean, var = (moment.to(rows.dtype) for moment in stats.recall(0))
            if by_plain_operators():  # for batch_norm, ONNX's exporter must know F, and does not everywhere
                y = (rows - mean) / (var + self.eps).sqrt()
            else:
                y = F.batch_norm(rows, mean, var, None, None, False, 0.0, self.eps)
        y = y * self.gain.to(rows.dtype)
        y = y if self.bias is None else y + self.bias.to(rows.dtype)
        return self._guarded(y).to(x.dtype)

    @torch.no_grad()
    def _move(self, rows: Tensor) -> None:
        n, stats = rows.shape[0], self.stats
        kept = self.alpha_forward**n
        mean, var = stats.running_mean[0], stats.running_var[0]
        var_n, mean_n = torch.var_mean(rows, 0, correction=0)
        var.mul_(kept).add_((1 - kept) * (var_n + kept * (mean_n - mean) ** 2))
        mean.mul_(kept).add_((1 - kept) * mean_n)
        stats.num_rows += n

    def _guarded(self, y: Tensor) -> Tensor:
        if self.guard == "scaling":
            return block_rms_norm(y, self.num_features // self.groups, self.eps)
        return y.clamp(-self.clamp, self.clamp) if self.guard == "clamp" else y

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        alphas = f"alpha_forward={self.alpha_forward:g}, alpha_backward={self.alpha_backward:g}"
        return f"{super().extra_repr()}, {alphas}, guard={self.guard}, groups={self.groups}"


class _Controlled(torch.autograd.Function):
    """(x - μ) / s forward; the control process backward, which moves the module's u and v."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor, module: OnlineNorm) -> Tensor:
        y = (x - mean) / scale
        ctx.save_for_backward(y, scale)
        ctx.module = module
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, scale = ctx.saved_tensors
        u, v, alpha = ctx.module.control["u"], ctx.module.control["v"], ctx.module.alpha_backward
        weight = (1 - alpha ** grad.shape[0]) / (1 - alpha)
        grad = grad - (1 - alpha) * v.to(grad.dtype, copy=True) * y
        v.add_(weight * (grad * y).mean(0).detach())
        grad = grad / scale - (1 - alpha) * u.to(grad.dtype, copy=True)
        u.add_(weight * grad.mean(0).detach())
        return grad, None, None, None


_controlled: Callable[[Tensor, Tensor, Tensor, OnlineNorm], Tensor] = _Controlled.apply
