"""The torch backend: torch's own operators, for layers without normalizers inside the recurrence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.transforms import plain, transformed
from ..equations import CellNorms, Equations, Layer, Noise
from .checks import check_states, fits
from .reference import scan_reference


def supports(cell: Equations, norms: CellNorms, noise: Noise) -> bool:
    """Whether a recurrence is plain; weight normalization and weight dropout are composed before the scan."""
    return cell.torch_operator is not None and not norms.any() and not noise.any()


def ready(layer: Layer, data: Tensor) -> bool:
    """Whether no tracer or transform is active, for which these operators have no rules.

    On a CPU they read weights of any shape and type as if they were the right ones: others are for the reference.
    """
    if transformed():
        return False
    device = data.device.type
    if device not in ("cpu", "cuda"):
        return True
    # Under autocast the operator itself brings its arguments to one type.
    return fits(layer, data, device, typed=not torch.is_autocast_enabled(device))


def scan_torch(
    layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction through the operator behind torch's module; arguments as in `scan_reference`."""
    check_states(layer, int(batch_sizes[0]), states)
    device = data.device.type
    if device in ("cpu", "cuda") and not all(plain(state, device) for state in states):
        return scan_reference(layer, data, batch_sizes, states)  # the operators would read them all the same
    weights = layer.weights
    flat = [weights.W_ih, weights.W_hh, *_pair(layer)] + ([] if weights.W_hr is None else [weights.W_hr])
    options = (flat, bool(weights.biases), 1, 0.0, torch.is_grad_enabled(), False)
    operator = getattr(torch._VF, str(layer.cell.torch_operator))
    T, B = batch_sizes.shape[0], int(batch_sizes[0])
    # One step by the operator of torch's cell: that of its module packs the weights first, which takes several times
    # as long. Under autocast the two have other types.
    alone = T == 1 and device in ("cpu", "cuda") and not torch.is_autocast_enabled(device)
    if alone and weights.W_hr is None and weights.biases:
        hx = list(states) if len(states) > 1 else states[0]
        ended = getattr(torch._VF, f"{layer.cell.torch_operator}_cell")(data, hx, *flat)
        last = ended if isinstance(ended, tuple) else (ended,)
        return last[0], tuple(last)
    lists = [state.unsqueeze(0) for state in states]
    hx = lists if len(lists) > 1 else lists[0]
    if data.shape[0] == T * B:  # the dense operator is several times faster than the packed one on a CPU
        output, *last = operator(data.view(T, B, -1), hx, *options, False)
        output = output.reshape(T * B, -1)
    else:
        output, *last = operator(data, batch_sizes, hx, *options)
    return output, tuple(state.squeeze(0) for state in last)


def _pair(layer: Layer) -> list[Tensor]:
    """The two biases that the operators want, if there are any."""
    biases = list(layer.weights.biases)
    if len(biases) == 1:
        inside = layer.weights.bias_hn
        zeros = torch.zeros_like(biases[0])
        biases.append(zeros if inside is None else F.pad(inside, (zeros.shape[0] - inside.shape[0], 0)))
    return biases
