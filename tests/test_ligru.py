"""The light GRU against its equations in NumPy, its presets, its dropout, and the contract of its normalizers."""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from norms.contract import NormalizerContract
from plain import array, layer_norm, randomize, sigmoid, weights
from support import HIDDEN, INPUT, LENGTHS, assert_compiled_and_traced_as_eagerly, assert_same, padded
from torch import Tensor

import rnnnorm
from rnnnorm import Norm
from rnnnorm.probes.recording import record
from rnnnorm.probes.saturation import saturated_share

T, B, H, DOUBLE = 5, 3, HIDDEN, torch.float64


class TestContract(NormalizerContract):
    """The published and the stabilized one, and places that have equations of their own in other cells."""

    cells: ClassVar = [rnnnorm.LiGRU]
    norms: ClassVar = ["none", "bn-vertical-ln", "bn-timestep", "ln-sum", "lrn"]


def written_out(ligru: rnnnorm.LiGRU, x: Tensor, h: np.ndarray, dropped: np.ndarray | float = 1.0) -> list[np.ndarray]:
    norms, w = ligru.norms("_l0"), weights(ligru)
    b = w["bias_ih"] + w.get("bias_hh", 0)
    states = []
    for x_t in x:
        gx = layer_norm(array(x_t) @ w["weight_ih"].T, norms.input)
        gates = layer_norm(gx + layer_norm(h @ w["weight_hh"].T, norms.hidden), norms.joint) + b
        z, n = sigmoid(gates[:, :H]), np.maximum(gates[:, H:], 0)
        h = layer_norm(z * h + (1 - z) * dropped * n, norms.output)
        states.append(h)
    return states


@pytest.mark.parametrize("places", [(), ("input",), ("hidden",), ("joint",), ("input", "hidden", "output")])
def test_written_out(places: tuple[str, ...]) -> None:
    norm = Norm(**dict.fromkeys(places, "ln")) if places else Norm()
    ligru = rnnnorm.LiGRU(INPUT, H, norm=norm, dtype=DOUBLE)
    randomize(ligru)
    x, h0 = torch.randn(T, B, INPUT, dtype=DOUBLE), torch.randn(1, B, H, dtype=DOUBLE)
    output, h_n = ligru(x, h0)
    expected = written_out(ligru, x, array(h0[0]))
    assert_same(output, torch.from_numpy(np.stack(expected)), "output", 1e-10)
    assert_same(h_n[0], output[-1], "h_n", 1e-12)
    assert ligru.ran == "reference"


def test_published_and_stabilized() -> None:
    """Batch normalization of W_ih x over all rows; in SLi-GRU layer normalization of the 2H features of W_hh h, too."""
    ligru = rnnnorm.LiGRU(INPUT, H, norm="bn-vertical-ln", dtype=DOUBLE)
    norms = ligru.norms("_l0")
    assert norms.input.sequence_wise
    assert norms.hidden.gain.shape == (2 * H,)
    x = padded(dtype=DOUBLE)
    mean, var = norms.input.stats.running_mean.clone(), norms.input.stats.running_var.clone()
    ligru(x, lengths=LENGTHS)
    rows = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False).data @ ligru.weight_ih_l0.T
    assert_same(norms.input.stats.running_mean[0], 0.9 * mean[0] + 0.1 * rows.mean(0), "mean", 1e-10)
    assert_same(norms.input.stats.running_var[0], 0.9 * var[0] + 0.1 * rows.var(0), "variance", 1e-10)
    assert "hidden" not in rnnnorm.LiGRU(INPUT, H, norm="bn-vertical").norm.places


def test_recurrent_dropout_has_one_mask_per_sequence() -> None:
    """What is dropped from the update at the first step is dropped at all; other cells draw at each step."""
    ligru = rnnnorm.LiGRU(INPUT, H, recurrent_dropout=0.5, dtype=DOUBLE)
    drawn = []
    ready = ligru.ready_layer
    ligru.ready_layer = lambda *args: drawn.append(ready(*args)) or drawn[-1]  # type: ignore[method-assign]
    x = torch.randn(T, B, INPUT, dtype=DOUBLE)
    output = ligru(x)[0]
    mask = array(drawn[0].update_mask)
    assert set(np.unique(mask)) <= {0.0, 2.0}
    expected = written_out(ligru, x, np.zeros((B, H)), mask)
    assert_same(output, torch.from_numpy(np.stack(expected)), "output", 1e-10)
    assert torch.equal(ligru.eval()(x)[0], copy.deepcopy(ligru)(x)[0])
    assert drawn[-1].update_mask is None
    gru = rnnnorm.GRU(INPUT, H, recurrent_dropout=0.5)
    assert gru.ready_layer("_l0", torch.zeros(B, H)).update_mask is None


def test_ragged_dropout_ends_with_its_sequences() -> None:
    ligru = rnnnorm.LiGRU(INPUT, H, 2, bidirectional=True, recurrent_dropout=0.999999)
    output, h_n = ligru(padded(), lengths=LENGTHS)
    assert not output.any()
    assert not h_n.any()


def test_memory_is_set_by_chrono() -> None:
    ligru = rnnnorm.LiGRU(INPUT, 500, init="chrono", max_steps=50, norm="ln")
    assert ligru.bias_ih_l0[:500].min() >= 0
    assert ligru.bias_ih_l0[:500].max() <= np.log(49) + 1e-6
    assert not ligru.bias_ih_l0[500:].any()


def test_probes_know_its_gates() -> None:
    ligru = rnnnorm.LiGRU(INPUT, H, norm="bn-vertical-ln")
    with record(ligru, gates=True) as recording:
        ligru(padded(), lengths=LENGTHS)
    shares = saturated_share(recording.layers["l0"], ligru)
    assert set(shares) == {"z", "n"}
    off = torch.cat(recording.layers["l0"].gates)[: len(LENGTHS), H:] <= 0
    assert_same(shares["n"][0], off.double().mean(), "share of the ReLU that is off", 1e-12)


def test_torch_has_none() -> None:
    with pytest.raises(TypeError, match="torch has no LiGRU to start from"):
        rnnnorm.LiGRU.from_torch(torch.nn.GRU(2, 3))


def test_compiled_and_traced() -> None:
    assert_compiled_and_traced_as_eagerly(rnnnorm.LiGRU(INPUT, H, norm="bn-vertical-ln", dtype=DOUBLE))
