"""Presets: published combinations of normalizers, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from types import MappingProxyType
from typing import Any

from ..common.suggestions import did_you_mean
from .base import NORMALIZERS, Normalizer, WeightNormalizer
from .places import Norm
from .plugins import PLUGINS, installed, load, load_installed, loaded, split_reference
from .use import Use, class_name, split_options


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
    window, frozen, ghost = step + ":window=10", step + ":frozen=true", step + ":ghost=16"
    renorm, regularized, cross, accumulated, iterations = (
        f"{name}:statistics=timestep:gain=0.1" for name in ("brn", "rbn", "cmbn", "cmbn-accumulated", "cbn")
    )
    yield Preset(
        "none", Norm(), "none", "Hochreiter & Schmidhuber 1997", "the plain LSTM: torch.nn.LSTM, up to rounding"
    )
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
        "bn-vertical-ln",
        Norm(input="bn:statistics=sequence", hidden="ln"),
        "W_ih x: one mean and variance over all rows; W_hh h: per row",
        "Moumen & Parcollet 2023",
        "bn-vertical with layer normalization of W_hh h; in a LiGRU the SLi-GRU",
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
        "ln-per-gate",
        Norm(input="gn", hidden="gn"),
        "per row and gate",
        "Hou et al. 2019",
        "layer normalization of each gate by itself; the cell is left alone",
    )
    yield Preset(
        "ln-sum",
        Norm(joint="ln", cell="ln"),
        "per row",
        "Ba et al. 2016",
        "one layer normalization of the sum W_ih x + W_hh h, as in the paper's plain RNN, and one of the cell",
    )
    yield Preset(
        "ln-cell-only",
        Norm(cell="ln"),
        "per row",
        "Ba et al. 2016",
        "layer normalization of the cell only, as in the paper's DRAW model",
    )
    yield Preset(
        "ln-simple",
        Norm(input="ln:affine=false", hidden="ln:affine=false", cell="ln:affine=false"),
        "per row",
        "Xu et al. 2019",
        "layer normalization without learned gain and bias",
    )
    yield Preset(
        "adanorm",
        Norm(input="adanorm", hidden="adanorm", cell="adanorm"),
        "per row",
        "Xu et al. 2019",
        "AdaNorm in the places of ln: the gain is computed from the row",
    )
    yield Preset(
        "rms",
        Norm(input="rms", hidden="rms", cell="rms"),
        "per row",
        "Zhang & Sennrich 2019",
        "RMSNorm in the places of ln: no mean, no bias",
    )
    yield Preset(
        "basicnorm",
        Norm(input="basicnorm", hidden="basicnorm", cell="basicnorm"),
        "per row",
        "Povey et al. 2022 (icefall)",
        "BasicNorm in the places of ln: by the length of a row, but short rows stay short",
    )
    yield Preset(
        "biasnorm",
        Norm(input="biasnorm", hidden="biasnorm", cell="biasnorm"),
        "per row",
        "Yao et al. 2024",
        "BiasNorm in the places of ln: by the distance of a row from a learned vector",
    )
    yield Preset(
        "gn",
        Norm(input="gn", hidden="gn", cell="gn:groups=1"),
        "per row and group",
        "Wu & He 2018",
        "group normalization: four groups at the gates, which is one per gate, and one at the cell",
    )
    yield Preset(
        "lrn",
        Norm(output="lrn"),
        "per row and neighbourhood",
        "Krizhevsky et al. 2012",
        "local response normalization of h_t across neighbouring hidden units",
    )
    yield Preset(
        "dyt",
        Norm(input="dyt", hidden="dyt", cell="dyt"),
        "none",
        "Zhu et al. 2025",
        "dynamic tanh in the places of ln: g tanh(αx) + b",
    )
    yield Preset(
        "derf",
        Norm(input="derf", hidden="derf", cell="derf"),
        "none",
        "Chen et al. 2025",
        "dynamic erf in the places of ln: g erf(αx + s) + b",
    )
    yield Preset(
        "atn",
        Norm(input="atn", hidden="atn", cell="atn"),
        "per sequence, over its last 5 steps",
        "Pospisil et al. 2022",
        "assorted-time normalization: layer normalization whose moments reach some steps back",
    )
    yield Preset(
        "normprop",
        Norm(input="normprop-input", hidden="normprop-hidden", cell="normprop-cell", output="normprop-output"),
        "none: constants computed beforehand",
        "Laurent et al. 2017",
        "recurrent normalization propagation: weight rows of fixed length, cell and output by constants",
    )
    yield Preset(
        "online",
        Norm(joint="online"),
        "exponential averages over all samples and steps, also in training",
        "Chiley et al. 2019",
        "online normalization of each gate's sum, scaled per gate; controlled backward pass",
    )
    yield Preset(
        "streaming",
        Norm(input="streaming", hidden="streaming"),
        "average since the last weight update and before it, over all steps, also in training",
        "Liao et al. 2016",
        "streaming normalization of input and recurrent terms; streaming:p=1 for mean absolute deviations",
    )
    yield Preset(
        "power",
        Norm(input="power:statistics=sequence", hidden="power", cell="power"),
        "running quadratic mean, after a warm-up also in training",
        "Shen et al. 2020",
        "PowerNorm in the places of ln: no mean, approximate backward pass",
    )
    yield Preset(
        "bn-joint",
        Norm(joint="bn:statistics=timestep"),
        "batch moments and running pair per step",
        "Laurent et al. 2016; Amodei et al. 2016",
        "batch normalization of the sum W_ih x + W_hh h, which both papers report as a failure",
    )
    yield Preset(
        "bn-star",
        Norm(input="bn:statistics=sequence:gain=0.1:eps=1e-06", hidden=step, cell=step),
        "W_ih x: one mean and variance over all rows; the others: moments and running pair per step",
        "Cooijmans et al. 2017",
        "BN-e*: bn-timestep, but the input term is normalized over the whole sequence",
    )
    yield Preset(
        "bn-window",
        Norm(input=window, hidden=window, cell=window),
        "batch moments per step, a running pair per 10 steps",
        "between bn-timestep (window=1) and bn-shared (window of all steps)",
        "as bn-timestep, but blocks of 10 steps share their running averages",
    )
    yield Preset(
        "bn-ghost",
        Norm(input=ghost, hidden=ghost, cell=ghost),
        "moments per step of parts of 16 sequences; a running pair per step",
        "Hoffer et al. 2017, in the places of Cooijmans et al. 2017",
        "ghost batch normalization: as bn-timestep, but as noisy as batches of 16 are",
    )
    yield Preset(
        "bn-frozen",
        Norm(input=frozen, hidden=frozen, cell=frozen),
        "stored ones, in training, too; never updated",
        "common practice of fine-tuning",
        "as bn-timestep, but with constant statistics: those of a state dict, or mean 0 and variance 1",
    )
    yield Preset(
        "brn",
        Norm(input=renorm, hidden=renorm, cell=renorm),
        "batch moments per step, corrected towards running averages per step",
        "Ioffe 2017, in the places of Cooijmans et al. 2017",
        "batch renormalization: training approaches what evaluation computes",
    )
    yield Preset(
        "rbn",
        Norm(input=regularized, hidden=regularized, cell=regularized),
        "batch moments and running pair per step",
        "Wang et al. 2022, in the places of Cooijmans et al. 2017",
        "regularized batch normalization: as bn-timestep, with a penalty on what evaluation will do otherwise",
    )
    yield Preset(
        "cmbn",
        Norm(input=cross, hidden=cross, cell=cross),
        "exponential averages over batches per step, in training, too",
        "after Bochkovskiy et al. 2020, in the places of Cooijmans et al. 2017",
        "cross mini-batch normalization by exponential averages",
    )
    yield Preset(
        "cmbn-accumulated",
        Norm(input=accumulated, hidden=accumulated, cell=accumulated),
        "moments per step of up to 4 mini-batches; running averages per step",
        "Bochkovskiy et al. 2020, in the places of Cooijmans et al. 2017",
        "cross mini-batch normalization inside one gradient-accumulation batch",
    )
    yield Preset(
        "cbn",
        Norm(input=iterations, hidden=iterations),
        "moments of the last 4 iterations per step, moved to the present weights; running averages per step",
        "Yao et al. 2021, in the places of Hou et al. 2019",
        "cross-iteration batch normalization of both products; the cell, which has no weight, is left alone",
    )
    yield Preset(
        "wn",
        Norm(input="wn", hidden="wn"),
        "none",
        "Salimans & Kingma 2016",
        "weight normalization of W_ih and W_hh",
    )
    yield Preset(
        "wn-mobn",
        Norm(input="wn", hidden="wn", joint="mobn:statistics=timestep"),
        "batch mean and running mean per step",
        "Salimans & Kingma 2016",
        "weight normalization of W_ih and W_hh, and mean-only batch normalization of their sum",
    )
    yield Preset(
        "ws",
        Norm(input="ws", hidden="ws"),
        "none",
        "after Qiao et al. 2019",
        "weight standardization of W_ih and W_hh, with a learned length per row",
    )
    yield Preset(
        "sn",
        Norm(input="sn", hidden="sn"),
        "none",
        "Miyato et al. 2018",
        "spectral normalization of W_ih and W_hh: no vector is stretched by more than 1",
    )
    yield Preset(
        "orthogonal",
        Norm(input="orthogonal", hidden="orthogonal"),
        "none",
        "after Helfrich et al. 2018",
        "orthogonal W_hh and W_ih, gate by gate",
    )


PRESETS: dict[str, Preset] = {row.name: replace(row, norm=row.norm.override({}, name=row.name)) for row in _rows()}


CORE = ("none", "bn-vertical", "bn-vertical-framewise", "bn-shared", "bn-timestep", "ln", "ln-carried", "wn")
"""The presets a comparison runs unless it is told which: one of each kind, vertical and horizontal."""


Plugin = Preset | Norm | type[Normalizer] | type[WeightNormalizer] | Callable[..., Any]
"""What can be a preset: one, a `Norm`, a normalizer's class, or a function that returns one of these."""

_REGISTERED: dict[str, Plugin] = {}
"""What `register` was given, by name."""

GROUPS = ("core", "all")
"""Names that stand for several presets."""


def presets() -> Mapping[str, Preset]:
    """The preset table: name → `Preset`, in the order in which it is shown everywhere; the user's own come last.

    Example:
        >>> presets()["ln"].source
        'Ba et al. 2016'
    """
    return MappingProxyType(PRESETS)


def register(name: str, preset: Plugin) -> None:
    """Registration of a preset of one's own, which then has a place in the table and is known wherever a norm is named.

    Args:
        name: what users type; letters, digits, `-`, `_`, `.`, or a reference `module:attribute`.
        preset: a `Preset`; a `Norm`; a class derived from `Normalizer`, which then stands at `input`, `hidden` and
            `cell`, as far as it can; or a function that returns one of these. Options of the norm's text that the
            function takes are its arguments, others those of the normalizers.

    Raises:
        ValueError: the name is taken or no name; something else than a preset.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+|[\w./\\-]+:\w+", name):
        raise ValueError(f"a preset's name has letters, digits, '-', '_' and '.', got {name!r}")
    if _REGISTERED.get(name) is preset:  # a module that is read again, or a notebook's cell
        return
    if name in PRESETS or name in GROUPS:
        what = f"a preset ({PRESETS[name].description or PRESETS[name].norm})" if name in PRESETS else "several presets"
        raise ValueError(f"the name {name!r} is taken by {what}: register another name, such as {f'my-{name}'!r}")
    PRESETS[name] = _made(name, preset, {})
    _REGISTERED[name] = preset


def load_plugins(norm: str) -> None:
    """Import what a norm's text names by `module:attribute`, at its beginning or at its places.

    Raises:
        ValueError: it cannot be imported.
    """
    by_place = "=" in norm.partition(":")[0]
    for text in [part.partition("=")[2] for part in norm.split("+")] if by_place else [norm]:
        found = split_reference(text)
        if found is not None and found[0].partition(":")[0] not in (*PRESETS, *NORMALIZERS):
            load(found[0])


def parse_norm(norm: str | Norm | None) -> Norm:
    """A norm by its text, a `Norm`.

    - `bn-timestep:gain=1.0:max_steps=50`: a preset with overrides. An option holds at every place that knows it;
      `hidden.gain=1.0` holds at one place.
    - `input=ln+hidden=bn:statistics=timestep+carried`: normalizers by place, those of `Norm`'s arguments.
    - `mymodule:peak:gain=0.5`: what `register` takes, in a module of the user that has been loaded.

    Raises:
        ValueError: unknown preset, place or option; the message lists those that exist.

    Example:
        >>> list(parse_norm("bn-timestep:gain=1.0").places)
        ['input', 'hidden', 'cell']
    """
    if norm is None:
        return PRESETS["none"].norm
    if isinstance(norm, Norm):
        return norm
    if not isinstance(norm, str):
        raise ValueError(f"a norm is a preset's name or a rnnnorm.Norm, got {norm!r}")
    by_place = Norm.by_place(norm)
    if by_place is not None:
        return by_place
    reference = split_reference(norm)
    if reference is not None and reference[0].partition(":")[0] not in PRESETS:
        name, rest = reference
        found = _REGISTERED[name] if name in _REGISTERED else loaded(name)
        return _made(norm, found, split_options(rest)[1]).norm
    name, options = split_options(norm)
    if name not in PRESETS and name in installed():
        register(name, load_installed(name))
    if name not in PRESETS:
        hint = did_you_mean(name, (*PRESETS, *installed(), *GROUPS))
        hint += "; normalizers by place are written input=ln+hidden=bn" if "+" in name else ""
        raise ValueError(f"unknown norm {name!r}{hint}; there are: {', '.join(PRESETS)}")
    return _made(norm, _REGISTERED.get(name, PRESETS[name]), options).norm


def find_preset(norm: str) -> tuple[Preset | None, str]:
    """The preset that a norm's text begins with, if it does with one that is known, and the overrides after it."""
    reference = split_reference(norm)
    if reference is not None and reference[0] in PLUGINS:
        return _made(reference[0], PLUGINS[reference[0]], {}), reference[1].removeprefix(":")
    name, _, overrides = norm.partition(":")
    return (PRESETS[name], overrides) if name in PRESETS else (None, "")


def _made(name: str, found: Plugin, options: Mapping[str, Any]) -> Preset:
    """A preset under another name and with other options."""
    if isinstance(found, Preset):
        return replace(found, name=name, norm=found.norm.override(options, name=name))
    if isinstance(found, Norm):
        return _made(name, Preset(name, found, "", "", ""), options)
    if isinstance(found, type) and issubclass(found, Normalizer | WeightNormalizer):
        use = Use(class_name(name, found))
        places: dict[str, Any] = {place: use for place in ("input", "hidden", "cell") if use.stands_at(place)}
        return _made(name, Preset(name, Norm(**places), "", found.source, found.summary), options)
    if isinstance(found, type) or not callable(found):
        raise ValueError(
            f"norm {name!r}: expected a Preset, a Norm, a class derived from Normalizer, or a function that returns "
            f"one of these, got {found!r}"
        )
    accepted = signature(found).parameters
    own = {key: value for key, value in options.items() if key in accepted}
    try:
        made = found(**own)
    except TypeError as error:
        raise ValueError(f"norm {name!r}: {error}") from error
    if callable(made) and not isinstance(made, type):
        raise ValueError(f"norm {name!r}: the function returned {made!r}, not a Preset, a Norm or a class")
    return _made(name, made, {key: value for key, value in options.items() if key not in own})
