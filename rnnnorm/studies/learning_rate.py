"""How large a learning rate may be, and how large it should be, by batch size and normalizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.plain_training import build_data, build_task, curve, final, train
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.rates import apart, chosen, exponents, sizes_of

OCTAVE = 0.5
PAYS = 0.02  # nats
SLOPE_WITHIN = 0.25
PATIENCE = 10.0
STYLES = {"wn": "--"}  # it often lies upon none


class LearningRate(Study):
    """Largest stable and best learning rate of SGD over batch sizes and normalizers."""

    name = "learning-rate"
    question = "Does normalization allow larger learning rates, and do they pay?"
    method = (
        "SGD with momentum 0.9, constant learning rate, no clipping; every batch size sees the same number of "
        "sequences. Learning rates are powers of 2. Of each training counts its final loss, the mean over its last "
        f"tenth of the steps; it is stopped, and infinite, once a loss is not finite or {PATIENCE:g} times the first "
        "one. Stable: the final loss is below the loss before training. Best: the lowest final loss. Effects are "
        "octaves (log2 of a ratio of learning rates), paired by seed; the smallest of interest is "
        f"{OCTAVE:g} octaves, for losses {PAYS:g} nats, and a slope counts as linear scaling within {SLOPE_WITHIN:g} "
        "of 1; far below means more than one octave. A largest stable rate at the end of the grid is a lower bound."
    )
    columns: ClassVar[tuple[str, ...]] = ("learning_rate", "t")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "larger",
            "Batch normalization allows larger learning rates.",
            "Ioffe & Szegedy, ICML 2015; De & Smith, NeurIPS 2020",
            "learning rates 5 and 30 times as large for Inception on ImageNet",
        ),
        Claim(
            "vertical",
            "Vertical batch normalization cannot use larger learning rates, since W_hh stays unnormalized.",
            "Laurent et al., ICASSP 2016",
            "no number was published",
        ),
        Claim(
            "pays",
            "What batch normalization gains by large learning rates it gains at large batches.",
            "De & Smith, NeurIPS 2020, figures 5 and 6 (wide residual networks, CIFAR-10, constant number of epochs)",
        ),
        Claim(
            "unused",
            "At small batches the best learning rate is far below the largest stable one, normalized or not.",
            "De & Smith, NeurIPS 2020",
        ),
        Claim(
            "linear",
            "The best learning rate is proportional to the batch size as long as batches are small.",
            "De & Smith, NeurIPS 2020; Goyal et al., 2017",
            "exponent 1",
        ),
    )

    def trials(self) -> list[Trial]:
        """Batch size × norm; each trial goes through all learning rates."""
        return [
            Trial({"batch": size}, norm, seed, weight=1 + 40 / size)
            for size in self.settings.option("batch_sizes")
            for norm in self.settings.norms
            for seed in self.settings.seeds
        ]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`first_loss` and `final_loss` by `learning_rate`: 2 to the powers from `octaves[0]` to `octaves[1]`."""
        low, high = self.settings.option("octaves")
        for power in range(low, high + 1):
            rate = 2.0**power
            config = self.settings.configured(
                data={"batch_size": int(trial.conditions["batch"])}, model={"learning_rate": rate}
            )
            data = build_data(config, trial.seed)
            task = build_task(config, data, trial.norm, trial.seed)
            trainer = config["trainer"]
            losses = train(task, data, trainer["max_epochs"], trainer.get("gradient_clip_val"), patience=PATIENCE)
            yield {"quantity": "first_loss", "learning_rate": rate, "value": losses[0]}
            yield {"quantity": "final_loss", "learning_rate": rate, "value": final(losses)}
            yield from curve(losses, learning_rate=rate)

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Octaves between largest stable rates, and between stable and best; gain in loss; exponents."""
        rates = chosen(m)
        stable, best, loss = (where(rates, quantity=q) for q in ("stable", "best", "best_loss"))
        sizes, norms = sizes_of(rates), list(dict.fromkeys(rates["norm"])) if len(rates) else []
        normalized = [norm for norm in norms if norm.startswith("bn-")]
        horizontal = [norm for norm in normalized if not norm.startswith("bn-vertical")]
        cases: dict[str, list[Case]] = {
            "larger": [
                Case(f"{norm}, B = {size}", apart(stable, norm, stable, "none", size), OCTAVE)
                for size in reversed(sizes)
                for norm in horizontal
            ],
            "vertical": [
                Case(f"{norm}, B = {size}", apart(stable, norm, stable, "none", size), OCTAVE, below=True)
                for size in reversed(sizes)
                for norm in normalized
                if norm not in horizontal
            ],
            "unused": [
                Case(f"{norm}, B = {sizes[0]}", apart(stable, norm, best, norm, sizes[0]), 1.0)
                for norm in [*horizontal, *(n for n in norms if n not in horizontal)]
            ],
        }
        if len(sizes) > 1:
            cases["pays"] = [
                Case(
                    f"{norm}, gain over none at B = {sizes[-1]} minus that at B = {sizes[0]}",
                    estimate(difference(_gain(loss, norm, sizes[-1]), _gain(loss, norm, sizes[0]))),
                    PAYS,
                )
                for norm in normalized
            ]
            a, b = sizes[0], min(sizes[1:], key=lambda size: abs(math.log2(size / 32)))
            cases["linear"] = [
                Case(f"{norm}, B = {a} to {b}, {word}", estimate(exponents(best, norm, a, b)), limit, below=below)
                for norm in [*horizontal, *(n for n in norms if n not in horizontal)]
                for word, limit, below in (
                    ("not slower", 1 - SLOPE_WITHIN, False),
                    ("not faster", 1 + SLOPE_WITHIN, True),
                )
            ]
        units = {"pays": "nats", "linear": "exponent of the best learning rate in B"}
        known = {key: [case for case in found if case.effect.n] for key, found in cases.items()}
        return [
            judge(claim, units.get(claim.key, "octaves"), known[claim.key])
            for claim in self.claims
            if known.get(claim.key)
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """Stable and best rates at the smallest and the largest batch, and whether the grid was wide enough."""
        rates, found = chosen(m), []
        for size in dict.fromkeys(sizes_of(rates)[:1] + sizes_of(rates)[-1:]):
            parts = []
            for norm in dict.fromkeys(rates["norm"]):
                best, stable = (_typical(where(rates, quantity=q, norm=norm, batch=size)) for q in ("best", "stable"))
                value = where(rates, quantity="best_loss", norm=norm, batch=size)["value"].mean()
                parts.append(f"{norm} {best:.2g} of at most {stable:.2g} (loss {value:.3f})")
            found.append(f"Best and largest stable learning rate at B = {size} (geometric means): {'; '.join(parts)}.")
        ends = where(m, quantity="final_loss")["learning_rate"]
        stable = where(rates, quantity="stable")
        if len(stable) and (stable["value"] == ends.max()).any():
            reached = ", ".join(dict.fromkeys(stable[stable["value"] == ends.max()]["norm"]))
            found.append(f"Stable up to the end of the grid, so that the true limit is higher: {reached}.")
        return found

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Final loss against the learning rate at the smallest and largest batch; best and largest stable rates."""
        rates, sizes = chosen(m), sizes_of(m)
        ends = sorted(set(where(m, quantity="final_loss")["learning_rate"])) if len(m) else []

        def loss_at(size: int) -> Panel:
            def draw(axes: Axes, theme: Theme) -> None:
                rows = where(m, quantity="final_loss", batch=size)
                rows = rows[np.isfinite(rows["value"].astype(float))]
                # A mean over those seeds alone that did not diverge would flatter: the line ends where one does.
                full = where(m, quantity="final_loss", batch=size)["seed"].nunique()
                counted = rows.groupby(["norm", "learning_rate"])["seed"].transform("nunique")
                lines(axes, rows[counted == full], "learning_rate", styles=STYLES, band=False)
                log_axis(axes, "x", base=2)
                axes.set_xticks(ends[::2], [_fraction(rate) for rate in ends[::2]])
                low, high = axes.get_ylim()
                wide = low <= 0 or high / low > 100
                log_axis(
                    axes,
                    numbers=[1e-4, 1e-3, 0.01, 0.1, 1, 10]
                    if wide
                    else [0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 5],
                )

            about = f"Final training loss at batch size {size}; a line ends where training diverges."
            return Panel(f"final training loss, nats; B = {size}", "learning rate", draw, about)

        def against(quantity: str, title: str, about: str) -> Panel:
            def draw(axes: Axes, theme: Theme) -> None:
                rows = where(rates, quantity=quantity).copy()
                rows["value"] = rows["value"].map(lambda value: math.log2(value) if value > 0 else math.nan)
                lines(axes, rows.dropna(subset=["value"]), "batch", styles=STYLES)
                log_axis(axes, "x", base=2, numbers=sizes)
                powers = range(math.floor(axes.get_ylim()[0]), math.ceil(axes.get_ylim()[1]) + 1)
                ticks = list(powers)[:: 2 if len(powers) > 7 else 1]
                axes.set_yticks(ticks, [_fraction(2.0**tick) for tick in ticks])

            return Panel(title, "batch size B", draw, about)

        return [
            *(loss_at(size) for size in dict.fromkeys(sizes[:1] + sizes[-1:])),
            against("best", "best learning rate", "The learning rate with the lowest final loss against batch size."),
            against("stable", "largest stable learning rate", "The largest rate that ends below the initial loss."),
        ]


def _gain(loss: pd.DataFrame, norm: str, size: int) -> pd.Series:
    plain, normalized = per_seed(loss, norm="none", batch=size), per_seed(loss, norm=norm, batch=size)
    both = plain.index.intersection(normalized.index)
    return plain[both] - normalized[both]


def _typical(rows: pd.DataFrame) -> float:
    return 2.0 ** float(rows["value"].map(math.log2).mean()) if len(rows) else math.nan


def _fraction(rate: float) -> str:
    return f"1/{1 / rate:g}" if rate < 1 else f"{rate:g}"
