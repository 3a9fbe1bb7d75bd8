"""What does evaluation lose that training does not see? Running, population, batch statistics; a batch of one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.norms import recalibrate
from rnnnorm.studies.data.real import shakespeare
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Trained, TrainedStudy, Trial, Words
from rnnnorm.studies.framework.derive import paired
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import Rule, first, leading
from rnnnorm.studies.measures import inference
from rnnnorm.tasks import SequenceTask

NEEDED = 0.02  # bits per prediction: the smallest difference that Cooijmans et al. make something of
SWEPT, FEW = "bn-timestep", 8
SHADES = dict(zip(("made-up language", "temporal order", "Tiny Shakespeare", "own data"), OTHERS, strict=False))


def at_usual_momentum(*presets: str) -> Rule:
    """The norms of some presets that say nothing about their momentum."""
    return lambda found: sorted(n for n in found if n.split(":")[0] in presets and "momentum=" not in n)


evaluated = partial(Contrast, "full", "bits per prediction", by=("task",), label="{task}, {norm}")
alike = partial(evaluated, against={"mode": "training"}, only={"mode": "running"}, needed=NEEDED, below=True)
shown = {"task": first, "norm": at_usual_momentum("bn-timestep", "bn-shared", "bn-vertical", "brn")}
by_task = partial(Lines, line="{task}", colours=SHADES, rule=0.0)


class InferenceGap(TrainedStudy):
    """Training against evaluation, by statistics, momentum, batch size and timestep."""

    name = "inference-gap"
    tuned_by = ("task",)
    question = "What does evaluation lose that training does not see?"
    method = (
        "Each network is trained in batches of 64, and its last weights predict one test set in four ways: by running "
        "averages, by population statistics from a pass over the training set, by the moments of each test batch, and "
        "as training computes it. Weights do not depend on the momentum, so a sweep over it compares averages of the "
        "same trajectory. Losses are bits per prediction, differences paired by seed; the smallest of interest is "
        f"{NEEDED:g} bits. Averages begin at mean 0 and variance 1; debiased ones are divided by their weights, so "
        "that what a small momentum costs is told apart from that beginning. The test sequences are regrouped into "
        "batches of 1 to 64; a batch of one has variance 0 by construction, which the figure shows with each sequence "
        "beside a copy of itself. Gap: evaluation minus training on the same sequences; what is left "
        "between training and test sequences is generalization. In training, the gap is that of the validation loss."
    )
    last_weights = True
    columns = ("base", "momentum", "mode", "rows", "t", "count", "step", "progress")
    claims = (
        Claim("terrible",
              "Estimates of the population statistics kept during training are terrible: a pass of its own is needed.",
              'Cooijmans et al., released code of ICLR 2017 (commit 92acf04: "online popstat estimates are terrible")',
              "no number was published",
              contrast=evaluated(against={"mode": "population"}, by=("task", "base", "momentum"), needed=NEEDED,
                                 label="{task}, {momentum}{base}", only={"base": (SWEPT, SWEPT + inference.DEBIASED),
                                 "mode": "running", "momentum": leading(0.1)})),
        Claim("population", "Population statistics beat the statistics of the test batch.",
              "Cooijmans et al., ICLR 2017, figure of the Penn Treebank",
              "0.022 bits per character at length 100, 0.029 at 1000 (read off)",
              contrast=evaluated(norms=(SWEPT, "bn-shared", "bn-vertical"), against={"mode": "population"},
                                 only={"mode": "batch"}, needed=NEEDED)),
        Claim("one", "By its own moments batch normalization cannot evaluate a batch of few sequences.",
              "after Ba et al. 2016 (not applicable to online learning); torch.nn.BatchNorm1d refuses one row in "
              "training", "one sequence has variance 0 by construction, and stored statistics do not see the batch",
              contrast=Contrast("cost", "bits per prediction", SWEPT, by=("task", "rows"), needed=NEEDED,
                                only={"mode": "batch", "rows": lambda sizes: [n for n in sizes if 1 < n <= FEW]},
                                label="{task}, {rows} sequences")),
        Claim("renorm", "Batch renormalization makes training and inference the same model.", "Ioffe, NeurIPS 2017",
              "Inception-v3, microbatches of 4: 74.2 % with batch normalization, 76.5 % renormalized",
              contrast=alike(norms=at_usual_momentum("brn"))),
        Claim("vertical", "Between layers, running averages collected during training serve well for evaluation.",
              "Amodei et al., ICML 2016 (Deep Speech 2)", contrast=alike(norms=at_usual_momentum("bn-vertical"))),
    )  # fmt: skip
    words = Words(task={"language": "made-up language", "order": "temporal order",
                        "shakespeare": "Tiny Shakespeare", "own": "own data"},
                  momentum=lambda momentum: "plain average" if momentum == 0 else f"momentum {momentum:g}",
                  base=lambda base: ", debiased" if base.endswith(inference.DEBIASED) else "")  # fmt: skip
    plots = (
        by_task("averaging", "bits lost by running averages, bn-timestep", "momentum: weight of the newest batch",
                "Loss under running averages minus that under population statistics, by momentum.", x="momentum",
                log="x", ticks=(0.01, 0.03, 0.1, 0.3), text="population statistics", line="{task}{way}",
                colours=SHADES | {task + way: colour for task, colour in SHADES.items() for way in inference.WAYS},
                styles=lambda name: next((style for way, style in inference.WAYS.items() if way in name), "-")),
        Lines("val_gap", "{task}: validation gap, bits", "share of training",
              "Validation loss under running averages minus that under the moments of the batch, during training.",
              x="progress", only=shown, rule=0.0),
        by_task("cost", "bits lost by the test batch's own moments", "sequences in the test batch",
                "Loss under the moments of the test batch minus that under population statistics, bn-timestep; at 1 "
                "the variance is 0.", x="rows", log="x", base=2, text="population statistics, any batch size",
                linear_up_to=0.02, limits=(-0.005, None), y_ticks=(0, 0.01, 0.1, 1)),
        Lines("gap_at", "{task}: running averages minus training, bits", "timestep t",
              "The gap between evaluation and training on the same sequences along time.", x="t", only=shown, rule=0.0),
    )  # fmt: skip
    best = Best("predicted", "bits per prediction", "`{norm}`{how}", "on {task}")
    sentences = (
        Sentence("{task}: running averages against training on the same test sequences, in bits: {items}.",
                 by=("task",), only={"norm": lambda norms: [norm for norm in norms if ":mom" not in norm]},
                 items="{norm} {gap:+.3f}", rising=True),
        Sentence("{task}: generalization, test minus training sequences with both evaluated as in training, is "
                 "{generalization:+.3f} bits for {norm}.", by=("task", "norm"), only={"norm": SWEPT}),
        Sentence(f"{{task}}: of {{count}} momenta, {{first}} evaluates {SWEPT} best by running averages and {{last}} "
                 "worst; a pass over the training set gives {calibrated:.3f}.", by=("task",),
                 only={"base": SWEPT, "mode": "running"}, items="{momentum} ({full:.3f} bits)", over=("momentum",),
                 rising=True, least=2),
        Sentence("{task}: a test batch's own moments cost, in bits, {items}.", by=("task",), only={"mode": "batch"},
                 items="{cost:+.3f} in batches of {rows}", over=("rows",)),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Task × norm, and momenta of the swept norms on generated data."""
        settings, option, made = self.settings, self.settings.option, list[Trial]()
        if settings.own:
            inference.require_classes(settings.config["data"], self.name)
        common = settings.config["data"].get("init_args", {})
        text = shakespeare(**{**common, "max_length": 100})
        short = {"max_epochs": 1, "limit_train_batches": option("text_steps"), "val_check_interval": 0.125}
        momenta = inference.overrides(option("momenta"), option("debiased"))
        for source in self.sources(option("tasks"), {"shakespeare": text}, common):
            config = source.configured(trainer=short if source.real else {})
            for norm in settings.norms:
                swept = momenta if norm in option("swept") and not source.real else []
                names = [norm, *(norm + momentum for momentum in swept)]
                made += self.grid({"task": source.name}, names, config, 8.0 if norm.startswith("brn") else 2.0)
        return made

    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """`loss` by `mode` and `rows` per batch, `loss_at` by `t`, `train_split` (loss), `val_gap` by `progress`."""
        option, about = self.settings.option, inference.averages_of(model, trial.norm)
        limit = option("text_steps") if trial.conditions["task"] == "shakespeare" else None
        recalibrate(model, islice(data.train_dataloader(), limit), forward=model.encode, rows=None)
        measured = inference.losses_by_mode(model, data, int(option("num_eval")), option("sizes"))
        yield from ({**about, **row} for row in (*measured, *inference.validation_gap(trained.curves)))

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Losses in full batches as `full`, and what evaluation in one way costs against another."""
        losses = where(m, quantity="loss").dropna(subset=["rows"])
        full = inference.in_full_batches(losses)
        yield from (m, full)
        yield inference.ways(full)
        yield paired(where(full, mode=["running", "training"]), "full", {"mode": "training"}, "gap")
        yield paired(where(m, mode=["running", "training"]), "loss_at", {"mode": "training"}, "gap_at")
        both = pd.concat([full, where(m, quantity="train_split")], ignore_index=True).assign(rows=0)
        yield paired(where(both, mode="training"), "full", {"quantity": "train_split"}, "generalization")
        yield from inference.averaged(where(full, base=SWEPT), where(full, base=SWEPT + inference.DEBIASED))
        yield from inference.own_moments(where(losses, norm=SWEPT), where(full, norm=SWEPT))
