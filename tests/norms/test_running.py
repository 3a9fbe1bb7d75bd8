"""Running averages free of their initial values, by rows, and deaf to features that stand still."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, assert_same, buffers, padded
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import rnnnorm
from rnnnorm.norms import BatchNorm, StoredStatistics, Use

DOUBLE = torch.float64
F, M = 3, 0.3
SIZES = ([6, 4, 4, 2], [5, 5], [7, 7, 3, 2, 2])
"""Rows of each step of three training batches."""
SCOPES = {
    "sequence": {"statistics": "sequence"},
    "shared": {"statistics": "shared"},
    "timestep": {"statistics": "timestep"},
    "window": {"statistics": "timestep", "window": 2},
    "last": {"statistics": "timestep", "max_steps": 2},
    "pool": {"statistics": "timestep", "max_steps": 2, "tail": "pool"},
}
Seen = list[tuple[int, int, Tensor]]


def trained(by_scan: bool, scope: str, **options: bool) -> tuple[BatchNorm, Seen]:
    """A normalizer after all batches, and what each slot has seen: batch, slot and rows, in their order."""
    norm = BatchNorm(F, momentum=M, dtype=DOUBLE, **SCOPES[scope], **options)  # type: ignore[arg-type]
    seen: Seen = []
    for k, sizes in enumerate(SIZES):
        rows = [torch.randn(n, F, dtype=DOUBLE) + t for t, n in enumerate(sizes)]
        steps = [torch.cat(rows)] if scope == "sequence" else rows
        if by_scan:
            moments = [torch.var_mean(x, 0, correction=0) for x in steps]
            norm.observe(0, [len(x) for x in steps], *(torch.stack([m[i] for m in moments]) for i in (1, 0)))
        else:
            for t, x in enumerate(steps):
                norm(x, t)
        slots = [norm.stats.slot(t) for t in range(len(steps))]
        seen += [(k, slot, x) for slot, x in zip(slots, steps, strict=True) if slot is not None]
    return norm, seen


def by_slot(seen: Seen) -> Iterator[tuple[int, list[tuple[int, Tensor]]]]:
    for slot in sorted({slot for _, slot, _ in seen}):
        yield slot, [(k, x) for k, s, x in seen if s == slot]


def assert_average(norm: BatchNorm, slot: int, rows: list[Tensor], weights: list[float]) -> None:
    total = sum(weights)
    for name, of in (("running_mean", Tensor.mean), ("running_var", Tensor.var)):
        expected = sum(w * of(x, 0) for w, x in zip(weights, rows, strict=True)) / total
        assert_same(getattr(norm.stats, name)[slot], expected, f"{name} of slot {slot}", 1e-12)


@pytest.mark.parametrize("by_scan", [True, False], ids=["scan", "reference"])
@pytest.mark.parametrize("scope", SCOPES)
class TestWeights:
    def test_debiased_averages_are_divided_by_the_sum_of_their_weights(self, scope: str, by_scan: bool) -> None:
        norm, seen = trained(by_scan, scope, debias=True)
        for slot, batches in by_slot(seen):
            n = len(batches)
            assert_average(norm, slot, [x for _, x in batches], [M * (1 - M) ** (n - 1 - i) for i in range(n)])
            total = (1 - (1 - M) ** n) / M
            assert norm.stats.total_weight is not None
            assert norm.stats.total_weight[slot].item() == pytest.approx(total)

    def test_by_rows_each_row_has_the_age_of_its_batch(self, scope: str, by_scan: bool) -> None:
        norm, seen = trained(by_scan, scope, by_rows=True)
        for slot, batches in by_slot(seen):
            weights = [len(x) * (1 - M) ** (len(SIZES) - 1 - k) for k, x in batches]
            assert_average(norm, slot, [x for _, x in batches], weights)

    def test_otherwise_the_initial_values_remain(self, scope: str, by_scan: bool) -> None:
        norm, seen = trained(by_scan, scope)
        for slot, batches in by_slot(seen):
            start, n = torch.ones(2, F, dtype=DOUBLE), len(batches)  # of mean 1 and variance 1/2: not the initial ones
            rows = [start * torch.tensor([[-1.0], [1.0]], dtype=DOUBLE) / 2**0.5, *(x for _, x in batches)]
            assert_average(norm, slot, rows, [(1 - M) ** n, *(M * (1 - M) ** (n - 1 - i) for i in range(n))])

    def test_slots_without_rows_stay(self, scope: str, by_scan: bool) -> None:
        norm, seen = trained(by_scan, scope, debias=True, mute=True)
        idle = [s for s in range(len(norm.stats.num_rows)) if s not in {slot for _, slot, _ in seen}]
        fresh = BatchNorm(F, dtype=DOUBLE, **SCOPES[scope], debias=True, mute=True)  # type: ignore[arg-type]
        for name, value in buffers(fresh.stats).items():
            assert torch.equal(buffers(norm.stats)[name][idle], value[idle]), name


@pytest.mark.parametrize("options", [{"debias": True}, {"by_rows": True}])
def test_the_first_batch_replaces_the_initial_values(options: dict[str, bool]) -> None:
    norm = BatchNorm(F, statistics="timestep", momentum=0.001, dtype=DOUBLE, **options)
    x = torch.randn(9, F, dtype=DOUBLE) * 4 + 2
    norm(x, 3)
    assert_same(norm.stats.running_mean[3], x.mean(0), "mean", 1e-14)
    assert_same(norm.stats.running_var[3], x.var(0), "variance", 1e-13)


class TestMute:
    def moving(self, share: list[bool], **options: object) -> BatchNorm:
        """Feature 0 varies, the others do in those batches that are named; all means drift."""
        norm = BatchNorm(F, momentum=0.25, debias=True, mute=True, bias=True, dtype=DOUBLE, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            norm.bias.uniform_(1, 2)  # type: ignore[union-attr]
        for k, varies in enumerate(share):
            x = torch.randn(8, F, dtype=DOUBLE)
            x[:, 1:] = 0.1 * k + varies * x[:, 1:]
            norm(x)
        return norm.eval()

    def test_a_feature_that_stood_still_gives_its_bias(self) -> None:
        norm = self.moving([False] * 5)
        assert norm.bias is not None
        x = torch.randn(4, F, dtype=DOUBLE).requires_grad_()
        y = norm(x)
        assert torch.equal(y[:, 1:], norm.bias[1:].expand(4, F - 1))
        y.sum().backward()
        assert x.grad is not None
        assert not x.grad[:, 1:].any()
        assert x.grad[:, 0].all()
        assert norm.gain.grad.isfinite().all()

    @pytest.mark.parametrize(
        ("share", "muted"), [([True, True, False, False], True), ([True, False, False, True], False)]
    )
    def test_recent_batches_count_more(self, share: list[bool], muted: bool) -> None:
        norm = self.moving(share)
        weights = [0.75**3, 0.75**2, 0.75, 1]
        still = sum(w for w, varies in zip(weights, share, strict=True) if not varies) / sum(weights)
        assert norm.stats.running_still is not None
        assert_same(norm.stats.running_still[0], torch.tensor([0, still, still], dtype=DOUBLE), "share", 1e-12)
        assert (norm(torch.randn(4, F, dtype=DOUBLE)).var(0)[1:] == 0).all() == muted

    @pytest.mark.parametrize(("factor", "muted"), [(0.99, True), (1.01, False)])
    def test_constant_means_a_variance_up_to_eps(self, factor: float, muted: bool) -> None:
        norm = BatchNorm(1, mute=True, momentum=1.0, eps=0.01, dtype=DOUBLE)
        x = torch.randn(8, 1, dtype=DOUBLE)
        norm(factor**0.5 * 0.1 * (x - x.mean()) / x.std(correction=0))
        assert norm.eval()(x).any() != muted

    def test_other_statistics_are_heard(self) -> None:
        norm = self.moving([False] * 5)
        assert norm.bias is not None
        x = torch.randn(50, F, dtype=DOUBLE)
        rnnnorm.recalibrate(norm, [x])
        for source in ("population", "batch"):
            with rnnnorm.statistics(norm, source):
                assert_same((norm(x) - norm.bias).std(0), torch.ones(F, dtype=DOUBLE), source, 0.05)

    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_population_statistics_are_gathered_as_without(self, backend: str) -> None:
        """Also where a step has too few rows for moments of its own, and borrows those that are being gathered."""
        plain, deaf = (
            rnnnorm.LSTM(INPUT, HIDDEN, 2, norm=norm, backend=backend, dtype=DOUBLE)
            for norm in ("bn-star", "bn-star:mute=true")
        )
        deaf.load_state_dict(plain.state_dict(), strict=False)
        x, lengths = torch.randn(3, 4, INPUT, dtype=DOUBLE), torch.tensor([3, 1, 1, 1])
        x[0] = 1
        x[1:] *= 3  # in layer 2, seen by statistics over all rows
        expected, actual = (self.population(lstm, x, lengths) for lstm in (plain, deaf))
        assert torch.equal(actual, expected)

    @staticmethod
    def population(lstm: rnnnorm.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
        for _ in range(20):
            lstm(x, lengths=lengths)
        rnnnorm.recalibrate(lstm, [x], lambda x: lstm(x, lengths=lengths))
        with rnnnorm.statistics(lstm.eval(), "population"):
            output: Tensor = lstm(x, lengths=lengths)[0]
        return output

    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_a_common_beginning_no_longer_enlarges_lag(self, backend: str) -> None:
        """One step of an optimizer after the last batch, as good as none where the constant steps are muted."""
        errors = {}
        for norm in ("bn-timestep:momentum=1.0", "bn-timestep:momentum=1.0:mute=true"):
            torch.manual_seed(3)
            lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm=norm, backend=backend, dtype=DOUBLE)
            x = torch.randn(6, 40, INPUT, dtype=DOUBLE)
            x[0] = 1
            lstm(x)
            with torch.no_grad():
                for parameter in lstm.parameters():
                    parameter.add_(0.01 * torch.randn_like(parameter))
            lstm.eval()
            with rnnnorm.statistics(lstm, "batch"):
                expected = lstm(x)[0]
            errors[norm] = (lstm(x)[0] - expected).abs().mean().item()
        lagging, muted = errors.values()
        assert muted < 0.1 * lagging


OPTIONS = (
    "debias=true",
    "by_rows=true",
    "mute=true",
    "debias=true:mute=true:max_steps=3:tail=pool",
    "by_rows=true:window=2",
)


class TestBuffers:
    @pytest.mark.parametrize("options", OPTIONS)
    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_activation_checkpointing_updates_once(self, options: str, backend: str) -> None:
        plain = rnnnorm.LSTM(INPUT, HIDDEN, norm=f"bn-timestep:{options}", backend=backend)
        start, x = copy.deepcopy(plain), torch.randn(6, 5, INPUT, requires_grad=True)
        plain(x)[0].sum().backward()
        for reentrant in (False, True):
            other = copy.deepcopy(start)
            checkpoint(other, x, use_reentrant=reentrant)[0].sum().backward()
            for name, value in buffers(plain).items():
                assert torch.equal(value, buffers(other)[name]), name

    def test_they_exist_with_their_options_only(self) -> None:
        plain = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep").state_dict()
        assert not [name for name in plain if "total_weight" in name or "running_still" in name]
        for options, added in (
            ("debias=true", "total_weight"),
            ("by_rows=true", "total_weight"),
            ("mute=true", "running_still"),
        ):
            names = set(rnnnorm.LSTM(INPUT, HIDDEN, norm=f"bn-timestep:{options}").state_dict())
            assert {name.rpartition(".")[2] for name in names - set(plain)} == {added}

    def test_they_go_through_a_state_dict(self) -> None:
        norm = "bn-timestep:by_rows=true:mute=true"
        lstm, other = (rnnnorm.LSTM(INPUT, HIDDEN, norm=norm) for _ in range(2))
        lstm(padded(), lengths=LENGTHS)
        other.load_state_dict(lstm.state_dict())
        x = padded()
        for network in (lstm, other):
            network(x, lengths=LENGTHS)
        for name, value in buffers(lstm).items():
            assert torch.equal(value, buffers(other)[name]), name

    def test_they_stay_in_float32(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep:by_rows=true:mute=true").to(torch.bfloat16)
        x = torch.randn(4, 9, INPUT)
        x[0] = 1
        for _ in range(2):
            assert lstm(x.bfloat16())[0].isfinite().all()
            lstm.eval()
        assert {b.dtype for b in lstm.buffers()} == {torch.float32, torch.int64}

    def test_resetting_forgets(self) -> None:
        stats = StoredStatistics(F, 4, debias=True, still=1e-5)
        before = buffers(stats)
        stats.move_steps([0, 1], [3, 3], torch.ones(2, F), torch.zeros(2, F), 0.1)
        assert not any(torch.equal(value, before[name]) for name, value in buffers(stats).items())
        stats.reset_running_stats()
        assert all(torch.equal(value, before[name]) for name, value in buffers(stats).items())

    def test_the_average_over_all_rows_needs_none(self) -> None:
        norm, plain = (BatchNorm(F, momentum=None, **keys) for keys in ({"debias": True, "by_rows": True}, {}))
        for n in (4, 9):
            x = torch.randn(n, F)
            norm(x)
            plain(x)
        assert list(buffers(norm)) == list(buffers(plain))
        assert_same(norm.stats.running_mean, plain.stats.running_mean, "mean", 1e-6)


@pytest.mark.parametrize("option", ["debias", "by_rows", "mute"])
def test_options_are_true_or_false(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be true or false, got 'yes'"):
        Use("bn", {option: "yes"})
    assert f", {option}\n" in repr(BatchNorm(F, **{option: True}))  # type: ignore[arg-type]
