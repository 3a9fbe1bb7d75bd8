"""How should inputs be scaled, and does normalization inside the network make it unnecessary?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from rnnnorm.studies.data.scaling import scaled
from rnnnorm.studies.framework import Best, Claim, Contrast, Points, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import mapped
from rnnnorm.studies.framework.grid import Source
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import first
from rnnnorm.studies.framework.settings import merged
from rnnnorm.studies.framework.trained import CLASSIFIERS
from rnnnorm.studies.framework.trial import Condition
from rnnnorm.studies.measures.guessing import score
from rnnnorm.studies.measures.scaled_inputs import Paths, steps_to_loss, weight_path

NEEDED = 0.01
FASTER = 0.25  # octaves
LABEL = "{norm}, {optimizer}, {data}"
VERTICAL = ("bn-vertical", "bn-timestep")
PATH = "rnnnorm.studies.data.scaling.WeightPath"
DIGITS = {"class_path": "rnnnorm.data.SpokenDigits", "init_args": {"standardize": False, "batch_size": 32}}
NAMES = {"none": "raw", "minmax": "min-max", "zscore": "z-score", "log": "logarithm", "arctan": "arctangent",
         "minmax-centred": "centred min-max", "zscore-offset": "z-score off zero",
         "log-zscore": "z-score of the logarithm"}  # fmt: skip
COLOURS = dict(zip(NAMES.values(), ("#5a5a5a", *OTHERS, "#2b2b2b", "#c0c0c0"), strict=True))


def preferring(value: str) -> Callable[[Sequence[str]], Sequence[str]]:
    """A rule for `only`: one value where it occurs, else the first one."""
    return lambda found: [value] if value in found else found[:1]


def compared(quantity: str, unit: str, scaling: str | Sequence[str], to: str = "zscore", **keys: Any) -> Contrast:
    """A contrast of scalings with another one, for each norm (`none`, if not given), data set and optimizer."""
    only = {"data": sorted, "optimizer": sorted, "scaling": scaling}
    keys = {"norms": "none", "label": LABEL, **keys}
    by = ("scaling", "norm", "data", "optimizer")
    return Contrast(quantity, unit, against={"scaling": to}, by=by, only=only, **keys)


accuracy = partial(compared, "final", needed=NEEDED)
dots = partial(Points, line="{norm}", series="{scaling}", colours=COLOURS)


class InputScaling(Study):
    """Scalings of the inputs × normalizers × optimizers."""

    name = "input-scaling"
    tuned_by = ("data", "scaling", "optimizer")
    question = "How should inputs be scaled, and does normalization make scaling unnecessary?"
    method = (
        "Series of six features whose scales span six decades (in full runs also two), half of them heavy-tailed, all "
        "off zero, are told apart raw and after each scaling: min-max to [0, 1], z-score, sign(x)·log(1 + |x|), "
        "arctan x; and, so that centring, spread and tails are told apart, centred min-max, z-score plus 3, and the "
        "logarithm's z-score. All are fitted on the training split. Steps to target: the first at which the running "
        "mean of the training loss over 20 steps is below 0.85 times the loss of guessing; a network that never is "
        "counts as one step more than it was given. Zig-zag: length of the path of two input weights of one unit, of "
        "the features with the smallest and the largest scale, over the distance between its ends. With data at hand "
        "also on raw cepstra of spoken digits. Accuracies differ from 0.01."
    )
    columns = ("axis", "low", "high", "count", "mode", "t")
    claims = (
        Claim("faster", "Inputs of mean 0 and variance 1 let networks learn faster than raw ones.",
              "after LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
              contrast=compared("octaves_of_steps", "octaves of steps to the target, raw minus z-score", "none",
                                needed=FASTER)),
        Claim("zigzag", "On raw inputs gradient descent zig-zags; on standardized ones its path is straighter.",
              "after LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
              contrast=compared("octaves_of_zigzag", "octaves of zig-zag, raw minus z-score", "none",
                                needed=FASTER)),
        Claim("invariant", "With batch normalization of W_ih x inputs need no scaling.",
              "invariance of batch normalization to rescaling the data: Ba, Kiros & Hinton 2016, table 1",
              contrast=accuracy("test accuracy, z-score minus raw", "none", norms=VERTICAL, turned=True, below=True)),
        Claim("centred", "Inputs should be centred.", "after LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
              contrast=(accuracy("test accuracy, centred minus not", "minmax-centred", "minmax",
                                 label="{scaling}, " + LABEL),
                        accuracy("test accuracy, centred minus not", "zscore", "zscore-offset",
                                 label="{scaling}, " + LABEL))),
        Claim("tails", "Heavy-tailed inputs are better compressed by a logarithm before they are standardized.",
              "common advice in data preparation",
              contrast=accuracy("test accuracy, of the logarithm's z-score minus z-score", "log-zscore")),
    )  # fmt: skip
    diverged = "count as guessing"
    words = Words(scaling=NAMES, optimizer={"sgd": "SGD", "adam": "Adam"})
    plots = (
        Paths(("weight_a", "weight_b"), "path of two weights from the cross ({norm}, {optimizer})",
              "change of one; upwards: of another", "Paths from the cross.", line="{scaling}", colours=COLOURS,
              only={"data": first, "optimizer": preferring("sgd"), "norm": preferring("none")}),
        dots("final", "test score, {data}, {optimizer}", "test score", "By norm and scaling.",
             each=("data", "optimizer")),
        dots("steps_to_target", "training steps to the target loss, {data}, {optimizer}", "training steps",
             "By norm and scaling.", log=True,
             only={"data": first, "optimizer": preferring("sgd")}),
    )  # fmt: skip
    best = Best("final", "test score", "{scaling} with `{norm}` and {optimizer}", "on {data}", greatest=True)
    sentences = (
        Sentence("On {data} `{norm}` reaches, by the scaling of its inputs and in the mean over optimizers: {items}.",
                 by=("data", "norm"), items="{scaling} {final:.3f}", over=("scaling",), rising=False, least=2),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Generated series: scalings × optimizers × norms; spoken digits: scalings × norms."""
        option, made, own = self.settings.option, list[Trial](), self.settings.config["data"]
        spans = {f"series, {n:g} decades": merged(own, {"init_args": {"decades": n}}) for n in option("milder")}
        for source in self.sources({"series": own, **spans}, {"spoken digits": DIGITS}):
            scalings, optimizers, norms = option("scalings"), list(option("optimizers")), self.settings.norms
            if source.real:
                scalings, optimizers, norms = option("digits"), ["adam"], option("digit_norms")
            axes = {"data": source.name, "scaling": scalings, "optimizer": optimizers}
            config, weight = partial(self._configured, source), 8.0 if source.real else 2.5
            made += self.grid(axes, norms, config, weight)
            if not source.real:  # what tells factors apart is judged where nothing normalizes
                made += self.grid(
                    {**axes, "scaling": option("factors")}, [n for n in norms if n == "none"], config, weight
                )
        return made

    def _configured(self, source: Source, here: Mapping[str, Condition]) -> dict[str, Any]:
        rates = {"adam": 0.002, **self.settings.option("optimizers")}
        epochs = {"max_epochs": int(self.settings.option("digit_epochs"))} if source.real else {}
        path = {"class_path": PATH, "init_args": {"features": [0, 1] if self.settings.own else [0, 5]}}
        return self.settings.configured(
            data=scaled(source.data or self.settings.config["data"], str(here["scaling"])),
            model={"optimizer": here["optimizer"], "learning_rate": float(rates[here["optimizer"]])},
            trainer={"callbacks": [path], **epochs},
        )

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`steps_to_target`, `zigzag`, `final` test score, and the path: `weight_a`, `weight_b` by `t`."""
        assert trained is not None
        yield from trained.rows()
        if trained.spec.task in CLASSIFIERS:
            target = float(self.settings.option("target")) * math.log(max(trained.spec.num_outputs, 2))
            yield {"quantity": "steps_to_target", "value": steps_to_loss(trained, target)}
        yield {"quantity": "final", "value": score(trained, trained.result["evaluates_by"])}
        yield from weight_path(trained, along=trial.seed == self.settings.seeds[0])

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Steps to the target and zig-zag in octaves."""
        yield m
        yield mapped(m, "steps_to_target", "octaves_of_steps", lambda rows: np.log2(rows["value"]))
        yield mapped(m, "zigzag", "octaves_of_zigzag", lambda rows: np.log2(rows["value"]))
