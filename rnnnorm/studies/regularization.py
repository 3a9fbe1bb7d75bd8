"""Does batch normalization regularize? Against dropout, together with it, with few and with many training sequences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes

from rnnnorm.norms import has_batch_statistics, recalibrate, statistics
from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.guessing import guess
from rnnnorm.tasks import SequenceTask

NEEDED = 0.01
BATCHES = 64
"""Training batches that are evaluated: enough for a mean."""


class Regularization(Study):
    """Batch normalization against dropout."""

    name = "regularization"
    question = "Does batch normalization regularize, and does it need dropout beside it?"
    method = (
        "Two-layer LSTMs are trained on few and on many sequences of one generated problem, noisy series from four "
        "sources, all for the same number of sequences seen, to the end: no early stopping. Score is the accuracy of "
        "the last weights by population statistics; the gap is the score on training sequences minus that on test "
        "sequences. Dropout acts on what enters each layer and the head, never on the recurrence. With data at hand "
        "also on Japanese vowels, 225 training utterances. A difference counts from 0.01."
    )
    columns: ClassVar[tuple[str, ...]] = ("mode", "split")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "regularizes",
            "Batch normalization regularizes: training and test lie closer together than without it.",
            "Ioffe & Szegedy, ICML 2015, section 3.4",
        ),
        Claim(
            "better",
            "Where data are few, networks with batch normalization generalize better.",
            "Ioffe & Szegedy, ICML 2015; denied for recurrent networks by Laurent et al., ICASSP 2016",
            "word PTB, validation perplexity: 119.2 without, 120.9 with vertical BN (small model)",
        ),
        Claim(
            "instead",
            "With batch normalization dropout can be left out.",
            "Ioffe & Szegedy, ICML 2015, section 4.2",
        ),
        Claim(
            "disharmony",
            "Dropout and batch normalization together are worse than the better one of them.",
            "Li et al., CVPR 2019, for convolutional networks",
        ),
        Claim(
            "ln-overfits",
            "Layer normalization optimizes better but also overfits more.",
            "Laurent, Ballas & Vincent 2017",
        ),
    )

    def trials(self) -> list[Trial]:
        """Norms × dropout × sizes of the training set."""
        option = self.settings.option
        arms: list[tuple[str, dict[str, Any], float]] = []
        if self.settings.own:
            arms.append(("own", {}, 5.0))
        else:
            batch = int(self.settings.config["data"]["init_args"]["batch_size"])
            for size in option("train"):
                epochs = max(1, round(float(option("sequences")) / size))
                trainer = {
                    "max_epochs": epochs,
                    "check_val_every_n_epoch": max(1, epochs // 4),
                    "log_every_n_steps": max(1, min(10, size // batch)),
                }
                fewer = {"data": {"init_args": {"num_train": size}}}
                arms.append((f"{size} sequences", {"data": fewer, "trainer": trainer}, 3.0))
        if self.settings.data_dir is not None and not self.settings.own:
            epochs = int(option("vowels"))
            keys = {"data_dir": self.settings.data_dir, "batch_size": 16}
            data = {"class_path": "rnnnorm.data.JapaneseVowels", "init_args": keys}
            trainer = {"max_epochs": epochs, "check_val_every_n_epoch": max(1, epochs // 4)}
            arms.append(("Japanese vowels", {"data": data, "trainer": trainer}, 3.0))
        return [
            Trial(
                {"train": size, "dropout": float(dropout)},
                norm,
                seed,
                self.settings.configured(**{**keys, "model": {"dropout": float(dropout)}}),
                weight,
            )
            for size, keys, weight in arms
            for dropout in option("dropouts")
            for norm in self.settings.norms
            for seed in self.settings.seeds
        ]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`final` by `split`, train and test: mean score of the last weights; `gap` is their difference."""
        assert trained is not None
        yield from trained.rows()
        if trained.diverged:
            worth = guess(trained)
            yield from ({"quantity": "final", "split": split, "value": worth} for split in ("train", "test"))
            return
        data, model = trained.data(), trained.model(trained.run.last)
        if has_batch_statistics(model):
            recalibrate(model, islice(data.train_dataloader(), BATCHES), forward=model.encode, rows=None)
        scores = {}
        for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
            scores[split] = mean_score(model, islice(loader, BATCHES) if split == "train" else loader)
            yield {"quantity": "final", "split": split, "value": scores[split]}
        yield {"quantity": "gap", "value": scores["train"] - scores["test"]}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Differences of gaps and of test scores, paired by seed."""
        test, gap = where(m, quantity="final", split="test"), where(m, quantity="gap")
        norms = [norm for norm in ("bn-vertical", "bn-timestep") if norm in values(m, "norm")]
        sizes = _sizes(m)
        drops = [rate for rate in values(m, "dropout") if rate > 0]

        def at(rows: pd.DataFrame, size: str, norm: str, dropout: float = 0.0) -> pd.Series:
            return per_seed(rows, train=size, norm=norm, dropout=dropout)

        def case(size: str, norm: str, effect: list[float], below: bool = False, more: str = "") -> Case:
            return Case(f"{norm}{more}, {_name(size)}", estimate(effect), NEEDED, below)

        closer = [case(s, n, difference(at(gap, s, "none"), at(gap, s, n))) for s in sizes for n in norms]
        better = [case(s, n, difference(at(test, s, n), at(test, s, "none"))) for s in sizes for n in norms]
        instead, together = [], []
        for size in sizes:
            for norm in norms:
                for rate in drops:
                    both, alone = at(test, size, norm, rate), at(test, size, norm)
                    more = f" with dropout {rate:g}"
                    instead.append(case(size, norm, difference(both, alone), below=True, more=more))
                    best = pd.concat([alone, at(test, size, "none", rate)], axis=1, join="inner").max(axis=1)
                    together.append(case(size, norm, difference(best, both), more=more))
        overfits = [case(s, "ln", difference(at(gap, s, "ln"), at(gap, s, "none"))) for s in sizes]
        found = [
            ("regularizes", "gap without minus gap with, accuracy", closer),
            ("better", "test accuracy gained", better),
            ("instead", "test accuracy gained by dropout", instead),
            ("disharmony", "test accuracy of the better one minus both", together),
            ("ln-overfits", "gap with ln minus gap without, accuracy", overfits),
        ]
        return [judge(self.claim(key), unit, cases) for key, unit, cases in found if cases]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The best recipe per size, and the widest gap."""
        said = []
        for size in _sizes(m):
            mean = where(m, quantity="final", split="test", train=size).groupby(["norm", "dropout"])["value"].mean()
            gap = where(m, quantity="gap", train=size).groupby(["norm", "dropout"])["value"].mean()
            if len(mean) < 2:
                continue
            (norm, rate), (worst, other) = mean.idxmax(), gap.idxmax()
            said.append(
                f"On {_name(size)} the best is {_recipe(norm, rate)} with {mean.max():.3f}; the widest gap between "
                f"training and test is that of {_recipe(worst, other)}, {gap.max():.3f}."
            )
        lost = where(m, quantity="diverged")
        if len(lost) and lost["value"].sum():
            said.append(f"{lost['value'].sum():.0f} of {len(lost)} runs diverged; they count as guessing.")
        return said

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Training against test score by dropout, for the smallest and the largest training set, and real data."""
        sizes = _sizes(m)
        chosen = list(dict.fromkeys([*sizes[:1], *[s for s in sizes if _number(s)][-1:], *sizes[-1:]]))

        def drawing(size: str) -> Any:
            def draw(axes: Axes, theme: Theme) -> None:
                for split, style, fill in (("train", "--", False), ("test", "-", True)):
                    rows = where(m, quantity="final", split=split, train=size)
                    styles = dict.fromkeys(rows["norm"].unique(), style)
                    names = {norm: norm if fill else f"{norm}, training" for norm in styles}
                    lines(axes, rows, "dropout", styles=styles, names=names, band=fill)
                axes.set_xticks(values(where(m, train=size), "dropout"))

            return draw

        panels = [
            Panel(f"accuracy, {_name(size)}", "dropout", drawing(size), "Solid: test; dashed: training.")
            for size in chosen
        ]

        def by_size(axes: Axes, theme: Theme) -> None:
            rows = where(m, quantity="gap", dropout=0.0, train=[s for s in sizes if _number(s)]).copy()
            rows["size"] = rows["train"].map(_number)
            rule(axes, theme, y=0.0)
            lines(axes, rows, "size")
            log_axis(axes, "x", numbers=values(rows, "size"))

        if sum(_number(size) is not None for size in sizes) > 1:
            panels.append(Panel("training minus test accuracy, no dropout", "training sequences", by_size, "The gap."))
        return panels


def mean_score(model: SequenceTask, loader: Iterable[Any]) -> float:
    """Mean contribution to the metric over predictions, by population statistics; larger is better."""
    parts = []
    with torch.no_grad(), statistics(model.eval(), "population"):
        for batch in loader:
            parts.append(model.scores(batch).score)
    sign = 1 if model.metric_mode == "max" else -1
    return sign * float(torch.cat(parts).double().mean()) if parts else math.nan


def _sizes(m: pd.DataFrame) -> list[str]:
    """The training sets, generated ones first and by size."""
    return sorted(values(m, "train"), key=lambda size: (_number(size) or math.inf, size))


def _number(size: str) -> int | None:
    """How many training sequences; None for real data."""
    number, _, noun = size.partition(" ")
    return int(number) if noun == "sequences" else None


def _name(size: str) -> str:
    return f"{_number(size)} training sequences" if _number(size) else "your data" if size == "own" else size


def _recipe(norm: Any, rate: Any) -> str:
    return f"`{norm}`" + (f" with dropout {rate:g}" if rate else "")
