"""What happens on sequences longer than any in training? Loss against t, by statistics and tail policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.norms import recalibrate
from rnnnorm.norms.presets import parse_norm
from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.plots import Panel, lines, log_axis, rule
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.stepwise import (
    dense_batches,
    long_examples,
    mean_step_losses,
    modes_of,
    require_answers_per_step,
)

RISE = 0.02  # bits per step: the smallest difference that Cooijmans et al. make something of
TASKS = {"language": "made-up language", "sum": "running sum", "shakespeare": "Tiny Shakespeare", "own": "own data"}
LENGTHS = {"fixed": "equal lengths", "heavy-tailed": "ragged lengths", "own": "its own lengths"}
BINS = 4  # per T_max


def has_slots(norm: str) -> bool:
    """Whether a norm keeps statistics per timestep, so that T_max and the tail policy mean something to it."""
    uses = vars(parse_norm(norm)).values()
    return any(getattr(use, "options", {}).get("statistics") == "timestep" for use in uses)


class LongerThanTrained(Study):
    """Loss beyond T_max."""

    name = "longer-than-trained"
    question = "Which statistics serve on sequences longer than any in training?"
    method = (
        "Networks are trained on sequences of at most T_max steps, all of T_max or with heavy-tailed lengths, and "
        "read test sequences of 10 T_max from a fresh state, on tasks that are the same at every step: the next "
        "letter of a made-up language, and the sum of all digits so far modulo 3. Losses are bits per step. The rise "
        "is the loss in the last T_max steps minus that at the end of what was trained, from T_max/2 to T_max, past "
        "the transient. Slots are the share of T_max that has statistics of its own: with fewer slots than steps, "
        "tail=last takes the last slot for all later steps and tail=pool pools all of them. A rise of less than "
        f"{RISE} bits counts as none."
    )
    columns: ClassVar[tuple[str, ...]] = ("mode", "times", "t", "reach", "axis", "low", "high", "count")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "last",
            "The statistics of the last training step serve for all later ones: BN-LSTM generalizes to longer "
            "sequences.",
            "Cooijmans et al., ICLR 2017, section 5.2 and its figure of the Penn Treebank",
            "char PTB, population statistics, T_max = 100: 1.398 bits at length 100, 1.338 at 500, 1.333 at 1000 "
            "(read off)",
        ),
        Claim(
            "population",
            "Population statistics beat the batch's own at every length.",
            "Cooijmans et al., ICLR 2017, the same figure",
            "0.022 bits at length 100, 0.023 at 500, 0.029 at 1000 (read off)",
        ),
        Claim(
            "ln",
            "Layer normalization has no problem with sequences longer than any in training.",
            "Ba et al. 2016, introduction and section 3.1",
            "no measurement was published",
        ),
    )

    def trials(self) -> list[Trial]:
        """Task × lengths × slots × norm; fewer slots only where a norm has any."""
        made: list[Trial] = []
        for conditions, data, trainer, longest in self._arms():
            for share in self.settings.option("slots"):
                if share != 1.0 and longest is None:
                    continue  # how many slots that is stands in no configuration
                model = {} if longest is None else {"max_steps": max(1, round(share * longest))}
                config = self.settings.configured(data=data, model=model, trainer=trainer)
                for norm in self.settings.norms:
                    pooled = "tail=pool" in norm
                    if (share != 1.0 and not has_slots(norm)) or (share == 1.0 and pooled):
                        continue  # with a slot for every step there is no tail to pool
                    here = {**conditions, "slots": float(share)}
                    made += [Trial(here, norm, seed, config, 2.0) for seed in self.settings.seeds]
        return made

    def _arms(self) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], int | None]]:
        """Conditions, data, trainer and, if known, T_max."""
        settings = self.settings
        if settings.own:
            require_answers_per_step(settings.config["data"], self.name)
            options = settings.config["data"].get("init_args", {})
            return [({"task": "own", "lengths": "own"}, {}, {}, options.get("max_length"))]
        longest = int(settings.config["data"]["init_args"]["max_length"])
        common = {key: v for key, v in settings.config["data"]["init_args"].items() if key != "length_distribution"}
        arms: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], int | None]] = []
        for task, path in settings.option("tasks").items():
            for lengths in settings.option("lengths"):
                data = {"class_path": path["class_path"], "init_args": {**common, **path.get("init_args", {})}}
                data["init_args"]["length_distribution"] = lengths
                arms.append(({"task": task, "lengths": lengths}, data, {}, longest))
        if settings.data_dir is not None:
            text = {"dataset": "tinyshakespeare", "data_dir": settings.data_dir, "max_length": longest}
            data = {
                "class_path": "rnnnorm.data.LanguageModel",
                "init_args": {**text, "batch_size": common.get("batch_size", 64)},
            }
            trainer = {
                "max_epochs": 1,
                "limit_train_batches": settings.option("text_steps"),
                "check_val_every_n_epoch": 1,
            }
            arms.append(({"task": "shakespeare", "lengths": "own"}, data, trainer, longest))
        return arms

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """In bits and by mode: `loss` at `times` T_max, `loss_at` step `t` (`reach` = t/T_max), `rise`."""
        assert trained is not None
        yield from trained.rows()
        if trained.diverged:
            return
        model, data = trained.model(), trained.data()
        require_answers_per_step(data, self.name)
        T = int(data.spec.max_length)  # type: ignore[attr-defined]
        times = sorted(int(k) for k in self.settings.option("times"))
        options = (trial.config or {})["data"].get("init_args", {})
        longest = long_examples(data, options, times[-1] * T, int(self.settings.option("num_long")))
        batches = list(dense_batches(longest, data, int(self.settings.option("batch_long"))))
        limit = self.settings.option("text_steps") if trial.conditions["task"] == "shakespeare" else None
        train = (batch for k, batch in enumerate(data.train_dataloader()) if limit is None or k < limit)
        recalibrate(model, train, forward=model.encode, rows=None)
        for mode in modes_of(model):
            # What is predicted at a step does not depend on later ones: prefixes are shorter test sequences.
            losses = mean_step_losses(model, batches, mode)
            for k in times:
                yield {"quantity": "loss", "mode": mode, "times": k, "value": float(losses[: k * T].mean())}
            settled = losses[T // 2 : T].mean()
            yield {"quantity": "settled", "mode": mode, "value": float(settled)}
            yield {"quantity": "rise", "mode": mode, "value": float(losses[-T:].mean() - settled)}
            for number, part in enumerate(losses.tensor_split(BINS * times[-1])):
                where_ = {"t": round(number * T / BINS), "reach": (number + 0.5) / BINS}
                yield {"quantity": "loss_at", "mode": mode, **where_, "value": float(part.mean())}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """The rise of bn-timestep and ln; the batch's own statistics against the population's."""
        full = where(m, slots=1.0)
        arms = list(dict.fromkeys(zip(m["task"], m["lengths"], strict=True))) if len(m) else []
        last, population, layer = [], [], []
        for task, lengths in arms:
            here, name = (
                where(full, task=task, lengths=lengths),
                f"{TASKS.get(task, task)}, {LENGTHS.get(lengths, lengths)}",
            )
            own = where(here, norm="bn-timestep")
            for mode in ("population", "running"):
                effect = estimate(per_seed(where(own, quantity="rise", mode=mode)))
                last.append(Case(f"{name}, {mode}", effect, RISE, below=True))
            losses = where(own, quantity="loss")
            for k in sorted({losses["times"].min(), losses["times"].max()}) if len(losses) else []:
                gap = difference(per_seed(losses, times=k, mode="batch"), per_seed(losses, times=k, mode="population"))
                population.append(Case(f"{name}, {k:g} T_max", estimate(gap)))
            effect = estimate(per_seed(where(here, norm="ln", quantity="rise", mode="running")))
            layer.append(Case(name, effect, RISE, below=True))
        found = (("last", "bits of rise", last), ("population", "bits, batch minus population", population))
        return [
            judge(self.claim(key), unit, cases)
            for key, unit, cases in (*found, ("ln", "bits of rise", layer))
            if any(case.effect.n for case in cases)
        ]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The loss at the longest test, by tail policy; what to do."""
        losses = where(m, quantity="loss")
        if losses.empty:
            return []
        far = where(losses, times=losses["times"].max())
        said = []
        for task, lengths in dict.fromkeys(zip(far["task"], far["lengths"], strict=True)):
            here, name = where(far, task=task, lengths=lengths), TASKS.get(task, task)
            kept = where(here, mode="running")
            named = {
                f"{norm}{'' if slots == 1 else f' with {slots:g} T_max slots'}": rows["value"].mean()
                for (norm, slots), rows in kept.groupby(["norm", "slots"], sort=False)
            }
            listed = ", ".join(f"{name} {value:.3g}" for name, value in sorted(named.items(), key=lambda item: item[1]))
            said.append(
                f"{name[0].upper()}{name[1:]}, {LENGTHS.get(lengths, lengths)}, at {far['times'].max():g} T_max, bits "
                f"per step under running averages: {listed}."
            )
        count = int(where(m, quantity="diverged")["value"].sum())
        lost = [f"{count} networks diverged and are in no mean."] if count else []
        return said + self._advice(m) + lost

    def _advice(self, m: pd.DataFrame) -> list[str]:
        rises = where(m, quantity="rise")
        bn = rises[rises["norm"].str.startswith("bn-timestep")] if len(rises) else rises
        ways = {
            "running averages with a slot for every step": where(bn, slots=1.0, mode="running"),
            "population statistics with a slot for every step": where(bn, slots=1.0, mode="population"),
            "running averages with fewer slots, the last one repeated": bn[
                (bn["slots"] < 1) & (bn["norm"] == "bn-timestep") & (bn["mode"] == "running")
            ],
            "running averages with fewer slots and a pooled tail": bn[
                (bn["slots"] < 1) & bn["norm"].str.contains("tail=pool") & (bn["mode"] == "running")
            ],
            "the batch's own statistics": where(bn, slots=1.0, mode="batch"),
        }
        worst = {
            way: rows.groupby(["task", "lengths"])["value"].mean().max() for way, rows in ways.items() if len(rows)
        }
        if len(worst) < 2:
            return []
        ranked = sorted(worst.items(), key=lambda item: item[1])
        listed = "; ".join(f"{way}, {value:+.3g}" for way, value in ranked)
        return [f"Worst rise of bn-timestep over all tasks and lengths, in bits: {listed}. Choose {ranked[0][0]}."]

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Per task and lengths: loss along time up to the longest test."""
        rows = where(m, quantity="loss_at")
        arms = list(dict.fromkeys(zip(rows["task"], rows["lengths"], strict=True))) if len(rows) else []
        return [self._panel(where(rows, task=task, lengths=lengths), task, lengths) for task, lengths in arms]

    def _panel(self, rows: pd.DataFrame, task: str, lengths: str) -> Panel:
        kinds = {
            "bn-timestep, population statistics": where(rows, norm="bn-timestep", slots=1.0, mode="population"),
            "bn-timestep, batch statistics": where(rows, norm="bn-timestep", slots=1.0, mode="batch"),
            "bn-timestep, running averages": where(rows, norm="bn-timestep", slots=1.0, mode="running"),
            "bn-timestep, running, pooled tail": where(rows, norm="bn-timestep:tail=pool", mode="running"),
            "bn-shared, population statistics": where(rows, norm="bn-shared", mode="population"),
            "none": where(rows, norm="none"),
            "ln": where(rows, norm="ln"),
        }
        shades = {
            "bn-timestep, population statistics": "#8a4a00",
            "bn-timestep, batch statistics": "#d77810",
            "bn-timestep, running averages": "#f0a03c",
            "bn-timestep, running, pooled tail": "#4e6dea",
        }
        styles = {"bn-timestep, batch statistics": "--", "bn-timestep, running averages": ":"}
        styles["bn-timestep, running, pooled tail"] = "-."

        def draw(axes: Axes, theme: Theme) -> None:
            parts = [part.assign(norm=name) for name, part in kinds.items() if len(part)]
            rule(axes, theme, x=1.0, text="T_max")
            if parts:
                shown = pd.concat(parts)
                shown["value"] = shown["value"].clip(lower=1e-4)  # zero has no place on a logarithmic axis
                lines(axes, shown, "reach", colours=shades, styles=styles, marker=None)
            log_axis(axes)
            log_axis(axes, "x", base=2, numbers=[0.25, 0.5, 1, 2, 4, 8])

        title = f"{TASKS.get(task, task)}, {LENGTHS.get(lengths, lengths)}: bits per step"
        return Panel(title, "timestep t / T_max", draw, "The loss along time, within and beyond the trained lengths.")
