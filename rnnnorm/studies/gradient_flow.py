"""Does the gradient explode between timesteps? ‖∂L/∂h_t‖ against t, at initialization and after training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes

from rnnnorm.probes import growth, record
from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.pixels import pixels
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.tasks.cells import build_recurrent

LINEAR_GAIN = 0.01
ALIVE = -6.0
"""Decades between ‖∂L/∂h_T‖ and ‖∂L/∂h_0‖: below, a gradient counts as vanished."""
NAMES = {"rnn-identity": "linear RNN", "rnn-tanh": "tanh RNN", "lstm": "LSTM"}


def yang(batch_size: float) -> float:
    """√((B-2)/(B-3)), the growth of the gradient norm per normalized linear layer (Yang et al. 2019); infinite at 3."""
    return math.sqrt((batch_size - 2) / (batch_size - 3)) if batch_size > 3 else math.inf


class GradientFlow(Study):
    """Gradient norms along time."""

    name = "gradient-flow"
    question = "Does normalization between timesteps make gradients explode?"
    method = (
        "A network at initialization (orthogonal W_hh, float64) reads T steps of Gaussian input, or none at all from a "
        "Gaussian h_0; the loss is a random projection of the last state. The growth factor is the factor by which "
        "‖∂L/∂h_t‖ changes going one step back in time, from the slope of its logarithm over the middle three fifths "
        "of the steps; above 1 it explodes, below 1 it vanishes. Per layer: the same with ‖∂L/∂h^l‖, going one layer "
        "down a stack of LSTMs. For Yang's factor ε is 1e-12, so that small gains do not meet it; agreement means "
        "within 2 %. Cooijmans' figure is measured on 784 pixels (MNIST where the data are at hand, else "
        "drawn strokes) with one normalization of W_hh h + W_ih x, under two initial W_hh: the identity and an "
        "orthogonal one; a gradient has vanished where it has lost six decades. After training: the task's own loss on "
        "a validation batch, by the best checkpoint in training mode."
    )
    columns: ClassVar[tuple[str, ...]] = ("t",)
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "yang",
            "In the linear regime each batch-normalized step multiplies the squared gradient norm by (B-2)/(B-3).",
            "Yang et al., ICLR 2019, for wide feed-forward networks",
            "√((B-2)/(B-3)): 1.095 at B = 8, 1.017 at B = 32, 1.001 at B = 400",
        ),
        Claim(
            "explodes",
            "Repeated rescaling makes gradients explode between timesteps.",
            "Laurent et al., ICASSP 2016 (conjecture); restated by Cooijmans et al., ICLR 2017",
            "no measurement was published",
        ),
        Claim(
            "vertical",
            "Between layers batch normalization is fine: it makes nothing explode.",
            "Laurent et al., ICASSP 2016; Amodei et al., ICML 2016",
        ),
        Claim(
            "vanishes",
            "A gain of 1 saturates the units and makes gradients vanish; 0.1 keeps them alive.",
            "Cooijmans et al., ICLR 2017, figure 1 (tanh BN-RNN, sequential MNIST)",
            "‖∂L/∂h_0‖ about 1e-3 for gains up to 0.2, 1e-10 at 0.5, 1e-22 at 0.6, underflow at 1",
        ),
    )

    def trials(self) -> list[Trial]:
        """Yang's sweep over batch sizes, gains × cells × input, long sequences, stacks, trained networks."""
        option, seeds = self.settings.option, self.settings.seeds
        T, B = option("steps"), 100
        points: list[tuple[dict[str, Any], str, float]] = []
        for size in option("batch_sizes"):
            for cell, gain in (("rnn-identity", 1.0), ("rnn-tanh", LINEAR_GAIN), ("rnn-tanh", 1.0), ("lstm", 0.1)):
                here = {"part": "batch", "cell": cell, "gain": gain, "batch": size, "input": "no", "steps": 2 * T}
                points.append((here, "bn-timestep", 0.4))
        for cell in ("rnn-tanh", "lstm"):
            for gain in option("gains"):
                for seen in ("no", "yes"):
                    here = {"part": "gain", "cell": cell, "gain": gain, "batch": B, "input": seen, "steps": T}
                    points += [(here, norm, 0.3) for norm in ("bn-timestep", "ln")]
            for norm in self.settings.norms:
                if norm not in ("bn-timestep", "ln"):
                    here = {"part": "norm", "cell": cell, "batch": B, "input": "yes", "steps": T}
                    points.append((here, norm, 0.3))
        for weights in ("identity", "orthogonal"):
            for gain in option("long_gains"):
                points.append(({"part": "pixels", "cell": "rnn-tanh", "gain": gain, "W_hh": weights}, "bn-joint", 2.0))
        for norm in ("none", "bn-vertical", "bn-timestep"):
            here = {"part": "layers", "cell": "lstm", "batch": B, "input": "yes", "steps": T // 4}
            points.append((here, norm, 0.8))
        # Few rows scatter more: what is compared with a formula gets seeds of its own number.
        many = range(max(option("formula_seeds"), len(seeds)))
        linear = [("rnn-identity", 1.0), ("rnn-tanh", LINEAR_GAIN)]
        made = [
            Trial(here, norm, seed, weight=weight)
            for here, norm, weight in points
            for seed in (many if here["part"] == "batch" and (here["cell"], here["gain"]) in linear else seeds)
        ]
        made += [
            Trial({"part": "trained"}, norm, seed, self.settings.config, weight=3.0)
            for norm in option("trained_norms")
            for seed in seeds
        ]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`growth` per step, `layer_growth`, `decades` lost, and ‖∂L/∂h_t‖ as `gradient_norm` with `t`, from 0."""
        if trained is not None:
            yield from self._after_training(trained)
            return
        c = trial.conditions
        layers = int(self.settings.option("layers")) if c["part"] == "layers" else 1
        norms = self._at_start(trial, layers)
        top = norms[f"l{layers - 1}"]
        T = len(top)
        yield {"quantity": "growth", "value": growth(top, T // 5, 4 * T // 5)}
        if layers > 1:
            by_layer = torch.stack([norms[f"l{k}"].square().sum().sqrt() for k in range(layers)])
            yield {"quantity": "layer_growth", "value": growth(by_layer, 0, layers)}
        if c["part"] == "pixels":
            yield {"quantity": "decades", "value": float(torch.log10(top[0].clamp(min=1e-300) / top[-1]))}
            for t in sorted({*range(0, T, 16), T - 1}):
                yield {"quantity": "gradient_norm", "t": t, "value": float(top[t])}

    def _at_start(self, trial: Trial, layers: int) -> dict[str, torch.Tensor]:
        """‖∂L/∂h_t‖ of each layer of a new network."""
        c, H, B = trial.conditions, int(self.settings.option("hidden_size")), int(trial.conditions.get("batch", 100))
        torch.manual_seed(trial.seed)
        if c["part"] == "pixels":
            x = pixels(B, trial.seed, self.settings.data_dir)
        else:
            x = torch.randn(int(c["steps"]), B, H if layers > 1 else 1, dtype=torch.float64)
        norm = f"{trial.norm}:gain={c['gain']:g}" if "gain" in c else trial.norm
        norm += ":eps=1e-12" if c["part"] == "batch" else ""
        size = x.shape[2]
        network = build_recurrent(str(c["cell"]), None, size, H, layers, norm=norm, max_steps=len(x), init="orthogonal")
        if c.get("W_hh") == "identity":
            network.assign("weight_hh_l0", torch.eye(H))
        network = network.double().train()
        # Rows that all agree (h_0 = 0 before a black border) are the question of another study.
        h0 = (0.1 if c["part"] == "pixels" else 1.0) * torch.randn(layers, B, H, dtype=torch.float64)
        state: Any = (h0, torch.randn_like(h0)) if c["cell"] == "lstm" else h0
        projection = torch.randn(B, H, dtype=torch.float64)
        with record(network) as recording:
            output, _ = network(torch.zeros_like(x) if c.get("input") == "no" else x, state)
            (output[-1] * projection).sum().backward()
        return {name: layer.gradient_norms()["h"] for name, layer in recording.layers.items()}

    def _after_training(self, trained: Trained) -> Iterable[Row]:
        yield from trained.rows()
        if trained.diverged:
            return
        model = trained.model().train()
        batch = next(iter(trained.data().val_dataloader()))
        with record(model) as recording:
            logits, _ = model(batch.input)
            model.losses(logits, batch.target).mean().backward()  # type: ignore[no-untyped-call]
        for layer in list(recording.layers.values())[-1:]:
            norms = layer.gradient_norms()["h"]
            T = len(norms)
            yield {"quantity": "growth", "value": growth(norms, T // 5, 4 * T // 5)}
            for t, value in enumerate(norms.tolist()):
                yield {"quantity": "gradient_norm", "t": t, "value": value}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Deviation from Yang's factor; growth factors above or below 1."""
        grown = where(m, quantity="growth")
        batch = where(grown, part="batch")
        yang_cases = [
            Case(
                f"{NAMES[cell]}, gain {gain:g}, B = {size:g}",
                estimate(abs(value / yang(size) - 1) for value in per_seed(batch, cell=cell, gain=gain, batch=size)),
                0.02,
                below=True,
            )
            for cell, gain in (("rnn-identity", 1.0), ("rnn-tanh", LINEAR_GAIN))
            for size in values(batch, "batch")
            if size >= 8
        ]
        by_gain = where(grown, part="gain", norm="bn-timestep")
        places = [(cell, seen) for cell in ("rnn-tanh", "lstm") for seen in ("no", "yes")]
        gains = values(by_gain, "gain")
        explosion = [
            Case(
                f"{NAMES[cell]} {'with' if seen == 'yes' else 'without'} input, gain {gain:g}",
                estimate(per_seed(by_gain, cell=cell, input=seen, gain=gain)),
                1.0,
            )
            for cell, seen in places
            for gain in ([1.0, 0.1] if {0.1, 1.0} <= set(gains) else gains)
        ]
        layers = where(m, part="layers", norm="bn-vertical")
        vertical = [
            Case(f"growth per {what}, 8 layers of LSTM", estimate(per_seed(layers, quantity=q)), 1.05, below=True)
            for q, what in (("layer_growth", "layer"), ("growth", "timestep"))
        ]
        lost = where(m, part="pixels", quantity="decades")
        fading = [
            Case(
                f"gain {gain:g}, {weights} W_hh",
                estimate(per_seed(lost, gain=gain, W_hh=weights)),
                ALIVE,
                below=gain == 1.0,
            )
            for gain in (1.0, 0.1)
            for weights in ("identity", "orthogonal")
        ]
        found = [
            ("yang", "relative deviation from √((B-2)/(B-3))", yang_cases),
            ("explodes", "factor per step back", explosion),
            ("vertical", "factor", vertical),
            ("vanishes", "decades from t = T to t = 0", fading),
        ]
        return [judge(self.claim(key), unit, cases) for key, unit, cases in found if cases]

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Cooijmans' figure, Yang's factor, gain against growth, growth after training."""
        grown = where(m, quantity="growth")

        def long(axes: Axes, theme: Theme) -> None:
            rows = where(m, part="pixels", quantity="gradient_norm").copy()
            rows["norm"] = [f"gain {g:g}, {w}" for g, w in zip(rows["gain"], rows["W_hh"], strict=True)]
            shades = _shades(where(rows, W_hh="identity")["norm"].unique())
            shades |= _shades(where(rows, W_hh="orthogonal")["norm"].unique())
            styles = {n: "-" if n.endswith("identity") else ":" for n in rows["norm"].unique()}
            floor = 1e-60
            lines(axes, rows[rows["value"] > floor], "t", colours=shades, styles=styles, marker=None, band=False)
            axes.set_ylim(bottom=floor)
            log_axis(axes)

        def batch(axes: Axes, theme: Theme) -> None:
            rows = where(grown, part="batch", input="no").copy()
            rows["norm"] = [f"{NAMES[c]}, gain {g:g}" for c, g in zip(rows["cell"], rows["gain"], strict=True)]
            shades = dict(zip(rows["norm"].unique(), ("#2d6779", "#4e6dea", "#a8453f", "#d77810"), strict=False))
            lines(axes, rows, "batch", colours=shades)
            sizes = sorted({size for size in rows["batch"] if size > 3})
            axes.plot(sizes, [yang(s) for s in sizes], "--", color=theme.muted, label="√((B-2)/(B-3)), Yang et al.")
            axes.set_ylim(0.9, 1.6)
            log_axis(axes, "x", base=2, numbers=[3, 8, 32, 128, 400])

        def gain(axes: Axes, theme: Theme) -> None:
            rows = where(grown, part="gain", norm="bn-timestep").copy()
            rows["norm"] = [
                f"{NAMES[c]}, {'with' if i == 'yes' else 'no'} input"
                for c, i in zip(rows["cell"], rows["input"], strict=True)
            ]
            shades = dict(zip(rows["norm"].unique(), ("#4e6dea", "#2d6779", "#d77810", "#a8453f"), strict=False))
            rule(axes, theme, y=1.0, text="neither grows nor fades")
            lines(axes, rows, "gain", colours=shades)
            log_axis(axes, "x", numbers=[0.01, 0.1, 0.3, 1.0])

        def after(axes: Axes, theme: Theme) -> None:
            rows = where(m, part="trained", quantity="gradient_norm")
            lines(axes, rows[rows["value"] > 0], "t", marker=None)
            log_axis(axes)

        return [
            Panel(
                "‖∂L/∂h_t‖ at initialization",
                "timestep t (pixel)",
                long,
                "Cooijmans' figure: solid with identity W_hh, dotted with orthogonal W_hh.",
            ),
            Panel("growth of ‖∂L/∂h_t‖ per step back", "batch size B", batch, "Growth against batch size, no input."),
            Panel("growth of ‖∂L/∂h_t‖ per step back", "gain", gain, "Growth against the gain, B = 100."),
            Panel("‖∂L/∂h_t‖ after training", "timestep t", after, "The gradient of the task's loss along time."),
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """How W_hh turns Cooijmans' figure around, and what is left after training."""
        said = []
        pixels_lost = where(m, part="pixels", quantity="decades", gain=1.0)
        for weights in values(pixels_lost, "W_hh"):
            lost = float(where(pixels_lost, W_hh=weights)["value"].mean())
            word = "vanishes" if lost < ALIVE else "explodes" if lost > -ALIVE else "survives"
            said.append(
                f"With a gain of 1 and {weights} W_hh the gradient {word} over 784 pixels: "
                f"{abs(lost):.0f} decades {'down' if lost < 0 else 'up'}."
            )
        after = where(m, part="trained", quantity="growth").groupby("norm")["value"].mean()
        if len(after) > 1:
            said.append(
                "After training the growth factors are "
                + ", ".join(f"{value:.3f} ({norm})" for norm, value in after.sort_values().items())
                + "."
            )
        return said


def _shades(names: Iterable[str]) -> dict[str, str]:
    """From dark to bright, in order."""
    import matplotlib

    names = list(names)
    table = matplotlib.colormaps["viridis"]
    return {n: matplotlib.colors.to_hex(table(0.05 + 0.8 * k / max(len(names) - 1, 1))) for k, n in enumerate(names)}
