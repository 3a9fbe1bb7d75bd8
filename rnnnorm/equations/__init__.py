"""Equations of the recurrent cells, one step each; every faster backend is tested against these files."""

from __future__ import annotations

from .base import Equations, Layer, LayerWeights
from .gru import GRUEquations
from .indrnn import IndRNNEquations
from .ligru import LiGRUEquations
from .lstm import LSTMEquations
from .noise import QUIET, Noise, draw_seed, drawn_again, drop_rows, dropout, seeded
from .norms import NO_NORMS, CellNorms
from .rnn import NONLINEARITIES, RNNEquations

__all__ = [
    "NONLINEARITIES",
    "NO_NORMS",
    "QUIET",
    "CellNorms",
    "Equations",
    "GRUEquations",
    "IndRNNEquations",
    "LSTMEquations",
    "Layer",
    "LayerWeights",
    "LiGRUEquations",
    "Noise",
    "RNNEquations",
    "draw_seed",
    "drawn_again",
    "drop_rows",
    "dropout",
    "seeded",
]
