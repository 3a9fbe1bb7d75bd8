"""Stored statistics: slots, tails, too few rows, three ways to evaluate, recalibration."""

from __future__ import annotations

import copy

import pytest
import torch
from support import BATCH, INPUT, LENGTHS, assert_same, buffers, padded
from torch import nn

import rnnnorm
from rnnnorm.norms import BatchNorm, evaluates_by, step_statistics

F, B = 3, 6
STATEFUL = {*BATCH, "brn", "rbn", "cmbn", "cmbn-accumulated", "cbn", "wn-mobn", "online", "streaming", "power"}
"""Presets whose evaluation depends on what was stored in training."""


def timestep(**options: object) -> BatchNorm:
    return BatchNorm(F, statistics="timestep", **options)  # type: ignore[arg-type]


def rows(n: int = B, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, F) + shift


class TestTail:
    def test_last_reads_the_last_slot_and_leaves_it(self) -> None:
        norm = timestep(max_steps=2, tail="last")
        norm(rows(shift=5), 1)
        before = norm.stats.running_mean.clone()
        norm(rows(shift=9), 2)
        assert torch.equal(norm.stats.running_mean, before)
        norm.eval()
        x = rows()
        assert torch.equal(norm(x, 7), norm(x, 1))
        assert not torch.equal(norm(x, 7), norm(x, 0))

    def test_pool_keeps_learning_one_slot(self) -> None:
        norm = timestep(max_steps=2, tail="pool")
        assert norm.stats.running_mean.shape == (3, F)
        for t in (2, 3, 9):
            norm(rows(shift=5), t)
        assert norm.stats.num_rows.tolist() == [0, 0, 3 * B]
        norm.eval()
        x = rows()
        assert torch.equal(norm(x, 2), norm(x, 50))
        assert norm.stats.running_mean[2].min() > 1

    @pytest.mark.parametrize("training", [True, False])
    def test_error_names_step_and_limit(self, training: bool) -> None:
        norm = timestep(max_steps=2, tail="error").train(training)
        with pytest.raises(ValueError, match=r"timestep 2 .* max_steps=2"):
            norm(rows(), 2)

    def test_unknown_tail(self) -> None:
        with pytest.raises(ValueError, match=r"last, pool, error, got 'longest'"):
            timestep(tail="longest")


class TestTooFewRows:
    def test_stored_statistics_are_used_and_kept(self) -> None:
        norm = timestep(min_rows=4)
        norm(rows(4, shift=2), 0)
        before = buffers(norm)
        x = rows(3)
        y = norm(x, 0)
        mean, var = norm.stats.running_mean[0], norm.stats.running_var[0]
        assert_same(y, norm.gain * (x - mean) / (var + norm.eps).sqrt(), "few rows", 1e-5)
        for name, value in buffers(norm).items():
            assert torch.equal(value, before[name]), name

    def test_a_step_without_statistics_borrows_from_the_last_that_has_any(self) -> None:
        norm = timestep(max_steps=10)
        norm(rows(shift=4), 2)
        x = rows(1)
        assert torch.equal(norm(x, 6), norm(x, 2))
        assert torch.equal(norm(x, 1), norm(x, 0))
        assert not torch.equal(norm(x, 1), norm(x, 2))
        norm.eval()
        assert torch.equal(norm(torch.ones(B, F), 9), norm(torch.ones(B, F), 2))

    def test_one_row_before_any_training_is_like_an_untrained_batchnorm(self) -> None:
        norm = timestep(gain=0.5)
        x = rows(1)
        assert_same(norm(x, 0), 0.5 * x, "one row", 1e-4)


class TestRunning:
    def test_count_of_rows(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 5, norm="bn-timestep", max_steps=8)
        lstm(padded(), lengths=LENGTHS)  # 3, 7, 1, 5, 7: steps 0–6 have 5, 4, 4, 3, 3, 2, 2 rows
        assert lstm.norms("_l0").hidden.stats.num_rows.tolist() == [5, 4, 4, 3, 3, 2, 2, 0]

    def test_the_variance_is_unbiased_and_normalization_is_not(self) -> None:
        norm = timestep(momentum=1.0, eps=1e-12)
        x = rows()
        y = norm(x, 0)
        assert_same(norm.stats.running_var[0], x.var(0), "running variance", 1e-5)
        assert_same(y.var(0, unbiased=False), torch.ones(F), "variance of the output", 1e-5)

    def test_momentum_none_weights_all_rows_alike(self) -> None:
        norm = timestep(momentum=None)
        batches = [rows(n, shift=n) for n in (2, 5, 9)]
        for batch in batches:
            norm(batch, 3)
        assert_same(norm.stats.running_mean[3], torch.cat(batches).mean(0), "mean", 1e-5)

    def test_clones_have_their_own_statistics(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 5, norm="bn-timestep")
        clone = copy.deepcopy(lstm)
        clone(padded())
        assert not lstm.norms("_l0").hidden.stats.num_rows.any()

    def test_two_forward_passes_before_backward_give_right_gradients(self) -> None:
        """A few-rows step reads running statistics that the second pass moves before backward."""
        norm = timestep(min_rows=3)
        norm(rows(), 0)
        x = rows(2).requires_grad_()
        y = norm(x, 0)
        expected = norm.gain / (norm.stats.running_var[0] + norm.eps).sqrt()
        norm(rows(shift=50) * 9, 0)
        y.sum().backward()
        assert_same(x.grad, expected.expand(2, F).detach(), "grad", 1e-6)


class TestSources:
    @pytest.mark.parametrize("norm", BATCH)
    def test_three_ways_differ_and_are_restored(self, norm: str) -> None:
        lstm = rnnnorm.LSTM(INPUT, 5, norm=norm).eval()
        x = padded()
        rnnnorm.recalibrate(lstm, [torch.randn(7, 9, INPUT) * 3 + 1 for _ in range(3)])
        outputs = {}
        for source in ("running", "population", "batch"):
            with rnnnorm.statistics(lstm, source):
                outputs[source] = lstm(x, lengths=LENGTHS)[0]
        assert torch.equal(lstm(x, lengths=LENGTHS)[0], outputs["running"])
        assert not torch.allclose(outputs["running"], outputs["population"])
        assert not torch.allclose(outputs["batch"], outputs["population"])

    def test_batch_is_what_training_computes(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 5, 2, norm="bn-timestep")
        x = padded()
        expected = lstm(x, lengths=LENGTHS)[0]
        lstm.eval()
        with rnnnorm.statistics(lstm, "batch"):
            assert torch.equal(lstm(x, lengths=LENGTHS)[0], expected)

    def test_population_before_recalibration(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 5, norm="bn-shared").eval()
        with rnnnorm.statistics(lstm, "population"), pytest.raises(RuntimeError, match="recalibrate"):
            lstm(padded())

    def test_unknown_source(self) -> None:
        with (
            pytest.raises(ValueError, match="running, population, batch, got 'moving'"),
            rnnnorm.statistics(nn.Module(), "moving"),
        ):
            pass

    def test_has_batch_statistics(self) -> None:
        for name in rnnnorm.presets():
            assert rnnnorm.has_batch_statistics(rnnnorm.LSTM(2, 2, norm=name)) == (name in STATEFUL), name


class TestRecalibrate:
    def test_exact_moments_weighted_by_rows(self) -> None:
        norm = timestep(max_steps=3)
        batches = [rows(n, shift=n) for n in (1, 7, 2)]
        rnnnorm.recalibrate(norm, batches, lambda x: norm(x, 1))
        together = torch.cat(batches)
        assert_same(norm.stats.population_mean[1], together.mean(0), "mean", 1e-5)
        assert_same(norm.stats.population_var[1], together.var(0), "variance", 1e-4)
        assert norm.stats.population_rows.tolist() == [0, 10, 0]

    def test_single_survivors_of_many_batches_make_a_statistic(self) -> None:
        norm = timestep(max_steps=3)
        singles = [rows(1) for _ in range(20)]
        rnnnorm.recalibrate(norm, singles, lambda x: norm(x, 2))
        assert_same(norm.stats.population_var[2], torch.cat(singles).var(0), "variance", 1e-5)

    def test_leaves_model_and_running_averages_alone(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 5, 2, dropout=0.5, norm="bn-timestep")
        lstm(padded(), lengths=LENGTHS)
        lstm.norms("_l1").eval()
        modes = {name: m.training for name, m in lstm.named_modules()}
        before, parameters = buffers(lstm), [p.clone() for p in lstm.parameters()]
        rnnnorm.recalibrate(lstm, [padded() for _ in range(3)])
        assert {name: m.training for name, m in lstm.named_modules()} == modes
        assert all(torch.equal(value, buffers(lstm)[name]) for name, value in before.items())
        assert all(torch.equal(a, b) for a, b in zip(parameters, lstm.parameters(), strict=True))

    def test_repeatable_and_independent_of_how_rows_are_batched(self) -> None:
        norm = BatchNorm(F)
        x = rows(24)
        results = []
        for size in (24, 8, 3):
            rnnnorm.recalibrate(norm, x.split(size))
            results.append(norm.stats.population_var.clone())
        assert_same(results[1], results[0], "variance", 1e-6)
        assert_same(results[2], results[0], "variance", 1e-6)

    def test_survives_a_state_dict(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 5, norm="bn-timestep").eval()
        rnnnorm.recalibrate(lstm, [padded()])
        fresh = rnnnorm.LSTM(INPUT, 5, norm="bn-timestep").eval()
        fresh.load_state_dict(lstm.state_dict())
        x = padded()
        with rnnnorm.statistics(lstm, "population"), rnnnorm.statistics(fresh, "population"):
            assert torch.equal(fresh(x)[0], lstm(x)[0])
        fresh.load_state_dict(rnnnorm.LSTM(INPUT, 5, norm="bn-timestep").state_dict())
        assert step_statistics(fresh)[0].population_mean is None

    def test_no_batches(self) -> None:
        with pytest.raises(ValueError, match="no batches"):
            rnnnorm.recalibrate(BatchNorm(F), [])

    def test_nothing_to_do_without_statistics(self) -> None:
        rnnnorm.recalibrate(nn.Linear(2, 2), [])


def test_recalibrating_twice_forgets_the_first_time() -> None:
    norm = timestep(max_steps=3).eval()
    with torch.inference_mode():
        for step in (0, 1):
            rnnnorm.recalibrate(norm, [rows(shift=step)], lambda x, t=step: norm(x, t))
            with rnnnorm.statistics(norm, "population"):
                x = rows()
                assert torch.equal(norm(x, 2), norm(x, step))


def test_which_statistics_belong_to_a_method() -> None:
    running = {n for n in rnnnorm.presets() if evaluates_by(rnnnorm.LSTM(4, 4, norm=n)) == "running"}
    assert running == {"online", "streaming", "power", "brn", "cmbn", "bn-frozen"}
    assert evaluates_by(nn.Linear(2, 2)) == "population"


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", ["running_mean", "running_var", "num_rows"])
def test_statistics_without_a_slot_for_the_rows(name: str, backend: str) -> None:
    """What has been put in place of a buffer is not broadcast."""
    lstm = rnnnorm.LSTM(3, 4, norm="bn-star", backend=backend)
    stats = lstm.norms_l0.input.stats
    setattr(stats, name, getattr(stats, name)[:-1])
    with pytest.raises(IndexError):
        lstm(torch.randn(2, 2, 3))
