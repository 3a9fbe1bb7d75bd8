"""Watches: whether modules and tensors are still what they were when something was found out about them."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ...common.settings import Settings


class Watch:
    """What some answers depend on.

    Names that hold nothing are watched like all others, since something may stand there later.
    """

    def __init__(self) -> None:
        self._contents: list[tuple[Mapping[str, Any], list[str], tuple[Any, ...]]] = []
        self._empty: list[Mapping[str, Any]] = []
        self._modules: list[tuple[Settings, type, str]] = []
        self._bare: list[tuple[torch.nn.Module, type]] = []
        self._tensors: list[tuple[Tensor, int, torch.Size, torch.dtype]] = []

    def contents(self, module: torch.nn.Module) -> None:
        """Watch which parameters, buffers and modules a module has."""
        for held in (module._parameters, module._buffers, module._modules):
            if held:
                self._contents.append((held, list(held), tuple(held.values())))
            else:
                self._empty.append(held)

    def module(self, module: Settings) -> None:
        """Watch that, and class, settings and hooks; there must be no hooks."""
        self.contents(module)
        self._modules.append((module, type(module), module._settings))

    def bare(self, module: torch.nn.Module) -> None:
        """Watch contents and class of a module that has neither hooks nor a method of its own.

        Raises:
            ValueError: it has.
        """
        self.contents(module)
        self._bare.append((module, type(module)))
        if not _bare(module):
            raise ValueError("hooks")

    def tensor(self, tensor: Tensor) -> int:
        """Watch the memory of a dense tensor, and return its address.

        Raises:
            ValueError: it has none, or belongs to a graph, which would be kept alive.
        """
        pointer = tensor.data_ptr()
        if not pointer or not tensor.is_contiguous() or tensor.grad_fn is not None:
            raise ValueError("no dense memory of its own")
        self._tensors.append((tensor, pointer, tensor.shape, tensor.dtype))
        return pointer

    def unchanged(self) -> bool:
        """Whether all is as it was."""
        if any(self._empty):
            return False
        for held, names, values in self._contents:
            if list(held) != names or not all(map(is_, held.values(), values)):
                return False
        for module, kind, text in self._modules:
            if type(module) is not kind or module._settings is not text or any(module._listeners):
                return False
        for bare, kind in self._bare:
            if type(bare) is not kind or not _bare(bare):
                return False
        for tensor, pointer, shape, dtype in self._tensors:
            if (
                tensor.data_ptr() != pointer
                or tensor.shape != shape
                or tensor.dtype is not dtype
                or not tensor.is_contiguous()
            ):
                return False
        return True


def _bare(module: torch.nn.Module) -> bool:
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
