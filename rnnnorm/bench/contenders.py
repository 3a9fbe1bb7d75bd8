"""Contenders, built so that all of one contest start from the same weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..nn.cells import LSTMCell
from ..nn.gru import GRU
from ..nn.lstm import LSTM
from ..nn.rnn import RNN
from .batch import Batch
from .records import OURS, REFERENCE, SCRIPTED, TORCH
from .script_lstm import script_lstm
from .shapes import Shape
from .steps import ForwardStep, Step, TrainingStep


class Kind(NamedTuple):
    """Layer other than a plain LSTM.

    Args:
        ours: its class.
        theirs: torch's module of the same kind.
        options: what only ours has; torch's module goes without.
        projected: whether h has half as many features as there are units, in both.
    """

    ours: Any
    theirs: Any
    options: Mapping[str, Any] = {}
    projected: bool = False


KINDS: Mapping[str, Kind] = {
    "GRU": Kind(GRU, nn.GRU),
    "RNN": Kind(RNN, nn.RNN),
    "projection": Kind(LSTM, nn.LSTM, projected=True),
    "peepholes": Kind(LSTM, nn.LSTM, {"peepholes": True}),
    "zoneout": Kind(LSTM, nn.LSTM, {"zoneout": 0.1}),
    "recurrent dropout": Kind(LSTM, nn.LSTM, {"recurrent_dropout": 0.1}),
    "hidden dropout": Kind(LSTM, nn.LSTM, {"hidden_dropout": 0.1}),
}
"""By name. The options of the last four are rnnnorm's alone: they are measured beside a plain `torch.nn.LSTM`."""


def of_kind(name: str, shape: Shape, device: torch.device) -> nn.RNNBase:
    """Torch's module of a kind out of `KINDS`, always the same."""
    kind = KINDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes: Any = {"proj_size": max(shape.H // 2, 1)} if kind.projected else {}
        module: nn.RNNBase = kind.theirs(shape.I, shape.H, **sizes)
        return module.to(device)


def our_kind(name: str, shape: Shape, norm: str, backend: str, device: torch.device) -> Any:
    """Ours of a kind with the weights of torch's module, statistics for all T steps."""
    kind = KINDS[name]
    source = of_kind(name, shape, device)
    return kind.ours.from_torch(source, norm=norm, backend=backend, max_steps=shape.T, **kind.options)


def warn_less() -> None:
    """Leave out torch's warning that its own projections are slow, which is what is measured."""
    warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN", UserWarning)


def torch_lstm(shape: Shape, device: torch.device) -> nn.LSTM:
    """Torch's module with its own initialization, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.LSTM(shape.I, shape.H).to(device)


def our_lstm(shape: Shape, norm: str, backend: str, device: torch.device) -> LSTM:
    """Ours with torch's weights, statistics for all T steps.

    Raises:
        ValueError: unknown norm or backend, or a backend that does not cover the norm.
    """
    lstm = LSTM.from_torch(torch_lstm(shape, device), norm=norm, backend=backend, max_steps=shape.T)
    if lstm.needs_data:
        lstm.initialize_from_data(torch.randn(shape.T, shape.B, shape.I, device=device))
    return lstm


def our_cell(shape: Shape, norm: str, max_steps: int, device: torch.device) -> LSTMCell:
    """Our single step, with statistics that have seen a few sequences."""
    cell = LSTMCell(shape.I, shape.H, norm=norm, max_steps=max_steps, device=device)
    state, x = None, torch.randn(4, shape.I, device=device)
    with torch.no_grad():
        for t in range(max_steps):
            state = cell(x, state, step=t if cell.norms.per_step() else None)
    return cell


def build(contender: str, shape: Shape, norm: str, backend: str, device: torch.device) -> nn.Module:
    """A contender by its name.

    Raises:
        ValueError: there is none of that name; see `our_lstm`, too.
    """
    if contender == TORCH:
        return torch_lstm(shape, device)
    if contender == OURS:
        return our_lstm(shape, norm, backend, device)
    if contender == REFERENCE:
        return our_lstm(shape, norm, "reference", device)
    if contender == SCRIPTED:
        return script_lstm(our_lstm(shape, "none", "auto", device))
    raise ValueError(f"unknown contender {contender!r}; there are: {TORCH}, {OURS}, {REFERENCE}, {SCRIPTED}")


def make_step(module: nn.Module, batch: Batch, form: str, training: bool) -> Step:
    """One step of a contender.

    Args:
        module: the contender.
        batch: the data.
        form: how they are given: "padded" as a tensor alone, "packed" as a PackedSequence, "lengths" as both.
        training: forward and backward pass; otherwise the forward pass alone.
    """
    leaf, weight = batch.padded, batch.padded_weight
    if form == "packed":
        leaf, weight = batch.packed.data, batch.packed_weight

    def call() -> Tensor:
        if form == "packed":
            output: Tensor = module(batch.packed)[0].data
        elif form == "lengths":
            output = module(batch.padded, lengths=batch.lengths)[0]
        else:
            output = module(batch.padded)[0]
        return output

    return TrainingStep(module, call, leaf, weight) if training else ForwardStep(module, call)
