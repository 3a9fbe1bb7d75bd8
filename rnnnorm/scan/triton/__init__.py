"""An LSTM's steps as Triton kernels: product, normalizers and gates of a step in one launch.

Nothing here needs Triton until a layer is run. Without a GPU the kernels run under Triton's interpreter
(TRITON_INTERPRET=1), which is slow and meant for tests.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ...common.transforms import transformed
from ...equations import Layer
from ..checks import fits
from ..plan import agrees, applies, skips_constants
from ..plan import plain as supports

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def ready(layer: Layer, data: Tensor) -> bool:
    """Whether a layer that is supported can run on these rows: Triton is there, and a GPU that it compiles for.

    False, too, where `rnnnorm.scan.plan.applies` says so, where operators are traced or transformed, and where a weight
    has another shape than the equations.
    """
    device = data.device.type
    if data.dtype not in DTYPES or transformed() or device not in ("cpu", "cuda"):
        return False
    if not fits(layer, data, device, typed=False) or not _covers(layer):
        return False
    if not data.is_cuda:
        return interpreting()
    if not _installed() or torch.cuda.get_device_capability(data.device) < (8, 0):
        return False
    from .check import trusted

    return trusted(data.device)


def scan_triton(
    layer: Layer, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction; arguments and results as in `scan_reference`, which runs what no tile can hold.

    There are no second derivatives: they need backend="reference".

    Raises:
        RuntimeError: not `ready` on this device; in the backward pass, create_graph=True.
    """
    if not ready(layer, data):
        if not _covers(layer):
            raise RuntimeError(
                "the Triton scan runs no projection, no dropout of h, no hooks in normalizers, no skip_constant and no "
                "places that normalize different steps by their own moments: use backend='auto'"
            )
        raise RuntimeError(
            f"the Triton scan needs Triton and data on a GPU of compute capability 8.0 or later, or its interpreter "
            f"(TRITON_INTERPRET=1) and data on the CPU; got {data.dtype} data on {data.device}"
        )
    from .run import scan

    if data.is_cuda:
        with torch.cuda.device(data.device):  # Triton launches on the current device
            return scan(layer, data, batch_sizes, states)
    return scan(layer, data, batch_sizes, states)


def _covers(layer: Layer) -> bool:
    return applies(layer) and agrees(layer) and not skips_constants(layer)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


@cache
def interpreting() -> bool:
    """Whether kernels run under Triton's interpreter, on a CPU."""
    if os.environ.get("TRITON_INTERPRET", "0") in ("", "0") or not _installed():
        return False
    from .forward import INTERPRETED

    return bool(INTERPRETED)


__all__ = ["interpreting", "ready", "scan_triton", "supports"]
