"""What does normalization between layers buy? Steps to a training loss, and what is left of it on other data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, linear_axis, lines, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Condition, Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.outcome import outcome, training_curve, tuned

VERTICAL = ("bn-vertical-framewise", "bn-vertical")
NAMES = {"segments": "noisy segments", "vowels": "Japanese vowels", "own": "your data"}
NATS = 0.01
"""The smallest difference of losses that counts."""
NEVER = 2.0
"""Ratio of steps noted for a run that never got there: none gets there after half its training."""


class Vertical(Study):
    """Vertical normalization: how fast, how well, how deep."""

    name = "vertical"
    question = "What does normalization between layers buy: speed, generalization, depth?"
    method = (
        "Stacks of LSTM layers name the state of every frame of noisy segments (a generated stand-in for framewise "
        "phone classification, with few training sequences, so that fitting and generalizing come apart), with "
        "Japanese vowels beside them where data are given. Where several learning rates are configured each norm and "
        "depth takes its best, by validation loss. Speed is the number of steps until the training loss (mean of five "
        "logged values) falls to where the network without norm is after half of its training, over the steps that one "
        "took; a run that never gets there counts as 2. A speed-up counts from 5 %, a difference of losses from 0.01 "
        "nats. Validation loss is the best of the run under running averages, test score that of population "
        "statistics. A run that diverged is left out of differences of losses and noted in the findings."
    )
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "faster",
            "Batch normalization of the input-to-hidden product makes the training criterion fall faster.",
            "Laurent et al., ICASSP 2016",
            "training cross entropy .95 → .73 (WSJ, 5 bidirectional layers); perplexity 78.5 → 62.5 (PTB, small)",
        ),
        Claim(
            "no-better",
            "It does not generalize better.",
            "Laurent et al., ICASSP 2016",
            "dev cross entropy 1.11 → 1.19 (WSJ); validation perplexity 119.2 → 120.9 (PTB, small) and 81.8 → 97.4 "
            "(large)",
        ),
        Claim(
            "depth",
            "Its benefit grows with the number of recurrent layers.",
            "Amodei et al. (Deep Speech 2), ICML 2016",
            "dev word error rate 13.55 → 14.40 with 1 recurrent layer, 11.61 → 10.56 with 3, 10.77 → 9.78 with 5, "
            "10.83 → 9.52 with 7",
        ),
        Claim(
            "shallow",
            "With a single recurrent layer it does harm.",
            "Amodei et al. (Deep Speech 2), ICML 2016",
            "dev word error rate 13.55 → 14.40",
        ),
        Claim(
            "joint",
            "Batch normalization of the whole pre-activation, W_ih x + W_hh h, trains worse than none.",
            "Laurent et al., ICASSP 2016; Amodei et al., ICML 2016 (“not effective”)",
            "training cross entropy after 20 epochs 1.81 without, 1.90 with (character PTB, 3 layers)",
        ),
    )

    def trials(self) -> list[Trial]:
        """Data × layers × learning rates × norms × seeds."""
        s = self.settings
        arms: list[tuple[str, list[int], dict[str, Any] | None]] = [
            ("own" if s.own else "segments", s.option("layers"), None)
        ]
        if s.data_dir is not None and not s.own:
            vowels = {"data_dir": s.data_dir, "batch_size": 16}
            vowels_module = {"class_path": "rnnnorm.data.JapaneseVowels", "init_args": vowels}
            arms.append(("vowels", s.option("real_layers"), vowels_module))
        made = []
        for name, depths, data in arms:
            for layers in depths:
                for lr in s.option("learning_rates"):
                    config = s.configured(
                        model={"num_layers": layers, "learning_rate": lr}, **({} if data is None else {"data": data})
                    )
                    here: dict[str, Condition] = {"data": name, "layers": layers, "lr": float(lr)}
                    made += [
                        Trial(here, norm, seed, config, weight=1.0 + layers) for norm in s.norms for seed in s.seeds
                    ]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`learned`, losses, `seconds`, and the training loss as `train_curve` against the step."""
        assert trained is not None
        yield from outcome(trained)
        yield from training_curve(trained)

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Ratios of steps; differences of losses to the network without norm."""
        m = best(m)
        places = _places(m)
        faster, generalizes, depth, shallow, joint = [], [], [], [], []
        for data, layers in places:
            here = where(m, data=data, layers=layers)
            for norm in VERTICAL:
                label = f"{norm}, {_layers(layers)}, {NAMES.get(data, data)}"
                faster.append(Case(label, estimate(speed_ratios(here, norm)), 0.95, below=True))
                gain = gains(here, norm, "best_val_loss")
                generalizes.append(Case(label, estimate(gain), NATS, below=True))
                if layers == 1:
                    shallow.append(Case(label, estimate(gain), 0.0, below=True))
                elif (data, 1) in places:
                    first = _gain_by_seed(where(m, data=data, layers=1), norm)
                    grown = difference(_gain_by_seed(here, norm), first)
                    depth.append(Case(label, estimate(grown), NATS))
            worse = [-gain for gain in gains(here, "bn-joint", "final_train_loss")]
            joint.append(Case(f"{_layers(layers)}, {NAMES.get(data, data)}", estimate(worse), NATS))
        verdicts = [
            ("faster", "steps to a training loss, as a multiple of none's", faster),
            ("no-better", "improvement of the best validation loss, nats", generalizes),
            ("depth", "improvement of validation loss, minus that of one layer, nats", depth),
            ("shallow", "improvement of the best validation loss, nats", shallow),
            ("joint", "training loss minus none's, nats", joint),
        ]
        return [
            judge(self.claim(key), unit, cases, headline=_deepest(cases))
            for key, unit, cases in verdicts
            if any(case.effect.n for case in cases)
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """Speed and generalization in one sentence each, at the greatest depth; seconds; divergence."""
        m = best(m)
        said = []
        if not _places(m):
            return []
        data, layers = max(_places(m), key=lambda place: (place[0] != "vowels", place[1]))
        here = where(m, data=data, layers=layers)
        for norm in dict.fromkeys(where(here, quantity="learned")["norm"]):
            ratios, won = speed_ratios(here, norm), gains(here, norm, "best_val_loss")
            if norm == "none" or not ratios or not won:
                continue
            accuracy = difference(
                per_seed(here, norm=norm, quantity="learned"), per_seed(here, norm="none", quantity="learned")
            )
            per_step = [
                _median(per_seed(here, norm=n, quantity="seconds") / per_seed(here, norm=n, quantity="steps"))
                for n in (norm, "none")
            ]
            mean = estimate(won).mean
            said.append(
                f"{norm} on {NAMES.get(data, data)}, {_layers(layers)}: {estimate(ratios).mean:.2f} times the steps of "
                f"none to its halfway training loss, a step taking {per_step[0] / per_step[1]:.2f} times as long; best "
                f"validation loss {abs(mean):.3f} nats {'lower' if mean > 0 else 'higher'}, "
                f"test score {estimate(accuracy).mean:+.3f}."
            )
        broken = where(m, quantity="diverged", value=1.0)
        if len(broken):
            parts = [f"{norm} ({count})" for norm, count in broken["norm"].value_counts().items()]
            said.append(f"Diverged: {', '.join(parts)}.")
        return said

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Training curves of the deepest stack; speed, validation and training loss against depth."""
        m = best(m)
        if not _places(m):
            return []
        data, deepest = max(_places(m), key=lambda place: (place[0] != "vowels", place[1]))
        here = where(m, data=data)
        finite, depths = here[here["value"].map(math.isfinite)], values(here, "layers")

        def curves(axes: Axes, theme: Theme) -> None:
            lines(axes, where(finite, layers=deepest, quantity="train_curve"), "t", marker=None)
            linear_axis(axes)

        def speed(axes: Axes, theme: Theme) -> None:
            rule(axes, theme, y=1.0)
            lines(axes, _speeds(here), "layers")
            axes.set_xticks(depths)

        def loss(quantity: str) -> Any:
            def draw(axes: Axes, theme: Theme) -> None:
                lines(axes, where(finite, quantity=quantity), "layers")
                axes.set_xticks(depths)
                linear_axis(axes)

            return draw

        return [
            Panel(f"training loss (nats), {_layers(deepest)}", "step", curves, "Training curves of the deepest stack."),
            Panel("steps to none's halfway loss, ÷ none's", "layers", speed, "Speed against the number of layers."),
            Panel("training loss at the end (nats)", "layers", loss("final_train_loss"), "What was fitted."),
            Panel("best validation loss (nats)", "layers", loss("best_val_loss"), "What was left of it on other data."),
        ]


def best(m: pd.DataFrame) -> pd.DataFrame:
    """The runs with the best learning rate of each norm, depth and data."""
    return tuned(m, ["data", "layers", "norm"])


def speed_ratios(m: pd.DataFrame, norm: str) -> list[float]:
    """Steps to the loss that "none" has after half of its steps, over those steps, seed by seed.

    Args:
        m: the measurements of one depth and data set.
        norm: which.
    """
    ratios = []
    for seed in sorted(set(where(m, norm=norm)["seed"]) & set(where(m, norm="none")["seed"])):
        plain, other = (where(m, norm=n, seed=seed, quantity="train_curve").sort_values("t") for n in ("none", norm))
        if plain.empty:
            continue
        half = plain[plain["t"] <= plain["t"].max() / 2]
        if half.empty:
            continue
        # The best so far: a curve that touches the target and jumps back has been there.
        target = float(half["value"].min())
        reference = float(plain[plain["value"] <= target]["t"].min())
        reached = other[other["value"] <= target]["t"]
        ratios.append(min(float(reached.min()) / reference, NEVER) if len(reached) else NEVER)
    return ratios


def gains(m: pd.DataFrame, norm: str, quantity: str) -> list[float]:
    """How much lower than none's the loss is, seed by seed, without runs that diverged."""
    a, b = (per_seed(m, norm=n, quantity=quantity) for n in ("none", norm))
    return [value for value in difference(a, b) if math.isfinite(value)]


def _gain_by_seed(m: pd.DataFrame, norm: str) -> pd.Series:
    a, b = (per_seed(m, norm=n, quantity="best_val_loss") for n in ("none", norm))
    gain = a.reindex(a.index.intersection(b.index)) - b
    return gain[gain.map(math.isfinite)]


def _speeds(m: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for layers, norm in m[["layers", "norm"]].drop_duplicates().itertuples(index=False):
        if norm != "none":
            rows += [
                {"layers": layers, "norm": norm, "seed": k, "value": value}
                for k, value in enumerate(speed_ratios(where(m, layers=layers), str(norm)))
            ]
    return pd.DataFrame(rows, columns=["layers", "norm", "seed", "value"])


def _places(m: pd.DataFrame) -> list[tuple[str, int]]:
    found = m[["data", "layers"]].drop_duplicates()
    return [(str(data), int(layers)) for data, layers in found.itertuples(index=False)]


def _deepest(cases: Sequence[Case]) -> int:
    """The last case with a value, before those of the second data set: the greatest depth comes last."""
    known = [k for k, case in enumerate(cases) if case.effect.n]
    first = cases[known[0]].condition.split(", ")[-1]
    return [k for k in known if cases[k].condition.split(", ")[-1] == first][-1]


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count > 1)}"


def _median(series: pd.Series) -> float:
    return float(series.median())
