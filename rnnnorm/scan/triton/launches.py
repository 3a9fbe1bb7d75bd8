"""Launches: the division of a scan's steps into tiles and kernel launches."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

MODES = ("steps", "graph", "persistent")
MODE_VARIABLE = "RNNNORM_TRITON_LAUNCH"

TILE = 8192
"""Most gate values of a tile with moments over rows: 64 registers of 128 threads hold it."""
WHOLE_HIDDEN = 128
"""Up to so many hidden units one program owns whole rows, and runs all steps of its sequences in one launch."""
PRODUCT_HIDDEN = 512
"""Up to so many hidden units W_hh h is taken inside the kernel; beyond, by the library's matrix product."""
MAX_HIDDEN = 8192
"""Most hidden units of a tile with moments over features."""
MAX_ROWS = 4096
"""Most sequences of a tile with moments over rows."""


@dataclass(frozen=True)
class Tiling:
    """Division of one step into tiles.

    Args:
        rows: R, rows of a tile; a power of two.
        units: U, hidden units of a tile; a power of two.
        inner: K, how much of a product is taken at once.
        product: take the product inside the kernel; otherwise before it, by `torch.mm`.
        whole: a program depends on nothing that another one writes, so one launch runs all steps.
    """

    rows: int
    units: int
    inner: int
    product: bool
    whole: bool

    def grid(self, rows: int, hidden: int) -> tuple[int, int]:
        """Programs by units and by rows."""
        return -(-hidden // self.units), -(-rows // self.rows)

    @property
    def warps(self) -> int:
        """Warps of a program: 16 gate values per thread, so that nothing spills, and not more than 16 warps."""
        return min(16, max(4, self.rows * self.units // 128))


def choose_tiling(rows: int, hidden: int, by_row: bool, by_column: bool, can_multiply: bool) -> Tiling:
    """The tiling of a recurrence of `hidden` units over `rows` sequences.

    Products inside the kernel want at least 16 rows and 16 units, the smallest tile of the matrix units.

    Args:
        rows: B.
        hidden: H.
        by_row: some moments are over the features of a row, so a tile has all units.
        by_column: some moments are over the rows of a step, so a tile has all rows.
        can_multiply: the kernel can take products of this type on this device.
    """
    wide, high = max(16, _power_of_two(hidden)), max(16, _power_of_two(rows))
    if can_multiply and not by_column and wide <= WHOLE_HIDDEN:
        return Tiling(16, wide, 16, product=True, whole=True)
    if by_row:
        return Tiling(1, _power_of_two(hidden), 32, product=False, whole=False)
    if by_column:
        units = max(1, min(16, TILE // (4 * high)))
    else:
        high, units = min(64, high), 16
    product = can_multiply and units == 16 and hidden <= PRODUCT_HIDDEN
    return Tiling(high, units, 64, product, whole=product and hidden <= units)


def fits(rows: int, hidden: int, by_row: bool, by_column: bool) -> bool:
    """Whether a tile can hold what moments are taken over."""
    return not (by_row and hidden > MAX_HIDDEN) and not (by_column and rows > MAX_ROWS)


def launch_mode() -> str:
    """Mode of launching steps that depend on each other across programs, from the environment.

    "steps": one kernel after the other, the default. "graph": the launches of a batch's shape are recorded in a CUDA
    graph when it is seen for the second time, and replayed from then on. "persistent": one launch for all steps, whose
    programs wait for each other after each step, where all of them fit on the device at once.

    Raises:
        ValueError: another value of the variable.
    """
    mode = os.environ.get(MODE_VARIABLE, MODES[0])
    if mode not in MODES:
        raise ValueError(f"{MODE_VARIABLE} must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


def processors(tensor: Tensor) -> int:
    """Multiprocessors of the tensor's device; 1 without a GPU, where programs run one after the other."""
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count if tensor.is_cuda else 1


def can_multiply(weight: Tensor) -> bool:
    """Whether kernels take products of this type: double precision is torch's, and bfloat16 if they are interpreted.

    Triton's interpreter multiplies the bits of bfloat16 as if they were integers.
    """
    return weight.dtype != (torch.float64 if weight.is_cuda else torch.bfloat16)


def precision() -> str:
    """Precision of float32 products inside kernels: the one set for torch's own matrix products."""
    matmul = torch.backends.cuda.matmul
    setting = getattr(matmul, "fp32_precision", None)  # unknown to torch before 2.9
    return "tf32" if (matmul.allow_tf32 if setting is None else setting == "tf32") else "ieee"


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
