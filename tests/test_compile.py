"""Recurrent networks inside `torch.compile(fullgraph=True)`: one operator that does what it does otherwise."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._inductor.config
from support import KINDS, LENGTHS
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import rnnnorm
from rnnnorm.nn import compiled as in_graphs
from rnnnorm.nn import operator

INPUT, HIDDEN = 3, 5


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Graphs of one test are none of the next one's."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


BACKENDS = ["eager", "aot_eager", "inductor"]


def compiled(module: Any, backend: str = "aot_eager") -> Any:
    return torch.compile(module, fullgraph=True, backend=backend)


def build(norm: str = "bn-timestep", cell: Any = rnnnorm.LSTM, **options: Any) -> Any:
    return cell(INPUT, HIDDEN, norm=norm, dtype=torch.float64, **options)


def rows(*shape: int) -> Tensor:
    return torch.randn(*(shape or (4, 6)), INPUT, dtype=torch.float64)


def step(call: Callable[..., Any], module: nn.Module, x: Tensor, *args: Any, **kw: Any) -> dict[str, Tensor]:
    """Outputs, gradients and buffers of one training step through `call`, which is the module or its compiled self."""
    x = x.clone().requires_grad_()
    for parameter in module.parameters():
        parameter.grad = None
    output, state = call(x, *args, **kw)
    states = state if isinstance(state, tuple) else (state,)
    (output.square().sum() + sum((k + 2) * s.sin().sum() for k, s in enumerate(states))).backward()
    results = {"output": output, **{f"state {k}": s for k, s in enumerate(states)}, "x": x.grad}
    results |= {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    results |= {name: b.clone() for name, b in module.named_buffers() if b is not None}
    return {name: value.detach().clone() for name, value in results.items()}


def assert_as_eagerly(module: Any, x: Tensor, *args: Any, backend: str = "aot_eager") -> dict[str, Tensor]:
    """One training step of a module and of its copy that is not compiled; what the former finds."""
    plain = copy.deepcopy(module)
    actual = step(compiled(module, backend), module, x, *args)
    assert_same(actual, step(plain, plain, x, *args))
    return actual


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-10, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("cell", [rnnnorm.GRU, rnnnorm.RNN])
def test_other_cells(cell: Any) -> None:
    assert_as_eagerly(build("ln", cell), rows())


def test_inductor() -> None:
    assert_as_eagerly(build(), rows(), backend="inductor")


def test_other_shapes() -> None:
    """Another number of steps or sequences is the same graph or another one."""
    module = build()
    plain, call = copy.deepcopy(module), compiled(module)
    for T, B in ((4, 6), (7, 6), (3, 8), (1, 2)):
        x = rows(T, B)
        assert_same(step(call, module, x), step(plain, plain, x))


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_given_states(batch_first: bool) -> None:
    hx = tuple(torch.randn(2, 4 if batch_first else 6, HIDDEN, dtype=torch.float64) for _ in range(2))
    assert_as_eagerly(build(batch_first=batch_first, num_layers=2), rows(), hx)


def test_inside_a_model() -> None:
    """Between other layers, two of them, gradients flowing through both."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = rnnnorm.LSTM(INPUT, HIDDEN, norm="ln", dtype=torch.float64)
            self.between = nn.Linear(HIDDEN, INPUT, dtype=torch.float64)
            self.second = build("bn-timestep")

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            middle = self.between(self.first(x * 2)[0]).tanh()
            output, (h_n, _) = self.second(middle)
            return output + 1, h_n

    module = Model()
    plain, call = copy.deepcopy(module), compiled(module)
    for _ in range(2):
        x = rows()
        assert_same(step(call, module, x), step(plain, plain, x))


@pytest.mark.parametrize("norm", ["ln", "bn-timestep"])
def test_ragged_batches(norm: str) -> None:
    """A PackedSequence goes in and comes out."""
    module = build(norm, bidirectional=True)
    plain = copy.deepcopy(module)
    packed = pack_padded_sequence(rows(7, 5), LENGTHS, enforce_sorted=False)

    def call(lstm: Any) -> Callable[[Tensor], Any]:
        def inner(x: Tensor) -> Any:
            output, state = lstm(PackedSequence(x, *packed[1:]))
            return output.data, state

        return inner

    assert_same(step(compiled(call(module)), module, packed.data), step(call(plain), plain, packed.data))


def test_one_sequence_without_a_batch() -> None:
    assert_as_eagerly(build("ln"), rows(6))


def test_frozen_parameters() -> None:
    module = build("ln")
    module.weight_hh_l0.requires_grad_(False)
    assert "weight_hh_l0" not in assert_as_eagerly(module, rows())


def test_an_optimizer_is_followed() -> None:
    """Compiled code must not remember the weights of the first step."""
    module = build("bn-timestep")
    plain, call = copy.deepcopy(module), compiled(module)
    optimizers = [torch.optim.SGD(m.parameters(), 0.5) for m in (module, plain)]
    for _ in range(3):
        x = rows()
        assert_same(step(call, module, x), step(plain, plain, x))
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    """Types as eagerly, and values not farther from those in double precision."""
    module = rnnnorm.LSTM(INPUT, HIDDEN, norm="ln", dtype=dtype)
    plain, x = copy.deepcopy(module), rows().to(dtype)
    exact, _ = copy.deepcopy(module).double()(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        expected, (h_n, _) = plain(x)
        actual, (h, _) = compiled(module)(x)
    assert (actual.dtype, h.dtype) == (expected.dtype, h_n.dtype)
    assert (actual - exact).norm() < 1.5 * (expected - exact).norm() + 1e-3
    actual.sum().backward()
    expected.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad, rtol=0.1, atol=0.3)


def test_nothing_waits_after_the_graph() -> None:
    """What forward leaves for backward lives as long as the graph, and is not there without one."""
    gc.collect()
    before = len(operator._waiting)
    module = build()
    call = compiled(module)
    output, state = call(rows())
    assert len(operator._waiting) == before + 1
    (output.sum() + state[0].sum()).backward()
    del output, state
    gc.collect()
    assert len(operator._waiting) == before
    forgotten = call(rows())  # never differentiated
    del forgotten
    gc.collect()
    assert len(operator._waiting) == before
    with torch.no_grad():
        kept = call(rows())
    assert len(operator._waiting) == before
    assert not kept[0].requires_grad


def test_two_graphs_at_once() -> None:
    """Differentiated in the other order than they were made."""
    module = build("ln")
    plain, call = copy.deepcopy(module), compiled(module)
    inputs = rows(), rows()
    found = []
    for network in (plain, call):
        first, second = (network(x)[0].square().sum() for x in inputs)
        gradients = [
            torch.autograd.grad(loss, list((plain if network is plain else module).parameters()))
            for loss in (second, first)
        ]
        found.append([g for pair in gradients for g in pair])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
}


@pytest.mark.parametrize("norm", ["bn-timestep", "wn"])
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_compiles_to_itself(kind: str, norm: str) -> None:
    """Not to the module it was copied from, whose weights and statistics stay as they are."""
    original = build(norm)
    other = COPIES[kind](original)
    if kind != "copy":  # a shallow one shares its parameters
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.5)
        before = {name: b.clone() for name, b in original.named_buffers()}
    assert_as_eagerly(other, rows())
    if kind != "copy":
        assert_same(dict(original.named_buffers()), before)


def test_tensors_are_not_kept_alive() -> None:
    """What a compiled graph was run with is let go: weights, statistics, inputs."""
    module = build("bn-timestep")
    x = rows()
    compiled(module)(x)[0].sum().backward()
    compiled(module.eval())(x)
    seen = [weakref.ref(t) for t in (x, module.weight_hh_l0, module.norms_l0.input.gain)]
    del module, x
    torch._dynamo.reset()
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3


def test_eager_calls_are_no_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a compiled graph nothing is wrapped."""
    calls: list[int] = []
    monkeypatch.setattr(in_graphs, "run", lambda *args: calls.append(1))
    build()(rows())
    assert not calls


FURTHER: dict[str, dict[str, Any]] = {
    "dropout": {"num_layers": 2, "dropout": 0.5},
    "zoneout": {"zoneout": 0.3},
    "all": {
        "hidden_dropout": 0.4, "recurrent_dropout": 0.2, "weight_dropout": 0.3, "variational_dropout": 0.2,
    },
}  # fmt: skip


@pytest.fixture
def _same_stream() -> Iterator[None]:
    """Inductor draws from another random stream than eager code unless it is told not to."""
    with torch._inductor.config.patch(fallback_random=True):
        yield


@pytest.mark.usefixtures("_same_stream")
@pytest.mark.parametrize("backend", BACKENDS)
class TestAFunctionOfItsArguments:
    """The operator knows nothing but what it is given."""

    @pytest.mark.parametrize("norm", ["wn", "bn-timestep"])
    def test_given_parameters(self, backend: str, norm: str) -> None:
        """`functional_call` with other weights and gains than the module's own."""
        module = build(norm)
        given = {name: p.detach() * 2 for name, p in module.named_parameters()}
        x = rows()

        def call(given: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(module, given, (x,))[0]

        expected = call(given, x)
        torch.testing.assert_close(compiled(call, backend)(given, x), expected)
        assert not torch.allclose(module(x)[0], expected)

    @pytest.mark.parametrize("options", FURTHER.values(), ids=FURTHER)
    def test_each_pass_draws_its_own_masks(self, backend: str, options: dict[str, Any]) -> None:
        module = build("none", **options)

        def twice(x: Tensor) -> tuple[Tensor, Tensor]:
            return module(x)[0], module(x)[0]

        x = rows()
        torch.manual_seed(1)
        first, second = compiled(twice, backend)(x)
        assert not torch.equal(first, second)
        torch.manual_seed(1)
        expected = twice(x)
        torch.testing.assert_close((first, second), expected)

    @pytest.mark.parametrize("options", [*FURTHER.values(), {"norm": "bn-timestep"}], ids=[*FURTHER, "statistics"])
    def test_checkpointing(self, backend: str, options: dict[str, Any]) -> None:
        """What is computed again draws the same masks and reads the same statistics, and moves them once."""
        plain = build(**{"norm": "none", **options})
        module, x = copy.deepcopy(plain), rows()

        def loss(x: Tensor) -> Tensor:
            return checkpoint(lambda x: module(x)[0].square().sum(), x, use_reentrant=False)

        # Dynamo's own "eager" draws other masks again, also those of nn.Dropout: here it stands for no compiler at all.
        call = loss if backend == "eager" else compiled(loss, backend)
        for seed in (1, 2):
            found = []
            for run in (call, lambda x: plain(x)[0].square().sum()):
                torch.manual_seed(seed)
                entering = x.clone().requires_grad_()
                value = run(entering)
                found.append((value, *torch.autograd.grad(value, entering)))
            torch.testing.assert_close(*found)
        assert_same(dict(module.named_buffers()), dict(plain.named_buffers()))

    def test_statistics_move_where_nobody_wants_the_output(self, backend: str) -> None:
        module = build()
        plain, x = copy.deepcopy(module), rows()

        def call(x: Tensor) -> Tensor:
            module(x), module(x)
            return x * 2

        compiled(call, backend)(x)
        plain(x), plain(x)
        assert_same(dict(module.named_buffers()), dict(plain.named_buffers()))

    def test_gradient_hooks_run_once(self, backend: str) -> None:
        module = build("none")
        plain, x = copy.deepcopy(module), rows()
        module.weight_hh_l0.register_hook(lambda g: g * 3)
        compiled(module, backend)(x)[0].sum().backward()
        plain(x)[0].sum().backward()
        torch.testing.assert_close(module.weight_hh_l0.grad, 3 * plain.weight_hh_l0.grad)

    def test_a_weight_computed_anew(self, backend: str) -> None:
        """As weight dropping and hypernetworks do."""
        module = build("none")
        raw = nn.Parameter(module.weight_hh_l0.detach().clone())
        del module._parameters["weight_hh_l0"]
        module.weight_hh_l0 = raw * 0.5

        def call(x: Tensor) -> Tensor:
            module.weight_hh_l0 = raw * 0.5
            return module(x)[0].square().sum()

        network, x = compiled(call, backend), rows()
        for _ in range(2):
            found = []
            for run in (network, call):
                value = run(x)
                found.append((value.detach(), *torch.autograd.grad(value, raw)))
            torch.testing.assert_close(*found)
            with torch.no_grad():
                raw.mul_(1.1)

    @pytest.mark.parametrize("norm", ["ln", "bn-star"])
    def test_without_a_ticket(self, backend: str, norm: str) -> None:
        """Gradients do not depend on what the forward pass has left behind."""
        plain = build(norm, num_layers=2, dropout=0.3, zoneout=0.1)
        found = []
        for lost in (False, True):
            module = copy.deepcopy(plain)
            call = compiled(module, backend)
            torch.manual_seed(1)
            x = rows().requires_grad_()
            output, state = call(x)
            if lost:
                operator._waiting.clear()
            (output.square().sum() + state[1].sum()).backward()
            found.append([x.grad, *(p.grad for p in module.parameters())])
        torch.testing.assert_close(*found)


def test_attributes_that_change() -> None:
    """Modes, options of normalizers and probabilities hold from the next call on: guards, before any backend."""
    module = build(num_layers=2)
    plain, call = copy.deepcopy(module), compiled(module)
    changes: list[Callable[[Any], Any]] = [
        lambda network: None,
        lambda network: setattr(network.norms_l0.hidden, "momentum", 0.5),
        lambda network: setattr(network.norms_l0.hidden, "momentum", 0.25),
        lambda network: setattr(network.norms_l1.cell, "min_rows", 100),
        lambda network: setattr(network, "dropout", 0.5),
        lambda network: network.eval(),
        lambda network: setattr(network.norms_l1.cell.stats, "source", "batch"),
        lambda network: network.train(),
    ]
    for change in changes:
        x = rows()
        for network in (module, plain):
            change(network)
        torch.manual_seed(2)
        actual = call(x)
        torch.manual_seed(2)
        torch.testing.assert_close(actual, plain(x))
        assert_same(dict(module.named_buffers()), dict(plain.named_buffers()))


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "batch_first": True}], ids=["plain", "turned"])
def test_lengths_are_data(options: dict[str, Any]) -> None:
    """Other lengths, batches and numbers of steps need no other graph, once sizes are known to vary."""
    module = build("ln", **options)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    call = torch.compile(module, fullgraph=True, backend=counter)
    for B, T in ((3, 6), (4, 7), (5, 9), (2, 30), (7, 3)):
        x = rows(B, T) if options else rows(T, B)
        lengths = torch.randint(1, T + 1, (B,))
        torch.testing.assert_close(call(x, lengths=lengths), module(x, lengths=lengths))
    assert counter.frame_count <= 2


def test_lengths_are_checked_when_they_come() -> None:
    call = compiled(build("ln"))
    call(rows(6, 3), lengths=torch.tensor([6, 2, 1]))
    with pytest.raises(ValueError, match=r"lengths\[1\] = 7"):
        call(rows(6, 3), lengths=torch.tensor([6, 7, 1]))


def test_packed_rows_are_checked_when_they_come() -> None:
    module = build("none")
    call = compiled(lambda data, sizes: module(PackedSequence(data, sizes))[0].data)
    packed = pack_padded_sequence(rows(7, 5), [7, 5, 4, 2, 1])
    call(packed.data, packed.batch_sizes)
    with pytest.raises(ValueError, match="batch_sizes"):
        call(packed.data, packed.batch_sizes.flip(0))


@pytest.mark.parametrize("sorted_", [True, False])
def test_packed_sequences_vary(sorted_: bool) -> None:
    module = build("bn-timestep", bidirectional=True, initial_state="learned").eval()

    def call(*packed: Any) -> Any:
        output, state = module(PackedSequence(*packed))
        return output.data, state

    network = compiled(call)
    for B, T in ((3, 6), (4, 7), (2, 9)):
        lengths = torch.randint(1, T + 1, (B,))
        lengths = lengths.sort(descending=True).values if sorted_ else lengths
        packed = pack_padded_sequence(rows(T, B), lengths, enforce_sorted=sorted_)
        torch.testing.assert_close(network(*packed), call(*packed))


CASTS = [torch.float32, torch.bfloat16, torch.float64]
CELLS = [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN]


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "around"])
@pytest.mark.parametrize("dtype", CASTS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_autocast_types(cell: Any, dtype: torch.dtype, inside: bool) -> None:
    """Types are those of eager code, which depend on the equations; each norm meets each cell, type and place."""
    norm = ("none", "ln", "bn-timestep")[(CELLS.index(cell) + CASTS.index(dtype) + inside) % 3]
    module = cell(INPUT, HIDDEN, norm=norm, dtype=dtype)
    plain, x = copy.deepcopy(module), rows().to(dtype)

    def call(network: Any, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            return network(x)

    with torch.autocast("cpu", torch.bfloat16, enabled=not inside):
        torch.testing.assert_close(compiled(call)(module, x), call(plain, x), rtol=0.02, atol=0.02)


def test_fake_tensors() -> None:
    """Shapes without numbers."""
    with FakeTensorMode():
        module = rnnnorm.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True, norm="bn-timestep")
        for lengths in (None, torch.tensor([4, 2, 1])):
            output, (h_n, c_n) = module(torch.empty(4, 3, INPUT), lengths=lengths)
            assert (output.shape, h_n.shape, c_n.shape) == ((4, 3, 2 * HIDDEN), (4, 3, HIDDEN), (4, 3, HIDDEN))


def listen(module: Any, heard: list[Any]) -> None:
    module.norms_l0.hidden.register_forward_hook(lambda *_: heard.append(1))


def tap(module: Any, heard: list[Any]) -> None:
    inner = module.run_direction
    module.run_direction = lambda *args: heard.append(1) or inner(*args)


def replace_forward(module: Any, heard: list[Any]) -> None:
    inner = module.norms_l0.cell.forward
    module.norms_l0.cell.forward = lambda *args: heard.append(1) or inner(*args)


@pytest.mark.parametrize("late", [True, False], ids=["late", "early"])
@pytest.mark.parametrize("attach", [listen, tap, replace_forward])
def test_listeners_are_heard(attach: Callable[..., None], late: bool) -> None:
    """Where somebody listens inside, the network runs outside of the graph, also if it was compiled before."""
    module, heard = build(), []
    call, x = torch.compile(module, backend="aot_eager"), rows()
    if late:
        call(x)
    attach(module, heard)
    torch.testing.assert_close(call(x)[0], module(x)[0])
    assert len(heard) in (2, 2 * x.shape[0])  # both calls, each direction or each step
    torch._dynamo.reset()
    with pytest.raises(Exception, match="outside"):
        compiled(module)(x)


def test_another_normalizer_in_its_place() -> None:
    module = build("bn-timestep")
    call, x = torch.compile(module, backend="aot_eager"), rows()
    call(x)
    module.norms_l0.hidden = rnnnorm.norms.LayerNorm(4 * HIDDEN, dtype=torch.float64)
    torch.testing.assert_close(call(x)[0], module(x)[0])


def test_a_subclass_that_runs_otherwise() -> None:
    """Its own way through the layers is what is compiled."""

    class Doubled(rnnnorm.LSTM):
        def leave_layer(self, *args: Any, **keys: Any) -> Tensor:
            return 2 * super().leave_layer(*args, **keys)

    module, x = Doubled(INPUT, HIDDEN, norm="ln", dtype=torch.float64), rows()
    torch.testing.assert_close(compiled(module)(x), module(x))


WHOLE = {"none", "wn", "ln", "bn-timestep", "dyt"}
"""Presets of which a network is in one graph for certain, one of each kind."""


@pytest.mark.parametrize("norm", KINDS)
def test_every_kind(norm: str) -> None:
    """Three steps of training, then evaluation; what cannot be in a graph runs outside of it."""
    whole = norm in WHOLE
    module = build(norm, num_layers=2, bidirectional=whole)
    plain, call = copy.deepcopy(module), torch.compile(module, fullgraph=whole, backend="aot_eager")
    for _ in range(3):
        x = rows()
        assert_same(step(call, module, x), step(plain, plain, x))
    module.eval(), plain.eval()
    torch.testing.assert_close(call(x), plain(x))


OUTSIDE = {"atn", "brn", "cbn", "cmbn", "cmbn-accumulated", "online", "power", "rbn", "streaming"}
"""Presets whose single steps need more than tensors."""


@pytest.mark.parametrize("norm", KINDS)
def test_a_single_cell(norm: str) -> None:
    """Step by step in one graph for all steps, but for those that keep more than tensors between steps."""
    module = rnnnorm.LSTMCell(INPUT, HIDDEN, norm=norm, dtype=torch.float64)
    plain = copy.deepcopy(module)
    call = torch.compile(module, fullgraph=norm not in OUTSIDE, backend="aot_eager")

    def walk(cell: Any, x: Tensor) -> Any:
        state = None
        for t, x_t in enumerate(x):
            state = cell(x_t, state, step=t)
        return state[0], state

    for _ in range(2):
        x = rows(12, 6)
        found = [step(lambda x, c=c: walk(c, x), m, x) for c, m in ((call, module), (plain, plain))]
        assert_same(*found)
    module.eval(), plain.eval()
    torch.testing.assert_close(walk(call, x[:2]), walk(plain, x[:2]))
    if norm in OUTSIDE:
        torch._dynamo.reset()
        with pytest.raises(Exception, match="outside"):
            torch.compile(module.train(), fullgraph=True, backend="aot_eager")(x[0], step=0)


def test_equations_that_change() -> None:
    module = build("ln", rnnnorm.RNN)
    call, x = torch.compile(module, backend="aot_eager"), rows()
    call(x)
    module.cell.nonlinearity = "identity"
    torch.testing.assert_close(call(x)[0], module(x)[0])
