"""What surrounds the equations: options, states, errors, and living inside somebody's model."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import ClassVar

import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, NORMALIZED, PRESETS, packed, padded
from torch import nn

import rnnnorm


def declares(norm: str, flag: str) -> bool:
    """Whether all normalizers of a preset have a capability that most have; those without say so in their class."""
    return all(getattr(use.cls, flag) for use in rnnnorm.presets()[norm].norm.places.values())


def output(lstm: nn.Module, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    x = padded()
    torch.manual_seed(seed)
    return lstm(x, lengths=LENGTHS)[0]


class TestOptions:
    """Every option changes something."""

    base: ClassVar[dict[str, object]] = {"num_layers": 2, "norm": "bn-timestep"}

    @pytest.mark.parametrize(
        "option",
        [
            {"num_layers": 3},
            {"bias": False},
            {"dropout": 0.5},
            {"bidirectional": True},
            {"proj_size": 2},
            {"init": "orthogonal"},
            {"initial_state_noise": 0.5},
            {"norm": "bn-timestep:gain=0.5"},
            {"norm": "bn-timestep:eps=0.1"},
            {"norm": "bn-timestep:bias=true:input.gain=0.2"},
            {"norm": "bn-timestep:min_rows=5"},
            {"norm": "bn-timestep:statistics=shared", "_evaluate": True},
            {"norm": "bn-timestep:momentum=0.9", "_evaluate": True},
            {"norm": "bn-timestep:momentum=none", "_evaluate": True},
            {"norm": "bn-timestep:tail=pool:max_steps=2", "_evaluate": True},
            {"norm": "bn-timestep:carried=true"},
            {"max_steps": 2, "_evaluate": True},
            {"norm": "ln"},
        ],
        ids=str,
    )
    def test_changes_the_output(self, option: dict[str, object]) -> None:
        evaluate = option.get("_evaluate", False)
        results = []
        for options in (self.base, {**self.base, **{k: v for k, v in option.items() if k != "_evaluate"}}):
            torch.manual_seed(0)
            lstm = rnnnorm.LSTM(INPUT, HIDDEN, **options)  # type: ignore[arg-type]
            y = output(lstm)
            if evaluate:
                y = output(lstm.eval())
            results.append(y)
        assert results[0].shape != results[1].shape or not torch.allclose(results[0], results[1])

    def test_layer_norm_eps(self) -> None:
        lstms = [rnnnorm.LSTM(INPUT, HIDDEN, norm=n, init="orthogonal") for n in ("ln", "ln:eps=0.5")]
        lstms[1].load_state_dict(lstms[0].state_dict())
        assert not torch.allclose(output(lstms[0]), output(lstms[1]))

    def test_batch_first(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="ln")
        expected = lstm(padded())[0]
        torch.manual_seed(0)
        first = rnnnorm.LSTM(INPUT, HIDDEN, norm="ln", batch_first=True)
        first.load_state_dict(lstm.state_dict())
        x = padded()
        assert torch.equal(first(x.transpose(0, 1))[0], lstm(x)[0].transpose(0, 1))
        by_lengths = first(x.transpose(0, 1), lengths=LENGTHS)[0]
        assert torch.equal(by_lengths, lstm(x, lengths=LENGTHS)[0].transpose(0, 1))
        assert expected.shape == by_lengths.transpose(0, 1).shape

    def test_device_and_dtype(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, device="meta", dtype=torch.float64, norm="bn-timestep")
        tensors = [*lstm.parameters(), *lstm.buffers()]
        assert all(t.device.type == "meta" for t in tensors)
        assert all(t.dtype == torch.float64 for t in tensors if t.is_floating_point())

    def test_orthogonal_recipe(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="none", init="orthogonal")
        for gate in lstm.weight_hh_l0.chunk(4):
            assert torch.allclose(gate @ gate.T, torch.eye(HIDDEN), atol=1e-5)
        total = lstm.bias_ih_l0 + lstm.bias_hh_l0
        assert torch.equal(total, torch.tensor([0.0] * HIDDEN + [1.0] * HIDDEN + [0.0] * 2 * HIDDEN))

    def test_chrono_recipe(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 500, norm="ln", init="chrono", max_steps=50)
        i, f, g, o = lstm.bias_ih_l0.chunk(4)
        memory = f.exp()
        assert 1 <= memory.min() < 5
        assert 45 < memory.max() <= 49
        assert abs(memory.mean().item() - 25) < 2  # uniform
        assert torch.equal(i, -f)
        assert not g.any()
        assert not o.any()
        gate = lstm.weight_hh_l0.chunk(4)[0]
        assert torch.allclose(gate @ gate.T, torch.eye(500), atol=1e-4)
        with pytest.raises(ValueError, match="got max_steps=2"):
            rnnnorm.LSTM(2, 3, init="chrono", max_steps=2)
        with pytest.raises(ValueError, match="bias=False"):
            rnnnorm.LSTM(2, 3, init="chrono", bias=False)

    def test_backend(self) -> None:
        with pytest.raises(ValueError, match="'torch' does not cover"):
            rnnnorm.LSTM(2, 2, norm="ln", backend="torch")

    @pytest.mark.parametrize("init", ["torch", "orthogonal"])
    def test_all_norms_start_from_the_same_weights(self, init: str) -> None:
        reference = None
        for norm in (name for name in PRESETS if declares(name, "keeps_weights")):
            torch.manual_seed(4)
            lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm=norm, init=init)
            weights = {n: w for s in ("_l0", "_l1_reverse") for n, w in lstm.layer_weights(s)._asdict().items()}
            weights["biases"] = lstm.layer_weights("_l0").bias
            reference = reference or weights
            for name in ("W_ih", "W_hh", "biases"):
                assert torch.allclose(weights[name], reference[name], atol=1e-6), (norm, name)


class TestStates:
    def test_learned_states_are_used_and_trained(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm="ln", initial_state="learned")
        before = output(lstm)
        nn.init.normal_(lstm.h_0)
        nn.init.normal_(lstm.c_0)
        after = output(lstm)
        assert not torch.allclose(before, after)
        after.sum().backward()
        assert lstm.h_0.grad.abs().sum() > 0
        assert lstm.c_0.grad.abs().sum() > 0
        x = torch.randn(3, INPUT)
        assert torch.allclose(lstm(x)[0], lstm(x.unsqueeze(1))[0].squeeze(1))

    def test_noise_acts_in_training_and_only_on_omitted_states(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, initial_state_noise=0.3)
        x = padded()
        assert not torch.equal(lstm(x)[0], lstm(x)[0])
        hx = (torch.zeros(1, 5, HIDDEN), torch.zeros(1, 5, HIDDEN))
        assert torch.equal(lstm(x, hx)[0], lstm(x, hx)[0])
        lstm.eval()
        assert torch.equal(lstm(x)[0], lstm(x)[0])

    def test_noise_on_h_removes_the_zero_variance_step(self) -> None:
        """All rows agree at t = 0 if h_0 = 0: the gradient is multiplied by g/√ε ≈ 32 there."""
        gradients = []
        for noise in (0.0, 0.3):
            torch.manual_seed(0)
            lstm = rnnnorm.LSTM(1, 20, norm="bn-timestep:gain=1.0", init="orthogonal", initial_state_noise=noise)
            x = torch.zeros(6, 8, 1, requires_grad=True)  # the same input everywhere
            (lstm(x)[0][-1] * torch.randn(8, 20)).sum().backward()
            gradients.append(lstm.weight_ih_l0.grad.abs().max() + x.grad.abs().max())
        assert gradients[0] > 1e6 * gradients[1]

    @pytest.mark.parametrize("norm", [name for name in PRESETS if declares(name, "memoryless")])
    def test_a_split_sequence_continues_from_its_state(self, norm: str) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, norm=norm).eval()
        x = torch.randn(8, 3, INPUT)
        whole, (h, c) = lstm(x)
        first, state = lstm(x[:5])
        second, (h2, c2) = lstm(x[5:], state)
        assert torch.allclose(torch.cat([first, second]), whole, atol=1e-6)  # untrained statistics agree at all steps
        assert torch.allclose(h, h2, atol=1e-6)
        assert torch.allclose(c, c2, atol=1e-6)


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"hidden_size": 0}, "hidden_size must be an integer of at least 1, got 0"),
            ({"num_layers": 0}, "num_layers must be an integer of at least 1, got 0"),
            ({"input_size": 2.5}, "input_size must be an integer of at least 1, got 2.5"),
            ({"dropout": 1.5}, "dropout must be a probability between 0 and 1, got 1.5"),
            ({"proj_size": 6}, "proj_size must be at least 0 and below hidden_size=6, got 6"),
            ({"init": "zeros"}, "init must be one of torch, orthogonal, chrono, got 'zeros'"),
            ({"initial_state": "ones"}, "initial_state must be one of zeros, learned, got 'ones'"),
            (
                {"initial_state_noise": -1},
                "initial_state_noise must be a number of at least 0, since it is a standard deviation, got -1",
            ),
            ({"max_steps": 0}, "max_steps must be an integer of at least 1, got 0"),
        ],
    )
    def test_arguments(self, arguments: dict[str, object], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            rnnnorm.LSTM(**{"input_size": INPUT, "hidden_size": HIDDEN, **arguments})  # type: ignore[arg-type]

    def test_shapes(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2)
        with pytest.raises(ValueError, match=r"\(T, B, F\) or \(T, F\) with F = 4, got shape \(7, 5, 3\)"):
            lstm(torch.randn(7, 5, 3))
        with pytest.raises(ValueError, match=r"expected h_0 of shape \(2, 5, 6\), got \(1, 5, 6\)"):
            lstm(padded(), (torch.zeros(1, 5, HIDDEN), torch.zeros(2, 5, HIDDEN)))
        with pytest.raises(ValueError, match=r"expected c_0 of shape \(2, 6\), got \(2, 5, 6\)"):
            lstm(torch.randn(3, INPUT), (torch.zeros(2, HIDDEN), torch.zeros(2, 5, HIDDEN)))
        with pytest.raises(ValueError, match="rows of 4 features"):
            lstm(packed(features=3))
        with pytest.raises(ValueError, match="carries its own"):
            lstm(packed(), lengths=LENGTHS)
        with pytest.raises(ValueError, match="unbatched"):
            lstm(torch.randn(3, INPUT), lengths=torch.tensor([3]))
        with pytest.raises(TypeError, match="got list"):
            lstm([1, 2])
        with pytest.raises(ValueError, match="pair"):
            lstm(padded(), torch.zeros(2, 5, HIDDEN))

    def test_options_that_do_nothing_warn(self) -> None:
        with pytest.warns(UserWarning, match="num_layers=1"):
            rnnnorm.LSTM(2, 2, dropout=0.5)
        with pytest.warns(UserWarning, match="num_layers=1"):
            rnnnorm.LSTM(2, 2, norm=rnnnorm.Norm(between="ln"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rnnnorm.LSTM(2, 2, 2, dropout=0.5, norm=rnnnorm.Norm(between="ln"))


class Model(nn.Module):
    """As users have it: the LSTM somewhere inside."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm=norm)
        self.head = nn.Linear(2 * HIDDEN, 3)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.lstm(x, lengths=lengths)[0])


@pytest.mark.parametrize("norm", PRESETS)
class TestInAModel:
    def trained(self, norm: str) -> Model:
        model = Model(norm)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model(padded(), LENGTHS).square().mean().backward()
            optimizer.step()
        return model.eval()

    def test_copies(self, norm: str) -> None:
        """In evaluation mode, and none shares a parameter with the model."""
        model, x = self.trained(norm), padded()
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert torch.equal(other(x, LENGTHS), model(x, LENGTHS))
            assert not other.lstm.training
            nn.init.zeros_(next(other.lstm.parameters()))
            assert not torch.equal(other(x, LENGTHS), model(x, LENGTHS))

    def test_reset_parameters(self, norm: str) -> None:
        model = self.trained(norm)
        torch.manual_seed(0)
        model.lstm.reset_parameters()
        torch.manual_seed(0)
        fresh = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm=norm)
        for (name, value), other in zip(model.lstm.state_dict().items(), fresh.state_dict().values(), strict=True):
            assert torch.allclose(value, other, atol=1e-6), name

    def test_repr_names_the_norm_and_what_stands(self, norm: str) -> None:
        written = repr(Model(norm))
        assert (f"norm={norm!r}" in written) == (norm != "none")
        assert ": None" not in written
        cell = repr(rnnnorm.LSTMCell(INPUT, HIDDEN, norm="ln:gain=0.5"))
        assert "LSTMCell(\n  4, 6, norm='ln:gain=0.5'\n" in cell
        assert ": None" not in cell

    def test_from_torch_warm_starts(self, norm: str) -> None:
        source = nn.LSTM(INPUT, HIDDEN, 2, bidirectional=True)
        lstm = rnnnorm.LSTM.from_torch(source, norm=norm, max_steps=9)
        for name in ("weight_ih_l0", "weight_hh_l1_reverse"):
            ours, theirs = getattr(lstm, name), getattr(source, name)
            if not declares(norm, "keeps_directions"):
                continue
            if not declares(norm, "keeps_weights"):  # directions only
                ours, theirs = (w / w.norm(dim=1, keepdim=True) for w in (ours, theirs))
            assert torch.allclose(ours, theirs, atol=1e-6)


class TestDataDependentInitialization:
    def test_products_get_zero_mean_and_unit_variance(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm="wn:init=data")
        x = packed(torch.randint(3, 30, (64,)))
        assert lstm.needs_data
        with pytest.raises(RuntimeError, match="initialize_from_data"):
            lstm(x)
        bias = lstm.bias_ih_l0.detach().clone()
        lstm.initialize_from_data(x)
        assert not lstm.needs_data
        products = x.data @ lstm.weight_ih_l0.T
        assert torch.allclose(products.std(0, unbiased=False), torch.ones(4 * HIDDEN), atol=1e-3)
        assert not torch.equal(bias, lstm.bias_ih_l0)
        lstm(x)[0].data.sum().backward()
        restored = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm="wn:init=data")
        restored.load_state_dict(lstm.state_dict())
        assert not restored.needs_data

    def test_only_where_it_is_asked_for(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, HIDDEN, norm="wn")
        assert not lstm.needs_data
        with pytest.raises(ValueError, match="wn:init=data"):
            lstm.initialize_from_data(padded())


class TestCell:
    @pytest.mark.parametrize("norm", NORMALIZED)
    def test_copies_and_steps(self, norm: str) -> None:
        cell = rnnnorm.LSTMCell(INPUT, HIDDEN, norm=norm)
        other = pickle.loads(pickle.dumps(cell))
        x = torch.randn(3, INPUT)
        assert torch.equal(cell.eval()(x, step=0)[0], other.eval()(x, step=0)[0])
        assert torch.allclose(cell(x[0], step=0)[0], cell(x, step=0)[0][0], atol=1e-6)

    def test_needs_the_step_where_statistics_do(self) -> None:
        with pytest.raises(ValueError, match="call the cell with step=t"):
            rnnnorm.LSTMCell(INPUT, HIDDEN, norm="bn-timestep")(torch.randn(3, INPUT))

    def test_errors(self) -> None:
        cell = rnnnorm.LSTMCell(INPUT, HIDDEN)
        with pytest.raises(ValueError, match=r"got \(3, 2\)"):
            cell(torch.randn(3, 2))
        with pytest.raises(ValueError, match=r"expected h of shape \(3, 6\), got \(1, 6\)"):
            cell(torch.randn(3, INPUT), (torch.zeros(1, HIDDEN), torch.zeros(3, HIDDEN)))
        with pytest.raises(ValueError, match="between"):
            rnnnorm.LSTMCell(2, 2, norm=rnnnorm.Norm(between="ln"))
