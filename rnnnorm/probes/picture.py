"""Picture of panels in the size of one of TensorBoard's cards, painted pixel by pixel.

A card of the Time Series tab shows a picture about 450 pixels wide, one of the Images tab 350, both without smoothing:
what is drawn in another size is hard to read there. A layout engine would take many times as long, in the middle of
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnnorm.probes.colour_scale import ColourScale

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

WIDTH, HEIGHT = 440, 214
"""Pixels: a card of the Time Series tab leaves 454 × 215, in a window of 1600 pixels."""
TYPE = 12
"""Pixels of the smallest type."""
LINE = 14
INK, SOFT, MARK = (32, 32, 32), (96, 96, 96), (230, 0, 60)
LEFT, RIGHT, TOP, BOTTOM, GAP = 46, 62, 34, 77, 8


class Panel(NamedTuple):
    """One heat map of a picture.

    Args:
        steps: training steps, ascending.
        values: (measurements, T).
        marks: per measurement a timestep to be marked, or nan.
    """

    steps: Sequence[int]
    values: NDArray[Any]
    marks: NDArray[Any] | None = None


@cache
def font(bold: bool = False) -> FreeTypeFont:
    """The typeface that comes with matplotlib."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, TYPE)


def paint(title: str, panels: Mapping[str, Panel], scale: ColourScale, text: str) -> NDArray[np.uint8]:
    """The picture, (HEIGHT, WIDTH, 3): panels side by side with a common bar, and up to three lines of text below."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    draw.text((4, 2), fitted(title, WIDTH - 8, bold=True), INK, font(bold=True))
    end = max(edges(panel.steps)[-1] for panel in panels.values())
    T = max(panel.values.shape[1] for panel in panels.values())
    room = WIDTH - LEFT - RIGHT
    width = (room - GAP * (len(panels) - 1)) // len(panels)
    height = HEIGHT - TOP - BOTTOM
    for k, (name, panel) in enumerate(panels.items()):
        left = LEFT + k * (width + GAP)
        draw.text((left + width / 2, TOP - 3), fitted(name, width + GAP, bold=False), INK, font(), anchor="ms")
        image.paste(Image.fromarray(_pixels(panel, scale, (width, height), end, T)), (left, TOP))
        draw.rectangle((left - 1, TOP - 1, left + width, TOP + height), outline=SOFT)
        _training_steps(draw, left, width, end)
    draw.text((LEFT + room / 2, TOP + height + 18), "training step", INK, font(), anchor="ma")
    _timesteps(image, draw, height, T)
    _bar(image, draw, height, scale)
    for k, line in enumerate(wrapped(text, WIDTH - 8)[:3]):
        draw.text((4, HEIGHT - 3 * LINE - 3 + k * LINE), line, INK, font())
    return np.asarray(image)


def edges(steps: Sequence[int]) -> NDArray[np.float64]:
    """The borders between neighbouring columns, half way and never below 0, (n,) → (n + 1,)."""
    at = np.asarray(steps, dtype=np.float64)
    if len(at) == 1:
        return np.array([max(at[0] - 0.5, 0.0), at[0] + 0.5])
    between = (at[1:] + at[:-1]) / 2
    return np.concatenate([[max(2 * at[0] - between[0], 0.0)], between, [2 * at[-1] - between[-1]]])


def _pixels(panel: Panel, scale: ColourScale, size: tuple[int, int], end: float, T: int) -> NDArray[np.uint8]:
    """The panel as (height, width, 3), t upwards; gray where nothing was measured."""
    width, height = size
    x = (np.arange(width) + 0.5) / width * end
    column = np.searchsorted(edges(panel.steps), x, side="right") - 1
    t = ((height - 1 - np.arange(height) + 0.5) / height * T).astype(int)
    padded = np.full((len(panel.steps) + 1, T), np.nan)  # the last column is what lies outside
    padded[:-1, : panel.values.shape[1]] = panel.values
    column = np.where((column < 0) | (column >= len(panel.steps)), len(panel.steps), column)
    pixels = scale.colours(padded[column][:, t]).transpose(1, 0, 2).copy()
    if panel.marks is not None:
        marks = np.append(panel.marks, np.nan)[column]
        for i in np.flatnonzero(np.isfinite(marks)):
            y = height - 1 - int((marks[i] + 0.5) / T * height)
            pixels[max(y - 1, 0) : y + 1, i] = MARK
    return pixels


def _training_steps(draw: ImageDraw, left: int, width: int, end: float) -> None:
    """0 and one or two round numbers below a panel."""
    y = HEIGHT - BOTTOM
    for value in round_numbers(end, 2 if width > 150 else 1):
        x = left + value / end * (width - 1)
        draw.line((x, y, x, y + 3), SOFT)
        half = draw.textlength(f"{value:,}", font()) / 2
        draw.text((min(x, left + width - half) if value else x, y + 4), f"{value:,}", INK, font(), anchor="ma")


def _timesteps(image: Any, draw: ImageDraw, height: int, T: int) -> None:
    """The axis of timesteps: the middle of a row is its t, the first is 0."""
    from PIL import Image, ImageDraw

    for value in round_numbers(T - 1, 3):
        y = TOP + height - 1 - (value + 0.5) / T * height
        draw.line((LEFT - 4, y, LEFT - 1, y), SOFT)
        draw.text((LEFT - 6, y), str(value), INK, font(), anchor="rm")
    label = Image.new("RGB", (height, LINE), "white")
    ImageDraw.Draw(label).text((height / 2, 0), "timestep t", INK, font(), anchor="ma")
    image.paste(label.rotate(90, expand=True), (2, TOP))


def _bar(image: Any, draw: ImageDraw, height: int, scale: ColourScale) -> None:
    """The bar of colours at the right."""
    from PIL import Image

    places = np.linspace(1, 0, height)
    low, high = scale.low, scale.high
    values = low * (high / low) ** places if scale.kind == "log" else low + (high - low) * places
    left = WIDTH - RIGHT + 10
    image.paste(Image.fromarray(np.repeat(scale.colours(values)[:, None], 9, 1)), (left, TOP))
    draw.rectangle((left - 1, TOP - 1, left + 9, TOP + height), outline=SOFT)
    for place, text in scale.ticks():
        y = TOP + (1 - place) * (height - 1)
        draw.line((left + 9, y, left + 11, y), SOFT)
        draw.text((left + 13, y), text, INK, font(), anchor="lm")


def round_numbers(end: float, most: int) -> list[int]:
    """0 and up to `most` further multiples of 1, 2 or 5 times a power of ten, not above `end`."""
    step = 1
    while int(end) // step > most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, int(end) + 1, step))


def wrapped(text: str, width: int) -> list[str]:
    """Lines no wider than some pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font().getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def fitted(text: str, width: int, bold: bool) -> str:
    """The text, or as much of it as has room, with an ellipsis."""
    if font(bold).getlength(text) <= width:
        return text
    while text and font(bold).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
