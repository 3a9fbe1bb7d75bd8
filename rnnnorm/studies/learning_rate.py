"""How large a learning rate may be, and how large it should be, by batch size and normalizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.plain_training import curve, final, fit
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Study, Trained, Trial
from rnnnorm.studies.framework.derive import mapped
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import linear_axis
from rnnnorm.studies.framework.selection import backwards, beginning, ends, first, last, leading, names_matching
from rnnnorm.studies.measures.rates import POINT, epochs_for, grid_of, rates

OCTAVE = 0.5
PAYS = 0.02  # nats
SLOPE_WITHIN = 0.25
PATIENCE = 10.0
horizontal = beginning("bn-", but=("bn-vertical",))  # batch normalization of W_hh h, too


def horizontal_first(norms: Sequence[str]) -> list[str]:
    """All norms, batch normalization of W_hh h first."""
    return leading(*horizontal(norms))(norms)


def moderate(sizes: Sequence[int]) -> list[int]:
    """The batch size next to 32, above the smallest."""
    return sorted(sizes[1:], key=lambda size: abs(math.log2(size / 32)))[:1]


def in_powers(axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
    """Write octaves as powers of 2: -3 as 1/8."""
    linear_axis(axes, integer=True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda p, _: f"1/{2.0**-p:g}" if p < 0 else f"{2.0**p:g}"))


limit = partial(Contrast, "stable_octaves", "octaves", against="none", by=("batch",), only={"batch": backwards},
                needed=OCTAVE, label="{norm}, B = {batch}")  # fmt: skip
slope = partial(Contrast, "slope", "exponent of the best learning rate in B", horizontal_first, by=("start", "batch"),
                only={"batch": moderate}, null=1.0)  # fmt: skip
by_size = partial(Lines, axis="batch size B", x="batch", log="x", base=2, also=in_powers)


class LearningRate(Study):
    """Largest stable and best learning rate of SGD over batch sizes and normalizers."""

    name = "learning-rate"
    question = "Does normalization allow larger learning rates, and do they pay?"
    method = (
        "SGD with momentum 0.9, constant learning rate, no clipping; every batch size sees the same number of "
        "sequences, and as many more as it needs for the fewest steps that count. Learning rates are powers of √2, as "
        "fine as the smallest effect of interest. Of each training counts its final loss, the mean over its last "
        f"tenth of the steps; it is stopped, and infinite, once a loss is not finite or {PATIENCE:g} times the first "
        "one. Stable: the final loss is below the loss before training. Best: the lowest final loss. Effects are "
        f"octaves (log2 of a ratio of learning rates), paired by seed; the smallest of interest is {OCTAVE:g} "
        f"octaves, for losses {PAYS:g} nats, and a slope counts as linear scaling within {SLOPE_WITHIN:g} of 1; far "
        "below means more than one octave. A largest stable rate at the end of the grid is a lower bound."
    )
    columns = ("learning_rate", "t")
    claims = (
        Claim("larger", "Batch normalization allows larger learning rates.",
              "after Ioffe & Szegedy, ICML 2015; De & Smith, NeurIPS 2020",
              "learning rates 5 and 30 times as large for Inception on ImageNet", limit(norms=beginning("bn-"))),
        Claim("vertical",
              "Vertical batch normalization cannot use larger learning rates, since W_hh stays unnormalized.",
              "Laurent et al., ICASSP 2016", "no number was published",
              limit(norms=names_matching("bn-vertical", "bn-vertical-framewise"), below=True)),
        Claim("pays", "What batch normalization gains by large learning rates it gains at large batches.",
              "after De & Smith, NeurIPS 2020 (wide residual networks, CIFAR-10, constant number of epochs)",
              contrast=Contrast("gain", "nats", beginning("bn-"), {"batch": partial(min, default=None)},
                                only={"batch": last}, needed=PAYS,
                                label="{norm}, gain over none at B = {batch} minus that at B = {against[batch]}")),
        Claim("unused",
              "At small batches the best learning rate is far below the largest stable one, normalized or not.",
              "after De & Smith, NeurIPS 2020",
              contrast=Contrast("spare", "octaves", horizontal_first, by=("batch",), only={"batch": first}, needed=1.0,
                                label="{norm}, B = {batch}")),
        Claim("linear", "The best learning rate is proportional to the batch size as long as batches are small.",
              "after De & Smith, NeurIPS 2020; Goyal et al., 2017", "exponent 1",
              (slope(needed=1 - SLOPE_WITHIN, label="{norm}, B = {start} to {batch}, not slower"),
               slope(needed=1 + SLOPE_WITHIN, below=True, label="{norm}, B = {start} to {batch}, not faster"))),
    )  # fmt: skip
    plots = (
        Lines("mean_loss", "final training loss, nats; B = {batch}", "learning rate",
              "Final training loss; a line ends where training diverges.", x="learning_rate", each=("batch",),
              only={"batch": ends}, log="xy", base=2, band=False),
        by_size("best_octaves", "best learning rate", about="The learning rate with the lowest final loss."),
        by_size("stable_octaves", "largest stable learning rate", about="The largest rate that ends below the start."),
    )  # fmt: skip
    best = Best("best_loss", "final training loss in nats, each norm at its best rate", at="at B = {batch}")
    sentences = (
        Sentence("Lowest loss first, at B = {batch}, with the best and the largest stable learning rate: {items}.",
                 by=("batch",),
                 only={"batch": ends},
                 rising=True,
                 items="{norm} loss {best_loss:.3f} at {typical_best:.2g} of at most {typical_stable:.2g}"),
        Sentence("Stable up to the end of the grid, so that the true limit is higher: {items}.",
                 items="{norm} ({at_end:g})"),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Batch size × norm; each trial goes through all learning rates."""
        option = self.settings.option
        many = len(grid_of(option("octaves"), option("per_octave"))) / 12
        return self.grid(
            {"batch": option("batch_sizes")}, weight=lambda c: many * (1 + 40 / min(float(c["batch"]), 64))
        )

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`first_loss` and `final_loss` by `learning_rate`: 2 to the powers from `octaves[0]` to `octaves[1]`."""
        size, option = int(trial.conditions["batch"]), self.settings.option
        longer = {"max_epochs": epochs_for(self.settings.config, size, option("min_steps"))}
        for rate in grid_of(option("octaves"), option("per_octave")):
            config = self.settings.configured(data={"batch_size": size}, model={"learning_rate": rate}, trainer=longer)
            _, _, losses = fit(config, trial.norm, trial.seed, patience=PATIENCE)
            yield {"quantity": "first_loss", "learning_rate": rate, "value": losses[0]}
            yield {"quantity": "final_loss", "learning_rate": rate, "value": final(losses)}
            yield from curve(losses, learning_rate=rate)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Rates in octaves and what lies between them, gains over none, slopes from the smallest batch on."""
        # Infinite where one seed diverged: a mean over the others would flatter.
        at = ["norm", "batch", "learning_rate"]
        yield mapped(m, "final_loss", "mean_loss", lambda rows: rows.groupby(at)["value"].transform("mean"))
        found = rates(m)
        if found.empty:
            return
        start, octaves = found["batch"].min(), np.log2(found[["best", "stable"]])
        made = found.assign(start=start, best_octaves=octaves["best"], stable_octaves=octaves["stable"])
        plain = found[["batch", "seed"]].merge(where(made, norm="none"), "left")
        first = found[["norm", "seed"]].merge(where(made, batch=start), "left")
        made["spare"] = octaves["stable"] - octaves["best"]
        made["gain"] = plain["best_loss"] - found["best_loss"]
        larger = found["batch"].where(found["batch"] > start)
        made["slope"] = (octaves["best"] - first["best_octaves"]) / np.log2(larger / start)
        made["at_end"] = found["stable"].where(
            found["stable"] == where(m, quantity="final_loss")["learning_rate"].max()
        )
        typical = 2.0 ** octaves.groupby([found["norm"], found["batch"]]).transform("mean")
        made[["typical_best", "typical_stable"]] = typical
        yield made.melt([*POINT, "start"], var_name="quantity")
