"""Stored statistics of batch normalization under the compiled scan: as if it had been called step by step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scan.native_cases import (
    BY_COLUMN,
    Poison,
    assert_as_reference,
    assert_near,
    build,
    data,
    distance,
    needs_library,
    states,
    twin,
)
from torch import Tensor

import rnnnorm
from rnnnorm.norms import StoredStatistics, step_statistics
from rnnnorm.norms.accumulator import Accumulator

BATCHES: tuple[tuple[int, ...], ...] = (  # lengths; the last steps of the first two have one row, or fewer than four
    (7, 6, 6, 5, 5, 4, 4, 3, 2),
    (9, 5, 5, 5, 5, 5, 3, 3),
    (4,) * 8,
    (1,),
    (6, 6, 6, 6, 2),
)
NORMS = [
    *BY_COLUMN,
    *("bn-timestep:max_steps=3", "bn-timestep:max_steps=3:tail=pool", "bn-shared:min_rows=4"),
    *("bn-timestep:momentum=none", "bn-shared:momentum=none", "bn-vertical:momentum=none", "bn-vertical:min_rows=9"),
    *("bn-timestep:momentum=none:max_steps=3:tail=pool", "bn-timestep:min_rows=4", "bn-window:window=2:max_steps=5"),
    *(
        "bn-window:window=3:max_steps=4:tail=pool",
        "bn-star:max_steps=2",
        "bn-joint:momentum=1.0",
        "bn-frozen:max_steps=4",
    ),
    *("bn-timestep:debias=true", "bn-shared:debias=true:mute=true", "bn-star:by_rows=true:mute=true"),
    *("bn-window:window=3:max_steps=4:tail=pool:by_rows=true:mute=true", "bn-frozen:max_steps=4:mute=true"),
]


def moments_of(lstm: rnnnorm.LSTM) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in lstm.named_buffers()}


@needs_library
@pytest.mark.parametrize("norm", NORMS)
class TestAgainstTheReference:
    @pytest.fixture(autouse=True)
    def _poison(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Poison(monkeypatch)

    def test_training(self, norm: str) -> None:
        """Several batches one after the other: each result depends on what the earlier ones left."""
        ours = build(norm, num_layers=2, bidirectional=True, max_steps=12)
        other = twin(ours)
        for lengths in BATCHES:
            x, hx, order = data(lengths), states(ours, len(lengths)), torch.tensor(lengths)
            (expected, _), (actual, _) = other(x, hx, lengths=order), ours(x, hx, lengths=order)
            assert distance(actual.detach(), expected.detach()) < 1e-10
            assert_near(moments_of(ours), moments_of(other), 1e-12)
        assert (ours.ran, other.ran) == ("native", "reference")

    def test_nothing_but_counts_moves_without_rows(self, norm: str) -> None:
        """A batch of one sequence estimates no variance step by step."""
        lstm = build(norm)
        before = moments_of(lstm)
        lstm(data((1,)))
        assert_near(moments_of(lstm), before, 1e-15)

    @pytest.mark.parametrize("source", ["running", "population", "batch"])
    def test_evaluation(self, norm: str, source: str) -> None:
        lstm = build(norm, bidirectional=True, max_steps=12).eval()
        rnnnorm.recalibrate(lstm, [data((8,) * 9)])
        before = moments_of(lstm)
        with rnnnorm.statistics(lstm, source):
            for lengths in BATCHES:
                assert_as_reference(lstm, data(lengths), states(lstm, len(lengths)), lengths)
        assert_near(moments_of(lstm), before, 1e-15)

    def test_recalibration(self, norm: str) -> None:
        ours = build(norm, num_layers=2, bidirectional=True, max_steps=12)
        other = twin(ours)
        batches = [(data(lengths), torch.tensor(lengths)) for lengths in BATCHES]
        for lstm in (ours, other):
            rnnnorm.recalibrate(lstm, batches, lambda batch, lstm=lstm: lstm(batch[0], lengths=batch[1]))
        assert (ours.ran, other.ran) == ("native", "reference")
        assert_near(moments_of(ours), moments_of(other), 1e-10)
        assert all(stats.population_rows is not None for stats in step_statistics(ours))


@needs_library
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_step_too_many(backend: str, training: bool) -> None:
    lstm = build("bn-timestep:max_steps=3:tail=error", backend=backend).train(training)
    lstm(data((3, 3, 3)))
    with pytest.raises(ValueError, match="timestep 3 has no statistics: max_steps=3"):
        lstm(data((4, 4, 4)))


@needs_library
def test_no_population_statistics() -> None:
    lstm = build("bn-timestep").eval()
    with rnnnorm.statistics(lstm, "population"), pytest.raises(RuntimeError, match=r"call rnnnorm\.recalibrate"):
        lstm(data((3, 3)))


SLOTS: dict[str, Callable[[], StoredStatistics]] = {
    "shared": lambda: StoredStatistics(3, None, dtype=torch.float64),
    "timestep": lambda: StoredStatistics(3, 8, dtype=torch.float64),
    "last": lambda: StoredStatistics(3, 4, dtype=torch.float64),
    "pool": lambda: StoredStatistics(3, 4, "pool", dtype=torch.float64),
    "window": lambda: StoredStatistics(3, 8, window=3, dtype=torch.float64),
}


def steps() -> tuple[list[int], Tensor, Tensor]:
    """Rows, means and variances of eight steps."""
    return [9, 9, 7, 5, 5, 3, 2, 2], torch.randn(8, 3, dtype=torch.float64), torch.rand(8, 3, dtype=torch.float64)


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("kind", SLOTS)
def test_moving_many_steps_is_moving_one_after_the_other(kind: str, momentum: float | None) -> None:
    together, alone = SLOTS[kind](), SLOTS[kind]()
    for _ in range(3):
        rows, mean, var = steps()
        slots = [together.slot(t) for t in range(8)]
        together.move_steps(slots, rows, mean, var, momentum)
        for slot, n, m, v in zip(slots, rows, mean, var, strict=True):
            if slot is not None:
                alone.num_rows[slot] += n
                weight = n / int(alone.num_rows[slot]) if momentum is None else momentum
                alone.running_mean[slot] += weight * (m - alone.running_mean[slot])
                alone.running_var[slot] += weight * (v * n / (n - 1) - alone.running_var[slot])
    assert_near(dict(together.named_buffers()), dict(alone.named_buffers()), 1e-12)


@pytest.mark.parametrize("source", ["running", "population"])
@pytest.mark.parametrize("kind", SLOTS)
def test_recalling_many_steps_is_recalling_each(kind: str, source: str) -> None:
    """With gaps, which borrow from the step before, from the first step on."""
    stats = SLOTS[kind]()
    shape = stats.running_mean.shape
    for name in ("running", "population"):
        setattr(stats, f"{name}_mean", torch.randn(shape, dtype=torch.float64))
        setattr(stats, f"{name}_var", torch.rand(shape, dtype=torch.float64))
    stats.population_rows = torch.tensor([0, 1, 4, 0, 2, 1, 0, 5])[: shape[0]]
    stats.num_rows.copy_(torch.tensor([0, 0, 1, 0, 2, 0, 0, 5])[: shape[0]])
    stats.source = source
    rows, enough = (stats.num_rows, 1) if source == "running" else (stats.population_rows, 2)
    mean, var = stats.recall_steps(2, 8)
    for k, t in enumerate(range(2, 8)):
        slot = stats.slot(t)
        own = shape[0] - 1 if slot is None else slot
        filled = max([s for s in range(own + 1) if rows[s] >= enough], default=0)
        torch.testing.assert_close(mean[k], getattr(stats, f"{source}_mean")[filled])
        torch.testing.assert_close(var[k], getattr(stats, f"{source}_var")[filled])
        one = stats.recall(t)
        assert torch.equal(one[0], mean[k])
        assert torch.equal(one[1], var[k])


def test_recalled_moments_do_not_move() -> None:
    stats = SLOTS["timestep"]()
    mean, var = stats.recall_steps(0, 8)
    rows, new_mean, new_var = steps()
    stats.move_steps(list(range(8)), rows, new_mean, new_var, 1.0)
    assert not mean.any()
    assert torch.equal(var, torch.ones_like(var))
    assert torch.equal(stats.recall_steps(0, 8)[0], new_mean)  # and what has just been stored is found


@pytest.mark.parametrize("shift", [0, 1e6], ids=["centred", "far-from-0"])
def test_accumulating_many_steps_is_accumulating_all_rows(shift: float) -> None:
    """Several steps of one slot, one slot left empty, several batches: mean and variance of all rows of the slot."""
    accumulator, seen = Accumulator(torch.zeros(4, 3, dtype=torch.float64)), dict[int, list[Tensor]]()
    for _ in range(3):
        batch = [torch.randn(n, 3, dtype=torch.float64) + shift for n in (9, 7, 7, 4, 1)]
        slots = [0, 0, 1, 1, 3]
        mean, var = torch.stack([b.mean(0) for b in batch]), torch.stack([b.var(0, correction=0) for b in batch])
        accumulator.add_steps(slots, [len(b) for b in batch], mean, var)
        for slot, rows in zip(slots, batch, strict=True):
            seen.setdefault(slot, []).append(rows)
    stats = StoredStatistics(3, 4, dtype=torch.float64)
    stats.store_population(accumulator)
    assert stats.population_rows is not None
    assert stats.population_rows.tolist() == [48, 33, 0, 3]
    for slot, parts in seen.items():
        rows = torch.cat(parts)
        torch.testing.assert_close(stats.population_mean[slot], rows.mean(0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(stats.population_var[slot], rows.var(0), rtol=1e-9, atol=0)
