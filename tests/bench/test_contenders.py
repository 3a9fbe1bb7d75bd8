"""All contenders of a cell compute the same function of the same weights and data."""

from __future__ import annotations

import pytest
import torch
from support import assert_same
from torch import Tensor, nn

from rnnnorm import LSTM, LSTMCell
from rnnnorm.bench.batch import Batch
from rnnnorm.bench.contenders import build, make_step, our_cell, our_lstm, torch_lstm
from rnnnorm.bench.records import OURS, REFERENCE, SCRIPTED, TORCH
from rnnnorm.bench.script_lstm import script_lstm
from rnnnorm.bench.shapes import LENGTHS, Shape
from rnnnorm.bench.steps import TrainingStep

CPU = torch.device("cpu")
SHAPE = Shape(12, 3, 4, 5)

# The TorchScript peer's names, and ours.
PEER = {
    "cell.weight_ih": "weight_ih_l0",
    "cell.weight_hh": "weight_hh_l0",
    "cell.bias": "bias_ih_l0",
    "cell.norm_input.weight": "norms_l0.input.gain",
    "cell.norm_hidden.weight": "norms_l0.hidden.gain",
    "cell.norm_cell.weight": "norms_l0.cell.gain",
    "cell.norm_cell.bias": "norms_l0.cell.bias",
}


@pytest.fixture(scope="module")
def peers() -> tuple[nn.Module, LSTM]:
    """The TorchScript module and ours in double precision, with gains and biases other than the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        ours = LSTM(4, 5, norm="ln", backend="reference").double()
        peer = script_lstm(ours).double()
        there, here = dict(peer.named_parameters()), dict(ours.named_parameters())
        assert set(there) == set(PEER)
        assert set(here) == set(PEER.values())
        with torch.no_grad():
            for theirs, mine in PEER.items():
                here[mine].uniform_(-1.0, 1.0)
                there[theirs].copy_(here[mine])
    return peer, ours


@pytest.mark.parametrize("call", [1, 2, 3, 4])  # TorchScript profiles first and runs something else later
def test_the_torchscript_peer_is_our_layer_norm_lstm(call: int, peers: tuple[nn.Module, LSTM]) -> None:
    torch.manual_seed(call)
    found: list[tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]] = []
    x, weight, weight_c = torch.randn(7, 3, 4).double(), torch.randn(7, 3, 5).double(), torch.randn(3, 5).double()
    for module in peers:
        leaf = x.clone().requires_grad_()
        output, (h, c) = module(leaf)
        c = c.reshape(3, 5)
        assert_same(h.reshape(3, 5), output[-1], "h_n", 0.0)
        parameters = dict(module.named_parameters())
        loss = (output * weight).sum() + (c * weight_c).sum()
        gradient, *rest = torch.autograd.grad(loss, [leaf, *parameters.values()])
        found.append((output, c, gradient, dict(zip(parameters, rest, strict=True))))
    theirs, mine = found
    for name, a, b in zip(("output", "c_n", "input's gradient"), theirs, mine, strict=False):
        assert_same(a, b, name, 1e-10)
    for there, here in PEER.items():
        assert mine[3][here].abs().max() > 1e-3
        assert_same(theirs[3][there], mine[3][here], f"gradient of {there}", 1e-10)


def test_the_torchscript_peer_starts_from_torchs_weights_as_ours_does() -> None:
    x = torch.randn(SHAPE.T, SHAPE.B, SHAPE.I)
    theirs = build(SCRIPTED, SHAPE, "ln", "auto", CPU)
    ours = our_lstm(SHAPE, "ln", "reference", CPU)
    assert isinstance(theirs, torch.jit.ScriptModule)
    assert_same(theirs(x)[0], ours(x)[0], "output", 1e-5)


@pytest.mark.parametrize(
    "source",
    [
        {"num_layers": 2},
        {"bidirectional": True},
        {"hidden_size": 4, "proj_size": 2},
        {"bias": False},
    ],
    ids="-".join,
)
def test_the_torchscript_peer_refuses_what_it_does_not_do(source: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="one layer, one direction, a bias and no projection"):
        script_lstm(LSTM(**{"input_size": 3, "hidden_size": 4, **source}))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LENGTHS)
def test_without_a_norm_all_contenders_and_forms_agree(kind: str) -> None:
    """Torch's module may run over the padding: the loss ignores it."""
    batch = Batch(SHAPE, kind, CPU)
    everywhere = [(contender, form) for contender in (TORCH, OURS, REFERENCE) for form in ("padded", "packed")]
    alone = [] if kind == "dense" else [(OURS, "lengths"), (REFERENCE, "lengths")]
    losses, gradients = {}, {}
    for contender, form in (*everywhere, *alone):
        module = build(contender, SHAPE, "none", "auto", CPU)
        step = make_step(module, batch, form, training=True)
        assert isinstance(step, TrainingStep)
        losses[contender, form] = (step.call() * step.weight).sum().item()
        step.run()
        assert (step.leaf is batch.packed.data) == (form == "packed")
        assert step.leaf.grad is not None
        gradients[contender, form] = {name: p.grad for name, p in module.named_parameters()}
        if form != "packed":
            gradients[contender, form]["input"] = step.leaf.grad
        step.reset()
    for key, loss in losses.items():
        assert loss == pytest.approx(losses[TORCH, "padded"], abs=1e-4), key
        for name, gradient in gradients[key].items():
            assert_same(gradient, gradients[TORCH, "padded"][name], f"{name} of {key}", 1e-4)


@pytest.mark.parametrize("norm", ["ln", "bn-timestep"])
def test_packed_and_with_lengths_ours_computes_the_same(norm: str) -> None:
    batch = Batch(SHAPE, "uniform", CPU)
    gradients = []
    for form in ("packed", "lengths"):
        module = our_lstm(SHAPE, norm, "auto", CPU)
        make_step(module, batch, form, training=True).run()
        gradients.append({name: p.grad for name, p in module.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None
        assert gradient.abs().max() > 0
        assert_same(gradients[1][name], gradient, name, 1e-4)


def test_weights_are_always_the_same_and_the_callers_random_stream_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = torch_lstm(SHAPE, CPU)
    assert torch.equal(torch.rand(3), expected)
    for (name, p), (_, q) in zip(first.named_parameters(), torch_lstm(SHAPE, CPU).named_parameters(), strict=True):
        assert torch.equal(p, q), name
    ours = our_lstm(SHAPE, "none", "auto", CPU)
    for name, p in first.named_parameters():
        assert torch.equal(p, ours.get_parameter(name)), name


def test_ours_has_statistics_for_all_steps_and_the_backend_asked_for() -> None:
    lstm = our_lstm(SHAPE, "bn-timestep", "reference", CPU)
    assert lstm.backend == "reference"
    assert lstm.get_buffer("norms_l0.hidden.stats.running_mean").shape == (SHAPE.T, 4 * SHAPE.H)
    assert build(REFERENCE, SHAPE, "ln", "native", CPU).backend == "reference"
    assert build(OURS, SHAPE, "ln", "native", CPU).backend == "native"


def test_a_norm_that_starts_from_data_is_given_some() -> None:
    lstm = our_lstm(SHAPE, "wn:init=data", "auto", CPU)
    assert not lstm.needs_data
    assert lstm(torch.randn(SHAPE.T, SHAPE.B, SHAPE.I))[0].isfinite().all()


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-shared"])
def test_our_cell_has_seen_every_step(norm: str) -> None:
    cell = our_cell(SHAPE, norm, 6, CPU)
    assert isinstance(cell, LSTMCell)
    fresh = dict(LSTMCell(SHAPE.I, SHAPE.H, norm=norm, max_steps=6).named_buffers())
    assert bool(fresh) == norm.startswith("bn")
    for name, seen in cell.named_buffers():
        assert seen.isfinite().all()
        if name.endswith("running_var"):
            changed = (seen != fresh[name]).reshape(-1, seen.shape[-1]).any(1)
            assert changed.all(), name


def test_an_unknown_contender_is_refused_and_those_that_exist_listed() -> None:
    with pytest.raises(ValueError, match=r"unknown contender 'nope'; there are: torch.nn.LSTM, rnnnorm.LSTM"):
        build("nope", SHAPE, "none", "auto", CPU)
