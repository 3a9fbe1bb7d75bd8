"""The dropout family: which numbers are dropped, which masks are shared over time, what evaluation does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain import array, sigmoid, weights
from support import HIDDEN, INPUT, LENGTHS, PRESETS, assert_same, padded, valid

import rnnnorm
from rnnnorm.equations import Noise

CELLS: dict[str, Any] = {"LSTM": rnnnorm.LSTM, "GRU": rnnnorm.GRU, "RNN": rnnnorm.RNN}
KINDS = ("variational_dropout", "hidden_dropout", "recurrent_dropout", "weight_dropout", "zoneout")
PAIRS = [(cell, kind) for cell in CELLS for kind in KINDS if (cell, kind) != ("RNN", "recurrent_dropout")]
H = HIDDEN


@pytest.mark.parametrize(("cell", "kind"), PAIRS)
class TestEveryKind:
    def test_random_in_training_and_not_in_evaluation(self, cell: str, kind: str) -> None:
        rnn = CELLS[cell](INPUT, H, 2, bidirectional=True, norm="ln", **{kind: 0.4})
        x = padded()
        first, second = rnn(x, lengths=LENGTHS)[0], rnn(x, lengths=LENGTHS)[0]
        assert not torch.equal(first, second)
        assert not first[~valid()].any()
        rnn.eval()
        assert torch.equal(rnn(x, lengths=LENGTHS)[0], rnn(x, lengths=LENGTHS)[0])
        if kind != "zoneout":
            plain = CELLS[cell](INPUT, H, 2, bidirectional=True, norm="ln").eval()
            plain.load_state_dict(rnn.state_dict())
            assert torch.equal(plain(x, lengths=LENGTHS)[0], rnn(x, lengths=LENGTHS)[0])

    def test_padding_takes_no_part(self, cell: str, kind: str) -> None:
        rnn = CELLS[cell](INPUT, H, 2, bidirectional=True, norm="bn-timestep", **{kind: 0.4})
        x, results = padded(), []
        for fill in (0.0, float("nan")):
            other = torch.where(valid().unsqueeze(-1), x, fill)
            torch.manual_seed(3)
            longer = torch.cat([other, torch.full((4, *x.shape[1:]), fill)])
            results.append(rnn(longer, lengths=LENGTHS)[0])
        assert torch.equal(results[0], results[1])

    def test_parameters_stay_and_learn(self, cell: str, kind: str) -> None:
        rnn = CELLS[cell](INPUT, H, 2, norm="wn", **{kind: 0.4})
        before = [p.clone() for p in rnn.parameters()]
        rnn(padded(), lengths=LENGTHS)[0].square().sum().backward()
        assert all(torch.equal(a, b) for a, b in zip(before, rnn.parameters(), strict=True))
        assert all(p.grad is not None and p.grad.isfinite().all() for p in rnn.parameters())

    def test_errors(self, cell: str, kind: str) -> None:
        with pytest.raises(ValueError, match=f"{kind} must be a probability between 0 and 1, got 1.5"):
            CELLS[cell](INPUT, H, **{kind: 1.5})
        if kind in ("hidden_dropout", "recurrent_dropout", "zoneout"):
            with pytest.raises(ValueError, match="'torch' does not cover"):
                CELLS[cell](INPUT, H, backend="torch", **{kind: 0.5})
        assert f"{kind}=0.4" in repr(CELLS[cell](INPUT, H, **{kind: 0.4}))


@pytest.mark.parametrize("norm", PRESETS)
def test_all_of_it_with_every_preset(norm: str) -> None:
    lstm = rnnnorm.LSTM(INPUT, 8, 2, bidirectional=True, norm=norm, **dict.fromkeys((*KINDS, "dropout"), 0.3))
    output, _ = lstm(padded(), lengths=LENGTHS)
    output.square().sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in lstm.parameters() if p.grad is not None)


def test_variational_masks_are_the_same_at_all_steps_and_differ_between_sequences() -> None:
    rnn = rnnnorm.RNN(INPUT, 50, nonlinearity="identity", variational_dropout=0.5)
    output, _ = rnn(padded(), lengths=LENGTHS)
    dropped = output == 0
    patterns = []
    for b, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(dropped[:length, b], dropped[:1, b].expand(length, -1))
        assert 5 < dropped[0, b].sum() < 45
        patterns.append(dropped[0, b])
    assert not torch.equal(patterns[1], patterns[4])


def test_variational_masks_act_on_the_input_of_every_layer() -> None:
    """A layer whose input and output masks are known: with p = 1 only biases and states are left."""
    gru = rnnnorm.GRU(INPUT, H, 2, variational_dropout=0.999999)
    seen = []
    run = gru.run_direction
    gru.run_direction = lambda rows, *args, **keys: seen.append(rows) or run(rows, *args, **keys)
    output, h_n = gru(torch.randn(4, 3, INPUT))
    assert [bool(rows.any()) for rows in seen] == [False, False]
    assert not output.any()
    assert h_n.any()  # states are not dropped


def test_hidden_mask_is_the_same_at_all_steps_and_hits_only_the_product() -> None:
    """h_t = x_t + m ⊙ h_{t-1} for W_ih = W_hh = 1: after T steps of x = 1, 1 + 2 + … if kept and 1 if dropped."""
    rnn = rnnnorm.RNN(H, H, nonlinearity="identity", bias=False, hidden_dropout=0.5, dtype=torch.float64)
    torch.nn.init.eye_(rnn.weight_ih_l0)
    torch.nn.init.eye_(rnn.weight_hh_l0)
    output, _ = rnn(torch.ones(4, 9, H, dtype=torch.float64))
    kept = output[1] == 3  # 1 + 2·1
    assert 0 < kept.float().mean() < 1
    assert torch.equal(output[3], torch.where(kept, 15.0, 1.0))


def test_weight_dropout_draws_one_mask_per_forward_pass() -> None:
    rnn = rnnnorm.RNN(H, H, nonlinearity="identity", bias=False, weight_dropout=0.5, dtype=torch.float64)
    torch.nn.init.eye_(rnn.weight_ih_l0)
    torch.nn.init.eye_(rnn.weight_hh_l0)
    output, _ = rnn(torch.ones(4, 9, H, dtype=torch.float64))
    assert torch.equal(output, output[:, :1].expand_as(output))  # shared by the sequences, too
    kept = output[1, 0] == 3
    assert 0 < kept.sum() < H
    assert torch.equal(output[3, 0], torch.where(kept, 15.0, 1.0))
    lstm = rnnnorm.LSTM(INPUT, H, weight_dropout=0.5, backend="torch")  # nothing changes inside the recurrence
    assert not torch.equal(lstm(padded())[0], lstm(padded())[0])


def test_recurrent_dropout_loses_no_memory() -> None:
    """With i = 1, f = 1, what is in the cell stays; each step adds g/(1-p) or nothing."""
    lstm = rnnnorm.LSTM(1, 400, recurrent_dropout=0.25, dtype=torch.float64)
    for p in lstm.parameters():
        torch.nn.init.zeros_(p)
    with torch.no_grad():
        lstm.bias_ih_l0[:800] = 40.0
        lstm.bias_ih_l0[800:1200] = 40.0
    c0 = torch.full((1, 1, 400), 5.0, dtype=torch.float64)
    _, (_, c) = lstm(torch.zeros(8, 1, 1, dtype=torch.float64), (torch.zeros_like(c0), c0))
    added = (c - c0) * 0.75
    assert torch.allclose(added, added.round(), atol=1e-9)
    assert added.min() < added.max() < 8.1  # masks differ from step to step
    assert abs(added.mean().item() - 6) < 0.3
    gru = rnnnorm.GRU(1, 400, recurrent_dropout=0.5)
    with torch.no_grad():
        gru.bias_ih_l0[400:800] = 40.0  # z = 1: nothing is let in, so nothing is dropped
        gru.weight_ih_l0.zero_()
        gru.weight_hh_l0.zero_()
    h0 = torch.randn(1, 3, 400)
    assert torch.allclose(gru(torch.randn(5, 3, 1), h0)[1], h0)


class TestZoneout:
    def test_entries_keep_their_old_value(self) -> None:
        noise = Noise(zoneout=(0.3, 0.0))
        old, new = torch.zeros(2, 100, 100), torch.ones(2, 100, 100)
        h, c = noise.zone((old[0], old[1]), (new[0], new[1]))
        assert set(h.unique().tolist()) == {0.0, 1.0}
        assert abs(h.mean().item() - 0.7) < 0.02
        assert torch.equal(c, new[1])

    def test_evaluation_takes_the_expectation(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, H, zoneout=(0.1, 0.4), dtype=torch.float64).eval()
        w = weights(lstm)
        x = torch.randn(5, 3, INPUT, dtype=torch.float64)
        h0, c0 = torch.randn(2, 1, 3, H, dtype=torch.float64)
        h, c = array(h0[0]), array(c0[0])
        for t in range(5):
            a = array(x[t]) @ w["weight_ih"].T + h @ w["weight_hh"].T + w["bias_ih"] + w["bias_hh"]
            i, f, g, o = (a[:, k * H : (k + 1) * H] for k in range(4))
            new_c = sigmoid(f) * c + sigmoid(i) * torch.from_numpy(g).tanh().numpy()
            new_h = sigmoid(o) * torch.from_numpy(new_c).tanh().numpy()  # reads c before it is zoned out
            h, c = 0.1 * h + 0.9 * new_h, 0.4 * c + 0.6 * new_c
        output, (_, c_n) = lstm(x, (h0, c0))
        assert_same(output[-1], torch.from_numpy(h), "h", 1e-10)
        assert_same(c_n[0], torch.from_numpy(c), "c", 1e-10)

    @pytest.mark.parametrize("cell", CELLS)
    def test_always_zoned_out_states_never_change(self, cell: str) -> None:
        rnn = CELLS[cell](INPUT, H, zoneout=1.0)
        h0 = torch.randn(1, 3, H)
        output, _ = rnn(torch.randn(4, 3, INPUT), (h0, torch.randn(1, 3, H)) if cell == "LSTM" else h0)
        assert torch.equal(output, h0.expand(4, 3, H))

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="one for each of h; got"):
            rnnnorm.GRU(2, 3, zoneout=(0.1, 0.2))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="one for each of h, c; got"):
            rnnnorm.LSTM(2, 3, zoneout=(0.1, 0.2, 0.3))  # type: ignore[arg-type]


def test_dropout_between_layers_leaves_the_skip_alone() -> None:
    rnn = rnnnorm.RNN(H, H, 3, residual="plain", dropout=1.0)
    for name, p in rnn.named_parameters():
        if "_l2" in name:
            torch.nn.init.zeros_(p)
    x = torch.randn(4, 3, H)
    assert torch.equal(rnn(x)[0], x)


def test_data_dependent_initialization_drops_nothing() -> None:
    results = []
    for options in ({}, {kind: 0.5 for kind in KINDS if kind != "zoneout"}):
        torch.manual_seed(0)
        lstm = rnnnorm.LSTM(INPUT, H, 2, bidirectional=True, norm="wn:init=data", **options)
        lstm.initialize_from_data(torch.randn(20, 9, INPUT, generator=torch.Generator().manual_seed(1)))
        results.append(lstm.state_dict())
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name
