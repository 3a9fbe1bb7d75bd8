"""Heat maps: a quantity as colour, against timestep and training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnnnorm.probes.table import Table

if TYPE_CHECKING:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

SCALES = ("linear", "share", "log", "signed")
PANELS = 8


@dataclass(frozen=True)
class HeatMap:
    """One picture with a panel per series.

    Args:
        series: series whose names begin with it and a slash are its panels.
        label: of the colour bar.
        scale: "linear"; "share", from 0 to 1; "log", for what grows exponentially; or "signed", symmetric around 0.
    """

    series: str
    label: str
    scale: str = "linear"

    def __post_init__(self) -> None:
        """Refuse other scales."""
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {self.scale!r}")

    def panels(self, tables: Mapping[str, Table]) -> dict[str, Table]:
        """The series it shows, by the name of their panel."""
        start = self.series + "/"
        return {name.removeprefix(start): table for name, table in tables.items() if name.startswith(start)}

    def draw(self, tables: Mapping[str, Table]) -> Figure | None:
        """The picture, with at most eight panels; None where there is nothing that has a colour."""
        every = self.panels(tables)
        panels = {name: (table.steps, table.array()) for name, table in list(every.items())[:PANELS]}
        norm = self._norm([values for _, values in panels.values()])
        if norm is None:
            return None
        from matplotlib import colormaps  # slow to import, and a run may never draw
        from matplotlib.figure import Figure

        colours = colormaps["RdBu_r" if self.scale == "signed" else "viridis"].with_extremes(bad="0.85")
        columns = 1 if len(panels) == 1 else 2
        rows = -(-len(panels) // columns)
        width, height = (
            4 * columns + 1.6,
            1.8 * rows + 0.7,
        )  # inches; a layout engine would take as long as all the rest
        figure = Figure(figsize=(width, height), dpi=90)
        edges = {"left": 0.6 / width, "right": 1 - 1.2 / width, "bottom": 0.5 / height, "top": 1 - 0.5 / height}
        grid = figure.subplots(
            rows,
            columns,
            squeeze=False,
            sharex=True,
            sharey=True,
            gridspec_kw={**edges, "wspace": 0.06, "hspace": 0.25},
        )
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (name, (steps, values)) in zip(grid.flat, panels.items(), strict=False):
            borders = _edges(np.asarray(steps, dtype=float))
            image = axes.pcolormesh(
                borders, np.arange(values.shape[1] + 1) - 0.5, values.T, norm=norm, cmap=colours, rasterized=True
            )
            axes.set_title(name, fontsize=9, pad=3)
            axes.tick_params(labelsize=8)
        for axes in grid[-1]:
            axes.set_xlabel("training step", fontsize=9)
        for axes in grid[:, 0]:
            axes.set_ylabel("timestep t", fontsize=9)
        bar = figure.add_axes((1 - 1.0 / width, edges["bottom"], 0.15 / width, edges["top"] - edges["bottom"]))
        extend = "neither" if self.scale == "share" else "both"
        figure.colorbar(image, cax=bar, extend=extend).set_label(self.label, fontsize=8)
        bar.tick_params(labelsize=8, which="both")
        if len(every) > len(panels):
            figure.suptitle(f"the first {len(panels)} of {len(every)}", fontsize=9)
        return figure

    def _norm(self, arrays: list[NDArray[Any]]) -> Normalize | None:
        """One mapping to colours for all panels, 1st to 99th percentile; what has no place in it is gray."""
        from matplotlib.colors import LogNorm, Normalize

        found = np.concatenate([values.ravel() for values in arrays]) if arrays else np.empty(0)
        found = found[np.isfinite(found)]
        found = found[found > 0] if self.scale == "log" else found
        if not len(found):
            return None
        if self.scale == "share":
            return Normalize(0, 1)
        # A few entries, such as the first step without variance, would otherwise leave one colour to all others.
        low, high = np.percentile(found, (1, 99)).tolist()
        if self.scale == "log":
            return LogNorm(low, high if high > low else low * 1.01)
        if self.scale == "signed":
            reach = max(-low, high) or 1.0
            return Normalize(-reach, reach)
        return Normalize(low, high if high > low else low + 1)


def _edges(steps: NDArray[Any]) -> NDArray[Any]:
    """The borders between neighbouring columns, (n,) → (n + 1,)."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    between = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - between[0]], between, [2 * steps[-1] - between[-1]]])
