"""PowerNorm: each feature by its running quadratic mean, with an approximate backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..common.ranges import Range, at_least, between, one_of
from .base import Normalizer, at_least_float32, in_backward
from .batch_statistics import SCOPES, SEQUENCE_WISE_PLACES
from .buffers import FirstPass, State
from .rms import block_rms_norm
from .statistics import StoredStatistics


class PowerNorm(Normalizer):
    """PowerNorm: y = g ⊙ x̃ / √(φ + ε) + b, with φ a running mean of x̃² over rows, feature by feature; no mean.

    First each row is divided by its own quadratic mean, x̃ = x / √(mean of x² + ε) over its features, in `groups` groups
    (`torch.nn.functional.rms_norm`). Then, in training, with the rows' own φ_B and k = 1, 2, … updates so far,

        φ ← φ + max(1 - α_f, 1/k) (φ_B - φ)

    For the first `warmup` training batches the rows are normalized by their own φ_B; afterwards by φ as it was before
    them, and evaluation always uses φ, so that the two differ little: the method's point. Backward, with
    z = x̃ / √(φ + ε) and γ the gradient that arrives at z, what would come through φ is approximated by a running ν,

        ∂x̃ = (γ - ν z) / √(φ + ε)        ν ← ν + (1 - α_b) · mean over rows of (γ - ν z) z

    `statistics` says over which rows: "sequence", all rows at once (vertical places only; as over the tokens of a
    Transformer's batch); "shared", the B_t rows of each step, one φ and ν for all steps; "timestep", one per step.
    Padding has no rows, so it never enters, as with the authors' mask. Shapes: x, y (B_t, F); gain and bias are shared
    over time.

    Fewer than `min_rows` rows, so also one row, use the stored φ and move nothing: in the warm-up one row would become
    its own signs. Before any training φ = 1. Stored values: 3F per slot (φ, ν, and a mean of 0 for the common format),
    and outside the state dict what the last training batch read at each step, for activation checkpointing.

    The authors' code differs: it divides the gradient by the batch's √(φ_B + ε) after the warm-up, too, where the
    paper's derivation has the φ of the forward pass, and in the warm-up averages φ twice per batch.

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        alpha_forward: α_f, 0.9 as in the authors' code.
        alpha_backward: α_b, 0.9, likewise.
        warmup: training batches that are normalized by their own moments; 10000, likewise. A short training may end
            before that.
        groups: parts of the features for the row's own scaling; 1 as in the authors' code; 0: none.
        eps: ε, 1e-5.
        max_steps: T_max, slots kept for "timestep".
        tail: what steps t ≥ T_max do: see `StoredStatistics`.
        min_rows: fewest rows that move the statistics.
        gain: initial g, 1.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range; groups that do not divide F; a step ≥ T_max with tail="error".

    Source: Shen et al., "PowerNorm: Rethinking Batch Normalization in Transformers", ICML 2020, and its code.
    """

    name: ClassVar[str] = "power"
    summary: ClassVar[str] = "each feature by its running quadratic mean; approximate backward pass"
    source: ClassVar[str] = "Shen et al. 2020"
    ranges: ClassVar[Mapping[str, Range]] = {
        **StoredStatistics.ranges,
        "statistics": one_of(*SCOPES),
        "alpha_forward": between(0, 1, "[)"),
        "alpha_backward": between(0, 1, "[)"),
        "warmup": at_least(0),
        "groups": at_least(0),
        "min_rows": at_least(1),
    }
    exact_gradient: ClassVar[bool] = False
    learns_backward: ClassVar[bool] = True
    evaluates_by = "running"
    updates: Tensor
    batches: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        statistics: str = "shared",
        alpha_forward: float = 0.9,
        alpha_backward: float = 0.9,
        warmup: int = 10000,
        groups: int = 1,
        eps: float = 1e-5,
        max_steps: int = 100,
        tail: str = "last",
        min_rows: int = 2,
        gain: float = 1.0,
        bias: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(num_features, gain=gain, bias=bias, **kw)
        if groups and num_features > 1 and num_features % groups:
            raise ValueError(f"groups must divide the {num_features} features or be 0, got {groups}")
        self.scope, self.alpha_forward, self.alpha_backward = statistics, alpha_forward, alpha_backward
        self.warmup, self.groups, self.eps, self.min_rows = warmup, groups, eps, min_rows
        self.per_step = statistics == "timestep"
        self.stats = StoredStatistics(num_features, max_steps if self.per_step else None, tail, **kw)
        self.control = State({"nu": tuple(self.stats.running_var.shape)}, **kw)
        self.first_pass = FirstPass()
        self.register_buffer("updates", torch.zeros_like(self.stats.num_rows))
        self.register_buffer("batches", torch.zeros_like(self.stats.num_rows[0]))

    def reset_parameters(self) -> None:
        """Set gain and bias to their initial values; forget the gradient's average and the warm-up."""
        super().reset_parameters()
        if hasattr(self, "control"):
            self.control.reset()
            self.updates.zero_()
            self.batches.zero_()

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize rows x (B_t, F) of step `t`; in training, move that step's statistics."""
        rows, stats = at_least_float32(x), self.stats
        if self.groups:
            rows = block_rms_norm(rows, self.num_features // self.groups, self.eps)
        slot = stats.slot(t)
        if stats.accumulator is not None and slot is not None:
            stats.accumulator.add(slot, rows)
        counts = self.training and not in_backward()
        if counts and t == 0:
            self.batches += 1
        asked = self.training or stats.source == "batch"
        enough = asked and rows.shape[0] >= self.min_rows  # else a graph may leave it open
        if self.training:
            own = rows.detach().square().mean(0)
            warm = enough and bool(self.batches <= self.warmup)
            (power,) = self.first_pass(t, lambda: (own if warm else self._stored(t, rows),))
            y = _approximate(rows, (power + self.eps).sqrt(), self, slot, enough)
            if counts and enough and slot is not None:
                self._move(own, rows.shape[0], slot)
        elif enough:
            y = rows / (rows.square().mean(0) + self.eps).sqrt()
        else:
            y = rows / (self._stored(t, rows) + self.eps).sqrt()
        y = y * self.gain.to(rows.dtype)
        return (y if self.bias is None else y + self.bias.to(rows.dtype)).to(x.dtype)

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize all N rows: at once for "sequence", otherwise step by step."""
        return self(x) if self.scope == "sequence" else super().sequence(x, batch_sizes)

    def forbids(self, place: str) -> str | None:
        """Sequence-wise statistics need the rows of all steps at once, which exist at the vertical places only."""
        if self.scope == "sequence" and place not in SEQUENCE_WISE_PLACES:
            return 'statistics="sequence" needs the rows of all steps at once; use "shared" or "timestep" there'
        return None

    def _stored(self, t: int, rows: Tensor) -> Tensor:
        """The second moment to use at step `t`: of the running statistics, whose mean is 0, or of the population."""
        mean, var = self.stats.recall(t)
        return (var + mean.square()).to(rows.dtype)

    @torch.no_grad()
    def _move(self, own: Tensor, n: int, slot: int) -> None:
        self.updates[slot] += 1
        self.stats.num_rows[slot] += n
        weight = torch.clamp(1 / self.updates[slot].to(own.dtype), min=1 - self.alpha_forward)
        self.stats.running_var[slot] += weight * (own - self.stats.running_var[slot])

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        alphas = f"alpha_forward={self.alpha_forward:g}, alpha_backward={self.alpha_backward:g}"
        return f"{super().extra_repr()}, statistics={self.scope}, {alphas}, warmup={self.warmup}, groups={self.groups}"


class _Approximate(torch.autograd.Function):
    """x / s forward; the approximate gradient backward, which moves the module's ν."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, module: PowerNorm, slot: int | None, moves: bool) -> Tensor:
        z = x / scale
        ctx.save_for_backward(z, scale)
        ctx.module, ctx.slot, ctx.moves = module, slot, moves and slot is not None
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, scale = ctx.saved_tensors
        nu = ctx.module.control["nu"][-1 if ctx.slot is None else ctx.slot]
        grad = grad - nu.to(grad.dtype, copy=True) * z
        if ctx.moves:
            nu.add_((1 - ctx.module.alpha_backward) * (grad * z).mean(0).detach())
        return grad / scale, None, None, None, None


_approximate: Callable[[Tensor, Tensor, PowerNorm, int | None, bool], Tensor] = _Approximate.apply
