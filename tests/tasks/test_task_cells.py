"""Tasks built on other cells than the LSTM, and the options of the recurrent network that pass through."""

from __future__ import annotations

import pytest
import torch
from tasks.tiny import batches_of, model_of, trainer_of

import rnnnorm
from rnnnorm.nn.recurrent import NETWORKS

KINDS = {"lstm": rnnnorm.LSTM, "gru": rnnnorm.GRU, "ligru": rnnnorm.LiGRU, "indrnn": rnnnorm.IndRNN}


@pytest.mark.parametrize("cell", NETWORKS)
@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "wn"])
def test_every_cell_trains(cell: str, norm: str) -> None:
    """Each for one prediction per sequence, and for one per step, under half of the norms."""
    if (cell, norm) == ("indrnn", "wn"):
        pytest.skip("its recurrent weight is a vector")
    task = "tagging" if norm in ("none", "bn-timestep") else "classification"
    model = model_of(task, norm=norm, cell=cell, bidirectional=True)
    assert isinstance(model.recurrent, KINDS.get(cell, rnnnorm.RNN))
    batches = batches_of(task)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer_of(max_epochs=1).fit(model, batches)
    assert all(p.isfinite().all() for p in model.parameters())
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert any(name.startswith("recurrent.") for name in moved)


def test_the_nonlinearity_reaches_the_network() -> None:
    losses = [
        model_of("tagging", cell=f"rnn-{kind}").eval().scores(batches_of("tagging")[0]).loss
        for kind in ("tanh", "relu", "identity")
    ]
    assert not torch.allclose(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2])


def test_options_of_the_network_pass_through() -> None:
    model = model_of("tagging", num_layers=3, cell_options={"residual": "skipinit", "zoneout": 0.1, "proj_size": 3})
    assert model.recurrent.residual == "skipinit"
    assert model.head.in_features == 3
    trainer_of(max_epochs=1).fit(model, batches_of("tagging"))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=f"cell must be one of {', '.join(NETWORKS)}, got 'lstn'"):
        model_of("tagging", cell="lstn")
    with pytest.raises(ValueError, match=r"cell 'gru' has no option 'peepholes'; it has: .*residual"):
        model_of("tagging", cell="gru", cell_options={"peepholes": True})
    with pytest.raises(ValueError, match=r"ln-carried.*GRU"):
        model_of("tagging", cell="gru", norm="ln-carried")
