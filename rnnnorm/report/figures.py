"""Figures of a comparison: the summary picture, and the page's inline panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnnorm.common.folder_names import norm_folder
from rnnnorm.report import panels
from rnnnorm.report.canvas import Theme, canvas, dress, name_axes, settings, small_canvas
from rnnnorm.report.curves import Band, Curve, bands
from rnnnorm.report.runs import HEADLINE
from rnnnorm.report.summary import Row, Summary
from rnnnorm.report.surface import PAGE, Surface


@dataclass
class Figures:
    """Draws one comparison.

    Args:
        summary: its table.
        curves: norm → the curves of each seed.
        surface: where it draws: into a page, or into files.
    """

    summary: Summary
    curves: Mapping[str, Sequence[Mapping[str, Curve]]]
    surface: Surface = PAGE
    order: list[str] = field(init=False)
    metric: str = field(init=False)
    ends: dict[str, list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.order = [row.norm for row in self.summary.rows]
        self.metric = self.summary.metric or self._logged_metric()
        self.ends = {
            row.norm: [run.number("diverged_at") for run in row.runs if np.isfinite(run.number("diverged_at"))]
            for row in self.summary.rows
        }

    def bands(self, tag: str) -> dict[str, Band]:
        """Norm → band of one tag."""
        return bands(self.curves, tag)

    def gaps(self) -> dict[str, list[float]]:
        """Norm → last validation loss under running statistics over that under the batch's own, one per seed."""
        gaps: dict[str, list[float]] = {}
        for norm, seeds in self.curves.items():
            for seed in seeds:
                if "val/loss" not in seed or "val/loss_batch" not in seed:
                    continue
                running, batch = seed.get("val_running/loss", seed["val/loss"]), seed["val/loss_batch"]
                both = np.intersect1d(running.step, batch.step)
                if len(both):
                    below = float(batch.value[batch.step == both[-1]][0])
                    if below > 0:
                        gaps.setdefault(norm, []).append(float(running.value[running.step == both[-1]][0]) / below)
        return gaps

    def summary_figure(self, theme: Theme) -> Figure:
        """Learning curves, final scores and the gap between evaluation modes, every norm in one row.

        Draw and save it within `canvas.settings()`.
        """
        count = len(self.order)
        names = max(len(panels.shorten(norm)) for norm in self.order) * 6.6 + 18
        width, height = 1120, max(380, 96 + 30 * count)
        left, plot, gap_plot, bottom, top = 52, 430, 150, 50, 44
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")
        inner = height - bottom - top

        def place(x: float, wide: float) -> tuple[float, float, float, float]:
            return (x / width, bottom / height, wide / width, inner / height)

        lines = figure.add_axes(place(left, plot))
        scores_left = left + plot + 44 + names
        scores = figure.add_axes(place(scores_left, width - scores_left - gap_plot - 44))
        gap = figure.add_axes(place(width - gap_plot - 14, gap_plot))
        for axes in (lines, scores, gap):
            dress(axes, theme)

        curves = self.bands(f"val/{self.metric}")
        panels.learning_curves(lines, curves, self.order, theme, ends=self.ends, ticks=6)
        name_axes(lines, "training step", f"validation {self.metric}", theme, 12)
        positions = [float(count - 1 - k) for k in range(count)]
        for axes in (scores, gap):
            axes.set_ylim(-0.7, count - 0.3)
            axes.set_yticks([])
            axes.grid(axis="x", color=theme.grid, linewidth=1)
            for y in positions:
                axes.axhline(y, color=theme.grid, linewidth=1, zorder=0)
        rows = {
            norm: float(scores.transData.transform((0, y))[1])
            for norm, y in zip(self.order, positions, strict=True)
        }  # fmt: skip
        panels.label_ends(lines, curves, self.order, theme, gap=16, size=12, reach=40, rows=rows)
        for norm in self.order:
            if norm not in curves:
                lines.annotate(panels.shorten(norm), (left + plot + 40, rows[norm]), xycoords="figure points",
                               fontsize=12, color=theme.ink, va="center_baseline")  # fmt: skip
        panels.final_scores(scores, self.summary.rows, positions, theme)
        name_axes(scores, "", f"test {self.metric}", theme, 12)
        panels.mode_legend(scores, theme)
        panels.statistics_gap(gap, self.gaps(), self.summary.rows, positions, theme)
        name_axes(gap, "", "val. loss, running ÷ batch", theme, 12)
        return figure

    def summary_svg(self) -> str:
        """The summary picture for a wide page."""
        with settings():
            return self.surface.put(
                self.summary_figure(self.surface.theme), "summary", self._summary_label(), "overview"
            )

    def scores_svg(self) -> str:
        """The final scores for a narrow page."""
        count = len(self.order)
        longest = max(len(panels.shorten(norm)) for norm in self.order)
        with settings():
            left = int(min(10 + 6.0 * longest, 170))
            figure, axes = canvas(360, 84 + 26 * count, (left, 10, 30, 48), self.surface.theme)
            positions = [float(count - 1 - k) for k in range(count)]
            axes.set_ylim(-0.7, count - 0.3)
            axes.set_yticks(positions, [panels.shorten(norm) for norm in self.order])
            axes.tick_params(axis="y", labelcolor=self.surface.theme.ink)
            axes.xaxis.grid(True, color=self.surface.theme.grid)
            panels.final_scores(axes, self.summary.rows, positions, self.surface.theme)
            panels.mode_legend(axes, self.surface.theme)
            return self.surface.put(figure, "scores", self._summary_label())

    def curve_svgs(self) -> list[str]:
        """Loss and metric in validation by training step, as far as they were logged; one panel if they are equal."""
        tags = {"val/loss": "validation loss", f"val/{self.metric}": f"validation {self.metric}"}
        if self.metric != "loss" and _equal(self.bands("val/loss"), self.bands(f"val/{self.metric}")):
            tags = {f"val/{self.metric}": f"validation loss ({self.metric})"}
        return [svg for tag, name in tags.items() if (svg := self.curve_svg(tag, name)) is not None]

    def curve_svg(self, tag: str, name: str) -> str | None:
        """One tag of all norms against the training step; None if no run logged it."""
        curves = self.bands(tag)
        return self._lines(curves, f"curve-{tag.replace('/', '-')}", "training step", name) if curves else None

    def train_svgs(self) -> list[tuple[Row, str]]:
        """One small panel per norm: its training loss, those of the others behind it."""
        losses, theme = self.bands("train/loss"), self.surface.theme
        return self._one_each(
            losses, "train", "Training loss", lambda axes, norm, gid: panels.one_of_many(axes, norm, gid, losses, theme)
        )

    def modes_svgs(self) -> list[tuple[Row, str]]:
        """One small panel per norm: validation loss as it is selected by, by running averages, by the batch's own."""
        own, running, batch = (self.bands(tag) for tag in ("val/loss", "val_running/loss", "val/loss_batch"))
        limits = [band.mean for way in (own, running, batch) for band in way.values()]
        return self._one_each(
            own, "modes", "Validation loss",
            lambda axes, norm, gid: panels.three_modes(
                axes, norm, gid, own, running, batch, self.surface.theme, limits
            ),
        )  # fmt: skip

    def _one_each(
        self, bands: Mapping[str, Band], key: str, what: str, draw: Callable[[Axes, str, str], None]
    ) -> list[tuple[Row, str]]:
        """A small panel per norm that has a band, drawn by `draw(axes, norm, gid)`."""
        drawn = []
        for k, row in enumerate(self.summary.rows):
            if row.norm not in bands:
                continue
            with settings():
                figure, axes = small_canvas(self.surface.theme)
                draw(axes, row.norm, f"norm:{k}")
                name, label = f"{key}-{norm_folder(row.norm)}", f"{what} of {row.norm} by training step"
                drawn.append((row, self.surface.put(figure, f"{key}-{k}", label, name)))
        return drawn

    def bucket_svgs(self) -> list[str]:
        """Test score by length, and by timestep where that says something else.

        It does not where only the last step is scored: the same elements are in the same ranges, one step lower.
        """
        lengths, steps = (
            [[(one.count, dict(one.scores)) for one in run.buckets.get(axis, ())] for run in self.summary.runs]
            for axis in ("length", "step")
        )
        axes = ("length",) if lengths == steps else ("length", "step")
        return [svg for axis in axes if (svg := self.buckets_svg(axis))]

    def buckets_svg(self, axis: str) -> str | None:
        """Test score by range of length or timestep; None if no run has one."""
        found: dict[str, dict[tuple[int, int], list[float]]] = {}
        for row in self.summary.rows:
            for run in row.runs:
                for bucket in run.buckets.get(axis, ()):
                    modes = (row.headline_mode, *HEADLINE)
                    score = next((bucket.scores[mode] for mode in modes if mode in bucket.scores), np.nan)
                    if np.isfinite(score):
                        found.setdefault(row.norm, {}).setdefault((bucket.low, bucket.high), []).append(score)
        ranges = sorted({bucket for scores in found.values() for bucket in scores})
        if not ranges:
            return None
        lines = {}
        for norm, scores in found.items():
            mine = [bucket for bucket in ranges if bucket in scores]
            values = [np.array(scores[bucket]) for bucket in mine]
            lines[norm] = Band(
                np.array([float(ranges.index(bucket)) for bucket in mine]),
                np.array([value.mean() for value in values]),
                np.array([value.min() for value in values]),
                np.array([value.max() for value in values]),
            )
        x = "sequence length (steps)" if axis == "length" else "timestep"
        return self._lines(lines, f"buckets-{axis}", x, f"{self.bucket_score()} by {x.split(' (')[0]}", ranges)

    def bucket_score(self) -> str:
        """Name of a bucket's score: that of the metric only where it is a mean over elements."""
        by_task = {"language-modelling": "loss (nats)", "multi-label": "loss (nats)", "regression": "squared error"}
        return f"test {by_task.get(self.summary.task, self.metric)}"

    def _lines(self, lines: Mapping[str, Band], key: str, x: str, y: str,
               ranges: Sequence[tuple[int, int]] = ()) -> str:  # fmt: skip
        with settings():
            longest = max(len(panels.shorten(norm)) for norm in lines)
            height = max(280, 70 + 14 * len(lines))
            figure, axes = canvas(380, height, (42, int(min(26 + 5.6 * longest, 165)), 30, 42), self.surface.theme)
            panels.learning_curves(
                axes, lines, self.order, self.surface.theme, ends=None if ranges else self.ends, ticks=3
            )
            if ranges:
                last = len(ranges) - 1
                axes.set_xlim(-0.15, last + 0.15)
                shown = range(0, len(ranges), max(1, -(-len(ranges) // 5)))
                axes.set_xticks(list(shown), [_range(*ranges[k]) for k in shown], fontsize=10)
                for line in axes.get_lines():
                    line.set_marker("o")
                    line.set_markersize(4)
            panels.label_ends(axes, lines, self.order, self.surface.theme, gap=14, size=10)
            name_axes(axes, x, y, self.surface.theme)
            return self.surface.put(figure, key, f"{y} against {x}, one line per norm: {', '.join(lines)}")

    def _summary_label(self) -> str:
        ranking = ", ".join(f"{row.norm} {row.headline}" for row in self.summary.ranked)
        return f"Test {self.metric} per norm, best first: {ranking or 'none yet'}"

    def _logged_metric(self) -> str:
        """The validation metric by its tag, where no run has ended and told its name."""
        tags = {tag for seeds in self.curves.values() for seed in seeds for tag in seed if tag.startswith("val/")}
        return next((tag.removeprefix("val/") for tag in sorted(tags - {"val/loss", "val/loss_batch"})), "loss")


def _equal(some: Mapping[str, Band], others: Mapping[str, Band]) -> bool:
    """Whether the curves are the same but for rounding; not where there are none."""
    pairs = [(band, others.get(norm)) for norm, band in some.items()]
    return bool(pairs) and some.keys() == others.keys() and all(
        other is not None and np.array_equal(band.step, other.step) and np.allclose(band.mean, other.mean, rtol=1e-4)
        for band, other in pairs
    )  # fmt: skip


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"
