"""Group normalization against NumPy; four groups at the gates are layer normalization per gate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from support import INPUT, assert_same
from torch import Tensor

import rnnnorm
from rnnnorm.norms import LayerNorm
from rnnnorm.norms.group import GroupNorm

H = 5
DOUBLE = torch.float64


def made(features: int = 4 * H, **options: object) -> GroupNorm:
    norm = GroupNorm(features, dtype=DOUBLE, **options)  # type: ignore[arg-type]
    for p in norm.parameters():
        torch.nn.init.uniform_(p, 0.5, 1.5)
    return norm


@pytest.mark.parametrize("groups", [1, 2, 4, 10])
@pytest.mark.parametrize("bias", [False, True])
def test_equation(groups: int, bias: bool) -> None:
    norm, x = made(groups=groups, bias=bias, eps=1e-3), torch.randn(6, 4 * H, dtype=DOUBLE)
    blocks = np.split(x.numpy(), groups, axis=1)
    normal = [(b - b.mean(1, keepdims=True)) / np.sqrt(b.var(1, keepdims=True) + 1e-3) for b in blocks]
    expected = norm.gain.detach().numpy() * np.concatenate(normal, axis=1)
    expected = expected + norm.bias.detach().numpy() if bias else expected
    assert_same(norm(x, 2), torch.from_numpy(expected), "y", 1e-12)
    assert_same(norm.sequence(x, [3, 2, 1]), norm(x), "packed rows", 0)


def test_four_groups_at_the_gates_are_layer_norm_per_gate() -> None:
    norm, x = made(), torch.randn(3, 4 * H, dtype=DOUBLE)
    gates = zip(x.chunk(4, 1), norm.gain.chunk(4), strict=True)
    assert_same(norm(x), torch.cat([nnf.layer_norm(a, (H,), g) for a, g in gates], 1), "per gate", 1e-12)
    assert not torch.allclose(norm(x), nnf.layer_norm(x, (4 * H,), norm.gain))


def test_one_group_is_layer_norm() -> None:
    norm, ln = made(groups=1), LayerNorm(4 * H, dtype=DOUBLE)
    ln.load_state_dict(norm.state_dict())
    x = torch.randn(3, 4 * H, dtype=DOUBLE)
    assert_same(norm(x), ln(x), "y", 1e-12)


def test_a_gate_does_not_see_the_others() -> None:
    norm, x = made(), torch.randn(3, 4 * H, dtype=DOUBLE)
    other = x.clone()
    other[:, H:] *= 7
    assert torch.equal(norm(other)[:, :H], norm(x)[:, :H])


@pytest.mark.parametrize("norm", ["ln-per-gate", "gn"])
def test_presets_written_out(norm: str) -> None:
    lstm = rnnnorm.LSTM(INPUT, H, norm=norm, dtype=DOUBLE)
    norms = lstm.norms("_l0")
    for p in norms.parameters():
        torch.nn.init.uniform_(p, 0.5, 1.5)

    def per_gate(z: Tensor, gain: Tensor) -> Tensor:
        gates = [
            (a - a.mean(1, keepdim=True)) / (a.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            for a in z.chunk(4, 1)
        ]
        return gain * torch.cat(gates, 1)

    x = torch.randn(4, 3, INPUT, dtype=DOUBLE)
    h = c = torch.zeros(3, H, dtype=DOUBLE)
    for x_t in x:
        z = per_gate(x_t @ lstm.weight_ih_l0.T, norms.input.gain) + per_gate(h @ lstm.weight_hh_l0.T, norms.hidden.gain)
        i, f, g, o = (z + lstm.bias_ih_l0).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        seen = nnf.layer_norm(c, (H,), norms.cell.gain, norms.cell.bias) if norm == "gn" else c
        h = o.sigmoid() * seen.tanh()
    assert_same(lstm(x)[0][-1], h, "h", 1e-11)
    assert (norms.cell is None) == (norm == "ln-per-gate")


def test_half_precision_moments_are_float32() -> None:
    x = 100 + torch.randn(2, 4 * 64)
    norm = GroupNorm(4 * 64)
    y = norm(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert_same(y.float(), norm(x.bfloat16().float()), "y", 0.02)


@pytest.mark.parametrize(("cell", "gates"), [(rnnnorm.LSTM, 4), (rnnnorm.GRU, 3), (rnnnorm.RNN, 1)])
def test_one_group_per_gate_unless_told_otherwise(cell: type, gates: int) -> None:
    norms = cell(INPUT, 18, norm="ln-per-gate").norms("_l0")
    assert norms.input.groups == norms.hidden.groups == gates
    assert cell(INPUT, 18, norm="ln-per-gate:groups=2").norms("_l0").hidden.groups == 2
    if cell is rnnnorm.LSTM:
        assert cell(INPUT, 18, norm=rnnnorm.Norm(cell="gn")).norms("_l0").cell.groups == 1
