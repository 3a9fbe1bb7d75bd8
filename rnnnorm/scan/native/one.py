"""One timestep of a few sequences without a graph, as streams ask for it, by compiled code that packs nothing.

A step of one sequence takes less time than the questions whether compiled code may run it. They are asked once, and the
answers hold as long as nothing has changed that they depend on: tensors, normalizers, settings, hooks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...common.settings import Settings
from ...equations import Layer
from ..checks import address, fits
from ..plan import PLACES, Place, applies, place_of, supports
from .buffers import Block, start_of
from .function import variant
from .library import library
from .problem import COLUMN, CONSTANT, NONLINEARITIES, ROW, SQUASH, PlaceFields, Problem
from .run import DTYPES, skipped, threads

MOST_ROWS = 3
"""Sequences up to which reading the weights for each of them is cheaper than packing them."""
_FIELDS = {"candidate": "cell"}


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
        self._tensors: list[tuple[Mapping[str, Any], str, Tensor, int, torch.Size]] = []
        self._modules: list[tuple[Mapping[str, Any], str, Settings, str]] = []
        self._columns: list[tuple[Any, PlaceFields, int]] = []
        name, _ = DTYPES[like.dtype]
        self._run = getattr(loaded, f"rnnnorm_step_{name}")
        H = weights.W_ih.shape[0] // cell.gates
        self.sizes = (weights.W_hh.shape[1], H)[: len(cell.states)]
        self._problem = problem = Problem(T=1, I=weights.W_ih.shape[1], H=H, P=weights.W_hh.shape[1])
        problem.carried, problem.nonlinearity = norms.carried, NONLINEARITIES.get(str(cell.nonlinearity), 0)
        for state, p in zip(cell.states, noise.zoneout, strict=False):
            setattr(problem, f"keep_{state}", p)
        own = owner._parameters
        biases = zip(("bias", "second_bias"), ("bias_ih", "bias_hh"), strict=True)
        read = [("W_ih", "weight_ih"), ("W_hh", "weight_hh"), ("W_hr", "weight_hr"), ("bias_hn", "bias_hn"), *biases]
        known = {id(t) for t in (weights.W_ih, weights.W_hh, weights.W_hr, weights.bias_hn, *weights.biases)}
        found = 0
        for field, parameter in read:
            tensor = own.get(parameter + suffix)
            if tensor is not None and id(tensor) in known:
                setattr(problem, field, self._watch(own, parameter + suffix, tensor))
                found += 1
        if found != len(known - {id(None)}):  # some are composed from others whenever they are read
            raise ValueError("weights that are no parameters")
        modules: Any = norms._modules
        if norms.any():
            self._keep(owner._modules, "norms" + suffix, norms)
        for place in PLACES:
            norm = modules.get(place)
            if norm is not None:
                self._keep(modules, place, norm)
                seen = place_of(norm)
                assert seen is not None
                features = cell.sizes()[place][0] * H
                self._describe(getattr(problem, _FIELDS.get(place, place)), norm, seen, features)
        self._scratch: Block = np.empty(loaded.rnnnorm_step_values(H) * like.element_size(), np.uint8)
        problem.workspace = start_of(self._scratch)
        self._address = ctypes.addressof(problem)

    def _watch(self, where: Mapping[str, Any], name: str, tensor: Tensor) -> int:
        pointer = tensor.data_ptr()
        if where.get(name) is not tensor or not pointer or not tensor.is_contiguous():
            raise ValueError("no dense memory of one type")
        self._tensors.append((where, name, tensor, pointer, tensor.shape))
        return pointer

    def _keep(self, where: Mapping[str, Any], name: str, module: Settings) -> None:
        self._modules.append((where, name, module, module._settings))

    def _describe(self, target: PlaceFields, norm: Any, place: Place, features: int) -> None:
        column = place.by_column or place.whole
        statistics: Any = place.statistics
        target.kind = ROW if place.by_row else COLUMN if column else SQUASH if place.alpha is not None else CONSTANT
        target.groups, target.centered = place.groups, place.centered
        target.eps = statistics.factor if target.kind == CONSTANT else place.eps
        target.skipped = skipped(place)
        for name in ("gain", "bias", "alpha"):
            tensor = getattr(norm, name, None)
            if isinstance(tensor, Tensor):
                where = norm._parameters if norm._parameters.get(name) is tensor else norm._buffers
                setattr(target, name, self._watch(where, name, tensor))
        if column:
            self._keep(norm._modules, "stats", norm.stats)
            self._columns.append((norm, target, features))

    def holds(self) -> bool:
        """Whether nothing has changed that was asked when this was made."""
        for where, name, module, text in self._modules:
            if where.get(name) is not module or module._settings is not text:
                return False
            for listeners in module._listeners:
                if listeners:
                    return False
        dtype = self.dtype
        for where, name, tensor, pointer, shape in self._tensors:
            if (
                where.get(name) is not tensor
                or tensor.data_ptr() != pointer
                or tensor.shape != shape
                or tensor.dtype is not dtype
                or not tensor.is_contiguous()
            ):
                return False
        return True

    def recalls(self) -> bool:
        """Whether normalizers by column use stored moments now, so that `run` may be called."""
        return all(not norm.uses_own() for norm, *_ in self._columns)

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
        kept = []  # moments that were copied must live until they have been read
        for norm, target, features in self._columns:
            mean, var, slot = norm.stats.stored_at(t)
            size = mean.shape
            if (
                mean.dtype is self.dtype
                and norm.stats.still is None
                and size == var.shape
                and size[1] == features
                and mean.is_contiguous()
                and var.is_contiguous()
            ):
                offset = slot * features * mean.element_size()
                target.given_mean, target.given_var = mean.data_ptr() + offset, var.data_ptr() + offset
                continue
            copies = [moment.to(self.dtype).contiguous() for moment in norm.stats.recall(t)]
            target.given_mean, target.given_var = (
                address(name, moment, (features,), self.dtype, "stored statistics")
                for name, moment in zip(("mean", "variance"), copies, strict=True)
            )
            kept.append(copies)
        self._run(self._address)
        del kept
