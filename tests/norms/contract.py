"""What every normalizer must do in every cell, direction and shape of batch: inherit `NormalizerContract`."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from support import KINDS, assert_same, buffers, padded, valid
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import rnnnorm
from rnnnorm.norms import Normalizer, StoredStatistics, step_statistics

Net = Any
"""A `rnnnorm.LSTM`, `rnnnorm.GRU` or `rnnnorm.RNN`."""

INPUT, HIDDEN, STEPS = 2, 4, 4
LENGTHS = {"ragged": [2, 4, 1, 4, 3], "dense": [3, 3, 3, 3]}
DOUBLE = torch.float64


def flat(result: tuple[Tensor, Any]) -> tuple[Tensor, ...]:
    """Output and states as one tuple, whatever the cell."""
    output, state = result
    return (output, *(state if isinstance(state, tuple) else (state,)))


def tensors_of(value: object, depth: int = 3) -> Iterator[Tensor]:
    """All tensors inside a value that is no module."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from tensors_of(item, depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, nn.Module | type) and not callable(value):
        yield from tensors_of(vars(value), depth - 1)


class NormalizerContract:
    """Runs over `norms` in the first of `cells`, one of each kind also in another of them, and where a test asks for it
    × ragged or dense × training or evaluation.

    Both directions always run, so that the forward one is tested by itself where they are compared one by one.

    Capabilities come from the classes: `Normalizer.exact_gradient` (the backward pass of training is the derivative),
    a `frozen` option (training moves nothing), and stored statistics (`rnnnorm.has_batch_statistics`).
    """

    norms: ClassVar[list[str]] = list(rnnnorm.presets())
    cells: ClassVar[list[type]] = [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each test the axes that it names."""
        if "norm" in metafunc.fixturenames:
            pairs = self.pairs()
            ids = [f"{cell.__name__}-{norm}" for cell, norm in pairs]
            metafunc.parametrize(("cell", "norm"), pairs, ids=ids)
        if "lengths" in metafunc.fixturenames:
            metafunc.parametrize("lengths", [torch.tensor(v) for v in LENGTHS.values()], ids=list(LENGTHS))
        if "training" in metafunc.fixturenames:
            metafunc.parametrize("training", [True, False], ids=["train", "eval"])

    def pairs(self) -> list[tuple[type, str]]:
        """Every norm in the first cell; of each kind of norms one in one of the other cells, which take turns."""
        first, *others = self.cells
        pairs = [(first, norm) for norm in self.norms if self.accepts(first, norm)]
        for turn, norm in enumerate(norm for norm in self.norms if norm in KINDS):
            taking = [cell for cell in others if self.accepts(cell, norm)]
            if taking:
                pairs.append((taking[turn % len(taking)], norm))
        return pairs

    @staticmethod
    def accepts(cell: type, norm: str) -> bool:
        """Whether a cell takes a norm; `test_refusals` looks at those that it does not take."""
        try:
            cell(INPUT, HIDDEN, norm=norm)
        except ValueError:
            return False
        return True

    @staticmethod
    def make(cell: type, norm: str, *, training: bool = True, dtype: torch.dtype = DOUBLE, **options: Any) -> Net:
        """A network with gains other than 1 and statistics other than 0 and 1."""
        torch.manual_seed(4)
        net: Net = cell(INPUT, HIDDEN, norm=norm, init="orthogonal", dtype=dtype, **{"max_steps": 3, **options})
        x = torch.randn(STEPS, 6, INPUT, dtype=dtype)
        if net.needs_data:
            net.initialize_from_data(x)
        with torch.no_grad():
            for name, p in net.named_parameters():
                if name.endswith(".gain"):
                    p *= torch.empty_like(p).uniform_(0.8, 1.2)
            net(x)
        return net.train(training)

    @staticmethod
    def state(net: Net, B: int, **keys: Any) -> tuple[Tensor, ...]:
        """A random state: a common one makes the variance of step 0 vanish."""
        count = 2 if isinstance(net, rnnnorm.LSTM) else 1
        return tuple(torch.randn(1 + net.bidirectional, B, HIDDEN, dtype=DOUBLE, **keys) for _ in range(count))

    def run(self, net: Net, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Results and the gradient that reaches the input."""
        x = x.clone().requires_grad_()
        results = flat(net(x, lengths=lengths))
        weight = torch.linspace(-1, 1, results[0].shape[-1], dtype=x.dtype)
        (results[0] @ weight).sum().backward()
        assert x.grad is not None
        return results, x.grad

    def test_refusals_name_the_norm_and_the_cell(self) -> None:
        for cell in self.cells:
            for norm in self.norms:
                if not self.accepts(cell, norm):
                    assert cell is not rnnnorm.LSTM, f"{norm} is of no use"
                    with pytest.raises(ValueError, match=cell.__name__) as error:
                        cell(INPUT, HIDDEN, norm=norm)
                    assert norm in str(error.value)

    # derivatives

    def function(self, net: Net, lengths: Tensor) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]:
        """Input, all parameters in one vector, and states → results; from the same statistics at each call."""
        names = [name for name, _ in net.named_parameters()]
        values = [p.detach() for p in net.parameters()]

        def call(x: Tensor, vector: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            parts = vector.split([v.numel() for v in values])
            parameters = {n: p.view_as(v) for n, p, v in zip(names, parts, values, strict=True)}
            hx = state if len(state) > 1 else state[0]
            fresh = copy.deepcopy(net)
            return flat(torch.func.functional_call(fresh, parameters, (x, hx), {"lengths": lengths}))

        x = torch.randn(int(lengths.max()), len(lengths), INPUT, dtype=DOUBLE, requires_grad=True)
        vector = torch.cat([v.flatten() for v in values]).requires_grad_()
        return call, (x, vector, *self.state(net, len(lengths), requires_grad=True))

    def test_gradient(self, cell: type, norm: str, lengths: Tensor) -> None:
        net = self.make(cell, norm, bidirectional=True, backend="reference")
        if any(
            module.remembers_batches for _, module in normalizers(net)
        ):  # beyond max_steps they would read this batch
            net = self.make(cell, norm, bidirectional=True, backend="reference", max_steps=STEPS)
        function, inputs = self.function(net, lengths)
        if not exact(net):
            results = function(*inputs)
            grads = torch.autograd.grad(sum(r.square().sum() for r in results), inputs)
            assert all(g.isfinite().all() and g.any() for g in grads)
            return
        assert gradcheck(function, inputs, atol=1e-5, nondet_tol=1e-9, fast_mode=True)

    def test_gradient_in_evaluation(self, cell: type, norm: str) -> None:
        """Exact for all, and so is the second derivative; shapes are the same code as in training."""
        net = self.make(cell, norm, training=False, bidirectional=True, backend="reference")
        function, inputs = self.function(net, torch.tensor(LENGTHS["ragged"]))
        assert gradcheck(function, inputs, atol=1e-5, nondet_tol=1e-9, fast_mode=True)
        assert gradgradcheck(function, inputs, atol=1e-4, rtol=1e-3, nondet_tol=1e-7, fast_mode=True)

    def test_second_derivative(self, cell: type, norm: str) -> None:
        net = self.make(cell, norm, backend="reference")
        function, inputs = self.function(net, torch.tensor([2, 1, 2]))
        if not exact(net):
            grads = torch.autograd.grad(sum(r.sum() for r in function(*inputs)), inputs, create_graph=True)
            assert all(g.isfinite().all() for g in torch.autograd.grad(sum(g.square().sum() for g in grads), inputs))
            return
        assert gradgradcheck(function, inputs, atol=1e-4, rtol=1e-3, nondet_tol=1e-7, fast_mode=True)

    # ragged batches

    def test_padding(self, cell: type, norm: str, training: bool) -> None:
        """Neither what stands in the padding nor how much there is matters, in two layers; packed rows have none."""
        lengths = torch.tensor(LENGTHS["ragged"])
        x = padded(lengths, INPUT, dtype=DOUBLE)
        inside = valid(lengths).unsqueeze(-1)
        filled = torch.cat([torch.where(inside, x, float("nan")), torch.full((3, *x.shape[1:]), 1e30, dtype=DOUBLE)])
        nets = [self.make(cell, norm, training=training, bidirectional=True, num_layers=2) for _ in range(3)]
        (expected, expected_grad), (actual, grad) = (
            self.run(net, data, lengths) for net, data in zip(nets[:2], (x, filled), strict=True)
        )
        assert torch.equal(actual[0][: len(x)], expected[0])
        assert not actual[0][len(x) :].any()
        assert all(torch.equal(a, b) for a, b in zip(actual[1:], expected[1:], strict=True))
        assert torch.equal(grad[: len(x)], expected_grad)
        assert not grad[: len(x)][~inside.squeeze(-1)].any()
        same_buffers(*nets[:2], 0)
        packed = flat(nets[2](pack_padded_sequence(x, lengths, enforce_sorted=False)))
        assert torch.equal(pad_packed_sequence(packed[0])[0], expected[0])
        assert all(torch.equal(a, b) for a, b in zip(packed[1:], expected[1:], strict=True))

    def test_order_of_the_batch(self, cell: type, norm: str, training: bool) -> None:
        """Ragged in training; in evaluation dense, since rows do not see each other there."""
        lengths = torch.tensor(LENGTHS["ragged" if training else "dense"])
        x = padded(lengths, INPUT, dtype=DOUBLE)
        order = torch.randperm(len(lengths))
        nets = [self.make(cell, norm, training=training, bidirectional=True, num_layers=2) for _ in range(2)]
        expected, expected_grad = self.run(nets[0], x, lengths)
        actual, grad = self.run(nets[1], x[:, order], lengths[order])
        for a, b in zip(actual, expected, strict=True):
            assert_same(a, b[:, order], "result", 1e-8)
        assert_same(grad, expected_grad[:, order], "gradient", 1e-6)
        same_buffers(*nets, 1e-8)

    def test_sequences_do_not_see_each_other(self, cell: type, norm: str, training: bool) -> None:
        """In evaluation no normalizer couples sequences; in training those with stored statistics do."""
        net = self.make(cell, norm, training=training, bidirectional=True, num_layers=2)
        if training and rnnnorm.has_batch_statistics(net):
            return
        lengths = torch.tensor(LENGTHS["ragged"])
        x = padded(lengths, INPUT, dtype=DOUBLE)
        together, *states = flat(net(x, lengths=lengths))
        for b, length in enumerate(lengths.tolist()):
            alone, *own = flat(net(x[:length, b]))
            assert_same(alone, together[:length, b], f"sequence {b}", 1e-10)
            for h, hs in zip(own, states, strict=True):
                assert_same(h, hs[:, b], f"state of sequence {b}", 1e-10)

    def test_one_row_and_one_step(self, cell: type, norm: str) -> None:
        net = cell(INPUT, HIDDEN, 2, bidirectional=True, norm=norm, max_steps=3)
        if net.needs_data:
            net.initialize_from_data(torch.randn(4, 5, INPUT))
        for lengths in ([4], [1, 1, 1], [1], [4, 2, 1]):
            for training in (True, False):
                net.train(training)
                x = padded(torch.tensor(lengths), INPUT).requires_grad_()
                output, _ = net(x, lengths=torch.tensor(lengths))
                output.sum().backward()
                assert output.isfinite().all()
                assert x.grad.isfinite().all()
                assert all(b.isfinite().all() for b in net.buffers())
        a, b = (net.train()(torch.randn(4, 1, INPUT))[0] for _ in range(2))
        assert not torch.allclose(a, b), "a batch of one sequence gives a constant"

    # statistics

    def test_statistics(self, cell: type, norm: str) -> None:
        net = self.make(cell, norm)
        lengths = torch.tensor(LENGTHS["ragged"])
        x = padded(lengths, INPUT, dtype=DOUBLE)
        start, stored = buffers(net), {n: m.stored_values() for n, m in normalizers(net)}
        self.run(net, x, lengths)
        moved = buffers(net)
        for name, module in net.named_modules():
            if isinstance(module, StoredStatistics):
                own = [key for key in moved if key.startswith(name + ".")]
                changed = any(not torch.equal(moved[key], start[key]) for key in own)
                frozen = getattr(net.get_submodule(name.rpartition(".")[0]), "frozen", False)
                assert changed != frozen, f"{name}: a training batch moved {'' if changed else 'no '}statistics"
        assert {n: m.stored_values() for n, m in normalizers(net)} == stored, "stored values grow with training"

        net.eval()
        rnnnorm.recalibrate(net, [x, x[:3]])
        moved = buffers(net)
        outputs = {}
        for source in ("running", "population", "batch"):
            with rnnnorm.statistics(net, source):
                results, _ = self.run(net, x, lengths)
                outputs[source] = results[0].detach()
                assert all(r.isfinite().all() for r in results)
        assert all(torch.equal(moved[name], b) for name, b in buffers(net).items()), "evaluation moved a buffer"
        if not rnnnorm.has_batch_statistics(net):
            assert torch.equal(outputs["running"], outputs["batch"])
            assert torch.equal(outputs["running"], net.train()(x, lengths=lengths)[0])
        else:
            assert not torch.equal(outputs["running"], outputs["batch"])

    def test_stored_values_do_not_depend_on_batches(self, cell: type, norm: str) -> None:
        nets = [self.make(cell, norm), self.make(cell, norm)]
        for net, B in zip(nets, (2, 7), strict=True):
            net(torch.randn(B, B, INPUT, dtype=DOUBLE))
        counts = [sum(m.stored_values() for _, m in normalizers(net)) for net in nets]
        assert counts[0] == counts[1] >= sum(2 * s.running_mean.numel() for s in step_statistics(nets[0]))

    def test_activation_checkpointing(self, cell: type, norm: str) -> None:
        """The second pass finds what the first one has read: no statistic moves twice, and gradients are the same."""
        x = torch.randn(4, 5, INPUT, dtype=DOUBLE)
        for reentrant in (False, True):
            plain, recomputed = self.make(cell, norm), self.make(cell, norm)
            leaves = [x.clone().requires_grad_() for _ in range(2)]
            plain(leaves[0])[0].square().sum().backward()
            checkpoint(recomputed, leaves[1], use_reentrant=reentrant)[0].square().sum().backward()
            same_buffers(recomputed, plain, 1e-12)
            assert_same(leaves[1].grad, leaves[0].grad, "gradient", 1e-9)

    # a module among modules

    def test_copies(self, cell: type, norm: str) -> None:
        net = self.make(cell, norm)
        x = torch.randn(3, 5, INPUT, dtype=DOUBLE)
        self.run(net, x, torch.full((5,), 3))
        stream = io.BytesIO()
        torch.save(net.state_dict(), stream)
        stream.seek(0)
        loaded = cell(INPUT, HIDDEN, norm=norm, max_steps=3, dtype=DOUBLE)
        loaded.load_state_dict(torch.load(stream))
        copies = {"deepcopy": copy.deepcopy(net), "pickle": pickle.loads(pickle.dumps(net)), "state dict": loaded}
        for _ in range(2):  # the second step depends on the statistics that the first one has moved
            expected = net(x)[0]
            for name, twin in copies.items():
                assert torch.equal(twin(x)[0], expected), name
        for twin in copies.values():
            assert torch.equal(twin.eval()(x)[0], net.eval()(x)[0])
            same_buffers(twin, net, 0)

    def test_precision(self, cell: type, norm: str, training: bool) -> None:
        expected, half = self.make(cell, norm, training=training), self.make(cell, norm, training=training)
        single, lengths = copy.deepcopy(expected).float(), torch.tensor(LENGTHS["dense"])
        x = torch.randn(3, 4, INPUT, dtype=DOUBLE)
        hx = self.state(expected, 4)
        hx, hx32 = (h if len(h) > 1 else h[0] for h in (hx, tuple(s.float() for s in hx)))
        truth = expected(x, hx, lengths=lengths)[0]
        assert_same(single(x.float(), hx32, lengths=lengths)[0].double(), truth, "float32", 1e-3)
        half = half.float()
        with torch.autocast("cpu", torch.bfloat16):
            output = half(x.float(), hx32, lengths=lengths)[0]
            output.float().square().sum().backward()
        assert (output.double() - truth).abs().mean() < 0.1  # normalization enlarges what bfloat16 rounds off
        assert all(b.dtype == torch.float32 for b in half.buffers() if b.is_floating_point())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in half.parameters())
        kept = half.bfloat16()
        assert kept(x.bfloat16(), lengths=lengths)[0].dtype == torch.bfloat16
        for stats in step_statistics(kept):
            assert all(b.dtype == torch.float32 for b in stats.buffers() if b.is_floating_point())

    def test_a_training_forward_changes_no_parameter(self, cell: type, norm: str) -> None:
        net = self.make(cell, norm)
        before = [p.clone() for p in net.parameters()]
        self.run(net, torch.randn(3, 5, INPUT, dtype=DOUBLE), torch.full((5,), 3))
        assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))

    def test_training_steps_in_a_row(self, cell: type, norm: str) -> None:
        """A later backward pass touches no earlier graph, and no graph stays behind on the module."""
        net = self.make(cell, norm)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        start = [p.clone() for p in net.parameters()]
        for _ in range(3):
            optimizer.zero_grad()
            flat(net(torch.randn(4, 5, INPUT, dtype=DOUBLE)))[0].square().sum().backward()
            optimizer.step()
        losses = [net(torch.randn(T, 5, INPUT, dtype=DOUBLE))[0].square().sum() for T in (4, 2)]
        for loss in losses:  # two forward passes, then their backward passes
            loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(start, net.parameters(), strict=True))
        for name, module in net.named_modules():
            for key, value in vars(module).items():
                if key not in ("_parameters", "_modules"):
                    assert all(t.grad_fn is None for t in tensors_of(value)), f"{name}.{key} keeps a graph"

    def test_without_gradients(self, cell: type, norm: str) -> None:
        """Training mode under no_grad and inference_mode, then training goes on."""
        nets = [self.make(cell, norm) for _ in range(3)]
        x = torch.randn(4, 5, INPUT, dtype=DOUBLE)
        for net, mode in zip(nets, (torch.enable_grad, torch.no_grad, torch.inference_mode), strict=True):
            with mode():
                net(x)
        results = [self.run(net, x, torch.full((5,), 4)) for net in nets]
        for (output, *_), grad in results[1:]:
            assert torch.equal(output, results[0][0][0])
            assert torch.equal(grad, results[0][1])
        for net in nets[1:]:
            same_buffers(net, nets[0], 0)


def normalizers(net: nn.Module) -> list[tuple[str, Normalizer]]:
    """The normalizers of activations inside a network, by name."""
    return [(name, module) for name, module in net.named_modules() if isinstance(module, Normalizer)]


def exact(net: nn.Module) -> bool:
    """Whether the backward pass of training is the derivative of the forward pass."""
    return all(module.exact_gradient for _, module in normalizers(net))


def same_buffers(actual: nn.Module, expected: nn.Module, tolerance: float) -> None:
    """All stored tensors agree."""
    ours, theirs = buffers(actual), buffers(expected)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert_same(ours[name].double(), value.double(), name, tolerance)
