"""Which effects of normalization persist with size? Slopes along width, sequence length and training length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.data.synthetic import Generated
from rnnnorm.engine.evaluation import MODES
from rnnnorm.studies.data.plain_training import named_class
from rnnnorm.studies.framework import (
    Best,
    Claim,
    Contrast,
    Lines,
    Row,
    Sentence,
    Trained,
    TrainedStudy,
    Trial,
    Words,
    best_by,
)
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.trial import Condition
from rnnnorm.studies.measures.slopes import decades_per_step, effects, slopes
from rnnnorm.tasks import SequenceTask

NEEDED = 0.01
"""The smallest slope of interest: nats, or decades per step back in time, per doubling."""
OURS = "a question of this package: which of its effects are those of small networks and short trainings"
ALONG = ("width", "T", "steps")
COLOURS = dict(zip(("width H", "sequence length T", "training steps"), OTHERS, strict=False))


def loss(norm: str, mode: str = "population") -> dict[str, str]:
    """The columns of a test loss."""
    return {"quantity": "loss", "norm": norm, "mode": mode}


def growing(effect: str, unit: str = "nats") -> Contrast:
    """The slope of an effect along each axis."""
    only = {"effect": effect, "along": ALONG}
    return Contrast("slope", f"{unit} per doubling", by=("along",), only=only, needed=NEEDED, label="{along}")


PAIRS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "averages": (loss("bn-timestep", "running"), loss("bn-timestep")),
    "ln": (loss("none"), loss("ln")),
    "bn": (loss("none"), loss("bn-timestep")),
    "bn-ln": (loss("bn-timestep"), loss("ln")),
    "shared": (loss("bn-shared"), loss("bn-timestep")),
    "growth": ({"quantity": "growth", "norm": "bn-timestep"}, {"quantity": "growth", "norm": "none"}),
}  # fmt: skip
"""Effect → what is compared, and what is subtracted from it."""
panel = partial(Lines, "effect", axis="doublings of the smallest size", x="doublings", line="{along}", rule=0.0,
                colours=COLOURS)  # fmt: skip


class Ladder(TrainedStudy):
    """A star of sizes: one base point, and rungs along width, T and training steps."""

    name = "ladder"
    question = "Which effects of normalization persist when networks, sequences and trainings grow?"
    method = (
        "Next letters of a made-up language after a sign that begins every sequence, so that the first slot is almost "
        "constant and the problem is the same at every length. From one base point either the width, the length T or "
        "the number of training steps grows, the other two staying as they are; a step of longer sequences sees more "
        "letters, and sequences are repeated only after the first training steps that the option `fresh` counts. At "
        "every rung each norm has the learning rate with the lowest mean validation loss, as training normalizes. "
        "Effects, paired by seed: what running averages lose to population statistics; differences of test loss "
        "between norms, by population statistics (`bn-shared` is trained like `bn-timestep` and stores one set of "
        "statistics for all steps); the growth of the gradient "
        "of the last step's loss per step back, over 16 steps, after training, in decades. The result is the slope: "
        f"per seed, by least squares on log₂ of the size. A slope of {NEEDED:g} per doubling counts; negligible means "
        "that the effect persists as it is. Losses of trainings that diverged are infinite, and so is a slope towards "
        "where they lie."
    )
    columns = ("mode", "axis", "low", "high", "count")
    claims = (
        Claim("averages", "What running averages lose after a constant first symbol grows with size.", OURS,
              contrast=growing("averages")),
        Claim("ln", "What layer normalization gains grows with size.", OURS, contrast=growing("ln")),
        Claim("bn", "What batch normalization per timestep gains grows with size.", OURS, contrast=growing("bn")),
        Claim("bn-ln", "What batch normalization per timestep loses to layer normalization grows with size.", OURS,
              contrast=growing("bn-ln")),
        Claim("shared", "What sharing statistics over time costs grows with size.", OURS, contrast=growing("shared")),
        Claim("growth", "What batch normalization adds to the growth of gradients back in time grows with size.", OURS,
              contrast=growing("growth", "decades per step back")),
    )  # fmt: skip
    words = Words(along={"width": "width H", "T": "sequence length T", "steps": "training steps"},
                  effect={"averages": "what running averages lose", "ln": "what ln gains",
                          "bn": "what bn-timestep gains", "bn-ln": "what bn-timestep loses to ln",
                          "shared": "what sharing statistics over time costs"})  # fmt: skip
    plots = (
        *(panel(title="{effect}, nats", about=f"The effect `{name}` against size.", only={"effect": name})
          for name in PAIRS if name != "growth"),
        panel(title="gradient growth, bn-timestep minus none, decades per step back", only={"effect": "growth"},
              about="What batch normalization adds to the growth of gradients against size."),
    )  # fmt: skip
    best = Best("largest", "test loss in nats", at="at the largest {along}")
    sentences = (
        Sentence("Per doubling of {along}, in nats: {items}.", by=("along",), items="{effect} {slope:+.4f}",
                 over=("effect",), only={"effect": [name for name in PAIRS if name != "growth"]}),
        Sentence("The growth of gradients per step back, bn-timestep minus none, changes by {slope:+.4f} decades per "
                 "doubling of {along}.", by=("effect", "along"), only={"effect": "growth"}),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Along each axis its rungs × learning rates × norms."""
        option, made, path = self.settings.option, list[Trial](), str(self.settings.config["data"]["class_path"])
        if not issubclass(named_class(path), Generated):
            raise ValueError(f"ladder varies length and number of sequences: its data are generated, not {path}")
        for along, sizes in option("rungs").items():
            axes = {"along": along, "size": sizes, "rate": option("rates")}
            made += self.grid(axes, config=self._configured, weight=self._seconds)
        return made

    def _point(self, here: Mapping[str, Condition]) -> dict[str, int]:
        """Width, T and steps of a rung."""
        return {**self.settings.option("base"), str(here["along"]): int(here["size"])}

    def _seconds(self, here: Mapping[str, Condition]) -> float:
        at = self._point(here)
        return 1 + at["steps"] * (1.5 + 0.027 * at["T"]) * max(1.0, at["width"] / 45) / 1e3

    def _configured(self, here: Mapping[str, Condition]) -> dict[str, Any]:
        at, batch = self._point(here), int(self.settings.config["data"]["init_args"]["batch_size"])
        fresh = min(at["steps"], int(self.settings.option("fresh")))
        if at["steps"] % fresh:
            raise ValueError(f"steps must be a multiple of options.fresh, {fresh}, or at most that; got {at['steps']}")
        return self.settings.configured(
            data={"max_length": at["T"], "num_train": fresh * batch},
            model={"hidden_size": at["width"], "learning_rate": here["rate"]},
            trainer={"max_epochs": at["steps"] // fresh},
        )

    def lost(self, trained: Trained) -> Iterable[Row]:
        """Infinite losses, and an infinite growth."""
        yield from ({"quantity": "loss", "mode": mode, "value": math.inf} for mode in MODES)
        yield from ({"quantity": quantity, "value": math.inf} for quantity in ("chosen_by", "growth"))

    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """`chosen_by`, the validation loss as training normalizes; `growth` of gradients in decades per step back."""
        curve = trained.curves.get("val/loss_batch", trained.curves.get("val/loss"))
        yield {"quantity": "chosen_by", "value": math.inf if curve is None else float(curve.value.min())}
        if trial.norm in ("none", "bn-timestep"):
            yield {"quantity": "growth", "value": decades_per_step(model, data)}

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """At the best learning rates: the losses, `effect` by `effect`, `along` and `size`, and its `slope`."""
        best = best_by(m, "chosen_by", "rate", ["along", "size", "norm"])
        yield best
        found = effects(best, PAIRS)
        yield found
        yield pd.DataFrame([*slopes(found)])
        top = best["size"] == best.groupby("along")["size"].transform("max")
        yield where(best[top], quantity="loss", mode="population").assign(quantity="largest")
