"""Salimans & Kingma's data-dependent initialization of weight normalization, for recurrent layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..packing import Packed, reversal
from .stack import RecurrentStack

_PLACES = (("input", "weight_ih"), ("hidden", "weight_hh"))


@torch.no_grad()
def initialize_weight_norm(rnn: RecurrentStack, packed: Packed) -> None:
    """Give every W_ih x and W_hh h zero mean and unit variance over the rows of one batch.

    With t = v·x / ‖v‖ of mean μ and variance σ² over rows, g ← 1/σ and b ← b - μ/σ, layer by layer. The paper
    defines it for feed-forward layers, where a unit is used once. Here W_hh h changes with the step and with W_hh
    itself: its moments are taken over the h_{t-1} of all steps in one run from the weights as they were drawn. Rows
    that do not vary (σ < 1e-5) keep their gain. Nothing is dropped in these runs.

    Source: Salimans and Kingma 2016, section 3; the authors used no such initialization for their LSTMs.
    """
    data, batch_sizes = packed.data, packed.batch_sizes
    for layer in range(rnn.num_layers):
        for direction, suffix in enumerate(rnn.suffixes(layer)):
            rows = data[reversal(batch_sizes).to(data.device)] if direction else data
            states = rnn.zero_states(rows, int(batch_sizes[0]))
            for place, name in _PLACES:
                use = rnn.norm.places.get(place)
                if use is not None and use.options.get("init") == "data":
                    if place == "hidden":
                        output, _ = rnn.run_direction(rows, batch_sizes, states, suffix, quiet=True)
                        seen = _previous(output, batch_sizes, states[0])
                    else:
                        seen = rows
                    _standardize(rnn, name, suffix, seen)
        data, _ = rnn.run_layer(data, batch_sizes, [states] * rnn.num_directions, layer, quiet=True)


def _previous(output: Tensor, batch_sizes: Tensor, h0: Tensor) -> Tensor:
    """The h_{t-1} that each row's step read, in packed order."""
    steps = [h0, *output.split_with_sizes(batch_sizes.tolist())[:-1]]
    return torch.cat([h[:n] for h, n in zip(steps, batch_sizes.tolist(), strict=True)])


def _standardize(rnn: RecurrentStack, name: str, suffix: str, rows: Tensor) -> None:
    W = getattr(rnn, name + suffix)
    direction = W / W.norm(dim=1, keepdim=True)
    products = F.linear(rows, direction)
    mean, std = products.mean(0), products.std(0, unbiased=False)
    varies = std > 1e-5
    gain = torch.where(varies, 1 / std.clamp(min=1e-5), W.norm(dim=1))
    rnn.assign(name + suffix, direction * gain.unsqueeze(1))
    if rnn.bias:
        shift = torch.where(varies, mean * gain, torch.zeros_like(mean))
        zero = torch.zeros_like(shift)
        pair = (shift, zero) if name == "weight_ih" else (zero, shift)  # a GRU has a bias inside of its own
        for bias, value in rnn.cell.merge_biases(*pair).items():
            rnn.assign(bias + suffix, getattr(rnn, bias + suffix) - value)
