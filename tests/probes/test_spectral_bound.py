"""The bound on the recurrent product: against Jacobians by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import rnnnorm
from rnnnorm.probes import record
from rnnnorm.probes.spectral_bound import bound, spectral_norms

H = 5


def measured(norm: Any, cls: Any = rnnnorm.LSTM, given: bool = True, **options: Any) -> tuple[Any, Any, Tensor | None]:
    network = cls(3, H, norm=norm, dtype=torch.float64, max_steps=6, **options)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                parameter.uniform_(0.5, 2)
        for name, buffer in network.named_buffers():
            if name.endswith(("running_var", "num_rows")):
                buffer.copy_(torch.rand_like(buffer.double()) + 1)
    network.eval()
    state = torch.randn(1, 4, H, dtype=torch.float64)
    hx = (state, state) if cls is rnnnorm.LSTM else state
    with record(network, gates=True) as recording:
        network(torch.randn(6, 4, 3, dtype=torch.float64), hx if given else None)
    return network, recording.layers["l0"], bound(network, "_l0", recording.layers["l0"])


def jacobian(network: Any, layer: Any, t: int, row: int) -> Tensor:
    """∂a_t/∂h_{t-1} of one sequence, (G·H, H)."""
    norms, before = network.norms("_l0"), layer.initial["h"] if t == 0 else layer.states["h"][t - 1]
    inputs = layer.inputs.view(6, 4, 3)[t, row] @ network.weight_ih_l0.T

    def pre_activation(h: Tensor) -> Tensor:
        u = network.weight_hh_l0 @ h
        if norms.hidden is not None:
            return norms.hidden(u.unsqueeze(0), t)[0]
        return norms.joint((u + inputs).unsqueeze(0), t)[0] if norms.joint is not None else u

    found = torch.autograd.functional.jacobian(pre_activation, before[row].detach())
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("cls", [rnnnorm.LSTM, rnnnorm.RNN])
@pytest.mark.parametrize("norm", ["none", "wn", "wn-mobn", "bn-timestep", "bn-shared"])
def test_without_row_statistics_the_bound_is_the_norm_of_the_jacobian(norm: str, cls: Any) -> None:
    network, layer, found = measured(norm, cls)
    assert found is not None
    expected = [torch.linalg.matrix_norm(jacobian(network, layer, t, 0), 2) for t in range(6)]
    torch.testing.assert_close(found, torch.stack(expected).detach())


@pytest.mark.parametrize("norm", ["ln", "rms", "gn", "ln-sum"])
def test_with_row_statistics_it_bounds_the_jacobian_of_every_row(norm: str) -> None:
    network, layer, found = measured(norm)
    assert found is not None
    for t in range(6):
        norms = [float(torch.linalg.matrix_norm(jacobian(network, layer, t, row).detach(), 2)) for row in range(4)]
        assert max(norms) <= float(found[t]) * (1 + 1e-9)
        assert max(norms) >= float(found[t]) / 10  # and says something


def test_a_step_at_which_all_rows_agree_multiplies_by_one_over_root_epsilon() -> None:
    network, _, found = measured("ln", given=False)
    assert found is not None
    gain = network.norms("_l0").hidden.gain.abs().max()
    expected = gain * torch.linalg.matrix_norm(network.weight_hh_l0, 2) / 1e-5**0.5
    torch.testing.assert_close(found[0], expected.detach())


def test_normalizers_of_other_kinds_have_no_bound() -> None:
    assert measured("dyt")[2] is None
    assert measured("ln-sum", rnnnorm.GRU)[2] is None


def test_the_power_method_agrees_with_singular_values(monkeypatch: pytest.MonkeyPatch) -> None:
    W, scale = torch.randn(200, 50, dtype=torch.float64), torch.rand(7, 200, dtype=torch.float64) + 0.5
    exact = spectral_norms(W, scale)
    torch.testing.assert_close(exact[3], torch.linalg.matrix_norm(scale[3].diag() @ W, 2))
    monkeypatch.setattr("rnnnorm.probes.spectral_bound.EXACT", 0)
    stream = torch.get_rng_state()
    near = spectral_norms(W, scale)
    assert torch.equal(torch.get_rng_state(), stream)
    assert bool((near <= exact * (1 + 1e-12)).all())
    torch.testing.assert_close(near, exact, rtol=0.01, atol=0)


def test_weights_that_are_not_finite_have_no_norm() -> None:
    assert torch.isnan(spectral_norms(torch.tensor([[torch.inf, 1.0]]))).tolist() == [True]
