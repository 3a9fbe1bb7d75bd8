"""PyTorch's tests of all its modules, from the samples of its own database, with rnnnorm's classes.

The samples (constructor arguments and inputs) ship with torch as `module_db`; the test bodies do not, and stand here.
Torch's samples are unbatched, and each is also run as a batch of three. What deviates is in `DEVIATIONS`, each with the
reason that docs/drop-in.md gives; an entry that deviates no longer fails.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.rnn import PackedSequence
from torch.testing import assert_close
from torch.testing._internal.common_modules import ErrorModuleInput, ModuleErrorEnum, module_db
from torch.utils._pytree import tree_leaves, tree_map

import rnnnorm

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
KINDS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
CELLS = KINDS[3:]
NORMS = ("none", "ln", "bn-vertical", "wn", "bn-timestep")
BATCH_NORMS = ("bn-vertical", "bn-timestep")
DTYPES = (torch.float32, torch.float64)
INFO: dict[str, Any] = {info.module_cls.__name__: info for info in module_db if info.module_cls.__name__ in KINDS}
PAGE = " ".join((Path(__file__).parents[1] / "docs" / "drop-in.md").read_text().split())

DEVIATIONS: dict[tuple[str, str, str], str] = {
    **{
        ("test_errors", kind, f"{bias!r} for bias"): "`bias` must be True or False in cells, too"
        for kind in CELLS
        for bias in ("relu", "tanh")
        if kind != "LSTMCell"
    },
    **{
        ("test_forward_as_torch_calls_it", kind, "bn-timestep"): "a cell must be told the number of the step"
        for kind in CELLS
    },
    **{
        ("test_training_and_evaluation_agree", kind, norm): "training normalizes by the batch, evaluation by stored"
        for kind in KINDS
        for norm in BATCH_NORMS
    },
    ("test_repr_is_torchs", "RNN", "none"): "`nonlinearity` is shown, in quotes",
    ("test_repr_is_torchs", "RNNCell", "none"): "`nonlinearity` is shown, in quotes",
}
"""By test, class, and norm or sample: the beginning of the reason that docs/drop-in.md gives."""


class Case(NamedTuple):
    """A module and what it is called with."""

    module: Any
    args: tuple[Any, ...]
    options: dict[str, Any]
    reference: Any = None

    def __call__(self) -> Any:
        return self.module(*self.args, **self.options)


def cases(
    kind: str,
    norm: str = "none",
    dtypes: tuple[torch.dtype, ...] = DTYPES,
    modes: tuple[bool, ...] = (True, False),
    stride: int = 1,
) -> Iterator[Case]:
    """Samples, all or every stride-th, as torch has them and as batches; cells that need one are told a step."""
    for dtype, training in itertools.product(dtypes, modes):
        for sample in inputs(kind, dtype, training)[:: 1 if kind in CELLS else stride]:
            module = build(kind, norm, sample.constructor_input).to(dtype).train(training)
            options = {"step": 0} if kind in CELLS and norm == "bn-timestep" else {}
            args = sample.forward_input.args
            packed = isinstance(args[0], PackedSequence)
            yield Case(module, args, options, None if packed else sample.reference_fn)
            if not packed:
                yield Case(module, batches(args, kind, module), options)


def inputs(kind: str, dtype: torch.dtype, training: bool) -> list[Any]:
    keys = {"device": "cpu", "dtype": dtype, "requires_grad": False, "training": training}
    return list(INFO[kind].module_inputs_func(INFO[kind], with_packed_sequence=True, **keys))


def build(kind: str, norm: str, constructor: Any, **options: Any) -> Any:
    keys = options if norm == "none" else {"norm": norm, "max_steps": 4, **options}
    return getattr(rnnnorm, kind)(*constructor.args, **constructor.kwargs, **keys)


def batches(args: tuple[Any, ...], kind: str, module: Any) -> tuple[Any, ...]:
    """The arguments for three sequences, of which the sample is the first one."""
    first = 0 if kind in CELLS or module.batch_first else 1
    three = lambda t, dim: torch.stack([t, t.flip(0), 0.5 * t.flip(-1)], dim)  # noqa: E731
    states = tree_map(lambda t: three(t, 0 if kind in CELLS else 1), args[1:])
    return (three(args[0], first), *states)


def parametrize(test: str, *columns: Any) -> list[Any]:
    """Parameters of a test, those that deviate marked so that they must."""
    parameters = []
    for row in itertools.product(*columns):
        reason = DEVIATIONS.get((test, *(str(part) for part in row)))
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
        parameters.append(pytest.param(*row, marks=marks))
    return parameters


def every(test: str, norms: tuple[str, ...] = NORMS) -> Any:
    return pytest.mark.parametrize(("kind", "norm"), parametrize(test, KINDS, norms))


def leaves(case: Case) -> tuple[tuple[Any, ...], list[Tensor]]:
    """Copies of the arguments that require gradients, as they are and flat."""
    args = tree_map(lambda t: t.detach().clone().requires_grad_(), case.args)
    return args, tree_leaves(args)


def gradients(case: Case, args: tuple[Any, ...]) -> list[Tensor]:
    """Of all tensors that go in and all parameters."""
    results = tree_leaves(case.module(*args, **case.options))
    loss = sum((r * torch.linspace(-1, 2, r.numel(), dtype=r.dtype).view_as(r)).sum() for r in results)
    given = [t for t in tree_leaves(args) if isinstance(t, Tensor) and t.requires_grad]
    found = torch.autograd.grad(loss, [*given, *case.module.parameters()], allow_unused=True)  # type: ignore[arg-type]
    return [torch.zeros(()) if g is None else g for g in found]


def test_every_reason_is_in_the_page() -> None:
    for reason in DEVIATIONS.values():
        assert reason in PAGE, reason


@every("test_unbatched_is_a_batch_of_one")
def test_unbatched_is_a_batch_of_one(kind: str, norm: str) -> None:
    for case in cases(kind, norm, stride=3):
        if case.reference is not None:
            expected = case.reference(case.module, *case.args, **case.options)
            assert_close(tree_leaves(case()), tree_leaves(expected))


@every("test_forward_as_torch_calls_it")
def test_forward_as_torch_calls_it(kind: str, norm: str) -> None:
    for case in cases(kind, norm, stride=3):
        assert all(t.isfinite().all() for t in tree_leaves(case.module(*case.args)) if isinstance(t, Tensor))


@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_are_torchs(kind: str) -> None:
    for case in cases(kind):
        names = inspect.signature(type(case.module)).parameters.keys() & {"bias", "num_layers", "batch_first"}
        names |= {"input_size", "hidden_size", "bidirectional", "proj_size", "nonlinearity"}
        keys = {name: getattr(case.module, name) for name in names if hasattr(case.module, name)}
        keys = {k: v for k, v in keys.items() if k != "proj_size" or v}
        dtype = next(case.module.parameters()).dtype
        theirs = getattr(nn, kind)(**keys, dtype=dtype).train(case.module.training)
        theirs.load_state_dict(case.module.state_dict())
        other = Case(theirs, case.args, {})
        assert_close(tree_leaves(case()), tree_leaves(other()))
        if not isinstance(case.args[0], PackedSequence):
            args, _ = leaves(case)
            # Sums in another order: torch's own float32 is up to 1.4 times the usual tolerance away from float64.
            near = {"rtol": 1e-5, "atol": 5e-5} if dtype == torch.float32 else {}
            assert_close(gradients(case, args), gradients(other, args), **near)


@every("test_factory_arguments")
def test_factory_arguments(kind: str, norm: str) -> None:
    for sample in inputs(kind, torch.float32, True)[:: 1 if kind in CELLS else 3]:
        for device, dtype in itertools.product(("cpu", "meta"), DTYPES):
            module = build(kind, norm, sample.constructor_input, device=device, dtype=dtype)
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                assert tensor.device.type == device, name
                assert tensor.dtype == dtype or not tensor.is_floating_point(), name
            with torch.device(device):
                by_context = build(kind, norm, sample.constructor_input)
            assert all(p.device.type == device for p in by_context.parameters())


@every("test_repr_can_be_evaluated")
def test_repr_can_be_evaluated(kind: str, norm: str) -> None:
    for case in cases(kind, norm, DTYPES[:1], (True,), stride=3):
        line = f"{kind}({case.module.extra_repr()})"
        rebuilt = eval(line, {kind: getattr(rnnnorm, kind)})
        assert repr(rebuilt) == repr(case.module)
        assert "None" not in repr(rebuilt)
        assert [(n, p.shape) for n, p in rebuilt.named_parameters()] == [
            (n, p.shape) for n, p in case.module.named_parameters()
        ]


@every("test_repr_is_torchs", ("none",))
def test_repr_is_torchs(kind: str, norm: str) -> None:
    for sample in inputs(kind, torch.float32, True):
        theirs = getattr(nn, kind)(*sample.constructor_input.args, **sample.constructor_input.kwargs)
        assert repr(build(kind, norm, sample.constructor_input)) == repr(theirs)


@every("test_state_dicts_are_loaded")
def test_state_dicts_are_loaded(kind: str, norm: str) -> None:
    for case in cases(kind, norm, DTYPES[:1], (True,), stride=5):
        case()
        fresh = build(kind, norm, inspect_constructor(case.module))
        for assign in (False, True):
            fresh.load_state_dict(case.module.state_dict(), assign=assign)
            a, b = case.module.eval(), fresh.eval()
            assert_close(tree_leaves(Case(a, *case[1:])()), tree_leaves(Case(b, *case[1:])()), rtol=0, atol=0)


def inspect_constructor(module: Any) -> Any:
    """The arguments that a module was built with, in the form of a sample's."""
    line = f"Arguments({module.extra_repr()})"
    keep = lambda *args, norm="none", max_steps=4, **kwargs: _Arguments(args, kwargs)  # noqa: E731
    return eval(line, {"Arguments": keep})


class _Arguments(NamedTuple):
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@every("test_non_contiguous_tensors")
def test_non_contiguous_tensors(kind: str, norm: str) -> None:
    def apart(t: Tensor) -> Tensor:
        return torch.stack([t, t], -1)[..., 0].detach().requires_grad_()

    for case in cases(kind, norm, DTYPES[1:], stride=3):
        if isinstance(case.args[0], PackedSequence):
            continue
        args, _ = leaves(case)
        twin = case._replace(module=copy.deepcopy(case.module))
        assert_close(gradients(twin, tree_map(apart, args)), gradients(case, args))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", CELLS)
def test_first_and_second_derivatives(kind: str, norm: str) -> None:
    """Of single steps; those of layers are in the contract of normalizers."""
    for case in cases(kind, norm, DTYPES[1:], (True,), stride=7):
        if case.reference is not None or isinstance(case.args[0], PackedSequence):
            continue  # batches alone: they take long enough
        args, flat = leaves(case)
        weights = list(case.module.parameters())

        def run(*tensors: Tensor, case: Case = case, args: Any = args) -> tuple[Tensor, ...]:
            return tuple(tree_leaves(case.module(*args, **case.options)))  # its parameters are perturbed in place

        assert gradcheck(run, (*flat, *weights), fast_mode=True)
        assert gradgradcheck(run, (*flat, *weights), fast_mode=True)


@every("test_training_and_evaluation_agree")
def test_training_and_evaluation_agree(kind: str, norm: str) -> None:
    for case in cases(kind, norm, DTYPES[1:], (True,), stride=3):
        in_evaluation = tree_leaves(case._replace(module=copy.deepcopy(case.module).eval())())
        assert_close(tree_leaves(case()), in_evaluation)


@every("test_what_has_no_memory_gets_some")
def test_what_has_no_memory_gets_some(kind: str, norm: str) -> None:
    """`to_empty` and `skip_init`, which are for weights that are loaded or drawn later."""
    for case in cases(kind, norm, DTYPES[:1], (False,), stride=3):
        constructor = inspect_constructor(case.module)
        meta = build(kind, norm, constructor, device="meta")
        meta.to_empty(device="cpu").reset_parameters()
        keys = {} if norm == "none" else {"norm": norm, "max_steps": 4}
        skipped = nn.utils.skip_init(getattr(rnnnorm, kind), *constructor.args, **constructor.kwargs, **keys)
        for other in (meta, skipped):
            other.load_state_dict(case.module.state_dict())
            assert_close(tree_leaves(case._replace(module=other.eval())()), tree_leaves(case()), rtol=0, atol=0)


@every("test_reset_parameters_starts_anew")
def test_reset_parameters_starts_anew(kind: str, norm: str) -> None:
    for case in cases(kind, norm, DTYPES[:1], (True,), stride=3):
        case()
        torch.manual_seed(7)
        case.module.reset_parameters()
        torch.manual_seed(7)
        fresh = build(kind, norm, inspect_constructor(case.module))
        assert_close(dict(case.module.state_dict()), dict(fresh.state_dict()))


def error_samples() -> list[Any]:
    found = []
    for kind in KINDS:
        keys = {"device": "cpu", "dtype": torch.float32, "requires_grad": False, "training": True}
        for number, sample in enumerate(INFO[kind].module_error_inputs_func(INFO[kind], **keys)):
            args = sample.module_error_input.constructor_input.args
            bias = next((a for a in args if isinstance(a, str)), None)
            reason = DEVIATIONS.get(("test_errors", kind, f"{bias!r} for bias"))
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            found.append(pytest.param(kind, sample, marks=marks, id=f"{kind}-{number}"))
    return found


@pytest.mark.parametrize(("kind", "sample"), error_samples())
def test_errors(kind: str, sample: ErrorModuleInput) -> None:
    """What torch refuses is refused by an error of the same type, at the same place, in other words."""
    given, norms = sample.module_error_input, ("none", "ln", "wn")
    for norm in norms:
        if sample.error_on is ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(sample.error_type):
                build(kind, norm, given.constructor_input)
        else:
            module = build(kind, norm, given.constructor_input)
            with pytest.raises(sample.error_type):
                module(*given.forward_input.args, **given.forward_input.kwargs)
