"""What does normalization between layers buy? Steps to a training loss, and what is left of it on other data."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from rnnnorm.studies.data.real import VOWELS
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import best_by, paired
from rnnnorm.studies.framework.grid import Source
from rnnnorm.studies.framework.selection import first, last
from rnnnorm.studies.framework.trial import Condition
from rnnnorm.studies.measures.outcome import outcome, speed, training_curve

VERTICAL = ("bn-vertical-framewise", "bn-vertical")
PLACE = ("data", "layers")
NATS = 0.01  # the smallest difference of losses that counts

better = partial(Contrast, norms=VERTICAL, by=PLACE, below=True, label="{norm}, {layers}, {data}")
gain = partial(better, "gain", unit="improvement of the test loss, nats")


class Vertical(Study):
    """Vertical normalization: how fast, how well, how deep."""

    name = "vertical"
    tuned_by = ("data", "layers")
    question = "What does normalization between layers buy: speed, generalization, depth?"
    method = (
        "Stacks of LSTM layers name the state of every frame of noisy segments (a generated stand-in for framewise "
        "phone classification, with few training sequences, so that fitting and generalizing come apart), with "
        "Japanese vowels beside them where data are given. Where several learning rates are configured each norm and "
        "depth takes its best, by validation loss. Speed is the number of steps until the training loss (mean of five "
        "logged values) falls to where the network without norm is after half of its training, over the steps that "
        "one took; a run that never gets there counts as 2. A speed-up counts from 5 %, a difference of losses from "
        "0.01 nats. The validation loss (running averages) selects checkpoint and rate, and scores nothing: losses "
        "and scores are those of the test split, by population statistics. The losses of a run that "
        "diverged are infinite."
    )
    claims = (
        Claim("faster", "Batch normalization of the input-to-hidden product makes the training criterion fall faster.",
              "Laurent et al., ICASSP 2016",
              "training cross entropy .95 → .73 (WSJ, 5 bidirectional layers); perplexity 78.5 → 62.5 (PTB, small)",
              contrast=better("speed", "steps to a training loss, as a multiple of none's", needed=0.95, null=1.0)),
        Claim("no-better", "It does not generalize better.", "Laurent et al., ICASSP 2016",
              "dev cross entropy 1.11 → 1.19 (WSJ); validation perplexity 119.2 → 120.9 (PTB, small) and 81.8 → 97.4 "
              "(large)", contrast=gain(needed=NATS)),
        Claim("depth", "Its benefit grows with the number of recurrent layers.",
              "Amodei et al. (Deep Speech 2), ICML 2016",
              "dev word error rate 13.55 → 14.40 with 1 recurrent layer, 11.61 → 10.56 with 3, 10.77 → 9.78 with 5, "
              "10.83 → 9.52 with 7",
              contrast=gain(unit="improvement of the test loss, minus that of one layer, nats", against={"layers": 1},
                            needed=NATS, below=False)),
        Claim("shallow", "With a single recurrent layer it does harm.", "Amodei et al. (Deep Speech 2), ICML 2016",
              "dev word error rate 13.55 → 14.40", contrast=gain(only={"layers": 1}, needed=-NATS)),
        Claim("joint", "Batch normalization of the whole pre-activation, W_ih x + W_hh h, trains worse than none.",
              "Laurent et al., ICASSP 2016; Amodei et al., ICML 2016 (“not effective”)",
              "training cross entropy after 20 epochs 1.81 without, 1.90 with (character PTB, 3 layers)",
              contrast=Contrast("final_train_loss", "training loss minus none's, nats", "bn-joint", "none", PLACE,
                                needed=NATS, label="{layers}, {data}")),
    )  # fmt: skip
    words = Words(data={"segments": "noisy segments", "vowels": "Japanese vowels", "own": "your data"},
                  layers=lambda count: f"{count:g} layer{'s' * (count > 1)}")  # fmt: skip
    plots = (
        Lines("train_curve", "training loss (nats), {layers}", "training step", "Training curves of the deepest stack.",
              x="t", only={"data": first, "layers": last}, marker=None),
        Lines("speed", "training steps to none's halfway loss, multiples of none's", "layers",
              "Speed against the number of layers.", x="layers", only={"data": first}, rule=1.0),
        Lines("final_train_loss", "training loss at the end (nats)", "layers", "What was fitted.", x="layers",
              only={"data": first}),
        Lines("test_loss", "test loss (nats)", "layers", "What was left of it on other data.",
              x="layers", only={"data": first}),
    )  # fmt: skip
    best = Best("test_loss", "test loss in nats", at="on {data}, {layers}", only={"layers": last})
    sentences = (
        Sentence("{norm} on {data}, {layers}: {speed:.2f} times the steps of none to its halfway training loss, a "
                 "step taking {slower:.2f} times as long; test loss {excess:+.3f} nats, test score "
                 "{accuracy:+.3f}.", by=("data", "layers", "norm"), only={"data": first, "layers": last}),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Data × layers × learning rates × norms × seeds."""
        option, made = self.settings.option, list[Trial]()
        rates = [float(rate) for rate in option("learning_rates")]
        for source in self.sources("segments", {"vowels": VOWELS}):
            axes = {"data": source.name, "layers": option("real_layers" if source.real else "layers"), "lr": rates}
            made += self.grid(axes, config=partial(_configured, source), weight=lambda c: 1.0 + float(c["layers"]))
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`learned`, losses, `seconds`, and the training loss as `train_curve` against the step."""
        assert trained is not None
        yield from outcome(trained)
        yield from training_curve(trained)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Runs with the best learning rate; and compared with none: `speed`, `gain`, `accuracy`, time per step."""
        m = best_by(m, "best_val_loss", "lr", ["data", "layers", "norm"], "median")
        per_step = paired(m, "seconds", {"quantity": "steps"}, "step_time", operator.truediv)
        yield m
        yield speed(m, ["data", "layers"])
        yield paired(m, "test_loss", "none", "gain", how=lambda norm, none: none - norm, apart="lr")
        yield paired(m, "test_loss", "none", "excess", apart="lr")
        yield paired(m, "learned", "none", "accuracy", apart="lr")
        yield paired(per_step, "step_time", "none", "slower", operator.truediv, "lr")

    def headline(self, **point: Any) -> Any:
        """The greatest depth, on the study's own data."""
        return point["data"] != "vowels", point["layers"], point["norm"] == VERTICAL[-1]


def _configured(source: Source, here: Mapping[str, Condition]) -> dict[str, Any]:
    return source.configured(model={"num_layers": here["layers"], "learning_rate": here["lr"]})
