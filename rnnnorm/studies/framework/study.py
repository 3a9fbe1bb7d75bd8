"""What a study is: a grid of trials, a measurement, a figure, a verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import pandas as pd

from rnnnorm.studies.framework.plots import Panel
from rnnnorm.studies.framework.settings import Settings
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Claim, Verdict

STUDIES: dict[str, type[Study]] = {}
"""Every study by its name, in the order of the report; a class enters by being defined."""


class Study(ABC):
    """One question about normalization, answered by an experiment.

    A subclass names the question and its claims, and says which trials there are, what is measured in each, how the
    figure looks, and what follows. Everything after `measure` works on the measurements alone, a tidy table with one
    number per row, so that verdicts and figures can be recomputed from `measurements.csv`.

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
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns that `measure` adds to the table: they are there also before the first trial has written them."""
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

    @abstractmethod
    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """The verdict on each claim that the measurements bear on.

        Args:
            m: the measurements: the conditions, `norm`, `seed`, `quantity`, `value` and the columns of `measure`.
        """

    @abstractmethod
    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """The plots of the figure, the most telling one first."""

    def findings(self, m: pd.DataFrame) -> list[str]:
        """Sentences made from the measurements that belong beside the figure; advice, above all."""
        return []

    def verdicts(self, m: pd.DataFrame) -> list[Verdict]:
        """The verdicts on what has been measured: a claim without any effect has none."""
        return [verdict for verdict in self.judge(m) if verdict.headline.effect.n > 0]

    def claim(self, key: str) -> Claim:
        """One of the claims by its key."""
        return next(claim for claim in self.claims if claim.key == key)
