"""Recording every state of a network: what is recorded, and that nothing else changes."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from support import LENGTHS, buffers, padded
from torch import Tensor, nn

import rnnnorm
from rnnnorm.probes import growth, record
from rnnnorm.probes.recording import observe

INPUT, HIDDEN = 4, 6
CELLS: list[tuple[type[Any], dict[str, Any]]] = [
    (rnnnorm.LSTM, {"norm": "none"}),
    (rnnnorm.LSTM, {"norm": "bn-timestep"}),
    (rnnnorm.LSTM, {"norm": "ln-carried", "bidirectional": True}),
    (rnnnorm.LSTM, {"norm": "ln-sum", "peepholes": True}),
    (rnnnorm.LSTM, {"norm": "wn", "proj_size": 3}),
    (rnnnorm.GRU, {"norm": "none"}),
    (rnnnorm.GRU, {"norm": "bn-timestep"}),
    (rnnnorm.GRU, {"norm": "ln-sum"}),
    (rnnnorm.RNN, {"norm": "ln", "nonlinearity": "identity"}),
    (rnnnorm.RNN, {"norm": "none", "nonlinearity": "relu"}),
]
NAMES = [f"{cls.__name__}-{'-'.join(str(v) for v in options.values())}" for cls, options in CELLS]
each_cell = pytest.mark.parametrize(("cls", "options"), CELLS, ids=NAMES)


def make(cls: type[Any] = rnnnorm.LSTM, layers: int = 2, **options: Any) -> Any:
    return cls(INPUT, HIDDEN, num_layers=layers, dtype=torch.float64, **options)


def rows() -> Tensor:
    return padded(LENGTHS, INPUT, dtype=torch.float64)


def test_gradients_are_those_of_a_hand_written_lstm_of_one_sequence_at_a_time() -> None:
    lstm, x = make(layers=1), rows()
    weight = torch.randn(HIDDEN, dtype=torch.float64)
    with record(lstm) as recording:
        output, (h_n, _) = lstm(x, lengths=LENGTHS)
        ((output @ weight).sin().sum() + h_n.square().sum()).backward()
    squares = {"h": torch.zeros(int(LENGTHS.max())), "c": torch.zeros(int(LENGTHS.max()))}
    for b, length in enumerate(LENGTHS.tolist()):
        h, c, states, loss = torch.zeros(HIDDEN).double(), torch.zeros(HIDDEN).double(), [], 0.0
        for t in range(length):
            a = lstm.weight_ih_l0 @ x[t, b] + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
            i, f, g, o = a.chunk(4)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states += [h, c]
            loss = loss + torch.sin(h @ weight)
        found = torch.autograd.grad(loss + h.square().sum(), states)
        for t in range(length):
            squares["h"][t] += found[2 * t].square().sum()
            squares["c"][t] += found[2 * t + 1].square().sum()
    # Zeros stand in the padding, where sin is 0, so that it does not count.
    for name, norms in recording.layers["l0"].gradient_norms().items():
        torch.testing.assert_close(norms, squares[name].sqrt().double(), rtol=1e-5, atol=1e-7)


@each_cell
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_recorded_run_is_an_ordinary_one(cls: type[Any], options: dict[str, Any], training: bool) -> None:
    network = make(cls, **options).train(training)
    other, x = copy.deepcopy(network), rows()
    expected, _ = other(x, lengths=LENGTHS)
    expected.square().sum().backward()
    state, attributes = list(network.state_dict()), set(vars(network))
    with record(network, gates=True) as recording:
        output, _ = network(x, lengths=LENGTHS)
        output.square().sum().backward()
    torch.testing.assert_close(output, expected)
    for (name, p), q in zip(network.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda m, name=name: f"{name}: {m}")
    for name, buffer in buffers(network).items():
        torch.testing.assert_close(buffer, buffers(other)[name], msg=lambda m, name=name: f"{name}: {m}")
    assert list(network.state_dict()) == state
    assert set(vars(network)) == attributes
    assert network.backend == "auto"
    assert not network._forward_hooks
    sizes = [int((t < LENGTHS).sum()) for t in range(int(LENGTHS.max()))]
    directions = ["", "_reverse"] if network.bidirectional else [""]
    assert list(recording.layers) == [f"l{layer}{direction}" for layer in range(2) for direction in directions]
    for layer in recording.layers.values():
        assert layer.active == sizes
        assert [len(h) for h in layer.states["h"]] == sizes == [len(a) for a in layer.gates]
        assert all(bool((norms[:-1] > 0).all()) for norms in layer.gradient_norms().values())
    top = torch.cat(recording.layers["l1"].states["h"])
    ordered = torch.nn.utils.rnn.pack_padded_sequence(output, LENGTHS, enforce_sorted=False).data
    assert torch.equal(top, ordered[:, : top.shape[1]])


@each_cell
def test_states_follow_from_the_recorded_pre_activations(cls: type[Any], options: dict[str, Any]) -> None:
    network = make(cls, layers=1, **options)
    with record(network, gates=True) as recording:
        network(rows(), lengths=LENGTHS)
    layer = recording.layers["l0"]
    norms, W_hr = network.norms("_l0"), getattr(network, "weight_hr_l0", None)
    before = {name: state.clone() for name, state in layer.initial.items()}
    for t, (a, B_t) in enumerate(zip(layer.gates, layer.active, strict=True)):
        if cls is rnnnorm.LSTM:
            i, f, g, o = a.chunk(4, 1)
            c = f.sigmoid() * before["c"][:B_t] + i.sigmoid() * g.tanh()
            if norms.cell is None or not network.norm.carried:
                torch.testing.assert_close(layer.states["c"][t], c)
            if norms.cell is None:
                h = o.sigmoid() * c.tanh()
                torch.testing.assert_close(layer.states["h"][t], h if W_hr is None else h @ W_hr.T)
        elif cls is rnnnorm.GRU:
            _, z, n = a.chunk(3, 1)
            torch.testing.assert_close(
                layer.states["h"][t], (1 - z.sigmoid()) * n.tanh() + z.sigmoid() * before["h"][:B_t]
            )
        else:
            torch.testing.assert_close(layer.states["h"][t], a.relu() if options["nonlinearity"] == "relu" else a)
        before = {name: states[t] for name, states in layer.states.items()}
        assert not a.requires_grad


def test_without_states_the_network_keeps_its_backend() -> None:
    network = rnnnorm.LSTM(INPUT, HIDDEN, backend="torch")
    with record(network, states=False) as recording:
        network(torch.randn(5, 3, INPUT))
    assert network.ran == "torch"
    layer = recording.layers["l0"]
    assert (layer.active, layer.states, layer.gates) == ([3] * 5, {}, [])
    with record(network):
        network(torch.randn(5, 3, INPUT))
    assert network.ran == "reference"


def test_zoneout_is_part_of_the_recorded_states() -> None:
    network = make(layers=1, zoneout=0.5)
    with record(network) as recording:
        output, _ = network(torch.randn(6, 3, INPUT, dtype=torch.float64))
    states = recording.layers["l0"].states
    assert torch.equal(torch.stack(states["h"]), output)
    assert any(torch.any(a == b) for a, b in zip(states["c"][1:], states["c"][:-1], strict=True))


def test_without_gradients_norms_are_zero_and_growth_is_unknown() -> None:
    network = make()
    with record(network) as recording, torch.no_grad():
        network(rows(), lengths=LENGTHS)
    norms = recording.layers["l0"].gradient_norms()["h"]
    assert norms.tolist() == [0.0] * 7
    assert math.isnan(growth(norms, 0, 7))


def test_a_step_that_the_loss_does_not_see_has_norm_zero() -> None:
    network = make(layers=1)
    with record(network) as recording:
        network(torch.randn(6, 3, INPUT, dtype=torch.float64))[0][2].sum().backward()
    norms = recording.layers["l0"].gradient_norms()["h"]
    assert bool((norms[:3] > 0).all())
    assert norms[3:].tolist() == [0.0] * 3


def test_the_last_run_is_kept_and_blocks_overlap() -> None:
    network = make()
    first, second = record(network), record(network, gates=True)
    one = first.__enter__()
    two = second.__enter__()
    network(rows(), lengths=LENGTHS)
    assert one.layers["l0"] is two.layers["l0"]
    network(torch.randn(2, 3, INPUT, dtype=torch.float64))
    first.__exit__(None, None, None)  # not the one that was opened last
    network(torch.randn(4, 3, INPUT, dtype=torch.float64))
    second.__exit__(None, None, None)
    network(torch.randn(5, 3, INPUT, dtype=torch.float64))
    assert (len(one.layers["l0"].active), len(two.layers["l0"].active)) == (2, 4)
    assert "run_direction" not in vars(network)


def test_an_exception_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make(norm="bn-timestep")
    before = dict(vars(network))

    def fail(*_: Any) -> Any:
        raise RuntimeError("inside")

    monkeypatch.setattr(type(network.cell), "step", fail)
    with pytest.raises(RuntimeError, match="inside"), record(network, gates=True):
        network(rows(), lengths=LENGTHS)
    assert {k: v for k, v in vars(network).items() if k != "ran"} == {k: v for k, v in before.items() if k != "ran"}


def test_several_networks_are_told_apart_by_their_path() -> None:
    model = nn.ModuleDict({"a": make(layers=1), "b": nn.Sequential(make(rnnnorm.GRU, layers=1))})
    with record(model) as recording:
        model["a"](rows(), lengths=LENGTHS)
        model["b"](rows())
    assert list(recording.layers) == ["a.l0", "b.0.l0"]
    with record(nn.Sequential(make(layers=1))) as recording:
        assert recording.layers == {}


def test_a_module_without_networks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Linear contains no recurrent network: no rnnnorm.LSTM, GRU or RNN"):
        record(nn.Linear(2, 2)).__enter__()


@pytest.mark.parametrize("norm", ["none", "wn"])
def test_a_copy_made_while_recording_is_not_recorded(norm: str) -> None:
    network, x = make(layers=1, norm=norm), rows()
    with record(network) as recording:
        other = copy.deepcopy(network)
        expected = other(x)[0]
        assert recording.layers == {}
        network(x, lengths=LENGTHS)
        torch.testing.assert_close(network(x)[0], expected)
    assert recording.layers["l0"].active == [5] * 7


def test_networks_are_not_pickled_while_they_are_recorded() -> None:
    network, x = make(layers=1), rows()
    with record(network):
        other = copy.deepcopy(network)
        with pytest.raises(TypeError, match="a LSTM cannot be pickled while it is recorded"):
            pickle.dumps(network)
    assert torch.equal(pickle.loads(pickle.dumps(other))(x)[0], network(x)[0])


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.25])
def test_growth_of_a_linear_recurrence_is_its_factor(factor: float) -> None:
    network = make(rnnnorm.RNN, layers=1, nonlinearity="identity")
    Q, _ = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, dtype=torch.float64))
    network.weight_hh_l0.data.copy_(factor * Q)
    with record(network) as recording:
        network(torch.randn(20, 3, INPUT, dtype=torch.float64))[0][-1].sum().backward()
    norms = recording.layers["l0"].gradient_norms()["h"]
    assert growth(norms, 0, 20) == pytest.approx(factor, rel=1e-12)
    assert growth(norms, 5, 7) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_growth_is_nan_where_a_norm_has_no_logarithm(bad: float) -> None:
    norms = torch.tensor([1.0, 2.0, bad, 4.0])
    assert math.isnan(growth(norms, 0, 4))
    assert growth(norms, 0, 2) == pytest.approx(0.5)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 5), (-1, 3), (2, 2)])
def test_growth_refuses_steps_that_do_not_exist(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=rf"two steps or more of 0 … 3, got start={start}, stop={stop}"):
        growth(torch.ones(4), start, stop)


NOISY = {"zoneout": 0.2, "hidden_dropout": 0.2, "weight_dropout": 0.3, "bidirectional": True}


@pytest.mark.parametrize("keys", [{}, NOISY], ids=["", "noisy"])
@pytest.mark.parametrize("norm", rnnnorm.presets())
def test_an_observation_shows_what_a_record_shows(norm: str, keys: dict[str, Any]) -> None:
    recorded = make(norm=norm, **keys)
    observed, found = copy.deepcopy(recorded), []
    for network, look in ((recorded, record(recorded, gates=True)), (observed, observe(observed, True, True))):
        torch.manual_seed(1)
        with look as seen:
            output, (h_n, c_n) = network(rows(), lengths=LENGTHS)
            (output.square().sum() + h_n.sum() + c_n.sin().sum()).backward()
        found.append(seen)
    assert all(not layer.states for layer in found[1].layers.values())  # so far
    found[1].finish()
    assert found[0].layers.keys() == found[1].layers.keys()
    for name, expected in found[0].layers.items():
        seen = found[1].layers[name]
        torch.testing.assert_close(seen.gates, expected.gates)
        for state, values in expected.states.items():
            torch.testing.assert_close([v.detach() for v in seen.states[state]], [v.detach() for v in values])
            torch.testing.assert_close(seen.gradient_norms()[state], expected.gradient_norms()[state])
