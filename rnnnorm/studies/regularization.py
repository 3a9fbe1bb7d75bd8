"""Does batch normalization regularize? Against dropout, together with it, with few and with many training sequences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import pandas as pd
import torch
from lightning import LightningDataModule

from rnnnorm.studies.data.plain_training import evaluate
from rnnnorm.studies.data.real import VOWELS
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Trained, TrainedStudy, Trial, Words
from rnnnorm.studies.framework.derive import by_others, paired
from rnnnorm.studies.framework.grid import Source
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.modes import in_every_mode
from rnnnorm.studies.framework.trial import Condition
from rnnnorm.studies.measures.guessing import guess
from rnnnorm.tasks import SequenceTask

BN, NEEDED = ("bn-vertical", "bn-timestep"), 0.01
BATCHES = 64  # of the training split that are evaluated: enough for a mean


def number(train: str) -> float:
    """How many training sequences; infinite for real data, which come last."""
    count, _, noun = train.partition(" ")
    return float(count) if noun == "sequences" else math.inf


def spelled(train: str) -> str:
    """A training set in words."""
    return "your data" if train == "own" else train.replace(" sequences", " training sequences")


def by_size(found: Sequence[str]) -> list[str]:
    """The training sets, generated ones first and by size."""
    return sorted(found, key=lambda train: (number(train), train))


def ends(found: Sequence[str]) -> list[str]:
    """The smallest and the largest generated training set, and the last one of the others."""
    generated = [train for train in by_size(found) if number(train) < math.inf]
    return list(dict.fromkeys([*by_size(found)[:1], *generated[-1:], *by_size(found)[-1:]]))


alone = partial(Contrast, against="none", by=("train",), only={"train": by_size, "dropout": 0.0}, needed=NEEDED,
                label="{norm}, {train}")  # fmt: skip
beside = partial(Contrast, norms=BN, by=("train", "norm", "dropout"), needed=NEEDED, label="{norm}{dropout}, {train}",
                 only={"train": by_size, "dropout": lambda rates: [rate for rate in rates if rate > 0]})  # fmt: skip


class Regularization(TrainedStudy):
    """Batch normalization against dropout."""

    name = "regularization"
    tuned_by = ("train",)
    question = "Does batch normalization regularize, and does it need dropout beside it?"
    method = (
        "Two-layer LSTMs are trained on few and on many sequences of one generated problem, noisy series from four "
        "sources, all for the same number of sequences seen, to the end. Score is the accuracy of "
        "the last weights by population statistics, taken with dropout, under which inputs vary more than in "
        "evaluation; the gap is that on training minus that on test sequences. Dropout acts on what enters each layer "
        "and the head, never on the recurrence. The better one of two is chosen for each seed by the others. With "
        "data at hand also on Japanese vowels, 225 training utterances. A difference counts from 0.01."
    )
    last_weights = True
    columns = ("mode", "split")
    claims = (
        Claim("regularizes", "Batch normalization regularizes: training and test lie closer together than without it.",
              "after Ioffe & Szegedy, ICML 2015",
              contrast=alone("gap", "gap without minus gap with, accuracy", BN, turned=True)),
        Claim("better", "Where data are few, networks with batch normalization generalize better.",
              "after Ioffe & Szegedy, ICML 2015; denied for recurrent networks by Laurent et al., ICASSP 2016",
              "word PTB, validation perplexity: 119.2 without, 120.9 with vertical BN (small model)",
              contrast=alone("score", "test accuracy gained", BN)),
        Claim("instead", "With batch normalization dropout can be left out.", "after Ioffe & Szegedy, ICML 2015",
              contrast=beside("score", "test accuracy gained by dropout", against={"dropout": 0.0}, below=True)),
        Claim("disharmony", "Dropout and batch normalization together are worse than the better one of them.",
              "Li et al., CVPR 2019, for convolutional networks",
              contrast=beside("lost", "test accuracy of the better one minus both")),
        Claim("ln-overfits", "Layer normalization optimizes better but also overfits more.",
              "Laurent, Ballas & Vincent 2017", contrast=alone("gap", "gap with ln minus gap without, accuracy", "ln")),
    )  # fmt: skip
    diverged = "count as guessing"
    words = Words(train=spelled, dropout=lambda rate: f" with dropout {rate:g}" if rate else "",
                  split={"train": ", training data", "test": ""})  # fmt: skip
    plots = (
        Lines("final", "test accuracy (dashed: on training data), {train}", "dropout", "Solid: test; dashed: training.",
              x="dropout", each=("train",), only={"train": ends}, line="{norm}{split}",
              styles=lambda line: "--" if line.endswith(", training data") else "-"),
        Lines("gap", "training minus test accuracy (share), no dropout", "training sequences", "The gap.", x="size",
              log="x", rule=0.0, only={"dropout": 0.0, "size": lambda sizes: sizes if len(sizes) > 1 else []}),
    )  # fmt: skip
    best = Best("score", "test accuracy", "`{norm}`{dropout}", "on {train}", {"train": by_size}, greatest=True)
    sentences = (
        Sentence("On {train} the widest gap between training and test is that of {first}.", ("train",),
                 {"train": by_size}, "`{norm}`{dropout}, {gap:.3f}", ("norm", "dropout"), rising=False, least=2),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Training sets × dropout × norms × seeds."""
        option, made = self.settings.option, list[Trial]()
        fewer = {f"{size} sequences": {"data": {"init_args": {"num_train": size}}} for size in option("train")}
        for source in self.sources(fewer, {"Japanese vowels": VOWELS}):
            axes: dict[str, Any] = {"train": source.name, "dropout": [float(rate) for rate in option("dropouts")]}
            made += self.grid(axes, config=partial(self._configured, source), weight=3.0)
        return made

    def _configured(self, source: Source, here: Mapping[str, Condition]) -> dict[str, Any]:
        """All generated training sets are seen as often: the fewer sequences, the more epochs."""
        option, size = self.settings.option, number(source.name)
        changes: dict[str, Any] = {"model": {"dropout": here["dropout"]}}
        if not self.settings.own:
            epochs = int(option("vowels")) if source.real else max(1, round(float(option("sequences")) / size))
            changes["trainer"] = {"max_epochs": epochs, "check_val_every_n_epoch": max(1, epochs // 4)}
        if size < math.inf:
            batch = int(self.settings.config["data"]["init_args"]["batch_size"])
            changes["trainer"]["log_every_n_steps"] = max(1, min(10, int(size) // batch))
        return source.configured(**changes)

    def lost(self, trained: Trained) -> Iterable[Row]:
        """`final` of a network that guesses."""
        yield from ({"quantity": "final", "split": split, "value": guess(trained)} for split in ("train", "test"))

    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """`final` by `split`, train and test: mean score of the last weights; `gap` is their difference."""
        torch.manual_seed(trial.seed)  # dropout is drawn while statistics are taken
        scores = dict[str, float]()
        sign = 1 if model.metric_mode == "max" else -1
        for _ in in_every_mode(model, islice(data.train_dataloader(), BATCHES), ["population"], as_trained=True):
            splits = {"train": islice(data.train_dataloader(), BATCHES), "test": data.test_dataloader()}
            for split, batches in splits.items():
                scores[split] = sign * evaluate(model, batches)[1]
                yield {"quantity": "final", "split": split, "value": scores[split]}
        yield {"quantity": "gap", "value": scores["train"] - scores["test"]}

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """The test `score`; what of it is gained `by_dropout`, `by_norm`, and `lost` against the better one alone."""
        m = m.assign(size=m["train"].map(number).replace(math.inf, math.nan))
        score = where(m, quantity="final", split="test").assign(quantity="score")
        per = ["train", "norm", "dropout"]
        ways: dict[str, dict[str, Any]] = {"by_dropout": {"dropout": 0.0}, "by_norm": {"norm": "none"}}
        both = pd.concat([paired(score, "score", one, name) for name, one in ways.items()], ignore_index=True)
        both = both[both.groupby([*per, "seed"])["quantity"].transform("nunique") == 2].dropna(subset=["value"])
        yield from (m, score)
        yield by_others(both, "quantity", per).assign(quantity="lost", value=lambda rows: -rows["value"])
