"""Buffers that hold statistics: never 16 bits, and some of them born later than their module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Self

import torch

from ..common.settings import Settings

HALF = (torch.float16, torch.bfloat16)


_first_pass: ContextVar[bool] = ContextVar("_first_pass", default=False)


def in_backward() -> bool:
    """Whether autograd is running, that is, whether activation checkpointing runs the forward pass a second time."""
    if torch.compiler.is_compiling():  # what is computed again there is a function of what the first pass read
        return False
    return bool(torch._C._current_graph_task_id() != -1) and not _first_pass.get()


@contextmanager
def first_pass() -> Iterator[None]:
    """Take what runs for a first pass, wherever: it works on statistics as they were then, and may move them."""
    token = _first_pass.set(True)
    try:
        yield
    finally:
        _first_pass.reset(token)


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
