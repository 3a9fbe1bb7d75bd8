"""The loop over steps: which kernels run on which rows, forward and backward."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..plan import Place, Plan
from .backward import backward_steps
from .forward import forward_steps
from .graphs import Recorder, Tensors
from .launches import Tiling, launch_mode, precision, processors

RECORDER = Recorder()


@dataclass(frozen=True)
class Recurrence:
    """One run over packed rows, apart from its numbers.

    Its kernels work on these tensors; rows of states begin with the B initial ones, so they are B + N:

    - `offsets` (T + 3,) int64: where the rows of step -1, 0, … T begin among those of states; the last one twice;
    - `gates_x` (N, 4H): N_input(W_ih x) + b, without b at a normalizer of the sum;
    - `raw` (N, 4H): what is normalized, W_hh h or the sum W_ih x + W_hh h; without a normalizer the gates' arguments;
    - `h`, `c`, `kept` (B + N, H): h_t, c_t before its normalizer, and c_t as it is carried on if that is another one;
    - `mean`, `var` (N, groups) by row or (T, 4H) by column; `cell_mean`, `cell_var` (N, 1) or (T, H).

    In the backward pass `d_h` and `d_c` (B, H) are the gradients of the states that a step is given from later, and
    gains' and biases' gradients are summed by sequence, (B, 4H), or by column, (4H,).

    Args:
        plan: what stands where.
        sizes: B_t.
        own: steps, from the first one, with moments of their own.
        tiling: how a step is cut.
    """

    plan: Plan
    sizes: tuple[int, ...]
    own: int
    tiling: Tiling

    @property
    def gates(self) -> Place | None:
        """The normalizer at the gates inside the loop, if any."""
        return self.plan.joint or self.plan.hidden

    @property
    def norm(self) -> str:
        """Normalized term: W_hh h, "hidden", the whole sum, "joint", or "none"."""
        return "joint" if self.plan.joint else "hidden" if self.plan.hidden else "none"

    @property
    def carried(self) -> bool:
        """Whether the normalized cell replaces c_t."""
        return self.plan.carried and self.plan.cell is not None

    @property
    def by_row(self) -> bool:
        """Whether moments are over features."""
        return any(place is not None and place.by_row for place in (self.gates, self.plan.cell))

    @property
    def offsets(self) -> list[int]:
        """First row of the states, by step + 1."""
        offsets = [0, self.sizes[0]]
        for size in self.sizes:
            offsets.append(offsets[-1] + size)
        return [*offsets, offsets[-1]]

    def constants(self) -> dict[str, Any]:
        """Compile-time constants of the kernels."""
        gates, cell, tiling = self.gates, self.plan.cell, self.tiling
        return {
            "R": tiling.rows,
            "U": tiling.units,
            "K": tiling.inner,
            "PRODUCT": tiling.product,
            "PRECISION": precision(),
            "BY_ROW": self.by_row,
            "NORM": self.norm,
            "GROUPS": 1 if gates is None else gates.groups,
            "CENTERED": gates is None or gates.centered,
            "EPS": 0.0 if gates is None else gates.eps,
            "CELL": cell is not None,
            "CELL_CENTERED": cell is None or cell.centered,
            "CELL_EPS": 0.0 if cell is None else cell.eps,
            "CARRIED": self.carried,
            "num_warps": tiling.warps,
            "enable_fp_fusion": True,
        }

    def forward(self, first: int, last: int, reads: Tensors, writes: Tensors) -> None:
        """Run the steps first … last - 1, all with moments of their own or all with stored ones."""
        self._run(self._forward, first, last, reads, writes)

    def backward(self, first: int, last: int, reads: Tensors, writes: Tensors) -> None:
        """Backward steps, from the last one."""
        self._run(self._backward, first, last, reads, writes)

    def _run(self, loop: Any, first: int, last: int, reads: Tensors, writes: Tensors) -> None:
        if first == last:
            return
        constants = self.constants()
        constants["OWN"] = self.by_row or last <= self.own
        mode, some = launch_mode(), reads["offsets"]
        assert some is not None
        grid = self.tiling.grid(self.sizes[0], _tensor(reads, "weight").shape[1])
        together = mode == "persistent" and self.tiling.product and grid[0] * grid[1] <= processors(some)
        constants["TOGETHER"] = together and not self.tiling.whole
        if constants["TOGETHER"]:
            constants["launch_cooperative_grid"] = True
        # A recording holds all steps: with a tail, the second half would have to keep what the first one wrote.
        if mode == "graph" and (first, last) == (0, len(self.sizes)) and not _capturing(some):
            stream = torch.cuda.current_stream(some.device).cuda_stream if some.is_cuda else 0
            key: Hashable = (loop.__name__, self.sizes, stream, tuple(constants.items()))
            RECORDER.run(key, lambda tensors: loop(first, last, tensors, constants), reads, writes)
        else:
            loop(first, last, {**reads, **writes}, constants)

    def _forward(self, first: int, last: int, tensors: Tensors, constants: dict[str, Any]) -> None:
        named = dict(tensors)
        h_0, c_0 = _tensor(named, "h_0"), _tensor(named, "c_0")
        del named["h_0"], named["c_0"]
        h, weight, raw = _tensor(named, "h"), _tensor(named, "weight"), _tensor(named, "raw")
        B, H = h_0.shape
        if first == 0:
            h[:B].copy_(h_0)
            _tensor(named, "kept" if self.carried else "c")[:B].copy_(c_0)
        if constants["TOGETHER"] or self.tiling.whole:
            self._start(forward_steps, (first, last), self.sizes[first], H, named, constants)
            return
        offsets, transposed = self.offsets, weight.t()
        for t in range(first, last):
            active, before, row = self.sizes[t], offsets[t], offsets[t + 1] - B
            if not self.tiling.product:
                torch.mm(h[before : before + active].to(weight.dtype), transposed, out=raw[row : row + active])
            self._start(forward_steps, (t, t + 1), active, H, named, constants)

    def _backward(self, first: int, last: int, tensors: Tensors, constants: dict[str, Any]) -> None:
        named = dict(tensors)
        d_h_n, d_c_n = _tensor(named, "d_h_n"), _tensor(named, "d_c_n")
        del named["d_h_n"], named["d_c_n"]
        d_h, d_raw, weight = _tensor(named, "d_h"), _tensor(named, "d_raw"), _tensor(named, "weight")
        B, H = d_h.shape
        T = len(self.sizes)
        if last == T:
            d_h.copy_(d_h_n)
            _tensor(named, "d_c").copy_(d_c_n)
            for name in ("d_gain", "d_bias", "d_cell_gain", "d_cell_bias"):
                total = named[name]
                if total is not None:
                    total.zero_()
        if constants["TOGETHER"] or self.tiling.whole:
            self._start(backward_steps, (first, last), self.sizes[first], H, named, constants)
            return
        offsets = self.offsets
        for t in reversed(range(first, last)):
            if not self.tiling.product and t + 1 < T:
                row, following = offsets[t + 2] - B, self.sizes[t + 1]
                torch.mm(d_raw[row : row + following], weight, out=d_h[:following])
            self._start(backward_steps, (t, t + 1), self.sizes[t], H, named, constants)

    def _start(
        self, kernel: Any, steps: tuple[int, int], rows: int, H: int, tensors: Tensors, constants: dict[str, Any]
    ) -> None:
        """Start one kernel for some steps, the longest of which has `rows` rows."""
        counter = None
        if constants["TOGETHER"]:
            counter = torch.zeros(1, dtype=torch.int32, device=_tensor(tensors, "weight").device)
        grid = self.tiling.grid(rows, H)
        kernel[grid](**tensors, counter=counter, first=steps[0], last=steps[1], H=H, **constants)


def _capturing(tensor: Tensor) -> bool:
    """Whether the caller is recording a graph already."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _tensor(tensors: Tensors, name: str) -> Tensor:
    tensor = tensors[name]
    assert tensor is not None, name
    return tensor
