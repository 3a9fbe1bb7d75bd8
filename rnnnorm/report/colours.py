"""Colours and line styles of norms, the same in every figure of every report."""

from __future__ import annotations

import colorsys
import zlib

# Found by maximizing the smallest OKLab distance between any two of them under normal vision, protanopia,
# deuteranopia and tritanopia (Machado et al. 2009), each hue held in its family's window and each colour's
# luminance between those of white and of a near-black page.
_COLOURS = {
    "none": "#878787",
    "bn-vertical": "#4e6dea",
    "bn-vertical-framewise": "#2d6779",
    "bn-shared": "#a8453f",
    "bn-timestep": "#d77810",
    "ln": "#48bc90",
    "ln-carried": "#c5b500",
    "wn": "#b04db1",
}


_DASHES = {"bn-vertical-framewise": "--", "bn-shared": "--", "ln-carried": "--", "wn": "-."}


def colour(norm: str) -> str:
    """The colour of a norm as `#rrggbb`: the same in every figure, whatever else is compared.

    The presets have colours that stay apart in the common kinds of colour blindness. A preset with overrides has its
    preset's hue at another lightness, any other name a hue of its own; both depend on the name alone.

    Args:
        norm: a preset's name, with overrides or without, or any other name.
    """
    if norm in _COLOURS:
        return _COLOURS[norm]
    base, _, overrides = norm.partition(":")
    # crc32, not hash(): Python salts the latter per process.
    number = zlib.crc32((overrides if base in _COLOURS and overrides else norm).encode())
    draw = number / 2**32
    if base not in _COLOURS:  # two of forty hues may look alike: lightness and saturation differ, too
        return _hex(draw, (0.42, 0.52, 0.62)[number % 3], (0.4, 0.55, 0.7)[number // 3 % 3])
    red, green, blue = (int(_COLOURS[base][k : k + 2], 16) / 255 for k in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    # Away from the preset's own lightness by a visible step, up or down, and never near black or white.
    steps = [step for step in (-0.24, -0.13, 0.13, 0.24) if 0.2 < lightness + step < 0.78]
    return _hex(hue, lightness + steps[int(draw * len(steps))], saturation)


def dashes(norm: str) -> str:
    """The line style of a norm, so that colour is not all: presets are dashed where others are like them.

    Presets with overrides are dashed in some way that depends on the overrides alone.
    """
    base, _, overrides = norm.partition(":")
    if not overrides:
        return _DASHES.get(base, "-")
    return ("-.", "--", ":")[zlib.crc32(overrides.encode()) % 3]


def _hex(hue: float, lightness: float, saturation: float) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, saturation))
