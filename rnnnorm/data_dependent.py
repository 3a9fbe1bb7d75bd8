"""Salimans & Kingma's data-dependent initialization of weight normalization, for recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .placement import Norm
from .ragged import Packed, reversal
from .scan import scan

if TYPE_CHECKING:
    from .lstm import LSTM

_PLACES = (("input", "weight_ih"), ("hidden", "weight_hh"))


def wants_data(norm: Norm) -> bool:
    """Whether some weight normalizer of this norm asks for data-dependent initialization."""
    return any(use.options.get("init") == "data" for use in norm.places.values() if use.is_weight)


@torch.no_grad()
def initialize_weight_norm(lstm: LSTM, packed: Packed) -> None:
    """Give every W_ih x and W_hh h zero mean and unit variance over the rows of one batch.

    With t = v·x / ‖v‖ of mean μ and variance σ² over rows, g ← 1/σ and b ← b - μ/σ, layer by layer. The paper
    defines it for feed-forward layers, where a unit is used once. Here W_hh h changes with the step and with W_hh
    itself: its moments are taken over the h_{t-1} of all steps in one run from the weights as they were drawn. Rows
    that do not vary (σ < 1e-5) keep their gain.

    Source: Salimans and Kingma 2016, section 3; the authors used no such initialization for their LSTMs.
    """
    data, batch_sizes = packed.data, packed.batch_sizes
    turn = reversal(batch_sizes).to(data.device)
    B = int(batch_sizes[0])
    h0 = data.new_zeros(B, lstm.proj_size or lstm.hidden_size)
    c0 = data.new_zeros(B, lstm.hidden_size)
    for layer in range(lstm.num_layers):
        outputs = []
        for direction, suffix in enumerate(lstm.suffixes(layer)):
            rows = data[turn] if direction else data

            def run(rows: Tensor = rows, suffix: str = suffix) -> Tensor:
                weights, norms = lstm.layer_weights(suffix), lstm.norms(suffix)
                return scan("auto", rows, batch_sizes, h0, c0, weights, norms)[0]

            for place, name in _PLACES:
                use = lstm.norm.places.get(place)
                if use is not None and use.options.get("init") == "data":
                    seen = rows if place == "input" else _previous(run(), batch_sizes, h0)
                    _standardize(lstm, name + suffix, "bias_ih" + suffix, seen)
            outputs.append(run()[turn] if direction else run())
        data = torch.cat(outputs, 1)


def _previous(output: Tensor, batch_sizes: Tensor, h0: Tensor) -> Tensor:
    """The h_{t-1} that each row's step read, in packed order."""
    steps = [h0, *output.split_with_sizes(batch_sizes.tolist())[:-1]]
    return torch.cat([h[:n] for h, n in zip(steps, batch_sizes.tolist(), strict=True)])


def _standardize(lstm: LSTM, weight: str, bias: str, rows: Tensor) -> None:
    W = getattr(lstm, weight)
    direction = W / W.norm(dim=1, keepdim=True)
    products = F.linear(rows, direction)
    mean, std = products.mean(0), products.std(0, unbiased=False)
    varies = std > 1e-5
    gain = torch.where(varies, 1 / std.clamp(min=1e-5), W.norm(dim=1))
    lstm.assign(weight, direction * gain.unsqueeze(1))
    if lstm.bias:
        shift = torch.where(varies, mean * gain, torch.zeros_like(mean))
        lstm.assign(bias, getattr(lstm, bias) - shift)
