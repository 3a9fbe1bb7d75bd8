"""Each preset against its equations, written out independently with other building blocks."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import HIDDEN, INPUT, LENGTHS, PRESETS, assert_same, packed, padded
from torch import Tensor, nn
from torch.autograd import gradcheck

import rnnnorm

DOUBLE = torch.float64
T, B, H = 5, 8, HIDDEN


def randomize_gains(lstm: nn.Module) -> None:
    """Gains and biases other than their initial values, so that a forgotten one shows."""
    for name, p in lstm.named_parameters():
        if name.endswith((".gain", ".bias")):
            nn.init.uniform_(p, 0.5, 1.5)


def make(norm: str, **options: object) -> rnnnorm.LSTM:
    lstm = rnnnorm.LSTM(INPUT, H, norm=norm, dtype=DOUBLE, **options)  # type: ignore[arg-type]
    randomize_gains(lstm)
    return lstm


def gates_and_state(z: Tensor, c: Tensor, seen: object = None) -> tuple[Tensor, Tensor]:
    i, f, g, o = z[:, :H], z[:, H : 2 * H], z[:, 2 * H : 3 * H], z[:, 3 * H :]
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o), c


def test_bn_vertical_is_batchnorm1d_on_packed_data() -> None:
    lstm = make("bn-vertical")
    theirs = nn.BatchNorm1d(4 * H, dtype=DOUBLE)
    norm = lstm.norms("_l0").input
    theirs.weight.data.copy_(norm.gain)
    nn.init.zeros_(theirs.bias)
    for training in (True, True, False):
        lstm.train(training)
        theirs.train(training)
        x = packed(dtype=DOUBLE)
        # the rest is a plain LSTM that reads the normalized gates
        normalized = x._replace(data=theirs(x.data @ lstm.weight_ih_l0.T))
        plain = nn.LSTM(4 * H, H, dtype=DOUBLE)
        plain.weight_ih_l0.data.copy_(torch.eye(4 * H))
        plain.weight_hh_l0.data.copy_(lstm.weight_hh_l0)
        plain.bias_ih_l0.data.copy_(lstm.bias_ih_l0)
        nn.init.zeros_(plain.bias_hh_l0)
        assert_same(lstm(x)[0].data, plain(normalized)[0].data, "output", 1e-10)
        assert_same(norm.stats.running_mean[0], theirs.running_mean, "running mean", 1e-12)
        assert_same(norm.stats.running_var[0], theirs.running_var, "running variance", 1e-12)


@pytest.mark.parametrize("given", [False, True], ids=["zero-state", "given-state"])
def test_bn_timestep_is_t_separate_batchnorms(given: bool) -> None:
    lstm = make("bn-timestep", max_steps=T)
    norms = lstm.norms("_l0")

    def separate(features: int, source: nn.Module) -> list[nn.BatchNorm1d]:
        modules = [nn.BatchNorm1d(features, dtype=DOUBLE) for _ in range(T)]
        for m in modules:
            m.weight.data.copy_(source.gain)
            nn.init.zeros_(m.bias) if source.bias is None else m.bias.data.copy_(source.bias)
        return modules

    bn_x, bn_h, bn_c = separate(4 * H, norms.input), separate(4 * H, norms.hidden), separate(H, norms.cell)
    for training in (True, True, True, False):
        lstm.train(training)
        for module in (*bn_x, *bn_h, *bn_c):
            module.train(training)
        x = torch.randn(T, B, INPUT, dtype=DOUBLE)
        h0, c0 = torch.zeros(1, B, H, dtype=DOUBLE), torch.zeros(1, B, H, dtype=DOUBLE)
        if given:
            h0, c0 = torch.randn_like(h0), torch.randn_like(c0)
        h, c = h0[0], c0[0]
        for t in range(T):
            z = bn_x[t](x[t] @ lstm.weight_ih_l0.T) + bn_h[t](h @ lstm.weight_hh_l0.T) + lstm.bias_ih_l0
            o, c = gates_and_state(z, c)
            h = o * torch.tanh(bn_c[t](c))
        output, (h_n, c_n) = lstm(x, (h0, c0))
        assert_same(output[-1], h, "h", 1e-9)
        assert_same(c_n[0], c, "c", 1e-9)
        assert_same(h_n[0], h, "h_n", 1e-9)
        for ours, theirs in ((norms.input, bn_x), (norms.hidden, bn_h), (norms.cell, bn_c)):
            for t in range(T):
                assert_same(ours.stats.running_mean[t], theirs[t].running_mean, f"mean at {t}", 1e-11)
                assert_same(ours.stats.running_var[t], theirs[t].running_var, f"variance at {t}", 1e-11)


def test_bn_shared_has_one_running_pair_moved_at_every_step() -> None:
    lstm = make("bn-shared")
    theirs = nn.BatchNorm1d(4 * H, dtype=DOUBLE)
    x = torch.randn(T, B, INPUT, dtype=DOUBLE)
    lstm(x)
    for t in range(T):
        theirs(x[t] @ lstm.weight_ih_l0.T)
    stats = lstm.norms("_l0").input.stats
    assert stats.running_mean.shape == (1, 4 * H)
    assert_same(stats.running_mean[0], theirs.running_mean, "running mean", 1e-12)
    assert_same(stats.running_var[0], theirs.running_var, "running variance", 1e-12)


def test_bn_vertical_framewise_normalizes_each_step_by_itself() -> None:
    lstm = make("bn-vertical-framewise:gain=1.0", max_steps=T)
    norm = lstm.norms("_l0").input
    x = torch.randn(T, B, 4 * H, dtype=DOUBLE)
    y = norm.sequence(x.reshape(T * B, -1), [B] * T).view(T, B, -1) / norm.gain
    assert y.mean(1).abs().max() < 1e-12
    assert_same(y.var(1, unbiased=False), torch.ones(T, 4 * H, dtype=DOUBLE), "variance", 1e-4)
    assert norm.stats.running_mean.shape == (T, 4 * H)


@pytest.mark.parametrize("norm", ["ln", "ln-carried"])
def test_layer_norm_written_out(norm: str) -> None:
    lstm = make(norm)
    norms = lstm.norms("_l0")
    x = torch.randn(T, B, INPUT, dtype=DOUBLE)
    h = c = torch.zeros(B, H, dtype=DOUBLE)
    for t in range(T):
        z = F.layer_norm(x[t] @ lstm.weight_ih_l0.T, (4 * H,), norms.input.gain)
        z = z + F.layer_norm(h @ lstm.weight_hh_l0.T, (4 * H,), norms.hidden.gain) + lstm.bias_ih_l0
        o, c = gates_and_state(z, c)
        seen = F.layer_norm(c, (H,), norms.cell.gain, norms.cell.bias)
        h = o * torch.tanh(seen)
        c = seen if norm == "ln-carried" else c
    output, (_, c_n) = lstm(x)
    assert_same(output[-1], h, "h", 1e-10)
    assert_same(c_n[0], c, "c", 1e-10)


def test_weight_norm_is_a_plain_lstm_with_the_composed_weights() -> None:
    lstm = rnnnorm.LSTM(INPUT, H, 2, bidirectional=True, norm="wn", dtype=DOUBLE)
    for p in lstm.parameters():
        nn.init.normal_(p)
    plain = nn.LSTM(INPUT, H, 2, bidirectional=True, dtype=DOUBLE)
    parameters = dict(lstm.named_parameters())
    for name, target in plain.named_parameters():
        if name.startswith("weight"):
            g, v = (parameters[f"parametrizations.{name}.original{k}"] for k in (0, 1))
            target.data.copy_(g * v / v.norm(dim=1, keepdim=True))
        else:
            target.data.copy_(parameters[name]) if name.startswith("bias_ih") else target.data.zero_()
    x = packed(dtype=DOUBLE)
    assert_same(lstm(x)[0].data, plain(x)[0].data, "output", 1e-10)


FEW = ("none", "ln", "bn-timestep", "ln-sum", "bn-joint", "wn")
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *(("LSTM", norm, {}) for norm in PRESETS),
    ("LSTM", "ln", {"peepholes": True}),
    *((kind, norm, {}) for kind in ("GRU", "RNN") for norm in FEW),
    ("RNN", "ln", {"nonlinearity": "relu"}),
]


@pytest.mark.parametrize(("kind", "norm", "options"), CASES)
def test_single_steps_and_layers_are_the_same_equations(kind: str, norm: str, options: dict[str, Any]) -> None:
    keys = {"norm": norm, "max_steps": T, "dtype": DOUBLE, **options}
    layer, cell = (getattr(rnnnorm, name)(INPUT, H, **keys) for name in (kind, f"{kind}Cell"))
    randomize_gains(layer)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    uses = rnnnorm.presets()[norm].norm.places.values()
    if any(use.options.get("statistics") == "sequence" for use in uses):  # over all steps in the layer, one in the cell
        layer.eval(), cell.eval()
    x = torch.randn(T, B, INPUT, dtype=DOUBLE)
    (output, last), state = layer(x), None
    for t in range(T):
        state = cell(x[t], state, step=t)
        assert_same(state[0] if kind == "LSTM" else state, output[t], f"h at {t}", 1e-10)
    if kind == "LSTM":
        assert_same(state[1], last[1][0], "c", 1e-10)


def test_projection_follows_the_normalized_cell() -> None:
    lstm = make("ln", proj_size=2)
    norms = lstm.norms("_l0")
    x = torch.randn(1, B, INPUT, dtype=DOUBLE)
    z = F.layer_norm(x[0] @ lstm.weight_ih_l0.T, (4 * H,), norms.input.gain)
    z = z + F.layer_norm(torch.zeros(B, 4 * H, dtype=DOUBLE), (4 * H,), norms.hidden.gain) + lstm.bias_ih_l0
    o, c = gates_and_state(z, torch.zeros(B, H, dtype=DOUBLE))
    h = (o * torch.tanh(F.layer_norm(c, (H,), norms.cell.gain, norms.cell.bias))) @ lstm.weight_hr_l0.T
    assert_same(lstm(x)[0][0], h, "h", 1e-12)


def test_between_normalizes_the_rows_that_leave_a_layer() -> None:
    lstm = rnnnorm.LSTM(INPUT, H, 2, bidirectional=True, norm=rnnnorm.Norm(between="bn"), dtype=DOUBLE)
    seen = {}
    lstm.between(0).register_forward_hook(lambda m, args, y: seen.update(before=args[0], after=y))
    x = packed(dtype=DOUBLE)
    lstm(x)
    first = rnnnorm.LSTM(INPUT, H, bidirectional=True, dtype=DOUBLE)
    merged = {k: v for k, v in lstm.state_dict().items() if "_l0" in k and "between" not in k}
    for suffix in ("_l0", "_l0_reverse"):
        merged["bias_hh" + suffix] = torch.zeros(4 * H, dtype=DOUBLE)
    first.load_state_dict(merged)
    assert_same(seen["before"], first(x)[0].data, "rows between the layers", 1e-10)
    assert_same(seen["after"], F.batch_norm(seen["before"], None, None, training=True), "normalized", 1e-10)


@pytest.mark.parametrize(
    ("kind", "norm"), [*product(["LSTM"], PRESETS), *product(["GRU", "RNN"], ["none", "bn-timestep", "ln"])]
)
def test_the_reverse_direction_counts_from_each_sequences_own_end(kind: str, norm: str) -> None:
    both, alone = (getattr(rnnnorm, kind)(INPUT, H, bidirectional=k == 0, norm=norm, dtype=DOUBLE) for k in range(2))
    alone.load_state_dict({k.replace("_reverse", ""): v for k, v in both.state_dict().items() if "_reverse" in k})
    x = padded(dtype=DOUBLE)
    turned = torch.zeros_like(x)
    for b, length in enumerate(LENGTHS.tolist()):
        turned[:length, b] = x[:length, b].flip(0)
    output, state = both(x, lengths=LENGTHS)
    reverse, last = alone(turned, lengths=LENGTHS)
    h_n, h = (s[0] if kind == "LSTM" else s for s in (state, last))
    assert_same(h_n[1], h[0], "h_n", 1e-12)
    for b, length in enumerate(LENGTHS.tolist()):
        assert_same(output[:length, b, H:], reverse[:length, b].flip(0), f"sequence {b}", 1e-12)


def test_the_last_state_is_that_of_each_sequences_own_end() -> None:
    lstm = rnnnorm.LSTM(INPUT, H, bidirectional=True, norm="ln")
    output, (h_n, _) = lstm(padded(), lengths=LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(h_n[0, b], output[length - 1, b, :H])
        assert torch.equal(h_n[1, b], output[0, b, H:])


@pytest.mark.parametrize("norm", ["none", "wn", "ln", "ln-carried", "bn-timestep", "bn-joint"])
def test_derivatives_of_two_layers_with_projection(norm: str) -> None:
    """The rest of derivatives is in the contract of normalizers."""
    lstm = rnnnorm.LSTM(INPUT, H, 2, proj_size=2, norm=norm, dtype=DOUBLE, backend="reference")
    x, h, c = (torch.randn(shape, dtype=DOUBLE, requires_grad=True) for shape in ((3, 4, INPUT), (2, 4, 2), (2, 4, H)))
    lengths = torch.tensor([3, 1, 2, 3])
    assert gradcheck(lambda x, h, c: copy.deepcopy(lstm)(x, (h, c), lengths=lengths)[0], (x, h, c), nondet_tol=1e-9)
