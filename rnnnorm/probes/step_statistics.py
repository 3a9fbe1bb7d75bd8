"""Statistics of batch normalization at each step: of this batch, running, and of the population."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor

from rnnnorm.norms import Normalizer, StoredStatistics
from rnnnorm.norms.accumulator import Accumulator
from rnnnorm.probes.base import Measurement, Probe
from rnnnorm.probes.heat_maps import HeatMap
from rnnnorm.probes.recording import Recording, normalizers, record
from rnnnorm.probes.table import Table

Moment = tuple[Tensor, Tensor, Tensor]
"""Rows (k,), mean and variance (k, F) of each step."""


AGAINST = ("stored", "tid_mean", "tid_variance")
"""Series that compare running averages with a batch's moments."""


class Moments(Accumulator):
    """Substitute for the accumulator of `rnnnorm.recalibrate` that keeps the moments of each call apart."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Tensor, Tensor]] = []

    def add(self, slot: int, rows: Tensor) -> None:
        """Take in the rows (n, F) of one step."""
        var, mean = torch.var_mean(rows.detach(), 0, correction=0)
        self.add_moments(slot, rows.shape[0], mean, var)

    def add_moments(self, slot: int, n: int, mean: Tensor, var: Tensor) -> None:
        """Take in the moments of one step."""
        self.found.append((n, mean.detach(), var.detach()))

    def add_steps(self, slots: Sequence[int], rows: Sequence[int], mean: Tensor, var: Tensor) -> None:
        """Take in the moments of several steps."""
        self.found += zip(rows, mean.detach(), var.detach(), strict=True)

    def last(self, calls: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (k,), mean and biased variance (k, F) of the last k ≤ `calls` calls."""
        n, mean, var = zip(*self.found[-calls:], strict=True)
        return torch.tensor(n), torch.stack(mean).double().cpu(), torch.stack(var).double().cpu()


class Watched(NamedTuple):
    """A normalizer that keeps statistics, those statistics, and what it was given in one training step."""

    normalizer: Normalizer
    stats: StoredStatistics
    moments: Moments


def _calls(normalizer: Normalizer, stats: StoredStatistics, steps: int) -> int:
    """How many batches of rows one run over `steps` steps hands over."""
    if getattr(normalizer, "scope", None) == "sequence":
        return 1
    return sum(stats.slot(t) is not None for t in range(steps))


def distance(mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor, eps: float) -> Tensor:
    """Distance of each step's Gaussian from another one, averaged over features, (k,) float64, in nats per feature.

        J_t = ¼ mean_j [ (s + Δ²)/s' + (s' + Δ²)/s - 2 ],    s = σ² + ε,    s' = σ'² + ε,    Δ = μ - μ'

    Args:
        mean: (k, F).
        var: (k, F).
        other_mean: (k, F).
        other_var: (k, F).
        eps: ε of the normalizer.
    """
    difference = (mean.double() - other_mean.double()).square()
    s, other = var.double() + eps, other_var.double() + eps
    return ((s + difference) / other + (other + difference) / s - 2).mean(1) / 4


def distance_from_pool(n: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Distance of each step's Gaussian from that of all steps pooled, averaged over features, (k,) float64.

        J_t = ¼ mean_j [ (s_tj + Δ_tj²)/s̄_j + (s̄_j + Δ_tj²)/s_tj - 2 ],    s = σ² + ε,    Δ_tj = μ_tj - μ̄_j

    which is the mean of KL(t‖pool) and KL(pool‖t) (Jeffreys' divergence, halved), in nats per feature. μ̄ and σ̄² are
    those of the mixture of all steps, each row counting once. Where nothing differs but by chance, moments of n rows
    give about 1/n.

    Args:
        n: rows behind each step's moments, (k,).
        mean: (k, F).
        var: (k, F).
        eps: ε of the normalizer.
    """
    share = (n.double() / n.sum()).unsqueeze(1)
    mean, var = mean.double(), var.double()
    pool = (share * mean).sum(0)
    pooled = (share * (var + (mean - pool).square())).sum(0)
    return distance(mean, var, pool, pooled, eps)


def _stored(stats: StoredStatistics, mean: Tensor, var: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, mean and variance per step, with as many copies of a slot as it has steps; nan in slots without rows."""
    known = (rows > 0).unsqueeze(1)
    nan = torch.tensor(torch.nan, dtype=mean.dtype, device=mean.device)
    parts = [rows, torch.where(known, mean, nan), torch.where(known, var, nan)]
    if stats.window > 1:
        tail = parts[0].shape[0] - (stats.tail == "pool")
        parts = [torch.cat([p[:tail].repeat_interleave(stats.window, 0)[: stats.max_steps], p[tail:]]) for p in parts]
    return parts[0].cpu(), parts[1].double().cpu(), parts[2].double().cpu()


class StepStatistics(Probe):
    """Mean and variance against t, of every normalizer that keeps statistics: this batch's, running, and population.

    Per normalizer, such as `l0/hidden`, and source ("batch", "running", "population"), features are condensed to
    `mean/…`, the root mean square of μ_t over features, and `variance/…`, the mean of σ²_t. Batch moments are those of
    the training step itself, of any step by which the normalizer was called, also where all steps share their running
    averages, biased; stored variances are unbiased. Population statistics exist after `rnnnorm.recalibrate`. The
    network runs on its own backend.

    `distance/…` says what sharing statistics over time loses: the symmetrised Gaussian KL divergence between step t and
    all steps pooled, in nats per feature (`distance_from_pool`, with its noise floor of about 1/B_t), of batch and of
    running statistics. Methods whose training looks at no batch moments of one step by themselves (`cbn`, `frozen`)
    have no "batch".

    Running averages start from mean 0 and variance 1 and move by their momentum whenever a batch reaches their step.
    In a ragged data set late steps are still near that start when early ones have forgotten it; the distance shows it.

    `stored/…` says where stored statistics differ from the batch's: the same distance, between running averages and
    batch moments at step t. Its noise floor is about 1/(2B_t).

    `tid_mean/…` and `tid_variance/…` say the same apart for mean and variance, as the training-inference discrepancy of
    Wang et al. 2022: the means over features of |μ_B - μ| / σ_B and |σ / σ_B - 1|, with σ = √(σ² + ε).

    Scalars, of the normalizer where it is largest: `stored`, `distance`, `tid_mean` and `tid_variance`, the medians
    over t of `stored/…`, `distance/batch/…`, `tid_mean/…` and `tid_variance/…`, since the first step may have no
    variance. Series: `stored/l0/hidden`, `distance/batch/l0/hidden`, `variance/running/l0/hidden`, ….

    Args:
        every: training batches from one measurement to the next; None as in `Probe`.

    Sources: Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017, figure of the population statistics; Wang et
    al., "Understanding the Failure of Batch Normalization for Transformers in NLP", NeurIPS 2022, and its code.
    """

    name: ClassVar[str] = "step_statistics"
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (
        HeatMap(
            "stored",
            "running averages against batch (nats per feature)",
            "log",
            "Bright: what is stored differs from the batch's moments, and so evaluation from training.",
        ),
        HeatMap(
            "distance/batch",
            "each timestep against all (nats per feature)",
            "log",
            "Bright: a step unlike the others; bright everywhere: statistics shared over time lose much.",
        ),
    )

    @contextmanager
    def watch(self, pl_module: L.LightningModule) -> Iterator[tuple[Recording, dict[str, Watched]]]:
        """Have each normalizer gather the moments of its steps, as for population statistics, while it trains."""
        found: dict[str, Watched] = {}
        for name, normalizer in normalizers(pl_module).items():
            stats = getattr(normalizer, "stats", None)
            if isinstance(stats, StoredStatistics):
                found[name] = Watched(normalizer, stats, Moments())
        # A frozen one would turn to batch moments if asked for them.
        gathering = [
            w for w in found.values() if w.stats.accumulator is None and not getattr(w.normalizer, "frozen", 0)
        ]
        for w in gathering:
            w.stats.accumulator = w.moments
        try:
            with record(pl_module, states=False) as recording:
                yield recording, found
        finally:
            for w in gathering:
                w.stats.accumulator = None

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> Measurement:
        """Condense features."""
        found = Measurement()
        recording, normalizers = watched
        for name, (normalizer, stats, moments) in normalizers.items():
            eps = getattr(normalizer, "eps", 0.0)
            sources = {"running": _stored(stats, stats.running_mean, stats.running_var, stats.num_rows)}
            if stats.population_mean is not None:
                population = stats.population_mean, stats.population_var, stats.population_rows
                sources["population"] = _stored(stats, *population)
            layer = recording.layers.get(name.rpartition("/")[0])
            if layer is not None and moments.found:
                sources["batch"] = moments.last(_calls(normalizer, stats, len(layer.active)))
            for source, (n, mean, var) in sources.items():
                found.rows[f"mean/{source}/{name}"] = mean.square().mean(1).sqrt()
                found.rows[f"variance/{source}/{name}"] = var.mean(1)
                seen = n > 1  # one row has no variance
                if source != "population" and int(seen.sum()) > 1:
                    row = torch.full((len(n),), torch.nan, dtype=torch.float64)
                    row[seen] = distance_from_pool(n[seen], mean[seen], var[seen], eps)
                    found.rows[f"distance/{source}/{name}"] = row
            if "batch" in sources:
                against = _against(sources["batch"], sources["running"], eps)
                for series, row in zip(AGAINST, against, strict=True):
                    found.rows[f"{series}/{name}"] = row
        for series, tag in (*((f"{tag}/", tag) for tag in AGAINST), ("distance/batch/", "distance")):
            medians = [float(row.nanmedian()) for name, row in found.rows.items() if name.startswith(series)]
            found.scalars[tag] = max((m for m in medians if math.isfinite(m)), default=math.nan)
        return found

    def shows(self, heat_map: HeatMap, panels: Mapping[str, Table]) -> str:
        """Where the newest column has its largest distance."""
        last = {name: np.nan_to_num(table.array()[-1], nan=0.0) for name, table in panels.items()}
        place, step = max(last, key=lambda name: float(last[name].max())), next(iter(panels.values())).steps[-1]
        return f"Step {step:,}: most in {place} at t = {int(last[place].argmax())}."


def discrepancy(mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Training-inference discrepancy of mean and variance at each step, averaged over features, (k,) float64 each.

        mean_j |μ - μ'| / s        mean_j |s' / s - 1|        s = √(σ² + ε),    s' = √(σ'² + ε)

    Args:
        mean: (k, F), of the batch.
        var: (k, F), of the batch.
        other_mean: (k, F), stored.
        other_var: (k, F), stored.
        eps: ε of the normalizer.
    """
    s, other = (var.double() + eps).sqrt(), (other_var.double() + eps).sqrt()
    return ((mean.double() - other_mean.double()).abs() / s).mean(1), (other / s - 1).abs().mean(1)


def _against(batch: Moment, running: Moment, eps: float) -> list[Tensor]:
    """Running averages against a batch, (T,) for each of `AGAINST`; nan at a step without variance or slot."""
    n, mean, var = batch
    _, other_mean, other_var = running
    if len(other_mean) == 1:  # shared by all steps
        other_mean, other_var = other_mean.expand_as(mean), other_var.expand_as(var)
    k = min(len(mean), len(other_mean))
    moments = mean[:k], var[:k], other_mean[:k], other_var[:k], eps
    rows = []
    for values in (distance(*moments), *discrepancy(*moments)):
        row = torch.full((len(n),), torch.nan, dtype=torch.float64)
        row[:k] = values
        row[n < 2] = torch.nan
        rows.append(row)
    return rows
