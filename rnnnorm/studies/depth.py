"""What makes deep residual stacks trainable: batch normalization, or only that it makes the branches small?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Any

import pandas as pd

from rnnnorm.report.colours import colour
from rnnnorm.studies.data.plain_training import build_data, build_task
from rnnnorm.studies.data.residual_stacks import METHODS, arguments, growth
from rnnnorm.studies.data.surgery import bounded_training
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import best_by, by_others
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import backwards, first, last, within
from rnnnorm.studies.measures.depths import SLACK, by_block, deepest, second_half

NAMES = {
    "no-skip": "no skip", "plain": "skip", "bn-branch": "BN on branch", "bn-sum": "BN on sum", "fixup": "Fixup",
    "skipinit-0": "SkipInit α = 0", "skipinit-depth": "SkipInit α = 1/√d", "skipinit-1": "SkipInit α = 1",
}  # fmt: skip
PAINT = (colour("none"),) * 2 + (colour("bn-vertical"),) * 2 + OTHERS[:4]
STYLES = {"no skip": ":", "BN on sum": "-.", "SkipInit α = 0": "--", "SkipInit α = 1": "--", "SkipInit α = 1/√d": ":"}

RELU = within(cell="rnn-relu")
start = partial(Contrast, norms="none", by=("cell",), label="{cell}")
trained = partial(Contrast, "deep_loss", norms="none", against={"method": "bn-branch"},
                  by=("cell", "optimizer", "depth"), needed=0.05, label="{cell}, {optimizer}, {depth}")  # fmt: skip
drawn = partial(Lines, line="{method}", colours=dict(zip(NAMES.values(), PAINT, strict=True)),
                styles=STYLES)  # fmt: skip
squares = partial(drawn, "square", axis="block", about="Growth with depth.", x="block", log="y", above=1e-3,
                  marker=None)  # fmt: skip
PER = ["cell", "optimizer", "depth", "method", "norm"]


class Depth(Study):
    """Residual stacks, at initialization and trained."""

    name = "depth"
    question = "What makes deep residual stacks of recurrent layers trainable, normalization or small branches?"
    method = (
        "Each block adds to its input what a recurrent layer makes of it. At initialization a stack of 64 blocks reads "
        "Gaussian rows; ReLU layers (He-initialized W_ih) read one step, which makes them the fully connected layers "
        "of the theory. Measured are E[h²] after each block, which is the variance where weights are drawn with mean "
        "zero (geometric mean over draws), and the share of it that the branch has. A recurrent layer ends in its "
        "nonlinearity, the branches of the theory in a linear map with mean zero. Growth is linear if E[h²] doubles "
        "with the depth, 2^p with p within 0.1 of 1, and exponential from a factor of 1.5 per block. Then stacks of "
        "growing depth are trained for the same number of steps, without clipping, by SGD with momentum 0.9 (as De & "
        "Smith) and by Adam, each at the learning rate with the lowest mean training loss at the end (last tenth of "
        "the steps), in the mean of the other seeds. That loss counts; a run that diverges, or ends above the loss of "
        "logits of 0, counts with the latter. Batch normalization stands behind each layer but the last, on the branch "
        "or on the sum. Differences count from 0.05 nats, at the two greatest depths. A depth is called trainable up "
        "to 0.1 nats above a skip without norm at the smallest depth."
    )
    claims = (
        Claim("linear", "With batch normalization on the residual branch the variance of h grows linearly with depth.",
              "after De & Smith, NeurIPS 2020 (ReLU networks)", "variance l + 1 after block l",
              start("off_linear", "|p - 1|, where E[h²] ∝ depth^p", only={"method": "bn-branch"}, scope=RELU,
                    needed=0.1, below=True)),
        Claim("exponential", "Without normalization the variance doubles with each residual block.",
              "after De & Smith, NeurIPS 2020 (ReLU networks)",
              "variance 2^l after block l, of which the branch has one half",
              start("factor", "factor per block", only={"method": "plain"}, scope=RELU, needed=1.5, null=1.0)),
        Claim("identity",
              "Batch normalization biases deep blocks to the identity: branch l has 1/l of the variance, not half.",
              "after De & Smith, NeurIPS 2020 (ReLU networks)", "branches scaled down by a factor of order √depth",
              Contrast("last_share", "share of the last branch in E[h²]", "none", by=("cell", "branch"),
                       only={"branch": ["with BN", "without"]}, scope=RELU, label="{branch}, {cell}",
                       needed=lambda here: 0.05 if here["branch"] == "with BN" else 0.25,
                       below=lambda here: bool(here["branch"] == "with BN"))),
        Claim(
            "bn-deep", "Batch normalization on the branch makes depths trainable that are not with a skip alone.",
            "after De & Smith, NeurIPS 2020", "1000 layers and more with batch normalization",
            trained("training loss with a skip alone minus BN's, nats", only={"depth": backwards, "method": "plain"}),
        ),
        Claim("skipinit",
              "A learned scalar on each branch that starts at α = 0 or 1/√d replaces batch normalization at any depth.",
              "after De & Smith, NeurIPS 2020 (SkipInit)", "1000 layers without batch normalization",
              trained("training loss minus BN's, nats", by=("cell", "optimizer", "depth", "method"), below=True,
                      only={"depth": backwards, "method": ["skipinit-0", "skipinit-depth"]},
                      label="{method}, {cell}, {optimizer}, {depth}")),
        Claim("alpha-one", "A learned scalar that starts at α = 1 does not: small branches are what matters.",
              "after De & Smith, NeurIPS 2020",
              contrast=trained("training loss minus that of α = 0, nats", against={"method": "skipinit-0"},
                               only={"depth": backwards, "method": "skipinit-1"})),
        Claim("fixup", "Small initial weights on the branches (Fixup) replace batch normalization at any depth.",
              "Zhang et al., ICLR 2019", "10,000 layers without normalization",
              trained("training loss minus BN's, nats", only={"depth": backwards, "method": "fixup"}, below=True)),
    )  # fmt: skip
    diverged, diverged_by = "count with the loss of logits of 0", "{method}{norm}"
    words = Words(cell={"lstm": "LSTM", "rnn-tanh": "tanh RNN", "rnn-relu": "ReLU RNN"},
                  optimizer={"adam": "Adam", "sgd": "SGD"}, depth="{:.0f} layers", method=NAMES,
                  norm=lambda norm: "" if norm == "none" else f" + {norm}",
                  deepest=lambda depth: f"{depth:.0f}" if depth else "none")  # fmt: skip
    plots = (
        squares("E[h²] at initialization, ReLU layers", only={"cell": "rnn-relu", "norm": "none"},
                curve=lambda block: 2.0**block, formula="2^l, De & Smith"),
        squares("E[h²] at initialization, LSTM layers", only={"cell": "lstm", "norm": "none"}),
        drawn("loss", "training loss (nats), {cell}, {optimizer}", "layers", "What is trainable.", x="depth", log="x",
              base=2, rule="blank_loss", text="nothing learned", band=False, each=("cell", "optimizer"),
              only={"cell": backwards, "optimizer": first, "norm": "none"}),
    )  # fmt: skip
    best = Best("loss", "training loss in nats", "{method}{norm}", "for {cell}, {optimizer}, {depth}",
                {"cell": backwards, "depth": last})  # fmt: skip
    sentences = (
        Sentence("{cell}: after {block} blocks E[h²] is {with_skip:.3g} with a skip alone and {with_bn:.3g} with "
                 "batch normalization on the branch.", ("cell", "block"), {"block": last}),
        Sentence(f"Deepest trainable {{cell}}, {{optimizer}} (to within {SLACK} nats of a skip at the smallest depth) "
                 "among the depths {depths}: {items}.", ("cell", "optimizer", "depths"), {"cell": backwards},
                 "{method}{norm}: {deepest}", ("method", "norm")),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Growth at initialization, then training: cells × depths × methods, and a skip with each norm inside."""
        option, made = self.settings.option, list[Trial]()
        rates, norms = option("learning_rates"), dict.fromkeys(["none", *self.settings.norms])
        places: list[Any] = [({"part": "start", "cell": cell}, 1.0) for cell in option("start_cells")]
        for cell, optimizer, depth in product(option("cells"), rates, option("depths")):
            axes = {"part": "trained", "cell": cell, "optimizer": optimizer, "depth": depth}
            places.append((axes, 0.1 * depth * len(rates[optimizer])))
        for axes, weight in places:
            made += self.grid({**axes, "method": "plain"}, norms, weight=weight)
            made += self.grid({**axes, "method": [m for m in METHODS if m != "plain"]}, ["none"], weight=weight)
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`square` and `share` by `block`; or losses and `diverged` by `learning_rate`."""
        c, option = trial.conditions, self.settings.option
        cell, method, optimizer = str(c["cell"]), str(c["method"]), c.get("optimizer")
        if c["part"] == "start":
            sizes = {key: option(f"start_{key}") for key in ("size", "depth", "batch", "draws")}
            steps = 1 if cell == "rnn-relu" else option("steps")
            yield from by_block(method, growth(cell, method, trial.norm, steps=steps, seed=trial.seed, **sizes))
            return
        made = arguments(method, trial.norm)
        keys = {"cell": cell, "num_layers": c["depth"], "optimizer": optimizer, "cell_options": made}
        keys["momentum"] = 0.9 if optimizer == "sgd" else 0.0
        for rate in option("learning_rates")[optimizer]:
            config = self.settings.configured(model={**keys, "learning_rate": rate})
            data = build_data(config, trial.seed)
            task = build_task(config, data, made["norm"], trial.seed)
            for quantity, value in bounded_training(task, data, config, option("max_steps")).items():
                yield {"learning_rate": float(rate), "quantity": quantity, "value": value}

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Losses at the best learning rate; growth from half of all blocks to the last one, and what is there."""
        best = best_by(m, "loss", "learning_rate", PER)
        loss = by_others(where(m, quantity="loss"), "learning_rate", PER)
        yield from (best[best["quantity"] != "loss"], loss)
        yield loss[loss.groupby("cell")["depth"].rank("dense", ascending=False) <= 2].assign(quantity="deep_loss")
        yield deepest(loss)
        if "block" in m:
            yield from second_half(m)
