"""Tracers: whether a program is being traced, transformed, compiled or exported, and code that stays out of it.

Compiled scans are opaque to a tracer, so plain operators run in their place. Lengths of sequences must be known numbers
while a program is traced: they are kept in tensors that the tracer does not see.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch._subclasses import FakeTensor
from torch.autograd import forward_ad
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes

_DISABLED = torch._C._disabled_torch_function_impl
_keys_of = torch._C._dispatch_keys


def _plain_keys(device: DispatchKey, autocast: DispatchKey, autograd: DispatchKey) -> frozenset[int]:
    """Dispatch keys of an ordinary tensor, and of one that was made in inference mode."""
    keys = DispatchKeySet(device) | DispatchKeySet(autocast)
    ordinary = keys | DispatchKeySet(DispatchKey.ADInplaceOrView) | DispatchKeySet(autograd)
    return frozenset((keys.raw_repr(), ordinary.raw_repr()))


_PLAIN = {
    "cpu": _plain_keys(DispatchKey.CPU, DispatchKey.AutocastCPU, DispatchKey.AutogradCPU),
    "cuda": _plain_keys(DispatchKey.CUDA, DispatchKey.AutocastCUDA, DispatchKey.AutogradCUDA),
}


def transformed() -> bool:
    """Whether every operator is traced or transformed.

    That is so in function transforms (`torch.func`), forward-mode differentiation, `torch.jit.trace`, and modes that
    see operators (`make_fx`, `FakeTensorMode`, `FlopCounterMode`, …) or calls of functions, but not in the context
    `torch.device`, a mode that acts on new tensors alone.
    """
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack() > 0
        or _len_torch_dispatch_stack_pre_dispatch() > 0  # type: ignore[no-untyped-call]
        or torch._C._get_tracing_state() is not None
        or (torch._C._len_torch_function_stack() > 0 and not all(map(_makes_tensors, _function_modes())))
    )


def _function_modes() -> list[Any]:
    return list(_get_current_function_mode_stack())  # type: ignore[no-untyped-call]


def _makes_tensors(mode: object) -> bool:
    return isinstance(mode, DeviceContext)


def compiling(data: object) -> bool:
    """Whether a compiler, an exporter or a fake tensor follows what is done to a tensor and is to see one operator."""
    return torch.compiler.is_compiling() or isinstance(data, FakeTensor)


def by_plain_operators() -> bool:
    """Whether a graph of ATen's operators alone is being recorded: by `torch.jit.trace`, or for ONNX.

    There a network is unrolled over its padded input: no compiled scan, no operator of rnnnorm, and no number that is
    read from a tensor, since it would be a constant of the graph.
    """
    if torch._C._get_tracing_state() is not None:
        return True
    return torch.compiler.is_compiling() and torch.onnx.is_in_onnx_export()


# ONNX's exporter tries a second time by way of Dynamo, which would otherwise take it for false.
by_plain_operators._dynamo_marked_constant = True  # type: ignore[attr-defined]


def apart() -> AbstractContextManager[None]:
    """A context outside of all tracers; tensors made there are plain ones.

    In a compiler nothing is done: it keeps numbers by itself.
    """
    return nullcontext() if torch.compiler.is_compiling() or not transformed() else _apart()


@contextmanager
def _apart() -> Iterator[None]:
    tracing = torch._C._get_tracing_state()
    with _disable_current_modes(), torch._C._DisableFuncTorch():
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]


def known(sizes: Sequence[int]) -> Sequence[int]:
    """Sizes as plain integers, which a traced program then takes for constants; a compiler keeps its own."""
    return sizes if torch.compiler.is_compiling() or not transformed() else [int(size) for size in sizes]


def shown(numbers: Tensor) -> Tensor:
    """A tensor that was made `apart`, as a constant of the traced program."""
    if torch.compiler.is_compiling() or not transformed():
        return numbers
    constant: Tensor = torch.ops.aten.lift_fresh(numbers)
    return constant


def plain(tensor: Tensor, device: str = "cpu") -> bool:
    """Whether a tensor is a dense array in the memory of a device and nothing else.

    Wrappers of function transforms, fake, meta, sparse, quantized and nested tensors, lazily negated or zero ones, and
    subclasses that see what is done to them have other dispatch keys or a `__torch_function__`.
    """
    kind = type(tensor)
    known = kind is Tensor or kind.__torch_function__ is _DISABLED
    return known and _keys_of(tensor).raw_repr() in _PLAIN[device]


def has_numbers(tensor: Tensor) -> bool:
    """Whether the entries of a tensor can be read: meta and fake tensors have none."""
    return not tensor.is_meta and not _keys_of(tensor).has(DispatchKey.Python)


@contextmanager
def sizes_are_fixed() -> Iterator[None]:
    """A block without torch's warnings about sizes in a trace, which are compared with a module's fixed ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


class Unscriptable:
    """A module that `torch.jit.script` refuses with a helpful error, also as a part of a model."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Hook that torch calls before it compiles a module.

        Raises:
            RuntimeError: always; it says what to use instead.
        """
        raise RuntimeError(
            f"torch.jit.script cannot compile {type(self).__name__}: use torch.jit.trace(model.eval(), inputs), whose "
            "graph runs without rnnnorm, too"
        )
