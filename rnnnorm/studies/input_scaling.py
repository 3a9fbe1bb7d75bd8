"""How should inputs be scaled, and does normalization inside the network make it unnecessary?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.scaling import SCALINGS, zigzag
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, points
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.guessing import CLASSIFIERS, score, spec

NEEDED = 0.01
PATH_POINTS = 200
WINDOW = 20
"""Steps over which the training loss is averaged."""
COLOURS = dict(zip(SCALINGS, ("#878787", "#d77810", "#4e6dea", "#48bc90", "#b04db1"), strict=True))
NAMES = {"none": "raw", "minmax": "min-max", "zscore": "z-score", "log": "logarithm", "arctan": "arctangent"}


class InputScaling(Study):
    """Scalings of the inputs × normalizers × optimizers."""

    name = "input-scaling"
    question = "How should inputs be scaled, and does normalization make scaling unnecessary?"
    method = (
        "Series of six features whose scales span six decades, half of them heavy-tailed, all off zero, are told "
        "apart raw and after each scaling: min-max to [0, 1], z-score, sign(x)·log(1 + |x|), arctan x; scalings are "
        "fitted on the training split. Steps to target: the first at which the running mean of the training loss "
        "over 20 steps is below 0.85 times the loss of guessing; a network that never is counts as one step more "
        "than it was given. Zig-zag: length of the path of two input weights of one unit, those of the features with"
        " the smallest and the largest scale, over the distance between its ends. With data at hand also on raw "
        "cepstra of spoken digits. Accuracies differ from 0.01."
    )
    columns: ClassVar[tuple[str, ...]] = ("axis", "low", "high", "count", "mode", "t")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "faster",
            "Inputs of mean 0 and variance 1 let networks learn faster than raw ones.",
            "LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
        ),
        Claim(
            "zigzag",
            "On raw inputs gradient descent zig-zags; on standardized ones its path is straighter.",
            "LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
        ),
        Claim(
            "invariant",
            "With batch normalization of W_ih x inputs need no scaling.",
            "invariance of batch normalization to rescaling the data: Ba, Kiros & Hinton 2016, table 1",
        ),
        Claim(
            "centred",
            "Inputs should be centred: z-scores beat min-max scaling to [0, 1].",
            "LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
        ),
        Claim(
            "tails",
            "Heavy-tailed inputs are better compressed, by logarithm or arctangent, than standardized.",
            "common advice in data preparation",
        ),
    )

    def trials(self) -> list[Trial]:
        """Generated series: scalings × norms × optimizers; spoken digits: scalings × norms."""
        option, settings = self.settings.option, self.settings
        config = settings.config
        inner = {"class_path": config["data"]["class_path"], "init_args": dict(config["data"].get("init_args", {}))}
        batches = {key: inner["init_args"].pop(key) for key in ("batch_size",) if key in inner["init_args"]}
        path = {"class_path": "rnnnorm.studies.data.scaling.WeightPath", "init_args": {"features": [0, 5]}}
        if settings.own:
            path["init_args"] = {"features": [0, 1]}
        made = []
        for optimizer, rate in option("optimizers").items():
            for scaling in option("scalings"):
                changed = settings.configured(
                    data=_scaled(inner, scaling, batches),
                    model={"optimizer": optimizer, "learning_rate": float(rate)},
                    trainer={"callbacks": [path]},
                )
                for norm in settings.norms:
                    here = {"data": "own" if settings.own else "series", "scaling": scaling, "optimizer": optimizer}
                    made += [Trial(here, norm, seed, changed, weight=2.5) for seed in settings.seeds]
        if settings.data_dir is not None and not settings.own:
            raw = {"standardize": False, "data_dir": settings.data_dir}
            digits = {"class_path": "rnnnorm.data.SpokenDigits", "init_args": raw}
            for scaling in option("digits"):
                changed = settings.configured(
                    data=_scaled(digits, scaling, {"batch_size": 32}),
                    model={"optimizer": "adam", "learning_rate": float(option("optimizers").get("adam", 0.002))},
                    trainer={"max_epochs": int(option("digit_epochs")), "callbacks": [path]},
                )
                for norm in option("digit_norms"):
                    here = {"data": "spoken digits", "scaling": scaling, "optimizer": "adam"}
                    made += [Trial(here, norm, seed, changed, weight=8.0) for seed in settings.seeds]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`steps_to_target`, `zigzag`, `final` test score, and the path: `weight_a`, `weight_b` by `t`."""
        assert trained is not None
        yield from trained.rows()
        if spec(trained).task in CLASSIFIERS:
            yield {"quantity": "steps_to_target", "value": self._steps(trained)}
        yield {"quantity": "final", "value": score(trained, trained.result["evaluates_by"])}
        path = trained.folder / "path.json"
        if path.is_file():
            walked = np.array(json.loads(path.read_text(encoding="utf-8")), dtype=np.float64)
            walked = walked[np.isfinite(walked).all(axis=1)]
            if len(walked) > 1:
                yield {"quantity": "zigzag", "value": zigzag(walked)}
            if trial.seed == self.settings.seeds[0]:
                for t in np.unique(np.linspace(0, len(walked) - 1, PATH_POINTS).astype(int)).tolist():
                    yield {"quantity": "weight_a", "t": t, "value": float(walked[t, 0] - walked[0, 0])}
                    yield {"quantity": "weight_b", "t": t, "value": float(walked[t, 1] - walked[0, 1])}

    def _steps(self, trained: Trained) -> float:
        """Steps to the target; one more than there were to be if it was not reached."""
        curve, target = trained.curves.get("train/loss"), float(self.settings.option("target"))
        if curve is not None and len(curve.value) >= WINDOW:
            mean = np.convolve(curve.value, np.ones(WINDOW) / WINDOW, mode="valid")
            below = np.flatnonzero(mean < target * math.log(max(spec(trained).num_outputs, 2)))
            if len(below):
                return float(curve.step[WINDOW - 1 :][below[0]] + 1)
        if not trained.diverged:
            return float(trained.result["steps"] + 1)
        batches = len(trained.data().train_dataloader())
        return float(int(trained.comparison.config.trainer.max_epochs or 1) * batches + 1)

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Steps, zig-zag and accuracies, each paired by seed."""
        steps, path, final = (where(m, quantity=q) for q in ("steps_to_target", "zigzag", "final"))
        places = [
            (data, optimizer) for data in values(m, "data") for optimizer in values(where(m, data=data), "optimizer")
        ]

        def at(rows: pd.DataFrame, place: tuple[str, str], scaling: str, norm: str) -> pd.Series:
            return per_seed(rows, data=place[0], optimizer=place[1], scaling=scaling, norm=norm)

        def cases(norms: Sequence[str], effect: Any, needed: float = 0.0, below: bool = False) -> list[Case]:
            return [
                Case(f"{norm}, {optimizer}, {data}", estimate(effect((data, optimizer), norm)), needed, below)
                for norm in norms
                for data, optimizer in places
            ]

        def octaves(rows: pd.DataFrame) -> Any:
            return lambda place, norm: difference(
                np.log2(at(rows, place, "none", norm)), np.log2(at(rows, place, "zscore", norm))
            )

        def gained(a: str, b: str) -> Any:
            return lambda place, norm: difference(at(final, place, a, norm), at(final, place, b, norm))

        norms = values(m, "norm")
        plain = [norm for norm in ("none",) if norm in norms]
        vertical = [norm for norm in ("bn-vertical", "bn-timestep") if norm in norms]
        compressed = [
            Case(f"{NAMES[way]}, {case.condition}", case.effect, case.needed)
            for way in ("log", "arctan")
            for case in cases(plain, gained(way, "zscore"), NEEDED)
        ]
        found = [
            ("faster", "octaves of steps to the target, raw minus z-score", cases(plain, octaves(steps))),
            ("zigzag", "octaves of zig-zag, raw minus z-score", cases(plain, octaves(path))),
            ("invariant", "test accuracy, z-score minus raw", cases(vertical, gained("zscore", "none"), NEEDED, True)),
            ("centred", "test accuracy, z-score minus min-max", cases(plain, gained("zscore", "minmax"), NEEDED)),
            ("tails", "test accuracy, compressed minus z-score", compressed),
        ]
        return [
            judge(self.claim(key), unit, kept)
            for key, unit, some in found
            if (kept := [case for case in some if case.effect.n])
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The best scaling per norm, and what raw inputs cost."""
        said = []
        for data in values(m, "data"):
            rows = where(m, quantity="final", data=data)
            for norm in values(rows, "norm"):
                mean = where(rows, norm=norm).groupby("scaling")["value"].mean().sort_values()
                if len(mean) > 1:
                    raw = f"; raw inputs reach {mean['none']:.3f}" if "none" in mean.index[:-1] else ""
                    said.append(
                        f"On {data} `{norm}` does best with {NAMES.get(mean.index[-1], mean.index[-1])} inputs: "
                        f"{mean.iloc[-1]:.3f}{raw} (mean over optimizers)."
                    )
        lost = where(m, quantity="diverged")
        if len(lost) and lost["value"].sum():
            said.append(f"{lost['value'].sum():.0f} of {len(lost)} runs diverged; they count as guessing.")
        return said

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """The path of two weights, test accuracy and steps to the target."""
        sources = sorted(values(m, "data"), key=lambda data: data == "spoken digits")
        first = sources[0] if sources else ""
        optimizers = values(where(m, data=first), "optimizer")
        sgd = "sgd" if "sgd" in optimizers else (optimizers or [""])[0]
        walked = values(where(m, data=first, quantity="weight_a"), "norm")
        walker = "none" if "none" in walked else (walked or [""])[0]

        def path(axes: Axes, theme: Theme) -> None:
            rows = where(m, data=first, optimizer=sgd, norm=walker)
            for scaling in SCALINGS:
                a = where(rows, quantity="weight_a", scaling=scaling).sort_values("t")["value"].to_numpy()
                b = where(rows, quantity="weight_b", scaling=scaling).sort_values("t")["value"].to_numpy()
                if len(a):
                    axes.plot(a, b, "-", color=COLOURS[scaling], linewidth=1.1, label=NAMES[scaling])
                    axes.plot(a[-1:], b[-1:], "o", color=COLOURS[scaling], markersize=5)
            axes.plot([0], [0], "+", color=theme.ink, markersize=9)

        def dots(quantity: str, data: str, optimizer: str, log: bool = False) -> Any:
            def draw(axes: Axes, theme: Theme) -> None:
                rows = where(m, quantity=quantity, data=data, optimizer=optimizer)
                norms = rows["norm"].unique().tolist()
                for scaling in SCALINGS:
                    for row, norm in enumerate(norms):
                        found = where(rows, norm=norm, scaling=scaling)["value"].to_numpy()
                        place = len(norms) - 1 - row - 0.13 * (SCALINGS.index(scaling) - 2)
                        label = NAMES[scaling] if row == 0 else None
                        if len(found):
                            axes.plot(found, [place] * len(found), "o", color=COLOURS[scaling], markersize=4, alpha=0.5)
                            axes.plot([found.mean()], [place], "o", color=COLOURS[scaling], markersize=9, label=label)
                points(axes, [(norm, []) for norm in norms], theme)
                if log:
                    axes.set_xscale("log")

            return draw

        panels = [
            Panel("change of another weight", f"change of a weight, {walker}, {sgd}", path, "Paths from the cross.")
        ]
        for data in sources[:2]:
            for optimizer in values(where(m, data=data), "optimizer"):
                drawn = dots("final", data, optimizer)
                panels.append(Panel(f"{optimizer}, {data}", "test score", drawn, "By norm and scaling."))
        if len(where(m, quantity="steps_to_target", data=first)):
            drawn = dots("steps_to_target", first, sgd, log=True)
            panels.append(Panel(f"{sgd}, {first}", "steps to the target loss", drawn, "By norm and scaling."))
        return panels


def _scaled(inner: dict[str, Any], scaling: str, common: dict[str, Any]) -> dict[str, Any]:
    keys = {"data": inner, "scaling": scaling, **common}
    return {"class_path": "rnnnorm.studies.data.scaling.Scaled", "init_args": keys}
