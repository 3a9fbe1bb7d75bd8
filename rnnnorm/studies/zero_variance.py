"""Constant inputs at the start of a sequence: what batch normalization does to gradients where the variance is zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from rnnnorm.data import SequentialMNIST
from rnnnorm.probes import growth, record
from rnnnorm.report.canvas import Theme
from rnnnorm.report.colours import colour
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis, points, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.guessing import score
from rnnnorm.tasks.cells import build_recurrent

AFTER = 20
"""Random steps after the constant ones, in the networks that are not trained."""
FLAT = 1.1
NEEDED = 0.01
SHADES = ("#a8453f", "#d77810", "#c5b500", "#2d6779", "#4e6dea", "#7a4fa3")


class ZeroVariance(Study):
    """Growth of gradients through steps in which all sequences are alike."""

    name = "zero-variance"
    question = "Does batch normalization explode where all sequences still look alike?"
    method = (
        "An LSTM at initialization (orthogonal W_hh, float64) reads steps that are the same in all sequences of a "
        "batch, then 20 steps of random symbols; the loss is a random projection of the last state. Growth is the "
        "factor per step back by which ‖∂L/∂h_t‖ changes inside the constant steps; flat means below 1.1. The same "
        "in float32 tells after how many steps a gradient is no longer a number. With real data: the black border of"
        " sequential MNIST. Training: temporal order after a constant border, with and without noise on h_0, other "
        "ε, with and without gradient clipping; score is the test score by population statistics, that of guessing "
        "for a run that diverged; a difference counts from 0.01."
    )
    columns: ClassVar[tuple[str, ...]] = ("mode", "t")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "explodes",
            "Where all sequences begin with the same inputs, horizontal batch normalization makes gradients explode.",
            "Cooijmans et al., ICLR 2017, on sequential MNIST, whose images begin with black pixels",
            "no factor was published",
        ),
        Claim(
            "scaling",
            "At variance 0 each normalization multiplies the gradient by γ/√ε, two in a row by γ²/ε.",
            "follows from the backward pass of Ioffe & Szegedy, ICML 2015",
            "a tenfold ε: a tenth of the factor",
        ),
        Claim(
            "noise",
            "Gaussian noise of standard deviation 0.1 on h_0 removes the explosion.",
            "Cooijmans et al., ICLR 2017 (in-order MNIST only)",
        ),
        Claim(
            "training",
            "Without noise on h_0 BN-LSTM does not train well after a constant start.",
            "Cooijmans et al., ICLR 2017: noise was used for in-order MNIST, where it reached 99.0 % (LSTM: 98.9 %)",
        ),
        Claim(
            "eps",
            "A larger ε alone makes noise unnecessary.",
            "common advice; Yang et al., ICLR 2019, name a larger ε as a remedy against exploding gradients",
        ),
    )

    def trials(self) -> list[Trial]:
        """Growth per gain, ε and noise, under other norms, on MNIST; then training."""
        option, seeds = self.settings.option, self.settings.seeds
        gains, eps = [float(g) for g in option("gains")], [float(e) for e in option("eps")]
        points_: list[tuple[dict[str, Any], str]] = []
        for gain in gains:
            points_ += [({"part": "eps", "gain": gain, "eps": e, "noise": 0.0}, "bn-timestep") for e in eps]
            for noise in option("noises"):
                here = {"part": "noise", "gain": gain, "eps": min(eps), "noise": float(noise)}
                points_.append((here, "bn-timestep"))
        points_ += [({"part": "norm", "noise": 0.0}, norm) for norm in self.settings.norms]
        made = [Trial(where_, norm, seed, weight=0.3) for where_, norm in points_ for seed in seeds]
        if self.settings.data_dir is not None:
            made += [
                Trial({"part": "mnist", "noise": s}, "bn-timestep", k, weight=2.0) for s in (0.0, 0.1) for k in seeds
            ]
        for arm in option("trained"):
            noise, clip = float(arm["noise"]), float(arm["clip"])
            config = self.settings.configured(
                model={"initial_state_noise": noise}, trainer={"gradient_clip_val": clip or None}
            )
            place: dict[str, Any] = {"part": "trained", "noise": noise, "clip": clip}
            made += [Trial(place, str(arm["norm"]), seed, config, weight=3.0) for seed in seeds]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`growth`, `gradient_norm` per `t`, `finite_steps` in float32; `constant_steps` of MNIST; `final` score."""
        if trained is not None:
            yield from trained.rows()
            yield {"quantity": "final", "value": score(trained)}
            return
        torch.manual_seed(trial.seed)
        c = trial.conditions
        x, blank = self._mnist(trial.seed) if c["part"] == "mnist" else self._symbols()
        norm = f"{trial.norm}:gain={c['gain']:g}:eps={c['eps']:g}" if "gain" in c else trial.norm
        H = int(self.settings.option("hidden_size"))
        network = build_recurrent("lstm", None, x.shape[2], H, 1, norm=norm, max_steps=len(x), init="orthogonal")
        h0 = float(c["noise"]) * torch.randn(1, x.shape[1], H, dtype=torch.float64)
        projection = torch.randn(x.shape[1], H, dtype=torch.float64)
        norms = gradients(network.double().train(), x, h0, projection)
        yield {"quantity": "growth", "value": growth(norms, 0, blank - 1)}
        yield {"quantity": "constant_steps", "value": blank}
        for t, value in enumerate(norms.tolist()):
            yield {"quantity": "gradient_norm", "t": t, "value": value}
        single = gradients(network.float(), x.float(), h0.float(), projection.float())[:blank]
        yield {"quantity": "finite_steps", "value": int(torch.isfinite(single).sum())}

    def _symbols(self) -> tuple[Tensor, int]:
        """One-hot symbols (T, B, 50), the first `blank` of which are the same in all sequences."""
        blank, B = int(self.settings.option("blank")), int(self.settings.option("batch_size"))
        symbols = torch.zeros(blank + AFTER, B, dtype=torch.long)
        symbols[blank:] = torch.randint(50, (AFTER, B))
        return torch.nn.functional.one_hot(symbols, 50).double(), blank

    def _mnist(self, seed: int) -> tuple[Tensor, int]:
        """Pixels (T, B, 1) of a batch of digits up to `AFTER` steps behind the last one of its common black border."""
        B = int(self.settings.option("batch_size"))
        data = SequentialMNIST(num_train=B * 16, num_val=1, num_test=1, data_dir=self.settings.data_dir, download=False)
        chosen = torch.randperm(B * 16)[:B].tolist()
        pixels = torch.stack([data.examples("train")[k][0] for k in chosen], 1).double()
        same = (pixels == pixels[:, :1]).all(dim=1).flatten()
        blank = int(same.long().cumprod(0).sum())
        return pixels[: blank + AFTER], blank

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Growth factors against 1; ratios of growth against ratios of 1/ε; scores with and without noise."""
        grown = where(m, quantity="growth")
        by_eps, noisy = where(grown, part="eps"), where(grown, part="noise")
        explosion = [
            Case(f"gain {gain:g}, ε = {e:g}", estimate(per_seed(by_eps, gain=gain, eps=e)), 1.0)
            for gain, e in _pairs(by_eps, "gain", "eps")
        ]
        explosion += [
            Case(f"MNIST's border, {norm}", estimate(per_seed(grown, part="mnist", norm=norm, noise=0.0)), 1.0)
            for norm in values(where(grown, part="mnist"), "norm")
        ]
        scaling = []
        for gain, e in _pairs(by_eps, "gain", "eps"):
            following = min((other for other in values(by_eps, "eps") if other > e), default=None)
            if following is not None:
                ratio = per_seed(by_eps, gain=gain, eps=e) / per_seed(by_eps, gain=gain, eps=following)
                off = estimate(abs(value * e / following - 1) for value in ratio)
                scaling.append(Case(f"gain {gain:g}, ε from {e:g} to {following:g}", off, 0.1, below=True))
        calm = [
            Case(f"gain {gain:g}", estimate(per_seed(noisy, gain=gain, noise=0.1)), FLAT, below=True)
            for gain in values(noisy, "gain")
        ]
        border = where(grown, part="mnist")
        calm += [
            Case(f"MNIST's border, {norm}", estimate(per_seed(border, norm=norm, noise=0.1)), FLAT, below=True)
            for norm in values(border, "norm")
        ]
        reached = where(m, quantity="final", part="trained")
        training, eps = [], []
        for clip in sorted(values(reached, "clip"), reverse=True):
            here = where(reached, clip=clip)
            clipped = f"gradients clipped to {clip:g}" if clip else "no clipping"
            best = per_seed(here, norm="bn-timestep", noise=0.1)
            gain = difference(best, per_seed(here, norm="bn-timestep", noise=0.0))
            training.append(Case(clipped, estimate(gain), NEEDED))
            for norm in values(here, "norm"):
                if norm.startswith("bn-timestep:eps="):
                    lost = difference(best, per_seed(here, norm=norm, noise=0.0))
                    name = f"ε = {norm.rpartition('=')[2]}, {clipped}"
                    eps.append(Case(name, estimate(lost), NEEDED, below=True))
        found = [
            ("explodes", "factor per step back", explosion),
            ("scaling", "relative deviation from 1/ε", scaling),
            ("noise", "factor per step back", calm),
            ("training", "score gained by noise", training),
            ("eps", "score with noise minus score with this ε", eps),
        ]
        return [
            judge(self.claim(key), unit, cases) for key, unit, cases in found if any(case.effect.n for case in cases)
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """Factors, the end of float32, what training made of it, and advice."""
        grown, said = where(m, quantity="growth", part="eps"), []
        small, ends = values(grown, "eps")[:1], where(m, quantity="finite_steps", part="eps")
        for gain in values(grown, "gain"):
            factor, steps = per_seed(grown, gain=gain, eps=small).mean(), per_seed(ends, gain=gain, eps=small).mean()
            blank = per_seed(m, quantity="constant_steps", part="eps").mean()
            text = f"With gain {gain:g} and ε = {small[0]:g} each constant step multiplies gradients by {factor:.3g}"
            lost = f", and float32 holds them for {steps:.0f} of {blank:.0f} steps" if steps < blank else ""
            said.append(text + lost + ".")
        border = per_seed(m, quantity="constant_steps", part="mnist")
        if len(border):
            said.append(
                f"A batch of MNIST digits has {border.mean():.0f} black pixels in common before the first stroke."
            )
        diverged = where(m, quantity="diverged", part="trained")
        if len(diverged):
            lost = diverged[diverged["value"] > 0]
            arms = sorted({_arm(n, s, c) for n, s, c in zip(lost["norm"], lost["noise"], lost["clip"], strict=True)})
            said.append(
                f"{len(lost)} of {len(diverged)} training runs diverged{': ' if arms else ''}{'; '.join(arms)}."
            )
        reached = where(m, quantity="final", part="trained")
        arms_ = reached.groupby(["norm", "noise", "clip"]) if len(reached) else ()
        scores = {_arm(*key): float(group["value"].mean()) for key, group in arms_}
        if scores:
            ranked = sorted(scores, key=lambda name: -scores[name])
            said.append(
                f"Best trained: {ranked[0]} with {scores[ranked[0]]:.3f}; "
                f"worst: {ranked[-1]} with {scores[ranked[-1]]:.3f}."
            )
        return said

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """The gradient along time, growth against ε and against noise, scores."""
        norms, grown = where(m, quantity="gradient_norm"), where(m, quantity="growth")
        low_gain = min(values(where(norms, part="eps"), "gain"), default=None)

        def along(axes: Axes, theme: Theme) -> None:
            steps = where(m, quantity="constant_steps", part=["eps", "norm"])["value"]
            if len(steps):
                axes.axvspan(0, steps.max(), color=theme.grid, alpha=0.5, linewidth=0)
                rule(axes, theme, x=float(steps.max()), text="inputs begin to differ")
            parts = []
            for (e, noise), group in where(norms, part=["eps", "noise"], gain=low_gain).groupby(["eps", "noise"]):
                if noise in (0.0, 0.1):
                    name = f"bn-timestep, ε = {e:g}" + (f", noise {noise:g} on h_0" if noise else "")
                    parts.append(group.assign(norm=name))
            shades = dict(zip([part["norm"].iloc[0] for part in parts], SHADES, strict=False))
            parts.append(where(norms, part="norm", norm=["none", "ln"]))
            rows = pd.concat(parts)
            lines(axes, rows[rows["value"] > 0], "t", marker=None, colours=shades, band=False)
            log_axis(axes)

        def against_eps(axes: Axes, theme: Theme) -> None:
            rows = where(grown, part="eps")
            rule(axes, theme, y=1.0, text="neither grows nor fades")
            names = [f"gain {gain:g}" for gain in rows["gain"]]
            lines(
                axes, rows.assign(norm=names), "eps", colours=dict(zip(dict.fromkeys(names), SHADES[3:], strict=False))
            )
            for gain, group in rows.groupby("gain"):
                mean = group.groupby("eps")["value"].mean().sort_index()
                e = np.asarray(mean.index, dtype=float)
                label = "∝ 1/ε" if gain == rows["gain"].min() else None
                axes.plot(e, mean.iloc[0] * e[0] / e, "--", color=theme.muted, linewidth=1, label=label)
            log_axis(axes, "x")
            log_axis(axes)

        def against_noise(axes: Axes, theme: Theme) -> None:
            rows = where(grown, part="noise")
            names = [f"gain {gain:g}" for gain in rows["gain"]]
            rule(axes, theme, y=1.0, text="neither grows nor fades")
            lines(
                axes,
                rows.assign(norm=names),
                "noise",
                colours=dict(zip(dict.fromkeys(names), SHADES[3:], strict=False)),
            )
            log_axis(axes, "x", numbers=values(rows, "noise"))

        def trained(axes: Axes, theme: Theme) -> None:
            reached = where(m, quantity="final", part="trained")
            groups, shades = [], {}
            for (norm, noise, clip), group in reached.groupby(["norm", "noise", "clip"], sort=False):
                groups.append((_arm(norm, noise, clip), group["value"].tolist()))
                shades[groups[-1][0]] = colour(str(norm))
            points(axes, groups, theme, colours=shades)

        by_eps, by_noise, scores = where(grown, part="eps"), where(grown, part="noise"), where(m, quantity="final")
        names = (
            "‖∂L/∂h_t‖ at initialization",
            "growth of ‖∂L/∂h_t‖ per constant step back",
            "growth per constant step back, smallest ε",
            "after training on sequences with a constant start",
        )
        drawn = [
            (norms, Panel(names[0], "timestep t", along, "Gradients along time; shaded: constant inputs.")),
            (by_eps, Panel(names[1], "ε", against_eps, "Growth against ε.")),
            (by_noise, Panel(names[2], "standard deviation of h_0", against_noise, "Growth against noise on h_0.")),
            (scores, Panel(names[3], "test score", trained, "Scores of each arm; small dots: seeds.")),
        ]
        return [panel for rows, panel in drawn if len(rows)]


def gradients(network: torch.nn.Module, x: Tensor, h0: Tensor, projection: Tensor) -> Tensor:
    """‖∂L/∂h_t‖, (T,), of L = Σ projection ⊙ h_{T-1}, where x is (T, B, I) and h_0 (1, B, H); c_0 is 0."""
    network.zero_grad()
    with record(network) as recording:
        output, _ = network(x, (h0, torch.zeros_like(h0)))
        (output[-1] * projection).sum().backward()
    return recording.layers["l0"].gradient_norms()["h"]


def _pairs(m: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(m[list(columns)].drop_duplicates().itertuples(index=False, name=None)) if len(m) else []


def _arm(norm: Any, noise: float, clip: float) -> str:
    """A trained arm in words."""
    return f"{norm}{f', noise {noise:g}' if noise else ''}{'' if clip else ', no clipping'}"
