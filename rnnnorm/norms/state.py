"""What normalizers keep whose training depends on what they have seen: averages, and what a first pass has read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from .buffers import HALF, StatisticBuffers, in_backward


class State(StatisticBuffers):
    """Named buffers that start at zero.

    Code changes them in place, never by assignment, so that state dicts and distributed training see them.

    Args:
        shapes: per name the shape of a floating-point buffer.
        device: where they live.
        dtype: their type; float32 in place of a 16-bit one.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, shape in shapes.items():
            kind = torch.float32 if dtype in HALF else dtype
            self.register_buffer(name, torch.zeros(shape, device=device, dtype=kind))

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def reset(self) -> None:
        """All zeros again."""
        for buffer in self.buffers():
            buffer.zero_()


class FirstPass:
    """What each timestep of the last training batch has read, so that activation checkpointing finds it again.

    The recomputation inside the backward pass would otherwise read statistics that have moved on since, and take the
    gradient of another function. With two forward passes before the backward pass of the first, it finds what the
    second one has read. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        self._read: dict[Hashable, tuple[Tensor, ...]] = {}

    def __call__(self, t: Hashable, read: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What `read` returns, without a graph; in a recomputation what it returned in the first pass."""
        if not (in_backward() and t in self._read):
            with torch.no_grad():
                self._read[t] = read()
        return self._read[t]

    def __getstate__(self) -> dict[str, Any]:
        return {"_read": {}}
