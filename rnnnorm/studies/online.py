"""Does normalization work online? One pass, one sequence at a time, a source that drifts, a state carried on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes

from rnnnorm.norms import evaluates_by, has_batch_statistics, recalibrate, statistics
from rnnnorm.report.canvas import Theme
from rnnnorm.report.colours import colour
from rnnnorm.studies.data.drifting import drifting, loss_in_pieces, test_then_train
from rnnnorm.studies.data.plain_training import build_data, build_task, curve, train
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis, points, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.tasks import Classification

NEEDED = 0.05
POINTS = 40
CLIP = 1.0
STREAMING = ("online", "streaming")


class Online(Study):
    """Streams: learned from, and read."""

    name = "online"
    question = "Does normalization work online, one sequence at a time?"
    method = (
        "Learning: sequences of four noisy sources come one after the other and are predicted (by stored statistics) "
        "before they are learned from, once. The prequential loss is the mean over the second half of the stream, in "
        "nats; where the source drifts abruptly its scale is fourfold and its mean moves by two at the beginning of "
        "that half. Reading: networks trained on whole segments of a made-up language read test segments in pieces, "
        "each from the state that the last one left, as a stream is served; the loss is compared with that of "
        "reading the segment at once. A difference counts from 0.05 nats; a loss that ceases to be finite counts as "
        "that of guessing."
    )
    columns: ClassVar[tuple[str, ...]] = ("t", "mode", "chunk")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "online",
            "Batch normalization cannot be applied to online learning, where a batch is one sequence.",
            "Ba, Kiros & Hinton 2016, section 1",
        ),
        Claim(
            "made-for-it",
            "Normalizers made for streams learn from single sequences where batch normalization does not.",
            "Chiley et al., NeurIPS 2019 (online normalization); Liao et al. 2016 (streaming normalization)",
        ),
        Claim(
            "drift",
            "A normalizer that looks at one sequence only carries a network over a change of scale of its inputs.",
            "invariance to rescaling of single cases: Ba, Kiros & Hinton 2016, table 1; Zhang & Sennrich 2019, table 1",
        ),
        Claim(
            "pieces",
            "Statistics per timestep do not serve where a stream is read in pieces: each piece begins at step 0 again.",
            "reported as a bug of public code: Element-Research/rnn#252; never measured",
        ),
    )

    def trials(self) -> list[Trial]:
        """Drift × batch size × norm; then networks that are read in pieces."""
        option, settings = self.settings.option, self.settings
        made = []
        if not settings.own:
            for drift in option("drifts"):
                for size in option("batch_sizes"):
                    for norm in settings.norms:
                        slow = norm.split(":")[0] in STREAMING
                        here = {"part": "learning", "drift": drift, "batch": size}
                        made += [Trial(here, norm, seed, weight=(9 if slow else 3) / size) for seed in settings.seeds]
        for norm in option("chunk_norms"):
            made += [Trial({"part": "reading"}, norm, seed, weight=2.0) for seed in settings.seeds]
        return made

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`prequential` loss by `t` and as `loss` of the second half; or `loss` by `chunk` and `mode`."""
        measured = self._learning if trial.conditions["part"] == "learning" else self._reading
        yield from measured(trial)

    def _learning(self, trial: Trial) -> Iterable[Row]:
        c, option = trial.conditions, self.settings.option
        stream = drifting(int(option("examples")), int(option("steps")), str(c["drift"]), trial.seed)
        model = self.settings.config["model"]["init_args"]
        keys = {key: model[key] for key in ("hidden_size", "learning_rate") if key in model}
        torch.manual_seed(trial.seed)
        task = Classification(stream.spec, norm=trial.norm, **keys)
        losses = test_then_train(task, stream, int(c["batch"]), CLIP)
        late = losses[len(losses) // 2 :]
        finite = math.isfinite(late[-1])
        guess = math.log(stream.spec.num_outputs)
        yield {"quantity": "diverged", "value": float(not finite)}
        yield {"quantity": "loss", "value": sum(late) / len(late) if finite else guess}
        block = max(len(losses) // POINTS, 1)
        for start in range(0, len(losses) - block + 1, block):
            mean = sum(losses[start : start + block]) / block
            if math.isfinite(mean):
                yield {"quantity": "prequential", "t": (start + block) * int(c["batch"]), "value": mean}

    def _reading(self, trial: Trial) -> Iterable[Row]:
        config = self.settings.configured()
        data = build_data(config, trial.seed)
        batches = list(data.test_dataloader())
        T = len(batches[0].input.batch_sizes)
        if any(len(set(b.input.batch_sizes.tolist())) > 1 or len(b.target) != len(b.input.data) for b in batches):
            raise ValueError(f"study {self.name!r} reads in pieces: it needs sequences of one length, a target per row")
        task = build_task(config, data, trial.norm, trial.seed)
        trainer = config["trainer"]
        losses = train(task, data, trainer["max_epochs"], trainer.get("gradient_clip_val"))
        yield from curve(losses)
        yield {"quantity": "diverged", "value": float(not math.isfinite(losses[-1]))}
        if not math.isfinite(losses[-1]):
            return
        task.eval()
        stored = has_batch_statistics(task)
        if stored:
            recalibrate(task, data.train_dataloader(), forward=task.encode, rows=None)
        for mode in ("running", "population") if stored else (evaluates_by(task),):
            for size in (*(chunk for chunk in self.settings.option("chunks") if chunk < T), None):
                with statistics(task, mode):
                    each = [loss_in_pieces(task, batch, size) for batch in batches]
                weights = [len(batch.target) for batch in batches]
                mean = sum(loss * weight for loss, weight in zip(each, weights, strict=True)) / sum(weights)
                yield {"quantity": "loss", "mode": mode, "chunk": size or T, "value": mean}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Differences of losses, paired by seed."""
        learned = where(m, quantity="loss", part="learning")
        drifts, norms = values(learned, "drift"), values(learned, "norm")
        batchwise = [norm for norm in norms if norm.startswith("bn-")]

        def at(norm: str, drift: str, size: int = 1) -> pd.Series:
            return per_seed(learned, norm=norm, drift=drift, batch=size)

        def named(norm: str, drift: str) -> str:
            return f"{norm}, {'no drift' if drift == 'none' else drift + ' drift'}"

        order = sorted(drifts, key=lambda drift: drift != "none")
        online = [
            Case(named(n, d), estimate(difference(at(n, d), at("ln", d))), NEEDED) for d in order for n in batchwise
        ]
        made = [
            Case(named(n, d), estimate(difference(at("bn-timestep", d), at(n, d))), NEEDED)
            for d in order
            for n in norms
            if n.split(":")[0] in STREAMING
        ]
        drift = [
            Case(f"{named(n, d)}, B = {size:g}", estimate(difference(at("none", d, size), at(n, d, size))), NEEDED)
            for d in drifts
            if d != "none"
            for size in values(learned, "batch")
            for n in norms
            if n.split(":")[0] in ("ln", "rms", "gn")
        ]
        pieces = [
            Case(f"{norm}, {mode}, {chunk:g} steps at a time", estimate(lost), NEEDED)
            for norm, mode, chunk, lost in _lost(m)
            if norm.startswith("bn-timestep")
        ]
        found = [("online", online), ("made-for-it", made), ("drift", drift), ("pieces", pieces)]
        return [
            judge(self.claim(key), "nats", kept)
            for key, cases in found
            if (kept := [case for case in cases if case.effect.n])
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The best online learner per drift, what pieces cost."""
        said = []
        for drift in values(where(m, part="learning"), "drift"):
            rows = where(m, quantity="loss", part="learning", drift=drift, batch=1)
            mean = rows.groupby("norm")["value"].mean().sort_values()
            if len(mean) > 1:
                ranked = ", ".join(f"`{norm}` {value:.3f}" for norm, value in mean.items())
                said.append(f"One sequence at a time, {'no' if drift == 'none' else drift} drift, nats: {ranked}.")
        costs: dict[str, list[float]] = {}
        for norm, _, _, lost in _lost(m):
            costs.setdefault(norm, []).extend(lost)
        if costs:
            text = ", ".join(f"`{norm}` {sum(lost) / len(lost):+.3f}" for norm, lost in costs.items() if lost)
            said.append(f"Reading in pieces changes the loss by (nats, mean over sizes and statistics): {text}.")
        lost_runs = where(m, quantity="diverged")
        if len(lost_runs) and lost_runs["value"].sum():
            said.append(f"{lost_runs['value'].sum():.0f} of {len(lost_runs)} networks diverged.")
        return said

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Prequential loss along the stream, its late mean by norm and batch size, loss against the size of pieces."""
        learned = where(m, quantity="prequential", part="learning", batch=1)
        drifts = sorted(values(learned, "drift"), key=lambda drift: drift != "none")

        def along(drift: str) -> Any:
            def draw(axes: Axes, theme: Theme) -> None:
                rows = where(learned, drift=drift)
                rule(axes, theme, y=math.log(4), text="guessing")
                lines(axes, rows, "t", marker=None, band=False)
                if drift == "abrupt":
                    rule(axes, theme, x=float(rows["t"].max()) / 2, text="scale × 4, mean + 2")
                axes.set_ylim(0, min(float(rows["value"].max()) * 1.05, 3.0))

            return draw

        def late(axes: Axes, theme: Theme) -> None:
            rows = where(m, quantity="loss", part="learning")
            groups, colours = [], {}
            for norm in rows["norm"].unique():
                for size in values(rows, "batch"):
                    name = f"{norm}, B = {size:g}"
                    groups.append((name, where(rows, norm=norm, batch=size)["value"].tolist()))
                    colours[name] = colour(norm)
            points(axes, groups, theme, colours=colours)

        def pieces(axes: Axes, theme: Theme) -> None:
            rows = where(m, quantity="loss", part="reading").copy()
            rows["line"] = [
                n if n in ("none", "ln", "wn") else f"{n}, {mode}"
                for n, mode in zip(rows["norm"], rows["mode"], strict=True)
            ]
            styles = {line: "--" if line.endswith("running") else "-" for line in rows["line"].unique()}
            lines(axes, rows, "chunk", by="line", styles=styles)
            log_axis(axes, "x", numbers=values(rows, "chunk"))

        panels = [
            Panel(
                f"loss before learning, nats, {'no' if d == 'none' else d} drift", "sequences seen", along(d), "B = 1."
            )
            for d in drifts
        ]
        if len(where(m, part="reading", quantity="loss")):
            panels.append(Panel("loss, nats", "steps read at a time", pieces, "The last point is the whole segment."))
        if drifts:
            panels.append(
                Panel("all drifts, second half", "loss before learning, nats", late, "By norm and batch size.")
            )
        return panels


def _lost(m: pd.DataFrame) -> Iterable[tuple[str, str, float, list[float]]]:
    """Norm, mode, size of the pieces, and how much more loss they mean than the whole, per seed."""
    rows = where(m, quantity="loss", part="reading")
    for norm in rows["norm"].unique() if len(rows) else ():
        for mode in values(where(rows, norm=norm), "mode"):
            here = where(rows, norm=norm, mode=mode)
            sizes = values(here, "chunk")
            for size in sizes[:-1]:
                yield norm, mode, size, difference(per_seed(here, chunk=size), per_seed(here, chunk=sizes[-1]))
