"""Batch normalization of ragged batches of sequences, as a module by itself."""

from __future__ import annotations

from typing import Any, Self, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..common.ranges import Checked
from ..common.transforms import Unscriptable, by_plain_operators
from ..norms import BatchNorm
from ..norms.recorder import Recordable, Rows
from . import padded
from .inputs import enter, leave


class RaggedBatchNorm(Checked, Recordable, Unscriptable, nn.Module):
    """Batch normalization of sequences of different lengths: y = g ⊙ (x - μ) / √(σ² + ε) + b, feature by feature.

    μ and σ² are taken over the rows that exist, so what stands in the padding changes neither output nor statistics nor
    gradients. On rows of one step or of all, this is `torch.nn.BatchNorm1d` without the padding:

    - statistics="sequence": over all rows of the batch, Σ_t B_t of them; equals `torch.nn.BatchNorm1d` on
      `PackedSequence.data`;
    - "timestep": over the B_t rows of each step, with stored statistics per step;
    - "shared": over the B_t rows of each step, with one stored mean and variance for all steps.

    Evaluation uses running averages, or the population statistics of `rnnnorm.recalibrate`, or the batch's own, as
    `rnnnorm.statistics` says. For layer normalization no such module is needed: each row is normalized by itself, so
    `torch.nn.LayerNorm` is right on padded and packed sequences alike.

    Args:
        num_features: F, features per row.
        eps: ε inside the root.
        momentum: weight of the newest batch in the running averages; None: average over all rows seen.
        affine: learn g (initially 1) and b (initially 0).
        device: where parameters live.
        dtype: their type.
        statistics: "sequence", "timestep" or "shared".
        batch_first: dense and padded tensors are (B, T, F) instead of (T, B, F).
        **options: `max_steps`, `tail`, `min_rows`, `window`, `frozen`, …: see `rnnnorm.norms.BatchNorm`.

    Shape:
        input: PackedSequence with rows (N, F); (T, B, F) with `lengths` or dense; or (T, F).
        output: as the input, with zeros in the padding.

    Raises:
        ValueError: an argument or a shape that does not fit.

    Example:
        >>> norm = RaggedBatchNorm(10, batch_first=True)
        >>> y = norm(torch.randn(3, 50, 10), lengths=torch.tensor([50, 7, 23]))
        >>> bool(y[1, 7:].eq(0).all()), bool(y.sum((0, 1)).abs().max() < 1e-3)  # nothing in the padding; mean 0
        (True, True)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        statistics: str = "sequence",
        batch_first: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.num_features, self.batch_first, self.affine = num_features, batch_first, affine
        options |= {"statistics": statistics, "eps": eps, "momentum": momentum, "device": device, "dtype": dtype}
        self.norm = BatchNorm(num_features, bias=affine, **options)
        self.norm.gain.requires_grad_(affine)

    @classmethod
    def from_torch(cls, module: nn.BatchNorm1d, **options: Any) -> Self:
        """A module with the weights of a trained `torch.nn.BatchNorm1d`; `options` as in the constructor.

        Raises:
            TypeError: something else than a `torch.nn.BatchNorm1d`.
            ValueError: it keeps no running statistics; `by_rows` or momentum None, since how many rows it has seen
                is not known.
        """
        if not isinstance(module, nn.BatchNorm1d):
            raise TypeError(f"expected a torch.nn.BatchNorm1d, got {type(module).__name__}")
        mean, var, count = module.running_mean, module.running_var, module.num_batches_tracked
        if mean is None or var is None or count is None:
            raise ValueError("expected a torch.nn.BatchNorm1d with running statistics, got track_running_stats=False")
        keys: dict[str, Any] = {"affine": module.affine, "device": mean.device, "dtype": mean.dtype}
        new = cls(module.num_features, module.eps, module.momentum, **keys, **options)
        with torch.no_grad():
            if module.affine:
                assert new.norm.bias is not None
                new.norm.gain.copy_(module.weight)
                new.norm.bias.copy_(module.bias)
            stats = new.norm.stats
            stats.running_mean[:], stats.running_var[:] = mean, var
            stats.num_rows[:] = count  # how many rows they were is not known
            momentum = module.momentum
            if stats.by_rows or momentum is None:
                raise ValueError(
                    "by_rows=True and momentum=None need the number of rows behind the statistics, which torch does "
                    "not keep"
                )
            if stats.total_weight is not None:
                stats.total_weight[:] = (1 - (1 - momentum) ** count) / momentum
        return new.train(module.training)

    @overload
    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor: ...

    @overload
    def forward(self, input: PackedSequence) -> PackedSequence: ...

    def forward(self, input: Tensor | PackedSequence, lengths: Tensor | None = None) -> Tensor | PackedSequence:
        """Normalize sequences; see the class for shapes."""
        if by_plain_operators():
            rows, grid, _ = padded.enter(input, lengths, self.num_features, self.batch_first)
            padded.check_normalizers(self, grid)
            return padded.leave(input, padded.normalize(self.norm, rows, grid), grid, self.batch_first)
        packed = enter(input, lengths, self.num_features, self.batch_first)
        if self.recorder is not None:
            self.recorder.note(self, Rows(packed.data, packed.batch_sizes, ()))
        data = self.norm.sequence(packed.data, packed.batch_sizes.tolist())
        return leave(input, lengths, packed, data, self.batch_first)

    def rerun(self, rows: Rows) -> None:
        """Normalize rows for the sake of the statistics."""
        self.norm.sequence(rows.data, rows.batch_sizes.tolist())

    def reset_parameters(self) -> None:
        """Gain, bias and statistics back to their initial values."""
        self.norm.reset_parameters()
        self.norm.stats.reset_running_stats()

    def extra_repr(self) -> str:
        """The shape of dense tensors."""
        return "batch_first=True" if self.batch_first else ""
