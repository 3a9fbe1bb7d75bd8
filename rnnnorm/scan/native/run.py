"""One scan as the compiled code sees it: what it reads, what it keeps for backward, what it returns."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..plan import Place, Plan
from .buffers import ALIGNMENT, Block, Buffers
from .library import library
from .problem import COLUMN, ROW, PlaceFields, Problem

DTYPES = {torch.float32: ("f32", 4), torch.float64: ("f64", 8)}
BUFFERS = Buffers()
_forked = False


def _after_fork() -> None:
    """In a forked child the threads of the OpenMP runtime are gone, and whoever waits for them waits for ever."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass
class Inputs:
    """What the outputs depend on; all contiguous.

    Args:
        x: packed rows (N, I).
        h_0: (B, H).
        c_0: (B, H).
        W_ih: (4H, I).
        W_hh: (4H, H).
        bias: (4H,), or None.
        affine: gain and bias (or None) of each place of the plan, in its order.
    """

    x: Tensor
    h_0: Tensor
    c_0: Tensor
    W_ih: Tensor
    W_hh: Tensor
    bias: Tensor | None
    affine: tuple[Tensor | None, ...]


class Run:
    """One forward pass over a layer and what it keeps; `forward` comes first.

    Stored moments are exchanged with the normalizers here: the compiled code runs the steps that have moments of their
    own, the normalizers take them in, and what they recall afterwards serves the remaining steps.

    Args:
        plan: what stands where.
        batch_sizes: (T,) int64 on the CPU.
        sizes: the same as a list.
        own: how many steps, from the first one, have moments of their own rows; see `Plan.own_steps`.
        save: keep what `backward` needs.
    """

    def __init__(self, plan: Plan, batch_sizes: Tensor, sizes: list[int], own: int, save: bool) -> None:
        self.plan, self.batch_sizes, self.sizes, self.own, self.save = plan, batch_sizes.contiguous(), sizes, own, save
        self.threads = 1 if _forked else torch.get_num_threads()
        self.given: dict[str, tuple[Tensor, Tensor]] = {}
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.kept: Block | None = None
        self.offsets: dict[str, int] = {}
        self.dtype = torch.float32
        self.address = 0

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Output rows (N, H), h_n and c_n (B, H); stored statistics move."""
        T = len(self.sizes)
        observe = any(p.columns is not None and p.columns.wants_moments() for p in self.plan.places.values())
        self.dtype = inputs.x.dtype
        results = self._allocate(inputs)
        for start, stop in ((0, self.own), (self.own, T)):
            if start == stop:
                continue
            if self.plan.by_column and start >= self.own:
                self._recall(start, T, inputs)
            self._call("forward", self._problem(inputs, results, start, stop, observe))
            self._observe(start, stop, observe)
        return results

    def _recall(self, start: int, stop: int, inputs: Inputs) -> None:
        for name, place in self.plan.places.items():
            if place.by_column and place.columns is not None:
                stored = place.columns.recall(start, stop)
                if start:  # the compiled code finds the moments of step t in row t
                    stored = (F.pad(stored[0], (0, 0, start, 0)), F.pad(stored[1], (0, 0, start, 0)))
                self.given[name] = (stored[0].to(inputs.x.dtype), stored[1].to(inputs.x.dtype))

    def _observe(self, start: int, stop: int, observe: bool) -> None:
        for name, place in self.plan.places.items():
            if place.columns is None:
                continue
            mean, var = self.moments[name]
            if observe or stop <= self.own:
                place.columns.observe(start, self.sizes[start:stop], mean[start:stop], var[start:stop])

    def backward(
        self,
        inputs: Inputs,
        results: tuple[Tensor, Tensor, Tensor],
        kept: Tensor,
        given: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """Gradients of the inputs, in the order of `Inputs`, from those of the results."""
        self.address = kept.data_ptr()  # of a second forward pass, where activations are computed again
        problem = self._problem(inputs, results, 0, len(self.sizes), False)
        problem.d_out, problem.d_h_n, problem.d_c_n = (_address(g) for g in given)
        tensors = [getattr(inputs, f.name) for f in fields(Inputs)[:-1]] + list(inputs.affine)
        gradients = [
            torch.empty_like(t) if t is not None and want else None for t, want in zip(tensors, wanted, strict=True)
        ]
        names = ("d_x", "d_h_0", "d_c_0", "d_W_ih", "d_W_hh", "d_bias")
        for field, gradient in zip(names, gradients, strict=False):
            setattr(problem, field, _address(gradient))
        for k, name in enumerate(self.plan.places):
            target: PlaceFields = getattr(problem, name)
            target.d_gain, target.d_bias = (_address(g) for g in gradients[6 + 2 * k : 8 + 2 * k])
        self._call("backward", problem)
        return gradients

    def give_kept(self) -> Tensor:
        """What `backward` needs, as one tensor of bytes that somebody else now holds."""
        assert self.kept is not None
        kept, self.kept = torch.from_numpy(self.kept), None
        return kept

    def _allocate(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """The results, and memory for what is kept."""
        x, (B, H) = inputs.x, inputs.h_0.shape
        N, T = x.shape[0], len(self.sizes)
        loaded = library()
        assert loaded is not None
        bytes_each = DTYPES[x.dtype][1]
        padded: int = loaded.rnnnorm_padding(H, bytes_each == 8)
        rows = N if self.save else 2 * B
        plan = self.plan
        counts = {"gates_h": rows * 4 * padded, "cell_states": rows * padded}
        if plan.input is not None or plan.hidden is not None:
            counts["gates_x"] = rows * 4 * padded
        for name, place in plan.places.items():
            width = (1 if name == "cell" else 4) * padded
            each = rows * place.groups if place.by_row else T * width
            counts[name + ".center"] = counts[name + ".scale"] = each
            if place.columns is not None:
                self.moments[name] = (x.new_empty(T, place.features), x.new_empty(T, place.features))
        total = 0
        for name, count in counts.items():
            self.offsets[name] = total
            total += -(-count * bytes_each // ALIGNMENT) * ALIGNMENT + 5 * ALIGNMENT  # apart, as in Arena of problem.h
        self.kept = BUFFERS.borrow(total)
        self.address = self.kept.ctypes.data
        return x.new_empty(N, H), torch.empty_like(inputs.h_0), torch.empty_like(inputs.c_0)

    def _problem(
        self, inputs: Inputs, results: tuple[Tensor, Tensor, Tensor], start: int, stop: int, observe: bool
    ) -> Problem:
        N, features = inputs.x.shape
        problem = Problem(
            T=len(self.sizes), N=N, I=features, H=inputs.h_0.shape[1], start=start, stop=stop, own=self.own,
            observe=observe, save=self.save, carried=self.plan.carried, threads=self.threads,
        )  # fmt: skip
        problem.batch_sizes = self.batch_sizes.data_ptr()
        for name in ("x", "h_0", "c_0", "W_ih", "W_hh", "bias"):
            setattr(problem, name, _address(getattr(inputs, name)))
        problem.out, problem.h_n, problem.c_n = (_address(result) for result in results)
        for name in ("gates_h", "gates_x", "cell_states"):
            setattr(problem, name, self._kept(name))
        for k, (name, place) in enumerate(self.plan.places.items()):
            self._describe(getattr(problem, name), name, place, inputs.affine[2 * k : 2 * k + 2])
        return problem

    def _describe(self, target: PlaceFields, name: str, place: Place, affine: Sequence[Tensor | None]) -> None:
        target.kind = ROW if place.by_row else COLUMN
        target.groups, target.centered, target.eps = place.groups, place.centered, place.statistics.eps
        target.gain, target.bias = (_address(tensor) for tensor in affine)
        if name in self.moments:
            target.mean, target.var = (_address(tensor) for tensor in self.moments[name])
        if name in self.given:
            target.given_mean, target.given_var = (_address(tensor) for tensor in self.given[name])
        target.center, target.scale = self._kept(name + ".center"), self._kept(name + ".scale")

    def _kept(self, name: str) -> int:
        return self.address + self.offsets[name] if name in self.offsets else 0

    def _call(self, direction: str, problem: Problem) -> None:
        loaded = library()
        assert loaded is not None
        suffix = DTYPES[self.dtype][0]
        space = getattr(loaded, f"rnnnorm_{direction}_workspace_{suffix}")(ctypes.byref(problem))
        workspace = BUFFERS.borrow(space)
        problem.workspace = workspace.ctypes.data
        getattr(loaded, f"rnnnorm_{direction}_{suffix}")(ctypes.byref(problem))


def _address(tensor: Tensor | None) -> int:
    if tensor is None:
        return 0
    assert tensor.is_contiguous()
    return tensor.data_ptr()
