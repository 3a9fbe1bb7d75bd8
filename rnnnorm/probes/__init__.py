"""Lightning callbacks that measure, per timestep and per layer, what normalization does to a training run.

Each works in any Trainer, with any LightningModule that contains `rnnnorm.LSTM`, `GRU` or `RNN`:

    Trainer(callbacks=rnnnorm.probes.all_probes(every=100))

`record` is what they are made of: every state of a network, with its gradient, per timestep.
"""

from __future__ import annotations

from rnnnorm.probes.active_rows import ActiveRows
from rnnnorm.probes.base import Measurement, Probe
from rnnnorm.probes.evaluation_gap import EvaluationGap
from rnnnorm.probes.gradient_flow import GradientFlow
from rnnnorm.probes.layer_record import LayerRecord
from rnnnorm.probes.recording import Recording, growth, record
from rnnnorm.probes.saturation import Saturation
from rnnnorm.probes.spectral_bound import SpectralBound
from rnnnorm.probes.step_statistics import StepStatistics

ALL: tuple[type[Probe], ...] = (
    GradientFlow,
    StepStatistics,
    ActiveRows,
    Saturation,
    EvaluationGap,
    SpectralBound,
)
"""Every probe."""


def all_probes(every: int | None = None) -> list[Probe]:
    """One of each, to be given to a Trainer.

    Args:
        every: training batches from one measurement to the next; None: what the length of the run asks for.

    Raises:
        ValueError: `every` below 1.
    """
    return [probe(every=every) for probe in ALL]


__all__ = [
    "ALL",
    "ActiveRows",
    "EvaluationGap",
    "GradientFlow",
    "LayerRecord",
    "Measurement",
    "Probe",
    "Recording",
    "Saturation",
    "SpectralBound",
    "StepStatistics",
    "all_probes",
    "growth",
    "record",
]
