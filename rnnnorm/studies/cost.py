"""What does a normalizer cost? Time, memory, parameters and stored statistics as multiples of the plain LSTM's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes

from rnnnorm.bench.batch import Batch
from rnnnorm.bench.contenders import make_step
from rnnnorm.bench.peak import peak
from rnnnorm.bench.records import OURS
from rnnnorm.bench.shapes import Shape
from rnnnorm.bench.steps import Step
from rnnnorm.bench.timing import interleave, ratios, spread
from rnnnorm.compare.costs import count_parameters, count_stored
from rnnnorm.nn.lstm import LSTM
from rnnnorm.report.canvas import Theme
from rnnnorm.report.colours import colour
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge

COSTLY, CHEAP = 1.2, 1.1
CPU = torch.device("cpu")
PUBLISHED = {"bn-timestep": 1.41, "ln": 1.37, "wn": 1.04, "normprop": 1.07}
"""Laurent, Ballas & Vincent 2017: seconds per epoch of character-level PTB, 1000 units, as multiples of the LSTM's."""
RUNS = {"auto": "compiled", "reference": "eager"}


class Cost(Study):
    """Ratios to a plain LSTM, measured in turns in one process."""

    name = "cost"
    question = "What does a normalizer cost?"
    alone = True
    method = (
        "A training step (forward and backward) of one LSTM layer with each normalizer, and of the same layer without, "
        "in turns in one process on one core: the median of the ratios of single rounds, once per repetition. "
        "Compiled is what rnnnorm runs by default; eager is one operator after the other, as the published numbers "
        "were measured. Peak memory is how far the resident set of a fresh process rises during a training step. "
        "Costly means more than 1.2 times, next to nothing less than 1.1 times the time."
    )
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "costly",
            "Normalizing activations makes an LSTM a good third slower.",
            "Laurent, Ballas & Vincent 2017 (character PTB, 1000 units, GPU, Theano)",
            "BN 1.41, LN 1.37 times the LSTM's time",
        ),
        Claim(
            "cheap",
            "Normalizing weights, or by constants, costs next to nothing.",
            "Salimans & Kingma, NeurIPS 2016; Laurent, Ballas & Vincent 2017",
            "WN 1.04, NormProp 1.07 times the LSTM's time",
        ),
        Claim(
            "memory",
            "Statistics per timestep outgrow the weights of the layer.",
            "Hou et al., NeurIPS 2019, who report 1.7 times the size of a model at T_max = 100",
            "7736 kB with separate, 4568 kB with shared statistics",
        ),
        Claim("slots", "Statistics per timestep cost memory, not time: a larger T_max is no slower.", "common belief"),
    )

    def trials(self) -> list[Trial]:
        """Every preset by both backends; then against T, and against `max_steps`."""
        option, T = self.settings.option, int(self.settings.option("steps"))
        points: list[tuple[dict[str, Any], str]] = []
        for norm in self.settings.norms:
            for backend in option("backends"):
                points.append(({"part": "preset", "backend": backend, "T": T, "max_steps": T}, norm))
        for norm in option("growing"):
            for length in option("lengths"):
                points.append(({"part": "length", "backend": "auto", "T": length, "max_steps": length}, norm))
        for slots in option("slots"):
            points.append(({"part": "slots", "backend": "auto", "T": T, "max_steps": slots}, "bn-timestep"))
        weight = 0.6 + 1.5 * float(option("seconds"))
        return [Trial(here, norm, seed, weight=weight) for here, norm in points for seed in self.settings.seeds]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`time` and `memory` as multiples of none's, `milliseconds`; `parameters` and `stored` as multiples of W's."""
        option, c = self.settings.option, trial.conditions
        H, B, T, slots = int(option("hidden_size")), int(option("batch_size")), int(c["T"]), int(c["max_steps"])
        shape = Shape(T, B, H, H)
        batch = Batch(shape, "dense", CPU, trial.seed)

        def step(norm: str) -> Step:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                lstm = LSTM(H, H, norm=norm, max_steps=slots, backend=str(c["backend"]))
            if lstm.needs_data:
                lstm.initialize_from_data(batch.padded.detach())
            return make_step(lstm, batch, "padded", training=True)

        times = interleave({"none": step("none"), "norm": step(trial.norm)}, float(option("seconds")), CPU, trial.seed)
        yield {"quantity": "time", "value": ratios(times["norm"], times["none"]).median}
        yield {"quantity": "milliseconds", "value": 1e3 * spread(times["norm"]).median}
        weights = 8 * H * H
        if c["part"] != "length":
            yield {"quantity": "stored", "value": count_stored(trial.norm, H, slots) / weights}
        if c["part"] == "preset" and c["backend"] == "auto":
            yield {"quantity": "parameters", "value": count_parameters(trial.norm, H, slots) / weights}
            if trial.seed == self.settings.seeds[0]:
                own, plain = (peak(OURS, shape, norm, "auto", CPU).bytes for norm in (trial.norm, "none"))
                yield {"quantity": "memory", "value": own / plain}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Ratios of time against 1.2 and 1.1; stored statistics against weights; time against slots."""
        time = where(m, quantity="time", part="preset")

        def cases(norms: Sequence[str], needed: float, below: bool) -> list[Case]:
            pairs = [(norm, backend) for backend in reversed(values(time, "backend")) for norm in norms]
            effects = [estimate(per_seed(time, norm=norm, backend=backend)) for norm, backend in pairs]
            names = [f"{norm}, {RUNS.get(backend, backend)}" for norm, backend in pairs]
            return [Case(name, effect, needed, below) for name, effect in zip(names, effects, strict=True)]

        stored = where(m, quantity="stored", part="slots")
        outgrown = [
            Case(f"max_steps = {slots:g}", estimate(per_seed(stored, max_steps=slots)), 1.0)
            for slots in values(stored, "max_steps")
        ]
        slow = where(m, quantity="time", part="slots")
        first, *more = values(slow, "max_steps") or [0]
        slots = [
            Case(
                f"max_steps {first:g} → {many:g}",
                estimate(difference(per_seed(slow, max_steps=many), per_seed(slow, max_steps=first))),
                0.1,
                below=True,
            )
            for many in more
        ]
        found = [
            ("costly", "times the plain LSTM's time", cases(["bn-timestep", "ln"], COSTLY, False)),
            ("cheap", "times the plain LSTM's time", cases(["wn", "normprop"], CHEAP, True)),
            ("memory", "times the numbers in W_ih and W_hh", outgrown),
            ("slots", "times the plain LSTM's time, more slots minus few", slots),
        ]
        return [judge(self.claim(key), unit, some) for key, unit, some in found if some]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The dearest and the cheapest, and what compiling does."""
        time, said = where(m, quantity="time", part="preset"), []
        for backend, name in RUNS.items():
            mean = where(time, backend=backend).groupby("norm")["value"].mean().drop("none", errors="ignore")
            if len(mean):
                low, high = mean.idxmin(), mean.idxmax()
                said.append(
                    f"{name.capitalize()}, a training step takes {mean[low]:.2f} (`{low}`) to {mean[high]:.2f} "
                    f"(`{high}`) times the time of the plain LSTM."
                )
        beside = [
            f"`{norm}` {where(time, norm=norm, backend='reference')['value'].mean():.2f} (published {ratio:.2f})"
            for norm, ratio in PUBLISHED.items()
            if norm in values(where(time, backend="reference"), "norm")
        ]
        if beside:
            said.append("Beside the published numbers, eagerly: " + ", ".join(beside) + ".")
        return said

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Time per preset, memory per preset, time against T, stored statistics and time against slots."""
        time = where(m, quantity="time", part="preset")
        first = "auto" if "auto" in values(time, "backend") else values(time, "backend")
        order = where(time, backend=first).groupby("norm")["value"].mean().sort_values(ascending=False).index.tolist()

        def preset(axes: Axes, theme: Theme) -> None:
            for backend, marker, filled in (("auto", "o", True), ("reference", "D", False)):
                mean = where(time, backend=backend).groupby("norm")["value"].mean()
                for row, norm in enumerate(order):
                    if norm in mean:
                        face = colour(norm) if filled else "none"
                        style: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": colour(norm)}
                        axes.plot([mean[norm]], [row], marker, markersize=7, linestyle="none", **style)
            for marker, face, label in (("o", theme.muted, "compiled"), ("D", "none", "eager")):
                axes.plot([], [], marker, color=theme.muted, markerfacecolor=face, linestyle="none", label=label)
            _names(axes, order, theme)

        def memory(axes: Axes, theme: Theme) -> None:
            mean = where(m, quantity="memory").groupby("norm")["value"].mean()
            for row, norm in enumerate(order):
                if norm in mean:
                    axes.barh(row, mean[norm], height=0.5, color=colour(norm))
            _names(axes, order, theme)

        def length(axes: Axes, theme: Theme) -> None:
            rule(axes, theme, y=1.0, text="none")
            lines(axes, where(m, quantity="time", part="length"), "T")
            log_axis(axes, "x", numbers=values(where(m, part="length"), "T"))

        def slots(axes: Axes, theme: Theme) -> None:
            rows = where(m, part="slots", quantity=["stored", "time"]).copy()
            names = {"stored": "stored statistics / weights", "time": "time / none's time"}
            rows["what"] = rows["quantity"].map(names)
            shades = {names["stored"]: "#4e6dea", names["time"]: "#d77810"}
            lines(axes, rows, "max_steps", by="what", colours=shades)
            log_axis(axes, "x", numbers=values(rows, "max_steps"))
            log_axis(axes)

        drawn = [
            (time, Panel("each preset, compiled and eager", "time of a training step / none's", preset, "")),
            (where(m, quantity="memory"), Panel("each preset, compiled", "peak memory / none's", memory, "")),
            (where(m, part="length"), Panel("time / none's, compiled", "timesteps T", length, "Ratios against T.")),
            (where(m, part="slots"), Panel("bn-timestep, multiples", "max_steps", slots, "Against slots.")),
        ]
        return [panel for rows, panel in drawn if len(rows)]


def _names(axes: Axes, order: Sequence[str], theme: Theme) -> None:
    """Norms as rows, each named above its mark, and a line where nothing is added."""
    rule(axes, theme, x=1.0)
    for row, norm in enumerate(order):
        axes.annotate(
            norm, (0, row), xycoords=("axes fraction", "data"), xytext=(-4, 0), textcoords="offset points",
            fontsize=9, color=theme.ink, ha="right", va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=theme.grid, linewidth=1)
