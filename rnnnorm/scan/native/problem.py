"""The structure that the compiled scan reads; field by field as in problem.h."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_double, c_int64, c_void_p

NONE, ROW, COLUMN, CONSTANT, SQUASH = range(5)
NONLINEARITIES = {"tanh": 0, "relu": 1, "identity": 2}


class PlaceFields(Structure):
    """One normalizer."""

    _fields_ = (
        *((name, c_int64) for name in ("kind", "groups", "centered", "own")),
        ("eps", c_double),
        ("skipped", c_double),
        *((name, c_void_p) for name in ("gain", "bias", "alpha", "given_mean", "given_var", "mean", "var")),
        *((name, c_void_p) for name in ("center", "scale", "d_gain", "d_bias", "d_alpha")),
    )


class Problem(Structure):
    """One call; pointers are addresses of contiguous memory, 0 where something is absent."""

    _fields_ = (
        *((name, c_int64) for name in ("T", "N", "I", "H", "P", "start", "stop", "observe")),
        *((name, c_int64) for name in ("save", "carried", "threads", "nonlinearity")),
        *((name, c_double) for name in ("keep_h", "keep_c")),
        ("batch_sizes", c_void_p),
        *((name, c_void_p) for name in ("x", "W_ih", "W_hh", "bias", "bias_hn", "peepholes", "W_hr", "h_0", "c_0")),
        *((name, c_void_p) for name in ("second_bias", "length_ih", "length_hh")),
        *((name, c_void_p) for name in ("mask", "update", "zone_h", "zone_c", "out", "h_n", "c_n")),
        *(
            (name, c_void_p)
            for name in ("gates_x", "gates_h", "cell_states", "carried_states", "outputs", "masked", "emitted")
        ),
        *((name, PlaceFields) for name in ("input", "hidden", "joint", "cell", "output")),
        *((name, c_void_p) for name in ("d_out", "d_h_n", "d_c_n", "d_x", "d_W_ih", "d_W_hh", "d_bias")),
        *((name, c_void_p) for name in ("d_bias_hn", "d_peepholes", "d_W_hr", "d_h_0", "d_c_0", "workspace")),
    )


ProblemPointer = POINTER(Problem)
