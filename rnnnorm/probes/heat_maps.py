"""Heat maps: a quantity as colour, against timestep and training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnnorm.probes.colour_scale import KINDS, ColourScale
from rnnnorm.probes.picture import Panel, paint
from rnnnorm.probes.table import Table

PANELS = 4


@dataclass(frozen=True)
class HeatMap:
    """One picture of a quantity for each layer, with a panel per series.

    Args:
        series: a table "<series>/<layer>/<panel>" is a panel of the layer's picture.
        title: what is shown, and in which unit.
        scale: one of the kinds of `ColourScale`; it is one scale for all layers.
        look: sentence that says what to look for.
        by_layer: False for a single picture, of which the tables "<series>/<panel>" are the panels.
        names: how panels are called, where not by the end of their table's name.
        threshold: series of which the last timestep that reaches a value is marked, as ("amplification", 100).
    """

    series: str
    title: str
    scale: str = "linear"
    look: str = ""
    by_layer: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    threshold: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        """Refuse other scales."""
        if self.scale not in KINDS:
            raise ValueError(f"scale must be one of {', '.join(KINDS)}, got {self.scale!r}")

    def panels(self, tables: Mapping[str, Table]) -> dict[str, Table]:
        """The tables it shows, by layer and panel."""
        start = self.series + "/"
        return {name.removeprefix(start): table for name, table in tables.items() if name.startswith(start)}

    def layers(self, tables: Mapping[str, Table]) -> dict[str, dict[str, Table]]:
        """The panels of each picture, by the layer, or "" for a single picture."""
        found: dict[str, dict[str, Table]] = {}
        for name, table in self.panels(tables).items():
            layer, _, panel = name.partition("/") if self.by_layer else ("", "", name)
            found.setdefault(layer, {})[panel] = table
        return found

    def draw(self, tables: Mapping[str, Table], shows: Mapping[str, str] | None = None) -> dict[str, NDArray[np.uint8]]:
        """The pictures by layer, (H, W, 3), of at most four panels; none where nothing has a colour.

        Args:
            tables: by name of the series.
            shows: per layer a sentence on what this picture shows.
        """
        scale = ColourScale.of(self.scale, [table.array() for table in self.panels(tables).values()])
        if scale is None:
            return {}
        found = {}
        for layer, panels in self.layers(tables).items():
            shown = {
                self.names.get(name, name): Panel(table.steps, table.array(), self._marks(tables, layer, name))
                for name, table in list(panels.items())[:PANELS]
            }
            title = f"{layer}: {self.title}" if layer else self.title
            if len(panels) > PANELS:
                title += f" (the first {PANELS} of {len(panels)})"
            found[layer] = paint(title, shown, scale, f"{self.look} {(shows or {}).get(layer, '')}")
        return found

    def _marks(self, tables: Mapping[str, Table], layer: str, panel: str) -> NDArray[Any] | None:
        """Per measurement the last timestep at which the other series reaches its threshold, or nan."""
        if self.threshold is None:
            return None
        series, least = self.threshold
        other = tables.get("/".join(part for part in (series, layer, panel) if part))
        return None if other is None else np.array([last_reaching(row, least) for row in other.array()])


def last_reaching(row: NDArray[Any], least: float) -> float:
    """The last t whose value is at least `least`, inf included; nan if there is none."""
    reached = np.flatnonzero(row >= least)
    return float(reached[-1]) if len(reached) else np.nan
