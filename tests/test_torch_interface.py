"""Code written for torch's recurrent modules, with rnnnorm's in their place: the same outcome, step by step."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import LENGTHS, padded
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, stateless
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

import rnnnorm

NORMS = ("none", "ln", "bn-timestep", "wn")
x = torch.randn(6, 3, 4)
Recipe = Callable[[Any], object]
RECIPES: dict[str, Recipe] = {}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def recipe(function: Recipe) -> Recipe:
    RECIPES[function.__name__] = function
    return function


def names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def trained(module: Any) -> tuple[object, ...]:
    """What comes out, and every gradient by name."""
    results = module(x)
    results[0].square().sum().backward()
    return results, {name: p.grad for name, p in module.named_parameters()}


# What is read


@recipe
def weights_as_lists(nn_: Any) -> object:
    m = nn_.LSTM(4, 5, 2, bidirectional=True, proj_size=2)
    return m._flat_weights_names, m._all_weights, m.all_weights, list(m._flat_weights), len(m._flat_weights)


@recipe
def modes(nn_: Any) -> object:
    found = [m.mode for m in (nn_.LSTM(4, 5), nn_.GRU(4, 5), nn_.RNN(4, 5), nn_.RNN(4, 5, nonlinearity="relu"))]
    return found, nn_.RNN(4, 5).nonlinearity, nn_.RNNCell(4, 5).nonlinearity


@recipe
def attributes(nn_: Any) -> object:
    m, g = nn_.LSTM(4, 5, 2, dropout=0.5), nn_.GRU(4, 5)
    own = (m.dropout, m.num_layers, m.bidirectional, m.batch_first, m.bias, m.input_size, m.hidden_size, m.proj_size)
    return own, g.proj_size, m.__constants__, hasattr(m, "weight_hr_l0"), hasattr(m, "bias_hh_l0_reverse")


@recipe
def classes(nn_: Any) -> object:
    layers, cells = (nn_.LSTM(4, 5), nn_.GRU(4, 5), nn_.RNN(4, 5)), (nn_.LSTMCell(4, 5), nn_.GRUCell(4, 5))
    return [isinstance(m, nn.RNNBase) for m in layers], [isinstance(m, nn.RNNCellBase) for m in cells]


@recipe
def order_of_parameters(nn_: Any) -> object:
    m = nn_.LSTM(4, 5, 2, bidirectional=True, proj_size=2)
    return names(m), [n for n, _ in m.named_modules()], list(m.children()), list(m.buffers())


@recipe
def representations(nn_: Any) -> object:
    layers = (nn_.LSTM(4, 5), nn_.LSTM(4, 5, 2, False, True, 0.5, True), nn_.GRU(4, 5, 2, bias=False), nn_.RNN(4, 5))
    return [repr(m) for m in (*layers, nn_.LSTMCell(4, 5), nn_.GRUCell(4, 5, bias=False), nn_.RNNCell(4, 5))]


@recipe
def cell_without_bias(nn_: Any) -> object:
    cell = nn_.LSTMCell(4, 5, bias=False)
    return cell.bias_ih, cell.bias_hh, cell.bias, names(cell), dict(cell.state_dict()), cell(x[0])


# What is called


@recipe
def checks(nn_: Any) -> object:
    m, g = nn_.LSTM(4, 5, 2, bidirectional=True, batch_first=True), nn_.GRU(4, 5)
    batch_first, states = x.transpose(0, 1), (torch.zeros(4, 3, 5),) * 2
    m.check_input(batch_first, None)
    m.check_hidden_size(states[0], (4, 3, 5))
    m.check_forward_args(batch_first, states, None)
    g.check_forward_args(x, torch.zeros(1, 3, 5), None)
    sizes = m.get_expected_hidden_size(batch_first, None), m.get_expected_cell_size(batch_first, None)
    return sizes, g.get_expected_hidden_size(x, None), g.get_expected_hidden_size(x[0], torch.tensor([3]))


@recipe
def checks_that_fail(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    caught = []
    for call in (
        lambda: m.check_input(x.double(), None),
        lambda: m.check_input(x[0], None),
        lambda: m.check_input(x[..., :3], None),
        lambda: m.check_forward_args(x, (torch.zeros(1, 3, 5), torch.zeros(1, 3, 4)), None),
    ):
        with pytest.raises((ValueError, RuntimeError)) as error:
            call()
        caught.append(str(error.value))
    return caught


@recipe
def permuted_states(nn_: Any) -> object:
    h, order = torch.arange(12.0).view(1, 3, 4), torch.tensor([2, 0, 1])
    m, g = nn_.LSTM(4, 4), nn_.GRU(4, 4)
    return m.permute_hidden((h, -h), order), m.permute_hidden((h, -h), None), g.permute_hidden(h, order)


@recipe
def flattened_after_other_types(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    m.half().flatten_parameters()
    low = m(x.half())[0].dtype
    m.float().flatten_parameters()
    m._init_flat_weights()
    return low, m(x)


@recipe
def by_keywords(nn_: Any) -> object:
    m = nn_.LSTM(input_size=4, hidden_size=5)
    h = torch.randn(1, 1, 5).expand(1, 3, 5)
    return m(input=x, hx=None), m(x, (h, h)), m(x, hx=[h, h])


@recipe
def optimized(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    optimizer = torch.optim.Adam(m.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        m(x)[0].square().sum().backward()
        optimizer.step()
    averaged = torch.optim.swa_utils.AveragedModel(m)
    averaged.update_parameters(m)
    return averaged(x)


@recipe
def frozen(nn_: Any) -> object:
    m = nn_.LSTM(4, 5).requires_grad_(False)
    return m(x)[0].requires_grad, m(x)


# Weights are written, shared, composed


@recipe
def filled_in_place(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    m.weight_hh_l0.data.fill_(0.1)
    m.bias_ih_l0.data[5:10].fill_(1.0)
    m.weight_ih_l0.data = torch.ones(20, 4)
    return m(x)


@recipe
def initialized_by_apply(nn_: Any) -> object:
    def initialize(module: nn.Module) -> None:
        if isinstance(module, nn.RNNBase):
            for name, p in module.named_parameters():
                if "weight" in name:
                    nn.init.orthogonal_(p)
                else:
                    nn.init.zeros_(p)
                    p.data[p.shape[0] // 4 : p.shape[0] // 2].fill_(1)

    model = nn.Sequential(nn_.LSTM(4, 5), nn.Linear(5, 2))
    model.apply(initialize)
    return model[0](x)


@recipe
def shared_between_modules(nn_: Any) -> object:
    a, b = nn_.LSTM(4, 5), nn_.LSTM(4, 5)
    b.weight_hh_l0 = a.weight_hh_l0
    (a(x)[0].sum() + b(x)[0].sum()).backward()
    return a.weight_hh_l0.grad, names(nn.ModuleList([a, b]))


@recipe
def shared_between_layers(nn_: Any) -> object:
    m = nn_.LSTM(5, 5, 2)
    m.weight_hh_l1 = m.weight_hh_l0
    m(torch.ones(6, 3, 5))[0].sum().backward()
    return m.weight_hh_l0.grad, names(m), list(m.state_dict())


@recipe
def computed(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    w = m.weight_hh_l0
    del m._parameters["weight_hh_l0"]
    m.register_parameter("raw", nn.Parameter(w.data))
    m.weight_hh_l0 = m.raw * 0.5
    return trained(m)


class WeightDrop(nn.Module):
    """As users of AWD-LSTM have it: the weight is drawn anew in each pass, and is no parameter of the module."""

    def __init__(self, module: Any, p: float) -> None:
        super().__init__()
        self.module, self.p = module, p
        self.raw = nn.Parameter(module.weight_hh_l0.data)
        del module.weight_hh_l0
        module.weight_hh_l0 = self.raw.clone()
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters = self.nothing

    def nothing(self) -> None:
        """In the place of `flatten_parameters`."""

    def forward(self, x: Tensor) -> Any:
        self.module.weight_hh_l0 = F.dropout(self.raw, self.p, self.training)
        return self.module(x)


@recipe
def weight_drop(nn_: Any) -> object:
    m = WeightDrop(nn_.LSTM(4, 5), 0.5)
    torch.manual_seed(3)
    return trained(m), m.eval()(x), m.module.flatten_parameters == m.nothing


@recipe
def list_of_weights_replaced(nn_: Any) -> object:
    """An idiom of code that copies weights between devices, and of weight drop."""
    m = nn_.LSTM(4, 5)
    m._flat_weights = [getattr(m, name) if hasattr(m, name) else None for name in m._flat_weights_names]
    return m(x)


@recipe
def pruned(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    prune.l1_unstructured(m, "weight_hh_l0", 0.3)
    result = trained(m)
    prune.remove(m, "weight_hh_l0")
    return result, m(x), names(m)


@recipe
def weight_normalized_by_hooks(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    nn.utils.weight_norm(m, "weight_hh_l0")
    result = trained(m)
    nn.utils.remove_weight_norm(m, "weight_hh_l0")
    return result, m(x), names(m)


@recipe
def weight_normalized_by_parametrization(nn_: Any) -> object:
    m = nn_.GRU(4, 5)
    parametrizations.weight_norm(m, "weight_hh_l0")
    return trained(m), dict(m.state_dict())


@recipe
def spectral_norm_by_hooks(nn_: Any) -> object:
    m = nn_.GRU(4, 5)
    nn.utils.spectral_norm(m, "weight_hh_l0")
    return trained(m), dict(m.state_dict())


@recipe
def orthogonal(nn_: Any) -> object:
    m = nn_.RNN(4, 5)
    parametrizations.orthogonal(m, "weight_hh_l0")
    return trained(m), dict(m.state_dict())


@recipe
def as_one_vector(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    vector = nn.utils.parameters_to_vector(m.parameters())
    nn.utils.vector_to_parameters(vector * 2, m.parameters())
    return vector, m(x)


@recipe
def clipped(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    m(x)[0].sum().backward()
    norm = nn.utils.clip_grad_norm_(m.parameters(), 0.1)
    nn.utils.clip_grad_value_(m.parameters(), 0.01)
    return norm, m.weight_hh_l0.grad


@recipe
def called_with_other_weights(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    doubled = {name: p * 2 for name, p in m.named_parameters()}
    return torch.func.functional_call(m, doubled, (x,)), stateless.functional_call(m, doubled, (x,)), m(x)


# Copies, state dicts, hooks, devices


@recipe
def copied(nn_: Any) -> object:
    m = nn_.LSTM(4, 5, 2, dropout=0.5).eval()
    file = io.BytesIO()
    torch.save(m, file)
    file.seek(0)
    copies = copy.deepcopy(m), copy.copy(m), pickle.loads(pickle.dumps(m)), torch.load(file, weights_only=False)
    return [c(x) for c in copies], copies[1].weight_hh_l0 is m.weight_hh_l0


@recipe
def assigned_from_a_state_dict(nn_: Any) -> object:
    m, onto = nn_.LSTM(4, 5), nn_.LSTM(4, 5, device="meta")
    state = m.state_dict()
    onto.load_state_dict(state, assign=True)
    return onto(x), onto.weight_hh_l0.requires_grad, onto.weight_hh_l0.data_ptr() == state["weight_hh_l0"].data_ptr()


@recipe
def started_without_memory(nn_: Any) -> object:
    """The random stream stands where it stood: nothing is drawn for a module on meta."""
    m = nn_.LSTM(4, 5, device="meta").to_empty(device="cpu")
    m.reset_parameters()
    return m(x)


@recipe
def hooks_of_state_dicts(nn_: Any) -> object:
    m, seen = nn_.LSTM(4, 5), []
    m.register_state_dict_post_hook(lambda module, state, prefix, meta: state.update(extra=torch.ones(1)))
    m.register_load_state_dict_post_hook(lambda module, keys: seen.append(keys.unexpected_keys))
    state = m.state_dict()
    m.load_state_dict(state, strict=False)
    return list(state), seen


@recipe
def hooks_of_passes(nn_: Any) -> object:
    m, seen = nn_.LSTM(4, 5), []
    m.register_forward_pre_hook(lambda module, args: seen.append(len(args)))
    m.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    m.register_full_backward_hook(lambda module, entering, leaving: seen.append((len(entering), len(leaving))))
    m.weight_hh_l0.register_hook(lambda gradient: gradient * 3)
    m(x.clone().requires_grad_())[0].sum().backward()
    return seen, m.weight_hh_l0.grad


@recipe
def shared_memory(nn_: Any) -> object:
    m = nn_.LSTM(4, 5).share_memory()
    return [p.is_shared() for p in m.parameters()], m(x)


@recipe
def data_parallel(nn_: Any) -> object:
    m = nn_.LSTM(4, 5)
    return nn.DataParallel(m)(x), sorted(m._replicate_for_data_parallel()._parameters)


@recipe
def other_types(nn_: Any) -> object:
    m = nn_.LSTM(4, 5).to(memory_format=torch.channels_last)
    return m(x), m.type(torch.float64)(x.double()), m.to(torch.bfloat16)(x.bfloat16())[0].dtype


@recipe
def left_alone_by_quantization(nn_: Any) -> object:
    model = nn.Sequential(nn_.GRU(4, 5))
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})[0](x)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str) -> None:
    outcomes = []
    for library in (nn, rnnnorm):
        torch.manual_seed(0)
        outcomes.append(RECIPES[name](library))
    theirs, ours = (tree_leaves(outcome) for outcome in outcomes)
    assert len(theirs) == len(ours)
    for a, b in zip(theirs, ours, strict=True):
        if isinstance(a, Tensor):
            assert_close(b, a, atol=1e-6, rtol=1e-5)
        else:
            assert a == b


def test_what_torch_has_no_name_for() -> None:
    """With a norm there is one bias, with peepholes there are three weights more, and the identity is no mode."""
    assert rnnnorm.LSTM(4, 5, norm="ln")._flat_weights_names == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"]
    gru = rnnnorm.GRU(4, 5, norm="ln")
    assert [w.shape for w in gru._flat_weights] == [(15, 4), (15, 5), (15,), (5,)]
    assert rnnnorm.LSTM(4, 5, peepholes=True)._all_weights[0][4:] == ["weight_ci_l0", "weight_cf_l0", "weight_co_l0"]
    assert rnnnorm.RNN(4, 5, nonlinearity="identity").mode == "RNN_IDENTITY"


def test_the_list_of_weights_is_not_written_to_in_vain() -> None:
    rnn, other = rnnnorm.LSTM(4, 5), rnnnorm.LSTM(4, 5)
    with pytest.raises(TypeError, match="item assignment"):
        rnn._flat_weights[0] = other.weight_ih_l0  # type: ignore[index]
    rnn._flat_weights = other._flat_weights
    assert rnn.weight_hh_l0 is other.weight_hh_l0
    assert torch.equal(rnn(x)[0], other(x)[0])
    with pytest.raises(ValueError, match="zip"):
        rnn._flat_weights = [rnn.weight_ih_l0]
    with pytest.raises(TypeError, match="cannot assign"):
        rnn._flat_weights = [w * 2 for w in rnn._flat_weights]


def test_torchs_classes_are_not_among_the_bases() -> None:
    """`torch.compile` refuses instances of them: the graph would break at each."""
    for kind in ("LSTM", "GRU", "RNN"):
        assert not isinstance(getattr(rnnnorm, kind)(4, 5), nn.LSTM | nn.GRU | nn.RNN)


# Weights are read once per pass


class Counted(nn.Module):
    """Composes a weight from itself and counts how often."""

    times = 0

    def forward(self, W: Tensor) -> Tensor:
        self.times += 1
        return W * 1.0


@pytest.mark.parametrize("norm", ["none", "ln", "wn"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_each_weight_is_read_once(kind: str, norm: str) -> None:
    cell = kind.endswith("Cell")
    options = {"peepholes": True} if kind.startswith("LSTM") else {}
    options |= {} if cell else {"num_layers": 2, "bidirectional": True}
    rnn = getattr(rnnnorm, kind)(4, 5, norm=norm, **options)
    weights = [*rnn._parameters, *getattr(rnn, "parametrizations", ())]
    for name in weights:
        parametrize.register_parametrization(rnn, name, Counted())
    counters = {
        name: next(m for m in rnn.parametrizations[name] if isinstance(m, Counted)) for name in rnn.parametrizations
    }
    assert len(counters) == len(weights)
    for batch in (x, x[:, :0]) if not cell else (x[0], x[0, :0]):
        for counter in counters.values():
            counter.times = 0
        rnn(batch)
        assert {name: counter.times for name, counter in counters.items()} == dict.fromkeys(counters, 1)


@pytest.mark.parametrize("weight", ["weight_ih_l0", "weight_hh_l0"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_spectral_norm_iterates_once_per_pass(kind: str, weight: str) -> None:
    """Torch's modules read each weight four times per pass, so that four power iterations are made, not the one asked
    for; where they read it once, everything is the same.
    """
    found: list[dict[str, Tensor]] = []
    start = getattr(nn, kind)(4, 5, dtype=torch.float64).state_dict()
    for library, reading in ((rnnnorm, nullcontext), (nn, parametrize.cached), (nn, nullcontext)):
        rnn = getattr(library, kind)(4, 5, dtype=torch.float64)
        rnn.load_state_dict(start)
        torch.manual_seed(0)
        parametrizations.spectral_norm(rnn, weight)
        for _ in range(2):
            rnn.zero_grad()
            with reading():
                output = rnn(x.double())[0]
            output.square().sum().backward()
        gradients = {name: p.grad for name, p in rnn.named_parameters()}
        found.append({"output": output, **gradients, **dict(rnn.named_buffers())})
    ours, read_once, as_it_is = found
    assert_close(ours, read_once, atol=1e-12, rtol=1e-9)
    assert any(not torch.allclose(ours[name], value, rtol=1e-9) for name, value in as_it_is.items())


# Subclasses with a constructor of their own


class Sized(rnnnorm.LSTM):
    """One that takes something else and has something more."""

    def __init__(self, size: int, norm: str) -> None:
        super().__init__(4, size, num_layers=2, norm=norm)
        self.head = nn.Linear(size, 2)
        self.label = "mine"
        self.myself = [self]


class Passing(rnnnorm.LSTM):
    def __init__(self, *a: Any, **k: Any) -> None:
        super().__init__(*a, **k)


class SizedCell(rnnnorm.GRUCell):
    def __init__(self, size: int, norm: str) -> None:
        super().__init__(4, size, norm=norm)
        self.label = "mine"


@pytest.mark.parametrize("norm", NORMS)
class TestSubclasses:
    def test_representation(self, norm: str) -> None:
        shown = "" if norm == "none" else f", norm={norm!r}"
        assert f"4, 5, batch_first=True{shown}" in repr(Passing(4, 5, batch_first=True, norm=norm))
        assert f"4, 6, num_layers=2{shown}" in repr(Sized(6, norm))
        assert f"4, 6{shown}" in repr(SizedCell(6, norm))

    def test_copies(self, norm: str) -> None:
        module = Sized(6, norm)
        module(padded(), lengths=LENGTHS)
        module.eval()
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        copies = pickle.loads(pickle.dumps(module)), copy.deepcopy(module), torch.load(file, weights_only=False)
        for other in copies:
            assert isinstance(other, Sized)
            assert other.label == "mine"
            assert other.myself[0] is other
            assert torch.equal(other.head.weight, module.head.weight)
            assert torch.equal(other(padded() * 0, lengths=LENGTHS)[0], module(padded() * 0, lengths=LENGTHS)[0])
            assert other.state_dict().keys() == module.state_dict().keys()
            assert repr(other) == repr(module)
            again = pickle.loads(pickle.dumps(other))
            again.load_state_dict(module.state_dict())
            nn.init.zeros_(next(again.parameters()))
            assert next(module.parameters()).any()

    def test_copies_of_cells(self, norm: str) -> None:
        module = SizedCell(6, norm).eval()
        for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
            assert other.label == "mine"
            assert torch.equal(other(x[0], step=0), module(x[0], step=0))

    def test_from_torch(self, norm: str) -> None:
        source = nn.LSTM(4, 5, proj_size=2)
        module = Passing.from_torch(source, norm=norm)
        assert module.proj_size == 2
        assert torch.equal(module.weight_hr_l0, source.weight_hr_l0)


def test_from_torch_takes_composed_weights() -> None:
    source = nn.LSTM(4, 5)
    nn.utils.weight_norm(source, "weight_hh_l0")
    parametrizations.weight_norm(source, "weight_ih_l0")
    assert_close(rnnnorm.LSTM.from_torch(source)(x), source(x))


@pytest.mark.parametrize("norm", ["none", "wn"])
def test_weights_that_others_reparametrize_are_pickled_too(norm: str) -> None:
    """Which torch refuses: the classes are made at run time."""
    rnn = rnnnorm.LSTM(4, 5, norm=norm)
    parametrizations.spectral_norm(rnn, "weight_hh_l0")
    rnn.eval()
    other = pickle.loads(pickle.dumps(rnn))
    assert torch.equal(other(x)[0], rnn(x)[0])
    assert parametrize.is_parametrized(other, "weight_hh_l0")
    parametrize.remove_parametrizations(other, "weight_hh_l0")
    assert torch.equal(other(x)[0], rnn(x)[0])
    assert parametrize.is_parametrized(rnn, "weight_hh_l0")


@pytest.mark.parametrize("pickled", [False, True])
def test_what_older_weight_norm_has_saved_is_loaded(pickled: bool) -> None:
    source = nn.LSTM(4, 5)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        nn.utils.weight_norm(source, name)
    state = source.state_dict()
    state["bias_ih_l0"] = state["bias_ih_l0"] + state.pop("bias_hh_l0")
    rnn = rnnnorm.LSTM(4, 5, norm="wn")
    rnn = pickle.loads(pickle.dumps(rnn)) if pickled else rnn
    rnn.load_state_dict(state)
    assert_close(rnn(x), source(x))
