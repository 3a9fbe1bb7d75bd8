"""The equations of the cells in NumPy, written out independently, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

Array = np.ndarray


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def layer_norm(a: Array, norm: Any) -> Array:
    """Of a `LayerNorm` module with its gain and bias; the identity for None."""
    if norm is None:
        return a
    y = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5) * array(norm.gain)
    return y if norm.bias is None else y + array(norm.bias)


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def weights(rnn: nn.Module, suffix: str = "_l0") -> dict[str, Array]:
    """All weights of one layer and direction, without the suffix."""
    return {n.removesuffix(suffix): array(p) for n, p in rnn.named_parameters() if n.endswith(suffix)}


def randomize(rnn: nn.Module) -> None:
    """Gains and biases other than their initial values, so that a forgotten one shows."""
    for name, p in rnn.named_parameters():
        if name.endswith((".gain", ".bias")):
            nn.init.uniform_(p, 0.5, 1.5)
