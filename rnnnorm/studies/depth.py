"""What makes deep residual stacks trainable: batch normalization, or only that it makes the branches small?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice, product
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.plain_training import build_data, build_task, final, train
from rnnnorm.studies.data.residual_stacks import METHODS, arguments, build_stack, moments
from rnnnorm.studies.data.surgery import blank_loss, start_from_data
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, linear_axis, lines, log_axis, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.depth_tables import (
    CELLS,
    FADED,
    NAMES,
    NATS,
    OPTIMIZERS,
    PAINT,
    SLACK,
    STYLES,
    arms,
    by_seed,
    chance,
    labelled,
    last_share,
    layers,
    occurring,
    per_block,
    power,
    trainable,
    tuned,
)


class Depth(Study):
    """Residual stacks, at initialization and trained."""

    name = "depth"
    question = "What makes deep residual stacks of recurrent layers trainable, normalization or small branches?"
    method = (
        "Each block adds to its input what a recurrent layer makes of it. At initialization a stack of 64 blocks "
        "reads Gaussian rows; ReLU layers (He-initialized W_ih) read one step, which makes them the fully connected "
        "layers of the theory. Measured are E[h²] after each block, which is the variance where weights are drawn "
        "with mean zero (geometric mean over draws), and the share of E[h²] that the block's branch has. A recurrent "
        "layer ends in its nonlinearity, the branches of the theory in a linear map with mean zero. Growth is linear "
        "if E[h²] doubles with the depth, 2^p with p within 0.1 of 1, and exponential from a factor of 1.5 per block. "
        "Then stacks of growing "
        "depth are trained for the same number of steps, without clipping, by SGD with momentum 0.9 (as De & Smith) "
        "and by Adam, each at the best of its learning rates by the mean training loss at the end (last tenth of the "
        "steps). That loss is what counts, since the question is what can be trained; a run that diverges, or ends "
        "above the loss of logits of 0, counts with the latter. Batch normalization stands behind each layer but the "
        "last, on the branch or on the sum. Differences count from 0.05 nats, at the two greatest depths. A depth is "
        "called trainable up to 0.1 nats above a skip without norm at the smallest depth."
    )
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "linear",
            "With batch normalization on the residual branch the variance of h grows linearly with depth.",
            "De & Smith, NeurIPS 2020",
            "variance l + 1 after block l",
        ),
        Claim(
            "exponential",
            "Without normalization the variance doubles with each residual block.",
            "De & Smith, NeurIPS 2020",
            "variance 2^l after block l, of which the branch has one half",
        ),
        Claim(
            "identity",
            "Batch normalization biases deep blocks to the identity: branch l has 1/l of the variance, not half.",
            "De & Smith, NeurIPS 2020",
            "branches scaled down by a factor of order √depth",
        ),
        Claim(
            "bn-deep",
            "Batch normalization on the branch makes depths trainable that are not with a skip alone.",
            "De & Smith, NeurIPS 2020",
            "1000 layers and more with batch normalization",
        ),
        Claim(
            "skipinit",
            "A learned scalar on each branch that starts at α = 0 or 1/√d replaces batch normalization at any depth.",
            "De & Smith, NeurIPS 2020 (SkipInit)",
            "1000 layers without batch normalization",
        ),
        Claim(
            "alpha-one",
            "A learned scalar that starts at α = 1 does not: small branches are what matters.",
            "De & Smith, NeurIPS 2020",
        ),
        Claim(
            "fixup",
            "Small initial weights on the branches (Fixup) replace batch normalization at any depth.",
            "Zhang et al., ICLR 2019",
            "10,000 layers without normalization",
        ),
    )

    def trials(self) -> list[Trial]:
        """Growth at initialization, then training: cells × depths × methods, and a skip with each norm inside."""
        s = self.settings
        inside = [("plain", norm) for norm in dict.fromkeys(["none", *s.norms])]
        grid = inside + [(method, "none") for method in METHODS if method != "plain"]
        made = [
            Trial({"part": "start", "cell": cell, "method": method}, norm, seed, weight=1.0)
            for cell in s.option("start_cells")
            for method, norm in grid
            for seed in s.seeds
        ]
        made += [
            Trial(
                {"part": "trained", "cell": cell, "optimizer": optimizer, "depth": depth, "method": method},
                norm,
                seed,
                weight=0.1 * depth * len(rates),
            )
            for cell in s.option("cells")
            for optimizer, rates in s.option("learning_rates").items()
            for depth in s.option("depths")
            for method, norm in grid
            for seed in s.seeds
        ]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`square` and `share` by `block`; or losses and `diverged` by `learning_rate`."""
        c = trial.conditions
        if c["part"] == "start":
            yield from self._start(str(c["cell"]), str(c["method"]), trial.norm, trial.seed)
        else:
            yield from self._train(trial)

    def _start(self, cell: str, method: str, norm: str, seed: int) -> Iterable[Row]:
        s = self.settings
        steps, size = 1 if cell == "rnn-relu" else s.option("steps"), s.option("start_size")
        # One more than counts: nothing stands behind the last layer, so that its block has no normalizer between.
        depth, sizes = s.option("start_depth"), torch.full((steps,), s.option("start_batch"))
        torch.manual_seed(seed)
        found = torch.empty(s.option("start_draws"), depth, 2, dtype=torch.float64)
        for draw in found:
            rows = torch.randn(steps * s.option("start_batch"), size, dtype=torch.float64)
            network = build_stack(cell, method, norm, size, depth + 1, steps)
            draw.copy_(torch.tensor(list(islice(moments(network, rows, sizes), depth)), dtype=torch.float64))
        squares, shares = found[..., 0].log().mean(0).exp().tolist(), found[..., 1].mean(0).tolist()
        for block, (square, share) in enumerate(zip(squares, shares, strict=True), start=1):
            yield {"quantity": "square", "block": block, "value": square}
            if method not in ("no-skip", "bn-sum"):  # there the difference to the input is not the branch
                yield {"quantity": "share", "block": block, "value": share}

    def _train(self, trial: Trial) -> Iterable[Row]:
        config, c = self.settings.config, trial.conditions
        given = config.get("model", {}).get("init_args", {})
        made = arguments(str(c["method"]), trial.norm)
        keys = {
            **given,
            "cell": c["cell"],
            "num_layers": c["depth"],
            "optimizer": c["optimizer"],
            "momentum": 0.9 if c["optimizer"] == "sgd" else 0.0,
            "cell_options": {**(given.get("cell_options") or {}), **made},
        }
        for rate in self.settings.option("learning_rates")[c["optimizer"]]:
            data = build_data(config, trial.seed)
            model = {**config.get("model", {}), "init_args": {**keys, "learning_rate": rate}}
            task = build_task({"model": model}, data, made["norm"], trial.seed)
            trainer = config.get("trainer", {})
            epochs, clip = trainer.get("max_epochs", 1), trainer.get("gradient_clip_val")
            batch = next(iter(data.train_dataloader()))
            start_from_data(task, batch)
            blank = blank_loss(task, batch)
            losses = train(task, data, epochs, clip, max_steps=self.settings.option("max_steps"))
            here = {"learning_rate": float(rate)}
            yield {**here, "quantity": "loss", "value": min(final(losses), blank)}
            yield {**here, "quantity": "first_loss", "value": losses[0]}
            yield {**here, "quantity": "blank_loss", "value": blank}
            yield {**here, "quantity": "diverged", "value": float(not math.isfinite(losses[-1]))}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Growth and shares at the start; differences of training losses at the greatest depths."""
        found: dict[str, list[Case]] = {claim.key: [] for claim in self.claims}
        start = where(m, part="start", norm="none")
        for cell in occurring(start, CELLS):
            name, here = CELLS.get(cell, cell), where(start, cell=cell)
            bn, plain = (where(here, method=method) for method in ("bn-branch", "plain"))
            off = [abs(power(seed) - 1) for seed in by_seed(bn)]
            found["linear"].append(Case(name, estimate(off), 0.1, below=True))
            found["exponential"].append(Case(name, estimate([per_block(seed) for seed in by_seed(plain)]), 1.5))
            for label, rows in (("with BN", bn), ("without", plain)):
                late = last_share(rows)
                least = {"needed": 0.05, "below": True} if label == "with BN" else {"needed": 0.25}
                found["identity"].append(Case(f"{label}, {name}", estimate(late), **least))  # type: ignore[arg-type]
        trained = tuned(where(m, part="trained"))
        for cell in occurring(trained, CELLS):
            here = where(trained, cell=cell)
            for optimizer, depth in product(values(here, "optimizer")[::-1], values(here, "depth")[-2:][::-1]):
                here = where(trained, cell=cell, optimizer=optimizer, depth=depth, norm="none", quantity="loss")
                place = f"{CELLS.get(cell, cell)}, {OPTIMIZERS.get(optimizer, optimizer)}, {depth:.0f} layers"
                plain, bn, zero = (per_seed(here, method=x) for x in ("plain", "bn-branch", "skipinit-0"))
                found["bn-deep"].append(Case(place, estimate(difference(plain, bn)), NATS))
                for method in ("skipinit-0", "skipinit-depth"):
                    worse = difference(per_seed(here, method=method), bn)
                    found["skipinit"].append(Case(f"{NAMES[method]}, {place}", estimate(worse), NATS, below=True))
                worse = difference(per_seed(here, method="skipinit-1"), zero)
                found["alpha-one"].append(Case(place, estimate(worse), NATS))
                worse = difference(per_seed(here, method="fixup"), bn)
                found["fixup"].append(Case(place, estimate(worse), NATS, below=True))
        units = {
            "linear": "|p - 1|, where E[h²] ∝ depth^p",
            "exponential": "factor per block",
            "identity": "share of the last branch in E[h²]",
            "bn-deep": "training loss with a skip alone minus BN's, nats",
            "alpha-one": "training loss minus that of α = 0, nats",
        }
        return [
            judge(self.claim(key), units.get(key, "training loss minus BN's, nats"), cases)
            for key, cases in found.items()
            if any(case.effect.n for case in cases)
        ]

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """E[h²] against depth where the theory holds and where it is used; training loss against depth."""
        start, trained = where(m, part="start"), where(tuned(where(m, part="trained")), quantity="loss")

        def growth(cell: str) -> Any:
            def draw(axes: Axes, theme: Theme) -> None:
                rows = labelled(where(start, cell=cell, norm="none", quantity="square"))
                lines(axes, rows[rows["value"] > FADED], "block", "line", colours=PAINT, styles=STYLES, marker=None)
                if cell == "rnn-relu" and len(rows):
                    last = int(rows["block"].max())
                    axes.plot([*range(1, last + 1)], [2.0**k for k in range(1, last + 1)], ":", color=theme.muted)
                    axes.annotate("2^l, De & Smith", (last * 0.62, 2.0 ** (last * 0.45)), color=theme.muted, ha="left")
                log_axis(axes)
                linear_axis(axes, "x", integer=True)

            return draw

        def loss(cell: str, optimizer: str) -> Any:
            def draw(axes: Axes, theme: Theme) -> None:
                rows = labelled(where(trained, cell=cell, optimizer=optimizer, norm="none"))
                rule(axes, theme, y=chance(m), text="nothing learned")
                lines(axes, rows, "depth", "line", colours=PAINT, styles=STYLES, band=False)
                log_axis(axes, "x", base=2, numbers=values(rows, "depth"))
                linear_axis(axes)

            return draw

        shown = [cell for cell in ("rnn-relu", "lstm") if cell in occurring(start, CELLS)]
        first = {cell: (cell, optimizer, name) for cell, optimizer, name in arms(trained)[::-1]}
        return [
            *(
                Panel(f"E[h²] at initialization, {layers(cell)}", "block", growth(cell), "Growth with depth.")
                for cell in shown
            ),
            *(
                Panel(f"training loss (nats), {name}", "layers", loss(cell, optimizer), "What is trainable.")
                for cell, optimizer, name in [*first.values()][::-1]
            ),
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """How fast E[h²] grows, and how deep each method can be trained."""
        said = []
        start, trained = where(m, part="start", norm="none"), where(tuned(where(m, part="trained")), quantity="loss")
        last = max(values(start, "block"), default=0)
        for cell in occurring(start, CELLS):
            ends = {
                method: where(start, cell=cell, method=method, quantity="square", block=last)["value"]
                for method in ("plain", "bn-branch")
            }
            if all(len(end) for end in ends.values()):
                a, b = (float(end.median()) for end in ends.values())
                said.append(
                    f"{layers(cell)}: after {last:.0f} blocks E[h²] is {a:.3g} with a skip alone "
                    f"and {b:.3g} with batch normalization on the branch."
                )
        for cell, optimizer, name in arms(trained):
            here = trainable(where(trained, cell=cell, optimizer=optimizer))
            if here:
                parts = "; ".join(f"{label} {depth}" for label, depth in here.items())
                said.append(
                    f"Deepest trainable {name} (to within {SLACK} nats of a skip at the smallest depth) "
                    f"among the depths {', '.join(f'{d:.0f}' for d in values(trained, 'depth'))}: {parts}."
                )
        broken = where(m, part="trained", quantity="diverged", value=1.0)
        if len(broken):
            counts = labelled(broken)["line"].value_counts()
            said.append("Diverged: " + ", ".join(f"{label} ({count})" for label, count in counts.items()) + ".")
        return said
