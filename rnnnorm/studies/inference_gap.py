"""What does evaluation lose that training does not see? Running, population, batch statistics; a batch of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.norms import has_batch_statistics, recalibrate
from rnnnorm.norms.batch_statistics import BatchNormalizer
from rnnnorm.report.curves import Curve
from rnnnorm.studies.data.plain_training import task_of
from rnnnorm.studies.framework.estimate import estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, values, where
from rnnnorm.studies.framework.plots import Panel
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Case, Claim, Verdict, judge
from rnnnorm.studies.measures.gap_panels import TASKS, panels
from rnnnorm.studies.measures.regrouped import BIT, MODES, bits_by_step, mean_bits, regrouped, scored, twins
from rnnnorm.tasks import SequenceTask

NEEDED = 0.02  # bits per prediction: the smallest difference that Cooijmans et al. make something of
SWEPT = "bn-timestep"
BINS = 10


def momentum_of(model: SequenceTask) -> float | None:
    """The weight of the newest batch in a network's running averages; 0: average over all rows; None: it has none."""
    for module in model.modules():
        if isinstance(module, BatchNormalizer):
            return 0.0 if module.momentum is None else module.momentum
    return None


def base_of(norm: str) -> str:
    """A norm without what is said about its momentum."""
    return ":".join(part for part in norm.split(":") if not part.startswith("momentum="))


class InferenceGap(Study):
    """Training against evaluation, by statistics, momentum, batch size and timestep."""

    name = "inference-gap"
    question = "What does evaluation lose that training does not see?"
    method = (
        "Each network is trained in batches of 64, and its last weights predict one test set in four ways: by running "
        "averages, by population statistics from a pass over the training set, by the moments of each test batch, and "
        "as training computes it. Weights do not depend on the momentum, so a sweep over it compares averages of the "
        "same trajectory. Losses are bits per prediction, differences paired by seed; the smallest of interest is "
        f"{NEEDED:g} bits. The test sequences are regrouped into batches of 1 to 64; here a batch of one falls back on "
        "stored statistics, so what its own moments would do is measured with each sequence beside a copy of itself, "
        "which makes the variance 0. Gap: evaluation minus training on the same sequences; what is left between "
        "training and test sequences is generalization. In training, the gap is that of the validation loss."
    )
    columns: ClassVar[tuple[str, ...]] = ("base", "momentum", "mode", "rows", "t", "count", "step", "progress")
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "terrible",
            "Estimates of the population statistics kept during training are terrible: a pass of its own is needed.",
            'Cooijmans et al., released code of ICLR 2017 (commit 92acf04: "online popstat estimates are terrible")',
            "no number was published",
        ),
        Claim(
            "population",
            "Population statistics beat the statistics of the test batch.",
            "Cooijmans et al., ICLR 2017, figure of the Penn Treebank",
            "0.022 bits per character at length 100, 0.029 at 1000 (read off)",
        ),
        Claim(
            "one",
            "Batch normalization cannot evaluate a batch of one.",
            "after Ba et al. 2016 (not applicable to online learning); torch.nn.BatchNorm1d refuses one row in "
            "training",
            "no measurement was published",
        ),
        Claim(
            "renorm",
            "Batch renormalization makes training and inference the same model.",
            "Ioffe, NeurIPS 2017",
            "Inception-v3, microbatches of 4: 74.2 % with batch normalization, 76.5 % renormalized",
        ),
        Claim(
            "vertical",
            "Between layers, running averages collected during training serve well for evaluation.",
            "Amodei et al., ICML 2016 (Deep Speech 2)",
        ),
    )

    def trials(self) -> list[Trial]:
        """Task × norm, and momenta of the swept norms on generated data."""
        settings, made = self.settings, []
        for task, data, trainer in self._arms():
            config = settings.configured(data=data, trainer=trainer)
            for norm in settings.norms:
                names = [norm]
                if task != "shakespeare" and norm in settings.option("swept"):
                    others = (m for m in settings.option("momenta") if m != 0.1)
                    names += [f"{norm}:momentum={'none' if m == 0 else f'{m:g}'}" for m in others]
                weight = 8.0 if norm.startswith("brn") else 2.0
                made += [Trial({"task": task}, name, seed, config, weight) for name in names for seed in settings.seeds]
        return made

    def _arms(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Name of the task, data, trainer."""
        settings = self.settings
        if settings.own:
            kind = task_of(str(settings.config["data"]["class_path"]))
            if kind in ("regression", "multi-label"):
                raise ValueError(f"{self.name} measures bits per prediction: it needs classes to predict, not {kind}")
            yield "own", {}, {}
            return
        common = settings.config["data"].get("init_args", {})
        for task, path in settings.option("tasks").items():
            yield task, {"class_path": path["class_path"], "init_args": {**common, **path.get("init_args", {})}}, {}
        if settings.data_dir is not None:
            keys = {"dataset": "tinyshakespeare", "data_dir": settings.data_dir, "max_length": 100}
            trainer = {
                "max_epochs": 1,
                "limit_train_batches": settings.option("text_steps"),
                "val_check_interval": 0.125,
            }
            yield "shakespeare", {"class_path": "rnnnorm.data.LanguageModel", "init_args": {**common, **keys}}, trainer

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`loss` by `mode` and `rows` per batch, `loss_at` by `t`, `train_split` (loss), `val_gap` by `progress`."""
        assert trained is not None
        yield from trained.rows()
        if trained.diverged:
            return
        model, data = trained.model(trained.run.last), trained.data()
        momentum = momentum_of(model)
        about: dict[str, Any] = {"base": base_of(trial.norm)}
        about |= {} if momentum is None else {"momentum": momentum}
        limit = self.settings.option("text_steps") if trial.conditions["task"] == "shakespeare" else None
        recalibrate(model, islice(data.train_dataloader(), limit), forward=model.encode, rows=None)
        for row in (*self._losses(model, data), *_curve(trained.curves)):
            yield {**about, **row}

    def _losses(self, model: SequenceTask, data: LightningDataModule) -> Iterator[Row]:
        count, full = int(self.settings.option("num_eval")), int(data.batch_size)  # type: ignore[attr-defined]
        examples, task = data.examples("test")[:count], data.task  # type: ignore[attr-defined]
        batches = list(regrouped(examples, task, full))
        stored = has_batch_statistics(model)
        for mode in MODES if stored else MODES[:1]:
            scores = scored(model, batches, mode)
            yield {"quantity": "loss", "mode": mode, "rows": full, "value": mean_bits(scores)}
            longest = int(data.spec.max_length)  # type: ignore[attr-defined]
            for t, bits, number in bits_by_step(scores, max(longest // BINS, 1)):
                yield {"quantity": "loss_at", "mode": mode, "t": t, "count": number, "value": bits}
        seen = list(regrouped(data.examples("train"), task, full, count))  # type: ignore[attr-defined]
        for mode in MODES if stored else MODES[:1]:
            yield {"quantity": "train_split", "mode": mode, "value": mean_bits(scored(model, seen, mode))}
        if not stored:
            return
        for size in sorted({int(size) for size in self.settings.option("sizes")} - {full}):
            few = list(regrouped(examples, task, size))
            for mode in MODES[:3] if size == 1 else MODES[2:3]:
                yield {"quantity": "loss", "mode": mode, "rows": size, "value": mean_bits(scored(model, few, mode))}
        alone = mean_bits(scored(model, list(twins(examples, task)), "batch"))
        yield {"quantity": "loss", "mode": "own", "rows": 1, "value": alone}

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """Differences of losses between ways to evaluate the same weights."""
        losses = where(m, quantity="loss")
        cases: dict[str, list[Case]] = {claim.key: [] for claim in self.claims}
        for task in values(losses, "task"):
            here, name = where(losses, task=task), TASKS.get(task, task)
            full = where(here, rows=where(here, mode="population")["rows"].max())
            swept = where(full, base=SWEPT)
            for momentum in sorted(values(swept, "momentum"), key=lambda value: value != 0.1):
                gap = _between(where(swept, momentum=momentum), "running", "population")
                cases["terrible"].append(Case(f"{name}, {_words(momentum)}", gap, NEEDED))
            for norm in (SWEPT, "bn-shared", "bn-vertical"):
                cases["population"].append(
                    Case(f"{name}, {norm}", _between(where(full, norm=norm), "batch", "population"))
                )
            cases["one"] += self._one(where(here, norm=SWEPT), where(full, norm=SWEPT), name)
            for key, start in (("renorm", "brn"), ("vertical", "bn-vertical")):
                for norm in values(full, "norm"):
                    if base_of(norm).split(":")[0] == start and "momentum=" not in norm:
                        gap = _between(where(full, norm=norm), "running", "training")
                        cases[key].append(Case(f"{name}, {norm}", gap, NEEDED, below=True))
        return [
            judge(self.claim(key), "bits per prediction", found)
            for key, found in cases.items()
            if any(case.effect.n for case in found)
        ]

    @staticmethod
    def _one(here: pd.DataFrame, full: pd.DataFrame, name: str) -> list[Case]:
        """What a batch of one costs, against full batches in the same way (or by their own moments)."""
        ways = {"own": "its own moments", "population": "population statistics", "running": "running averages"}
        found = []
        for mode, words in ways.items():
            whole = per_seed(full, mode="batch" if mode == "own" else mode)
            lost = difference(per_seed(here, mode=mode, rows=1), whole)
            # Sums in another order differ in the last digits; such a difference is none.
            found.append(Case(f"{name}, {words}", estimate(round(value, 5) for value in lost), NEEDED))
        return found

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """Gap against momentum, loss against batch size, loss against t, gap during training."""
        return panels(m)

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The gap of each norm beside generalization, the best momentum, the batch size from which moments serve."""
        said = []
        losses = where(m, quantity="loss")
        for task in values(losses, "task"):
            here, name = where(losses, task=task), TASKS.get(task, task)
            rows = where(here, mode="population")["rows"].max()
            full = where(here, rows=rows)
            gaps = {norm: _between(where(full, norm=norm), "running", "training") for norm in full["norm"].unique()}
            listed = ", ".join(
                f"{base_of(norm).split(':')[0]} {gap.mean:+.3f}"
                for norm, gap in gaps.items()
                if gap.n and ":mom" not in norm
            )
            if listed:
                said.append(f"{name}: running averages against training on the same test sequences, in bits: {listed}.")
            seen = where(m, quantity="train_split", task=task, norm=SWEPT)
            apart = difference(per_seed(full, norm=SWEPT, mode="training"), per_seed(seen, mode="training"))
            if apart:
                said.append(
                    f"{name}: generalization, test minus training sequences with both evaluated as in training, is "
                    f"{estimate(apart).mean:+.3f} bits for {SWEPT}."
                )
            swept = where(full, base=SWEPT, mode="running")
            means = swept.groupby("momentum")["value"].mean() if "momentum" in swept else pd.Series(dtype=float)
            if len(means) > 1:
                population = float(where(full, base=SWEPT, mode="population")["value"].mean())
                said.append(
                    f"{name}: of {len(means)} momenta, {_words(means.idxmin())} evaluates {SWEPT} best by running "
                    f"averages ({means.min():.3f} bits) and {_words(means.idxmax())} worst ({means.max():.3f}); a pass "
                    f"over the training set gives {population:.3f}."
                )
            said += self._enough(
                where(here, norm=SWEPT, mode="batch"), where(full, norm=SWEPT, mode="population"), name
            )
        count = int(where(m, quantity="diverged")["value"].sum())
        return said + ([f"{count} networks diverged and are in no mean."] if count else [])

    @staticmethod
    def _enough(batch: pd.DataFrame, population: pd.DataFrame, name: str) -> list[str]:
        """From which batch size on a test batch's own moments are as good as the population's."""
        sizes = [size for size in values(batch, "rows") if size > 1]
        if not sizes or population.empty:
            return []
        lost = {size: estimate(difference(per_seed(batch, rows=size), per_seed(population))).mean for size in sizes}
        good = [size for size in sizes if all(lost[other] < NEEDED for other in sizes if other >= size)]
        first = f"{lost[sizes[0]]:+.3f} bits in batches of {sizes[0]:g}"
        if not good:
            last = sizes[-1]
            return [
                f"{name}: a test batch's own moments cost {first}, and still {lost[last]:+.3f} in batches of {last:g}."
            ]
        return [f"{name}: a test batch's own moments cost {first}; from {good[0]:g} sequences on less than {NEEDED:g}."]


def _between(rows: pd.DataFrame, one: str, other: str) -> Any:
    """Loss in one mode minus that in another, over seeds."""
    return estimate(difference(per_seed(rows, mode=one), per_seed(rows, mode=other)))


def _words(momentum: float) -> str:
    return "plain average" if momentum == 0 else f"momentum {momentum:g}"


def _curve(curves: dict[str, Curve]) -> Iterator[Row]:
    """The gap of the validation loss in the course of training, in bits, by the share of training that is over."""
    running, batch = curves.get("val_running/loss", curves.get("val/loss")), curves.get("val/loss_batch")
    if running is None or batch is None:
        return
    kept = dict(zip(batch.step.tolist(), batch.value.tolist(), strict=True))
    last = max(running.step.tolist(), default=1)
    for step, value in zip(running.step.tolist(), running.value.tolist(), strict=True):
        if step in kept:
            gap = (value - kept[step]) / BIT
            yield {"quantity": "val_gap", "step": int(step), "progress": (step + 1) / (last + 1), "value": gap}
