"""Statistics that count padding, against an implementation over padded tensors."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from support import LENGTHS, assert_same, packed, padded
from tasks.tiny import RAGGED, batches_of, model_of, trainer_of
from torch import Tensor, nn

import rnnnorm
from rnnnorm.packing import sequence_lengths
from rnnnorm.studies.data.padding import CountPadding, pad

CELLS = [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN]


def counting(network: nn.Module, finished: str) -> nn.Module:
    """The network, changed."""
    holder = nn.Module()
    holder.recurrent = network
    CountPadding(finished).apply(holder)
    return network


def normalized(x: Tensor, norm: Any) -> Tensor:
    """By mean and variance over the first dimension."""
    y = (x - x.mean(0)) / (x.var(0, correction=0) + norm.eps).sqrt() * norm.gain
    return y if norm.bias is None else y + norm.bias


def padded_lstm(lstm: Any, x: Tensor, lengths: Tensor, frozen: bool) -> tuple[Tensor, Tensor, Tensor]:
    """BN-LSTM over (T, B, F) in the batch's own order: outputs of own steps, zeros elsewhere, and last states."""
    T, B, _ = x.shape
    norms, W, U = lstm.norms("_l0"), lstm.weight_ih_l0, lstm.weight_hh_l0
    bias = sum(p for n, p in lstm.named_parameters() if n in ("bias_ih_l0", "bias_hh_l0"))
    h = c = x.new_zeros(B, lstm.hidden_size)
    outputs, h_n, c_n = [], torch.zeros_like(h), torch.zeros_like(c)
    gates_x = torch.stack([x_t @ W.T for x_t in x])
    if norms.input.sequence_wise:
        gates_x = normalized(gates_x.flatten(0, 1), norms.input).view_as(gates_x)
    else:
        gates_x = torch.stack([normalized(g, norms.input) for g in gates_x])
    for t in range(T):
        hidden = h @ U.T
        hidden = hidden if norms.hidden is None else normalized(hidden, norms.hidden)
        i, f, g, o = (gates_x[t] + hidden + bias).chunk(4, 1)
        new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        new_h = o.sigmoid() * (new_c if norms.cell is None else normalized(new_c, norms.cell)).tanh()
        alive = (t < lengths).unsqueeze(1)
        outputs.append(new_h * alive)
        h_n, c_n = torch.where(alive, new_h, h_n), torch.where(alive, new_c, c_n)
        h = torch.where(alive, new_h, h) if frozen else new_h
        c = torch.where(alive, new_c, c) if frozen else new_c
    return torch.stack(outputs), h_n, c_n


@pytest.mark.parametrize("finished", ["frozen", "running"])
@pytest.mark.parametrize("norm", ["bn-timestep:gain=0.7", "bn-vertical"])
def test_the_same_as_over_padded_tensors(norm: str, finished: str) -> None:
    torch.manual_seed(0)
    lstm = counting(rnnnorm.LSTM(4, 6, norm=norm, dtype=torch.float64), finished)
    x = padded(dtype=torch.float64)
    output, (h_n, c_n) = lstm(x, lengths=LENGTHS)
    expected = padded_lstm(lstm, x, LENGTHS, finished == "frozen")
    for name, actual, right in zip(("output", "h_n", "c_n"), (output, h_n[0], c_n[0]), expected, strict=True):
        assert_same(actual, right, name, 1e-10)


def test_frozen_running_and_own_rows_differ() -> None:
    torch.manual_seed(0)
    plain = rnnnorm.LSTM(4, 6, norm="bn-timestep")
    x = packed()
    results = [
        network(x)[0].data for network in (plain, *(counting(deepcopy(plain), f) for f in ("frozen", "running")))
    ]
    for k in range(3):
        assert (results[k] - results[k - 1]).abs().max() > 1e-3


@pytest.mark.parametrize("finished", ["frozen", "running"])
@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_rows_that_look_at_themselves_do_not_notice(cell: Any, norm: str, finished: str) -> None:
    torch.manual_seed(0)
    network = cell(4, 6, num_layers=2, bidirectional=True, norm=norm, dtype=torch.float64)
    x = packed(dtype=torch.float64)
    usual, last = network(x)
    output, ended = counting(network, finished)(x)
    assert_same(output.data, usual.data, "output", 1e-10)
    for actual, right in zip(ended, last, strict=True):
        assert_same(actual, right, "last state", 1e-10)


def test_normalizers_between_layers_count_padding() -> None:
    torch.manual_seed(0)
    network = rnnnorm.LSTM(4, 6, num_layers=2, norm=rnnnorm.Norm(between="bn:momentum=none"))
    x = packed()
    network(x)
    stats = network.between(0).stats
    assert int(stats.num_rows[0]) == len(x.data)
    network.reset_norms()
    counting(network, "frozen")(x)
    assert int(stats.num_rows[0]) == 7 * 5  # T·B


def test_a_copy_counts_with_its_own_weights() -> None:
    torch.manual_seed(0)
    network = counting(rnnnorm.LSTM(4, 6, norm="bn-timestep"), "frozen")
    copy = deepcopy(network)
    x = packed()
    usual = network(x)[0].data
    with torch.no_grad():
        copy.weight_hh_l0.add_(0.5)
    assert_same(network(x)[0].data, usual, "output of the original", 1e-6)
    assert (copy(x)[0].data - usual).abs().max() > 1e-3


@pytest.mark.parametrize("finished", ["frozen", "running"])
def test_training_and_recalibration_see_all_rows_at_all_steps(finished: str) -> None:
    torch.manual_seed(0)
    model, batches = model_of("classification", norm="bn-timestep"), batches_of("classification")
    trainer_of(callbacks=[CountPadding(finished)]).fit(model, batches)
    stats = model.recurrent.norms("_l0").hidden.stats
    expected = [sum(len(lengths) for lengths in RAGGED if max(lengths) > t) for t in range(9)]
    assert stats.num_rows.tolist() == expected
    rnnnorm.recalibrate(model, batches, forward=model.scores)
    assert stats.population_rows.tolist() == expected
    for mode in ("running", "population", "batch"):
        with rnnnorm.statistics(model.eval(), mode):
            assert torch.isfinite(model.scores(batches[0]).loss).all()


def test_pad() -> None:
    rows, sizes = torch.arange(1.0, 7).unsqueeze(1), torch.tensor([3, 2, 1])
    table, cells = pad(rows, sizes)
    assert table.view(3, 3).tolist() == [[1, 2, 3], [4, 5, 0], [6, 0, 0]]
    assert table[cells].equal(rows)
    assert sequence_lengths(sizes).tolist() == [3, 2, 1]


def test_refused() -> None:
    with pytest.raises(ValueError, match="'thawed'"):
        CountPadding("thawed")
    with pytest.raises(ValueError, match="Linear has no rnnnorm"):
        CountPadding().apply(nn.Linear(1, 1))
