"""One scan as the compiled code sees it: what it reads, what it keeps for backward, what it returns."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import address
from ..plan import Place, Plan
from .buffers import ALIGNMENT, Block, Buffers, start_of
from .library import library, sanitizes
from .problem import COLUMN, ROW, PlaceFields, Problem

DTYPES = {torch.float32: ("f32", 4), torch.float64: ("f64", 8)}
BUFFERS = Buffers(exact=sanitizes())
_forked = False


def _after_fork() -> None:
    """In a forked child the threads of the OpenMP runtime are gone, and waiting for them would never end."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass
class Inputs:
    """Tensors that the outputs depend on; all contiguous.

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
        sizes: B_t, rows of each step, as `check_packed` returns them; compiled code reads a copy.
        own: how many steps, from the first one, have moments of their own rows; see `Plan.own_steps`.
        save: keep what `backward` needs.
    """

    def __init__(self, plan: Plan, sizes: list[int], own: int, save: bool) -> None:
        self.plan, self.sizes, self.own, self.save = plan, sizes, own, save
        self.batch_sizes = array("q", sizes)
        self.threads = 1 if _forked else torch.get_num_threads()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.given: dict[str, tuple[Tensor, Tensor]] = {}
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.kept: Block | None = None
        self.offsets: dict[str, int] = {}
        self.dtype = torch.float32
        self.base = self.total = 0

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Output rows (N, H), h_n and c_n (B, H); stored statistics move.

        Raises:
            InputError: something whose shape or type compiled code does not expect; also in `backward`.
        """
        T = len(self.sizes)
        observe = any(p.columns is not None and p.columns.wants_moments() for p in self.plan.places.values())
        self.dtype = inputs.x.dtype
        N, I, B, H = sum(self.sizes), inputs.x.shape[1], self.sizes[0], inputs.h_0.shape[1]  # noqa: E741
        self.shapes = {"x": (N, I), "h_0": (B, H), "c_0": (B, H), "bias": (4 * H,)}
        self.shapes |= {"W_ih": (4 * H, I), "W_hh": (4 * H, H), "out": (N, H), "h_n": (B, H), "c_n": (B, H)}
        self.shapes |= {"d_out": (N, H), "d_h_n": (B, H), "d_c_n": (B, H)}
        results = self._allocate(inputs)
        named = dict(zip(("out", "h_n", "c_n"), results, strict=True))
        for start, stop in ((0, self.own), (self.own, T)):
            if start == stop:
                continue
            if self.plan.by_column and start >= self.own:
                self._recall(start, T, inputs)
            self._call("forward", self._problem(inputs, named, start, stop, observe))
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
        out: Tensor,
        kept: Tensor,
        given: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """Gradients of the inputs, in the order of `Inputs`, from those of the results; `out` are the output rows.

        All pointers are taken and checked anew: a parameter may have been given other memory meanwhile.
        """
        # Of a second forward pass, where activations are computed again.
        count = self.total // DTYPES[self.dtype][1]
        self.base = address("what forward kept", kept, (count,), self.dtype)
        problem = self._problem(inputs, {"out": out}, 0, len(self.sizes), False)
        for name, gradient in zip(("out", "h_n", "c_n"), given, strict=True):
            self._point(problem, "d_" + name, gradient)
        tensors = [inputs.x, inputs.h_0, inputs.c_0, inputs.W_ih, inputs.W_hh, inputs.bias, *inputs.affine]
        gradients = [
            torch.empty_like(t) if t is not None and want else None for t, want in zip(tensors, wanted, strict=True)
        ]
        pointers = [0 if gradient is None else gradient.data_ptr() for gradient in gradients]
        names = ("d_x", "d_h_0", "d_c_0", "d_W_ih", "d_W_hh", "d_bias")
        for field, pointer in zip(names, pointers, strict=False):
            setattr(problem, field, pointer)
        for k, name in enumerate(self.plan.places):
            target: PlaceFields = getattr(problem, name)
            target.d_gain, target.d_bias = pointers[6 + 2 * k : 8 + 2 * k]
        self._call("backward", problem)
        return gradients

    def give_kept(self) -> Tensor:
        """Saved values for `backward`, as one tensor of the inputs' type, which the caller then owns."""
        assert self.kept is not None
        kept, self.kept = torch.frombuffer(self.kept, dtype=self.dtype), None
        return kept

    def _allocate(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """The results, and memory for what is kept."""
        x, (B, H) = inputs.x, self.shapes["h_0"]
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
                features = H if name == "cell" else 4 * H
                self.moments[name] = (x.new_empty(T, features), x.new_empty(T, features))
        total = 0
        for name, count in counts.items():
            self.offsets[name] = total
            total += -(-count * bytes_each // ALIGNMENT) * ALIGNMENT + 5 * ALIGNMENT  # apart, as in Arena of problem.h
        self.kept, self.total = BUFFERS.borrow(total), total
        self.base = start_of(self.kept)
        return x.new_empty(N, H), torch.empty_like(inputs.h_0), torch.empty_like(inputs.c_0)

    def _problem(self, inputs: Inputs, results: dict[str, Tensor], start: int, stop: int, observe: bool) -> Problem:
        (N, I), H = self.shapes["x"], self.shapes["h_0"][1]  # noqa: E741
        problem = Problem(
            T=len(self.sizes), N=N, I=I, H=H, start=start, stop=stop, own=self.own,
            observe=observe, save=self.save, carried=self.plan.carried, threads=self.threads,
        )  # fmt: skip
        problem.batch_sizes = self.batch_sizes.buffer_info()[0]
        for name in ("x", "h_0", "c_0", "W_ih", "W_hh", "bias"):
            self._point(problem, name, getattr(inputs, name))
        for name, result in results.items():
            self._point(problem, name, result)
        for name in ("gates_h", "gates_x", "cell_states"):
            setattr(problem, name, self._kept(name))
        for k, (name, place) in enumerate(self.plan.places.items()):
            self._describe(getattr(problem, name), name, place, inputs.affine[2 * k : 2 * k + 2])
        return problem

    def _describe(self, target: PlaceFields, name: str, place: Place, affine: Sequence[Tensor | None]) -> None:
        gates, H = self.shapes["W_hh"]
        features = H if name == "cell" else gates
        target.kind = ROW if place.by_row else COLUMN
        target.groups, target.centered, target.eps = place.groups, place.centered, place.statistics.eps
        if name in self.moments:  # made by `_allocate`
            target.mean, target.var = (moment.data_ptr() for moment in self.moments[name])
        read: list[tuple[str, Tensor | None, tuple[int, ...]]]
        read = [("gain", affine[0], (features,)), ("bias", affine[1], (features,))]
        if name in self.given:
            mean, var = self.given[name]
            steps = (len(self.sizes), features)
            read += [("given_mean", mean, steps), ("given_var", var, steps)]
        for field, tensor, shape in read:
            if tensor is not None:
                setattr(target, field, address(field, tensor, shape, self.dtype, name))
        target.center, target.scale = self._kept(name + ".center"), self._kept(name + ".scale")

    def _point(self, problem: Problem, name: str, tensor: Tensor | None) -> None:
        if tensor is not None:
            setattr(problem, name, address(name, tensor, self.shapes[name], self.dtype))

    def _kept(self, name: str) -> int:
        return self.base + self.offsets[name] if name in self.offsets else 0

    def _call(self, direction: str, problem: Problem) -> None:
        loaded = library()
        assert loaded is not None
        suffix = DTYPES[self.dtype][0]
        space = getattr(loaded, f"rnnnorm_{direction}_workspace_{suffix}")(ctypes.byref(problem))
        workspace = BUFFERS.borrow(space)
        problem.workspace = start_of(workspace)
        getattr(loaded, f"rnnnorm_{direction}_{suffix}")(ctypes.byref(problem))
