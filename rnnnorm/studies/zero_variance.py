"""Constant inputs at the start of a sequence: what batch normalization does to gradients where the variance is zero."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pandas as pd
import torch

from rnnnorm.probes import growth
from rnnnorm.report.colours import colour, dashes
from rnnnorm.studies.data.constant_start import black_border, symbols
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Points, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import backwards, beginning, first
from rnnnorm.studies.measures.constant_steps import (
    along_time,
    arm,
    as_norm,
    clipped,
    draw_inverse,
    inverse_eps,
    rounding_shares,
    shade_constant,
)
from rnnnorm.studies.measures.gradients import projected_gradients
from rnnnorm.studies.measures.guessing import score
from rnnnorm.tasks.cells import build_recurrent

FLAT, NEEDED = 1.1, 0.01
SKIPPED = "bn-timestep:skip_constant=true"

grown = partial(Contrast, "growth", "factor per step back", needed=FLAT, null=1.0)
rounded = partial(Contrast, "rounding", "share of the gradient by all weights, gains and biases", null=0.0,
                  by=("data", "steps", "precision"), label="{data}, {steps} constant steps, {precision}")  # fmt: skip
border = partial(grown, by=("norm",), label="MNIST's border, {norm}")


class ZeroVariance(Study):
    """Growth of gradients through steps in which all sequences are alike."""

    name = "zero-variance"
    tuned_by = ("noise", "clip")
    question = "Does batch normalization explode where all sequences still look alike?"
    method = (
        "An LSTM at initialization (orthogonal W_hh, float64) reads steps that are the same in all sequences of a "
        "batch, then 20 steps of random symbols; the loss is a random projection of the last state. Growth is the "
        "factor per step back by which ‖∂L/∂h_t‖ changes inside the constant steps; flat means below 1.1. The same in "
        "float32 tells after how many steps a gradient is no longer a number. With real data: the black border of "
        "sequential MNIST. Training: temporal order after a constant border, with and without noise on h_0, other ε, "
        "with and without gradient clipping; score is the test score by population statistics, that of guessing for a "
        "run that diverged; a difference counts from 0.01. Rounding: the same networks after fewer constant steps; of "
        "the gradient by all weights, gains and biases, in float32 or float64, the share ‖g − g*‖/‖g‖ that is not the "
        "gradient g* in float64 with skip_constant, by which nothing goes back through features that all rows agree on."
    )
    columns = ("mode", "t", "precision")
    claims = (
        Claim("explodes",
              "Where all sequences begin with the same inputs, horizontal batch normalization makes gradients explode.",
              "Cooijmans et al., ICLR 2017, on sequential MNIST, whose images begin with black pixels",
              "no factor was published",
              contrast=(grown(by=("gain", "eps"), only={"part": "eps"}, label="gain {gain}, ε = {eps}"),
                        border(only={"part": "mnist", "noise": 0.0}))),
        Claim("scaling", "At variance 0 each normalization multiplies the gradient by γ/√ε, two in a row by γ²/ε.",
              "follows from the backward pass of Ioffe & Szegedy, ICML 2015", "a tenfold ε: a tenth of the factor",
              contrast=Contrast("deviation", "relative deviation from 1/ε", by=("gain", "eps", "following"), needed=0.1,
                                below=True, label="gain {gain}, ε from {eps} to {following}")),
        Claim("noise", "Gaussian noise of standard deviation 0.1 on h_0 removes the explosion.",
              "Cooijmans et al., ICLR 2017 (in-order MNIST only)",
              contrast=(grown(by=("gain",), only={"part": "noise", "noise": 0.1}, below=True,
                              label="gain {gain}"),
                        border(only={"part": "mnist", "noise": 0.1}, below=True))),
        Claim("training", "Without noise on h_0 BN-LSTM does not train well after a constant start.",
              "Cooijmans et al., ICLR 2017: noise was used for in-order MNIST, where it reached 99.0 % (LSTM: 98.9 %)",
              contrast=Contrast("final", "score gained by noise", "bn-timestep", {"noise": 0.0}, ("clip",),
                                {"part": "trained", "noise": 0.1, "clip": backwards}, needed=NEEDED, label="{clip}")),
        Claim("eps", "A larger ε alone makes noise unnecessary.",
              "common advice; Yang et al., ICLR 2019, name a larger ε as a remedy against exploding gradients",
              contrast=Contrast("final", "score with noise minus score with this ε",
                                lambda norms: sorted(beginning("bn-timestep:eps=")(norms)),
                                {"norm": "bn-timestep", "noise": 0.1}, ("clip",),
                                {"part": "trained", "noise": 0.0, "clip": backwards}, needed=NEEDED, below=True,
                                turned=True,
                                label=lambda p: f"ε = {p['norm'].rpartition('=')[2]}, {clipped(p['clip'])}")),
        Claim("rounding",
              "Where all sequences begin alike, the weights' gradients that explode are rounding error: the true ones "
              "cancel over the batch.",
              "this package; follows from the mean's part in the backward pass of Ioffe & Szegedy, ICML 2015",
              contrast=(rounded(only={"part": "rounding", "norm": "bn-timestep", "precision": "float32",
                                      "data": "symbols", "steps": [3, 8]}, needed=0.5),
                        rounded(only={"part": "rounding", "norm": "bn-timestep", "precision": "float64",
                                      "data": "symbols", "steps": 3}, needed=NEEDED, below=True))),
        Claim("skipped", "Gradients in float32 are true if nothing goes back through features that all rows agree on.",
              "this package",
              contrast=rounded(only={"part": "rounding", "norm": SKIPPED, "precision": "float32"}, needed=NEEDED,
                               below=True)),
        Claim("skip", "Then BN-LSTM trains after a constant start without noise and with the usual ε.", "this package",
              contrast=Contrast("final", "score with noise minus score without, constants skipped", SKIPPED,
                                {"norm": "bn-timestep", "noise": 0.1}, ("clip",),
                                {"part": "trained", "noise": 0.0, "clip": backwards}, needed=NEEDED, below=True,
                                turned=True, label="{clip}")),
    )  # fmt: skip
    words = Words(clip=clipped, data=lambda data: "MNIST's border" if data == "mnist" else str(data))
    plots = (
        Lines(
            "along", "‖∂L/∂h_t‖ at initialization", "timestep t", "Gradients along time; shaded: constant inputs.",
            x="t", line="{shown}", log="y", marker=None, band=False, also=shade_constant,
            styles=lambda line: ":" if "noise" in line else dashes(as_norm(line)),
            colours=lambda lines: {line: colour(as_norm(line)) for line in lines},
        ),
        Lines("growth", "growth of ‖∂L/∂h_t‖, factor per constant step back", "ε", "Growth against ε.", x="eps",
              only={"part": "eps"}, line="gain {gain}", colours=OTHERS, log="xy", also=draw_inverse, rule=1.0,
              text="neither grows nor fades"),
        Lines("growth", "growth of ‖∂L/∂h_t‖, factor per constant step back, smallest ε", "standard deviation of h_0",
              "Growth against noise on h_0.", x="noise", only={"part": "noise"}, line="gain {gain}", colours=OTHERS,
              log="x", rule=1.0, text="neither grows nor fades"),
        Points("final", "test score after training with a constant start", "test score",
               "Scores of each arm; small dots: seeds.", line="{arm}"),
    )  # fmt: skip
    best = Best("final", "test score after a constant start", "{arm}", only={"part": "trained"}, greatest=True)
    sentences = (
        Sentence("With gain {gain} and ε = {eps} each constant step multiplies gradients by {growth:.3g}, and float32 "
                 "holds them for {finite_steps:.0f} of {constant_steps:.0f} steps.", by=("gain", "eps"),
                 only={"part": "eps", "eps": first}),
        Sentence("A batch of MNIST digits has {constant_steps:.0f} black pixels in common before the first stroke.",
                 only={"part": "mnist"}),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Growth per gain, ε and noise, under other norms, on MNIST; then training."""
        option, made = self.settings.option, list[Trial]()
        gains, eps = [float(g) for g in option("gains")], [float(e) for e in option("eps")]
        noises = [float(noise) for noise in option("noises")]
        for gain in gains:
            made += self.grid({"part": "eps", "gain": gain, "eps": eps, "noise": 0.0}, ["bn-timestep"], weight=0.3)
            here = {"part": "noise", "gain": gain, "eps": min(eps), "noise": noises}
            made += self.grid(here, ["bn-timestep"], weight=0.3)
        made += self.grid({"part": "norm", "noise": 0.0}, weight=0.3)
        if self.settings.data_dir is not None:
            made += self.grid({"part": "mnist", "noise": (0.0, 0.1)}, ["bn-timestep"], weight=2.0)
        sources = ("symbols",) if self.settings.data_dir is None else ("symbols", "mnist")
        asked = [int(steps) for steps in self.settings.options.get("steps", ())]  # of later runs only
        for data in sources if asked else ():
            here = {"part": "rounding", "data": data, "steps": asked}
            made += self.grid(here, ["bn-timestep", SKIPPED], weight=0.3)
        for trained in option("trained"):
            noise, clip = float(trained["noise"]), float(trained["clip"])
            config = self.settings.configured(
                model={"initial_state_noise": noise}, trainer={"gradient_clip_val": clip or None}
            )
            made += self.grid({"part": "trained", "noise": noise, "clip": clip}, [str(trained["norm"])], config, 3.0)
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`growth`, `gradient_norm` per `t`, `finite_steps` in float32; `constant_steps` of MNIST; `final` score."""
        if trained is not None:
            yield from trained.rows()
            yield {"quantity": "final", "value": score(trained)}
            return
        torch.manual_seed(trial.seed)
        c = trial.conditions
        B, H = int(self.settings.option("batch_size")), int(self.settings.option("hidden_size"))
        if c["part"] == "rounding":
            steps = int(c["steps"])
            if c["data"] == "mnist":
                pixels, blank = black_border(B, self.settings.data_dir)
                x = pixels[blank - steps :]
            else:
                x, _ = symbols(steps, B)
            for precision, share in rounding_shares(x, H, trial.norm, SKIPPED):
                yield {"quantity": "rounding", "precision": precision, "value": share}
            return
        if c["part"] == "mnist":
            x, blank = black_border(B, self.settings.data_dir)
        else:
            x, blank = symbols(int(self.settings.option("blank")), B)
        norm = f"{trial.norm}:gain={c['gain']:g}:eps={c['eps']:g}" if "gain" in c else trial.norm
        network = build_recurrent("lstm", None, x.shape[2], H, 1, norm=norm, max_steps=len(x), init="orthogonal")
        h0 = float(c["noise"]) * torch.randn(1, x.shape[1], H, dtype=torch.float64)
        projection = torch.randn(x.shape[1], H, dtype=torch.float64)
        (norms,) = projected_gradients(network.double().train(), x, h0, projection, torch.zeros_like(h0))
        yield {"quantity": "growth", "value": growth(norms, 0, blank - 1)}
        yield {"quantity": "constant_steps", "value": blank}
        for t, value in enumerate(norms.tolist()):
            yield {"quantity": "gradient_norm", "t": t, "value": value}
        few = [tensor.float() for tensor in (x, h0, projection, torch.zeros_like(h0))]
        (single,) = projected_gradients(network.float(), *few)
        yield {"quantity": "finite_steps", "value": int(torch.isfinite(single[:blank]).sum())}

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """The deviation of growth from 1/ε; the gradients that are drawn; trained arms by name."""
        arms = zip(m["norm"], m["noise"], m["clip"], strict=True) if "clip" in m else ()
        yield m.assign(arm=[arm(*key) for key in arms] or None)
        yield from inverse_eps(where(m, part="eps"))
        yield from along_time(m)
