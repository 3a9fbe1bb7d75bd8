"""Where normalizers stand in a recurrent layer, and the table of published combinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from .norms import Use, options_of, split_options

PLACES = ("input", "hidden", "cell", "between")


@dataclass(frozen=True)
class Norm:
    """The normalizers of an LSTM: which one stands at which place.

        a_t = N_input(W_ih x_t) + N_hidden(W_hh h_{t-1}) + b      i, f, o = σ(·)   g = tanh(·)
        c_t = f ⊙ c_{t-1} + i ⊙ g          h_t = o ⊙ tanh(N_cell(c_t))

    Args:
        input: vertical, on all rows of W_ih x; F = 4H, a gain and no bias.
        hidden: horizontal, on the active rows of W_hh h_{t-1}; F = 4H, a gain and no bias.
        cell: on the active rows of c_t, on the way to the output; F = H, gain and bias.
        between: vertical, on all rows that leave one layer for the next.
        carried: c_t itself is replaced by N_cell(c_t) and carried on: another model, in wide circulation.
        name: what the user called it; for display.

    A place takes None, `"ln"`, `"bn:statistics=timestep:gain=0.1"` or a `Use`. `wn` at `input` (`hidden`)
    reparametrizes W_ih (W_hh).

    Raises:
        ValueError: unknown normalizer or option, or one that cannot stand at that place.
    """

    input: Use | None = None
    hidden: Use | None = None
    cell: Use | None = None
    between: Use | None = None
    carried: bool = False
    name: str = field(default="", compare=False)

    def __init__(
        self,
        input: Use | str | None = None,
        hidden: Use | str | None = None,
        cell: Use | str | None = None,
        between: Use | str | None = None,
        carried: bool = False,
        name: str = "",
    ) -> None:
        for place, value in (("input", input), ("hidden", hidden), ("cell", cell), ("between", between)):
            use = Use.parse(value)
            if use is not None:
                use.check(place)
            object.__setattr__(self, place, use)
        if carried and self.cell is None:
            raise ValueError("carried=True replaces c_t by N_cell(c_t), but cell=None")
        object.__setattr__(self, "carried", bool(carried))
        object.__setattr__(self, "name", name or str(self))

    @property
    def places(self) -> dict[str, Use]:
        """The occupied places, in the order of the equations."""
        uses = {place: getattr(self, place) for place in PLACES}
        return {place: use for place, use in uses.items() if use is not None}

    def override(self, options: Mapping[str, Any], name: str = "") -> Norm:
        """A copy with options changed: `gain` at every place that has a gain, `hidden.gain` at that place only.

        Raises:
            ValueError: no place has that option; the message lists what exists.
        """
        uses: dict[str, Use] = self.places
        carried = self.carried
        for key, value in options.items():
            if key == "carried":
                carried = bool(value)
                continue
            place, dot, option = key.rpartition(".")
            targets = [p for p in uses if (not dot or p == place) and uses[p].accepts(option)]
            if not targets:
                exist = sorted({o for u in uses.values() for o in options_of(u.cls)})
                raise ValueError(
                    f"norm {self.name!r} has no option {key!r}; it has: {', '.join(exist) or 'none'}"
                    + (f"; places: {', '.join(uses)}" if dot else "")
                )
            for p in targets:
                uses[p] = replace(uses[p], options={**uses[p].options, option: value})
        return Norm(**uses, carried=carried, name=name or self.name)

    def __str__(self) -> str:
        parts = [f"{place}={use}" for place, use in self.places.items()] + (["carried"] if self.carried else [])
        return ", ".join(parts) or "none"


@dataclass(frozen=True)
class Preset:
    """One row of the table: a published combination under its name.

    Args:
        name: what a user types.
        norm: which normalizer stands where.
        statistics: what is estimated from what.
        source: who proposed it.
        description: one line.
    """

    name: str
    norm: Norm
    statistics: str
    source: str
    description: str


def _rows() -> Iterator[Preset]:
    step = "bn:statistics=timestep:gain=0.1"
    shared = "bn:statistics=shared:gain=0.1"
    yield Preset("none", Norm(), "none", "Hochreiter & Schmidhuber 1997", "the plain LSTM; equals torch.nn.LSTM")
    yield Preset(
        "bn-vertical",
        Norm(input="bn:statistics=sequence"),
        "one mean and variance over all rows",
        "Laurent et al. 2016; Amodei et al. 2016",
        "sequence-wise batch normalization of W_ih x only",
    )
    yield Preset(
        "bn-vertical-framewise",
        Norm(input="bn:statistics=timestep"),
        "one mean and variance per step",
        "Laurent et al. 2016",
        "batch normalization of W_ih x only, each step by itself",
    )
    yield Preset(
        "bn-shared",
        Norm(input=shared, hidden=shared, cell=shared),
        "batch moments per step, one running pair for all steps",
        "the naive horizontal batch normalization",
        "as bn-timestep, but all steps share their running averages",
    )
    yield Preset(
        "bn-timestep",
        Norm(input=step, hidden=step, cell=step),
        "batch moments and running pair per step",
        "Cooijmans et al. 2017",
        "BN-LSTM: input, recurrent and cell terms normalized, statistics per timestep, gain 0.1",
    )
    yield Preset("ln", Norm(input="ln", hidden="ln", cell="ln"), "per row", "Ba et al. 2016", "layer normalization")
    yield Preset(
        "ln-carried",
        Norm(input="ln", hidden="ln", cell="ln", carried=True),
        "per row",
        "the variant in wide circulation",
        "layer normalization whose normalized cell is carried on to the next step",
    )
    yield Preset(
        "wn",
        Norm(input="wn", hidden="wn"),
        "none",
        "Salimans & Kingma 2016",
        "weight normalization of W_ih and W_hh",
    )


PRESETS: dict[str, Preset] = {row.name: replace(row, norm=row.norm.override({}, name=row.name)) for row in _rows()}


def presets() -> Mapping[str, Preset]:
    """The preset table: name → `Preset`, in the order in which it is shown everywhere."""
    return MappingProxyType(PRESETS)


def parse_norm(norm: str | Norm | None) -> Norm:
    """A preset with optional overrides, `bn-timestep:gain=1.0:max_steps=50`, as a `Norm`.

    An option holds at every place that knows it; `hidden.gain=1.0` holds at one place.

    Raises:
        ValueError: unknown preset or option; the message lists those that exist.
    """
    if norm is None:
        return PRESETS["none"].norm
    if isinstance(norm, Norm):
        return norm
    if not isinstance(norm, str):
        raise ValueError(f"a norm is a preset's name or a rnnnorm.Norm, got {norm!r}")
    name, options = split_options(norm)
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown norm {name!r}{hint}; there are: {', '.join(PRESETS)}")
    return PRESETS[name].norm.override(options, name=norm)
