"""The place `emitted`: rows that leave a layer are normalized, what goes back into its recurrence is not."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from norms.contract import NormalizerContract
from support import HIDDEN, INPUT, LENGTHS, assert_same, packed, padded

import rnnnorm
from rnnnorm import Norm
from rnnnorm.nn.recurrent import NETWORKS
from rnnnorm.nn.wavefront import stream
from rnnnorm.norms import step_statistics
from rnnnorm.norms.recorder import Rows
from rnnnorm.probes.recording import normalizers

H, DOUBLE = HIDDEN, torch.float64
HEADS = "emitted=gn:groups=2:bias=false"


class TestContract(NormalizerContract):
    """By rows, by the rows of each step, and by all rows at once; with other places or without."""

    cells: ClassVar = [rnnnorm.LSTM]
    norms: ClassVar = [HEADS, "input=ln+emitted=bn:statistics=timestep:gain=0.5", "emitted=bn", "emitted=atn"]


@pytest.mark.parametrize("name", NETWORKS)
def test_multi_head_norm_of_each_cell(name: str) -> None:
    """One layer emits the normalized rows of a plain network whose states and last states are the same."""
    cls, fixed = NETWORKS[name]
    torch.manual_seed(0)
    net: Any = cls(INPUT, H, bidirectional=True, norm=HEADS, dtype=DOUBLE, **fixed)
    plain: Any = cls(INPUT, H, bidirectional=True, norm=Norm(output="lrn"), dtype=DOUBLE, **fixed)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if "emitted" not in k}, strict=False)
    for suffix in plain.all_suffixes():
        setattr(plain, "norms" + suffix, None)
    with torch.no_grad():
        net.emitted_l0.gain.uniform_(0.5, 1.5)
    assert net.emitted_l0.bias is None
    x = padded(dtype=DOUBLE)
    output, state = net(x, lengths=LENGTHS)
    raw, plain_state = plain(x, lengths=LENGTHS)
    states, plain_states = ((s,) if isinstance(s, torch.Tensor) else s for s in (state, plain_state))
    for ours, theirs in zip(states, plain_states, strict=True):
        assert_same(ours, theirs, "last states", 1e-12)
    for b, length in enumerate(LENGTHS):
        for direction, suffix in enumerate(("_l0", "_l0_reverse")):
            rows = raw[:length, b, direction * H : (direction + 1) * H]
            expected = F.group_norm(rows, 2) * net.emitted(suffix).gain
            assert_same(output[:length, b, direction * H : (direction + 1) * H], expected, suffix, 1e-10)
    assert not output[LENGTHS[0] :, 0].any()


def test_the_compiled_scan_runs_inside_of_it() -> None:
    """It stands outside of the recurrence, so no backend needs to know it."""
    nets = [rnnnorm.LSTM(INPUT, H, 2, norm=f"input=ln+hidden=ln+{HEADS}", backend=b) for b in ("auto", "reference")]
    nets[1].load_state_dict(nets[0].state_dict())
    x = packed()
    results = [net(x)[0].data for net in nets]
    assert_same(results[0], results[1], "rows", 1e-4)
    assert nets[0].ran != "reference"
    gru, plain = rnnnorm.GRU(INPUT, H, norm=HEADS), rnnnorm.GRU(INPUT, H)
    for net in (gru, plain):
        net(x)
    assert gru.ran == plain.ran != "reference"


def test_a_projection_is_emitted() -> None:
    lstm = rnnnorm.LSTM(INPUT, H, proj_size=4, norm="emitted=gn:groups=2", backend="reference")
    assert lstm.emitted_l0.gain.shape == lstm.emitted_l0.bias.shape == (4,)
    output, (h_n, _) = lstm(torch.randn(3, 2, INPUT))
    assert_same(output[-1], F.group_norm(h_n[0], 2), "output", 1e-5)


def test_one_group_unless_another_number_is_given() -> None:
    assert rnnnorm.LSTM(2, 6, norm="emitted=gn").emitted_l0.groups == 1
    with pytest.raises(ValueError, match="6 features cannot be divided into groups=4"):
        rnnnorm.LSTM(2, 6, norm="emitted=gn:groups=4")


def test_a_norm_of_all_rows_at_once() -> None:
    """Batch normalization after the activation: the rows of all steps, as in the next layer's input."""
    rnn = rnnnorm.IndRNN(INPUT, H, norm="emitted=bn", dtype=DOUBLE)
    x = packed(dtype=DOUBLE)
    rows = rnn(x)[0].data
    assert_same(rows.mean(0), torch.zeros(H), "mean", 1e-10)
    raw = rnnnorm.IndRNN(INPUT, H, norm=Norm(output="lrn"), dtype=DOUBLE)
    raw.load_state_dict({k: v for k, v in rnn.state_dict().items() if "emitted" not in k}, strict=False)
    raw.norms_l0 = None
    assert_same(rnn.emitted_l0.stats.running_mean[0], 0.1 * raw(x)[0].data.mean(0), "running mean", 1e-10)


@pytest.mark.parametrize("D", [1, 2])
def test_runs_for_the_sake_of_statistics_go_step_by_step(D: int) -> None:
    torch.manual_seed(0)
    norm = "input=bn:statistics=timestep+emitted=bn:statistics=timestep"
    lstm = rnnnorm.LSTM(INPUT, H, 2, bidirectional=D == 2, norm=norm, dtype=DOUBLE).train()
    whole, x = copy.deepcopy(lstm), packed(dtype=DOUBLE)
    states = tuple(torch.zeros(2 * D, 5, H, dtype=DOUBLE) for _ in range(2))
    assert stream(lstm, Rows(x.data, x.batch_sizes, states), limit=0)
    whole.run_layers(x.data, x.batch_sizes, states)
    used = [s for name, s in whole.named_modules() if s in step_statistics(whole) and "emitted_l1" not in name]
    ours = [s for name, s in lstm.named_modules() if s in step_statistics(lstm) and "emitted_l1" not in name]
    assert len(used) == 3 * D
    for a, b in zip(ours, used, strict=True):
        assert_same(a.running_mean, b.running_mean, "mean", 1e-10)
    assert not stream(rnnnorm.LSTM(2, 3, norm="emitted=bn"), Rows(torch.ones(4, 2), torch.tensor([4]), ()), limit=0)


@pytest.mark.parametrize("norm", [HEADS, "emitted=bn:statistics=timestep", "emitted=atn"])
def test_compiled_and_traced(norm: str) -> None:
    net = rnnnorm.LSTM(INPUT, H, 2, bidirectional=True, norm=norm, dtype=DOUBLE)
    plain, x = copy.deepcopy(net), torch.randn(5, 3, INPUT, dtype=DOUBLE)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for network in (compiled, plain):
        network(x)[0].square().sum().backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        assert_same(p.grad, q.grad, "gradient", 1e-10)
    assert_same(torch.jit.trace(plain.eval(), x)(x)[0], plain(x)[0], "output", 1e-10)


def test_probes_name_it_by_layer_and_place() -> None:
    lstm = rnnnorm.LSTM(INPUT, H, 2, bidirectional=True, norm="input=ln+emitted=ln+between=ln")
    assert list(normalizers(lstm)) == [
        *("l0/input", "l0/emitted", "l0_reverse/input", "l0_reverse/emitted"),
        *("l1/input", "l1/emitted", "l1_reverse/input", "l1_reverse/emitted", "l0/between"),
    ]


def test_a_single_cell_has_no_such_place() -> None:
    with pytest.raises(ValueError, match=r"a single cell emits the state that it goes on from: use rnnnorm\.GRU"):
        rnnnorm.GRUCell(2, 3, norm="emitted=ln")


def test_written_and_read() -> None:
    norm = rnnnorm.parse_norm(f"hidden=ln+{HEADS}")
    assert str(norm) == "hidden=ln+emitted=gn:groups=2:bias=False"
    assert norm.written() == "Norm(hidden='ln', emitted='gn:groups=2:bias=False')"
    with pytest.raises(ValueError, match="'wn' cannot stand at emitted"):
        Norm(emitted="wn")
