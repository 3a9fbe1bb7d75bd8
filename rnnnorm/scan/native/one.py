"""One timestep of a few sequences without a graph, as streams ask for it, by compiled code that packs nothing.

A step of one sequence takes less time than the questions whether compiled code may run it. They are asked once, and the
answers hold as long as nothing has changed that they depend on: tensors, normalizers, settings, hooks.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...common.transforms import plain
from ...equations import Layer
from ...norms.weight import RowLengths
from ..checks import address, fits
from ..plan import PLACES, Place, applies, place_of, supports
from .buffers import Block, start_of
from .function import variant
from .library import library
from .problem import COLUMN, CONSTANT, NONLINEARITIES, ROW, SQUASH, PlaceFields, Problem
from .run import DTYPES, skipped, threads
from .watch import Watch

MOST_ROWS = 3
"""Sequences up to which reading the weights for each of them is cheaper than packing them."""
_FIELDS = {"candidate": "cell"}
_LENGTHS = {"W_ih": "length_ih", "W_hh": "length_hh"}
_WEIGHTS = ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh", "bias_hn")


class _Column:
    """The stored moments that a normalizer by column uses at one step.

    Args:
        norm: the normalizer.
        target: where compiled code looks for them.
        features: how many it reads.
        dtype: of the type it reads.
    """

    def __init__(self, norm: Any, target: PlaceFields, features: int, dtype: torch.dtype) -> None:
        self.norm, self.target, self.features, self.dtype = norm, target, features, dtype
        self.stats = norm.stats
        self._known: tuple[Tensor, Tensor] | None = None
        self._pointers = (0, 0)

    def point(self, t: int) -> object:
        """Let compiled code read the moments of step t, and return what holds their memory."""
        stats = self.stats
        mean, var, slot = stats.stored_at(t)
        pointers = (mean.data_ptr(), var.data_ptr())
        known = self._known
        if known is None or mean is not known[0] or var is not known[1] or pointers != self._pointers:
            known = self._known = (mean, var) if self._read(mean, var) else None
            self._pointers = pointers
        if known is not None and stats._buffers.get("running_still") is None and slot < mean.shape[0]:
            offset = slot * self.features * self.dtype.itemsize
            self.target.given_mean, self.target.given_var = pointers[0] + offset, pointers[1] + offset
            return known
        copies = [moment.to(self.dtype).contiguous() for moment in stats.recall(t)]
        self.target.given_mean, self.target.given_var = (
            address(name, moment, (self.features,), self.dtype, "stored statistics")
            for name, moment in zip(("mean", "variance"), copies, strict=True)
        )
        return copies

    def _read(self, mean: Tensor, var: Tensor) -> bool:
        """Whether moments of all slots lie in memory as compiled code expects them."""
        return all(
            plain(moment)
            and moment.dtype is self.dtype
            and moment.dim() == 2
            and moment.shape == mean.shape
            and moment.shape[1] == self.features
            and moment.is_contiguous()
            and moment.data_ptr() != 0
            for moment in (mean, var)
        )


class OneStep:
    """One timestep of one layer.

    `run` may be called while it `holds` and `recalls`.

    Args:
        owner: the module with the weights as parameters of its own.
        suffix: of their names.
        layer: the same weights, the equations and the normalizers; nothing random.
        like: a row (1, I), or several.

    Raises:
        ValueError: compiled code does not cover this layer, or cannot run it here.
    """

    def __init__(self, owner: nn.Module, suffix: str, layer: Layer, like: Tensor) -> None:
        cell, norms, noise, weights = layer.cell, layer.norms, layer.noise, layer.weights
        random = noise.training and noise.any()
        if random or layer.mask is not None or layer.update_mask is not None or not supports(cell, norms, noise):
            raise ValueError("not covered")
        if like.dtype not in DTYPES or not fits(layer, like, "cpu") or not applies(layer):
            raise ValueError("no dense memory of one type")
        if weights.peepholes is not None or (weights.W_hr is not None and noise.any()):
            raise ValueError("not covered")
        loaded = library(variant(layer))
        if loaded is None:
            raise ValueError("no compiler")
        self.dtype = like.dtype
        self._watch = Watch()
        self._columns: list[_Column] = []
        name, _ = DTYPES[like.dtype]
        self._run = getattr(loaded, f"rnnnorm_step_{name}")
        H = weights.W_ih.shape[0] // cell.gates
        self.sizes = (weights.W_hh.shape[1] if weights.W_hr is None else weights.W_hr.shape[0], H)[: len(cell.states)]
        self._problem = problem = Problem(T=1, I=weights.W_ih.shape[1], H=H, P=self.sizes[0])
        problem.carried, problem.nonlinearity = norms.carried, NONLINEARITIES.get(str(cell.nonlinearity), 0)
        for state, p in zip(cell.states, noise.zoneout, strict=False):
            setattr(problem, f"keep_{state}", p)
        self._names = [name + suffix for name in _WEIGHTS]
        fields: dict[str, Tensor | None] = {"W_ih": weights.W_ih, "W_hh": weights.W_hh, "W_hr": weights.W_hr}
        fields |= {"bias_hn": weights.bias_hn, **dict(zip(("bias", "second_bias"), weights.biases, strict=False))}
        own = [owner._parameters.get(name) for name in self._names]
        self._composes = False
        for field, weight in fields.items():
            if weight is None:
                continue
            if any(weight is parameter for parameter in own):
                setattr(problem, field, self._watch.tensor(weight))
            elif field in _LENGTHS:  # composed from others whenever it is read
                g, v = self._parts(owner, _LENGTHS[field].replace("length", "weight") + suffix, weight)
                setattr(problem, field, v)
                setattr(problem, _LENGTHS[field], g)
                self._composes = True
            else:
                raise ValueError("a weight that is no parameter")
        if norms.any():
            self._watch.module(norms)
        for place in PLACES:
            norm: Any = norms._modules.get(place)
            if norm is not None:
                self._watch.module(norm)
                seen = place_of(norm)
                assert seen is not None
                features = cell.sizes()[place][0] * H
                self._describe(getattr(problem, _FIELDS.get(place, place)), norm, seen, features)
        self._scratch: Block = np.empty(loaded.rnnnorm_step_values(H) * like.element_size(), np.uint8)
        problem.workspace = start_of(self._scratch)
        self._address = ctypes.addressof(problem)

    def _parts(self, owner: nn.Module, name: str, weight: Tensor) -> tuple[int, int]:
        """Addresses of lengths g (outputs, 1) and directions v (outputs, inputs) of a weight, g · v / ‖v‖.

        Raises:
            ValueError: it is composed in another way, or of what compiled code cannot read.
        """
        composed: Any = owner._modules.get("parametrizations")
        if composed is None or not parametrize.is_parametrized(owner, name):
            raise ValueError("a weight that is no parameter")
        parts = composed[name]
        if type(parts) is not parametrize.ParametrizationList or [type(part) for part in parts] != [RowLengths]:
            raise ValueError("not covered")
        g, v = parts._parameters.get("original0"), parts._parameters.get("original1")
        for part, shape in ((g, (weight.shape[0], 1)), (v, weight.shape)):
            if part is None or not plain(part) or part.dtype is not self.dtype or part.shape != shape or part.is_neg():
                raise ValueError("no dense memory of one type")
        assert g is not None
        assert v is not None
        for module in (composed, parts, parts[0]):
            self._watch.bare(module)
        return self._watch.tensor(g), self._watch.tensor(v)

    def _describe(self, target: PlaceFields, norm: Any, place: Place, features: int) -> None:
        column = place.by_column or place.whole
        statistics: Any = place.statistics
        target.kind = ROW if place.by_row else COLUMN if column else SQUASH if place.alpha is not None else CONSTANT
        target.groups, target.centered = place.groups, place.centered
        eps: Any = statistics.factor if target.kind == CONSTANT else place.eps
        if not isinstance(eps, float | int):  # a tensor may change its value and stay the same
            raise ValueError("not covered")
        target.eps, target.skipped = eps, skipped(place)
        for name, tensor in (("gain", place.gain), ("bias", place.bias), ("alpha", place.alpha)):
            if tensor is not None:
                if not any(tensor is held for held in (*norm._parameters.values(), *norm._buffers.values())):
                    raise ValueError("a plain attribute")
                setattr(target, name, self._watch.tensor(tensor))
        if column:
            self._watch.module(norm.stats)
            self._columns.append(_Column(norm, target, features, self.dtype))

    def holds(self, owner: nn.Module) -> bool:
        """Whether nothing has changed that was asked when this was made."""
        return vars(owner).keys().isdisjoint(self._names) and self._watch.unchanged()

    def recalls(self) -> bool:
        """Whether `run` may be called: normalizers by column use stored moments now, and weights are those of now."""
        if self._composes and parametrize._cache_enabled:  # weights are those of the first read
            return False
        return all(not column.norm.uses_own() for column in self._columns)

    def run(self, rows: int, x: int, states: tuple[int, ...], last: tuple[int, ...], out: int = 0, t: int = 0) -> None:
        """Compute the states of step t.

        Args:
            rows: B, at most `MOST_ROWS`.
            x: address of the input rows (B, I).
            states: addresses of the states before, (B, ·) each.
            last: where those of step t are written.
            out: where h is written once more, if anywhere.
            t: number of the step.
        """
        problem = self._problem
        problem.N, problem.x, problem.out = rows, x, out
        problem.threads = threads()
        problem.h_0, problem.h_n = states[0], last[0]
        if len(states) > 1:
            problem.c_0, problem.c_n = states[1], last[1]
        kept = [column.point(t) for column in self._columns]  # until they have been read, whoever replaces them
        self._run(self._address)
        del kept
