"""Cross-Iteration Batch Normalization: moments of the last iterations, moved along to the present weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import Range, at_least, one_of
from .base import at_least_float32, in_backward
from .batch_statistics import BatchNormalizer, moments
from .buffers import HALF, StatisticBuffers


class _History(StatisticBuffers):
    """Records of the last k iterations, from which their moments under other weights follow.

    Mean (I,) and covariance (I, I) of the factor x per slot, and the weight W (F, I) of the iteration: both derivatives
    of the product's moments follow from them, ∂μ/∂W = x̄ and ∂E[y²]/∂W = 2 W E[x xᵀ]. That is k·S·(I + I²) + k·F·I
    values; keeping ∂E[y²]/∂W itself would take F·I per slot and iteration, with F = 4H ≥ I.
    """

    late: ClassVar[tuple[str, ...]] = ("mean", "covariance", "weight")
    untold: ClassVar[tuple[str, ...]] = ("now",)
    mean: Tensor | None
    covariance: Tensor | None
    weight: Tensor | None
    born: Tensor
    iteration: Tensor

    def __init__(self, window: int, slots: int, device: torch.device | str | None) -> None:
        super().__init__()
        self.window, self.now = window, 0
        for name in self.late:
            self.register_buffer(name, None)
        self.register_buffer("born", torch.zeros(window, slots, dtype=torch.long, device=device))
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long, device=device))

    def reset(self) -> None:
        self.mean = self.covariance = self.weight = None
        self.born.zero_()
        self.iteration.zero_()

    @torch.no_grad()
    def begin(self, W: Tensor) -> None:
        """Another iteration begins, with weight W (F, I)."""
        if self.mean is None or self.covariance is None or self.weight is None:
            dtype = torch.float32 if W.dtype in HALF else W.dtype
            shape = (*self.born.shape, W.shape[1])
            with torch.inference_mode(False):  # a buffer born in inference mode could never be trained on
                self.mean = torch.zeros(shape, dtype=dtype, device=W.device)
                self.covariance = torch.zeros((*shape, W.shape[1]), dtype=dtype, device=W.device)
                self.weight = torch.zeros((self.window, *W.shape), dtype=dtype, device=W.device)
        self.iteration += 1
        self.now = int(self.iteration)
        self.weight[self.now % self.window] = W

    @torch.no_grad()
    def store(self, slot: int, x: Tensor) -> None:
        """Keep the moments of the rows x (n, I) of this iteration."""
        assert self.mean is not None
        assert self.covariance is not None
        place, x = self.now % self.window, x.to(self.mean.dtype)
        mean = x.mean(0)
        centred = x - mean
        self.mean[place, slot] = mean
        self.covariance[place, slot] = centred.T @ centred / x.shape[0]
        self.born[place, slot] = self.now

    @torch.no_grad()
    def recall(self, slot: int, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means and variances (k - 1, F) of past iterations to first order in W, and which of them count.

        With Δ = W - W_then: μ = μ_then + Δ x̄ and E[y²] = E[y²]_then + 2 W_then E[x xᵀ] Δᵀ, row by row; their
        σ² = E[y²] - μ² is here written with the covariance C of x, W_then C (2 W - W_then)ᵀ - (Δ x̄)², which is
        the same number without the cancellation.
        """
        assert self.mean is not None
        assert self.covariance is not None
        assert self.weight is not None
        past = [self.now - age for age in range(1, self.window)]
        places = [iteration % self.window for iteration in past]
        then, x = self.weight[places], self.mean[places, slot].unsqueeze(2)
        W = W.to(then.dtype)
        shift = ((W - then) @ x).squeeze(2)
        mean = (then @ x).squeeze(2) + shift
        var = ((then @ self.covariance[places, slot]) * (2 * W - then)).sum(2) - shift.square()
        born = self.born[places, slot]
        alive = (born > 0) & (born == self.born.new_tensor(past))
        return mean, var, alive.unsqueeze(1) & (var >= 0)


class CrossIterationBatchNorm(BatchNormalizer):
    """Cross-Iteration Batch Normalization of a product y = W x: rows (B_t, F) by moments of the last k iterations.

        z = g ⊙ (y - μ) / √(σ² + ε) + b        μ = mean_τ μ_τ(W)        σ² = mean_τ E_τ[y²](W) - μ²        τ = 0 … k - 1
        μ_τ(W) ≈ μ_τ + ∂μ_τ/∂W_τ (W - W_τ)     E_τ[y²](W) ≈ E_τ[y²] + ∂E_τ[y²]/∂W_τ (W - W_τ)

    Iteration τ ago had weight W_τ; the Taylor compensation moves its moments along to the present weight. Derivatives
    are those of the step's own product: that h_{t-1} depends on W_hh, too, is left out, as the paper leaves out the
    layers below. Only the current batch (τ = 0) is differentiated, with its share 1/k; the W that past moments are
    moved to counts as a constant. Where the first-order estimate of a past variance is negative, that feature leaves
    that iteration out, as in the authors' code, which further differs in dividing by σ + ε; the ε here is inside the
    root.

    It sees W and x in `linear` and `sequence_linear`, so it stands at `input` and `hidden` only. `statistics`:
    "sequence" (all rows of an iteration at once) or "timestep" (an own history per step). Every iteration weighs the
    same, whatever its rows. Gain and bias are shared over time. Fewer than `min_rows` rows use the running averages,
    and an iteration without enough rows at a step is missing from that step's window; at t ≥ T_max a batch is
    normalized by its own moments. Evaluation uses running averages of the current batches' moments, as `BatchNorm`.

    An iteration is one forward pass in training. With activation checkpointing, the backward pass of a batch must come
    before the next forward pass. Stored values, with S = 1 or T_max slots and I inputs: 2·S·F running averages and
    k·S·(I + I²) + k·F·I for the window, the latter from the first training batch on. At `hidden` I = H: choose T_max
    no longer than needed.

    Args:
        num_features: F.
        statistics: "sequence" or "timestep".
        window: k, iterations that take part, 4; 1: `BatchNorm`. (The `window` of `bn` counts timesteps.)
        burn_in: iterations of plain batch normalization at the start, while weights move fast; the paper's detectors
            use 8 epochs.
        gain: initial g.
        eps: ε.
        momentum: weight of the newest batch in the running averages; None: average over all rows seen.
        max_steps: T_max.
        tail: "last" or "error": see `StoredStatistics`.
        min_rows: fewest rows that estimate moments.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range; `forward` in training, which does not see the factors.

    Source: Yao et al., "Cross-Iteration Batch Normalization", CVPR 2021.
    """

    name: ClassVar[str] = "cbn"
    summary: ClassVar[str] = "moments of the last k iterations, extrapolated to the present weights"
    source: ClassVar[str] = "Yao et al. 2021"
    ranges: ClassVar[Mapping[str, Range]] = {
        "statistics": one_of("sequence", "timestep", why="since its slots hold one batch per iteration"),
        "tail": one_of("last", "error", why="since its slots hold one batch per iteration"),
        "window": at_least(1, 10_000),
        "burn_in": at_least(0),
    }
    exact_gradient: ClassVar[bool] = False  # the compensated moments depend on W, and count as constants
    remembers_batches: ClassVar[bool] = True

    def __init__(self, num_features: int, *, window: int = 4, burn_in: int = 0, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.window, self.burn_in = window, burn_in
        self.history = _History(window, self.stats.running_mean.shape[0], kw.get("device"))

    def linear(self, x: Tensor, W: Tensor, t: int = 0) -> Tensor:
        """Normalize y = W x of one timestep, for x (B_t, I) and W (F, I)."""
        y = F.linear(x, W)
        if not self._learns() or y.shape[0] < self.min_rows:
            return self.forward(y, t)
        with torch.autocast(y.device.type, enabled=False):
            z = self._across(at_least_float32(y), x.detach(), W.detach(), t)
        return z.to(y.dtype)

    def sequence_linear(self, x: Tensor, W: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize W x of all packed rows, for x (N, I): at once for "sequence", otherwise step by step."""
        if self.sequence_wise:
            return self.linear(x, W)
        return torch.cat([self.linear(rows, W, t) for t, rows in enumerate(x.split_with_sizes(batch_sizes))])

    def forbids(self, place: str) -> str | None:
        """Only the products have a weight to compensate for."""
        if place not in ("input", "hidden"):
            return "it compensates for changes of a weight, and only input and hidden have one"
        return super().forbids(place)

    def reset_parameters(self) -> None:
        """Gain and bias to their initial values; no history."""
        super().reset_parameters()
        if "history" in self._modules:  # not yet inside the constructor
            self.history.reset()

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        raise ValueError("cbn needs the factors of the product in training: call linear(x, W, t) or sequence_linear")

    def _across(self, y: Tensor, x: Tensor, W: Tensor, t: int) -> Tensor:
        """Normalize training rows y = W x by the window, and keep them for the next iterations."""
        slot, history, counting = self.stats.slot(t), self.history, not in_backward()
        if counting and self._begins_batch(t):
            history.begin(W)
        mean, var = moments(y)
        own_mean, own_var, n = mean.detach(), var.detach(), y.shape[0]
        if slot is None:
            return self._by_moments(y, mean, var)
        if history.now > self.burn_in and self.window > 1:
            mean, var = _combine(mean, var, *history.recall(slot, W))
        if counting:
            history.store(slot, x)
            self._move(slot, own_mean, own_var * (n / (n - 1)), self._weight(slot, n), n)
        return self._by_moments(y, mean, var)

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        return f"{super().extra_repr()}, window={self.window}, burn_in={self.burn_in}"


def _combine(mean: Tensor, var: Tensor, means: Tensor, variances: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Moments of the mixture of the current rows and past ones (k - 1, F), as far as they count."""
    means, variances = means.to(mean.dtype), variances.to(mean.dtype)
    number = 1 + count.sum(0)
    mixed = (mean + torch.where(count, means, 0.0).sum(0)) / number
    within = var + torch.where(count, variances, 0.0).sum(0)
    between = (mean - mixed).square() + torch.where(count, (means - mixed).square(), 0.0).sum(0)
    return mixed, (within + between) / number
