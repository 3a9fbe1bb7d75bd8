"""Declared plots: lines against a column, and rows of points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.report.colours import colour
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import HEIGHT, ROW, Panel, broken, linear_axis, lines, log_axis, points, rule
from rnnnorm.studies.framework.selection import Only, Words, fields, narrowed, occurring, signed, spoken
from rnnnorm.studies.framework.selection import points as points_of

FEW = 9
"""Up to so many places on the x axis each has a tick."""

Looks = Mapping[str, str] | Sequence[str] | Callable[[list[str]], Mapping[str, str]]
"""Line → its colour; or colours in the order of the lines; or a function from the lines to that mapping."""


@dataclass(frozen=True)
class Plot(ABC):
    """What plots have in common.

    Args:
        quantity: what is drawn, one or several.
        title: what the numbers are, with their unit; a format of the columns that have one value in all rows.
        axis: what the x axis shows, with its unit.
        about: what there is to see, in a sentence, for readers who cannot see it.
        only: column → which of its values.
        each: columns; each combination of their values has a plot of its own.
        line: the name of a line, or of a row of points: a format of the columns.
        colours: of the lines; without, those of the norms that they name.
        at: where on the x axis a thin upright line is drawn.
        at_text: what stands at that line.
        also: draws further things at the end, ticks of its own among them: a function of axes, theme and the rows.
    """

    quantity: str | Sequence[str]
    title: str
    axis: str
    about: str
    _: KW_ONLY
    only: Only = field(default_factory=dict)
    each: Sequence[str] = ()
    line: str = "{norm}"
    colours: Looks | None = None
    at: float | None = None
    at_text: str = ""
    also: Callable[[Axes, Theme, pd.DataFrame], None] | None = None

    @abstractmethod
    def panel(self, m: pd.DataFrame, words: Words) -> Panel:
        """The plot of some rows."""

    def panels(self, m: pd.DataFrame, words: Words) -> Iterator[Panel]:
        """The plots; none where nothing was measured.

        Args:
            m: measurements, derived quantities among them.
            words: how values are written.
        """
        only = {column: rule for column, rule in self.only.items() if column not in self.each}
        rows = narrowed(
            where(m, quantity=[self.quantity] if isinstance(self.quantity, str) else list(self.quantity)), only
        )
        rows = rows[np.isfinite(rows["value"].astype(float))] if len(rows) else rows
        for point in points_of(rows, self.each, self.only):
            here = where(rows, **point)
            if len(here):
                yield self.panel(self._named(here, words), words)

    def _named(self, rows: pd.DataFrame, words: Words, **formats: str) -> pd.DataFrame:
        """The rows with a column `line`, or others made by formats of the columns."""
        made = {}
        for column, text in (formats or {"line": self.line}).items():
            keys = rows[fields(text)].astype(object)
            values = [*keys.where(keys.notna(), None).itertuples(index=False, name=None)]
            names = {key: spoken(text, dict(zip(keys, key, strict=True)), words) for key in set(values)}
            made[column] = [names[key] for key in values]
        return rows.assign(**made)

    def _titled(self, text: str, rows: pd.DataFrame, words: Words) -> str:
        return spoken(text, {column: occurring(rows, column)[0] for column in fields(text)}, words)

    def _finish(self, axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
        if self.at is not None:
            rule(axes, theme, x=self.at, text=self.at_text)
        if self.also is not None:
            self.also(axes, theme, rows)

    def _colours(self, rows: pd.DataFrame) -> Mapping[str, str]:
        """Line → colour."""
        names = list(dict.fromkeys(rows["line"]))
        if self.colours is None:
            of_norm = dict(zip(rows["line"], rows["norm"], strict=True))
            return {name: colour(str(of_norm[name])) for name in names}
        if isinstance(self.colours, Mapping):
            return self.colours
        return self.colours(names) if callable(self.colours) else dict(zip(names, self.colours, strict=False))


@dataclass(frozen=True, kw_only=True)
class Lines(Plot):
    """Means over seeds against a column, in bands from the smallest to the largest seed.

    Args:
        x: the column.
        log: the logarithmic axes: "", "x", "y" or "xy".
        base: of a logarithmic x axis.
        ticks: of the x axis; without, all places if they are few, whole numbers or a logarithmic axis.
        y_ticks: of the y axis.
        linear_up_to: the y axis is linear up to this distance from 0, and logarithmic beyond.
        limits: the ends of the y axis, None: as it comes.
        above: values up to this are left out; a logarithmic axis has no place for 0.
        rule: where a thin line is drawn that says where nothing changes; or the quantity whose median is there.
        text: what stands at that line.
        curve: a formula of x to draw beside.
        formula: its name in the legend.
        styles: line → its style.
        marker: at each point; None: none.
        band: draw the bands.
    """

    x: str
    log: str = ""
    base: float = 10
    ticks: Sequence[float] | None = None
    y_ticks: Sequence[float] | None = None
    linear_up_to: float | None = None
    limits: tuple[float | None, float | None] | None = None
    above: float | None = None
    rule: float | str | None = None
    text: str = ""
    curve: Callable[[float], float] | None = None
    formula: str = ""
    styles: Mapping[str, str] | Callable[[str], str | None] | None = None
    marker: str | None = "o"
    band: bool = True

    def panels(self, m: pd.DataFrame, words: Words) -> Iterator[Panel]:
        """The plots; none where nothing was measured."""
        if isinstance(self.rule, str):
            level = where(m, quantity=self.rule)["value"]
            return replace(self, rule=float(level.median()) if len(level) else None).panels(m, words)
        return super().panels(m, words)

    def panel(self, m: pd.DataFrame, words: Words) -> Panel:
        """The plot of some rows."""
        least = self.above if self.above is not None else 0.0 if "y" in self.log else -np.inf
        rows = m[m["value"] > least]
        given = self.styles
        styles = {name: given(name) for name in set(rows["line"])} if callable(given) else dict(given or {})

        def draw(axes: Axes, theme: Theme) -> None:
            if isinstance(self.rule, int | float):
                rule(axes, theme, y=self.rule, text=self.text)
            lines(
                axes, rows, self.x, "line", colours=self._colours(m), marker=self.marker, band=self.band,
                styles={name: style for name, style in styles.items() if style},
            )  # fmt: skip
            places = occurring(rows, self.x)
            if self.curve is not None:
                axes.plot(places, [*map(self.curve, places)], "-.", color=theme.muted, label=self.formula)
            if self.limits is not None:
                axes.set_ylim(*self.limits)
            self._scale(axes, places)
            self._finish(axes, theme, rows)

        title = self._titled(self.title, m, words)
        return Panel(title, self.axis, draw, self.about)

    def _scale(self, axes: Axes, places: Sequence[float]) -> None:
        """Scales and ticks of both axes."""
        few = len(places) <= FEW and ("x" in self.log or all(float(place).is_integer() for place in places))
        ticks = self.ticks if self.ticks is not None else places if few else None
        if "x" in self.log:
            log_axis(axes, "x", self.base, ticks)
        elif ticks is not None:
            axes.set_xticks(list(ticks))
        else:
            linear_axis(axes, "x")
        if self.axis.startswith("timestep t") and "x" not in self.log and axes.get_xlim()[0] > 0:
            axes.set_xlim(left=0)
        if self.linear_up_to is not None:
            axes.set_yscale("symlog", linthresh=self.linear_up_to)
            axes.minorticks_off()
        if "y" in self.log:
            log_axis(axes, numbers=self.y_ticks)
        elif self.y_ticks is not None:
            axes.set_yticks(list(self.y_ticks), [signed(f"{tick:g}") for tick in self.y_ticks])
        elif self.linear_up_to is None:
            linear_axis(axes)


@dataclass(frozen=True, kw_only=True)
class Points(Plot):
    """A row per line: seeds as small dots, their mean as a large one.

    Args:
        series: the name of what stands side by side in each row, in colours of its own: a format of the columns.
        log: whether the x axis is logarithmic.
    """

    series: str = ""
    log: bool = False

    def panel(self, m: pd.DataFrame, words: Words) -> Panel:
        """The plot of some rows."""
        parts = [("", m)]
        if self.series:
            m = self._named(m, words, row=self.line, line=self.series)
            parts = [(str(name), part.assign(line=part["row"])) for name, part in m.groupby("line", sort=False)]
        rows = dict.fromkeys(str(name) for _, part in parts for name in part["line"])

        def draw(axes: Axes, theme: Theme) -> None:
            colours = self._colours(m)
            for number, (name, part) in enumerate(parts):
                groups = {str(row): group["value"].tolist() for row, group in part.groupby("line", sort=False)}
                one = dict.fromkeys(rows, colours.get(name) or colour(name)) if self.series else colours
                shift = (0.5 * (len(parts) - 1) - number) * min(0.16, 0.65 / len(parts))
                whole = [(row, groups.get(row, [])) for row in rows]
                points(axes, whole, theme, colours=one, shift=shift, label=name, names=number == 0)
            if self.log:
                log_axis(axes, "x")
            else:
                linear_axis(axes, "x", ticks=6)
            self._finish(axes, theme, m)

        pitch = ROW + 15 * max(broken(row).count("\n") for row in rows)
        height = max(HEIGHT, 80 + pitch * len(rows))
        return Panel(self._titled(self.title, m, words), self.axis, draw, self.about, height)
