"""Assorted-time normalization: layer normalization whose statistics reach some steps back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ..common.ranges import STEPS, Range
from ..common.transforms import by_plain_operators
from .base import Normalizer, at_least_float32


class AssortedTimeNorm(Normalizer):
    """Assorted-time normalization: y_t = g ⊙ (x_t - μ_t) / √(σ_t² + ε) + b, with moments over features *and* steps.

    For each sequence by itself, over all F features of its steps t-k+1, …, t:

        μ_t = mean_{s,j} x_{s,j}        σ_t² = mean_{s,j} (x_{s,j} - μ_t)²        s = max(0, t-k+1), …, t;  j = 1, …, F

    At t < k-1 the window holds the t+1 steps there are; k = 1 is layer normalization. Only the rows of step t are
    normalized, and gradients flow back through the whole window. Gain and bias are shared over time. Sequences do not
    see each other, so one row is an ordinary case, training and evaluation are the same function, and padding and the
    company of a batch cannot matter.

    No statistic is stored. While a sequence runs, the mean and variance of its last k rows are kept, from which μ_t and
    σ_t² follow exactly; they are forgotten when the run is over, at t = 0, and in copies and pickles. Rows of a later
    step must be a prefix of those of the step before. The window is no part of (h, c): **a sequence that is cut and
    continued from its state starts with a new window**. Activation checkpointing must cover a whole run, not a step.

    The released code adds b before the normalization and a second one after it; here b stands outside, once. It fails
    for a batch of one (`squeeze`), and as it stands (`ATN` is called with an unknown `use_bias`).

    Args:
        num_features: F.
        window: k; 5 is the default of the released code, which uses 25 for the adding and 45 for the copying problem.
        eps: ε inside the root, 1e-5 as in the released code.
        gain: initial g, 1 as in the released code.
        bias: learn b.

    Raises:
        ValueError: window below 1; in the forward pass, a step that does not follow the one before, or has more rows.

    Source: Pospisil, Zadorozhnyy and Ye, "Breaking Time Invariance: Assorted-Time Normalization for RNNs",
    arXiv 2209.14439, 2022 (Neural Processing Letters 56, 2024), and their code, github.com/vasily789/atn.
    """

    name: ClassVar[str] = "atn"
    summary: ClassVar[str] = "each row by the mean and variance over features of its sequence's last k steps"
    source: ClassVar[str] = "Pospisil et al. 2022"
    ranges: ClassVar[Mapping[str, Range]] = {"window": STEPS}
    per_step = True
    memoryless = False
    """The rows of a step do not suffice: a sequence cannot be cut and continued from (h, c) alone."""

    def __init__(self, num_features: int, *, window: int = 5, eps: float = 1e-5, **kw: Any) -> None:
        super().__init__(num_features, **kw)
        self.window, self.eps = window, eps
        self.reset_sequence()

    def reset_sequence(self) -> None:
        """Empty the window."""
        self._last: int | None = None
        self._past: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize the rows of step `t`, (B_t, F) → (B_t, F), and remember their moments; t = 0 empties the window."""
        if t == 0:
            self.reset_sequence()
        if self._last is not None and t != self._last + 1:
            raise ValueError(
                f"step {t} does not follow step {self._last}: call reset_sequence() before other sequences"
            )
        if not by_plain_operators():  # there all rows take all steps, and how many they are may be left open
            self._end_sequences(x.shape[0], t)
        rows = at_least_float32(x)
        var, mean = torch.var_mean(rows, 1, correction=0)
        self._past = [*self._past[-(self.window - 1) :], (mean, var)] if self.window > 1 else [(mean, var)]
        self._last = t
        means, variances = (torch.stack(moments) for moments in zip(*self._past, strict=True))
        center = means.mean(0)
        return self._normalize(rows, center, (variances + (means - center) ** 2).mean(0)).to(x.dtype)

    def _end_sequences(self, active: int, t: int) -> None:
        """Keep the window of the first rows; the other sequences have ended."""
        before = self._past[-1][0].shape[0] if self._past else active
        if active > before:
            raise ValueError(f"step {t} has {active} rows, the step before had {before}: sequences may end, not begin")
        if active < before:
            self._past = [(mean[:active], var[:active]) for mean, var in self._past]

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize all packed rows (N, F) at once; the window of the step by step form is left alone."""
        rows, k, T = at_least_float32(x), self.window, len(batch_sizes)
        # only the moments of the rows are padded, (T, B), so that a window is a slice of time
        moments = PackedSequence(torch.stack(torch.var_mean(rows, 1, correction=0), 1), torch.tensor(batch_sizes))
        padded, lengths = pad_packed_sequence(moments)
        variances, means = F.pad(padded, (0, 0, 0, 0, k - 1, 0)).unfold(0, k, 1).unbind(2)
        exists = torch.arange(T, device=x.device).unsqueeze(1) >= torch.arange(k - 1, -1, -1, device=x.device)
        count = exists.sum(1, keepdim=True)
        center = means.sum(2) / count
        spread = (means - center.unsqueeze(2)) ** 2 * exists.unsqueeze(1)
        pooled = torch.stack([center, (variances + spread).sum(2) / count], 2)
        mean, var = pack_padded_sequence(pooled, lengths).data.unbind(1)
        return self._normalize(rows, mean, var).to(x.dtype)

    def _normalize(self, rows: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        scale = torch.rsqrt(var + self.eps).unsqueeze(1)
        y = self.gain.to(rows.dtype) * ((rows - mean.unsqueeze(1)) * scale)
        return y if self.bias is None else y + self.bias.to(rows.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """State of copies and pickles: without the sequences at hand, whose tensors belong to a graph."""
        return {**self.__dict__, "_last": None, "_past": []}

    def extra_repr(self) -> str:
        """Features, gain and k."""
        return f"{super().extra_repr()}, window={self.window}"
