"""Whether a graph of plain operators is being recorded: `torch.jit.trace`, `torch.onnx.export`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch


def by_plain_operators() -> bool:
    """Whether what runs now is recorded for those who know ATen's operators only: TorchScript by tracing, and ONNX.

    There a network is unrolled over its padded input: no compiled scan, no operator of our own, no number that is read
    out of a tensor, since it would be a constant of the graph.
    """
    if torch._C._get_tracing_state() is not None:
        return True
    return torch.compiler.is_compiling() and torch.onnx.is_in_onnx_export()


# ONNX's exporter tries a second time by way of Dynamo, which would otherwise take it for false.
by_plain_operators._dynamo_marked_constant = True  # type: ignore[attr-defined]


@contextmanager
def sizes_are_fixed() -> Iterator[None]:
    """A block in which sizes are compared with those of a module: true of every run of the graph, so no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


class Unscriptable:
    """A module that `torch.jit.script` refuses by one sentence, also where it is part of a model."""

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch calls before it compiles a module.

        Raises:
            RuntimeError: always; it says what to use instead.
        """
        raise RuntimeError(
            f"torch.jit.script cannot compile {type(self).__name__}: use torch.jit.trace(model.eval(), inputs), whose "
            "graph runs without rnnnorm, too"
        )
