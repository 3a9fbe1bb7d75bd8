"""Tasks: LightningModules around `rnnnorm.LSTM`, one per kind of prediction."""

from __future__ import annotations

from rnnnorm.data.base import Spec
from rnnnorm.tasks.base import SequenceTask
from rnnnorm.tasks.classification import Classification
from rnnnorm.tasks.divergence import StopOnDivergence
from rnnnorm.tasks.language_modelling import LanguageModelling
from rnnnorm.tasks.multi_label import MultiLabel
from rnnnorm.tasks.population import PopulationStatistics
from rnnnorm.tasks.regression import Regression
from rnnnorm.tasks.scores import Scores
from rnnnorm.tasks.tagging import Tagging

TASKS: dict[str, type[SequenceTask]] = {
    cls.task: cls for cls in (Classification, Tagging, LanguageModelling, Regression, MultiLabel)
}
"""Every task by the name it has in a `Spec`."""


def for_spec(spec: Spec) -> type[SequenceTask]:
    """The LightningModule for that kind of data.

    Raises:
        ValueError: no module has that task; the message lists those that exist.
    """
    if spec.task not in TASKS:
        raise ValueError(f"unknown task {spec.task!r}; there are: {', '.join(TASKS)}")
    return TASKS[spec.task]


__all__ = [
    "TASKS",
    "Classification",
    "LanguageModelling",
    "MultiLabel",
    "PopulationStatistics",
    "Regression",
    "Scores",
    "SequenceTask",
    "StopOnDivergence",
    "Tagging",
    "for_spec",
]
