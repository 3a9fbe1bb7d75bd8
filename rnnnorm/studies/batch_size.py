"""From which batch size on does batch normalization pay? Test loss at equal samples, and at equal steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from rnnnorm.studies.data.plain_training import curve, final, fit
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import best_by, mapped, paired
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.modes import mode_style
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import names_matching
from rnnnorm.studies.framework.sentence import at_ends
from rnnnorm.studies.framework.trial import Condition
from rnnnorm.studies.measures.batch_noise import gaussian_noise, hidden_products, noise
from rnnnorm.studies.measures.evaluated import MODES, crossovers, evaluated

NEEDED = 0.02  # nats
NOISE_WITHIN = 0.1
SMALL = 8
REFERENCE = 32
"""The batch size at which the learning rate is the given one, and from which a batch counts as large."""
EQUAL = ("samples", "steps")
"""What all batch sizes have as much of."""
ARM = ("norm", "batch", "equal")
LABEL = "{norm}, B = {batch}, {equal}"
of_batch = names_matching("bn-timestep", "bn-shared", "bn-vertical", "bn-vertical-framewise", "bn-star", "bn-window",
                          "bn-joint")  # fmt: skip


def small(sizes: Sequence[int]) -> list[int]:
    """The small batch sizes, that of the paper first."""
    return sorted((size for size in sizes if size <= SMALL), key=lambda size: abs(size - 4))


def large(sizes: Sequence[int]) -> int | None:
    """The large batch size next to the reference."""
    return min((s for s in sizes if s > SMALL), key=lambda size: abs(math.log2(size / REFERENCE)), default=None)


among = partial(Contrast, "test_loss", "nats", by=ARM, needed=NEEDED,
                label=LABEL)  # fmt: skip
shrinking = partial(among, against={"batch": large}, only={"batch": lambda sizes: sorted(small(sizes))},
                    label="{norm}, B = {batch} against {against[batch]}, {equal}")  # fmt: skip
by_size = partial(Lines, axis="batch size B", x="batch", log="x", base=2)


class BatchSize(Study):
    """Normalizers over batch sizes, and the noise of the batch's own statistics."""

    name = "batch-size"
    question = "How small may a batch be before batch normalization loses to layer normalization?"
    method = (
        "At equal samples all batch sizes see the same number of sequences, so that small batches take more steps; at "
        "equal steps they take the same number of steps, so that large batches see more sequences. What holds in both "
        "is due to the batch size, not to the length of the training. The optimizer is Adam, whose learning rates grow "
        "with √B (Malladi et al., NeurIPS 2022); the given ones, over five octaves, are those of B = "
        f"{REFERENCE}. That with the lowest mean validation loss counts, per norm, batch size and kind of equality. "
        "Test loss at the last weights on the same test batches, by population statistics, or by running ones "
        "where training itself reads those. Differences are paired by seed; the smallest effect of interest is "
        f"{NEEDED:g} nats. Noise: W_hh h of a trained network on test sequences; the relative standard deviation of "
        "σ̂ over random batches of B, mean over units and three timesteps; the formula holds if it is within "
        f"{NOISE_WITHIN:.0%}."
    )
    columns = ("learning_rate", "mode", "size", "t")
    claims = (
        Claim("small",
              f"With batches of {SMALL} or fewer sequences batch normalization is worse than layer normalization.",
              "Ba et al., 2016, figure 6 (permutation-invariant MNIST, B = 128 and 4)",
              "a figure only: at B = 4 layer normalization trains as well, batch normalization is slower and worse",
              among(of_batch, "ln", only={"batch": small})),
        Claim("degrades", "Batch normalization gets worse as batches get smaller.",
              "Wu & He, ECCV 2018 (ResNet-50, ImageNet)",
              "error with group normalization 10.6 % (absolute) lower than with batch normalization at B = 2",
              shrinking(of_batch)),
        Claim("flat", "Normalizers that do not look at the batch do not get worse as batches get smaller.",
              "Wu & He, ECCV 2018; Ba et al., 2016",
              contrast=shrinking(names_matching("ln", "gn", "wn", "rms", "none"), below=True)),
        Claim("cmbn",
              "Statistics averaged over several mini-batches (CmBN) repair batch normalization at small batches.",
              "Bochkovskiy et al., 2020; Yao et al., CVPR 2021, for the idea",
              contrast=among(names_matching("cmbn"), "bn-timestep", only={"batch": small}, turned=True)),
        Claim("noise", "The relative standard deviation of a batch's σ̂ is 1/√(2(B-1)).",
              "first order, independent Gaussian values", "41 % at B = 4, 18 % at B = 16, 9 % at B = 64",
              Contrast("deviation", "relative deviation from the formula", by=("size",), needed=NOISE_WITHIN,
                       below=True, label="B = {size}")),
    )  # fmt: skip
    words = Words(equal={"samples": "equal samples", "steps": "equal steps"})
    plots = (
        by_size("test_loss", "test loss, nats per prediction, {equal}", about="Test loss at the best learning rates.",
                log="xy", each=("equal",)),
        by_size("excess", "test loss minus that of ln, nats, {equal}", each=("equal",),
                about="Where norms cross layer normalization.", rule=0.0,
                text="as good as ln", linear_up_to=0.02, y_ticks=[-1, -0.1, -0.02, 0, 0.02, 0.1, 1]),
        by_size("noise", "relative standard deviation of a batch's σ̂", about="The noise, and the formula.", x="size",
                log="xy", y_ticks=[0.05, 0.1, 0.2, 0.5, 1.0], line="measured", colours=OTHERS,
                curve=gaussian_noise, formula="1/√(2(B−1))"),
        by_size("loss", "test loss of bn-timestep, nats, {equal}", axis="training batch size B", each=("equal",),
                about="Three evaluations of the same weights.", log="xy", only={"norm": "bn-timestep", "mode": MODES},
                line="{mode} statistics", colours=OTHERS, styles=mode_style),
    )  # fmt: skip
    noises = "{noise:.0%} at B = {size} (formula: {formula:.0%})"
    best = Best("test_loss", "test loss in nats", at="at B = {batch}, {equal}")
    sentences = (Sentence("The relative standard deviation of σ̂ is {items}.", items=noises, over=("size",)),)

    def trials(self) -> list[Trial]:
        """Equality × norm × batch size, slow norms at fewer sizes; then the noise of one network's statistics."""
        option = self.settings.option
        slow = names_matching(*option("slow_norms"))(self.settings.norms)
        fast = [norm for norm in self.settings.norms if norm not in slow]
        return [
            *self.grid({"equal": EQUAL, "batch": option("batch_sizes")}, fast, weight=self._weight),
            *self.grid(
                {"equal": EQUAL, "batch": option("slow_batch_sizes")}, slow, weight=lambda c: 10 * self._weight(c)
            ),
            *self.grid({"part": "noise"}, ["none"], weight=1.5),
        ]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """By `learning_rate`: `loss` and `score` by `mode`, `val_loss`, `train_loss`; or `noise` by `size`."""
        option, size = self.settings.option, int(trial.conditions.get("batch", REFERENCE))
        rates = option("learning_rates")
        if "batch" not in trial.conditions:
            task, data, _ = fit(self._config(size, rates[len(rates) // 2]), trial.norm, trial.seed)
            products = hidden_products(task, data.test_dataloader())
            for drawn, value in noise(products, option("batch_sizes"), option("noise_draws"), trial.seed):
                yield {"quantity": "noise", "size": drawn, "value": value}
            return
        for rate in rates:
            config, how = self._config(size, rate), dict[str, int]()
            if trial.conditions["equal"] == "steps":
                how["max_steps"] = int(option("steps"))
                config = {
                    **config,
                    "trainer": {**config["trainer"], "max_epochs": how["max_steps"]},
                }  # as many as it may need: an epoch has a step
            task, data, losses = fit(config, trial.norm, trial.seed, **how)
            yield from ({**row, "learning_rate": rate} for row in evaluated(task, data, final(losses)))
            yield from curve(losses, learning_rate=rate)

    def _weight(self, here: Mapping[str, Condition]) -> float:
        """About how long a trial takes: small batches take many steps, unless all take as many."""
        return 1 + 10 / float(here["batch"]) if here["equal"] == "samples" else 2 + float(here["batch"]) / 64

    def _config(self, size: int, rate: float) -> dict[str, Any]:
        model = {"learning_rate": rate * math.sqrt(size / REFERENCE)}
        return self.settings.configured(data={"batch_size": size}, model=model)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Trainings at the best learning rate, how much worse they are than ln, the deviation from the formula."""
        best = best_by(m, "val_loss", "learning_rate", [*ARM])
        yield best
        yield paired(best, "test_loss", "ln", "excess", apart="learning_rate")
        yield mapped(m, "noise", "formula", lambda rows: rows["size"].map(gaussian_noise))
        yield mapped(m, "noise", "deviation", lambda rows: (rows["value"] / rows["size"].map(gaussian_noise) - 1).abs())

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The best norm at each batch size, the noise, and the crossover of each norm with ln."""
        whole = self.derived(m)
        said = [*super().findings(m), *at_ends(m, whole, "learning_rate", LABEL, self.words)]
        for equal, excess in where(whole, quantity="excess").groupby("equal", sort=False):
            said += [f"At {self.words['equal'][equal]} {text}" for text in crossovers(excess, of_batch, NEEDED)]
        return said
