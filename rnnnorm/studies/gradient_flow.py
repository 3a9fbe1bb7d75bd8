"""Does the gradient explode between timesteps? ‖∂L/∂h_t‖ against t, at initialization and after training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product

import pandas as pd

from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import mapped
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import OTHERS, shades
from rnnnorm.studies.framework.selection import first, occurring, preferring
from rnnnorm.studies.measures import gradients
from rnnnorm.studies.measures.gradients import ALIVE

LINEAR = (("rnn-identity", 1.0), ("rnn-tanh", 0.01))
INPUTS, WEIGHTS = ("no", "yes"), ("identity", "orthogonal")


def published_gains(gains: Sequence[float]) -> Sequence[float]:
    """The gains 1 and 0.1, if both were measured, else all."""
    return [1.0, 0.1] if {0.1, 1.0} <= set(gains) else gains


of_stacks = partial(
    Contrast, unit="factor", norms="bn-vertical", only={"part": "layers"}, needed=1.05, below=True, null=1.0
)
by_gain = partial(Lines, "growth", "growth of ‖∂L/∂h_t‖ per step back", log="x")


class GradientFlow(Study):
    """Gradient norms along time."""

    name = "gradient-flow"
    tuned_by = ()
    question = "Does normalization between timesteps make gradients explode?"
    method = (
        "A network at initialization (orthogonal W_hh, float64) reads T steps of Gaussian input, or none at all from "
        "a Gaussian h_0; the loss is a random projection of the last state. The growth factor is the factor by which "
        "‖∂L/∂h_t‖ changes going one step back in time, from the slope of its logarithm over the middle three fifths "
        "of the steps; above 1 it explodes, below 1 it vanishes. Per layer: the same with ‖∂L/∂h^l‖, going one layer "
        "down a stack of LSTMs. Yang's factor (ε = 1e-12, so that small gains do not meet it) is compared by the "
        "share of its logarithm: 1 is agreement (within a tenth), 0 no growth at all; it is for infinite width H, so "
        "the share is shown against B/H. Cooijmans' figure is measured on 784 pixels (MNIST where the data are at "
        "hand, else drawn strokes), with one normalization of W_hh h + W_ih x (bn-joint) or one of each term "
        "(bn-timestep), W_hh the identity or orthogonal; its size depends on all of these, so the claim is judged by "
        "what the gain changes. Six decades lost is vanished. After training: the task's own loss on a validation "
        "batch, by the best checkpoint in training mode."
    )
    columns = ("t",)
    claims = (
        Claim("yang",
              "In the linear regime each batch-normalized step multiplies the squared gradient norm by (B-2)/(B-3).",
              "Yang et al., ICLR 2019, for wide feed-forward networks",
              "√((B-2)/(B-3)): 1.095 at B = 8, 1.017 at B = 32, 1.001 at B = 400",
              contrast=Contrast("agreement", "1 - |measured / formula - 1|, of the logarithms of growth", needed=0.9,
                                null=1.0, by=("cell", "gain", "width", "batch"),
                                label="{cell}, gain {gain}, H = {width}, B = {batch}")),
        Claim("explodes", "Repeated rescaling makes gradients explode between timesteps.",
              "Laurent et al., ICASSP 2016 (conjecture); restated by Cooijmans et al., ICLR 2017",
              "no measurement was published",
              contrast=Contrast("growth_by_gain", "factor per step back", by=("cell", "input", "gain"),
                                only={"cell": ("rnn-tanh", "lstm"), "input": INPUTS, "gain": published_gains},
                                needed=1.01, null=1.0, label="{cell} {input}, gain {gain}")),
        Claim("vertical", "Between layers batch normalization is fine: it makes nothing explode.",
              "Laurent et al., ICASSP 2016; Amodei et al., ICML 2016",
              contrast=(of_stacks("layer_growth", label="growth per layer, 8 layers of LSTM"),
                        of_stacks("growth", label="growth per timestep, 8 layers of LSTM"))),
        Claim("vanishes", "A gain of 1 saturates the units and makes gradients vanish; 0.1 keeps them alive.",
              "Cooijmans et al., ICLR 2017, figure 1 (tanh BN-RNN, sequential MNIST)",
              "‖∂L/∂h_0‖ about 1e-3 for gains up to 0.2, 1e-10 at 0.5, 1e-22 at 0.6, underflow at 1",
              contrast=Contrast("decades", "decades from t = T to t = 0, gain 1 minus gain 0.1",
                                ("bn-joint", "bn-timestep"), {"gain": 0.1}, ("W_hh",), {"part": "pixels",
                                "gain": (1.0,), "W_hh": WEIGHTS}, ALIVE, below=True, label="{W_hh} W_hh, {norm}")),
    )  # fmt: skip
    words = Words(cell={"rnn-identity": "linear RNN", "rnn-tanh": "tanh RNN", "lstm": "LSTM"},
                  input={"yes": "with input", "no": "without input"}, decades=gradients.fate)  # fmt: skip
    plots = (
        Lines(
            "gradient_norm", "‖∂L/∂h_t‖ at initialization", "timestep t (pixel)",
            "Cooijmans' figure: solid with identity W_hh, dotted with orthogonal W_hh.", x="t",
            only={"part": "pixels", "norm": first}, line="gain {gain}, {W_hh}",
            colours=lambda names: shades(names, kind=lambda name: name.split(", ")[1]),
            marker=None, band=False, styles=lambda name: "-" if name.endswith("identity") else ":", log="y",
            above=1e-60, limits=(1e-60, None),
        ),
        by_gain("batch size B", "Growth against batch size, no input.", x="batch", line="{cell}, gain {gain}",
                only={"part": "batch", "width": preferring(100)}, base=2,
                colours=OTHERS,
                ticks=(3, 8, 32, 128, 400), limits=(0.9, 1.6), formula="√((B−2)/(B−3)), Yang et al.",
                curve=gradients.yang),
        gradients.FINITE_WIDTH,
        by_gain("gain", "Growth against the gain, B = 100.", x="gain", only={"part": "gain", "norm": "bn-timestep"},
                line="{cell}, {input}", colours=OTHERS,
                ticks=(0.01, 0.1, 0.3, 1.0), rule=1.0, text="neither grows nor fades"),
        Lines("gradient_norm", "‖∂L/∂h_t‖ after training", "timestep t", "The gradient of the task's loss along time.",
              x="t", only={"part": "trained"}, log="y", marker=None),
    )  # fmt: skip
    best = Best("off", "growth of ‖∂L/∂h_t‖ per step back after training, distance from 1")
    sentences = (
        Sentence("With a gain of 1 and {W_hh} W_hh the gradient {decades}.", by=("W_hh",),
                 only={"part": "pixels", "gain": 1.0, "W_hh": WEIGHTS, "norm": first}),
        Sentence("With a gain of {gain}, by seed, W_hh and form, ‖∂L/∂h_0‖ is {least:+.0f} to {most:+.0f} decades from "
                 "‖∂L/∂h_T‖.", by=("gain",), only={"part": "pixels", "gain": (0.1, 1.0)}),
        Sentence("After training the growth factors are {items}.", only={"part": "trained"},
                 items="{growth:.3f} ({norm})", rising=True, least=2),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Yang's sweep over batch sizes, gains × cells × input, long sequences, stacks, trained networks."""
        option, norms, made = self.settings.option, self.settings.norms, list[Trial]()
        T, B = option("steps"), 100
        first = min(self.settings.seeds)  # for formulas there are more: few rows scatter more
        many = range(first, first + max(option("formula_seeds"), len(self.settings.seeds)))
        wide = [*dict.fromkeys([option("hidden_size"), *option("widths")])]
        for size, (cell, gain) in product(option("batch_sizes"), (*LINEAR, ("rnn-tanh", 1.0), ("lstm", 0.1))):
            here = {"part": "batch", "cell": cell, "gain": gain, "batch": size, "input": "no", "steps": 2 * T}
            here["width"] = wide if cell == "rnn-identity" else wide[:1]
            made += self.grid(here, ["bn-timestep"], weight=gradients.weight_of_width,
                              seeds=many if (cell, gain) in LINEAR else None)  # fmt: skip
        for cell in ("rnn-tanh", "lstm"):
            axes = {"cell": cell, "gain": option("gains"), "batch": B, "input": INPUTS, "steps": T}
            made += self.grid({"part": "gain", **axes}, ["bn-timestep", "ln"], weight=0.3)
            here = {"part": "norm", "cell": cell, "batch": B, "input": "yes", "steps": T}
            made += self.grid(here, [norm for norm in norms if norm not in ("bn-timestep", "ln")], weight=0.3)
        here = {"part": "pixels", "cell": "rnn-tanh", "gain": option("long_gains"), "W_hh": WEIGHTS}
        made += self.grid(here, ["bn-joint"], weight=2.0)
        made += self.grid({**here, "gain": published_gains(option("long_gains"))}, ["bn-timestep"], weight=2.0)
        here = {"part": "layers", "cell": "lstm", "batch": B, "input": "yes", "steps": T // 4}
        made += self.grid(here, ["none", "bn-vertical", "bn-timestep"], weight=0.8)
        return made + self.grid({"part": "trained"}, option("trained_norms"), self.settings.config, 3.0)

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`growth` per step, `layer_growth`, `decades` lost, and ‖∂L/∂h_t‖ as `gradient_norm` with `t`, from 0."""
        part = trial.conditions["part"]
        yield from trained.rows() if trained is not None else ()
        if trained is not None and trained.diverged:
            return
        layers = [gradients.task_gradients(trained)] if trained else gradients.untrained(trial, self.settings)
        yield from gradients.growths(layers)
        if part in ("pixels", "trained"):
            yield from gradients.along(layers[-1], every=16 if part == "pixels" else 1)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """How far growth is `off` 1, its share of Yang's, the ends of lost decades, growth at published gains."""
        yield m
        yield mapped(where(m, part="trained"), "growth", "off", lambda rows: (rows["value"] - 1).abs())
        linear = pd.concat([where(m, part="batch", cell=cell, gain=gain) for cell, gain in LINEAR])
        yield from gradients.share_of_theory(linear)
        yield from gradients.decades_between(where(m, part="pixels"))
        rows = where(m, part="gain", norm="bn-timestep", quantity="growth")
        yield where(rows, gain=[*published_gains(occurring(rows, "gain"))]).assign(quantity="growth_by_gain")
