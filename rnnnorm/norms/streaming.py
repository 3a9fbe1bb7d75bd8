"""Streaming Normalization: statistics of the batches since the last weight update, and of all before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..common.ranges import Range, between, one_of
from .base import Normalizer, at_least_float32, in_backward
from .buffers import FirstPass, State
from .statistics import StoredStatistics


class StreamingNorm(Normalizer):
    """Streaming Normalization: y = g ⊙ (x - μ̂) / √(ŝ² + ε) + b, with μ̂ and ŝ collected from all rows seen so far.

    The statistics of the B_t rows of a step are, feature by feature, their mean μ and the p-th root of their p-th
    central moment, s = (mean |x - μ|^p)^(1/p): the standard deviation for p = 2, the mean absolute deviation for p = 1.
    What normalizes is the same in training and evaluation, a mixture (m stands for μ and for s):

        m_short   the average of m over all steps since the last weight update, the one at hand included
        m_long    ← κ_f m_long + (1 - κ_f) m_short at each weight update; m_short before the first one
        m̂ = α m_long + (1 - α) m_short

    Gradients stream, too: what arrives at m̂, call it d, is averaged as m is, into d_short and d_long (with κ_b), and

        ∂m = β_long d_long + β_short d_short + (1 - β_long - β_short) d

    goes on to the rows through m, in place of a derivative through the average. A weight update is noticed by the gain,
    which must therefore be trained; so several backward passes per update (the paper's decoupled accumulation) count as
    one update. Shapes: x, y (B_t, F). One set of statistics for all timesteps: the paper's answer to statistics per
    step, which need samples at each of them.

    A step counts by its rows in m_short, which is the paper's plain average where all steps have the same number of
    rows. One row has no deviation from its own mean, so it enters by that from the stored one, and a batch of one
    sequence can be trained on. Evaluation reads μ̂ and ŝ (`rnnnorm.statistics` "running"), exact population statistics
    (for p = 1 converted as for normal rows, s = √(2/π) σ) or the batch's own. Stored values: 11F + 4 (μ̂, ŝ²; m and d,
    long and short, for mean and deviation, with what each average weighs; the gain at the last update), and outside the
    state dict what the last training batch read at each step, for activation checkpointing.

    Args:
        num_features: F.
        p: 1 or 2.
        alpha: α, 0.7, the setting for recurrent networks.
        beta_long: β_long, 0.7, likewise.
        beta_short: β_short, 0, likewise.
        kappa_forward: κ_f, 0.7.
        kappa_backward: κ_b, 0.7.
        eps: ε, 1e-5.
        gain: initial g, 1.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range.

    Source: Liao, Kawaguchi and Poggio, "Streaming Normalization: Towards Simpler and More Biologically-plausible
    Normalizations for Online and Recurrent Learning", arXiv 1610.06160, 2016.
    """

    name: ClassVar[str] = "streaming"
    summary: ClassVar[str] = "each feature by long-term and short-term statistics over all steps; streamed gradients"
    source: ClassVar[str] = "Liao et al. 2016"
    ranges: ClassVar[Mapping[str, Range]] = {
        "p": one_of(1, 2),
        **dict.fromkeys(("alpha", "beta_long", "beta_short", "kappa_forward", "kappa_backward"), between(0, 1)),
    }
    exact_gradient: ClassVar[bool] = False
    learns_backward: ClassVar[bool] = True
    evaluates_by = "running"

    def __init__(
        self,
        num_features: int,
        *,
        p: int = 2,
        alpha: float = 0.7,
        beta_long: float = 0.7,
        beta_short: float = 0.0,
        kappa_forward: float = 0.7,
        kappa_backward: float = 0.7,
        eps: float = 1e-5,
        gain: float = 1.0,
        bias: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, gain=gain, bias=bias, **kw)
        if beta_long + beta_short > 1:
            raise ValueError(f"beta_long + beta_short must be between 0 and 1, got {beta_long + beta_short}")
        self.p, self.alpha, self.beta_long, self.beta_short, self.eps = p, alpha, beta_long, beta_short, eps
        self.kappa_forward, self.kappa_backward = kappa_forward, kappa_backward
        self.stats = StoredStatistics(num_features, None, **kw)
        pair, one = (2, num_features), (1,)  # mean and deviation; a weight: rows, calls or updates so far
        self.forward_stream = State({"long": pair, "short": pair, "weight": one, "updates": one}, **kw)
        self.backward_stream = State({"long": pair, "short": pair, "weight": one, "updates": one}, **kw)
        self.first_pass = FirstPass()
        self.seen = State({"gain": (num_features,)}, **kw)

    def reset_parameters(self) -> None:
        """Set gain and bias to their initial values; forget both streams."""
        super().reset_parameters()
        if hasattr(self, "seen"):
            for state in (self.forward_stream, self.backward_stream, self.seen):
                state.reset()

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize rows x (B_t, F) of step `t`; in training, move the statistics."""
        rows, stats = at_least_float32(x), self.stats
        if stats.accumulator is not None:
            stats.accumulator.add(0, rows)
        if self.training:
            self._notice_update()
            mean, scale = _streamed(self._moments(rows, t), self, t, rows.shape[0]).unbind()
        elif stats.source == "batch" and rows.shape[0] > 1:
            mean, scale = self._moments(rows, t).unbind()
        else:
            mean, scale = self._recall(rows)
        y = (rows - mean) / (scale.square() + self.eps).sqrt() * self.gain.to(rows.dtype)
        return (y if self.bias is None else y + self.bias.to(rows.dtype)).to(x.dtype)

    def _moments(self, rows: Tensor, t: int) -> Tensor:
        """Mean and deviation of the rows, (2, F); of one row from the stored mean."""
        mean = rows.mean(0)
        center = mean if rows.shape[0] > 1 else self.first_pass(("one row", t), lambda: self._recall(rows))[0]
        difference = rows - center
        if self.p == 1:
            return torch.stack([mean, difference.abs().mean(0)])
        # The norm has a zero gradient where all rows agree, the root of a mean of squares an infinite one.
        return torch.stack([mean, torch.linalg.vector_norm(difference, dim=0) / math.sqrt(rows.shape[0])])

    def _recall(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Stored mean and deviation."""
        mean, var = self.stats.recall(0)
        scale = var.sqrt()
        if self.p == 1 and self.stats.source == "population":
            scale = scale * math.sqrt(2 / math.pi)
        return mean.to(rows.dtype), scale.to(rows.dtype)

    def mix(self, moments: Tensor, n: int) -> Tensor:
        """Take the moments (2, F) of n rows into the short-term average; returns m̂, which evaluation will use."""
        long, short = _push(self.forward_stream, moments, n)
        streamed = self.alpha * long + (1 - self.alpha) * short
        self.stats.running_mean[0] = streamed[0]
        self.stats.running_var[0] = streamed[1].square()
        self.stats.num_rows += n
        return streamed

    @torch.no_grad()
    def _notice_update(self) -> None:
        """At a weight update, what was short-term goes into the long term."""
        if in_backward() or torch.equal(self.seen["gain"], self.gain.to(self.seen["gain"].dtype)):
            return
        self.seen["gain"].copy_(self.gain)
        for stream, kappa in (
            (self.forward_stream, self.kappa_forward),
            (self.backward_stream, self.kappa_backward),
        ):
            if stream["weight"] == 0:
                continue
            kept = kappa if stream["updates"] > 0 else 0.0
            stream["long"].mul_(kept).add_((1 - kept) * stream["short"])
            stream["updates"].add_(1)
            stream["short"].zero_()
            stream["weight"].zero_()

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        betas = f"beta_long={self.beta_long:g}, beta_short={self.beta_short:g}"
        return f"{super().extra_repr()}, p={self.p}, alpha={self.alpha:g}, {betas}"


def _push(stream: State, value: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Take a value into the short-term average; returns long-term and short-term averages."""
    stream["weight"].add_(weight)
    stream["short"].add_((value - stream["short"]) * (weight / stream["weight"]))
    long = torch.where(stream["updates"] > 0, stream["long"], stream["short"])
    return long.to(value.dtype), stream["short"].to(value.dtype)


class _Streamed(torch.autograd.Function):
    """Moments of a step in, streamed moments out; gradients the same way back."""

    @staticmethod
    def forward(ctx: Any, moments: Tensor, module: StreamingNorm, t: int, n: int) -> Tensor:
        ctx.module = module
        (streamed,) = module.first_pass(t, lambda: (module.mix(moments, n),))
        return streamed.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        module = ctx.module
        long, short = _push(module.backward_stream, grad.detach(), 1)
        now = 1 - module.beta_long - module.beta_short
        return module.beta_long * long + module.beta_short * short + now * grad, None, None, None


_streamed: Callable[[Tensor, StreamingNorm, int, int], Tensor] = _Streamed.apply
