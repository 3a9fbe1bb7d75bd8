"""What all normalizers of the batch family have in common."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from support import assert_same, buffers
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from rnnnorm.norms import BatchNorm, Normalizer, recalibrate, statistics
from rnnnorm.norms.absolute import L1BatchNorm
from rnnnorm.norms.cross_batch import AccumulatedBatchNorm, CrossBatchNorm
from rnnnorm.norms.cross_iteration import CrossIterationBatchNorm
from rnnnorm.norms.mean_only import MeanOnlyBatchNorm
from rnnnorm.norms.renorm import BatchRenorm

I, F, B, T = 3, 4, 6, 3  # noqa: E741
SIZES = [6, 4, 2]
FAMILY: dict[str, Callable[..., Normalizer]] = {
    "bn": BatchNorm,
    "brn": lambda *a, **k: BatchRenorm(*a, warmup=0, r_end=1, d_end=1, **k),
    "cmbn": CrossBatchNorm,
    "cmbn-accumulated": AccumulatedBatchNorm,
    "cbn": CrossIterationBatchNorm,
    "mobn": MeanOnlyBatchNorm,
    "bn-l1": L1BatchNorm,
}
SCOPES = ("sequence", "timestep", "shared")


def make(name: str, statistics: str = "timestep", **options: object) -> Normalizer:
    keys = {"max_steps": T, "bias": True, "dtype": torch.float64, **options}
    norm = FAMILY[name](F, statistics=statistics, **keys)
    for p in norm.parameters():
        torch.nn.init.uniform_(p, 0.5, 1.5)
    return norm


def weight() -> Tensor:
    return torch.randn(F, I, dtype=torch.float64)


def rows() -> Tensor:
    return torch.randn(sum(SIZES), I, dtype=torch.float64) + 0.5


def trained(name: str, scope: str = "timestep", batches: int = 3, **options: object) -> tuple[Normalizer, Tensor]:
    """A normalizer that has seen some batches under slowly moving weights, and the last of these."""
    norm, W = make(name, scope, **options), weight()
    for _ in range(batches):
        W = W + 0.1 * weight()
        norm.sequence_linear(rows(), W, SIZES)
    return norm, W


def cases(*, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    pairs = [(n, s) for n in FAMILY for s in SCOPES if (n, s) != ("cbn", "shared") and n not in but]
    return pytest.mark.parametrize(("name", "scope"), pairs, ids=["-".join(p) for p in pairs])


@cases(but=("brn",))  # its r and d count as constants
def test_derivatives_given_the_batches_before(name: str, scope: str) -> None:
    if scope == "shared" and name.startswith("cmbn"):
        pytest.skip("the steps before are earlier batches there, and constants")
    norm, W = trained(name, scope)
    names = [n for n, _ in norm.named_parameters()]

    def function(x: Tensor, W: Tensor, *values: Tensor) -> Tensor:
        state = copy.deepcopy(norm)  # finite differences must always find the same past
        parameters = dict(zip(names, values, strict=True))
        outer = torch.nn.Module()
        outer.norm = state
        outer.forward = lambda x, W: state.sequence_linear(x, W, SIZES)  # type: ignore[method-assign]
        return torch.func.functional_call(outer, {f"norm.{k}": v for k, v in parameters.items()}, (x, W))

    if name == "cbn":  # the compensation reads W as a constant: x and the parameters remain
        inputs = (rows().requires_grad_(), *(p.detach().clone().requires_grad_() for p in norm.parameters()))
        assert gradcheck(lambda x, *p: function(x, W, *p), inputs)
        assert gradgradcheck(lambda x, *p: function(x, W, *p), inputs, fast_mode=True)
        return
    inputs = (rows().requires_grad_(), W.clone().requires_grad_())
    inputs += tuple(p.detach().clone().requires_grad_() for p in norm.parameters())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


@cases()
def test_every_backward_pass_stays_inside_its_own_iteration(name: str, scope: str) -> None:
    """Averages that are kept with their graph make the second backward pass fail, or walk back through all batches."""
    norm, W = make(name, scope), weight().requires_grad_()
    optimizer = torch.optim.SGD([W, *norm.parameters()], lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        norm.sequence_linear(rows(), W, SIZES).square().sum().backward()
        optimizer.step()
    assert W.isfinite().all()
    for module in norm.modules():
        held = [v for v in vars(module).values() if isinstance(v, Tensor)]
        assert not any(b.requires_grad for b in [*held, *module.buffers()])
    assert not any(v.requires_grad for values in norm.first_pass._read.values() for v in values)


@cases()
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_updates_once_and_gives_the_same_gradient(name: str, scope: str, reentrant: bool) -> None:
    norm, W = trained(name, scope)
    W.requires_grad_()
    x = rows().requires_grad_()
    results = []
    for saving in (False, True):
        other = copy.deepcopy(norm)

        def run(x: Tensor, W: Tensor, other: Normalizer = other) -> Tensor:
            other.reset_sequence()
            y = other.sequence_linear(x, W, SIZES)
            other.reset_sequence()
            return y

        y = checkpoint(run, x, W, use_reentrant=reentrant) if saving else run(x, W)
        gradients = torch.autograd.grad(y.square().sum(), (x, W)) if not reentrant else _leaf_gradients(y, x, W)
        results.append((y, *gradients, *buffers(other).values()))
    for k, (plain, recomputed) in enumerate(zip(*results, strict=True)):
        assert_same(recomputed, plain, f"value {k}", 1e-12)


def _leaf_gradients(y: Tensor, *leaves: Tensor) -> list[Tensor]:
    for leaf in leaves:
        leaf.grad = None
    y.square().sum().backward()
    return [leaf.grad.clone() for leaf in leaves if leaf.grad is not None]


@cases()
def test_few_rows_use_stored_statistics_and_update_nothing(name: str, scope: str) -> None:
    norm, W = trained(name, scope, min_rows=2)
    before = buffers(norm)
    x = rows()[:1]
    y = norm.linear(x, W, 1)
    assert torch.equal(y, copy.deepcopy(norm).eval().linear(x, W, 1))
    assert not torch.equal(y, norm.linear(x + 1, W, 1))
    for key, value in buffers(norm).items():
        assert torch.equal(value, before[key]), key


@cases()
def test_one_row_before_any_training(name: str, scope: str) -> None:
    norm, W, x = make(name, scope), weight(), rows()[:1]
    y = norm.linear(x, W, 0)
    gain = 1.0 if norm.gain is None else norm.gain
    assert_same(y, gain * (x @ W.T) + norm.bias, "one row", 1e-4)


@cases()
def test_training_moves_statistics_and_evaluation_does_not(name: str, scope: str) -> None:
    norm, W = trained(name, scope)
    moved = buffers(norm)
    norm.eval()
    for source in ("running", "batch"):
        with statistics(norm, source):
            norm.sequence_linear(rows(), W, SIZES)
    recalibrate(norm, [rows()], lambda x: norm.sequence_linear(x, W, SIZES))
    assert all(torch.equal(buffers(norm)[key], value) for key, value in moved.items())
    norm.train().sequence_linear(rows(), W, SIZES)
    assert not torch.equal(norm.stats.running_mean, moved["stats.running_mean"])
    assert not torch.equal(norm.stats.running_var, moved["stats.running_var"])


@cases()
def test_copies_and_state_dicts_continue_alike(name: str, scope: str) -> None:
    norm, W = trained(name, scope)
    file = io.BytesIO()
    torch.save(norm.state_dict(), file)
    file.seek(0)
    loaded = make(name, scope)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copies = [copy.deepcopy(norm), pickle.loads(pickle.dumps(norm)), loaded]
    for x in (rows(), rows()):
        expected = norm.sequence_linear(x, W, SIZES)
        for other in copies:
            assert torch.equal(other.sequence_linear(x, W, SIZES), expected)
    for key, value in buffers(norm).items():
        assert all(torch.equal(buffers(other)[key], value) for other in copies), key


@cases()
def test_reset_parameters_forgets_everything(name: str, scope: str) -> None:
    norm, _ = trained(name, scope)
    norm.reset_parameters()
    norm.stats.reset_running_stats()
    fresh = FAMILY[name](F, statistics=scope, max_steps=T, bias=True, dtype=torch.float64)
    for (key, value), other in zip(norm.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(value, other), key


@cases()
def test_inference_mode_may_come_first(name: str, scope: str) -> None:
    norm, W = make(name, scope), weight()
    with torch.inference_mode():
        norm.sequence_linear(rows(), W, SIZES)
    x = rows().requires_grad_()
    norm.sequence_linear(x, W, SIZES).sum().backward()
    assert x.grad is not None


@cases()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_keep_statistics_in_thirty_two(name: str, scope: str, dtype: torch.dtype) -> None:
    norm = make(name, scope, dtype=dtype)
    x, W = rows().to(dtype), weight().to(dtype)
    for _ in range(2):
        assert norm.sequence_linear(x, W, SIZES).dtype == dtype
    assert all(b.dtype in (torch.float32, torch.int64) for b in norm.buffers())
    norm.float()
    assert norm.sequence_linear(x.float(), W.float(), SIZES).dtype == torch.float32
    before = buffers(norm)
    norm.to(dtype)
    assert all(torch.equal(value, before[key]) for key, value in buffers(norm).items())


@cases()
def test_large_offset_loses_no_digits(name: str, scope: str) -> None:
    W, batches = weight(), [torch.randn(48, I, dtype=torch.float64) for _ in range(3)]
    outputs = []
    for dtype, offset in ((torch.float64, 0.0), (torch.float32, 1e3)):
        norm = FAMILY[name](F, statistics=scope, max_steps=T).to(dtype)
        for x in batches:
            y = norm.sequence_linear((x + offset).to(dtype), W.to(dtype), [24, 16, 8])
        outputs.append(y.double())
    assert_same(outputs[1], outputs[0], "output", 2e-2)  # E[x²] - E[x]² would be wrong by about 1


@cases(but=("cbn",))
def test_beyond_max_steps(name: str, scope: str) -> None:
    if scope != "timestep":
        return
    for tail in ("last", "pool"):
        norm, W = trained(name, scope, tail=tail)
        before = norm.stats.running_mean.clone()
        x = rows()
        for t in (T, T + 4):
            assert norm.linear(x, W, t).isfinite().all()
        assert torch.equal(norm.stats.running_mean, before) == (tail == "last")
        norm.eval()
        assert torch.equal(norm.linear(x, W, T), norm.linear(x, W, T + 9))


@pytest.mark.parametrize("name", FAMILY)
def test_arguments_are_checked(name: str) -> None:
    for wrong, words in (
        ({"statistics": "step"}, "got 'step'"),
        ({"min_rows": 1}, "min_rows must be an integer of at least 2"),
        ({"momentum": 1.5}, r"momentum must be a number in \(0, 1\] or None, got 1.5"),
        ({"max_steps": 0, "statistics": "timestep"}, "max_steps must be an integer of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            FAMILY[name](F, **wrong)
