"""What differs from torch on purpose: the only failures that are counted and not reported."""

from __future__ import annotations

import re
from typing import NamedTuple

from soak.verdict import SILENT, WRONG


class Deviation(NamedTuple):
    """One difference that is meant.

    Args:
        failure: its kind.
        program: a pattern found in the case's text.
        said: a pattern at the beginning of what happened.
        reason: why it is meant.
    """

    failure: str
    program: str
    said: str
    reason: str


DEVIATIONS = (
    Deviation(
        WRONG,
        r"autocast",
        r"out\S*, beside \w+: dtype torch\.(float32|b?float16) instead of torch\.(float32|b?float16)",
        "under autocast ours, where it goes step by step, adds biases in the type of the weights",
    ),
    Deviation(
        WRONG,
        r"(gain=|\* )-?1e[123]\d",
        r"\S+, beside reference: of \d+ entries \d+ more are finite",
        "where numbers overflow, the order of operations says which do",
    ),
    Deviation(
        SILENT,
        r"lengths=\[\]",
        r"torch: RuntimeError: Cannot pack empty tensors",
        "torch's packing knows no batch without sequences; ours does",
    ),
    Deviation(
        SILENT,
        r"Parameter\(|\.data = ",
        r"torch: RuntimeError: The (expanded size of the tensor|size of tensor a)",
        "a weight that somebody has replaced by one whose shape broadcasts is broadcast",
    ),
    Deviation(
        SILENT,
        r"=np\.(bool_|int64|int8)\(",
        r"torch: TypeError: \w+ should be of type (bool|int), got: (bool|int64|int8)",
        "numpy's integers and booleans are taken for Python's",
    ),
    Deviation(
        SILENT,
        r"bias_\w+( = None|'\] = None|', None)",
        r"torch: TypeError: expected Tensor as element",
        "a bias that is None is not added, as one that was never there",
    ),
    Deviation(
        SILENT,
        r"bias_\w+.*(half|double|bfloat16|complex64|zeros|int|randn\(\(\)\))",
        r"torch: RuntimeError: self and mat2 must have the same dtype",
        "torch's operator for one product wants its bias in the type of the weights; ours is added in the wider one",
    ),
    Deviation(
        SILENT,
        r"backward\(\)[\s\S]*backward\(\)",
        r"torch: RuntimeError: Trying to backward through the graph a second time",
        "of no sequences ours keeps nothing for the backward pass, so nothing is freed after the first",
    ),
    Deviation(
        SILENT,
        r"b = (torch\._neg_view\(-b\)|torch\.stack\(\[b, b\], 1\)\[:, 0\])",
        r"torch: RuntimeError: (narrow|start|shape|invalid shape|'lengths'|Length|split)",
        "torch reads batch_sizes as if they were contiguous and not negated; ours reads their values, which are right",
    ),
    Deviation(
        SILENT,
        r"out = |out, ",
        r"torch: RuntimeError: .*modified by an inplace operation|torch: RuntimeError: .* is a view and its base",
        "what torch needs for its backward pass and ours does not, or has copied, may be changed: gradients are right",
    ),
    Deviation(
        SILENT,
        r"float16|half|double|float",
        r"torch: RuntimeError: (could not create a primitive|get_mkldnn_dtype|mkldnn_linear)",
        "torch hands its LSTM to a library that does not have this type on this processor; ours does not",
    ),
    Deviation(
        SILENT,
        r"func\.|jvp|jacobian|is_grads_batched|forward_ad|compiled|make_fx",
        r"torch: .*(Batching rule not implemented|NotImplementedError|doesn't match the broadcast shape"
        r"|Trying to use forward AD with .* that does not support it)",
        "torch has not implemented a transformation of its own recurrence; ours is made of operators that have it",
    ),
    Deviation(
        SILENT,
        r"to_sparse",
        r"torch: RuntimeError: (addmm_sparse_dense|add\(sparse, dense\)|expand is unsupported)",
        "torch has no operator for a sparse matrix on that side; ours has it on the other, and numbers are right",
    ),
    Deviation(
        SILENT,
        r"set_at.*stats\.(running_|num_rows).*Parameter\(",
        r"reference: RuntimeError: (The function 'native_batch_norm' is not differentiable|a view of a leaf Variable)",
        "two of torch's operators cannot be told that stored statistics want gradients; ours give them none",
    ),
    Deviation(
        SILENT,
        r"swap_tensors|copy\.copy|deepcopy|pickle|saved_and_loaded",
        r"torch: RuntimeError: (Cannot swap t1|Serialization of parametrized modules)",
        "torch's modules hold weak references to weights and are not pickled with parametrizations; ours work",
    ),
)


def reason_for(failure: str, program: str, said: str) -> str:
    """Why a failure is none; "" if it is one."""
    for deviation in DEVIATIONS:
        if (
            deviation.failure == failure
            and re.search(deviation.program, program)
            and re.match(deviation.said, said, re.DOTALL)
        ):
            return deviation.reason
    return ""
