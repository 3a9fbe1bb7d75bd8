"""`rnnnorm study`: one file per question; each is a grid of trials, a measurement, a figure, a verdict.

`framework` holds what all of them share, `data` data modules and training, `measures` measurements. A study enters
`framework.study.STUDIES` by being defined in a file of this package; its full configuration, and the quick one in it,
is `experiments/studies/<name>.yaml`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from rnnnorm.studies.framework.study import STUDIES, Study

ORDER = (
    "constant-slots",
    "gradient-flow",
    "zero-variance",
    "step-statistics",
    "raggedness",
    "padding",
    "longer-than-trained",
    "batch-size",
    "inference-gap",
    "online",
    "cost",
    "learning-rate",
    "depth",
    "initialization",
    "regularization",
    "vertical",
    "input-scaling",
    "ladder",
)
"""The order of the report; a study that is not named comes last."""

for _module in iter_modules(__path__):
    if not _module.ispkg:
        import_module(f"{__name__}.{_module.name}")

for _name in sorted(STUDIES, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
    STUDIES[_name] = STUDIES.pop(_name)

__all__ = ["ORDER", "STUDIES", "Study"]
