"""The structure that the compiled scan reads; field by field as in problem.h."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_double, c_int64, c_void_p

NONE, ROW, COLUMN = range(3)


class PlaceFields(Structure):
    """One normalizer."""

    _fields_ = (
        *((name, c_int64) for name in ("kind", "groups", "centered")),
        ("eps", c_double),
        *((name, c_void_p) for name in ("gain", "bias", "given_mean", "given_var", "mean", "var")),
        *((name, c_void_p) for name in ("center", "scale", "d_gain", "d_bias")),
    )


class Problem(Structure):
    """One call; pointers are addresses of contiguous memory, 0 where something is absent."""

    _fields_ = (
        *((name, c_int64) for name in ("T", "N", "I", "H", "start", "stop", "own", "observe")),
        *((name, c_int64) for name in ("save", "carried", "threads")),
        ("batch_sizes", c_void_p),
        *((name, c_void_p) for name in ("x", "W_ih", "W_hh", "bias", "h_0", "c_0", "out", "h_n", "c_n")),
        *((name, c_void_p) for name in ("gates_x", "gates_h", "cell_states")),
        *((name, PlaceFields) for name in ("input", "hidden", "joint", "cell")),
        *((name, c_void_p) for name in ("d_out", "d_h_n", "d_c_n")),
        *((name, c_void_p) for name in ("d_x", "d_W_ih", "d_W_hh", "d_bias", "d_h_0", "d_c_0")),
        ("workspace", c_void_p),
    )


ProblemPointer = POINTER(Problem)
