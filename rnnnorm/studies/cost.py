"""What does a normalizer cost? Time, memory, parameters and stored statistics as multiples of the plain LSTM's."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

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
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Points, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import mapped
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import occurring

COSTLY, CHEAP = 1.2, 1.1
CPU = torch.device("cpu")
PUBLISHED = {"bn-timestep": 1.41, "ln": 1.37, "wn": 1.04, "normprop": 1.07}
"""Laurent, Ballas & Vincent 2017: seconds per epoch of character-level PTB, 1000 units, as multiples of the LSTM's."""


def from_nothing(axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
    """Let a plot of ratios begin at 0."""
    axes.set_xlim(left=0)


time = partial(Contrast, "time", "times the plain LSTM's time", by=("backend",), label="{norm}, {backend}",
               only={"part": "preset", "backend": lambda found: sorted(found, reverse=True)})  # fmt: skip


class Cost(Study):
    """Ratios to a plain LSTM, measured in turns in one process."""

    name = "cost"
    question = "What does a normalizer cost?"
    alone = True
    method = (
        "A training step (forward and backward) of one LSTM layer with each normalizer, and of the same layer "
        "without, in turns in one process on one core: the median of the ratios of single rounds, once per "
        "repetition. Compiled is what rnnnorm runs by default; eager is one operator after the other, as the "
        "published numbers were measured. Peak memory is how far the resident set of a fresh process rises during a "
        "training step. Statistics per timestep are 2·9·H·T numbers beside the 8·H² of W_ih and W_hh (as many "
        "inputs as units): 9T/(4H) times as many, more than the weights from T = 4H/9 on. Costly means more than 1.2 "
        "times, next to nothing less than 1.1 times the time."
    )
    claims = (
        Claim("costly", "Normalizing activations makes an LSTM a good third slower.",
              "Laurent, Ballas & Vincent 2017 (character PTB, 1000 units, GPU, Theano)",
              "BN 1.41, LN 1.37 times the LSTM's time", time(norms=["bn-timestep", "ln"], needed=COSTLY, null=1.0)),
        Claim("cheap", "Normalizing weights, or by constants, costs next to nothing.",
              "Salimans & Kingma, NeurIPS 2016; Laurent, Ballas & Vincent 2017",
              "WN 1.04, NormProp 1.07 times the LSTM's time",
              time(norms=["wn", "normprop"], needed=CHEAP, below=True, null=1.0)),
        Claim("memory", "Statistics per timestep outgrow the weights of the layer.",
              "Hou et al., NeurIPS 2019, who report 1.7 times the size of a model at T_max = 100",
              "7736 kB with separate, 4568 kB with shared statistics: 0.69 times a model",
              Contrast("stored", "times the numbers in W_ih and W_hh", by=("width", "max_steps"),
                       only={"part": "sizes"}, needed=1.0, null=1.0,
                       label="H = {width}, max_steps = {max_steps}")),
        Claim("slots", "Statistics per timestep cost memory, not time: a larger T_max is no slower.", "common belief",
              contrast=Contrast("time", "times the plain LSTM's time, more slots minus few", by=("max_steps",),
                                only={"part": "slots"}, against={"max_steps": partial(min, default=None)}, needed=0.1,
                                below=True, label="max_steps {against[max_steps]} → {max_steps}")),
    )  # fmt: skip
    words = Words(backend={"auto": "compiled", "reference": "eager"},
                  quantity={"stored": "stored statistics / weights", "time": "time / none's time"})  # fmt: skip
    plots = (
        Points("time", "time of a training step / none's, {backend}", "multiples of none's",
               "The cheapest preset on top.", only={"part": "preset"}, each=("backend",), at=1.0, also=from_nothing),
        Points("memory", "peak memory / none's, compiled", "multiples of none's", "The cheapest preset on top.", at=1.0,
               also=from_nothing),
        Lines("time", "time of a training step / none's, compiled", "timesteps T", "Ratios against T.", x="T", log="x",
              only={"part": "length"}, rule=1.0, text="as fast as none"),
        Lines(["stored", "time"], "bn-timestep: multiples, by its slots", "slots (max_steps)", "Against slots.",
              x="max_steps", log="xy",
              only={"part": "slots"}, line="{quantity}",
              colours={"stored statistics / weights": OTHERS[0], "time / none's time": colour("bn-timestep")}),
    )  # fmt: skip
    best = Best(
        "time", "time of a training step in multiples of that of `none`", at="{backend}", only={"part": "preset"}
    )
    sentences = (
        Sentence("A training step, {backend}, takes {first} to {last} times the time of the plain LSTM.",
                 by=("backend",), items="{time:.2f} (`{norm}`)", rising=True,
                 only={"part": "preset", "norm": lambda found: [norm for norm in found if norm != "none"]}),
        Sentence("Beside the published numbers, eagerly: {items}.",
                 items="`{norm}` {time:.2f} (published {published:.2f})",
                 only={"part": "preset", "backend": "reference", "norm": list(PUBLISHED)}),
        Sentence("Statistics of `bn-timestep` outgrow W_ih and W_hh beyond T = {items}.", over=("width",),
                 items="{crossover:.0f} at H = {width}"),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Every preset by both backends; then against T, and against `max_steps`."""
        option, T = self.settings.option, int(self.settings.option("steps"))
        grid = partial(self.grid, weight=0.6 + 1.5 * float(option("seconds")))
        made = grid({"part": "preset", "backend": option("backends"), "T": T, "max_steps": T})
        for length in option("lengths"):
            made += grid({"part": "length", "backend": "auto", "T": length, "max_steps": length}, option("growing"))
        slots = {"part": "slots", "backend": "auto", "T": T, "max_steps": option("slots")}
        sizes = {"part": "sizes", "width": option("widths"), "max_steps": option("memory_steps")}
        return [*made, *grid(slots, ["bn-timestep"]), *self.grid(sizes, ["bn-timestep"], weight=0.02)]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`time` and `memory` as multiples of none's, `milliseconds`; `parameters` and `stored` as multiples of W's."""
        option, c = self.settings.option, trial.conditions
        if c["part"] == "sizes":
            numbers = count_stored(trial.norm, H := int(c["width"]), int(c["max_steps"]))
            yield {"quantity": "stored", "value": numbers / (8 * H * H)}
            return
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

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """All measurements, the cheapest norm first, and the `published` times beside the eager ones."""
        times = where(m, quantity="time", part="preset")
        mean = where(times, backend=occurring(times, "backend")[:1]).groupby("norm")["value"].mean()
        yield m.sort_values("norm", key=lambda norms: norms.map(mean), kind="stable")
        # Statistics grow with their slots: they weigh as much as the weights at max_steps / ratio of them.
        sizes = where(m, part="sizes")
        yield mapped(sizes, "stored", "crossover", lambda rows: rows["max_steps"] / rows["value"])
        yield mapped(where(times, backend="reference"), "time", "published", lambda rows: rows["norm"].map(PUBLISHED))
