"""How much does the scale of the initial weights matter, in what is computed and in what is learned?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.plain_training import build_data, build_task, final, train
from rnnnorm.studies.data.surgery import blank_loss, scale_weights, start_from_data
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, linear_axis, lines, log_axis, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.rescaling import CHANGES, PUBLISHED, deviations

CELLS = {"lstm": "LSTM", "rnn-tanh": "tanh RNN", "rnn-relu": "ReLU RNN"}
CHANGE_NAMES = {
    "matrix": "weight matrix × 3",
    "centre": "weight matrix shifted",
    "vector": "some weight vectors × 3",
    "data": "data × 3",
    "shift": "data shifted",
    "case": "one case × 3",
}
INVARIANT = 0.01
NATS = 0.05
"""The smallest difference of training losses that counts."""
SATURATED = 0.9


class Initialization(Study):
    """The scale of initial weights."""

    name = "initialization"
    question = "Does normalization make training independent of the scale of the initial weights, and of saturation?"
    method = (
        "First the table of invariances: how much the normalized W_ih x of an LSTM changes, relative to its norm, when "
        "weights or data are multiplied by 3 or shifted (float64, Gaussian input, batch statistics; under weight "
        "normalization it is v that changes). Invariant means by less than 1 %. Then W_ih and W_hh of networks with "
        "orthogonal initialization are multiplied by a factor before training (under weight normalization that "
        "multiplies g, unless it is set from data afterwards), and all are trained for the same number of steps, each "
        "at the best of the learning rates. Training is unaffected if the loss at the end (last tenth of the steps) "
        "at the worst factor is close to that at the best; who may be careless is told by the loss at the worst factor "
        "itself, since what learns nothing anywhere is not sensitive either; both seed by seed. A run that diverges, "
        "or ends above the loss of logits of 0, counts with the latter. Differences count from 0.05 nats. "
        "Saturated is a state of a tanh RNN with "
        "|h| > 0.9, on the first batch, before training."
    )
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "invariances",
            "Re-scaling a weight matrix leaves BN, LN, RMS and WN unchanged, re-centring it LN only, re-scaling single "
            "weight vectors BN and WN, re-scaling all data BN, LN and RMS, re-centring them BN, one case LN and RMS.",
            "Ba et al. 2016, table 1; Zhang & Sennrich, NeurIPS 2019",
        ),
        Claim(
            "resilient",
            "Training with a normalizer is unaffected by the scale of the weights.",
            "Ioffe & Szegedy, ICML 2015, section 3.3; Ba et al. 2016, section 5",
        ),
        Claim(
            "careful",
            "Batch normalization lets one be less careful about initialization.",
            "Ioffe & Szegedy, ICML 2015",
        ),
        Claim(
            "saturating",
            "Batch normalization makes saturating nonlinearities usable: networks do not get stuck in saturated modes.",
            "Ioffe & Szegedy, ICML 2015",
        ),
        Claim(
            "data-dependent",
            "Weight normalization needs its initialization by data to be robust to the scale of the initial weights.",
            "Salimans & Kingma, NIPS 2016, section 3; they do not use it for their LSTM, whose state varies with time",
        ),
    )

    def trials(self) -> list[Trial]:
        """The table of invariances, then cells × norms; a trial goes through all factors and learning rates."""
        s = self.settings
        runs = len(s.option("scales")) * len(s.option("learning_rates"))
        made = [
            Trial({"part": "invariance"}, norm, seed, weight=0.1)
            for norm in s.option("invariant_norms")
            for seed in s.seeds
        ]
        made += [
            Trial({"part": "trained", "cell": cell}, norm, seed, weight=(1.0 if cell == "lstm" else 2.0) * runs)
            for cell in s.option("cells")
            for norm in dict.fromkeys(["none", *s.norms])
            for seed in s.seeds
        ]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`deviation` by `change`; or `loss`, `diverged`, `saturated` by `scale` and `learning_rate`."""
        s = self.settings
        if trial.conditions["part"] == "invariance":
            sizes = {"hidden_size": s.option("hidden_size"), "steps": s.option("steps"), "batch": 32}
            for change, value in deviations(trial.norm, seed=trial.seed, **sizes):
                yield {"quantity": "deviation", "change": change, "value": value}
            return
        for scale in s.option("scales"):
            for rate in s.option("learning_rates"):
                here = {"scale": float(scale), "learning_rate": float(rate)}
                for row in self._train(trial, scale, rate):
                    yield {**here, **row}

    def _train(self, trial: Trial, scale: float, rate: float) -> Iterable[Row]:
        config = self.settings.configured(model={"cell": trial.conditions["cell"], "learning_rate": rate})
        data = build_data(config, trial.seed)
        task = build_task(config, data, trial.norm, trial.seed)
        scale_weights(task.recurrent, scale)
        batch = next(iter(data.train_dataloader()))
        start_from_data(task, batch)
        blank = blank_loss(task, batch)
        if trial.conditions["cell"] == "rnn-tanh":
            with torch.no_grad():
                output, _ = task.recurrent(task._embedded(batch.input))
            yield {"quantity": "saturated", "value": float((output.data.abs() > SATURATED).double().mean())}
            task.recurrent.reset_norms()  # stored statistics begin with the training
        trainer = config.get("trainer", {})
        losses = train(task, data, trainer.get("max_epochs", 1), trainer.get("gradient_clip_val"))
        yield {"quantity": "loss", "value": min(final(losses), blank)}
        yield {"quantity": "blank_loss", "value": blank}
        yield {"quantity": "diverged", "value": float(not math.isfinite(losses[-1]))}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Deviations; losses at the worst scale against the best, none's and WN's; losses after a saturated start."""
        trained = tuned(where(m, part="trained"))
        found: dict[str, list[Case]] = {claim.key: [] for claim in self.claims}
        measured = where(m, part="invariance", quantity="deviation")
        for change in CHANGES:
            for norm in dict.fromkeys(measured["norm"]):
                kind = norm.split(":")[0].split("-")[0]
                effect = estimate(per_seed(measured, change=change, norm=norm))
                invariant = kind in PUBLISHED[change]
                label = f"{CHANGE_NAMES[change]}, {norm}{'' if invariant else ' (not invariant)'}"
                found["invariances"].append(Case(label, effect, INVARIANT, below=invariant))
        for cell in [cell for cell in CELLS if cell in values(trained, "cell")]:
            here = where(trained, cell=cell)
            spread = {norm: sensitivity(here, norm) for norm in dict.fromkeys(here["norm"])}
            worst = {norm: where(here, norm=norm).groupby("seed")["value"].max() for norm in ["wn", "none", *spread]}
            for norm in spread:
                place = f"{norm}, {CELLS[cell]}"
                if norm != "none" and not norm.startswith("wn"):
                    found["resilient"].append(Case(place, estimate(spread[norm]), NATS, below=True))
                if norm.startswith("bn-"):
                    gain = difference(worst["none"], worst[norm])
                    found["careful"].append(Case(place, estimate(gain), NATS))
                if norm.startswith("bn-") and cell != "rnn-relu":
                    largest = where(here, scale=max(values(here, "scale")))
                    gain = difference(per_seed(largest, norm="none"), per_seed(largest, norm=norm))
                    label = f"{place}, weights × {max(values(here, 'scale')):g}"
                    found["saturating"].append(Case(label, estimate(gain), NATS))
            for norm in [norm for norm in spread if norm.startswith("wn:") and "init=data" in norm]:
                gain = difference(worst["wn"], worst[norm])
                found["data-dependent"].append(Case(f"{norm}, {CELLS[cell]}", estimate(gain), NATS))
        units = {
            "invariances": "relative deviation",
            "resilient": "training loss at the worst scale minus the best, nats",
            "saturating": "training loss of none minus BN's, nats",
        }
        return [
            judge(
                self.claim(key),
                units.get(key, "training loss at the worst scale without minus with, nats"),
                cases,
                headline=_headline(cases),
            )
            for key, cases in found.items()
            if any(case.effect.n for case in cases)
        ]

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Training loss against the scale, a panel per cell; then the table of invariances."""
        trained = tuned(where(m, part="trained"))
        blank = where(m, part="trained", quantity="blank_loss")["value"]

        def loss(cell: str) -> Any:
            def draw(axes: Axes, theme: Theme) -> None:
                rule(axes, theme, y=float(blank.median()) if len(blank) else None, text="nothing learned")
                lines(axes, where(trained, cell=cell), "scale")
                log_axis(axes, "x", numbers=values(trained, "scale"))
                linear_axis(axes)

            return draw

        def table(axes: Axes, theme: Theme) -> None:
            rows = where(m, part="invariance", quantity="deviation").copy()
            rows["value"] = rows["value"].clip(lower=1e-7)
            rows["place"] = [float(CHANGES.index(change)) for change in rows.get("change", [])]
            rule(axes, theme, y=INVARIANT, text="invariant below")
            norms = list(dict.fromkeys(rows["norm"]))
            # Side by side, so that what is equal does not hide what is below.
            shift = {norm: 0.12 * (k - (len(norms) - 1) / 2) for k, norm in enumerate(norms)}
            rows["place"] += [shift[norm] for norm in rows["norm"]]
            lines(axes, rows, "place", marker="o", band=False)
            for line in axes.get_lines()[1:]:
                line.set_linestyle("none")
                line.set_markersize(7)
            axes.set_xticks(range(len(CHANGES)), ["W × 3", "W shifted", "rows × 3", "data × 3", "shifted", "case × 3"])
            log_axis(axes)

        cells = [cell for cell in CELLS if cell in values(trained, "cell")]
        about = "Sensitivity to the scale of the initial weights."
        return [
            *(
                Panel(f"training loss (nats), {CELLS[c]}", "factor of the initial weights", loss(c), about)
                for c in cells
            ),
            Panel(
                "relative change of normalized W_ih x (foot: 1e-7 or less)",
                "what is changed",
                table,
                "The table of invariances.",
            ),
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """Sensitivities in order, saturation, the best norm at the largest scale, and divergence."""
        said = []
        trained = tuned(where(m, part="trained"))
        for cell in [cell for cell in CELLS if cell in values(trained, "cell")]:
            here = where(trained, cell=cell)
            mean = {norm: sensitivity(here, norm).mean() for norm in dict.fromkeys(here["norm"])}
            order = sorted(mean, key=lambda norm: float(mean[norm]))
            low, high = min(values(here, "scale")), max(values(here, "scale"))
            said.append(
                f"{CELLS[cell]}: between weights × {low:g} and × {high:g} the training loss varies by "
                + ", ".join(f"{mean[norm]:.2f} ({norm})" for norm in order)
                + " nats."
            )
        states = where(m, part="trained", quantity="saturated")
        if len(states):
            ends = where(states, scale=states["scale"].max()).groupby("norm", sort=False)["value"].mean()
            said.append(
                f"In a tanh RNN with weights × {states['scale'].max():g} the share of saturated states is "
                + ", ".join(f"{value:.0%} ({norm})" for norm, value in ends.items())
                + "."
            )
        broken = where(m, part="trained", quantity="diverged", value=1.0)
        if len(broken):
            counts = broken.groupby(["cell", "norm"], sort=False).size()
            parts = [f"{CELLS.get(cell, cell)}, {norm} ({count})" for (cell, norm), count in counts.items()]
            said.append(f"Diverged: {'; '.join(parts)}.")
        return said


def _headline(cases: Sequence[Case]) -> int:
    """The first case of batch normalization between timesteps, which normalizes all weights; else the first."""
    known = [k for k, case in enumerate(cases) if case.effect.n]
    found = [k for k in known if "bn-" in cases[k].condition and "bn-vertical" not in cases[k].condition]
    return (found or known)[0]


def tuned(m: pd.DataFrame) -> pd.DataFrame:
    """The losses at the learning rate of each cell, norm and scale that has the lowest mean."""
    keys = ["cell", "norm", "scale"]
    losses = where(m, quantity="loss")
    if losses.empty:
        return losses
    mean = losses.groupby([*keys, "learning_rate"], sort=False)["value"].mean().reset_index()
    best = mean.sort_values("value", kind="stable").drop_duplicates(keys)[[*keys, "learning_rate"]]
    return losses.merge(best, on=[*keys, "learning_rate"])


def sensitivity(m: pd.DataFrame, norm: str) -> pd.Series:
    """The loss at the worst scale minus that at the best, by seed.

    Args:
        m: losses of one cell.
        norm: which.
    """
    loss = where(m, norm=norm).groupby("seed")["value"]
    return loss.max() - loss.min()
