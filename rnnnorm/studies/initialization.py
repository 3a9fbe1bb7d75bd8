"""How much does the scale of the initial weights matter, in what is computed and in what is learned?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import pandas as pd
import torch

from rnnnorm.studies.data.plain_training import build_data, build_task
from rnnnorm.studies.data.surgery import bounded_training, scale_weights, start_from_data
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import best_by, by_others
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.selection import beginning, last
from rnnnorm.studies.measures.rescaling import CHANGES, deviations, name_changes, side_by_side

INVARIANT = 0.01
NATS = 0.05  # the smallest difference of training losses that counts
SATURATED = 0.9

trained = partial(Contrast, by=("cell",), needed=NATS, label="{norm}, {cell}")
gained = partial(trained, "worst", "training loss at the worst scale without minus with, nats", turned=True)


class Initialization(Study):
    """The scale of initial weights."""

    name = "initialization"
    question = "Does normalization make training independent of the scale of the initial weights, and of saturation?"
    method = (
        "First the table of invariances: how much the normalized W_ih x of an LSTM changes, relative to its norm, "
        "when weights or data are multiplied by 3 or shifted (float64, Gaussian input, batch statistics; under weight "
        "normalization it is v that changes). Invariant means by less than 1 %. Then W_ih and W_hh of networks with "
        "orthogonal initialization are multiplied by a factor before training (under weight normalization that "
        "multiplies g, unless it is set from data afterwards), and all are trained for the same number of steps, each "
        "at the best of the learning rates. Training is unaffected if the loss at the end (last tenth of the steps) "
        "at the worst factor is close to that at the best; who may be careless is told by the loss at the worst "
        "factor itself, since what learns nothing anywhere is not sensitive either. For each seed the other seeds say "
        "which factors are the worst and the best, so that noise alone makes no difference between them. A run that "
        "diverges, or ends above the loss of logits of 0, counts with the latter. Differences count from 0.05 nats. "
        "Saturated is a state of a tanh RNN with |h| > 0.9, on the first batch, before training."
    )
    claims = (
        Claim("invariances",
              "Re-scaling a weight matrix leaves BN, LN, RMS and WN unchanged, re-centring it LN only, re-scaling "
              "single weight vectors BN and WN, re-scaling all data BN, LN and RMS, re-centring them BN, one case LN "
              "and RMS.", "Ba et al. 2016, table 1; after Zhang & Sennrich, NeurIPS 2019",
              contrast=Contrast("deviation", "relative deviation", by=("change", "norm", "invariant"),
                                only={"change": CHANGES}, needed=INVARIANT, below=lambda here: bool(here["invariant"]),
                                label="{change}, {norm}{invariant}")),
        Claim("resilient", "Training with a normalizer is unaffected by the scale of the weights.",
              "after Ioffe & Szegedy, ICML 2015; Ba et al. 2016, section 5",
              contrast=trained("spread", "training loss at the worst scale minus the best, nats",
                               beginning(but=("none", "wn")), below=True)),
        Claim("careful", "Batch normalization lets one be less careful about initialization.",
              "after Ioffe & Szegedy, ICML 2015", contrast=gained(norms=beginning("bn-"), against="none")),
        Claim("saturating",
              "Batch normalization makes saturating nonlinearities usable: networks do not get stuck in saturated "
              "modes.", "after Ioffe & Szegedy, ICML 2015",
              contrast=Contrast("largest", "training loss of none minus BN's, nats", beginning("bn-"), "none",
                                ("cell", "scale"),
                                {"cell": lambda cells: [cell for cell in cells if cell != "rnn-relu"]}, NATS,
                                turned=True, label="{norm}, {cell}, weights × {scale}")),
        Claim("data-dependent",
              "Weight normalization needs its initialization by data to be robust to the scale of the initial weights.",
              "after Salimans & Kingma, NIPS 2016; they do not use it for their LSTM, whose state varies with "
              "time", contrast=gained(norms=beginning("wn:", having="init=data"), against="wn")),
    )  # fmt: skip
    diverged, diverged_by = "count with the loss of logits of 0", "{cell} with {norm}"
    words = Words(cell={"lstm": "LSTM", "rnn-tanh": "tanh RNN", "rnn-relu": "ReLU RNN"}, change={
            "matrix": "weight matrix × 3", "centre": "weight matrix shifted", "vector": "some weight vectors × 3",
            "data": "data × 3", "shift": "data shifted", "case": "one case × 3",
        }, invariant={True: "", False: " (not invariant)"})  # fmt: skip
    plots = (
        Lines("loss", "training loss (nats), {cell}", "factor of the initial weights",
              "Sensitivity to the scale of the initial weights.", x="scale", log="x", each=("cell",), rule="blank_loss",
              text="nothing learned"),
        Lines("shown", "relative change of normalized W_ih x (foot: 1e−7 or less)", "what is changed",
              "The table of invariances.", x="place", log="y", rule=INVARIANT, text="invariant below", band=False,
              styles=lambda norm: " ", also=name_changes),
    )  # fmt: skip
    best = Best("worst", "training loss in nats at the worst factor of the initial weights", at="in the {cell}")
    sentences = (
        Sentence("{cell}: between weights × {smallest} and × {greatest} the training loss varies by {items} nats.",
                 ("cell", "smallest", "greatest"), items="{spread:.2f} ({norm})", rising=True),
        Sentence("In a tanh RNN with weights × {scale} the share of saturated states is {items}.", ("scale",),
                 {"scale": last}, "{saturated:.0%} ({norm})"),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """The table of invariances, then cells × norms; a trial goes through all factors and learning rates."""
        option, norms = self.settings.option, dict.fromkeys(["none", *self.settings.norms])
        runs = len(option("scales")) * len(option("learning_rates"))
        return [
            *self.grid({"part": "invariance"}, option("invariant_norms"), weight=0.1),
            *self.grid(
                {"part": "trained", "cell": option("cells")}, norms,
                weight=lambda here: (1.0 if here["cell"] == "lstm" else 2.0) * runs,
            ),
        ]  # fmt: skip

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`deviation` by `change`; or `loss`, `diverged`, `saturated` by `scale` and `learning_rate`."""
        option = self.settings.option
        if trial.conditions["part"] == "invariance":
            sizes = {"hidden_size": option("hidden_size"), "steps": option("steps"), "batch": 32}
            for change, value in deviations(trial.norm, seed=trial.seed, **sizes):
                yield {"quantity": "deviation", "change": change, "value": value}
            return
        for scale in option("scales"):
            for rate in option("learning_rates"):
                for quantity, value in self._train(trial, scale, rate):
                    here = {"scale": float(scale), "learning_rate": float(rate)}
                    yield {**here, "quantity": quantity, "value": value}

    def _train(self, trial: Trial, scale: float, rate: float) -> Iterable[tuple[str, float]]:
        config = self.settings.configured(model={"cell": trial.conditions["cell"], "learning_rate": rate})
        data = build_data(config, trial.seed)
        task = build_task(config, data, trial.norm, trial.seed)
        scale_weights(task.recurrent, scale)
        if trial.conditions["cell"] == "rnn-tanh":
            batch = next(iter(data.train_dataloader()))
            start_from_data(task, batch)
            with torch.no_grad():
                output, _ = task.recurrent(task._embedded(batch.input))
            yield "saturated", float((output.data.abs() > SATURATED).double().mean())
            task.recurrent.reset_norms()  # stored statistics begin with the training
        found = bounded_training(task, data, config)
        yield from ((quantity, found[quantity]) for quantity in ("loss", "blank_loss", "diverged"))

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Losses at the best learning rate: the `worst` over scales, their `spread`, and at the `largest` scale."""
        changes, best = where(m, quantity="deviation"), best_by(m, "loss", "learning_rate", ["cell", "norm", "scale"])
        if len(changes):
            yield from side_by_side(changes)
        yield where(best, part="trained")
        loss = where(best, quantity="loss")
        if len(loss):
            ends = {"smallest": loss["scale"].min(), "greatest": loss["scale"].max()}
            per = ["cell", "norm"]
            worst, least = (by_others(loss, "scale", per, greatest).drop(columns="scale") for greatest in (True, False))
            yield worst.assign(quantity="worst")
            yield worst.assign(quantity="spread", value=worst["value"] - least["value"], **ends)
            yield loss[loss["scale"] == loss.groupby("cell")["scale"].transform("max")].assign(quantity="largest")

    def headline(self, **point: Any) -> Any:
        """Batch normalization between timesteps, which normalizes all weights."""
        return "bn-" in point["norm"] and "bn-vertical" not in point["norm"]
