"""What GRU, RNN and single cells make of the preset table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import HIDDEN, INPUT, PRESETS, assert_same, padded
from torch import Tensor, nn

import rnnnorm


@pytest.mark.parametrize("cell", [rnnnorm.GRU, rnnnorm.RNN], ids=["GRU", "RNN"])
class TestPresets:
    @pytest.mark.parametrize("norm", PRESETS)
    def test_a_preset_runs_or_says_why_not(self, cell: Any, norm: str) -> None:
        """Refused are those about the cell state alone."""
        placement = rnnnorm.presets()[norm].norm
        derived = any(getattr(use.cls, "cells", None) is not None for use in placement.places.values())
        if placement.carried or set(placement.places) == {"cell"} or derived:
            with pytest.raises(ValueError, match=f"norm '{norm}'.* a {cell.__name__}"):
                cell(INPUT, 12, norm=norm)
            return
        rnn = cell(INPUT, 12, norm=norm)
        assert rnn.norms("_l0").cell is None
        assert (f"norm={norm!r}" in repr(rnn)) == (norm != "none")

    @pytest.mark.parametrize("norm", ["ln-carried", "ln-cell-only"])
    def test_refusals(self, cell: Any, norm: str) -> None:
        with pytest.raises(ValueError, match=f"norm '{norm}' .*but a {cell.__name__} has no cell state"):
            cell(2, 3, norm=norm)

    def test_a_place_that_was_asked_for_is_not_dropped(self, cell: Any) -> None:
        with pytest.raises(ValueError, match=f"a {cell.__name__} has no cell state, so nothing can stand at `cell`"):
            cell(2, 3, norm=rnnnorm.Norm(input="ln", cell="ln"))

    def test_the_cell_norm_of_a_preset_is_dropped(self, cell: Any) -> None:
        rnn = cell(2, 3, norm="bn-timestep")
        assert list(rnn.norm.places) == ["input", "hidden"]
        assert rnn.norm.name == "bn-timestep"

    def test_learned_state(self, cell: Any) -> None:
        rnn = cell(INPUT, HIDDEN, 2, initial_state="learned")
        assert [n for n, _ in rnn.named_parameters() if n.endswith("_0")] == ["h_0"]
        before = rnn(padded() * 0)[0]
        nn.init.normal_(rnn.h_0)
        assert not torch.allclose(rnn(padded() * 0)[0], before)

    @pytest.mark.parametrize("norm", ["wn:init=data"])
    def test_weight_norm_starts_from_data(self, cell: Any, norm: str) -> None:
        rnn = cell(INPUT, HIDDEN, 2, bidirectional=True, norm=norm)
        x = torch.randn(30, 20, INPUT)
        rnn.initialize_from_data(x)
        b = rnn.cell.split_biases(rnn.layer_weights("_l0"))[0]
        products = x.flatten(0, 1) @ rnn.weight_ih_l0.T
        candidate = slice(-HIDDEN, None)  # the input's share alone enters here in a GRU; in an RNN b has both shifts
        assert_same(products.std(0, unbiased=False), torch.ones(len(b)), "deviation", 1e-4)
        if cell is rnnnorm.GRU:
            assert_same((products + b)[:, candidate].mean(0), rnn_bias_offset(rnn), "mean", 1e-4)


def rnn_bias_offset(rnn: rnnnorm.GRU) -> Tensor:
    """What b_n was before: drawn as the pair's first half with the same seed."""
    torch.manual_seed(0)
    fresh = rnnnorm.GRU(INPUT, HIDDEN, 2, bidirectional=True, norm="wn")
    return fresh.bias_ih_l0[-HIDDEN:].detach()


@pytest.mark.parametrize("step", [1.5, "0", [1]])
@pytest.mark.parametrize("norm", ["none", "bn-timestep", "cmbn", "cbn"])
def test_a_step_that_is_no_integer(norm: str, step: Any) -> None:
    with pytest.raises(TypeError, match="step must be an integer, got"):
        rnnnorm.GRUCell(2, 3, norm=norm)(torch.randn(4, 2), step=step)
