"""Constrained weights against torch.linalg: at the start, after a step of training, and through a state dict."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support import assert_same
from torch.nn.utils import parametrize

import rnnnorm
from rnnnorm.norms.constrained import _inverse, spectral_norm

DOUBLE = torch.float64
NAMES = ("weight_ih_l0", "weight_hh_l0")


def trained(norm: str, inputs: int, cell: type = rnnnorm.LSTM) -> torch.nn.Module:
    """A module after three large steps, so that what holds at the start only is found."""
    torch.manual_seed(0)
    module = cell(inputs, 6, norm=norm, dtype=DOUBLE)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.randn(5, 3, inputs, dtype=DOUBLE))[0].square().sum().backward()
        optimizer.step()
    return module


@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU])
@pytest.mark.parametrize("inputs", [1, 3, 6, 9])
def test_orthogonal_blocks_stay_orthogonal(cell: type, inputs: int) -> None:
    module = trained("orthogonal", inputs, cell)
    plain = cell(inputs, 6, norm="orthogonal", dtype=DOUBLE)
    for name in NAMES:
        W = getattr(module, name).detach()
        assert not torch.allclose(W, getattr(plain, name))
        for block in W.split(6):
            values = torch.linalg.svdvals(block)
            assert_same(values, torch.ones_like(values), name, 1e-10)


def test_orthogonal_weights_begin_nearest_to_those_that_were_drawn() -> None:
    plain = torch.nn.LSTM(3, 6, dtype=DOUBLE)
    ours = rnnnorm.LSTM.from_torch(plain, norm="orthogonal")
    U, _, Vh = torch.linalg.svd(plain.weight_hh_l0.view(4, 6, 6).detach())
    assert_same(ours.weight_hh_l0.detach(), (U @ Vh).view(24, 6), "W_hh", 1e-10)


@pytest.mark.parametrize("shape", [(24, 6), (24, 1), (4, 9), (1, 5)])
def test_spectral_norm_is_the_largest_singular_value(shape: tuple[int, int]) -> None:
    V = torch.randn(shape, dtype=DOUBLE, requires_grad=True)
    expected = torch.linalg.matrix_norm(V, 2)
    assert_same(spectral_norm(V), expected, "σ", 1e-8)
    for ours, theirs in zip(*(torch.autograd.grad(s, V) for s in (spectral_norm(V), expected)), strict=True):
        assert_same(ours, theirs, "gradient of σ", 1e-6)


def test_spectral_norm_of_equal_singular_values_and_of_tiny_ones() -> None:
    eye = torch.eye(4, dtype=DOUBLE)
    assert_same(spectral_norm(3 * eye), torch.tensor(3.0, dtype=DOUBLE), "σ", 1e-12)
    assert_same(spectral_norm(1e-100 * eye), torch.tensor(1e-100, dtype=DOUBLE), "σ", 1e-12)
    assert torch.autograd.gradgradcheck(spectral_norm, torch.randn(4, 3, dtype=DOUBLE, requires_grad=True))


def test_spectrally_normalized_weights_stretch_by_their_scale() -> None:
    module = trained("input=sn+hidden=sn:scale=0.5", 3)
    for name, scale in zip(NAMES, (1.0, 0.5), strict=True):
        assert_same(torch.linalg.matrix_norm(getattr(module, name), 2), torch.tensor(scale, dtype=DOUBLE), name, 1e-6)
    with pytest.raises(ValueError, match="scale"):
        rnnnorm.LSTM(3, 6, norm="hidden=sn:scale=0")


def test_standardized_rows_have_mean_zero_and_the_learned_length() -> None:
    module = trained("ws", 3)
    for name in NAMES:
        W, g = getattr(module, name), getattr(module.parametrizations, name).original0
        assert_same(W.mean(1), torch.zeros(24, dtype=DOUBLE), name, 1e-12)
        assert_same(W.norm(dim=1, keepdim=True), g.abs(), name, 1e-12)


def test_a_single_feature_is_not_centred_away() -> None:
    torch.manual_seed(0)
    ours = rnnnorm.LSTM(1, 6, norm="ws", dtype=DOUBLE)
    torch.manual_seed(0)
    assert_same(ours.weight_ih_l0, rnnnorm.LSTM(1, 6, dtype=DOUBLE).weight_ih_l0, "W_ih", 1e-12)


@pytest.mark.parametrize("norm", ["ws", "sn", "orthogonal"])
def test_they_are_copied_saved_and_assigned_as_others_are(norm: str) -> None:
    module, x = trained(norm, 3), torch.randn(4, 2, 3, dtype=DOUBLE)
    y = module(x)[0]
    again = rnnnorm.LSTM(3, 6, norm=norm, dtype=DOUBLE)
    again.load_state_dict(module.state_dict())
    for other in (again, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x)[0], y)
    with torch.no_grad():
        module.weight_hh_l0 = again.weight_hh_l0
    assert_same(module(x)[0], y, "h", 1e-10)
    with parametrize.cached():
        assert torch.equal(again(x)[0], y)
    empty = rnnnorm.LSTM(3, 6, norm=norm, device="meta").to_empty(device="cpu")
    with torch.no_grad():  # any numbers, which need have no inverse
        for p in empty.parameters():
            p.zero_()
    assert empty.weight_hh_l0.shape == (24, 6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_inverses_by_products_are_those_by_elimination(scale: float) -> None:
    """Of I + A for skew A, as graphs for ONNX need them."""
    L = scale * torch.randn(3, 8, 8, dtype=DOUBLE)
    M = torch.eye(8, dtype=DOUBLE) + L - L.mT
    assert_same(_inverse(M), torch.linalg.inv(M), "inverse", 1e-9)
