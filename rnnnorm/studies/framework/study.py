"""What a study is: a grid of trials, a measurement, a figure, a verdict."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.studies.framework.claim import Claim
from rnnnorm.studies.framework.figure import Plot
from rnnnorm.studies.framework.grid import Source, grid, sources
from rnnnorm.studies.framework.plots import Panel
from rnnnorm.studies.framework.selection import Words
from rnnnorm.studies.framework.sentence import Best, Sentence, divergence
from rnnnorm.studies.framework.settings import Settings, merged
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Condition, Row, Trial
from rnnnorm.studies.framework.verdict import Verdict, counted, judge
from rnnnorm.tasks import SequenceTask

RATE = "learning_rate"
STUDIES: dict[str, type[Study]] = {}
"""Every study by its name, in the order of the report; a class enters by being defined."""


class Study(ABC):
    """One question about normalization, answered by an experiment.

    A subclass names the question, says which trials there are and what is measured in each, and declares its claims,
    plots and sentences; see `rnnnorm.studies.framework`. Everything after `measure` works on the measurements alone, a
    tidy table with one number per row, so that verdicts and figures can be recomputed from `measurements.csv`. What
    cannot be declared is said by overriding `judge`, `panels` or `findings`.

    Args:
        settings: how large it is.
    """

    name: ClassVar[str]
    """On the command line, in folders, and the name of its file in `experiments/studies/`."""
    question: ClassVar[str]
    """One sentence with a question mark."""
    method: ClassVar[str]
    """What is measured and how, in a paragraph for the report."""
    claims: ClassVar[tuple[Claim, ...]]
    """What is judged, each claim by its contrasts."""
    plots: ClassVar[tuple[Plot, ...]] = ()
    """The figure, the most telling plot first."""
    best: ClassVar[Best | None] = None
    """Which of all that is compared is best; the first finding."""
    sentences: ClassVar[tuple[Sentence, ...]] = ()
    """Further findings that belong beside the figure."""
    diverged: ClassVar[str] = ""
    """How trainings that diverged are counted, as their finding says it: "count as guessing"."""
    diverged_by: ClassVar[str] = "{norm}"
    """What that finding tells apart: a format of the columns."""
    words: ClassVar[Words] = Words()
    """How the values of columns are written in conditions, plots and sentences."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns that `measure` adds to the table: they are there also before the first trial has written them."""
    counts: ClassVar[bool] = False
    """Whether verdicts count the conditions in which a claim holds, instead of listing them."""
    tuned_by: ClassVar[tuple[str, ...] | None] = None
    """Conditions under each of which every norm has a learning rate of its own (see `framework.rates`); None where
    nothing is trained, or where the study itself varies the rate."""
    own_loop: ClassVar[bool] = False
    """Whether `measure` trains, and yields the `val_loss` that rates are tuned by."""
    alone: ClassVar[bool] = False
    """Whether its trials measure time, so that nothing else may run beside them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            STUDIES[cls.name] = cls

    @abstractmethod
    def trials(self) -> list[Trial]:
        """The grid. Trials of one arm stand together; cheap and telling ones come first."""

    @abstractmethod
    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """The numbers of one trial, each a row with `quantity`, `value` and whatever says where (`t`, `mode`, …).

        Args:
            trial: which.
            trained: what its training left behind; None if it has no `config`.
        """

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Tables with the quantities that claims, plots and sentences name, some of them computed from others.

        Args:
            m: the measurements.
        """
        yield m

    def headline(self, **point: Any) -> Any:
        """A key of a condition: the one with the largest stands in the table of claims, the first one if all agree."""
        return 0

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """The verdict on each claim that the measurements bear on.

        Args:
            m: the measurements: the conditions, `norm`, `seed`, `quantity`, `value` and the columns of `measure`.
        """
        return self.judged(self.derived(m))

    def judged(self, m: pd.DataFrame) -> list[Verdict]:
        """The verdicts on a table with all derived quantities."""
        verdicts, of_trials = [], self.of_trials
        for claim in self.claims:
            found = [pair for contrast in claim.contrasts for pair in contrast.cases(m, self.words, of_trials)]
            if found:
                cases = [case for _, case in found]
                head = max(range(len(found)), key=lambda k: self.headline(**found[k][0]))
                verdicts.append(
                    judge(claim, claim.contrasts[0].unit, cases, counted(cases) if self.counts else "", head)
                )
        return verdicts

    @property
    def of_trials(self) -> set[str]:
        """Columns that tell trials apart, seeds aside; what differs in others was measured on the same runs."""
        return {"norm", *(column for trial in self.trials() for column in trial.conditions)}

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """The plots of the figure, the most telling one first."""
        m = self.derived(m)
        return [panel for plot in self.plots for panel in plot.panels(m, self.words)]

    def findings(self, m: pd.DataFrame) -> list[str]:
        """Sentences made from the measurements that belong beside the figure: what is best first, divergence last."""
        whole, best = self.derived(m), () if self.best is None else (self.best,)
        said = [text for sentence in (*best, *self.sentences) for text in sentence.said(whole, self.words)]
        return [*said, *divergence(m, self.diverged, self.diverged_by, self.words)]

    def derived(self, m: pd.DataFrame) -> pd.DataFrame:
        """All tables of `derive` as one; it may count on the `columns` being there."""
        m = m.assign(**{column: math.nan for column in self.columns if column not in m})
        tables = [table for table in self.derive(m) if len(table)]
        return pd.concat(tables, ignore_index=True) if tables else m.iloc[:0]

    def verdicts(self, m: pd.DataFrame) -> list[Verdict]:
        """The verdicts on what has been measured: a claim without any effect has none."""
        return [verdict for verdict in self.judge(m) if verdict.headline.effect.n > 0]

    def claim(self, key: str) -> Claim:
        """One of the claims by its key."""
        return next(claim for claim in self.claims if claim.key == key)

    def grid(
        self,
        axes: Mapping[str, Any],
        norms: Iterable[str] | None = None,
        config: Mapping[str, Any] | Callable[[Mapping[str, Condition]], Mapping[str, Any]] | None = None,
        weight: float | Callable[[Mapping[str, Condition]], float] = 1.0,
        seeds: Iterable[int] | None = None,
    ) -> list[Trial]:
        """A trial for every combination of conditions, norms and seeds, those of the settings where none are given.

        See `framework.grid.grid`.
        """
        own = self.settings
        return grid(axes, own.norms if norms is None else norms, own.seeds if seeds is None else seeds, config, weight)

    def place(self, trial: Trial) -> str | None:
        """Where a trial takes a learning rate of its norm's own; None where it does not: `task=order`, `all`."""
        if self.tuned_by is None or not (self.own_loop or trial.config):
            return None
        there = (f"{key}={trial.conditions[key]}" for key in self.tuned_by if key in trial.conditions)
        return ",".join(there) or "all"

    @property
    def about_rates(self) -> str:
        """How the learning rates of its norms were chosen, in a sentence; "" where the study itself varies them."""
        if self.tuned_by is None:
            return ""
        if not self.settings.rates:
            return "All norms have the same learning rate."
        return "Each norm has the learning rate with the least validation loss on seeds of its own (900 and 901)."

    def rated(self, config: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
        """A configuration with the learning rate of a trial: that among its conditions, or the tuned one of its norm.

        Args:
            config: `data`, `model` and `trainer`.
            trial: which.
        """
        place = self.place(trial)
        tuned = {} if place is None else self.settings.rates.get(place, {})
        rate = trial.conditions.get(RATE, tuned.get(trains_as(trial.norm)))
        return dict(config) if rate is None else merged(config, {"model": {"init_args": {RATE: float(rate)}}})

    def sources(
        self,
        generated: str | Mapping[str, Mapping[str, Any] | None],
        real: Mapping[str, Mapping[str, Any]] | None = None,
        common: Mapping[str, Any] | None = None,
    ) -> list[Source]:
        """The data at hand: the user's own, or generated and real ones: see `framework.grid.sources`."""
        return sources(self.settings, generated, real, common)


def trains_as(norm: str) -> str:
    """The norm whose training another one repeats: batch statistics do not depend on how they are averaged.

    >>> trains_as("bn-timestep:momentum=0.01:gain=1.0")
    'bn-timestep:gain=1.0'
    """
    return re.sub(r":(momentum|debias)=[^:]*", "", norm) if norm.startswith("bn-") else norm


class TrainedStudy(Study):
    """A study whose trials each train a network, and which measures by `evaluate` what did not diverge."""

    last_weights: ClassVar[bool] = False
    """Whether the last weights are meant, not those of the best checkpoint."""

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """What every trained trial has, and what `evaluate` measures; see there."""
        assert trained is not None
        yield from trained.rows()
        if trained.diverged:
            yield from self.lost(trained)
            return
        data = trained.data()
        yield from self.evaluate(
            trial, trained, trained.model(trained.run.last if self.last_weights else None, data), data
        )

    def lost(self, trained: Trained) -> Iterable[Row]:
        """The numbers of a network that diverged, beyond those that every trained trial has."""
        return ()

    @abstractmethod
    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """The numbers of one network, each a row as for `measure`.

        Args:
            trial: which.
            trained: what its training left behind.
            model: in evaluation mode.
            data: what it was trained on.
        """
