"""What all normalizers of the batch family have in common, row by row; of whole networks it is in the contract."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from support import assert_same, buffers
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from rnnnorm.norms import BatchNorm, Normalizer
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
def test_sixteen_bits_keep_statistics_in_thirty_two(name: str, scope: str) -> None:
    dtype = torch.float16 if scope == "shared" else torch.bfloat16
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
