"""Bare matrix products of an LSTM: by `torch.mm`, and as fast as the processor can multiply and add."""

from __future__ import annotations

import torch

from ..scan.native.library import library
from .batch import Batch
from .steps import Step


class Products(Step):
    """Input product of all rows, one recurrent product per step, and those of the backward pass; nothing else.

    Forward: X W_ihᵀ once, and H_{t-1} W_hhᵀ per step. Backward: dA_t W_hh per step; dAᵀ X, dAᵀ H and dA W_ih once for
    all rows. Everything is written into memory allocated beforehand; no gate, no normalizer, no autograd.

    Args:
        batch: whose rows are multiplied.
        backward: also the products of the backward pass.
    """

    def __init__(self, batch: Batch, backward: bool) -> None:
        shape, sizes = batch.shape, batch.batch_sizes
        N, H = sum(sizes), shape.H
        random = torch.Generator().manual_seed(0)

        def rows(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=random).to(batch.device)

        self.backward = backward
        self.x, self.h, self.W_ih, self.W_hh = rows(N, shape.I), rows(N, H), rows(4 * H, shape.I), rows(4 * H, H)
        self.gates_x, self.gates_h = rows(N, 4 * H), rows(N, 4 * H)
        self.dx, self.dh = torch.empty_like(self.x), torch.empty_like(self.h)
        self.dW_ih, self.dW_hh = torch.empty_like(self.W_ih), torch.empty_like(self.W_hh)
        # Views per step are made once: in a kernel they would be pointers.
        self.steps = list(zip(*(m.split_with_sizes(sizes) for m in (self.h, self.gates_h, self.dh)), strict=True))

    def run(self) -> None:
        """All products once."""
        torch.mm(self.x, self.W_ih.t(), out=self.gates_x)
        W = self.W_hh.t()
        for h, gates, _ in self.steps:
            torch.mm(h, W, out=gates)
        if not self.backward:
            return
        for _, gates, dh in reversed(self.steps):
            torch.mm(gates, self.W_hh, out=dh)
        torch.mm(self.gates_h.t(), self.h, out=self.dW_hh)
        torch.mm(self.gates_x.t(), self.x, out=self.dW_ih)
        torch.mm(self.gates_x, self.W_ih, out=self.dx)


class ProductsAtPeak(Step):
    """As many multiply-adds as the products of an LSTM take, in registers, with no matrix at all: the limit.

    8 N H (I + H) floating point operations forward for N rows, and twice as many backward. Everything in float32, on
    torch's number of threads. No implementation can be faster, unless it multiplies less.

    Args:
        batch: whose rows would be multiplied.
        backward: also the products of the backward pass.

    Raises:
        RuntimeError: there is no compiled scan here, with whose flags and vectors the processor is measured.
    """

    def __init__(self, batch: Batch, backward: bool) -> None:
        loaded = library()
        if loaded is None:
            raise RuntimeError("the processor's peak is measured by compiled code, and there is none")
        self.call = loaded.rnnnorm_multiply_and_add_f32
        shape = batch.shape
        self.count = 4 * sum(batch.batch_sizes) * shape.H * (shape.I + shape.H) * (3 if backward else 1)

    def run(self) -> None:
        """All multiply-adds once."""
        self.call(self.count, torch.get_num_threads())
