"""One timestep of a few sequences by compiled code, against the reference; what it remembers must never be stale."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scan.native_cases import assert_near, build, distance, needs_library, states, twin
from scan.test_native_full import CELL_NORMS, NORMS
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize, prune

import rnnnorm
from rnnnorm import GRU, LSTM, RNN, Norm
from rnnnorm.nn import streaming
from rnnnorm.norms import step_statistics
from rnnnorm.packing import InputError
from rnnnorm.scan.native.one import OneStep

pytestmark = needs_library
SIZES = (1, 5, 16, 20, 33, 64)
CELLS: dict[str, Any] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


class Taken:
    """How often compiled code ran a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        run = OneStep.run

        def counted(step: OneStep, *args: Any, **keys: Any) -> None:
            self.count += 1
            run(step, *args, **keys)

        monkeypatch.setattr(OneStep, "run", counted)


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    return Taken(monkeypatch)


def outputs(network: Any, x: Tensor, hx: Any = None) -> dict[str, Tensor]:
    with torch.no_grad():
        output, last = network(x, hx)
    last = last if isinstance(last, tuple) else (last,)
    return {"output": output, **dict(zip(("h_n", "c_n"), last, strict=False))}


def given(network: Any, rows: int, dtype: torch.dtype = torch.float64) -> Any:
    found = states(network, rows, dtype)
    return found if len(found) > 1 else found[0]


def assert_steps(network: Any, tolerance: float = 1e-10) -> None:
    """As the reference: one to three sequences, single ones, with and without states."""
    network.eval()
    reference, dtype = twin(network), next(network.parameters()).dtype
    for rows in (1, 2, 3):
        size = (rows, 1) if network.batch_first else (1, rows)
        x = torch.randn(*size, network.input_size, dtype=dtype)
        for hx in (None, given(network, rows, dtype)):
            assert_near(outputs(network, x, hx), outputs(reference, x, hx), tolerance)
    x, hx = torch.randn(1, network.input_size, dtype=dtype), given(network, 1, dtype)
    single = tuple(h[:, 0] for h in hx) if isinstance(hx, tuple) else hx[:, 0]
    assert_near(outputs(network, x, single), outputs(reference, x, single), tolerance)


@pytest.mark.parametrize("norm", [*NORMS, *CELL_NORMS])
@pytest.mark.parametrize("cell", CELLS)
def test_values(cell: str, norm: str, taken: Taken) -> None:
    if cell != "LSTM" and norm in CELL_NORMS:
        pytest.skip("there is no c_t")
    hidden, features = SIZES[len(cell + norm) % 6], (1, 3, 40)[len(norm) % 3]
    hidden += hidden % 5 * (5 - 1) * ("groups" in norm)
    options = {"bias": len(norm) % 4 > 0, "batch_first": len(norm) % 2 > 0}
    assert_steps(build((NORMS | CELL_NORMS)[norm], hidden, features, CELLS[cell], max_steps=6, **options))
    assert taken.count == (0 if norm == "normprop" else 7)  # which composes its weights


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "dyt"])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_in_both_precisions(cell: str, norm: str, taken: Taken) -> None:
    network = build(norm, 20, 7, CELLS[cell], num_layers=3, max_steps=6)
    assert_steps(network)
    assert_steps(network.float(), 1e-5)
    assert taken.count == 2 * 3 * 7


@pytest.mark.parametrize(
    "options",
    [{"zoneout": 0.3}, {"zoneout": (0.0, 0.4)}, {"proj_size": 7}, {"recurrent_dropout": 0.2, "hidden_dropout": 0.3}],
    ids=str,
)
@pytest.mark.parametrize("norm", ["none", "ln-carried", "bn-timestep"])
def test_options(norm: str, options: dict[str, Any], taken: Taken) -> None:
    assert_steps(build(norm, 20, max_steps=6, **options))
    assert taken.count


@pytest.mark.parametrize("nonlinearity", ["relu", "identity"])
def test_nonlinearities(nonlinearity: str, taken: Taken) -> None:
    assert_steps(build("ln", 20, cell=RNN, nonlinearity=nonlinearity))
    assert taken.count


def test_threads_share_the_rows_of_large_weights(taken: Taken) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert_steps(build("ln", 301, 300))
    finally:
        torch.set_num_threads(before)
    assert taken.count == 7


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
def test_what_is_not_finite(norm: str, value: float) -> None:
    network = build(norm, 20).eval()
    reference = twin(network)
    for place in (0, 4):
        x, hx = torch.randn(1, 2, 5, dtype=torch.float64), given(network, 2)
        x[0, 0, place] = value
        hx[1][0, 1, place] = value
        for actual, expected in zip(outputs(network, x, hx).values(), outputs(reference, x, hx).values(), strict=True):
            torch.testing.assert_close(actual, expected, equal_nan=True)


CELL_MODULES: dict[str, Any] = {"LSTM": rnnnorm.LSTMCell, "GRU": rnnnorm.GRUCell, "RNN": rnnnorm.RNNCell}


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-shared"])
@pytest.mark.parametrize("cell", CELL_MODULES)
def test_single_cells(cell: str, norm: str, taken: Taken) -> None:
    module = CELL_MODULES[cell](5, 20, norm=norm, max_steps=4, dtype=torch.float64).eval()
    for stats in step_statistics(module):
        stats.running_mean.normal_()
        stats.running_var.uniform_(0.5, 2)
        stats.num_rows.fill_(5)
    rows = torch.randn(6, 2, 5, dtype=torch.float64)
    with_graph = without = None
    for t, x in enumerate(rows):
        with_graph = module(x, with_graph, step=t)
        with torch.no_grad():
            without = module(x, without, step=t)
    assert taken.count == 6
    torch.testing.assert_close(without, with_graph)


def changed_data(network: Any) -> None:
    network.weight_hh_l0.data = network.weight_hh_l0.data.clone().mul_(1.5)


def transposed_data(network: Any) -> None:
    square = torch.randn(80, 80, dtype=torch.float64)
    network.weight_hh_l0.data = square[:, :20]  # not contiguous, and then of the same address
    with torch.no_grad():
        network(torch.randn(1, 1, 5, dtype=torch.float64))
    network.weight_hh_l0.data = square.t()[:, :20]


def replaced_parameter(network: Any) -> None:
    network.weight_ih_l0 = nn.Parameter(torch.randn(80, 5, dtype=torch.float64))


def other_gain(network: Any) -> None:
    network.norms_l0.hidden.gain = nn.Parameter(torch.rand(80, dtype=torch.float64))


def other_normalizer(network: Any) -> None:
    network.norms_l0.hidden = rnnnorm.norms.NORMALIZERS["rms"](80, gain=0.7, dtype=torch.float64)


def without_normalizer(network: Any) -> None:
    network.norms_l0.input = None


def other_eps(network: Any) -> None:
    network.norms_l0.hidden.eps = 0.5


def scaled_by_hook(network: Any) -> None:
    network.norms_l0.hidden.register_forward_hook(lambda module, args, y: 3 * y)


def loaded(network: Any) -> None:
    network.load_state_dict({name: 0.5 * value for name, value in network.state_dict().items()})


def assigned(network: Any) -> None:
    state = {name: 0.5 * value for name, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)


def other_zoneout(network: Any) -> None:
    network.noise = rnnnorm.equations.Noise(zoneout=(0.5, 0.5))


def carried(network: Any) -> None:
    network.norms_l0.carried = True


def batch_statistics(network: Any) -> None:
    for stats in step_statistics(network):
        stats.source = "batch"


def population(network: Any) -> None:
    rnnnorm.recalibrate(network, [torch.randn(4, 6, 5, dtype=torch.float64)])
    for stats in step_statistics(network):
        stats.source = "population"


def moved(network: Any) -> None:
    for stats in step_statistics(network):
        stats.running_mean.add_(1)


def other_method(network: Any) -> None:
    run = network.run_direction
    network.run_direction = lambda *args, **keys: tuple(
        2 * part if isinstance(part, Tensor) else part for part in run(*args, **keys)
    )


def parametrized(network: Any) -> None:
    class Double(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    parametrize.register_parametrization(network, "weight_hh_l0", Double())


def pruned(network: Any) -> None:
    prune.random_unstructured(network, "weight_hh_l0", 0.5)


def biases_apart(network: Any) -> None:
    network.bias_ih_l0 = None


CHANGES = (
    changed_data, transposed_data, replaced_parameter, other_gain, other_normalizer, without_normalizer, other_eps,
    scaled_by_hook, loaded, assigned, other_zoneout, carried, batch_statistics, population, moved, other_method,
    parametrized, pruned, biases_apart,
)  # fmt: skip


@pytest.mark.parametrize("norm", ["ln:bias=true", "bn-timestep"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_are_noticed(change: Callable[[Any], None], norm: str, taken: Taken) -> None:
    """After a step has been prepared; general code sees them because it asks every time."""
    network = build(norm, 20, max_steps=6, backend="auto").eval()
    x, hx = torch.randn(1, 3, 5, dtype=torch.float64), given(network, 3)
    before = outputs(network, x, hx)
    assert taken.count == 1
    change(network)
    actual = outputs(network, x, hx)
    output, (h, c) = network(x, hx)  # with a graph, by general code
    assert_near(actual, {"output": output.detach(), "h_n": h.detach(), "c_n": c.detach()})
    there = bool(step_statistics(network)) or change not in (batch_statistics, population, moved)
    assert there == any(not torch.equal(before[name], value) for name, value in actual.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", CELLS)
def test_weight_norm_is_composed_on_the_way(cell: str, dtype: torch.dtype, taken: Taken) -> None:
    """Lengths of rows are found while their products are; the weight itself is never made."""
    for hidden, features in ((7, 5), (64, 3), (33, 130), (300, 300)):  # the last one by all threads
        network = build("wn", hidden, features, CELLS[cell], num_layers=2).to(dtype)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        taken.count = 0
        assert_steps(network, 1e-10 if dtype is torch.float64 else 1e-5)
        assert taken.count == 14
    with torch.no_grad():
        network.parametrizations.weight_hh_l1.original1[0] = 0.0  # no direction
    x = torch.randn(1, 1, features, dtype=dtype)
    actual, expected = outputs(network, x)["h_n"], outputs(twin(network), x)["h_n"]
    assert torch.equal(actual.isnan(), expected.isnan())
    assert expected.isnan().any()


def longer(network: Any) -> None:
    network.parametrizations.weight_hh_l0.original0.data.mul_(2)


def other_direction(network: Any) -> None:
    network.parametrizations.weight_ih_l0.original1 = nn.Parameter(
        network.parametrizations.weight_ih_l0.original1.detach().flip(1)
    )


def direction_moved(network: Any) -> None:
    direction = network.parametrizations.weight_ih_l0.original1
    direction.data = direction.data.flip(0).clone()


def direction_of_other_memory(network: Any) -> None:
    direction = network.parametrizations.weight_hh_l0.original1
    direction.data = direction.data.t().contiguous().t() * 1.5 + 0.1


def removed(network: Any) -> None:
    parametrize.remove_parametrizations(network, "weight_hh_l0")
    network.weight_hh_l0.data.mul_(2)


def doubled(network: Any) -> None:
    parametrized(network)


def hook_of_the_composition(network: Any) -> None:
    network.parametrizations.weight_hh_l0[0].register_forward_hook(lambda module, given, made: 2 * made)


def other_composition(network: Any) -> None:
    network.parametrizations.weight_hh_l0[0].forward = lambda g, v: 2 * g * v


def weight_assigned(network: Any) -> None:
    network.weight_hh_l0 = network.weight_hh_l0.detach() * 2


COMPOSED = (
    longer, other_direction, direction_moved, direction_of_other_memory, removed, doubled, hook_of_the_composition,
    other_composition, weight_assigned,
)  # fmt: skip


@pytest.mark.parametrize("change", COMPOSED, ids=lambda change: change.__name__)
def test_changes_of_composed_weights_are_noticed(change: Callable[[Any], None], taken: Taken) -> None:
    network = build("wn", 20, backend="auto").eval()
    x, hx = torch.randn(1, 3, 5, dtype=torch.float64), given(network, 3)
    before = outputs(network, x, hx)
    assert taken.count == 1
    change(network)
    actual = outputs(network, x, hx)
    output, (h, c) = network(x, hx)
    assert_near(actual, {"output": output.detach(), "h_n": h.detach(), "c_n": c.detach()})
    assert any(not torch.allclose(before[name], value) for name, value in actual.items())


def test_cached_weights_are_those_of_the_first_read(taken: Taken) -> None:
    network = build("wn", 20, backend="auto").eval()
    x = torch.randn(1, 1, 5, dtype=torch.float64)
    with parametrize.cached():
        before = outputs(network, x)
        other_direction(network)
        assert_near(outputs(network, x), before)
    assert taken.count == 0
    assert not torch.allclose(outputs(network, x)["h_n"], before["h_n"])


def test_an_optimizer_goes_on(taken: Taken) -> None:
    network = build("ln", 20)
    optimizer = torch.optim.SGD(network.parameters(), 0.5)
    x = torch.randn(1, 1, 5, dtype=torch.float64)
    for step in range(3):
        optimizer.zero_grad()
        network.train()(x)[0].square().sum().backward()
        optimizer.step()
        assert_near(outputs(network.eval(), x), outputs(twin(network), x))
        assert taken.count == step + 1


def test_a_subclass_with_another_method_is_not_gone_round(taken: Taken) -> None:
    class Louder(LSTM):
        def run_layer(self, *args: Any, **keys: Any) -> Any:
            output, last = super().run_layer(*args, **keys)
            return 2 * output, last

    torch.manual_seed(0)
    louder = Louder(5, 20, norm="ln").eval()
    torch.manual_seed(0)
    plain = LSTM(5, 20, norm="ln").eval()
    x = torch.randn(1, 1, 5)
    torch.testing.assert_close(outputs(louder, x)["output"], 2 * outputs(plain, x)["output"])
    assert taken.count == 1  # of the plain one


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))], ids=["copy", "deepcopy", "pickle"]
)
def test_copies_are_prepared_for_themselves(make: Callable[[Any], Any], taken: Taken) -> None:
    network = build("bn-timestep", 20, max_steps=6).eval()
    x = torch.randn(1, 1, 5, dtype=torch.float64)
    before = outputs(network, x)
    other = make(network)
    assert_near(outputs(other, x), before)
    other.weight_ih_l0 = nn.Parameter(other.weight_ih_l0.detach() * 2)
    assert_near(outputs(other, x), outputs(twin(other), x))
    if make is not copy.copy:  # which shares the parameters
        assert_near(outputs(network, x), before)
    assert taken.count >= 3


def test_modules_are_forgotten() -> None:
    network = build("ln", 20).eval()
    outputs(network, torch.randn(1, 1, 5, dtype=torch.float64))
    known = streaming._local.known
    assert network in known
    count = len(known)
    del network
    assert len(known) == count - 1


def test_threads_step_the_same_network() -> None:
    """Each has a structure of its own."""
    network = build("ln", 200, 100).eval()
    x = torch.randn(8, 1, 1, 100, dtype=torch.float64)
    expected = [outputs(network, rows)["output"] for rows in x]
    wrong: list[int] = []

    def stream(k: int) -> None:
        for _ in range(200):
            if not torch.equal(outputs(network, x[k])["output"], expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=stream, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_views_of_other_memory(taken: Taken) -> None:
    network = build("ln", 20).eval()
    wide = torch.randn(1, 2, 10, dtype=torch.float64)
    h, c = (torch.randn(2, 1, 20, dtype=torch.float64).transpose(0, 1) for _ in range(2))
    x = wide[..., ::2]
    assert_near(outputs(network, x, (h, c)), outputs(twin(network), x, (h, c)))
    assert taken.count == 1


def test_general_code_runs_where_it_must(taken: Taken) -> None:
    """Graphs, transforms, other types, several steps, more sequences."""
    network = build("ln", 20, backend="auto").eval().float()
    x = torch.randn(1, 1, 5)
    network(x)[0].sum().backward()
    with torch.no_grad():
        network(x.expand(2, 1, 5))
        network(x.expand(1, 4, 5))
        network.train()(x)
        network.eval()
        with torch.autocast("cpu", torch.bfloat16):
            network(x)
        torch.func.vmap(lambda row: network(row)[0])(x.expand(2, 1, 1, 5))
        with forward_ad.dual_level():
            network(forward_ad.make_dual(x, torch.ones_like(x)))
        for wrong in (x.double(), x[..., :4], torch.randn(1, 0, 5)):
            try:
                network(wrong)
            except InputError:
                continue
        with pytest.raises(InputError, match="h_0"):
            network(x, (torch.zeros(1, 1, 7), torch.zeros(1, 1, 20)))
        with pytest.raises(TypeError):
            network(x, torch.zeros(1, 1, 20))
    assert not taken.count


@pytest.mark.parametrize(
    ("norm", "options"),
    [
        ("ws", {}), ("online", {}), ("ln", {"bidirectional": True}), ("ln", {"peepholes": True}),
        (Norm(hidden="ln", between="ln"), {"num_layers": 2}), (Norm(hidden="ln", emitted="rms"), {}),
        ("ln", {"residual": "plain", "num_layers": 2, "hidden": 5}), ("ln", {"initial_state": "learned"}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_left_to_general_code(norm: Any, options: dict[str, Any], taken: Taken) -> None:
    assert_steps(build(norm, **({"hidden": 20, "backend": "auto"} | options)))
    assert taken.count in (0, 4)  # a learned state that is given is like any other


def test_in_inference_mode(taken: Taken) -> None:
    network = build("bn-timestep", 20, max_steps=6).eval()
    with torch.inference_mode():
        x = torch.randn(1, 1, 5, dtype=torch.float64)
        first, last = network(x)
        second, _ = network(x, last)
    assert taken.count == 2
    expected, last = twin(network)(x.clone())
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(second, twin(network)(x.clone(), last)[0])


def bias_back(network: Any) -> Callable[[], None]:
    kept, network.bias_ih_l0 = network.bias_ih_l0, None
    return lambda: setattr(network, "bias_ih_l0", kept)


def second_bias(network: Any) -> Callable[[], None]:
    return lambda: network.register_parameter("bias_hh_l0", nn.Parameter(torch.rand(80, dtype=torch.float64)))


def plain_bias(network: Any) -> Callable[[], None]:
    def change() -> None:
        kept = network.bias_ih_l0.detach() + 1
        del network.bias_ih_l0
        network.bias_ih_l0 = kept

    return change


def normalizer_back(network: Any) -> Callable[[], None]:
    kept, network.norms_l0.cell = network.norms_l0.cell, None
    return lambda: setattr(network.norms_l0, "cell", kept)


def normalizers_back(network: Any) -> Callable[[], None]:
    kept, network.norms_l0 = network.norms_l0, None
    return lambda: setattr(network, "norms_l0", kept)


def inner_bias_back(network: Any) -> Callable[[], None]:
    kept, network.norms_l0.cell.bias = network.norms_l0.cell.bias, None
    return lambda: setattr(network.norms_l0.cell, "bias", kept)


def emitted(network: Any) -> Callable[[], None]:
    norm = rnnnorm.norms.NORMALIZERS["rms"](20, gain=0.7, dtype=torch.float64)
    return lambda: setattr(network, "emitted_l0", norm)


def another_class(network: Any) -> Callable[[], None]:
    norm = network.norms_l0.hidden

    class Doubled(type(norm)):  # type: ignore[misc]
        def forward(self, x: Tensor, t: int = 0) -> Tensor:
            y: Tensor = 2 * super().forward(x, t)
            return y

    return lambda: setattr(norm, "__class__", Doubled)


@pytest.mark.parametrize("norm", ["ln:bias=true", "bn-timestep"])
@pytest.mark.parametrize(
    "prepare",
    [bias_back, second_bias, plain_bias, normalizer_back, normalizers_back, inner_bias_back, emitted, another_class],
    ids=lambda prepare: prepare.__name__,
)
def test_what_was_absent_is_noticed(prepare: Callable[[Any], Callable[[], None]], norm: str, taken: Taken) -> None:
    network = build(norm, 20, max_steps=6, backend="auto").eval()
    change = prepare(network)
    x, hx = torch.randn(1, 2, 5, dtype=torch.float64), given(network, 2)
    before = outputs(network, x, hx)
    assert taken.count == 1
    change()
    actual = outputs(network, x, hx)
    output, (h, c) = network(x, hx)
    assert_near(actual, {"output": output.detach(), "h_n": h.detach(), "c_n": c.detach()})
    assert distance(actual["output"], before["output"]) > 1e-3


def drawn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def tied(network: Any) -> None:
    network.bias_hh_l0 = network.bias_ih_l0
    nn.utils.parametrizations.weight_norm(network, "weight_hh_l0")


def larger_second_layer(network: Any) -> None:
    network.weight_ih_l1, network.weight_hh_l1 = drawn(80, 5), drawn(80, 20)
    network.bias_ih_l1, network.bias_hh_l1 = drawn(80), drawn(80)


def larger_layers(network: Any) -> None:
    network.weight_ih_l0, network.weight_hh_l0 = drawn(80, 4), drawn(80, 20)
    network.bias_ih_l0, network.bias_hh_l0 = drawn(80), drawn(80)
    network.weight_ih_l1 = drawn(80, 20)
    larger_second_layer(network)
    network.weight_ih_l1 = drawn(80, 20)


@pytest.mark.parametrize("change", [tied, larger_second_layer, larger_layers], ids=lambda change: change.__name__)
def test_weights_of_other_sizes_are_left_to_general_code(change: Callable[[Any], None], taken: Taken) -> None:
    network = LSTM(4, 5, num_layers=2).eval()
    change(network)
    x = torch.randn(1, 2, 4)
    try:
        expected = network(x)[0].detach()
    except (rnnnorm.packing.InputError, RuntimeError) as error:
        with pytest.raises(type(error)), torch.no_grad():
            network(x)
    else:
        torch.testing.assert_close(outputs(network, x)["output"], expected)
    assert not taken.count


def test_a_cell_with_weights_of_other_sizes(taken: Taken) -> None:
    cell = rnnnorm.LSTMCell(4, 5).eval()
    cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh = drawn(256, 4), drawn(256, 64), drawn(256), drawn(256)
    with torch.no_grad(), pytest.raises(RuntimeError):
        cell(torch.randn(2, 4))
    assert not taken.count


def test_cells_notice_methods_nonlinearities_and_kinds_of_steps(taken: Taken) -> None:
    x, h = torch.randn(2, 4), torch.randn(2, 5)
    with torch.no_grad():
        rnn = rnnnorm.RNNCell(4, 5).eval()
        rnn(x, h)
        rnn.cell.nonlinearity = "relu"
        assert (rnn(x, h) == 0).any()
        cell = rnnnorm.LSTMCell(4, 5, norm="ln").eval()
        before = cell(x)[0]
        weights = cell.layer_weights("")
        cell.layer_weights = lambda suffix, p=0.0: weights._replace(
            W_ih=2 * weights.W_ih, W_hh=2 * weights.W_hh, biases=()
        )  # type: ignore[method-assign]
        assert not torch.equal(cell(x)[0], before)
        stepped = rnnnorm.LSTMCell(4, 5, norm="bn-timestep", max_steps=4).eval()
        for stats in step_statistics(stepped):
            stats.running_mean.normal_()
            stats.num_rows.fill_(5)
        expected = stepped(x, (h, h), step=1)[0]
        count = taken.count
        torch.testing.assert_close(stepped(x, (h, h), step=torch.tensor(1))[0], expected)  # type: ignore[arg-type]
    assert count == 4
    assert taken.count == count


@pytest.mark.parametrize("shape", [(1, 20), (0, 20), (50, 19), (20,)], ids=str)
def test_statistics_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    cell = rnnnorm.LSTMCell(4, 5, norm="bn-timestep", max_steps=50).eval()
    stats = cell.norms.hidden.stats
    stats.num_rows.fill_(5)
    stats.running_mean, stats.running_var = torch.zeros(shape), torch.ones(shape)
    with torch.no_grad(), pytest.raises((IndexError, RuntimeError, ValueError)):
        cell(torch.randn(2, 4), None, step=40)


def test_statistics_without_memory_are_refused() -> None:
    network = LSTM(4, 5, norm="bn-timestep").eval()
    network.norms_l0.hidden.stats.to("meta")
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError)):
        network(torch.randn(1, 2, 4))


def test_memory_that_was_taken_away_is_no_input() -> None:
    network = LSTM(4, 5, norm="ln").eval()
    x = torch.randn(1, 2, 4)
    outputs(network, x)
    x.untyped_storage().resize_(0)
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError)):
        network(x)


def test_a_step_inside_a_step_runs_by_general_code(monkeypatch: pytest.MonkeyPatch, taken: Taken) -> None:
    """As in a signal's handler: the structure that compiled code reads belongs to the step outside."""
    network = build("bn-timestep", 20, max_steps=6).eval()
    x, other = torch.randn(2, 1, 1, 5, dtype=torch.float64)
    expected = outputs(network, x)
    run, inner = OneStep.run, []

    def interrupted(step: OneStep, *args: Any, **keys: Any) -> None:
        if not inner:
            inner.append(None)
            inner.append(outputs(network, other))
        run(step, *args, **keys)

    monkeypatch.setattr(OneStep, "run", interrupted)
    assert_near(outputs(network, x), expected)
    assert_near(inner[1], outputs(twin(network), other))
