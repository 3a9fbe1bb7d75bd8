"""Moments and row counts over the processes of `torch.distributed`: the collectives behind `sync`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def processes() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def total_rows(batch_sizes: Tensor, device: torch.device) -> list[int]:
    """Active rows of all processes at each step, up to the end of the longest sequence of any of them.

    Two collectives: the largest number of steps, and the sums of the rows.

    Args:
        batch_sizes: (T,) of this process.
        device: where the rows are, since not every kind of process group moves tensors of the CPU.
    """
    steps = torch.tensor(batch_sizes.shape[0], device=device)
    dist.all_reduce(steps, dist.ReduceOp.MAX)
    rows = torch.zeros(int(steps), dtype=torch.int64, device=device)
    rows[: batch_sizes.shape[0]] = batch_sizes.to(device)
    dist.all_reduce(rows)
    totals: list[int] = rows.tolist()
    return totals


def pool_moments(mean: Tensor, var: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Moments over the rows of all processes from the moments over those of each; all processes must call it alike.

        μ = Σ_k n_k μ_k / N        σ² = Σ_k n_k (σ_k² + (μ_k - μ)²) / N        N = Σ_k n_k

    (Chan et al. 1979: no difference of large numbers.) One collective, and in the backward pass one more, which sums
    the gradients that reach μ and σ² on all processes. The gradient is that of the sum of the processes' losses.

    Args:
        mean: μ_k (S, F) of several steps; where this process has no rows any finite number will do.
        var: σ_k² (S, F), biased.
        rows: n_k of each step.

    Returns:
        μ (S, F), σ² (S, F), and N (S,) in the type of the moments.
    """
    pooled: tuple[Tensor, Tensor, Tensor] = _Pool.apply(mean, var, mean.new_tensor(rows))  # type: ignore[no-untyped-call]
    return pooled


class _Pool(Function):
    """Differentiable once.

    Autograd runs backward nodes in the opposite order of their creation, so processes that ran the same steps meet in
    the same collectives.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, var: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.cat([rows.unsqueeze(1), mean, var * rows.unsqueeze(1)], 1)
        everyone = own.new_empty(dist.get_world_size(), *own.shape)
        dist.all_gather(list(everyone.unbind()), own)
        F = mean.shape[1]
        counts, means, squares = everyone.split_with_sizes([1, F, F], 2)
        N = counts.sum(0)
        at_least_one = N.clamp(min=1)
        shares = counts / at_least_one
        pooled = (shares * means).sum(0)
        apart = means - pooled
        pooled_var = (squares.sum(0) + (counts * apart.square()).sum(0)) / at_least_one
        rank = dist.get_rank()
        ctx.save_for_backward(shares[rank], apart[rank])
        N = N.squeeze(1)
        ctx.mark_non_differentiable(N)
        return pooled, pooled_var, N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_var: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        share, apart = ctx.saved_tensors
        summed = torch.cat([d_mean, d_var], 1)
        dist.all_reduce(summed)
        d_mean, d_var = summed.chunk(2, 1)
        return share * (d_mean + 2 * apart * d_var), share * d_var, None
