"""Per-step or shared statistics: a contradiction between two papers, state by state and with and without cell norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

import pandas as pd

from rnnnorm.data.module import SequenceDataModule
from rnnnorm.norms import has_batch_statistics, recalibrate, statistics
from rnnnorm.norms.places import Norm
from rnnnorm.norms.presets import parse_norm
from rnnnorm.studies.data.plain_training import build_data, build_task, carrying, curve, losses_by_step, train
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import Panel
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.step_contrasts import MODES, PLACES, extra, settled, trap, words
from rnnnorm.studies.measures.step_distances import SETTLED, distances
from rnnnorm.studies.measures.step_panels import panels
from rnnnorm.tasks import SequenceTask

STATES = ("reset", "carried")
NEEDED = 0.01  # nats per step: a little more than the 0.01 bits to which the papers agree or differ
TRANSIENT = 15  # steps


class StepStatistics(Study):
    """Reset or carried state × cell norm × gain × shared or per-step statistics × evaluation."""

    name = "step-statistics"
    question = "Must batch normalization keep statistics of each timestep by itself?"
    method = (
        "The same network, text and segments under one running mean and variance per step, per block of steps, or for "
        "all steps. All normalize training batches by the moments of each step: they are the same function in training "
        "and differ in evaluation only. The state is carried from segment to segment or reset to zero, in training and "
        "(separately) in evaluation; the cell is normalized or not. Effect: mean loss per step under shared statistics "
        "minus that under per-step ones, paired by seed, at the last weights; the smallest effect of interest is "
        f"{NEEDED:g} nats. Population statistics are exact moments over training segments; running ones are moving "
        "averages with weight 0.1 per update, and where steps share them every step is an update. The first segment of "
        "a stream is not counted. Transient: the 2-Wasserstein distance between the Gaussians of a step and of all "
        "steps pooled, in pooled standard deviations, root mean square over units; it has settled once it stays within "
        f"{SETTLED:g} of its median over the second half."
    )
    columns: ClassVar[tuple[str, ...]] = ("mode", "read", "place", "t")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "separate",
            "Each timestep has its own distribution: averaging statistics over time severely degrades performance.",
            "Cooijmans et al., ICLR 2017, section 3 (state reset in each segment, cell normalized)",
            "no number was published",
        ),
        Claim(
            "equal",
            "Sharing statistics over all timesteps is as good as keeping them per step.",
            "Hou et al., NeurIPS 2019 (state carried on, cell not normalized)",
            "bits per character, shared and separate alike: War and Peace 1.72, Penn Treebank 1.45, text8 1.46",
        ),
        Claim(
            "transient",
            f"From a fixed initial state the statistics pass through a transient and settle within {TRANSIENT} steps.",
            "Cooijmans et al., ICLR 2017, figure of population statistics (Penn Treebank)",
            "about 5 to 15 steps; the variance of W_hh h at t = 0 is exactly 0",
        ),
        Claim(
            "trap",
            "Where statistics come from reset states and the state is then carried on, per-step statistics are worse "
            "than shared ones: the first steps have never seen a state.",
            "Ba et al., 2016, for online use; follows from Var(W_hh h_0) = 0, Cooijmans et al., ICLR 2017",
        ),
    )

    def trials(self) -> list[Trial]:
        """State × cell norm × gain × norm, on the generated stream (or the user's), then on Tiny Shakespeare."""
        sources = ["own" if self.settings.own else "running-order"]
        if self.settings.data_dir is not None and not self.settings.own:
            sources.append("shakespeare")
        made = []
        for source in sources:
            gains, norms, seeds = self.settings.option("gains"), self.settings.norms, self.settings.seeds
            if source == "shakespeare":
                gains, seeds = gains[:1], seeds[: self.settings.option("shakespeare")["seeds"]]
                norms = tuple(norm for norm in norms if norm in ("bn-timestep", "bn-shared"))
            for state in STATES:
                for norm in norms:
                    for place in _changes(norm, gains):
                        here = {"data": source, "state": state, **place}
                        weight = 4.0 if source == "shakespeare" else 2.0
                        made += [Trial(here, norm, seed, weight=weight) for seed in seeds]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`loss` by `mode` and `read` (the state in evaluation), `loss_at` and `distance` by `t`, `train_loss`."""
        config, max_steps = self._config(str(trial.conditions["data"]), trial.seed)
        data = build_data(config, trial.seed)
        if trial.conditions["data"] == "own" and not any(b.continues for b in islice(data.train_dataloader(), 2)):
            raise ValueError(
                f"study {self.name!r} needs a stream whose batches continue each other, such as "
                f"rnnnorm.data.LanguageModel with mode=stream, got {type(data).__name__}"
            )
        carry = trial.conditions["state"] == "carried"
        task = build_task(config, data, _norm(trial), trial.seed)
        epochs, clip = config["trainer"]["max_epochs"], config["trainer"].get("gradient_clip_val")
        losses = train(task, data, epochs, clip, carry=carry, max_steps=max_steps)
        diverged = not math.isfinite(losses[-1])
        last = losses[-max(len(losses) // 10, 1) :]
        yield {"quantity": "diverged", "value": float(diverged)}
        yield {"quantity": "train_loss", "value": sum(last) / len(last)}
        yield from curve(losses)
        if diverged:
            yield from ({"quantity": "loss", "mode": m, "read": r, "value": math.inf} for m in MODES for r in STATES)
            return
        if has_batch_statistics(task):
            batches = carrying(islice(data.train_dataloader(), self.settings.option("recalibration")), carry)
            recalibrate(task, batches, forward=task.encode, rows=None)
        yield from _losses(task, data, str(trial.conditions["state"]))
        for place, along in distances(task).items():
            for t, value in enumerate(along):
                yield {"quantity": "distance", "place": place, "t": t, "value": value}

    def _config(self, source: str, seed: int) -> tuple[dict[str, Any], int | None]:
        if source == "own":
            return self.settings.configured(), None
        if source == "running-order":
            return self.settings.configured(data={"seed": seed}), None
        small = dict(self.settings.option("shakespeare"))
        where_ = {"data_dir": self.settings.data_dir, "dataset": "tinyshakespeare", "mode": "stream"}
        sizes = {key: small[key] for key in ("bptt", "batch_size")}
        data = {"class_path": "rnnnorm.data.LanguageModel", "init_args": {**where_, **sizes}}
        model = {key: small[key] for key in ("hidden_size", "learning_rate")}
        return self.settings.configured(data=data, model=model, trainer={"max_epochs": small["epochs"]}), small["steps"]

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Extra loss of shared statistics; steps until statistics settle; extra loss of per-step ones carried on."""
        shared = [(here, estimate(values)) for here, values in extra(m)]
        carried = [(here, effect) for here, effect in shared if here["state"] == "carried"]
        carried.sort(key=lambda pair: pair[0]["cell"] == "yes")  # as in the paper: no cell norm first
        cases = {
            "separate": [Case(words(here), effect, NEEDED) for here, effect in shared],
            "equal": [Case(words(here), effect, NEEDED, below=True) for here, effect in carried],
            "transient": [
                Case(f"{PLACES.get(place, place)}, {words(here)}", estimate(steps), TRANSIENT, below=True)
                for here, place, steps in settled(m)
                if here["state"] == "reset"
            ],
            "trap": [
                Case(f"trained with {words(here)}, evaluated with carried state", estimate(values), NEEDED)
                for here, values in trap(m)
            ],
        }
        units = {"transient": "steps"}
        return [
            judge(claim, units.get(claim.key, "nats per step"), cases[claim.key])
            for claim in self.claims
            if cases[claim.key]
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """How much sharing costs, on what that depends, and what to do."""
        shared = [(here, estimate(values)) for here, values in extra(m)]
        shared = [(here, effect) for here, effect in shared if effect.n]
        found = []
        for state in STATES:
            for mode in MODES:
                costs = [effect.mean for here, effect in shared if (here["state"], here["mode"]) == (state, mode)]
                if costs:
                    found.append(
                        f"State {state}, {mode} statistics: sharing costs {min(costs):+.3f} to {max(costs):+.3f} "
                        f"nats per step over {len(costs)} conditions."
                    )
        by_cell = {
            cell: [e.mean for h, e in shared if (h["state"], h["mode"], h["cell"]) == ("reset", MODES[0], cell)]
            for cell in ("yes", "no")
        }
        if all(by_cell.values()):
            yes, no = (sum(costs) / len(costs) for costs in by_cell.values())
            found.append(
                f"With reset state and population statistics it costs {yes:+.3f} nats on average where the cell is "
                f"normalized and {no:+.3f} where it is not."
            )
        if shared:
            here, effect = max(shared, key=lambda pair: pair[1].mean)
            advice = "one pair for all steps is enough"
            if effect.low > NEEDED:
                advice = "keep them per step there"
            elif not effect.high < NEEDED:
                advice = "the seeds do not decide whether that matters; per-step statistics are the safe choice"
            interval = f"{effect.mean:+.3f} nats, 95 % interval {effect.low:+.3f} to {effect.high:+.3f}"
            found.append(f"Sharing costs most with {words(here)} ({interval}): {advice}.")
        wrong = [(here, estimate(values).mean) for here, values in trap(m)]
        if wrong:
            costs = [mean for _, mean in wrong]
            found.append(
                f"Trained on reset states and evaluated on carried ones, per-step statistics cost {min(costs):+.3f} to "
                f"{max(costs):+.3f} nats per step against shared ones: "
                + ("share them there, or train on carried states." if min(costs) > NEEDED else "no reason to share.")
            )
        diverged = where(m, quantity="diverged", value=1.0)
        if len(diverged):
            found.append(f"{len(diverged)} of {len(where(m, quantity='diverged'))} trainings diverged.")
        return found

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """The transient; what sharing costs along time and under each condition; the trap."""
        return panels(m)


def _changes(norm: str, gains: Iterable[float]) -> Iterator[dict[str, str | float]]:
    """What can be varied of a norm: its gain where it has one, its cell norm where it has one."""
    places = parse_norm(norm).places
    gained = any(use.normalizer == "bn" for use in places.values())
    for gain in gains if gained else [0.0]:
        for cell in ("yes", "no") if "cell" in places and len(places) > 1 else ("no",):
            yield {"cell": cell, **({"gain": float(gain)} if gained else {})}


def _norm(trial: Trial) -> Norm:
    norm, c = parse_norm(trial.norm), trial.conditions
    if "gain" in c:
        norm = norm.override({"gain": c["gain"]}, name=norm.name)
    return norm if c["cell"] == "yes" else norm.without("cell")


def _losses(task: SequenceTask, data: SequenceDataModule, state: str) -> Iterator[Row]:
    for mode in (*MODES, "batch"):
        for read in STATES:
            used = mode if has_batch_statistics(task) else "running"
            with statistics(task, used):
                by_step = losses_by_step(task, carrying(data.test_dataloader(), read == "carried"), skip=1)
            yield {"quantity": "loss", "mode": mode, "read": read, "value": float(by_step.mean())}
            if read == state:
                for t, value in enumerate(by_step.tolist()):
                    yield {"quantity": "loss_at", "mode": mode, "t": t, "value": value}
