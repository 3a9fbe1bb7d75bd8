"""Batch normalization over the active rows: per sequence, per step with shared averages, per step with its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.ranges import Range, at_least
from .base import in_backward
from .batch_statistics import rounding
from .fusible import ColumnStatistics, Fusible
from .ghost import Ghosts, ghosts
from .synchronized import SynchronizedNormalizer


class BatchNorm(SynchronizedNormalizer):
    """Batch normalization: y = g ⊙ (x - μ) / √(σ² + ε) + b, with μ and σ² over rows, feature by feature.

    Only active rows exist here, so padding cannot enter a statistic. Normalization uses the biased variance, the
    running average the unbiased one. `statistics` says over which rows, and what is kept for evaluation:

    - "sequence": moments over all N = Σ_t B_t rows at once, one running pair; for the vertical places (Laurent et al.
      2016, sequence-wise; Deep Speech 2). It equals `torch.nn.BatchNorm1d` on `PackedSequence.data`.
    - "shared": moments over the B_t rows of each step, one running pair for all steps: the naive way.
    - "timestep": moments over the B_t rows of each step, a running pair per step (Cooijmans et al. 2017), since the
      states pass through a transient after t = 0: their distribution is another one at every step.

    Between the last two lies `window=k`: moments per step, a running pair per block of k steps. k = 1 is
    "timestep", k ≥ T_max is "shared".

    Gain and bias are shared over time. Evaluation uses the running averages, the population statistics or the batch's
    own (`rnnnorm.statistics`). Stored values: 2F, or 2·⌈T_max/k⌉·F for "timestep".

    With fewer than `min_rows` rows no variance can be estimated: such a step uses the stored statistics of its slot, or
    of the last slot that has any (mean 0 and variance 1 before any training), and updates nothing; so a batch of one
    row is defined in training, too, and is then no constant. At t ≥ T_max a training step still normalizes by its
    batch's moments; `tail` says what is stored and what evaluation uses.

    `frozen` makes training the same function as evaluation: stored statistics, constants in backward, never updated.
    They come from a state dict (that of a model trained with the same normalizers, not frozen) and are the running
    averages; for those of `rnnnorm.recalibrate`, train inside `rnnnorm.statistics(model, "population")`. Without
    either they are mean 0 and variance 1: a gain and nothing else.

    Three options bring running averages near to what training computes, without a pass over data; they change nothing
    else. Test accuracies in brackets are those of `bn-timestep` by running averages, mean over five seeds of the
    default task (without options .347; population statistics .954) and three of MNIST by rows after two epochs (.513;
    one consistent batch of 1000 rows .956).

    - `debias`: the n-th batch of a slot has weight m / (1 - (1 - m)ⁿ), so that the first one replaces the initial
      (0, 1), as in Adam. It makes small momenta usable from the start; it does nothing about lag (.347; .513).
    - `by_rows`: with each training batch W ← (1 - m) W for all slots, and W ← W + n and weight n / W for each slot that
      gets n rows. So all rows of a batch weigh alike, initial values nothing, and all slots forget at the same pace,
      also those that few batches reach.
    - `mute`: y = b for a feature whose σ² was at most ε in more than half of the recent batches, as it was in these, up
      to g. Where all sequences begin alike, stored means of such features need be wrong by no more than a step of the
      optimizer to spoil all that follows, since g/√ε multiplies it (.925; .934; both options .937; .934). Such features
      say nothing in evaluation: not for those that rarely, but then tellingly, are another value (one consistent batch
      loses .02 on MNIST by it), nor for test sequences that begin as no training sequence does.

    `skip_constant` is about training where all sequences begin alike. At such steps all rows agree: x - μ is 0, and
    gradients are multiplied by g/√ε at each place and each step. In those of weights and gains they cancel: the parts
    of all rows sum to 0, since μ is subtracted, and each is multiplied by the same inputs. What does not cancel is
    rounding error, which after three such steps is larger than all that is true (g = 0.1, float32; after six in
    float64). With the option a feature whose σ² is at most 16 u ε, u being the type's precision, is the constant that
    it is but for rounding: y = b, without a gradient. So it is in evaluation, too, by stored σ² as by those of a batch,
    since rounding errors of x - μ grow forwards as they do backwards. Where weights are large, equal rows differ by
    more than this from batch to batch: then estimate population statistics from one batch. Where a few rows differ,
    true gradients explode as well, and noise on h_0 or a larger ε is needed.

    `ghost=k` takes the moments of a training batch over parts of k sequences, so that a large batch is as noisy as
    small ones are (ghost batch normalization, Hoffer et al. 2017). A step with B_t active rows has ⌊B_t / k⌋ parts, so
    none has fewer than k; what is left over goes to the first parts, one row each, and with fewer than 2k rows the step
    is one part. Row b is in part b mod ⌊B_t / k⌋: rows are sorted by the lengths of their sequences, so parts get long
    and short ones alike. While B_t stays the same, so do the parts; as sequences end there are fewer, never smaller
    ones. For "sequence", a part is all rows of the sequences it begins with. The running averages move once per part,
    towards its moments. Population statistics do not know of parts; evaluation by "batch" statistics takes those of
    parts. Processes have parts of their own in training, whatever `sync`.

    Weights that are averaged at the same pace lag as much as these averages do, which cancels what is left of lag to
    first order: `mute` and `by_rows` with m = 0.05 and Lightning's `EMAWeightAveraging(decay=0.95, use_buffers=False)`
    (.962; .946).

    Args:
        num_features: F.
        statistics: "sequence", "shared" or "timestep".
        gain: initial g. In a recurrence g = 1 multiplies gradients at every step and saturates tanh; Cooijmans et al.
            start at 0.1 in all three places.
        eps: ε inside the root, 1e-5. Steps at which all rows agree (h_0 = 0) multiply the gradient by g/√ε.
        momentum: weight of the newest batch in the running averages; None: average over all rows seen.
        debias: running averages free of their initial values.
        by_rows: running averages in which each row weighs alike, and free of their initial values.
        mute: evaluate features that were constant in most batches as constants. Stores F or S·F more values.
        skip_constant: take features that all rows agree on for constants. Not for "sequence".
        max_steps: T_max, steps that have slots of their own for "timestep".
        tail: "last", "pool" or "error": see `StoredStatistics`.
        min_rows: fewest rows (at least 2) that estimate a variance.
        window: k, steps that share a running pair, for "timestep". (The `window` of `cbn` counts iterations.)
        ghost: k (at least `min_rows`), sequences whose moments are taken together in training; None: all.
        frozen: normalize by stored statistics in training, too.
        sync: in training on several processes (`torch.distributed`), take moments over the rows of all of them; see
            `SynchronizedNormalizer`. None: not said, which is false but for `rnnnorm.tasks`, where it is true.
        bias: learn b.

    Raises:
        ValueError: an argument outside its range; a step ≥ T_max with tail="error".

    Sources: Ioffe and Szegedy 2015; Laurent et al., ICASSP 2016; Amodei et al., ICML 2016; Cooijmans et al., ICLR 2017;
    for `ghost` Hoffer, Hubara and Soudry, "Train longer, generalize better", NeurIPS 2017, algorithm 1.
    """

    name: ClassVar[str] = "bn"
    summary: ClassVar[str] = "each feature by its mean and variance over the batch's active rows"
    source: ClassVar[str] = "Ioffe & Szegedy 2015; Laurent et al. 2016; Cooijmans et al. 2017"
    ranges: ClassVar[Mapping[str, Range]] = {"ghost": at_least(2, why="since one row has no variance")}
    _active: list[int] | None = None
    """Rows of each step, while all are normalized at once."""

    def __init__(
        self,
        num_features: int,
        *,
        statistics: str = "sequence",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        debias: bool = False,
        by_rows: bool = False,
        mute: bool = False,
        window: int = 1,
        skip_constant: bool = False,
        ghost: int | None = None,
        frozen: bool = False,
        **kw: Any,
    ) -> None:
        if window != 1 and statistics != "timestep":
            raise ValueError(f'window groups timesteps: it needs statistics="timestep", got {statistics!r}')
        if skip_constant and statistics == "sequence":
            raise ValueError(
                'skip_constant is about steps at which all rows agree: it needs statistics="shared" or "timestep"'
            )
        forgets = momentum is not None  # the average over all rows is by rows and unbiased as it is
        stored = {"debias": debias and forgets, "by_rows": by_rows and forgets, "still": eps if mute else None}
        options: dict[str, Any] = {"statistics": statistics, "eps": eps, "momentum": momentum}
        super().__init__(num_features, **options, stored={"window": window, **stored}, **kw)
        if ghost is not None and ghost < self.min_rows:
            raise ValueError(f"ghost parts need at least min_rows={self.min_rows} sequences each, got ghost={ghost}")
        self.frozen, self.ghost = frozen, ghost
        self.debias, self.by_rows, self.mute, self.skip_constant = debias, by_rows, mute, skip_constant
        if frozen:
            self.evaluates_by = "running"

    def fusible(self) -> Fusible | None:
        """Columns, of all steps at once or of each; none with parts."""
        whole = self.sequence_wise
        return ColumnStatistics(self.eps, whole, self.skip_constant) if self.ghost is None else None

    def synchronizes(self) -> bool:
        """Whether moments are taken over several processes now; those of parts never are."""
        return super().synchronizes() and (self.ghost is None or not self._learns())

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize all N rows: at once for "sequence", otherwise step by step."""
        if self.ghost is None or not self.sequence_wise:
            return super().sequence(x, batch_sizes)
        self._active = batch_sizes
        try:
            return super().sequence(x, batch_sizes)
        finally:
            self._active = None

    def _parts(self, rows: Tensor) -> Ghosts | None:
        return None if self.ghost is None else ghosts(self._active or [rows.shape[0]], self.ghost, rows)

    def _by_batch(self, rows: Tensor) -> Tensor:
        parts = self._parts(rows)
        if parts is not None:
            return self._by_parts(rows, parts, *parts.moments(rows))
        y = super()._by_batch(rows)
        return self._skip(y, rows.detach().var(0, correction=0)) if self.skip_constant else y

    def _by_parts(self, rows: Tensor, parts: Ghosts, mean: Tensor, var: Tensor) -> Tensor:
        """Normalize each row by the moments of its part."""
        return self._by_moments(rows, mean[parts.part], var[parts.part])

    def _learns(self) -> bool:
        return self.training and not self.frozen

    def _train(self, rows: Tensor, t: int, slot: int | None) -> Tensor:
        parts = self._parts(rows)
        if parts is not None:
            own = parts.moments(rows)
            if slot is not None and not in_backward():
                given = [slot] * len(parts.sizes), parts.sizes, own[0].detach(), own[1].detach()
                self.stats.move_steps(*given, self.momentum, t == 0)
            return self._by_parts(rows, parts, *own)
        mean = var = None
        momentum = 0.0
        if slot is not None and (self.debias or self.by_rows or self.mute):
            if not in_backward():
                new_var, new_mean = torch.var_mean(rows.detach(), 0, correction=0, keepdim=True)
                self.stats.move_steps([slot], [rows.shape[0]], new_mean, new_var, self.momentum, t == 0)
        elif slot is not None:
            mean, var = self.stats.running_mean[slot], self.stats.running_var[slot]
            if in_backward():  # checkpointing wants the same graph again, but the batch has been counted
                mean, var = mean.clone(), var.clone()
            else:
                self.stats.num_rows[slot] += rows.shape[0]
                momentum = self._momentum(rows.shape[0], slot)
        gain, bias = self._affine(rows)
        y = F.batch_norm(rows, mean, var, gain, bias, True, momentum, self.eps)
        return self._skip(y, rows.detach().var(0, correction=0)) if self.skip_constant else y

    def _skip(self, y: Tensor, var: Tensor) -> Tensor:
        """Normalized rows y with b in the place of features that are constant but for rounding."""
        bias = y.new_zeros(()) if self.bias is None else self.bias.to(y.dtype)
        return torch.where(var.to(y.dtype) <= rounding(y.dtype, self.eps), bias, y)

    def _by_stored(self, rows: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        y = super()._by_stored(rows, mean, var)
        return self._skip(y, var) if self.skip_constant else y

    def _roots(self, var: Tensor) -> Tensor:
        roots = super()._roots(var)
        return torch.where(var <= rounding(var.dtype, self.eps), 0, roots) if self.skip_constant else roots

    def _momentum(self, rows: int, slot: int) -> float:
        return rows / int(self.stats.num_rows[slot]) if self.momentum is None else self.momentum

    def extra_repr(self) -> str:
        """Everything that is not visible in the parameters."""
        flags = "".join(
            f", {flag}" for flag in ("frozen", "debias", "by_rows", "mute", "skip_constant") if getattr(self, flag)
        )
        return super().extra_repr() + ("" if self.ghost is None else f", ghost={self.ghost}") + flags
