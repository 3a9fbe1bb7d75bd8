"""Stored statistics of batch normalization: one slot per timestep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..common.ranges import STEPS, Checked, Range, at_least, one_of
from ..common.transforms import apart, by_plain_operators, has_numbers
from .accumulator import Accumulator
from .buffers import HALF, StatisticBuffers

TAILS = ("last", "pool", "error")


class StoredStatistics(Checked, StatisticBuffers):
    """Mean and variance per timestep, as one object.

    Slot s holds the statistics of step s, or of the block of steps s·k … s·k + k - 1; a shared statistic is the case of
    one slot for all steps. Buffers:
    `running_mean` and `running_var` (S, F), moving averages over training batches (the variance unbiased, as in
    `torch.nn.BatchNorm1d`), and `num_rows` (S,), the rows each slot has seen. `population_mean`, `population_var` and
    `population_rows` exist after `recalibrate`. Stored values: 2·S·F, and as many again after recalibration.

    Options add `total_weight` (S,), the sum of the weights of what each slot has seen (`debias`, `by_rows`), and
    `running_still` (S, F), the share of recent batches in which a feature was constant (`still`).

    A slot that has seen nothing borrows from the last earlier slot that has; before any training that is mean 0 and
    variance 1, as in an untrained `BatchNorm1d`.

    Args:
        num_features: F.
        max_steps: T_max, number of per-timestep slots; None: one slot shared by all steps.
        tail: steps t ≥ T_max "last": read the last slot and leave it as it is; "pool": one more slot, which all of them
            share and keep updating; "error": raise.
        window: k, steps that share a slot: S = ⌈T_max / k⌉. T_max counts steps, whatever the window.
        debias: divide the running averages by the sum of their weights, as Adam does.
        by_rows: average over rows instead, all slots forgetting the share `momentum` when a training batch begins.
        still: variance (biased) up to which a batch is taken for constant; a feature that was so in more than half of
            the recent batches is recalled from the running averages with variance ∞. None: none is.

    Raises:
        ValueError: an argument outside its range.
    """

    ranges: ClassVar[Mapping[str, Range]] = {
        "num_features": at_least(1),
        "max_steps": STEPS,
        "window": STEPS,
        "tail": one_of(*TAILS),
        "still": at_least(0),
    }
    population: ClassVar[tuple[str, ...]] = ("population_mean", "population_var", "population_rows")
    """Names of what `recalibrate` adds. They are in state dicts, but are no buffers: averages of weights pair the
    buffers of two copies of a model, which must be equally many."""
    running_mean: Tensor
    running_var: Tensor
    num_rows: Tensor
    total_weight: Tensor | None
    running_still: Tensor | None
    population_mean: Tensor | None
    population_var: Tensor | None
    population_rows: Tensor | None

    def __init__(
        self,
        num_features: int,
        max_steps: int | None,
        tail: str = "last",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        window: int = 1,
        debias: bool = False,
        by_rows: bool = False,
        still: float | None = None,
    ) -> None:
        super().__init__()
        self.max_steps, self.tail, self.window = max_steps, tail, window
        slots = 1 if max_steps is None else -(-max_steps // window) + (tail == "pool")
        if dtype in HALF:
            dtype = torch.float32
        self.register_buffer("running_mean", torch.zeros(slots, num_features, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(slots, num_features, device=device, dtype=dtype))
        self.register_buffer("num_rows", torch.zeros(slots, device=device, dtype=torch.long))
        self.by_rows, self.still = by_rows, still
        weights = torch.zeros(slots, device=device, dtype=dtype) if debias or by_rows else None
        self.register_buffer("total_weight", weights)
        self.register_buffer("running_still", None if still is None else torch.zeros_like(self.running_mean))
        self.population_mean = self.population_var = self.population_rows = None
        self.source: str | None = None
        """Statistics for evaluation, as `statistics` chooses them; None: the running averages."""
        self.accumulator: Accumulator | None = None
        """Accumulator of population statistics while they are gathered."""
        self._borrowed: tuple[Tensor | None, int, list[int]] = (None, 0, [])

    def slot(self, t: int | Tensor) -> int | None:
        """The slot that step `t` updates; None where the tail policy is to leave the last one alone, or in a graph."""
        if isinstance(t, Tensor):
            return None
        if t < 0:
            raise ValueError(f"a timestep is at least 0, got {t}")
        if self.max_steps is None:
            return 0
        if t < self.max_steps:
            return t // self.window
        if self.tail == "error":
            raise ValueError(
                f'timestep {t} has no statistics: max_steps={self.max_steps} and tail="error"; '
                'raise max_steps, or choose tail="last" or tail="pool"'
            )
        return self.running_mean.shape[0] - 1 if self.tail == "pool" else None

    def pools_steps(self, steps: int) -> bool:
        """Whether a slot stands for several of so many steps."""
        return self.max_steps is None or self.window > 1 or self.max_steps < steps

    def recall(self, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (F,) to use at step `t`, of the slot itself or the last earlier one that has any rows.

        In a graph that leaves the number of steps open, `t` is a tensor, and the moments are (…, F) for `t` (…).
        """
        if isinstance(t, Tensor):
            return self._recall_in_loop(t)
        if torch.compiler.is_compiling() and not by_plain_operators():
            return self._recall_unseen(t)
        if by_plain_operators():
            mean, var = self.recall_steps(t, t + 1)
            return mean[0], var[0]
        mean, var, index = self.stored_at(t)
        if not (self.training or torch.is_grad_enabled() or self.running_still is not None):
            return mean[index], var[index]  # nothing moves them before they are used
        recalled = var[index].clone()  # as in `recall_steps`
        if self.running_still is not None and var is self.running_var:
            recalled.masked_fill_(self.running_still[index] > 0.5, math.inf)
        return mean[index].clone(), recalled

    def stored_at(self, t: int) -> tuple[Tensor, Tensor, int]:
        """Means and variances of all slots (S, F), and the slot whose moments step `t` uses."""
        if self.accumulator is None and self.source != "population":
            held = self._buffers  # as attributes they take longer to be found than all else that is done here
            mean, var, rows, enough = held["running_mean"], held["running_var"], held["num_rows"], 1
        else:
            mean, var, rows, enough = self._stored()
        assert mean is not None
        assert var is not None
        assert rows is not None
        slot = self.slot(t)
        return mean, var, self._last_filled(rows, enough)[-1 if slot is None else slot]

    def _recall_unseen(self, t: int) -> tuple[Tensor, Tensor]:
        """`recall` in a compiled graph, where `t` may stand for any step and values cannot be read."""
        mean, var, rows, enough = self._stored()
        slots = torch.arange(rows.shape[0], device=rows.device)
        slot = self.slot(t)
        index = torch.where(rows >= enough, slots, 0).cummax(0).values[-1 if slot is None else slot].view(1)
        recalled = var.index_select(0, index)
        if self.running_still is not None and var is self.running_var:
            recalled = recalled.masked_fill(self.running_still.index_select(0, index) > 0.5, math.inf)
        return mean.index_select(0, index)[0], recalled[0]

    def recall_steps(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the steps start … stop - 1, (stop - start, F) each."""
        mean, var, rows, enough = self._stored()
        slots = [-1 if slot is None else slot for slot in map(self.slot, range(start, stop))]
        if by_plain_operators():
            return self._recall_in_graph(mean, var, rows >= enough, slots)
        filled = self._last_filled(rows, enough)
        index = [filled[slot] for slot in slots]
        # Copies: what backward reads must not change when a later batch moves the running averages.
        recalled = var[index]
        if self.running_still is not None and var is self.running_var:
            recalled.masked_fill_(self.running_still[index] > 0.5, math.inf)
        return mean[index], recalled

    def _recall_in_graph(self, mean: Tensor, var: Tensor, known: Tensor, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`recall_steps` in a traced graph, which itself computes which slots are known."""
        last = torch.where(known, torch.arange(known.shape[0], device=known.device), 0)
        index = torch.cat([(last if slot == -1 else last[: slot + 1]).amax(0, keepdim=True) for slot in slots])
        return mean.index_select(0, index), self._unless_still(var).index_select(0, index)

    def _recall_in_loop(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`recall` in a graph for a step whose number is known only when it runs."""
        if self.max_steps is not None and self.tail == "error":
            raise RuntimeError('tail="error" needs a known number of steps: export it without a dynamic one')
        mean, var, rows, enough = self._stored()
        each = torch.arange(rows.shape[0], device=rows.device)
        filled = torch.where((each.unsqueeze(1) >= each) & (rows >= enough), each, 0).amax(1)
        slot = torch.zeros_like(t)
        if self.max_steps is not None:
            slot = torch.where(t < self.max_steps, t // self.window, rows.shape[0] - 1)
        index = filled[slot]
        return mean[index], self._unless_still(var)[index]

    def _unless_still(self, var: Tensor) -> Tensor:
        """Variances (S, F) with ∞ where a feature was constant in most batches."""
        if self.running_still is None or var is not self.running_var:
            return var
        return torch.where(self.running_still > 0.5, math.inf, var)

    def _stored(self) -> tuple[Tensor, Tensor, Tensor, int]:
        """Mean, variance and rows of all slots in use now, and the rows that make a slot known."""
        gathered = self.accumulator
        if gathered is not None and gathered.serves and bool((gathered.count > 1).any()):
            mean, var, rows = gathered.moments()
            return mean.to(self.running_mean.dtype), var.to(self.running_var.dtype), rows, 2
        if self.source != "population":
            return self.running_mean, self.running_var, self.num_rows, 1
        if self.population_mean is None or self.population_var is None or self.population_rows is None:
            raise RuntimeError("there are no population statistics yet: call rnnnorm.recalibrate(model, batches)")
        return self.population_mean, self.population_var, self.population_rows, 2

    def fewest(self, min_rows: int) -> int:
        """The fewest rows that are normalized by their own moments: `min_rows`, or 2 while a population is estimated.

        Evaluation by population statistics uses the moments of every slot that has two rows, whatever `min_rows`.
        """
        return 2 if self.accumulator is not None and self.accumulator.serves else min_rows

    def store_population(self, gathered: Accumulator, biased: bool = False) -> None:
        """Write what was gathered, if anything, into the population buffers; the variance unbiased unless asked."""
        gathered.finish()
        if not bool(gathered.count.any()):  # not used by any batch
            self.forget_population()
            return
        mean, var, self.population_rows = gathered.moments(biased)
        self.population_mean, self.population_var = mean.to(self.running_mean.dtype), var.to(self.running_var.dtype)

    @torch.no_grad()
    def move_steps(
        self,
        slots: Sequence[int | None],
        rows: Sequence[int],
        mean: Tensor,
        var: Tensor,
        momentum: float | None,
        begins: bool = True,
    ) -> None:
        """Move running averages towards the moments of several batches of rows, one after the other.

        Args:
            slots: which one each of them moves; None: none.
            rows: how many rows each has.
            mean: (len(slots), F).
            var: (len(slots), F), biased.
            momentum: weight of the newest; None: average over all rows seen.
            begins: a training batch begins with the first of them.
        """
        steps = [k for k, slot in enumerate(slots) if slot is not None]
        index = [slot for slot in slots if slot is not None]
        if not steps:
            return
        if len(steps) < len(slots):
            mean, var, rows = mean[steps], var[steps], [rows[k] for k in steps]
        like = self.running_mean
        moves = [(self.running_mean, mean.to(like.dtype))]
        if self.running_still is not None:
            assert self.still is not None
            moves.append((self.running_still, (var <= self.still).to(like.dtype)))
        unbiased: float | Tensor = rows[0] / max(rows[0] - 1, 1)
        if rows[0] != rows[-1]:
            unbiased = like.new_tensor([n / max(n - 1, 1) for n in rows]).unsqueeze(1)
        moves.append((self.running_var, (var * unbiased).to(like.dtype)))
        count = torch.tensor(rows, device=like.device)
        if self.by_rows and begins and momentum is not None and self.total_weight is not None:
            self.total_weight.mul_(1 - momentum)
        first = index[0]
        if momentum is not None and index == list(range(first, first + len(index))):  # each slot once, in order
            here = slice(first, first + len(index))
            held = min(len(self.num_rows), *(len(running) for running, _ in moves))
            if held < here.stop:  # a slice that is too short would be broadcast
                raise IndexError(f"rows at slot {here.stop - 1}, but statistics of {held} slots")
            weight: float | Tensor = momentum
            if self.total_weight is not None:
                new = count.to(like.dtype) if self.by_rows else like.new_ones(())
                total = self.total_weight[here].mul_(1 if self.by_rows else 1 - momentum).add_(new)
                weight = (new / total).unsqueeze(1)
            for running, newest in moves:
                running[here].lerp_(newest, weight)
            self.num_rows[here] += count
            return
        shares, left = self._shares(index, rows, momentum)
        where, share = torch.tensor(index, device=like.device), like.new_tensor(shares).unsqueeze(1)
        moved, remains = torch.tensor(list(left), device=like.device), like.new_tensor(list(left.values())).unsqueeze(1)
        for running, newest in moves:
            running[moved] = running[moved] * remains
            running.index_add_(0, where, newest * share)
        self.num_rows.index_add_(0, where, count)

    def _shares(
        self, index: Sequence[int], rows: Sequence[int], momentum: float | None
    ) -> tuple[list[float], dict[int, float]]:
        """Weights in the averages of each of several new moments, and of the old averages of each slot.

        Of r ← (1 - w) r + w x, taken several times, remains of each x its own w times all later 1 - w.
        """
        weights = [momentum or 0.0] * len(index)
        if momentum is None or self.total_weight is not None:
            by_rows = momentum is None or self.by_rows
            stored = self.num_rows if momentum is None else self.total_weight
            assert stored is not None
            totals = stored.tolist()
            for k, (slot, n) in enumerate(zip(index, rows, strict=True)):
                new = n if by_rows else 1
                totals[slot] = totals[slot] * (1 if by_rows else 1 - (momentum or 0)) + new
                weights[k] = new / totals[slot]
            if momentum is not None:
                stored.copy_(stored.new_tensor(totals))
        shares, left = [0.0] * len(index), dict.fromkeys(index, 1.0)
        for k in reversed(range(len(index))):
            shares[k] = weights[k] * left[index[k]]
            left[index[k]] *= 1 - weights[k]
        return shares, left

    def _last_filled(self, rows: Tensor, enough: int) -> list[int]:
        version = 0 if rows.is_inference() else rows._version
        known, known_version, table = self._borrowed
        if known is not rows or known_version != version:
            last, table = 0, []
            with apart():  # nothing is borrowed where there are only shapes, as on the meta device
                counts = rows.tolist() if has_numbers(rows) else [enough] * rows.shape[0]
            for s, n in enumerate(counts):
                last = s if n >= enough else last
                table.append(last)
            self._borrowed = (rows, version, table)
        return table

    def reset_running_stats(self) -> None:
        """Forget everything: running averages to 0 and 1, no population statistics."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_rows.zero_()
        for added in (self.total_weight, self.running_still):
            if added is not None:
                added.zero_()
        self.forget_population()

    def forget_population(self) -> None:
        """No population statistics, as before the first `recalibrate`."""
        self.population_mean = self.population_var = self.population_rows = None

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name in self.population:
            value = getattr(self, name)
            if value is not None:
                moved = fn(value)
                setattr(self, name, value.to(device=moved.device) if moved.dtype in HALF else moved)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.population:
            if getattr(self, name) is not None:
                destination[prefix + name] = getattr(self, name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        unexpected: list[str] = args[3]
        for name, like in zip(self.population, (self.running_mean, self.running_var, self.num_rows), strict=True):
            saved = state_dict.get(prefix + name)
            setattr(self, name, None if saved is None else saved.detach().to(like, copy=True))
            if prefix + name in unexpected:
                unexpected.remove(prefix + name)

    def extra_repr(self) -> str:
        """Slots and tail policy."""
        if self.max_steps is None:
            return "shared"
        window = "" if self.window == 1 else f", window={self.window}"
        return f"max_steps={self.max_steps}, tail={self.tail}{window}"
