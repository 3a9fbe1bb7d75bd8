"""What a case's program draws and shows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn


class Recorder:
    """What a program shows, and what it draws.

    Args:
        seed: of its random tensors.
        wide: whether all of them are to be of double precision, with the same values.
    """

    def __init__(self, seed: int, wide: bool = False) -> None:
        self._wide = wide
        self.found: dict[str, Any] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def randn(self, *shape: Any, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
        """Normal numbers that depend on the case alone, not on what a module has drawn before."""
        wide = self._wide and dtype.is_floating_point
        return torch.randn(*shape, generator=self._generator).to(device, torch.float64 if wide else dtype)

    @torch.no_grad()
    def fill(self, module: nn.Module) -> None:
        """Give a module's weights and biases values that depend on the case alone, as those that are drawn later."""
        torch.manual_seed(self._generator.initial_seed())
        for name, parameter in module.named_parameters():
            if name.startswith(("weight_", "bias_")) and not parameter.is_meta:
                drawn = torch.rand(parameter.shape, generator=self._generator, dtype=torch.float64)
                parameter.copy_((2 * drawn - 1) / module.hidden_size**0.5)

    def see(self, value: Any, name: str = "out") -> None:
        """Record every tensor in a nested value."""
        if isinstance(value, Tensor):
            kept = value.detach()
            self.found[name] = kept.to_dense().clone() if kept.layout != torch.strided else kept.clone()
        elif isinstance(value, rnn.PackedSequence):
            self.see(tuple(value), name)
        elif isinstance(value, tuple | list):
            for number, part in enumerate(value):
                self.see(part, f"{name}.{number}")
        elif isinstance(value, dict):
            for key, part in value.items():
                self.see(part, f"{name}.{key}")
        elif value is None or isinstance(value, bool | int | float | str):
            self.found[name] = value

    def loss(self, value: Any) -> Tensor:
        """A fixed random function of all floating-point tensors in a nested value."""
        parts: list[Tensor] = []

        def collect(value: Any) -> None:
            if isinstance(value, Tensor) and value.is_floating_point() and value.requires_grad:
                weights = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).mul(7).sin()
                parts.append((value * weights.to(value).view(value.shape)).sum())
            elif isinstance(value, tuple | list):
                for part in value:
                    collect(part)

        collect(value)
        return sum(parts, torch.zeros(())) if parts else torch.zeros((), requires_grad=True) * 1

    def see_gradients(self, *owners: Any, name: str = "gradient") -> None:
        """Record the gradients of tensors, and of modules by the names of their parameters."""
        for number, owner in enumerate(owners):
            if isinstance(owner, nn.Module):
                for path, parameter in owner.named_parameters():
                    self.see(parameter.grad, f"{name} of {path}")
            elif isinstance(owner, Tensor):
                self.see(owner.grad if owner.is_leaf else None, f"{name} of leaf {number}")
            elif isinstance(owner, tuple | list):
                for part, tensor in enumerate(owner):
                    self.see_gradients(tensor, name=f"{name} of part {part}")
