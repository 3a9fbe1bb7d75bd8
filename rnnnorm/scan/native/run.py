"""One scan as the compiled code sees it: what it reads, what it keeps for backward, what it returns."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ...equations import Equations, Noise
from ...norms.batch_statistics import ROUNDING
from ...norms.fusible import Constant, Squash
from ..checks import address
from ..plan import Place, Plan
from .buffers import ALIGNMENT, Block, Buffers, start_of
from .library import library, sanitizes
from .problem import COLUMN, CONSTANT, NONLINEARITIES, ROW, SQUASH, PlaceFields, Problem

DTYPES = {torch.float32: ("f32", 4), torch.float64: ("f64", 8)}
BUFFERS = Buffers(exact=sanitizes())
_forked = False


def _after_fork() -> None:
    """In a forked child the threads of the OpenMP runtime are gone, and waiting for them would never end."""
    global _forked
    _forked = True


def skipped(place: Place) -> float:
    """Variance of what is constant at a place, in units of the type's precision; -1: nothing is skipped."""
    return ROUNDING * place.eps if place.skips else -1.0


def threads() -> int:
    """How many threads compiled code may use."""
    return 1 if _forked else torch.get_num_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass
class Inputs:
    """Tensors that the outputs depend on; all contiguous.

    Args:
        x: packed rows (N, I).
        h_0: (B, H).
        c_0: (B, H), or None.
        W_ih: (G·H, I).
        W_hh: (G·H, H).
        bias: (G·H,), or None.
        bias_hn: (H,), inside a GRU's reset product, or None.
        peepholes: (3·H,), or None.
        W_hr: (P, H), or None; with it h has P features.
        mask: see `masks.Masks`, as the next three.
        update: (N, H), or None.
        zone_h: (N, H), or None.
        zone_c: (N, H), or None.
        affine: gain, bias and alpha (each may be None) of each place of the plan, in its order.
    """

    x: Tensor
    h_0: Tensor
    c_0: Tensor | None
    W_ih: Tensor
    W_hh: Tensor
    bias: Tensor | None
    bias_hn: Tensor | None
    peepholes: Tensor | None
    W_hr: Tensor | None
    mask: Tensor | None
    update: Tensor | None
    zone_h: Tensor | None
    zone_c: Tensor | None
    affine: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None]) -> Self:
        """The inputs in their order, those of the places last."""
        values: dict[str, Any] = dict(zip(READ, tensors, strict=False))
        return cls(**values, affine=tuple(tensors[len(READ) :]))

    def tensors(self) -> list[Tensor | None]:
        """All of them, in their order."""
        return [*(getattr(self, name) for name in READ), *self.affine]


READ = tuple(field.name for field in fields(Inputs))[:-1]
_FIELDS = {"candidate": "cell"}
"""Places under another name in the structure: what stands behind the gates and before h_t."""


class Run:
    """One forward pass over a layer and what it keeps; `forward` comes first.

    Stored moments are exchanged with the normalizers here: the compiled code runs the steps that have moments of their
    own, the normalizers take them in, and what they recall afterwards serves the remaining steps.

    Args:
        variant: name of the library; see `library`.
        cell: the equations.
        noise: what is dropped inside; masks are among the inputs.
        plan: what stands where.
        sizes: B_t, rows of each step, as `check_packed` returns them; compiled code reads a copy.
        own: how many steps, from the first one, have moments of their own rows; see `Plan.own_steps_by_place`.
        save: keep what `backward` needs.
    """

    def __init__(
        self, variant: str, cell: Equations, noise: Noise, plan: Plan, sizes: list[int], own: dict[str, int], save: bool
    ) -> None:
        self.variant, self.cell, self.noise = variant, cell, noise
        self.plan, self.sizes, self.own, self.save = plan, sizes, own, save
        self.batch_sizes = array("q", sizes)
        self.threads = threads()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.given: dict[str, tuple[Tensor, Tensor]] = {}
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.kept: Block | None = None
        self.offsets: dict[str, int] = {}
        self.dtype = torch.float32
        self.base = self.total = self.units = 0

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Output rows (N, H), h_n and, where there is one, c_n (B, H); stored statistics move.

        Raises:
            InputError: something whose shape or type compiled code does not expect; also in `backward`.
        """
        T = len(self.sizes)
        observe = any(p.columns is not None and p.columns.wants_moments() for p in self.plan.places.values())
        self.dtype = inputs.x.dtype
        N, I, B, P = sum(self.sizes), inputs.x.shape[1], self.sizes[0], inputs.h_0.shape[1]  # noqa: E741
        gates = inputs.W_ih.shape[0]
        self.units = H = gates // self.cell.gates
        self.shapes = {"x": (N, I), "bias": (gates,), "W_ih": (gates, I), "W_hh": (gates, P), "peepholes": (3 * H,)}
        self.shapes |= {"W_hr": (P, H), "bias_hn": (H,)} | dict.fromkeys(("out", "d_out"), (N, P))
        self.shapes |= dict.fromkeys(("h_0", "h_n", "d_h_n"), (B, P)) | dict.fromkeys(
            ("c_0", "c_n", "d_c_n", "mask"), (B, H)
        )
        self.shapes |= dict.fromkeys(("update", "zone_h", "zone_c"), (N, H))
        results = self._allocate(inputs)
        named = dict(zip(self._results, results, strict=True))
        for start, stop in pairwise(sorted({0, *self.own.values(), T})):
            self._recall(start, T, inputs)
            self._call("forward", self._problem(inputs, named, start, stop, observe))
            self._observe(start, stop, observe)
        return results

    @property
    def _results(self) -> tuple[str, ...]:
        return ("out", *(f"{state}_n" for state in self.cell.states))

    def _recall(self, start: int, stop: int, inputs: Inputs) -> None:
        """Stored moments of the places whose steps with moments of their own are over."""
        for name, place in self.plan.places.items():
            if place.columns is not None and self.own.get(name) == start:
                stored = place.columns.recall(start, stop)
                if start:  # the compiled code finds the moments of step t in row t
                    stored = (F.pad(stored[0], (0, 0, start, 0)), F.pad(stored[1], (0, 0, start, 0)))
                self.given[name] = (stored[0].to(inputs.x.dtype), stored[1].to(inputs.x.dtype))

    def _observe(self, start: int, stop: int, observe: bool) -> None:
        for name, place in self.plan.places.items():
            if place.columns is None:
                continue
            mean, var = self.moments[name]
            if observe or stop <= self.own[name]:
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
        for name, gradient in zip(self._results, given, strict=True):
            self._point(problem, "d_" + name, gradient)
        gradients = [
            torch.empty_like(t) if t is not None and want else None
            for t, want in zip(inputs.tensors(), wanted, strict=True)
        ]
        pointers = [0 if gradient is None else gradient.data_ptr() for gradient in gradients]
        for name, pointer in zip(READ, pointers, strict=False):
            if pointer:
                setattr(problem, "d_" + name, pointer)
        for k, name in enumerate(self.plan.places):
            target: PlaceFields = getattr(problem, _FIELDS.get(name, name))
            first = len(READ) + 3 * k
            target.d_gain, target.d_bias, target.d_alpha = pointers[first : first + 3]
        self._call("backward", problem)
        return gradients

    def give_kept(self) -> Tensor:
        """Saved values for `backward`, as one tensor of the inputs' type, which the caller then owns."""
        assert self.kept is not None
        kept, self.kept = torch.frombuffer(self.kept, dtype=self.dtype), None
        return kept

    def _allocate(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """The results, and memory for what is kept."""
        x, (B, P), H = inputs.x, self.shapes["h_0"], self.units
        N, T = x.shape[0], len(self.sizes)
        loaded = library(self.variant)
        assert loaded is not None
        bytes_each = DTYPES[x.dtype][1]
        padded: int = loaded.rnnnorm_padding(H, bytes_each == 8)
        width: int = loaded.rnnnorm_width(H, bytes_each == 8)
        rows = N if self.save else 2 * B
        plan = self.plan
        counts = {"gates_h": rows * width}
        if "c" in self.cell.states or self.cell.name == "GRU":
            counts["cell_states"] = rows * padded
        if plan.input is not None or plan.hidden is not None or self.cell.name == "GRU":
            counts["gates_x"] = rows * width
        if self.variant == "LSTM" and (plan.carried or self.noise.any()):
            counts["carried_states"] = rows * padded
        if plan.output is not None:
            counts["outputs"] = rows * padded
        if inputs.W_hr is not None:
            counts["emitted"] = rows * padded
        if inputs.mask is not None:
            counts["masked"] = rows * H
        for name, place in plan.places.items():
            blocks = self.cell.sizes()[name][0]
            if place.by_row or place.by_column:
                each = rows * place.groups if place.by_row else T * blocks * padded
                counts[name + ".center"] = counts[name + ".scale"] = each
            if place.columns is not None:
                self.moments[name] = (x.new_empty(T, blocks * H), x.new_empty(T, blocks * H))
        total = 0
        for name, count in counts.items():
            self.offsets[name] = total
            total += -(-count * bytes_each // ALIGNMENT) * ALIGNMENT + 5 * ALIGNMENT  # apart, as in Arena of problem.h
        self.kept, self.total = BUFFERS.borrow(total), total
        self.base = start_of(self.kept)
        states = (inputs.h_0,) if inputs.c_0 is None else (inputs.h_0, inputs.c_0)
        return x.new_empty(N, P), *map(torch.empty_like, states)

    def _problem(self, inputs: Inputs, results: dict[str, Tensor], start: int, stop: int, observe: bool) -> Problem:
        (N, I), P = self.shapes["x"], self.shapes["h_0"][1]  # noqa: E741
        problem = Problem(
            T=len(self.sizes), N=N, I=I, H=self.units, P=P, start=start, stop=stop,
            observe=observe, save=self.save, carried=self.plan.carried, threads=self.threads,
            nonlinearity=NONLINEARITIES.get(str(self.cell.nonlinearity), 0),
        )  # fmt: skip
        if not self.noise.training:
            for state, p in zip(self.cell.states, self.noise.zoneout, strict=False):
                setattr(problem, f"keep_{state}", p)
        problem.batch_sizes = self.batch_sizes.buffer_info()[0]
        for name in READ:
            self._point(problem, name, getattr(inputs, name))
        for name, result in results.items():
            self._point(problem, name, result)
        for name in ("gates_h", "gates_x", "cell_states", "carried_states", "outputs", "masked", "emitted"):
            setattr(problem, name, self._kept(name))
        for k, (name, place) in enumerate(self.plan.places.items()):
            target: PlaceFields = getattr(problem, _FIELDS.get(name, name))
            self._describe(target, name, place, inputs.affine[3 * k : 3 * k + 3])
        return problem

    def _describe(self, target: PlaceFields, name: str, place: Place, affine: Sequence[Tensor | None]) -> None:
        features = self.cell.sizes()[name][0] * self.units
        statistics = place.statistics
        kinds = {Constant: CONSTANT, Squash: SQUASH}
        target.kind = kinds.get(type(statistics), ROW if place.by_row else COLUMN)
        target.groups, target.centered, target.own = place.groups, place.centered, self.own.get(name, 0)
        target.eps = statistics.factor if isinstance(statistics, Constant) else place.eps
        target.skipped = skipped(place)
        if name in self.moments:  # made by `_allocate`
            target.mean, target.var = (moment.data_ptr() for moment in self.moments[name])
        vector = (features,)
        read: list[tuple[str, Tensor | None, tuple[int, ...]]]
        read = [("gain", affine[0], vector), ("bias", affine[1], vector), ("alpha", affine[2], (1,))]
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
        loaded = library(self.variant)
        assert loaded is not None
        suffix = DTYPES[self.dtype][0]
        space = getattr(loaded, f"rnnnorm_{direction}_workspace_{suffix}")(ctypes.byref(problem))
        workspace = BUFFERS.borrow(space)
        problem.workspace = start_of(workspace)
        getattr(loaded, f"rnnnorm_{direction}_{suffix}")(ctypes.byref(problem))
