"""Scores per test sequence: what is needed to compute a test metric again on other draws of the sequences."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnnnorm.common.atomic import write_bytes

Array = NDArray[Any]

FORMS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda mean: mean,
    "exp": np.exp,
    "bits": lambda mean: mean / math.log(2),
    "root": np.sqrt,
}
"""Metrics as functions of a mean over predictions: accuracy or loss, perplexity, bits per character, RMSE."""


UNITS = ("sequence", "chunk")

RTOL, ATOL = 1e-4, 1e-7
"""How close a metric that is computed again comes to the one that was measured."""


@dataclass(frozen=True)
class SequenceScores:
    """Scores of one network on U test sequences, in each evaluation mode.

    A metric is decomposable if it is f(Σ_u s_u / Σ_u n_u) with one of the functions `FORMS`.

    Args:
        metric: its name.
        form: the key of f in `FORMS`.
        unit: "sequence", or "chunk": of a stream that is read on from batch to batch, the steps of one stream in one
            batch. Chunks are blocks of consecutive steps (Künsch 1989, the block bootstrap), since single steps depend
            on each other.
        counts: n_u, predictions in each unit, (U,) int32.
        sums: mode → s_u, sum of their contributions to the metric, (U,) int32 where these are whole numbers, else
            float32; in the order of the test batches, which is the same in all runs of a comparison. A network without
            batch statistics has the mode "running" only.
    """

    metric: str
    form: str
    unit: str
    counts: Array
    sums: Mapping[str, Array]

    def sums_by(self, mode: str) -> Array:
        """Sums in a mode, or those of the only mode there is, (U,) float64."""
        return self.sums[mode if mode in self.sums else "running"].astype(np.float64)

    def again(self, mode: str) -> float:
        """The metric over all sequences in a mode."""
        with np.errstate(all="ignore"):
            return float(FORMS[self.form](self.sums_by(mode).sum() / self.counts.sum()))

    @classmethod
    def of(
        cls,
        metric: str,
        unit: str,
        counts: Array,
        sums: Mapping[str, Array],
        measured: Mapping[str, float],
    ) -> Self | None:
        """Scores whose form is found by computing the metric again; None where no form gives what was measured.

        Args:
            metric: its name.
            unit: see above.
            counts: see above.
            sums: mode → (U,).
            measured: mode → the metric over all sequences.
        """
        total = counts.sum()
        if not sums or not total > 0 or not sums.keys() <= measured.keys():
            return None
        means = np.array([values.sum() / total for values in sums.values()])
        wanted = np.array([measured[mode] for mode in sums])
        if not (np.isfinite(means).all() and np.isfinite(wanted).all()):
            return None
        for form, function in FORMS.items():
            with np.errstate(all="ignore"):
                again = function(means)
            if np.allclose(again, wanted, rtol=RTOL, atol=ATOL):
                smaller = {mode: _small(values) for mode, values in sums.items()}
                return cls(metric, form, unit, counts.astype(np.int32), smaller)
        return None

    def write(self, path: Path) -> None:
        """Write a compressed file at once; the same scores give the same bytes.

        Raises:
            OSError: it cannot be written; the error names it.
        """
        content = io.BytesIO()
        texts = {key: np.array(getattr(self, key)) for key in ("metric", "form", "unit")}
        sums = {f"sum_{mode}": values for mode, values in self.sums.items()}
        np.savez_compressed(content, allow_pickle=False, **texts, count=self.counts, **sums)
        write_bytes(path, content.getbuffer())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Scores from a file.

        Raises:
            OSError: there is no such file.
            ValueError: it holds something else.
        """
        content = io.BytesIO(path.read_bytes())
        try:
            with np.load(content, allow_pickle=False) as file:
                metric, form, unit = (str(file[key]) for key in ("metric", "form", "unit"))
                sums = {key.removeprefix("sum_"): file[key] for key in file.files if key.startswith("sum_")}
                found = cls(metric, form, unit, file["count"], sums)
        except Exception as error:  # a broken archive fails by errors of all kinds
            raise ValueError(f"{path} holds no scores per sequence ({error})") from error
        arrays = (found.counts, *sums.values())
        shapes, types = {values.shape for values in arrays}, {str(values.dtype) for values in arrays}
        if found.form not in FORMS or unit not in UNITS or "running" not in sums or len(shapes) != 1:
            problem = f"form {found.form!r}, unit {unit!r}, shapes {sorted(shapes)}"
        elif found.counts.ndim != 1 or any(values.dtype.kind not in "iuf" for values in arrays):
            problem = f"{found.counts.ndim} axes of {', '.join(sorted(types))}"
        elif not (found.counts >= 0).all() or not found.counts.sum() > 0:
            problem = "counts that are no numbers of predictions"
        else:
            return found
        raise ValueError(f"{path} holds no scores per sequence ({problem})")


def _small(values: Array) -> Array:
    """The same numbers in half the room: int32 where they are whole, else float32."""
    whole = np.rint(values)
    return whole.astype(np.int32) if np.array_equal(whole, values) else values.astype(np.float32)
