"""What the tests share: the presets, ragged batches, comparison by name."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import rnnnorm

PRESETS = list(rnnnorm.presets())
NORMALIZED = [name for name in PRESETS if name != "none"]
BATCH = [name for name in PRESETS if name.startswith("bn")]


def _kinds() -> list[str]:
    """One preset of each set of normalizers, that with most places."""
    found: dict[Any, str] = {}
    for name, preset in sorted(rnnnorm.presets().items(), key=lambda item: -len(item[1].norm.places)):
        found.setdefault(
            frozenset((use.cls, use.options.get("statistics")) for use in preset.norm.places.values()), name
        )
    return [name for name in PRESETS if name in found.values()]


KINDS = _kinds()
"""For tests that take seconds per preset and do not depend on where a normalizer stands."""
LENGTHS = torch.tensor([3, 7, 1, 5, 7])
INPUT, HIDDEN = 4, 6


TIMELESS: dict[str, Any] = {"seconds": 0, "timing": {}}
"""Laid over a `result.json`, it takes away what differs between two runs of the same trial."""


def padded(lengths: Tensor = LENGTHS, features: int = INPUT, **keys: Any) -> Tensor:
    """Random (T, B, F) with zeros in the padding."""
    x = torch.randn(int(lengths.max()), len(lengths), features, **keys)
    return x * valid(lengths).unsqueeze(-1)


def valid(lengths: Tensor = LENGTHS) -> Tensor:
    """True where (t, b) is inside its sequence, (T, B)."""
    return torch.arange(int(lengths.max())).unsqueeze(1) < lengths


def packed(lengths: Tensor = LENGTHS, features: int = INPUT, **keys: Any) -> PackedSequence:
    return pack_padded_sequence(padded(lengths, features, **keys), lengths, enforce_sorted=False)


def buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: b.clone() for name, b in module.named_buffers()}


def assert_same(actual: Any, expected: Any, name: str, tolerance: float) -> None:
    assert actual is not None, f"{name} is missing"
    error = (actual - expected).abs().max().item() if actual.numel() else 0.0
    assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)} instead of {tuple(expected.shape)}"
    assert error <= tolerance, f"{name} differs by {error:.3g}"


def assert_compiled_and_traced_as_eagerly(net: nn.Module) -> None:
    """A graph of the network, which is in 64 bits, trains as the network does; a trace evaluates other batches too."""
    plain, x = copy.deepcopy(net), torch.randn(5, 3, INPUT, dtype=torch.float64)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for network in (compiled, plain):
        network(x)[0].square().sum().backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        assert_same(p.grad, q.grad, "gradient", 1e-10)
    traced = torch.jit.trace(plain.eval(), x)
    longer = torch.randn(5, 5, INPUT, dtype=torch.float64)
    assert_same(traced(longer)[0], plain(longer)[0], "output", 1e-10)


class WithLengths(nn.Module):
    """A network with lengths as its second argument, for exporters that take no keywords."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.network(x, lengths=lengths)
