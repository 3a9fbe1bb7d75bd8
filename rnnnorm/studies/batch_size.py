"""From which batch size on does batch normalization pay? Test loss against batch size at equally many sequences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import pandas as pd

from rnnnorm.data.module import SequenceDataModule
from rnnnorm.norms import evaluates_by, has_batch_statistics, recalibrate, statistics
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.plots import Panel
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.batch_noise import gaussian_noise, hidden_products, noise
from rnnnorm.studies.measures.batch_panels import best, panels, sizes_of
from rnnnorm.studies.data.plain_training import build_data, build_task, curve, evaluate, final, train
from rnnnorm.tasks import SequenceTask

NEEDED = 0.02  # nats
NOISE_WITHIN = 0.1
SMALL = 8
REFERENCE = 32
"""The batch size at which the learning rate is the given one, and from which a batch counts as large."""
OF_BATCH = ("bn-timestep", "bn-shared", "bn-vertical", "bn-vertical-framewise", "bn-star", "bn-window", "bn-joint")


class BatchSize(Study):
    """Normalizers over batch sizes, and the noise of the batch's own statistics."""

    name = "batch-size"
    question = "How small may a batch be before batch normalization loses to layer normalization?"
    method = (
        "All batch sizes see the same number of sequences, so that small batches take more steps; the optimizer is "
        "Adam, whose learning rate grows with √B (Malladi et al., NeurIPS 2022); the given one is that of "
        f"B = {REFERENCE}. Of several learning rates that with the lowest mean validation loss counts, per norm and "
        "batch size. Test loss at the last weights on the same test batches, by population statistics, or by running "
        "ones where training itself reads those. Differences are paired by seed; the smallest effect of interest is "
        f"{NEEDED:g} nats. Noise: W_hh h of a trained network on test sequences; the relative standard deviation of "
        "σ̂ over random batches of B, mean over units and three timesteps; the formula holds if it is within "
        f"{NOISE_WITHIN:.0%}."
    )
    columns: ClassVar[tuple[str, ...]] = ("learning_rate", "mode", "size", "t")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "small",
            f"With batches of {SMALL} or fewer sequences batch normalization is worse than layer normalization.",
            "Ba et al., 2016, figure 6 (permutation-invariant MNIST, B = 128 and 4)",
            "a figure only: at B = 4 layer normalization trains as well, batch normalization is slower and worse",
        ),
        Claim(
            "degrades",
            "Batch normalization gets worse as batches get smaller.",
            "Wu & He, ECCV 2018 (ResNet-50, ImageNet)",
            "error with group normalization 10.6 % (absolute) lower than with batch normalization at B = 2",
        ),
        Claim(
            "flat",
            "Normalizers that do not look at the batch do not get worse as batches get smaller.",
            "Wu & He, ECCV 2018; Ba et al., 2016",
        ),
        Claim(
            "cmbn",
            "Statistics averaged over several mini-batches (CmBN) repair batch normalization at small batches.",
            "Bochkovskiy et al., 2020; Yao et al., CVPR 2021, for the idea",
        ),
        Claim(
            "noise",
            "The relative standard deviation of a batch's σ̂ is 1/√(2(B-1)).",
            "first order, independent Gaussian values",
            "41 % at B = 4, 18 % at B = 16, 9 % at B = 64",
        ),
    )

    def trials(self) -> list[Trial]:
        """Norm × batch size; slow norms at fewer sizes; then the noise of the statistics of one trained network."""
        option = self.settings.option
        made = []
        for size in option("batch_sizes"):
            for norm in self.settings.norms:
                slow = norm.split(":")[0] in option("slow_norms")
                if not slow:
                    made += [Trial({"batch": size}, norm, seed, weight=1 + 10 / size) for seed in self.settings.seeds]
        for size in option("slow_batch_sizes"):
            for norm in self.settings.norms:
                if norm.split(":")[0] in option("slow_norms"):
                    made += [Trial({"batch": size}, norm, seed, weight=150 / size) for seed in self.settings.seeds]
        made += [Trial({"part": "noise"}, "none", seed, weight=1.5) for seed in self.settings.seeds]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """By `learning_rate`: `loss` and `score` by `mode`, `val_loss`, `train_loss`; or `noise` by `size`."""
        rates = self.settings.option("learning_rates")
        if "batch" not in trial.conditions:
            task, data, _ = self._trained(trial, REFERENCE, rates[len(rates) // 2])
            products = hidden_products(task, data.test_dataloader())
            sizes, draws = self.settings.option("batch_sizes"), self.settings.option("noise_draws")
            for size, value in noise(products, sizes, draws, trial.seed):
                yield {"quantity": "noise", "size": size, "value": value}
            return
        for rate in rates:
            task, data, losses = self._trained(trial, int(trial.conditions["batch"]), rate)
            yield from ({**row, "learning_rate": rate} for row in _evaluated(task, data, final(losses)))
            yield from curve(losses, learning_rate=rate)

    def _trained(self, trial: Trial, size: int, rate: float) -> tuple[SequenceTask, SequenceDataModule, list[float]]:
        scaled = rate * math.sqrt(size / REFERENCE)
        config = self.settings.configured(data={"batch_size": size}, model={"learning_rate": scaled})
        data = build_data(config, trial.seed)
        task = build_task(config, data, trial.norm, trial.seed)
        trainer = config["trainer"]
        return task, data, train(task, data, trainer["max_epochs"], trainer.get("gradient_clip_val"))

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Losses against those of LN, across batch sizes, of CmBN; the noise against the formula."""
        loss = where(best(m), quantity="test_loss")
        norms, sizes = list(dict.fromkeys(loss["norm"])) if len(loss) else [], sizes_of(loss)
        batchwise = [norm for norm in norms if norm.split(":")[0] in OF_BATCH]
        rowwise = [norm for norm in norms if norm.split(":")[0] in ("ln", "gn", "wn", "rms", "none")]

        def gap(a: str, b: str, size: int) -> list[float]:
            return difference(per_seed(loss, norm=a, batch=size), per_seed(loss, norm=b, batch=size))

        small = sorted((size for size in sizes if size <= SMALL), key=lambda size: abs(size - 4))  # the paper's first
        cases = {
            "small": [
                Case(f"{norm}, B = {size}", estimate(gap(norm, "ln", size)), NEEDED)
                for norm in batchwise
                for size in small
            ],
            "degrades": [Case(name, estimate(values), NEEDED) for name, values in _shrinking(loss, batchwise, sizes)],
            "flat": [
                Case(name, estimate(values), NEEDED, below=True) for name, values in _shrinking(loss, rowwise, sizes)
            ],
            "cmbn": [
                Case(f"{norm}, B = {size}", estimate(gap("bn-timestep", norm, size)), NEEDED)
                for norm in norms
                if norm.startswith("cmbn")
                for size in small
            ],
            "noise": [
                Case(f"B = {size}", estimate(_deviation(m, size)), NOISE_WITHIN, below=True)
                for size in sizes_of(where(m, quantity="noise"), "size")
            ],
        }
        units = {"noise": "relative deviation from the formula"}
        known = {key: [case for case in found if case.effect.n] for key, found in cases.items()}
        return [
            judge(claim, units.get(claim.key, "nats"), known[claim.key]) for claim in self.claims if known[claim.key]
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The crossover, and the noise."""
        loss, found = where(best(m), quantity="test_loss"), []
        for norm in dict.fromkeys(loss["norm"]) if len(loss) else ():
            if norm.split(":")[0] not in OF_BATCH:
                continue
            gaps = {}
            for size in sizes_of(loss):
                values = difference(per_seed(loss, norm=norm, batch=size), per_seed(loss, norm="ln", batch=size))
                if values and all(map(math.isfinite, values)):
                    gaps[size] = sum(values) / len(values)
            if gaps:
                found.append(_crossover(norm, gaps))
        spread = where(m, quantity="noise")
        parts = [
            f"{spread[spread['size'] == size]['value'].mean():.0%} at B = {size} (formula: {gaussian_noise(size):.0%})"
            for size in sizes_of(spread, "size")
        ]
        if parts:
            found.append(f"The relative standard deviation of σ̂ is {', '.join(parts)}.")
        diverged = where(m, quantity="diverged", value=1.0)
        if len(diverged):
            whose = ", ".join(sorted(set(diverged["norm"])))
            found.append(f"{len(diverged)} of {len(where(m, quantity='diverged'))} trainings diverged: {whose}.")
        return found

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Loss by batch size, the difference from LN, the noise of σ̂, the three evaluations."""
        return panels(m)


def _evaluated(task: SequenceTask, data: SequenceDataModule, train_loss: float) -> Iterable[Row]:
    diverged = not math.isfinite(train_loss)
    yield {"quantity": "diverged", "value": float(diverged)}
    yield {"quantity": "train_loss", "value": train_loss}
    stored = has_batch_statistics(task)
    if stored and not diverged:
        recalibrate(task, data.train_dataloader(), forward=task.encode, rows=None)
    own = evaluates_by(task) if stored else "running"
    for mode in ("population", "running", "batch"):
        loss, score = math.inf, math.nan
        if not diverged:
            with statistics(task, mode if stored else "running"):
                loss, score = evaluate(task, data.test_dataloader())
        yield {"quantity": "loss", "mode": mode, "value": loss}
        yield {"quantity": "score", "mode": mode, "value": score}
        if mode == own:
            yield {"quantity": "test_loss", "value": loss}
    with statistics(task, own):
        value = math.inf if diverged else evaluate(task, data.val_dataloader())[0]
    yield {"quantity": "val_loss", "value": value}


def _deviation(m: pd.DataFrame, size: int) -> list[float]:
    return [abs(value / gaussian_noise(size) - 1) for value in per_seed(m, quantity="noise", size=size)]


def _shrinking(loss: pd.DataFrame, norms: Iterable[str], sizes: Sequence[int]) -> list[tuple[str, list[float]]]:
    """Loss at each small batch size minus that at the large one next to the reference."""
    large = [size for size in sizes if size > SMALL]
    if not large:
        return []
    base = min(large, key=lambda size: abs(math.log2(size / REFERENCE)))
    found = []
    for norm in norms:
        at_base = per_seed(loss, norm=norm, batch=base)
        for size in sizes:
            if size <= SMALL:
                values = difference(per_seed(loss, norm=norm, batch=size), at_base)
                found.append((f"{norm}, B = {size} against {base}", values))
    return found


def _crossover(norm: str, gaps: dict[int, float]) -> str:
    """In a sentence, from which batch size on a norm is at most `NEEDED` worse than LN."""
    sizes = sorted(gaps)
    good = [size for k, size in enumerate(sizes) if all(gaps[s] <= NEEDED for s in sizes[k:])]
    extremes = f"{gaps[sizes[0]]:+.3f} nats at B = {sizes[0]}, {gaps[sizes[-1]]:+.3f} at B = {sizes[-1]}"
    if not good:
        return f"{norm} is worse than ln up to the largest batch ({extremes}): use ln."
    if good[0] == sizes[0]:
        return f"{norm} is as good as ln, or better, at every batch size ({extremes})."
    return f"{norm} is as good as ln, within {NEEDED:g} nats, from B = {good[0]} on ({extremes}); below, use ln."
