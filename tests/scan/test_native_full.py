"""The compiled scans of every cell with all places and features against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from scan.native_cases import (
    LENGTHS,
    Poison,
    assert_as_reference,
    assert_near,
    build,
    data,
    distance,
    needs_library,
    ran,
    run,
    states,
    twin,
)

import rnnnorm
from rnnnorm import Norm
from rnnnorm.scan.native import function

pytestmark = needs_library
LSTM, GRU, RNN = rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN
STEP = "bn:statistics=timestep"
SIZES = (5, 16, 20)
RAGGED = LENGTHS["ragged"]


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Poison]:
    poison = Poison(monkeypatch, guarded=True)
    yield poison
    poison.check()


NORMS: dict[str, Any] = {
    "none": "none",
    "ln": "ln:bias=true",
    "rms": "rms",
    "gn": "gn",
    "bn-timestep": "bn-timestep:bias=true",
    "bn-vertical": "bn-vertical",
    "bn-star": "bn-star",
    "bn-frozen": "bn-frozen",
    "ln-sum": Norm(joint="ln:bias=true"),
    "bn-joint": "bn-joint:bias=true",
    "dyt": "dyt:bias=true",
    "dyt-sum": Norm(joint="dyt", output="dyt"),
    "output-by-row": Norm(hidden="ln", output="ln"),
    "output-by-column": Norm(output=STEP),
    "rows-and-columns": Norm(input="ln", hidden=STEP, output="rms"),
    "columns-and-rows": Norm(input=STEP, hidden="gn", output=STEP),
    "steps-that-differ": Norm(input=f"{STEP}:min_rows=5", hidden=STEP, output=f"{STEP}:frozen=true"),
    "groups": Norm(hidden="gn:groups=1", output="gn:groups=1"),
}
CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "GRU": (GRU, {}),
    "RNN": (RNN, {}),
    "LSTM": (LSTM, {"peepholes": True}),
}


def as_reference(network: Any) -> None:
    """A ragged batch in training, and a dense one by the statistics that it has moved."""
    assert_as_reference(network, data(RAGGED), states(network, 10), RAGGED)
    assert_as_reference(network.eval(), data(LENGTHS["dense"]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_places(cell: str, norm: str) -> None:
    """Every kind of normalizer at every place."""
    kind, options = CELLS[cell]
    hidden = SIZES[len(cell + norm) % 3]
    as_reference(build(NORMS[norm], hidden, cell=kind, max_steps=6, bias=len(norm) % 4 > 0, **options))


@pytest.mark.parametrize("norm", ["none", "rows-and-columns", "dyt-sum"])
@pytest.mark.parametrize("nonlinearity", ["relu", "identity"])
def test_nonlinearities(nonlinearity: str, norm: str) -> None:
    as_reference(build(NORMS[norm], 20, cell=RNN, max_steps=6, nonlinearity=nonlinearity))


CELL_NORMS: dict[str, Any] = {
    "normprop": "normprop",
    "carried-by-row": "ln-carried",
    "carried-by-column": Norm(input="ln", cell=STEP, carried=True),
    "cell-by-row": Norm(hidden=STEP, cell="ln"),
    "cell-squashed": Norm(cell="dyt", output="ln"),
    "cell-in-groups": Norm(cell="gn:groups=5", input="gn:groups=2"),
}


@pytest.mark.parametrize("options", [{"zoneout": 0.3}, {"peepholes": True, "zoneout": (0.0, 0.4)}], ids=str)
@pytest.mark.parametrize("norm", CELL_NORMS)
def test_places_of_the_cell(norm: str, options: dict[str, Any]) -> None:
    network = build(CELL_NORMS[norm], 20, max_steps=6, **options)
    for training in (True, False):
        assert_as_reference(network.train(training), data(RAGGED), states(network, 10), RAGGED)


@pytest.mark.parametrize(("hidden", "projected"), [(20, 7), (33, 16), (16, 15)])
@pytest.mark.parametrize("norm", [*NORMS, *CELL_NORMS])
def test_projections(norm: str, hidden: int, projected: int) -> None:
    """h_t = W_hr m_t, with every kind of normalizer and in two layers and directions."""
    options = {"num_layers": 2, "bidirectional": True} if hidden == 20 else {"peepholes": hidden == 16}
    as_reference(build((NORMS | CELL_NORMS)[norm], hidden, max_steps=6, proj_size=projected, **options))


@pytest.mark.parametrize("options", [{"zoneout": 0.3}, {"hidden_dropout": 0.3}])
def test_projections_with_noise_are_left_to_the_reference(options: dict[str, Any]) -> None:
    network = build("ln", 12, proj_size=5, **options)
    with pytest.raises(RuntimeError, match="cannot run"):
        network(data(RAGGED))
    assert ran(twin(network, "auto"), torch.float64) == "reference"


NOISE: dict[str, dict[str, Any]] = {
    "zoneout": {"zoneout": 0.3},
    "update": {"recurrent_dropout": 0.4},
    "hidden": {"hidden_dropout": 0.4},
    "all": {"zoneout": 0.2, "recurrent_dropout": 0.3, "hidden_dropout": 0.3, "weight_dropout": 0.2, "dropout": 0.1},
    "certain": {"zoneout": 1.0, "recurrent_dropout": 1.0},
}


NOISY = [*(("ln", noise) for noise in NOISE), ("none", "all"), ("bn-timestep", "update"), ("rows-and-columns", "all")]


@pytest.mark.parametrize(("norm", "noise"), NOISY)
@pytest.mark.parametrize("cell", [LSTM, GRU, RNN])
def test_noise(cell: Any, norm: str, noise: str) -> None:
    """The same numbers are drawn as by the reference, in two layers and directions; in evaluation the expectation."""
    options = {name: p for name, p in NOISE[noise].items() if not (cell is RNN and name == "recurrent_dropout")}
    network = build(NORMS[norm], 16, cell=cell, max_steps=6, num_layers=2, bidirectional=True, **options)
    assert_as_reference(network, data(RAGGED), states(network, 10), RAGGED)
    assert_as_reference(network.eval(), data(RAGGED), states(network, 10), RAGGED)


@pytest.mark.parametrize(
    ("cell", "norm"),
    [
        (GRU, "ln"),
        (GRU, "rows-and-columns"),
        (RNN, "bn-timestep"),
        (LSTM, "dyt"),
        (LSTM, "none"),
        (LSTM, "ln"),
        (LSTM, "bn-timestep"),
    ],
)
def test_threads_share_the_work(cell: Any, norm: str) -> None:
    """Rows, columns, both in turn; and with weights that each thread has its own columns of."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for hidden, rows in ((20, 14), (300, 4)):
            if cell is LSTM:
                network = build(NORMS[norm], 2 * hidden, proj_size=hidden)
                assert_as_reference(network, data((3,) * (rows - 2) + (2, 1)), None, (3,) * (rows - 2) + (2, 1))
            network = build(NORMS[norm], hidden, cell=cell, zoneout=0.2, hidden_dropout=0.2)
            assert_as_reference(network, data((3,) * (rows - 2) + (2, 1)), None, (3,) * (rows - 2) + (2, 1))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cell", "norm"), [(LSTM, "columns-and-rows"), (GRU, "ln"), (GRU, "bn-joint"), (RNN, "dyt-sum")]
)
def test_float32(cell: Any, norm: str) -> None:
    """As near to double precision as 1e-5, or as a few times the error of the reference itself."""
    network = build(NORMS[norm], 21, cell=cell, dtype=torch.float32)
    args = (data(RAGGED), states(network, 10), RAGGED)
    exact, rounded = run(twin(network, dtype=torch.float64), *args), run(twin(network), *args)
    allowed = {name: max(1e-5, 3 * distance(rounded[name], exact[name])) for name in exact}
    assert_near(run(network, *args), {name: value.to(rounded[name].dtype) for name, value in exact.items()}, allowed)
    assert network.ran == "native"


@pytest.mark.parametrize(
    ("cell", "norm", "options"),
    [
        (LSTM, "columns-and-rows", {"peepholes": True, "zoneout": 0.3, "recurrent_dropout": 0.3}),
        (LSTM, "dyt", {"hidden_dropout": 0.3}),
        (GRU, "ln", {"zoneout": 0.3, "hidden_dropout": 0.3, "recurrent_dropout": 0.3}),
        (GRU, "bn-joint", {}),
        (GRU, "none", {}),
        (RNN, "steps-that-differ", {"zoneout": 0.3}),
    ],
)
def test_second_derivatives(cell: Any, norm: str, options: dict[str, Any]) -> None:
    """By the very masks of the forward pass, whatever has been drawn since."""
    ours = build(NORMS[norm], 7, cell=cell, **options)
    x, hx, found = data(RAGGED).requires_grad_(), tuple(s.requires_grad_() for s in states(ours, 10)), []
    for network in (twin(ours), ours):
        torch.manual_seed(1)
        output, _ = network(x, hx if len(hx) > 1 else hx[0], lengths=torch.tensor(RAGGED))
        torch.rand(5)
        inputs = [x, *hx, *network.parameters()]
        first = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
        total: Any = sum(g.square().sum() for g in first)
        found.append([*(g.detach() for g in first), *torch.autograd.grad(total, inputs)])
    assert ours.ran == "native"
    for expected, actual in zip(*found, strict=True):
        assert distance(actual, expected) < 1e-9


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "rows-and-columns"])
@pytest.mark.parametrize("cell", [LSTM, GRU])
def test_without_gradients(cell: Any, norm: str) -> None:
    """Rows of two steps take turns."""
    network = build(NORMS[norm], 16, cell=cell, zoneout=0.3, hidden_dropout=0.3)
    with torch.no_grad():
        assert_as_reference(network, data(RAGGED), states(network, 10), RAGGED)


def test_as_torch() -> None:
    """GRUs and RNNs without normalizers, from torch's weights."""
    x = torch.randn(6, 4, 3)
    for cell, kind, options in (
        (GRU, torch.nn.GRU, {}),
        (RNN, torch.nn.RNN, {}),
        (RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
    ):
        theirs = kind(3, 21, **options)
        ours = cell.from_torch(theirs)
        found = []
        for network in (ours, theirs):
            output, h_n = network(x)
            found.append([output, h_n, *torch.autograd.grad(output.square().sum() + h_n.sum(), network.parameters())])
        assert ours.ran == "native"
        for actual, expected in zip(*found, strict=True):
            torch.testing.assert_close(actual, expected)


def test_which_library_runs() -> None:
    """The plain one as long as nothing is rare."""
    lstm = rnnnorm.LSTM(3, 4, norm="ln", hidden_dropout=0.5)
    like = torch.zeros(2, 4)
    assert function.variant(lstm.ready_layer("_l0", like)) == "LSTM"
    assert function.variant(lstm.eval().ready_layer("_l0", like)) == "plain"
    assert function.variant(rnnnorm.GRU(3, 4).ready_layer("_l0", like)) == "GRU"
