"""Per-step or shared statistics: a contradiction between two papers, state by state and with and without cell norm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from itertools import islice

import pandas as pd

from rnnnorm.studies.data.plain_training import curve, final, fit
from rnnnorm.studies.data.real import stream
from rnnnorm.studies.data.varied_norms import variations, varied
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Points, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import paired
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.modes import mode_style
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import beginning, first, within
from rnnnorm.studies.measures.carried_losses import STATES, advice, losses_by_state
from rnnnorm.studies.measures.step_distances import SETTLED, distance_rows, settled

MODES, TRANSIENT = ("population", "running"), 15  # steps
NEEDED = 0.01  # nats per step: a little more than the 0.01 bits to which the papers agree or differ
of_batch, recurrent = beginning("bn-"), beginning(but=("input",))  # places whose statistics depend on the state
PLACE = "{state} state, {cell}, gain {gain}"

per_step = partial(Contrast, unit="nats per step", by=("data", "state", "gain", "cell"), needed=NEEDED)
sharing = partial(per_step, "extra", norms="bn-shared", by=("mode", "data", "state", "gain", "cell"),
                  only={"mode": MODES}, label=PLACE + ", {mode} statistics{data}")  # fmt: skip
along = partial(Lines, axis="timestep t", x="t", marker=None, rule=0.0)


class StepStatistics(Study):
    """Reset or carried state × cell norm × gain × shared or per-step statistics × evaluation."""

    name = "step-statistics"
    tuned_by, own_loop = ("data", "state", "cell", "gain"), True
    question = "Must batch normalization keep statistics of each timestep by itself?"
    method = (
        "The same network, text and segments under one running mean and variance per step, per block of steps, or for "
        "all steps. All normalize training batches by the moments of each step: they are the same function in "
        "training and differ in evaluation only. The state is carried from segment to segment or reset to zero, in "
        "training and (separately) in evaluation; the cell is normalized or not. Effect: mean loss per step under "
        "shared statistics minus that under per-step ones, paired by seed, at the last weights; the smallest effect "
        f"of interest is {NEEDED:g} nats. Population statistics are exact moments over training segments; running "
        "ones are moving averages with weight 0.1 per update, and where steps share them every step is an update. The "
        "first segment of a stream is not counted. Transient: the 2-Wasserstein distance between the Gaussians of a "
        "step and of all steps pooled, in pooled standard deviations, root mean square over units; it has settled "
        f"once it stays within {SETTLED:g} of its median over the second half."
    )
    columns = ("mode", "read", "place", "t")
    claims = (
        Claim("separate",
              "Each timestep has its own distribution: averaging statistics over time severely degrades performance.",
              "Cooijmans et al., ICLR 2017, section 3 (state reset in each segment, cell normalized)",
              "no number was published", contrast=sharing(scope=within(state="reset", cell="yes"))),
        Claim("equal", "Sharing statistics over all timesteps is as good as keeping them per step.",
              "Hou et al., NeurIPS 2019 (state carried on, cell not normalized)",
              "bits per character, shared and separate alike: War and Peace 1.72, Penn Treebank 1.45, text8 1.46",
              contrast=sharing(by=("cell", "mode", "data", "state", "gain"), below=True,
                               scope=within(cell="no"),
                               only={"cell": ("no", "yes"), "mode": MODES, "state": "carried"})),
        Claim("transient",
              f"From a fixed initial state the statistics pass through a transient and settle within {TRANSIENT} "
              "steps.", "Cooijmans et al., ICLR 2017, figure of population statistics (Penn Treebank, cell normalized)",
              "about 5 to 15 steps; the variance of W_hh h at t = 0 is exactly 0",
              contrast=Contrast("settled", "steps", "bn-timestep", by=("data", "state", "gain", "cell", "place"),
                                only={"state": "reset", "place": recurrent}, needed=TRANSIENT, below=True,
                                scope=within(cell="yes"),
                                label="{place}, " + PLACE + "{data}")),
        Claim("trap",
              "Where statistics come from reset states and the state is then carried on, per-step statistics are "
              "worse than shared ones: the first steps have never seen a state.",
              "Ba et al., 2016, for online use; follows from Var(W_hh h_0) = 0, Cooijmans et al., ICLR 2017",
              contrast=per_step("trap", norms="bn-timestep",
                                label="trained with " + PLACE + "{data}, evaluated with carried state")),
    )  # fmt: skip
    words = Words(cell={"yes": "cell norm", "no": "no cell norm"},
                  place={"input": "W_ih x", "hidden": "W_hh h", "cell": "c"},
                  data=lambda data: ", Tiny Shakespeare" if data == "shakespeare" else "")  # fmt: skip
    plots = (
        along("distance", "distance of a step's statistics from the pooled ones, in σ",
              about="With a reset state statistics pass through a transient, with a carried one there is none.",
              only={"data": first, "norm": "bn-timestep", "cell": "yes", "gain": first, "place": recurrent},
              line="{place}, {state}", styles=lambda line: "--" if line.startswith("c,") else "-",
              colours=dict(zip(("W_hh h, reset", "c, reset", "W_hh h, carried", "c, carried"), OTHERS, strict=False))),
        along("extra_at", "extra loss of shared statistics, nats",
              about="Loss under shared minus loss under per-step statistics along the segment; cell normalized.",
              only={"data": first, "norm": "bn-shared", "cell": "yes"}, band=False, line="{state}, {mode} statistics",
              styles=mode_style, colours=OTHERS),
        Points("loss", "loss, nats; trained on reset, evaluated on carried states", "nats per step",
               "Per-step statistics of reset states where the state is carried on.", series="{cell}, gain {gain}",
               only={"data": first, "mode": "population", "state": "reset", "read": "carried", "norm": of_batch},
               colours=OTHERS),
        Points("extra", "extra loss of shared population statistics, nats", "nats per step",
               "Loss under shared minus loss under per-step statistics, by condition.",
               only={"norm": "bn-shared", "mode": "population"}, line="{state} state, {cell}",
               series="gain {gain}{data}", colours=OTHERS, at=0.0),
    )  # fmt: skip
    best = Best("as_trained", "loss in nats, population statistics", "`{norm}` with {cell}, gain {gain}",
                "with {state} state{data}", {"mode": "population"})  # fmt: skip
    sentences = (
        Sentence("State {state}, {mode} statistics: sharing costs {first} to {last} nats per step over {count} "
                 "conditions.", by=("state", "mode"), only={"norm": "bn-shared", "mode": MODES}, items="{extra:+.3f}",
                 over=("data", "gain", "cell"), rising=True),
        Sentence("With reset state and population statistics it costs, on average: {items}.",
                 only={"norm": "bn-shared", "state": "reset", "mode": "population"},
                 items="{extra:+.3f} nats with {cell}", over=("cell",), least=2),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """State × cell norm × gain × norm, on the generated stream (or the user's), then on Tiny Shakespeare."""
        made, option = list[Trial](), self.settings.option
        for source in self.sources("running-order", {"shakespeare": {}}):
            gains, norms, seeds, weight = option("gains"), self.settings.norms, self.settings.seeds, 2.0
            if source.real:
                gains, seeds, weight = gains[:1], seeds[: option("shakespeare")["seeds"]], 4.0
                norms = tuple(norm for norm in norms if norm in ("bn-timestep", "bn-shared"))
            for norm in norms:
                axes = {"data": source.name, "state": STATES, **variations(norm, gains)}
                made += self.grid(axes, [norm], None, weight, seeds)
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`loss` by `mode` and `read` (the state in evaluation), `loss_at` and `distance` by `t`, `train_loss`."""
        config, max_steps = stream(self.settings, str(trial.conditions["data"]), trial.seed, self.name)
        state, norm = str(trial.conditions["state"]), varied(trial.norm, trial.conditions)
        config = self.rated(config, trial)
        task, data, losses = fit(config, norm, trial.seed, carry=state == "carried", max_steps=max_steps)
        yield {"quantity": "diverged", "value": float(not math.isfinite(losses[-1]))}
        yield {"quantity": "train_loss", "value": final(losses)}
        yield from curve(losses)
        if not math.isfinite(losses[-1]):
            yield from ({"quantity": "loss", "mode": m, "read": r, "value": math.inf} for m in MODES for r in STATES)
            return
        batches = islice(data.train_dataloader(), self.settings.option("recalibration"))
        yield from losses_by_state(task, data, batches, state)
        yield from distance_rows(task)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Loss `as_trained` and its `extra`, and `trap`, that on carried states, against another norm; `settled`."""
        loss = where(m, quantity="loss")
        yield m
        as_trained = loss[loss["read"] == loss["state"]]
        yield as_trained.assign(quantity="as_trained")
        yield paired(as_trained, "loss", "bn-timestep", "extra")
        yield paired(where(m, quantity="loss_at", mode=MODES), "loss_at", "bn-timestep", "extra_at")
        yield paired(where(loss, mode="population", state="reset", read="carried"), "loss", "bn-shared", "trap")
        yield settled(m)

    def findings(self, m: pd.DataFrame) -> list[str]:
        """How much sharing costs, on what that depends, and what to do."""
        return [*super().findings(m), *advice({v.claim.key: v.cases for v in self.verdicts(m)}, NEEDED)]
