"""A study small enough for tests, in a file of its own because worker processes have to import it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework.case import Case
from rnnnorm.studies.framework.claim import Claim
from rnnnorm.studies.framework.interval import interval
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.plots import Panel, lines
from rnnnorm.studies.framework.study import STUDIES, Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Verdict, judge

YAML = """\
# Is a tiny study enough?
seeds: 3
norms: [none, ln]
options:
  sizes: [2, 0.5]
  trained: [none]
data:
  class_path: rnnnorm.data.TemporalOrder
  init_args: {num_train: 40, num_val: 20, num_test: 20, min_length: 10, max_length: 20, batch_size: 10}
model:
  init_args: {hidden_size: 4, embedding_size: 4, dropout: 0.2, learning_rate: 0.01}
trainer: {max_epochs: 2, log_every_n_steps: 2}
quick:
  seeds: [0]
  options: {sizes: [2]}
  trainer: {max_epochs: 1}
"""


class Tiny(Study):
    """Draws numbers, which are larger for ln, and trains a very small network."""

    name, tuned_by = "tiny", ("part",)
    question = "Is a <tiny> study & its report enough?"
    method = "Numbers are drawn; `ln` gets 10 more."
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "higher", "With `ln` numbers are > those with none & <b>bold</b>.", 'Nobody "et al." <1999>', "10 & more"
        ),
        Claim("lower", "With ln numbers are lower.", "Nobody, 2001"),
        Claim("either", "Numbers grow with size 2, not with size 0.5.", "Nobody, 2002"),
    )

    def trials(self) -> list[Trial]:
        drawn = [
            Trial({"part": "drawn", "size": size}, norm, seed)
            for size in self.settings.option("sizes")
            for norm in self.settings.norms
            for seed in self.settings.seeds
        ]
        trained = [
            Trial({"part": "trained"}, norm, seed, self.settings.config, weight=3.0)
            for norm in self.settings.option("trained")
            for seed in self.settings.seeds
        ]
        return drawn + trained

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        if trained is not None:
            yield from trained.rows()
            if not trained.diverged:
                weights = sum(p.double().square().sum() for p in trained.model().parameters())
                yield {"quantity": "weights", "value": weights}
            return
        torch.manual_seed(trial.seed)
        for t, drawn in enumerate(torch.randn(5)):
            yield {"quantity": "number", "t": t, "value": drawn + (10.0 if trial.norm == "ln" else 0.0)}
        yield {"quantity": "limit", "value": math.inf if trial.norm == "none" else -math.inf}
        yield {"quantity": "nothing", "value": math.nan}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        cases, lower, either = [], [], []
        for size in sorted(set(where(m, part="drawn").get("size", []))):
            drawn = where(m, quantity="number", size=size)
            effect = interval(difference(per_seed(drawn, norm="ln"), per_seed(drawn, norm="none")))
            cases.append(Case(f"size <{size:g}> & more", effect, 1.0))
            lower.append(Case(f"size {size:g}", effect, -1.0, below=True))
            either.append(Case(f"size {size:g}", effect, -1.0 if size < 1 else 1.0, size < 1))
        if not cases:
            return []
        return [
            judge(self.claim("higher"), "numbers & <units>", cases),
            judge(self.claim("lower"), "numbers", lower),
            judge(self.claim("either"), "numbers", either, headline=len(either) - 1),
        ]

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        def draw(axes: Axes, theme: Theme) -> None:
            lines(axes, where(m, quantity="number"), "t")

        return [Panel("number & <size>", "step t", draw, "Two <lines> & bands.")]

    def findings(self, m: pd.DataFrame) -> list[str]:
        return [f"There are {len(where(m, quantity='number'))} numbers < infinity & `code`."]


class Bare(Study):
    """Measures, and has nothing to say."""

    name = "bare"
    question = "What if there is nothing to say?"
    method = "Nothing."
    claims: ClassVar[tuple[Claim, ...]] = ()

    def trials(self) -> list[Trial]:
        return [Trial({}, "none", seed) for seed in self.settings.seeds]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        yield {"quantity": "number", "value": trial.seed}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        return []

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        return []


for _name in ("tiny", "bare"):  # not a study of the package: the fixtures enter it where it is needed
    del STUDIES[_name]
