"""The preset table with what each row costs: places, parameters, stored values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import product

import torch

from ..nn.lstm import LSTM
from ..norms import Normalizer
from ..norms.presets import presets

TERMS: dict[str, Callable[[int, int], int]] = {
    "H²·T": lambda H, T: H * H * T,
    "H²": lambda H, T: H * H,
    "H·T": lambda H, T: H * T,
    "H": lambda H, T: H,
    "T": lambda H, T: T,
    "": lambda H, T: 1,
}
"""What a cost may grow with: H hidden units and T = `max_steps`, in the order in which it is written."""

_SIZES = list(product((8, 16, 24, 40), (20, 40, 60)))


@dataclass(frozen=True)
class PresetCost:
    """Preset as lists show it; costs are per layer and direction of an LSTM that reads H features.

    Args:
        name: what a user types.
        places: where a normalizer stands, each with its name: `input ln`.
        parameters: what it adds to weights and one bias, such as "10H".
        stored: numbers kept beside the parameters, such as "18H·T"; "0" where nothing is.
        statistics: what is estimated from what.
        source: who proposed it.
        description: one line.
    """

    name: str
    places: str
    parameters: str
    stored: str
    statistics: str
    source: str
    description: str


def catalogue() -> Iterator[PresetCost]:
    """The preset table, row by row."""
    for name, preset in presets().items():
        uses = preset.norm.places
        places = ", ".join(f"{place} {use.normalizer}" for place, use in uses.items()) or "–"
        yield PresetCost(
            name,
            places + (" (carried)" if preset.norm.carried else ""),
            _formula(partial(count_parameters, name)),
            _formula(partial(count_stored, name)),
            preset.statistics,
            preset.source,
            preset.description,
        )


def count_parameters(norm: str, hidden_size: int, max_steps: int = 100) -> int:
    """Parameters that a norm adds to one layer: gains, biases, lengths; not the weights and b."""
    lstm = _layer(norm, hidden_size, max_steps)
    plain = sum(weight.numel() for weights in lstm.all_weights for weight in weights)
    return sum(p.numel() for p in lstm.parameters()) - plain


def count_stored(norm: str, hidden_size: int, max_steps: int = 100) -> int:
    """Numbers that the normalizers of one layer keep beside the parameters once they are trained; no counters."""
    lstm = _layer(norm, hidden_size, max_steps)
    rows = torch.linspace(-1, 1, 6 * hidden_size).sin().view(2, 3, hidden_size)
    if lstm.needs_data:
        lstm.initialize_from_data(rows)
    lstm(rows)  # some buffers are born with the first batch
    return sum(module.stored_values() for module in lstm.modules() if isinstance(module, Normalizer))


def _layer(norm: str, hidden_size: int, max_steps: int) -> LSTM:
    """A layer that reads as many features as it has units; with a norm between layers, the two around it."""
    layers = 2 if "between" in presets()[norm].norm.places else 1
    with torch.random.fork_rng(devices=[]):
        return LSTM(hidden_size, hidden_size, layers, norm=norm, max_steps=max_steps)


def formula(count: Callable[[int, int], int]) -> str:
    """Write a count that depends on H and T as a sum of `TERMS`.

    Raises:
        ValueError: it is none.
    """
    sizes = torch.tensor([[term(H, T) for term in TERMS.values()] for H, T in _SIZES], dtype=torch.float64)
    counts = [count(H, T) for H, T in _SIZES]
    solution = torch.linalg.lstsq(sizes, torch.tensor(counts, dtype=torch.float64).unsqueeze(1)).solution.flatten()
    coefficients = [Fraction(value).limit_denominator(100) for value in solution.tolist()]
    for (H, T), expected in zip(_SIZES, counts, strict=True):
        total = sum(c * term(H, T) for c, term in zip(coefficients, TERMS.values(), strict=True))
        if total != expected:
            raise ValueError(f"{expected} at H={H}, T={T} is no sum of {', '.join(filter(None, TERMS))}")
    parts = [_term(c, name) for c, name in zip(coefficients, TERMS, strict=True) if c]
    return " + ".join(parts) or "0"


def _formula(count: Callable[[int, int], int]) -> str:
    """The formula, or "?" for a preset of somebody else's whose costs are no such sum, or which is not for LSTMs."""
    try:
        return formula(count)
    except ValueError:
        return "?"


def _term(coefficient: Fraction, name: str) -> str:
    number = f"{float(coefficient):g}"
    return name if number == "1" and name else number + name


def markdown(names: Collection[str]) -> str:
    """Markdown table of the presets with these names."""
    head = ("preset", "places", "parameters", "stored values", "statistics", "source", "what it is")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for e in (entry for entry in catalogue() if entry.name in names):
        cells = (f"`{e.name}`", e.places, e.parameters, e.stored, e.statistics, e.source, e.description)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)
