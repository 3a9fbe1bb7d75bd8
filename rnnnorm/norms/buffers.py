"""Buffers of normalizers: stored statistics, which stay in float32, and what a training step has read of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..common.settings import Settings
from .base import in_backward

HALF = (torch.float16, torch.bfloat16)


class StatisticBuffers(Settings):
    """A module whose floating-point buffers stay in float32 where the model goes to 16 bits.

    Buffers named in `late` start as None and get their shape from the first data; a state dict brings them along.
    """

    late: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self._buffers.items():
            old = before[name]
            if buffer is not None and old is not None and buffer.dtype in HALF:
                self._buffers[name] = old.to(device=buffer.device, dtype=torch.float32)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        device = next(b.device for name, b in self._buffers.items() if b is not None and name not in self.late)
        for name in self.late:
            saved = state_dict.get(prefix + name)
            setattr(self, name, None if saved is None else torch.empty_like(saved, device=device))
        super()._load_from_state_dict(state_dict, prefix, *args)


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
    """Record of the statistics that each timestep of the last training batch has read, for activation checkpointing.

    The recomputation inside the backward pass would otherwise read statistics that have moved on since, and take the
    gradient of another function. With two forward passes before the backward pass of the first, it finds what the
    second one has read. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        self._read: dict[Hashable, tuple[Tensor, ...]] = {}

    def __call__(self, t: Hashable, read: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Result of `read`, without a graph; in a recomputation its result in the first pass."""
        if not (in_backward() and t in self._read):
            with torch.no_grad():
                self._read[t] = read()
        return self._read[t]

    def __getstate__(self) -> dict[str, Any]:
        return {"_read": {}}
