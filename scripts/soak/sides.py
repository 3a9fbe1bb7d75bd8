"""The names that a case's program uses, once with rnnnorm's classes and once with torch's."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, prune, rnn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import rnnnorm
from soak.recorder import Recorder

OURS, TORCH, REFERENCE, WIDE = "rnnnorm", "torch", "reference", "reference in double precision"
CLASSES = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
OWN_KEYS = frozenset(
    [
        "norm",
        "max_steps",
        "init",
        "initial_state",
        "initial_state_noise",
        "peepholes",
        "residual",
        "residual_scale",
        "between_on",
        "variational_dropout",
        "hidden_dropout",
        "recurrent_dropout",
        "weight_dropout",
        "zoneout",
        "backend",
    ]
)
"""Arguments of constructors that torch does not have."""


class Sub(Tensor):
    """A tensor subclass that does nothing."""


def set_at(module: nn.Module, path: str, value: Any) -> None:
    """Set an attribute of a module inside a module."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, value)


def saved_and_loaded(value: Any, **keys: Any) -> Any:
    """A value that has gone through a file."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, **keys)


def _with_lengths(module: Any, x: Any, *args: Any, lengths: Any = None, **keys: Any) -> Any:
    """What a call with `lengths=` is for torch."""
    if lengths is None:
        return module(x, *args, **keys)
    first = module.batch_first
    packed = rnn.pack_padded_sequence(x, torch.as_tensor(lengths), batch_first=first, enforce_sorted=False)
    output, state = module(packed, *args, **keys)
    return rnn.pad_packed_sequence(output, batch_first=first, total_length=x.shape[1 if first else 0])[0], state


def _step(module: Any, *args: Any, step: Any = None) -> Any:
    return module(*args)


def _call(module: Any, *args: Any, **keys: Any) -> Any:
    return module(*args, **keys)


def _plain(cls: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Torch's class, which is not told of our own arguments."""

    def build(*args: Any, **keys: Any) -> nn.Module:
        return cls(*args, **{key: value for key, value in keys.items() if key not in OWN_KEYS})

    return build


def _eager(cls: Callable[..., nn.Module], wide: bool = False) -> Callable[..., nn.Module]:
    """Our class, run by the eager reference, in double precision if it is to be `wide`."""

    def build(*args: Any, **keys: Any) -> nn.Module:
        module = cls(*args, **keys)
        if hasattr(module, "backend"):
            module.backend = "reference"
        return module.double() if wide else module

    return build


def _same(module: Any, *args: Any, **keys: Any) -> Any:
    return module


def _exported(module: nn.Module, x: Tensor) -> Any:
    return torch.export.export(module, (x,)).module()


def _traced(module: nn.Module, x: Tensor) -> Any:
    return torch.jit.trace(module, x, check_trace=False)


_MADE = {
    "compiled": torch.compile,
    "exported": _exported,
    "traced": _traced,
    "scripted": torch.jit.script,
    "symbolic": torch.fx.symbolic_trace,
}
"""What programs are made of a module; on the other sides the module itself stands for them."""

_COMMON: dict[str, Any] = {
    name: getattr(torch, name)
    for name in [
        "tensor",
        "zeros",
        "ones",
        "full",
        "empty",
        "arange",
        "float32",
        "float64",
        "float16",
        "bfloat16",
        "complex64",
        "int32",
        "int64",
        "int8",
        "bool",
        "no_grad",
        "enable_grad",
        "inference_mode",
        "autocast",
        "nan",
        "inf",
        "device",
    ]
} | {
    "torch": torch,
    "threading": threading,
    "forward_ad": forward_ad,
    "make_fx": make_fx,
    "FakeTensorMode": FakeTensorMode,
    "FlopCounterMode": FlopCounterMode,
    "np": np,
    "copy": copy,
    "pickle": pickle,
    "nn": nn,
    "Parameter": nn.Parameter,
    "PackedSequence": rnn.PackedSequence,
    "pack": rnn.pack_padded_sequence,
    "pack_sequence": rnn.pack_sequence,
    "checkpoint": checkpoint,
    "parametrizations": parametrizations,
    "prune": prune,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "Sub": Sub,
    "set_at": set_at,
    "saved_and_loaded": saved_and_loaded,
}
_CLASSES = {
    OURS: {name: getattr(rnnnorm, name) for name in CLASSES} | {"run": _call, "step": _call} | _MADE,
    REFERENCE: {name: _eager(getattr(rnnnorm, name)) for name in CLASSES}
    | {"run": _call, "step": _call}
    | dict.fromkeys(_MADE, _same),
    WIDE: {name: _eager(getattr(rnnnorm, name), wide=True) for name in CLASSES}
    | {"run": _call, "step": _call}
    | dict.fromkeys(_MADE, _same)
    | dict.fromkeys(("float16", "bfloat16", "float32"), torch.float64),
    TORCH: {name: _plain(getattr(nn, name)) for name in CLASSES}
    | {"run": _with_lengths, "step": _step}
    | dict.fromkeys(_MADE, _same),
}


def namespace(side: str, recorder: Recorder) -> dict[str, Any]:
    """The names of one side."""
    return {
        **_COMMON,
        **_CLASSES[side],
        "Norm": rnnnorm.Norm,
        "randn": recorder.randn,
        "see": recorder.see,
        "fill": recorder.fill,
        "loss": recorder.loss,
        "see_gradients": recorder.see_gradients,
        "__name__": "case",
        "side": side,
    }
