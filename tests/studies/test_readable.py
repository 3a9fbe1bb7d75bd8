"""Figures of all studies in made-up worlds: type that can be read, ticks that say a scale, one colour per norm."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import matplotlib.colors
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from studies import test_learning_rate, test_raggedness
from studies.test_worlds import WORLDS, quick

from rnnnorm.norms.presets import parse_norm
from rnnnorm.report.colours import colour, dashes
from rnnnorm.studies import STUDIES
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.modes import STYLES

pytestmark = pytest.mark.filterwarnings("ignore")

BATCH = ("bn-vertical", "bn-vertical-framewise", "bn-shared", "bn-timestep")
LEAST = 9.0  # pixels of type
PAGE = 384 / 470
"""By what a page scales a panel where columns are narrowest: `minmax(24rem, 1fr)` of a panel of 470 pixels."""
DOCUMENT = 830.0  # pixels of a picture's width in a document
TABLES: dict[str, Any] = {
    **WORLDS,
    "learning-rate": lambda study: test_learning_rate.world(),
    "raggedness": lambda study: test_raggedness.world(),
}


@pytest.fixture(scope="module", params=list(STUDIES))
def figure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Figure:
    """The figure of a study as it is saved."""
    saved: list[Figure] = []
    study = quick(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, *args, **keys: saved.append(self))
        save_figure(study.panels(TABLES[request.param](study)), tmp_path_factory.mktemp("figure"), study.question)
    FigureCanvasAgg(saved[0]).draw()
    return saved[0]


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """All that is written, and where."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    found = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible()]
    outside = {id(label) for axes in figure.axes for label in hidden(axes)}
    return [(t, t.get_window_extent(renderer)) for t in found if t.get_text().strip() and id(t) not in outside]


def hidden(axes: Any) -> list[Text]:
    """Labels of ticks that are not drawn, since they lie beyond the ends of their axis."""
    found: list[Text] = []
    for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            drawn = low - 1e-9 * abs(low) <= tick.get_loc() <= high + 1e-9 * abs(high)
            found += [tick.label2] if drawn else [tick.label1, tick.label2]
        found += [axis.offsetText]
    return found


def test_no_text_overlaps_another_or_leaves_the_figure(figure: Figure) -> None:
    written = texts(figure)
    whole = figure.bbox
    for text, box in written:
        assert box.x0 >= -1, text.get_text()
        assert box.y0 >= -1, text.get_text()
        assert box.x1 <= whole.x1 + 1, text.get_text()
        assert box.y1 <= whole.y1 + 1, text.get_text()
    for (one, a), (other, b) in combinations(written, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        upright = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1 or upright < 2, (one.get_text(), other.get_text())


def test_no_text_lies_upon_data(figure: Figure) -> None:
    for axes in figure.axes:
        plot = axes.get_window_extent()
        for text, box in texts(figure):
            across = min(plot.x1, box.x1) - max(plot.x0, box.x0)
            upright = min(plot.y1, box.y1) - max(plot.y0, box.y0)
            assert across < 1 or upright < 2, text.get_text()


def test_type_is_large_enough_where_it_is_shown(figure: Figure) -> None:
    scale = min(1.0, PAGE, DOCUMENT / figure.bbox.width)
    for text, _ in texts(figure):
        assert text.get_fontsize() * scale >= LEAST, text.get_text()


def test_logarithmic_axes_say_their_scale(figure: Figure) -> None:
    for axes in figure.axes:
        away = {id(label) for label in hidden(axes)}
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() != "linear":
                labels = {tick.label1.get_text() for tick in axis.get_major_ticks() if id(tick.label1) not in away} - {
                    ""
                }
                assert len(labels) >= 2, (axes.get_title("left"), labels)


def test_norms_look_as_in_the_report(figure: Figure) -> None:
    for axes in figure.axes:
        for line in axes.lines:
            norm = str(line.get_label())
            if is_norm(norm):
                assert matplotlib.colors.to_hex(line.get_color()) == colour(norm), norm
                assert line.get_linestyle() in (dashes(norm), "None"), norm


def test_what_is_no_norm_has_no_colour_of_one(figure: Figure) -> None:
    presets = {colour(norm): norm for norm in ("none", "ln", "wn", "ln-carried", *BATCH)}
    for axes in figure.axes:
        for line in axes.lines:
            label, paint = str(line.get_label()), matplotlib.colors.to_hex(line.get_color())
            if not label.startswith("_") and paint in presets:
                named = label.split(",")[0].split(" ")[0].split(":")[0]
                assert named == presets[paint] or named in ("BN", "skip", "no", "time"), (label, presets[paint])


def test_minus_signs_are_no_hyphens(figure: Figure) -> None:
    for text, _ in texts(figure):
        assert not re.search(r"(^|[\s(,e=])-\d", text.get_text()), text.get_text()


def test_a_mode_has_one_line_style(figure: Figure) -> None:
    for axes in figure.axes:
        for line in (line for line in axes.lines if line.get_linewidth() > 1):  # others are rules
            found = [style for mode, style in STYLES.items() if f"{mode} statistics" in str(line.get_label())]
            assert found in ([], [line.get_linestyle()]) or "bn-shared" in str(line.get_label()), line.get_label()


def is_norm(label: str) -> bool:
    try:
        parse_norm(label)
    except ValueError:
        return False
    return True


def test_timesteps_are_counted_from_0_and_called_alike(figure: Figure) -> None:
    for axes in figure.axes:
        name = axes.get_xlabel()
        if name.startswith("timestep") and "/" not in name and name != "timesteps T":
            assert axes.get_xlim()[0] <= 0
            assert name in ("timestep t", "timestep t (pixel)")
            assert axes.get_xscale() == "linear", "a logarithmic axis has no place for step 0"


@pytest.mark.parametrize("name", STUDIES)
def test_findings_begin_with_what_is_best_of_all(name: str) -> None:
    study = quick(name)
    assert study.findings(TABLES[name](study))[0].startswith("Best of all by ")
